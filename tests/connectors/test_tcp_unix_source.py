"""tcp and unix as sources of a run: many peers, peers that vanish, reconnecting, stopping, bytes cut in every way."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

import asyncflow as af
from asyncflow.errors import ConnectorError, RetriableError
from asyncflow.runtime import Run
from asyncflow.testing import chunks
from tests.connectors.peers import (
    CSV,
    SCHEMA,
    Running,
    Server,
    delivered,
    dialled,
    family,
    local,
    place,
    receive_all,
    reset,
    say,
    send,
)

tcp_only = pytest.mark.parametrize("kind", ["tcp"])  # a unix peer that sends only has no way to reset


def reading(kind: str, folder: Path, **options: Any) -> af.Flow:
    """Rows of a listening source to a sink, its rejected records to another."""
    if "connect" not in options:
        options.setdefault("listen", local(kind, folder))
    flow = af.source(kind, name="rows", **{"format": CSV, "schema": SCHEMA, **options})
    out = flow.to("null", name="out", format="json")
    return out["rows.rejected"].to("null", name="rejected", format="json")


def keys(running: Running) -> list[str]:
    return [row["key"] for row in running.records()]


# -- many peers ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 3])
def test_fifty_clients_at_once(run, kind: str, tmp_path: Path, workers: int) -> None:
    """Every row arrives, in its client's own order; the ledger's own check holds (``execute`` makes it)."""
    rows = 200

    async def main() -> None:
        async with Running(reading(kind, tmp_path), workers=workers) as running:
            address = await running.address()
            texts = ["".join(f"c{client},{n}\n" for n in range(rows)).encode() for client in range(50)]
            parts = [chunks(text, seed, 400) for seed, text in enumerate(texts)]
            await asyncio.gather(*(say(address, *each) for each in parts))
            await running.taken(50 * rows)
            counted = await running.stop()
            got = defaultdict(list)
            for row in running.records():
                got[row["key"]].append(row["qty"])
            assert got == {f"c{client}": list(range(rows)) for client in range(50)}
            source = counted["sources"]["rows"]
            assert (source["rows"], source["rejected"]) == (50 * rows, 0)
            assert source["bytes"] == sum(map(len, texts)) == running.run.position_bytes
            assert counted["sinks"]["out"]["rows"] == 50 * rows

    run(main())


def test_clients_that_say_nothing_hold_nobody_up(run, kind: str, tmp_path: Path) -> None:
    async def main() -> None:
        async with Running(reading(kind, tmp_path)) as running:
            address = await running.address()
            silent = [await dialled(address) for _ in range(5)]
            await say(address)
            await say(address, b"a,1\n")
            await running.taken(1)
            for peer in silent[:2]:
                peer.close()
            await say(address, b"b,2\n")
            await running.taken(2)
            counted = await running.stop()
            for peer in silent[2:]:
                assert await receive_all(peer) == b""  # the source has closed its side
                peer.close()
            assert keys(running) == ["a", "b"]
            assert counted["sources"]["rows"]["rejected"] == 0

    run(main())


def test_a_client_that_leaves_without_a_last_newline_has_said_a_whole_record(
    run, kind: str, tmp_path: Path
) -> None:
    async def main() -> None:
        async with Running(reading(kind, tmp_path)) as running:
            address = await running.address()
            await say(address, b"a,1\nb,", b"12")
            await say(address, b"c,3")
            await running.taken(3)
            counted = await running.stop()
            assert sorted((row["key"], row["qty"]) for row in running.records()) == [
                ("a", 1),
                ("b", 12),
                ("c", 3),
            ]
            assert counted["sources"]["rows"]["rejected"] == 0

    run(main())


@tcp_only
@pytest.mark.parametrize("workers", [1, 2])
def test_a_client_that_resets_loses_only_its_unfinished_record(
    run, kind: str, tmp_path: Path, workers: int
) -> None:
    async def main() -> None:
        async with Running(reading(kind, tmp_path), workers=workers) as running:
            address = await running.address()
            other, broken = await dialled(address), await dialled(address)
            await send(other, b"x,1\ny,")
            await send(broken, b"a,1\nb,12")
            host, port = broken.getsockname()
            await running.until(lambda: running.run.position_bytes == 14)
            reset(broken)
            await running.taken(3)
            await send(other, b"2\n")
            other.close()
            await running.taken(4)
            counted = await running.stop()
            assert sorted(keys(running)) == ["a", "x", "y"]
            assert running.records("rejected") == [
                {
                    "record": "b,12",
                    "reason": "cut short: Connection reset by peer",
                    "position": f"{host}:{port}:2 (byte 4)",
                }
            ]
            assert (counted["sources"]["rows"]["rows"], counted["sources"]["rows"]["bytes"]) == (4, 16)

    run(main())


@tcp_only
def test_a_client_that_resets_within_the_header_is_that_clients_loss(run, kind: str, tmp_path: Path) -> None:
    async def main() -> None:
        async with Running(reading(kind, tmp_path, format="csv")) as running:
            address = await running.address()
            broken = await dialled(address)
            await send(broken, b"key,q")
            await running.until(lambda: running.run.position_bytes == 5)
            reset(broken)
            await running.taken(1)
            await say(address, b"qty,key\n7,a\n")
            await running.taken(2)
            await running.stop()
            assert running.records() == [{"key": "a", "qty": 7}]
            assert [row["record"] for row in running.records("rejected")] == ["key,q"]

    run(main())


# -- stopping ----------------------------------------------------------------------------------------------------------------


def test_stopping_takes_what_was_sent_and_ends_listening(run, kind: str, tmp_path: Path) -> None:
    async def main() -> None:
        async with Running(reading(kind, tmp_path)) as running:
            address = await running.address()
            with await dialled(address) as before:
                await send(before, b"a,1\nb,2\nc,")
                await running.taken(2)
                # Those that connected and sent while nobody has looked: no turn of the loop until the stop.
                waiting = []
                for number in range(5):
                    peer = socket.socket(family(address), socket.SOCK_STREAM)
                    peer.connect(place(address))
                    peer.sendall(b"late%d,1\n" % number)
                    delivered(peer)
                    waiting.append(peer)
                counted = await running.stop()
                for peer in waiting:
                    peer.close()
                with pytest.raises((ConnectionRefusedError, FileNotFoundError)):
                    await dialled(address)
                assert await receive_all(before) == b""
            assert sorted(keys(running)) == ["a", "b", *(f"late{n}" for n in range(5))]
            assert [(r["record"], r["reason"]) for r in running.records("rejected")] == [
                ("c,", "cut short: stopped")
            ]
            assert counted["sources"]["rows"]["rows"] == 8

    run(main())


def test_cancelling_closes_everything(run, kind: str, tmp_path: Path) -> None:
    """The fixture counts the descriptors."""

    async def main() -> None:
        async with Running(reading(kind, tmp_path)) as running:
            address = await running.address()
            with await dialled(address) as peer:
                await send(peer, b"a,1\nb")
                await running.taken(1)
                assert running.task is not None
                running.task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await running.task
                with pytest.raises((ConnectionRefusedError, FileNotFoundError)):
                    await dialled(address)

    run(main())


# -- addresses that cannot be had ----------------------------------------------------------------------------------------------


def test_an_address_in_use_is_a_clear_error(run, kind: str, tmp_path: Path) -> None:
    async def main() -> None:
        with Server(kind, tmp_path) as other:
            flow = reading(kind, tmp_path, listen=other.address)
            with pytest.raises(ConnectorError, match=r"^rows: .*cannot listen there: address already in use"):
                await Run(flow.checked()).execute()
            with await dialled(other.address):  # the other one is left alone
                (await other.accepted()).close()

    run(main())


def test_an_address_in_use_ends_the_command_with_1(kind: str, tmp_path: Path) -> None:
    with Server(kind, tmp_path) as other:
        (tmp_path / "pipeline.toml").write_text(
            f'[sources.rows]\ntype = "{kind}"\nlisten = "{other.address}"\nformat = "lines"\n'
            'schema = { line = "string" }\n[sinks.out]\ntype = "stdout"\n'
        )
        done = subprocess.run(
            [sys.executable, "-m", "asyncflow", "run", "pipeline.toml"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr == f"error: rows: {other.address}: cannot listen there: address already in use\n"
    assert done.stdout == ""


def test_nobody_there_is_a_clear_error(run, kind: str, tmp_path: Path) -> None:
    with Server(kind, tmp_path) as gone:
        pass

    async def main() -> None:
        with pytest.raises(RetriableError, match=r"^rows: .*: cannot connect: "):
            await Run(reading(kind, tmp_path, connect=gone.address).checked()).execute()

    run(main())


# -- connecting ------------------------------------------------------------------------------------------------------------------


def test_connected_it_ends_when_the_other_side_closes(run, kind: str, tmp_path: Path) -> None:
    async def main() -> None:
        with Server(kind, tmp_path) as server:
            async with Running(reading(kind, tmp_path, connect=server.address)) as running:
                with await server.accepted() as peer:
                    await send(peer, b"a,1\nb,2")
                counted = await running.end()
                assert keys(running) == ["a", "b"]
                assert counted["sources"]["rows"]["rejected"] == 0

    run(main())


@tcp_only
def test_connected_a_reset_ends_it_with_the_last_record_cut_short(run, kind: str, tmp_path: Path) -> None:
    async def main() -> None:
        with Server(kind, tmp_path) as server:
            async with Running(reading(kind, tmp_path, connect=server.address)) as running:
                peer = await server.accepted()
                await send(peer, b"a,1\nb,2")
                await running.until(lambda: running.run.position_bytes == 7)
                reset(peer)
                counted = await running.end()
                assert keys(running) == ["a"]
                [rejected] = running.records("rejected")
                assert rejected["position"] == f"{server.address}:2 (byte 4)"
                assert counted["sources"]["rows"]["rejected"] == 1

    run(main())


def test_reconnecting_goes_on_through_outages_until_stopped(run, kind: str, tmp_path: Path) -> None:
    async def main() -> None:
        with Server(kind, tmp_path) as gone:
            address = gone.address
        options = {"connect": address, "reconnect": True, "max_reconnect_delay": "20ms"}
        async with Running(reading(kind, tmp_path, **options)) as running:
            for number in range(3):  # nobody there at first, and between two rounds
                with Server(kind, tmp_path, address) as server:
                    with await server.accepted() as peer:
                        await send(peer, b"first%d,1\n" % number)
                    with await server.accepted() as peer:
                        await send(peer, b"second%d,2" % number)
                    await running.taken(2 * number + 2)
            counted = await running.stop()
            assert keys(running) == [f"{turn}{n}" for n in range(3) for turn in ("first", "second")]
            assert counted["sources"]["rows"]["rejected"] == 0

    run(main())


@pytest.mark.parametrize("answering", [True, False])
def test_stopping_while_it_connects_or_waits(run, kind: str, tmp_path: Path, answering: bool) -> None:
    async def main() -> None:
        with Server(kind, tmp_path) as server:
            options = {"connect": server.address, "reconnect": True, "max_reconnect_delay": "1h"}
            async with Running(reading(kind, tmp_path, **options)) as running:
                if answering:
                    with await server.accepted() as peer:
                        await send(peer, b"a,1\n")
                        await running.taken(1)
                        counted = await running.stop()
                        assert await receive_all(peer) == b""
                    assert counted["sources"]["rows"]["rows"] == 1
                    return
                for _ in range(4):  # each lost connection without a byte doubles the wait
                    (await server.accepted()).close()
                assert (await running.stop())["sources"]["rows"]["rows"] == 0

    run(main())
