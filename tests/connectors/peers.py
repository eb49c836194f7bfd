"""Peers of sockets, an adverse proxy between two of them, and a run in the background.

An address is as a pipeline has it, ``host:port`` or a path; all waits are bounded by the test's own bound.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import fcntl
import json
import random
import select
import socket
import struct
import termios
from collections.abc import AsyncIterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from msgspec.structs import replace

import asyncflow as af
from asyncflow.connectors._descriptors import DescriptorStream
from asyncflow.plan.tables import Component
from asyncflow.runtime import Run
from asyncflow.testing import ListSink
from tests.connectors.streams import eventually

SCHEMA = {"key": "string", "qty": "int64"}
CSV = {"type": "csv", "header": False}


def local(kind: str, folder: Path) -> str:
    """Somewhere to listen: a port that the system chooses, or a new path."""
    return "127.0.0.1:0" if kind in ("tcp", "udp") else str(folder / "socket")


def place(address: str) -> Any:
    """An address as the system calls take it."""
    host, colon, port = address.rpartition(":")
    return (host, int(port)) if colon else address


def family(address: str) -> socket.AddressFamily:
    return socket.AF_INET if isinstance(place(address), tuple) else socket.AF_UNIX


async def dialled(address: str, *, receive_buffer_bytes: int = 0, port: int = 0) -> socket.socket:
    """A connection.  ``receive_buffer_bytes``: room for what it does not read; ``port``: its own."""
    peer = socket.socket(family(address), socket.SOCK_STREAM)
    peer.setblocking(False)
    if receive_buffer_bytes:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
    if port:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        peer.bind(("127.0.0.1", port))
    try:
        await asyncio.get_running_loop().sock_connect(peer, place(address))
    except BaseException:
        peer.close()
        raise
    return peer


async def send(peer: socket.socket, data: bytes) -> None:
    await asyncio.get_running_loop().sock_sendall(peer, data)


async def say(address: str, *parts: bytes) -> None:
    """Connects, sends the parts and closes."""
    with await dialled(address) as peer:
        for part in parts:
            await send(peer, part)
            await asyncio.sleep(0)


async def receive(peer: socket.socket, size: int) -> bytes:
    """At least ``size`` bytes, or all up to the end."""
    data = bytearray()
    while len(data) < size and (part := await asyncio.get_running_loop().sock_recv(peer, 1 << 16)):
        data += part
    return bytes(data)


async def receive_all(peer: socket.socket) -> bytes:
    return await receive(peer, 1 << 62)


def reset(peer: socket.socket) -> None:
    """Breaks a tcp connection off: the other side sees a reset, not an end."""
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()


def hung_up(peer: socket.socket | DescriptorStream) -> bool:
    """Whether the system knows that this connection is over in both directions."""
    poll = select.poll()
    poll.register(peer, 0)
    return any(event & select.POLLHUP for _, event in poll.poll(0))


def delivered(peer: socket.socket) -> None:
    """Returns, without a turn of the loop, once the other side's system has all that was sent."""
    waiting = array.array("i", [1])
    while peer.family == socket.AF_INET and waiting[0]:
        fcntl.ioctl(peer, termios.TIOCOUTQ, waiting)


