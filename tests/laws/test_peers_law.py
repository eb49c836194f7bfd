"""The laws with several peers at once: ledger, cancel and flat, with clients that reset, half-close, stall and leave, and slow readers.

The order between peers is not data, so what came out is compared as a multiset beside the ledger.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import socket
import struct
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct
from msgspec.structs import replace

import asyncflow as af
from asyncflow.connectors.contract import Buffer
from asyncflow.plan.tables import Component
from asyncflow.runtime import Run
from asyncflow.runtime.wiring import wires
from asyncflow.testing import ListSink

SCHEMA = {"peer": "int64", "n": "int64", "text": "string"}


async def until(condition: Callable[[], Any]) -> Any:
    """What the condition gives once that is true."""
    while not (found := condition()):  # noqa: ASYNC110 - the condition is the outside's, no event tells of it
        await asyncio.sleep(0.002)
    return found


def place(parts: list[Any]) -> Any:
    """Where the first of the sources or sinks listens, as the system calls take it; None where it does not yet."""
    addresses = parts[0].connector.addresses if parts else ()
    if not addresses:
        return None
    host, colon, port = addresses[0].rpartition(":")
    return (host, int(port)) if colon else addresses[0]


class SlowSink(ListSink):
    """Takes its time over some writes; nothing at all while ``held``."""

    def __init__(self, chance: random.Random) -> None:
        super().__init__()
        self.free = asyncio.Event()
        self.free.set()
        self._chance = chance

    async def write(self, data: Buffer, *, origin: Any = None) -> None:
        await self.free.wait()
        if self._chance.random() < 0.3:
            await asyncio.sleep(self._chance.choice((0, 0.001, 0.003)))
        await super().write(data, origin=origin)


class Client(Struct):
    """What one client is to send, ``good`` lines and bad ones, and whether it reset its connection (then not all may have come)."""

    good: list[bytes]
    bad: list[bytes]
    was_reset: bool = False


def lines_of(number: int, chance: random.Random) -> list[tuple[bytes, bool]]:
    text = "x" * chance.choice((0, 30, 400))
    found = []
    for n in range(chance.randint(0, 120)):
        good = chance.random() < 0.7
        line = {"peer": number, "n": n if good else "no number", "text": text}
        found.append((json.dumps(line, separators=(",", ":")).encode() + b"\n", good))
    return found


async def talk(address: Any, number: int, chance: random.Random) -> Client:
    """One client from beginning to end."""
    lines = lines_of(number, chance)
    client = Client([line for line, good in lines if good], [line for line, good in lines if not good])
    peer = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET)
    with peer:
        peer.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(peer, address)
        data = b"".join(line for line, _ in lines)
        end = chance.choice(("close", "close", "half", "reset"))
        stop = chance.randint(0, len(data)) if end == "reset" else len(data)
        if peer.family == socket.AF_UNIX:  # there an end is an end, and what stands before it a record
            stop = data.rfind(b"\n", 0, stop) + 1
        while data[:stop]:
            piece = data[: min(stop, chance.choice((1, 10, 1000, 1 << 16)))]
            data, stop = data[len(piece) :], stop - len(piece)
            await loop.sock_sendall(peer, piece)
            if chance.random() < 0.2:
                await asyncio.sleep(chance.choice((0, 0, 0.001)))
        if end == "half":
            peer.shutdown(socket.SHUT_WR)
            assert await loop.sock_recv(peer, 1) == b""
        elif end == "reset":
            client.was_reset = True
            if peer.family == socket.AF_INET:
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return client


class Served:
    """A run that listens for clients, with both of its outputs kept by slow sinks."""

    def __init__(self, kind: str, folder: Path, chance: random.Random, **options: Any) -> None:
        listen = "127.0.0.1:0" if kind == "tcp" else str(folder / "socket")
        flow = af.source(kind, name="rows", listen=listen, format="json", schema=SCHEMA, **options)
        flow = flow.filter("n >= 0").named("kept").to("null", name="out", format="json")
        flow = flow["rows.rejected"].to("null", name="rejected", format="json")
        plan = flow.checked()
        self.sinks = {sink.name: SlowSink(chance) for sink in plan.sinks}
        kept = tuple(
            replace(sink, connector=Component("list", object=self.sinks[sink.name])) for sink in plan.sinks
        )
        self.run = Run(replace(plan, sinks=kept), workers=chance.choice((1, 3)))
        self.task = asyncio.create_task(self.run.execute())

    async def address(self) -> Any:
        return await until(lambda: place(self.run.wiring.sources))

    def lines(self, sink: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.sinks[sink].data.splitlines()]

    def check(self, ledger: dict[str, Any]) -> None:
        """What came out is what the ledger says."""
        source = ledger["sources"]["rows"]
        assert source["rows"] == source["rows_out"] + source["rejected"]
        assert (
            ledger["stages"]["kept"]["rows_out"] == ledger["sinks"]["out"]["rows"] == len(self.lines("out"))
        )
        assert source["rejected"] == ledger["sinks"]["rejected"]["rows"] == len(self.lines("rejected"))


@contextlib.contextmanager
def nothing_left() -> Any:
    files = len(os.listdir("/proc/self/fd"))
    tasks = asyncio.all_tasks()
    yield
    assert {task for task in asyncio.all_tasks() if not task.done()} == tasks
    assert len(os.listdir("/proc/self/fd")) == files


@pytest.fixture(params=["tcp", "unix"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("channel_bytes", [1, 1 << 20])
@pytest.mark.parametrize(("peers", "seed"), [(2, 1), (2, 2), (7, 3), (20, 4), (50, 5)])
async def test_ledger_law_every_record_of_every_peer_is_accounted_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str, peers: int, seed: int, channel_bytes: int
) -> None:
    monkeypatch.setattr(wires, "CHANNEL_BYTES", channel_bytes)
    chance = random.Random(seed)
    with nothing_left():
        served = Served(kind, tmp_path, chance)
        address = await served.address()
        async with asyncio.timeout(60):
            clients = await asyncio.gather(*(talk(address, number, chance) for number in range(peers)))
            served.run.stop()
            ledger = (await served.task).to_dict()
    served.check(ledger)
    assert ledger["sources"]["rows"]["peers"] == peers
    out, rejected = Counter[bytes](), Counter[bytes]()
    for row in served.lines("out"):
        out[json.dumps(row, separators=(",", ":")).encode() + b"\n"] += 1
    for row in served.lines("rejected"):
        if not row["reason"].startswith("cut short"):
            rejected[row["record"].encode() + b"\n"] += 1
    sent = [client for client in clients if not client.was_reset]
    for found, whole, most in (
        (out, [line for client in sent for line in client.good], [line for c in clients for line in c.good]),
        (
            rejected,
            [line for client in sent for line in client.bad],
            [line for c in clients for line in c.bad],
        ),
    ):
        assert not Counter(whole) - found, "rows of a client that ended in order are missing"
        assert not found - Counter(most), "rows that nobody sent, or twice"


@pytest.mark.parametrize("how", ["stop", "cancel"])
@pytest.mark.parametrize("seed", range(6))
async def test_cancel_law_with_peers_at_any_moment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str, seed: int, how: str
) -> None:
    """Stopped, all that was read flows out; cancelled, that arrives; either way soon, and nothing is left open."""
    chance = random.Random(seed)
    monkeypatch.setattr(wires, "CHANNEL_BYTES", chance.choice((1, 1 << 20)))

    async def talks(address: Any, number: int) -> None:
        with contextlib.suppress(OSError):
            await talk(address, number, chance)

    with nothing_left():
        served = Served(kind, tmp_path, chance, peer_idle=chance.choice(("0s", "20ms")))
        address = await served.address()
        talking = [asyncio.create_task(talks(address, number)) for number in range(chance.randint(2, 50))]
        await asyncio.sleep(chance.random() * 0.1)
        async with asyncio.timeout(30):
            if how == "stop":
                served.run.stop()
                served.check((await served.task).to_dict())
            else:
                assert served.task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await served.task
            await asyncio.gather(*talking)


@pytest.mark.parametrize("seed", range(2))
async def test_readers_that_stall_reset_and_half_close_hold_nobody_up(
    tmp_path: Path, kind: str, seed: int
) -> None:
    """Of many readers of one sink those that read get all; the run ends well, and the ledger says who was cut off."""
    chance = random.Random(seed)
    loop = asyncio.get_running_loop()
    sent = 9_000  # more than the system holds for a reader
    start = asyncio.Event()

    async def rows() -> AsyncIterator[dict[str, Any]]:
        await start.wait()
        for n in range(sent):
            yield {"n": n, "text": "x" * 1000}
            if n % 100 == 0:
                await asyncio.sleep(0.001)

    async def reads(address: Any, how: str) -> bytes:
        peer = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET)
        with peer:
            peer.setblocking(False)
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 14)
            await loop.sock_connect(peer, address)
            data = bytearray()
            if how == "stuck":
                await asyncio.sleep(60)
            with contextlib.suppress(ConnectionError):
                while part := await loop.sock_recv(peer, 1 << 16):
                    data += part
                    if how == "leaves" and len(data) > 50_000:
                        if peer.family == socket.AF_INET and chance.random() < 0.5:
                            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                        break
                    if how == "half" and len(data) > 50_000:
                        peer.shutdown(socket.SHUT_WR)
            return bytes(data)

    listen = "127.0.0.1:0" if kind == "tcp" else str(tmp_path / "socket")
    options = {"listen": listen, "slow_peer": "1s", "max_peer_bytes": "256KiB"}
    flow = af.source(rows(), name="rows", schema={"n": "int64", "text": "string"})
    run = Run(flow.to(kind, name="out", format="json", **options).checked())
    with nothing_left():
        task = asyncio.create_task(run.execute())
        address = await until(lambda: place(run.wiring.sinks))
        hows = ["well", "well", "stuck", *chance.choices(("stuck", "leaves", "half", "well"), k=12)]
        readers = [asyncio.create_task(reads(address, how)) for how in hows]
        async with asyncio.timeout(60):
            await until(lambda: run.ledger.sinks["out"].to_dict()["peers"] == len(hows))
            start.set()
            counted = (await task).to_dict()["sinks"]["out"]
            for reader, how in zip(readers, hows, strict=True):
                if how == "stuck":
                    reader.cancel()
            results = await asyncio.gather(*readers, return_exceptions=True)
    assert counted["rows"] == sent
    assert counted["peers_cut_slow"] >= hows.count("stuck")
    assert run.wiring.sinks[0].connector.kept_bytes == 0  # type: ignore[attr-defined]
    for how, data in zip(hows, results, strict=True):
        if how == "well":
            assert [json.loads(line)["n"] for line in data.splitlines()] == list(range(sent))


async def test_flat_law_peers_that_come_and_go_leave_nothing(tmp_path: Path, kind: str) -> None:
    """Rounds of 40 clients with unfinished records, some cut off for it."""
    chance = random.Random(9)
    loop = asyncio.get_running_loop()
    with nothing_left():
        served = Served(kind, tmp_path, chance, max_peer_bytes="300KiB", record_timeout="100ms")
        address = await served.address()
        held: list[int] = []

        async def leave_unfinished() -> None:
            with socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET) as peer:
                peer.setblocking(False)
                await loop.sock_connect(peer, address)
                with contextlib.suppress(OSError):
                    for _ in range(4):
                        await loop.sock_sendall(peer, b'{"peer":1,"text":"' + b"x" * 10_000)
                        await asyncio.sleep(chance.choice((0, 0.001, 0.2)))

        async with asyncio.timeout(60):
            for _ in range(6):
                await asyncio.gather(*(leave_unfinished() for _ in range(40)))
                source = served.run.wiring.sources[0]
                await until(lambda source=source: not source.connector.peers)
                held.append(source.memory.used_bytes)
                assert source.connector.held_bytes == 0  # type: ignore[attr-defined]
                assert source._in_flight is not None
                assert source._in_flight.bytes == source._in_flight._unfinished.used_bytes == 0
            served.run.stop()
            served.check((await served.task).to_dict())
        assert held[-1] <= max(held[:3])
