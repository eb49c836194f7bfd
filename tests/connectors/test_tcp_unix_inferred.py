"""Listening sources without a schema: clients that are idle, send another format or break off neither delay nor end the others."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any

import pytest

import asyncflow as af
from asyncflow.errors import DataError
from asyncflow.testing import chunks
from tests.connectors.peers import Running, dialled, local, receive_all, reset, say, send

PROBE = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
SCHEMA = {"key": "string", "qty": "int64"}


def listening(kind: str, folder: Path, **options: Any) -> af.Flow:
    """Rows of a listening source to a sink, its rejected records to another."""
    options = {"listen": local(kind, folder), **options}
    out = af.source(kind, name="rows", **options).to("null", name="out", format="json")
    return out["rows.rejected"].to("null", name="rejected", format="json")


def rejected(running: Running) -> list[tuple[str, str]]:
    return [(row["record"], row["reason"]) for row in running.records("rejected")]


async def bound(running: Running, folder: Path, kind: str) -> str:
    """The address of a source that is still looking for its schema."""
    await running.until(
        lambda: running.run.wiring.sources and running.run.wiring.sources[0].connector.addresses
    )  # type: ignore[attr-defined]
    address: str = running.run.wiring.sources[0].connector.addresses[0]  # type: ignore[attr-defined]
    return address


# -- telling the schema --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", ["csv", "json", None])
def test_a_silent_first_client_holds_nobody_up(run, kind: str, tmp_path: Path, format: str | None) -> None:
    texts = {
        "csv": [b"key,qty\na,1\n", b"qty,key\n2,b\n", b"key,qty\nc,3\n"],
        "json": [b'{"key":"%c","qty":%d}\n' % (96 + n, n) for n in (1, 2, 3)],
    }[format or "json"]

    async def main() -> None:
        flow = listening(kind, tmp_path, **({"format": format} if format else {}))
        async with Running(flow) as running:
            address = await bound(running, tmp_path, kind)
            silent, part, blank = [await dialled(address) for _ in range(3)]
            await send(part, texts[1][:5])
            await send(blank, b"\n\r\n")
            await say(address, texts[0])
            await running.taken(1)
            await send(part, texts[1][5:])
            await send(blank, texts[2])
            await running.taken(3)
            silent.close()
            part.close()
            blank.close()
            counted = await running.stop()
            rows = sorted((row["key"], row["qty"]) for row in running.records())
            assert rows == [("a", 1), ("b", 2), ("c", 3)]
            source = counted["sources"]["rows"]
            assert (source["rejected"], source["bytes"]) == (0, sum(map(len, texts)) + 3)

    run(main())


def test_fifty_clients_in_pieces_give_every_row_whoever_shows_the_schema(run, tmp_path: Path) -> None:
    async def main() -> None:
        async with Running(listening("tcp", tmp_path, format="csv")) as running:
            address = await bound(running, tmp_path, "tcp")
            texts = [b"key,qty\n" + b"c%d,%d\n" % (n, n) * 20 for n in range(50)]
            await asyncio.gather(*(say(address, *chunks(text, n, 9)) for n, text in enumerate(texts)))
            await running.taken(1000)
            counted = await running.stop()
            assert sorted(row["qty"] for row in running.records()) == sorted(list(range(50)) * 20)
            assert counted["sources"]["rows"]["bytes"] == sum(map(len, texts)) == running.run.position_bytes

    run(main())


def test_one_that_breaks_off_within_its_header_tells_no_schema(run, tmp_path: Path) -> None:
    async def main() -> None:
        async with Running(listening("tcp", tmp_path, format="csv")) as running:
            address = await bound(running, tmp_path, "tcp")
            broken = await dialled(address)
            await send(broken, b"key,q")
            await running.until(lambda: running.run.position_bytes == 5)
            reset(broken)
            await say(address, b"key,qty\na,1\n")
            await running.taken(2)
            await running.stop()
            assert running.records() == [{"key": "a", "qty": 1}]
            assert rejected(running) == [("key,q", "cut short: Connection reset by peer")]

    run(main())


@pytest.mark.parametrize(
    ("sent", "lost"), [(b"", []), (b"\n\n", []), (b"key,q", [("key,q", "cut short: stopped")])]
)
def test_stopped_before_there_was_a_schema_everything_is_accounted_for(
    run, kind: str, tmp_path: Path, sent: bytes, lost: list[tuple[str, str]]
) -> None:
    async def main() -> None:
        async with Running(listening(kind, tmp_path, format="csv")) as running:
            address = await bound(running, tmp_path, kind)
            with await dialled(address) as peer:
                await send(peer, sent)
                await running.until(lambda: running.run.position_bytes == len(sent))
                counted = (await running.stop())["sources"]["rows"]
                assert await receive_all(peer) == b""
            assert (counted["rows"], counted["rejected"], counted["bytes"]) == (
                len(lost),
                len(lost),
                len(sent),
            )
            assert rejected(running) == lost

    run(main())


def test_cancelled_while_it_looks_for_a_schema_it_closes_everything(run, kind: str, tmp_path: Path) -> None:
    """The fixture counts the descriptors."""

    async def main() -> None:
        async with Running(listening(kind, tmp_path, format="csv")) as running:
            address = await bound(running, tmp_path, kind)
            peers = [await dialled(address) for _ in range(3)]
            await send(peers[1], b"key,")
            await running.until(lambda: running.run.position_bytes == 4)
            assert running.task is not None
            running.task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running.task
            for peer in peers:
                peer.close()

    run(main())


# -- clients that speak something else ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 2])
def test_a_probe_is_one_rejected_record_and_the_others_go_on(
    run, kind: str, tmp_path: Path, workers: int
) -> None:
    async def main() -> None:
        flow = listening(kind, tmp_path, format="csv", schema=SCHEMA)
        async with Running(flow, workers=workers) as running:
            address = await running.address()
            before = await dialled(address)
            await send(before, b"key,qty\na,1\n")
            await running.taken(1)
            with await dialled(address) as probe:
                for part in chunks(PROBE * 3, 1, 7):
                    await send(probe, part)
                await running.taken(2)
            await send(before, b"b,2\n")
            before.close()
            await say(address, b"qty,key\n3,c\n")
            await running.taken(4)
            await running.until(lambda: running.source()["bytes"] == 16 + 12 + 3 * len(PROBE))
            await running.stop()
            assert [row["key"] for row in running.records()] == ["a", "b", "c"]
            assert rejected(running) == [
                ("GET /health HTTP/1.1", "the header has no column 'key' (it has 'GET /health HTTP/1.1')")
            ]

    run(main())


@pytest.mark.parametrize(
    ("sent", "record", "reason"),
    [
        (b"\n\n key,qt\n" + b"a,1\n" * 9, "key,qt", "the header has no column 'key' (nearest: ' key')"),
        (b'"key"x,qty\na,1\n', '"key"x,qty', "text after a closing quote in the header"),
        (b"\xff\xfe,qty\n" + b"z" * 9000, "\ufffd\ufffd,qty", "the header is not UTF-8"),
        (b"x" * 9000, "x" * 4096, "no end of the header in the first 5000 bytes"),
        (b'"key,qty', '"key,qty', "a quote in the header is not closed"),
    ],
)
@pytest.mark.parametrize("at_most", [1, 50, 10_000])
def test_what_a_wrong_header_loses_does_not_hang_on_how_it_came(
    run, tmp_path: Path, sent: bytes, record: str, reason: str, at_most: int
) -> None:
    async def main() -> None:
        flow = listening("tcp", tmp_path, format="csv", schema=SCHEMA, max_record_bytes=5000)
        async with Running(flow) as running:
            await say(await running.address(), *chunks(sent, 3, at_most))
            await running.until(lambda: running.source()["bytes"] == len(sent))
            counted = (await running.stop())["sources"]["rows"]
            assert rejected(running) == [(record, reason)]
            assert (counted["rows"], counted["rejected"], running.records()) == (1, 1, [])

    run(main())


def test_with_on_error_fail_a_wrong_header_still_fails_the_run(run, tmp_path: Path) -> None:
    async def main() -> None:
        flow = listening("tcp", tmp_path, format="csv", schema=SCHEMA, on_error="fail")
        async with Running(flow) as running:
            await say(await running.address(), PROBE)
            with pytest.raises(DataError, match=r"^rows: 127\.0\.0\.1:\d+:1 \(byte 0\): the header has no"):
                await running.end()

    run(main())


# -- our own stop --------------------------------------------------------------------------------------------------------------------


def test_a_record_that_our_stop_cuts_short_does_not_fail_the_run(run, kind: str, tmp_path: Path) -> None:
    async def main() -> None:
        flow = listening(kind, tmp_path, format="csv", schema=SCHEMA, on_error="fail")
        async with Running(flow) as running:
            with await dialled(await running.address()) as peer:
                await send(peer, b"key,qty\na,1\nb,")
                await running.until(lambda: running.run.position_bytes == 14)
                counted = await running.stop()
            assert rejected(running) == [("b,", "cut short: stopped")]
            assert counted["sources"]["rows"]["rejected"] == 1

    run(main())


def test_a_bad_record_that_was_read_after_the_stop_does(run, tmp_path: Path) -> None:
    async def main() -> None:
        flow = listening("tcp", tmp_path, format="csv", schema=SCHEMA, on_error="fail")
        async with Running(flow) as running:
            address = await running.address()
            with socket.create_connection(address.split(":")) as peer:  # no turn of the loop until the stop
                peer.sendall(b"key,qty\na,one\nb,")
                with pytest.raises(DataError, match="qty: not an int64: 'one'"):
                    await running.stop()

    run(main())