class Server:
    """Listens for what connects, one connection at a time by ``accepted``.  ``address``: where."""

    def __init__(self, kind: str, folder: Path, address: str = "") -> None:
        wanted = address or local(kind, folder)
        self._socket = socket.socket(family(wanted), socket.SOCK_STREAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.setblocking(False)
        self._socket.bind(place(wanted))
        self._socket.listen()
        name = self._socket.getsockname()
        self.address = name if isinstance(name, str) else f"{name[0]}:{name[1]}"

    async def accepted(self) -> socket.socket:
        peer, _ = await asyncio.get_running_loop().sock_accept(self._socket)
        return peer

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()
        if family(self.address) == socket.AF_UNIX:
            Path(self.address).unlink(missing_ok=True)


class Running:
    """A flow that runs in the background; its ``null`` sinks are kept in memory (``sinks``).  Leaving the block ends it."""

    def __init__(self, flow: af.Flow, *, workers: int = 1, stop_timeout: float = 30.0) -> None:
        plan = replace(flow.checked(), stop_timeout_ns=int(stop_timeout * 1e9))
        self.sinks = {sink.name: ListSink() for sink in plan.sinks if sink.connector.type == "null"}
        kept = tuple(
            replace(sink, connector=Component("list", object=self.sinks[sink.name]))
            if sink.name in self.sinks
            else sink
            for sink in plan.sinks
        )
        self.run = Run(replace(plan, sinks=kept), workers=workers)
        self.task: asyncio.Task[Any] | None = None

    async def __aenter__(self) -> Self:
        self.task = asyncio.create_task(self.run.execute())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self.task is not None
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)

    def source(self, name: str = "rows") -> dict[str, Any]:
        """The source's part of the ledger as it is now."""
        counts = self.run.ledger.sources.get(name)
        return {"rows": 0, "bytes": 0, "rejected": 0} if counts is None else counts.to_dict()

    def records(self, sink: str = "out") -> list[dict[str, Any]]:
        """What a sink of JSON was given so far."""
        return [json.loads(line) for line in self.sinks[sink].data.splitlines()]

    async def until(self, condition: Any) -> None:
        """Returns once ``condition()`` is true; raises what ended the run before."""
        task = self.task
        assert task is not None
        await eventually(lambda: task.done() or condition())
        if task.done():
            await task
        assert condition()

    async def address(self, name: str = "rows") -> str:
        """Where its source or sink of that name listens, once it does."""

        def addresses() -> tuple[str, ...]:
            sources = [stage.connector for stage in self.run.wiring.sources if stage.source.name == name]
            sinks = [stage.connector for stage in self.run.wiring.sinks if stage.sink.name == name]
            return next((each.addresses for each in (*sources, *sinks)), ())  # type: ignore[attr-defined]

        await self.until(addresses)
        return addresses()[0]

    async def connected(self, count: int) -> list[socket.socket]:
        """Returns once the (first) sink has so many readers: its ends of them."""
        readers = self.run.wiring.sinks[0].connector.peers  # type: ignore[attr-defined]
        await self.until(lambda: len(readers) == count)
        return list(readers)

    async def taken(self, rows: int, name: str = "rows") -> None:
        """Returns once the source has counted so many rows, good or bad."""
        await self.until(lambda: self.source(name)["rows"] >= rows)

    async def end(self) -> dict[str, Any]:
        """Waits for the run's own end; its ledger."""
        assert self.task is not None
        return (await self.task).to_dict()  # type: ignore[no-any-return]

    async def stop(self) -> dict[str, Any]:
        """Asks for an orderly end and waits for it; the ledger."""
        self.run.stop()
        return await self.end()


@contextlib.asynccontextmanager
async def adverse_proxy(target: str, seed: int, path: str = "") -> AsyncIterator[str]:
    """Stands (at ``path``, or at a tcp port) before ``target``: passes all bytes on, but cut anew: single bytes and large pieces, at once
    or with pauses, several sends as one.  Gives its own address."""
    chance = random.Random(seed)

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        held = bytearray()
        while data := await reader.read(chance.choice((1, 7, 500, 1 << 16))):
            held += data
            if chance.random() < 0.4:
                continue  # coalesced with what comes next
            while held:
                size = chance.choice((1, 1, 2, 3, 100, 4000, 1 << 16))
                writer.write(held[:size])
                del held[:size]
                await writer.drain()
                await asyncio.sleep(chance.choice((0, 0, 0, 0.001)))
                if chance.random() < 0.3:
                    break
        writer.write(held)
        await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()

    serving: list[asyncio.Task[None]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.append(asyncio.current_task())  # type: ignore[arg-type]
        there = place(target)
        back, on = await (
            asyncio.open_connection(*there)
            if isinstance(there, tuple)
            else asyncio.open_unix_connection(there)
        )
        try:
            async with asyncio.TaskGroup() as pumps:
                pumps.create_task(pump(reader, on))
                pumps.create_task(pump(back, writer))
        finally:
            for each in (on, writer):
                each.close()
                with contextlib.suppress(OSError):
                    await each.wait_closed()

    server = await (
        asyncio.start_unix_server(serve, path) if path else asyncio.start_server(serve, "127.0.0.1", 0)
    )
    async with server:
        yield path or "{}:{}".format(*server.sockets[0].getsockname())
        await asyncio.gather(*serving)
