"""Limits of a listening socket: number of peers, time, memory.  A peer beyond a limit is cut off and counted; the others go on."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import asyncflow as af
from asyncflow.connectors import tcp, udp
from tests.connectors.peers import (
    CSV,
    SCHEMA,
    Running,
    Server,
    dialled,
    local,
    receive,
    receive_all,
    reset,
    send,
)
from tests.connectors.test_tcp_unix_sink import WIDE, WIDE_SCHEMA, Fed, Numbers, writing


def reading(kind: str, folder: Path, **options: Any) -> af.Flow:
    flow = af.source(kind, name="rows", listen=local(kind, folder), format=CSV, schema=SCHEMA, **options).to(
        "null", name="out", format="json"
    )
    return flow["rows.rejected"].to("null", name="rejected", format="json")


def reasons(running: Running) -> list[tuple[str, str]]:
    return [(row["record"], row["reason"]) for row in running.records("rejected")]


async def ends(peer: socket.socket) -> bytes:
    """What comes until the other side has ended the connection, by a reset or not."""
    try:
        return await receive_all(peer)
    except ConnectionError:
        return b""


# -- how many -----------------------------------------------------------------------------------------------------------------


def test_a_source_refuses_one_peer_too_many_and_says_so(
    run, kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with Running(reading(kind, tmp_path, max_peers=2)) as running:
            address = await running.address()
            one, two = await dialled(address), await dialled(address)
            await running.until(lambda: running.source()["peers"] == 2)
            for _ in range(3):
                with await dialled(address) as refused:
                    assert await ends(refused) == b""
            one.close()
            await running.until(lambda: len(running.run.wiring.sources[0].connector.peers) == 1)  # type: ignore[attr-defined]
            with await dialled(address) as three:
                await send(three, b"c,3\n")
                await send(two, b"b,2\n")
                await running.taken(2)
            two.close()
            counted = (await running.stop())["sources"]["rows"]
            assert (counted["peers"], counted["peers_refused"], counted["rows"]) == (6, 3, 2)

    with caplog.at_level(logging.WARNING):
        run(main())
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 2
    assert "was refused: 2 are there (max_peers)" in said[0]
    assert said[1].endswith("2 more were refused")


def test_a_sink_refuses_one_peer_too_many(run, kind: str, tmp_path: Path) -> None:
    fed = Fed()

    async def main() -> None:
        async with Running(writing(fed.rows(), kind, listen=local(kind, tmp_path), max_peers=1)) as running:
            address = await running.address("out")
            with await dialled(address) as reader:
                await running.connected(1)
                with await dialled(address) as refused:
                    assert await ends(refused) == b""
                fed.put({"n": 1})
                fed.end()
                assert await receive_all(reader) == b'{"n":1}\n'
            counted = (await running.end())["sinks"]["out"]
            assert (counted["peers"], counted["peers_refused"]) == (2, 1)

    run(main())


# -- how long, how much ---------------------------------------------------------------------------------------------------------


def test_a_peer_that_leaves_its_record_unfinished_is_cut_off(run, kind: str, tmp_path: Path) -> None:
    """Also one that drips; not one that is quiet between its records."""

    async def main() -> None:
        async with Running(reading(kind, tmp_path, record_timeout="300ms")) as running:
            address = await running.address()
            quiet, stuck, drips = [await dialled(address) for _ in range(3)]
            await send(quiet, b"a,1\n")
            await send(stuck, b"b,")

            async def drip() -> None:
                while True:
                    await send(drips, b"c")
                    await asyncio.sleep(0.02)

            dripping = asyncio.create_task(drip())
            assert await ends(stuck) == b""
            assert await ends(drips) == b""
            dripping.cancel()
            await asyncio.gather(dripping, return_exceptions=True)
            await send(quiet, b"a,2\n")
            await running.taken(4)
            for peer in (quiet, stuck, drips):
                peer.close()
            counted = (await running.stop())["sources"]["rows"]
            assert counted["peers_cut_record"] == 2
            assert [row["qty"] for row in running.records()] == [1, 2]
            assert {record[:1] for record, _ in reasons(running)} == {"b", "c"}
            assert {reason for _, reason in reasons(running)} == {
                "cut short: no end of its record within 300ms"
            }

    run(main())


def test_a_peer_that_says_nothing_is_cut_off_where_that_is_asked_for(run, kind: str, tmp_path: Path) -> None:
    async def main() -> None:
        async with Running(reading(kind, tmp_path, peer_idle="250ms")) as running:
            address = await running.address()
            speaks, silent = [await dialled(address) for _ in range(2)]
            gone = asyncio.create_task(ends(silent))
            sent = 0
            while not gone.done():
                await send(speaks, b"a,1\n")
                sent += 1
                await asyncio.sleep(0.02)
            await running.taken(sent)
            for peer in (speaks, silent):
                peer.close()
            counted = (await running.stop())["sources"]["rows"]
            assert counted["peers_cut_idle"] == 1
            assert counted["rows_out"] == sent
            assert counted["rejected"] == 0

    run(main())


def test_unfinished_records_of_all_peers_have_one_bound(run, kind: str, tmp_path: Path) -> None:
    async def main() -> None:
        async with Running(reading(kind, tmp_path, max_peer_bytes="210kB")) as running:
            address = await running.address()
            small = await dialled(address)
            await send(small, b"s,")
            large = [await dialled(address) for _ in range(10)]
            for peer in large:
                await send(peer, b"x" * 50_000)
            await running.until(lambda: running.source()["peers_cut_memory"] >= 6)
            await asyncio.sleep(0.05)
            source = running.run.wiring.sources[0].connector
            assert source.held_bytes <= 210_000  # type: ignore[attr-defined]
            await send(small, b"1\n")
            await running.until(lambda: running.records())
            for peer in (small, *large):
                peer.close()
            await running.until(lambda: not source.peers)  # type: ignore[attr-defined]
            counted = (await running.stop())["sources"]["rows"]
            assert running.records() == [{"key": "s", "qty": 1}]
            assert counted["peers_cut_memory"] == 6
            assert counted["rejected"] == counted["rows"] - 1 == 10
            assert source.held_bytes == 0  # type: ignore[attr-defined]

    run(main())


def test_the_bound_holds_while_the_columns_are_still_to_be_told(run, kind: str, tmp_path: Path) -> None:
    """Nobody has sent a whole record yet."""

    async def main() -> None:
        flow = af.source(
            kind, name="rows", listen=local(kind, tmp_path), format="json", max_peer_bytes="210kB"
        ).to("null", name="out", format="json")
        async with Running(flow) as running:
            address = await running.address()
            large = [await dialled(address) for _ in range(10)]
            for peer in large:
                await send(peer, b'{"text":"' + b"x" * 50_000)
            await running.until(lambda: running.source()["peers_cut_memory"] == 6)
            with await dialled(address) as speaks:
                await send(speaks, b'{"text":"a"}\n')
                await running.until(lambda: running.records())
            for peer in large:
                peer.close()
            counted = (await running.stop())["sources"]["rows"]
            assert running.records() == [{"text": "a"}]
            assert (counted["rows_out"], counted["peers_cut_memory"]) == (1, 6)

    run(main())


def test_one_record_alone_may_be_larger_than_the_bound_over_all(run, kind: str, tmp_path: Path) -> None:
    async def main() -> None:
        async with Running(reading(kind, tmp_path, max_peer_bytes="1kB")) as running:
            with await dialled(await running.address()) as peer:
                for _ in range(20):
                    await send(peer, b"x" * 1000)
                    await asyncio.sleep(0.002)
                await send(peer, b",7\n")
                await running.taken(1)
            counted = (await running.stop())["sources"]["rows"]
            assert (counted["rows_out"], counted["peers_cut_memory"]) == (1, 0)

    run(main())


def gated(numbers: Numbers, start: asyncio.Event) -> AsyncIterator[dict[str, Any]]:
    """Its rows, once the readers are there."""

    async def rows() -> AsyncIterator[dict[str, Any]]:
        await start.wait()
        async for row in numbers.rows():
            yield row

    return rows()


# -- readers that do not read ------------------------------------------------------------------------------------------------


def test_a_reader_that_reads_nothing_is_cut_off_and_the_others_get_all(
    run, kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    numbers, start = Numbers(), asyncio.Event()

    async def main() -> None:
        options = {"listen": local(kind, tmp_path), "slow_peer": "1s", "max_peer_bytes": "1MiB"}
        async with Running(writing(gated(numbers, start), kind, WIDE_SCHEMA, **options)) as running:
            address = await running.address("out")
            stuck, *healthy = [await dialled(address, receive_buffer_bytes=1 << 16) for _ in range(3)]
            await running.connected(3)
            start.set()
            got = [asyncio.create_task(receive_all(reader)) for reader in healthy]
            await running.until(lambda: running.run.ledger.sinks["out"].to_dict()["peers_cut_slow"])
            mark = numbers.made
            await running.until(lambda: numbers.made > mark + 2000)
            numbers.ended = True
            data = await asyncio.gather(*got)
            counted = (await running.end())["sinks"]["out"]
            for reader in healthy:
                reader.close()
            assert counted["peers_cut_slow"] == 1
            assert counted["lost"] == 0  # the others have them all
            assert counted["rows"] == numbers.made
            for each in data:
                assert each == numbers.expected()
            if kind == "tcp":  # it must not take this for the end of the rows
                with pytest.raises(ConnectionError):
                    await receive_all(stuck)
            stuck.close()

    with caplog.at_level(logging.WARNING):
        run(main())
    assert [record.getMessage().rpartition(": ")[2] for record in caplog.records] == [
        "it took nothing for 1s"
    ]


def test_a_reader_that_only_drips_does_not_hold_the_others_for_ever(run, kind: str, tmp_path: Path) -> None:
    numbers, start = Numbers(), asyncio.Event()

    async def main() -> None:
        options = {"listen": local(kind, tmp_path), "slow_peer": "1s", "max_peer_bytes": "256KiB"}
        async with Running(writing(gated(numbers, start), kind, WIDE_SCHEMA, **options)) as running:
            address = await running.address("out")
            slow, healthy = [await dialled(address, receive_buffer_bytes=1 << 14) for _ in range(2)]
            await running.connected(2)
            start.set()
            got = asyncio.create_task(receive_all(healthy))

            async def sip() -> None:
                while await asyncio.get_running_loop().sock_recv(slow, 1 << 15):  # noqa: ASYNC110
                    await asyncio.sleep(0.1)

            sipping = asyncio.create_task(sip())
            await running.until(lambda: running.run.ledger.sinks["out"].to_dict()["peers_cut_slow"])
            numbers.ended = True
            assert await got == numbers.expected()
            await running.end()
            sipping.cancel()
            await asyncio.gather(sipping, return_exceptions=True)
            for reader in (slow, healthy):
                reader.close()

    run(main())


def test_nobody_is_cut_off_for_time_in_which_we_did_nothing(run, kind: str, tmp_path: Path) -> None:
    """A process that was stopped, or busy: its peers were not slow, or silent."""
    numbers = Numbers()  # some MB within the first moment: more than a reader's system holds

    async def main() -> None:
        listen, limits = local(kind, tmp_path / "in"), {"peer_idle": "700ms", "record_timeout": "700ms"}
        (tmp_path / "in").mkdir()
        source = af.source(kind, name="rows", listen=listen, format=CSV, schema=SCHEMA, **limits)
        sink = {"listen": local(kind, tmp_path), "slow_peer": "700ms", "max_peer_bytes": "256KiB"}
        async with (
            Running(source.to("null", name="out", format="json")) as reads,
            Running(writing(numbers.rows(), kind, WIDE_SCHEMA, **sink)) as writes,
        ):
            peer, reader = await dialled(await reads.address()), await dialled(await writes.address("out"))
            await send(peer, b"a,1\nb,")
            await reads.taken(1)
            await asyncio.sleep(0.1)
            time.sleep(1.5)  # noqa: ASYNC251
            taking = asyncio.create_task(receive_all(reader))
            await send(peer, b"2\n")
            await reads.taken(2)
            numbers.ended = True
            assert await taking == numbers.expected()
            assert (await writes.end())["sinks"]["out"]["peers_cut_slow"] == 0
            peer.close()
            reader.close()
            counted = (await reads.stop())["sources"]["rows"]
            assert counted["peers_cut_idle"] == counted["peers_cut_record"] == 0

    run(main())


def test_rows_that_only_a_stuck_reader_was_sent_go_to_the_next(run, kind: str, tmp_path: Path) -> None:
    """Whoever comes while a batch is stuck gets that batch from its beginning."""
    rows = [{"n": n, "text": WIDE} for n in range(8_000)]

    async def main() -> None:
        flow = af.source(rows, name="rows", schema=WIDE_SCHEMA)
        flow = flow.to(kind, name="out", format="json", listen=local(kind, tmp_path), slow_peer="300ms")
        async with Running(flow) as running:
            address = await running.address("out")
            stuck = await dialled(address, receive_buffer_bytes=1 << 14)
            await running.connected(1)
            with await dialled(address) as reader:
                data = await receive_all(reader)
            stuck.close()
            numbers = [json.loads(line)["n"] for line in data.splitlines()]
            assert numbers == list(range(numbers[0], 8_000))
            counted = (await running.end())["sinks"]["out"]
            assert counted["rows"] == 8_000
            assert counted["peers_cut_slow"] == 1
            assert counted["lost"] <= numbers[0]  # whole batches that the stuck one's system took

    run(main())


def test_rows_that_are_known_to_be_unread_when_their_only_reader_breaks_off_are_lost(
    run, tmp_path: Path
) -> None:
    fed = Fed()

    async def main() -> None:
        flow = writing(fed.rows(), "tcp", WIDE_SCHEMA, listen="127.0.0.1:0")
        async with Running(flow) as running:
            reader = await dialled(await running.address("out"), receive_buffer_bytes=1 << 12)
            await running.connected(1)
            for n in range(200):
                fed.put({"n": n, "text": WIDE})
                await asyncio.sleep(0)
            await running.until(lambda: running.run.ledger.sinks["out"].rows == 200)
            reset(reader)
            await running.connected(0)
            fed.end()
            counted = (await running.end())["sinks"]["out"]
            assert 100 < counted["lost"] <= 200

    run(main())


def test_readers_that_leave_while_nothing_is_sent_are_forgotten(run, kind: str, tmp_path: Path) -> None:
    fed = Fed()

    async def main() -> None:
        async with Running(writing(fed.rows(), kind, listen=local(kind, tmp_path))) as running:
            address = await running.address("out")
            for turn in range(20):
                with await dialled(address) as reader:
                    if turn % 2:
                        await send(reader, b"hello" * 10_000)
                    await running.until(
                        lambda turn=turn: running.run.ledger.sinks["out"].to_dict()["peers"] == turn + 1
                    )
            await running.connected(0)
            fed.put({"n": 1})
            await asyncio.sleep(0.05)
            with await dialled(address) as reader:
                assert await receive(reader, 8) == b'{"n":1}\n'
                fed.end()
                await running.end()

    run(main())


# -- the sockets themselves -----------------------------------------------------------------------------------------------------


def test_connections_are_kept_alive(run, tmp_path: Path) -> None:
    async def main() -> None:
        with Server("tcp", tmp_path) as server:
            fed = Fed()
            flow = af.source("tcp", name="rows", listen="127.0.0.1:0", format=CSV, schema=SCHEMA)
            flow = flow.to("null", name="out", format="json")
            async with (
                Running(flow) as running,
                Running(writing(fed.rows(), "tcp", connect=server.address)) as out,
            ):
                with await dialled(await running.address()), await server.accepted():
                    await running.until(lambda: running.source()["peers"] == 1)
                    await out.until(lambda: out.run.wiring.sinks[0].connector.peer)  # type: ignore[attr-defined]
                    [stream] = running.run.wiring.sources[0].connector.peers  # type: ignore[attr-defined]
                    for number in (stream.fileno(), out.run.wiring.sinks[0].connector.peer.fileno()):  # type: ignore[attr-defined]
                        with socket.socket(fileno=socket.dup(number)) as ours:
                            assert ours.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)

    run(main())


@pytest.mark.parametrize(("listen", "says"), [(":0", True), ("0.0.0.0:0", True), ("127.0.0.1:0", False)])
@pytest.mark.parametrize("connector", ["tcp", "udp"])
def test_listening_on_all_interfaces_is_said(
    run, caplog: pytest.LogCaptureFixture, connector: str, listen: str, *, says: bool
) -> None:
    module = {"tcp": tcp, "udp": udp}[connector]

    async def main() -> None:
        source = module.open_source(module.SourceOptions(listen=listen))
        await source.started()
        await source.aclose()

    with caplog.at_level(logging.INFO):
        run(main())
    assert [r.getMessage().startswith("listening on all interfaces: ") for r in caplog.records] == [
        True
    ] * says


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"connect": "127.0.0.1:1", "max_peers": 5}, "max_peers goes with listen"),
        ({"connect": "127.0.0.1:1", "peer_idle": "5s"}, "peer_idle goes with listen"),
        ({"connect": "127.0.0.1:1", "max_peer_bytes": "1MiB"}, "max_peer_bytes goes with listen"),
        ({"listen": "127.0.0.1:1", "record_timeout": "-5s"}, "record_timeout must not be negative"),
        ({"listen": "127.0.0.1:1", "peer_idle": "soon"}, "not a duration"),
    ],
)
def test_options_that_do_not_fit_are_told(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        tcp.SourceOptions(**options)
