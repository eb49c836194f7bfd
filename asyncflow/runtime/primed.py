"""Byte streams whose first bytes were looked at before they are read: to tell the source's format and its schema."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from typing import TypeAlias

import numpy as np

from asyncflow.connectors.contract import ByteSource, ByteStream
from asyncflow.formats.contract import Block

PAUSE_SECONDS = 0.3
"""A live input that pauses for so long after its first record is judged by what it has sent."""

BYTE_ORDER_MARK = b"\xef\xbb\xbf"

Head: TypeAlias = tuple[Block, bool]
"""The first bytes of a stream, and whether they are all of it."""


def content(data: bytes) -> bytes:
    """What a stream says in its first bytes: without a byte order mark and blank lines."""
    return data.removeprefix(BYTE_ORDER_MARK).lstrip()


def _holds_record(head: Block, whole: bool) -> bool:
    return whole or b"\n" in content(head.tobytes())


class PrimedStream(ByteStream):
    """Gives the same bytes as ``stream``, the head among them."""

    def __init__(self, stream: ByteStream) -> None:
        self.name = stream.name
        self._stream = stream
        self._head = bytearray()
        self._ended = False
        self._space = bytearray(1 << 16)
        self._reading: asyncio.Task[int] | None = None

    @property
    def error(self) -> str:  # type: ignore[override]
        return self._stream.error

    @property
    def empty(self) -> bool:
        """It has ended without a byte."""
        return self._ended and not self._head

    async def head(self, enough_bytes: int) -> Head | None:
        """The first ``enough_bytes``; less where the stream ends, or pauses after its first record.  None where it ended and
        there is nothing to tell a schema from: all is blank, or it was broken off within its first record.
        """
        shown = False
        while len(self._head) < enough_bytes and not self._ended:
            if self._reading is None:
                self._reading = asyncio.ensure_future(self._stream.read_into(memoryview(self._space)))
            shown = shown or b"\n" in content(bytes(self._head))
            done, _ = await asyncio.wait((self._reading,), timeout=PAUSE_SECONDS if shown else None)
            if not done:
                break
            await self._take()
        data, whole = bytes(self._head), self._ended and not self.error
        if self._ended and not whole:
            data = data[: data.rfind(b"\n") + 1]
        return None if self._ended and not content(data) else (np.frombuffer(data, np.uint8), whole)

    def ready(self) -> bool:
        return bool(self._head) or self._reading is not None or self._ended or self._stream.ready()

    async def wait(self, held_bytes: int = 0, offset: int = 0) -> None:
        await self._stream.wait(held_bytes, offset)

    async def read_into(self, buffer: memoryview) -> int:
        if not self._head and self._reading is not None:
            await self._take()
        if self._head:
            count = min(len(buffer), len(self._head))
            buffer[:count] = self._head[:count]
            del self._head[:count]
            return count
        return 0 if self._ended else await self._stream.read_into(buffer)

    async def aclose(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
            self._reading = None
        await self._stream.aclose()

    async def _take(self) -> None:
        assert self._reading is not None
        count = await asyncio.shield(self._reading)
        self._reading = None
        self._head += self._space[:count]
        self._ended = count == 0


class PrimedStreams(AsyncIterator[ByteStream]):
    """A source's streams in the order in which they came, those that ``head`` has looked at among them."""

    def __init__(self, source: ByteSource) -> None:
        self._concurrent = source.concurrent
        self._streams = source.streams()
        self._kept: deque[PrimedStream] = deque()
        self._coming: asyncio.Task[ByteStream | None] | None = None

    async def head(self, enough_bytes: int) -> Head:
        """The head of the first stream that says something; of concurrent ones that of the one which does so first, whoever else is
        silent.  No bytes where all have ended and none did.
        """
        found: asyncio.Future[Head] = asyncio.get_running_loop().create_future()
        looking = asyncio.create_task(self._look(found, enough_bytes))
        try:
            return await found
        finally:
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)

    async def open(self) -> None:
        """Waits for the first stream without reading of it; it is given like any other."""
        if not self._kept and (stream := await self._come()) is not None:
            self._kept.append(PrimedStream(stream))

    async def __anext__(self) -> ByteStream:
        stream = self._kept.popleft() if self._kept else await self._come()
        if stream is None:
            raise StopAsyncIteration
        return stream

    async def aclose(self) -> None:
        """Closes the streams that were looked at and not yet taken."""
        coming, self._coming = self._coming, None
        if coming is not None:
            coming.cancel()
            [stream] = await asyncio.gather(coming, return_exceptions=True)
            if isinstance(stream, ByteStream):
                await stream.aclose()
        while self._kept:
            await self._kept.popleft().aclose()
        if isinstance(self._streams, AsyncGenerator):
            await self._streams.aclose()

    async def _look(self, found: asyncio.Future[Head], enough_bytes: int) -> None:
        """Settles ``found``."""
        try:
            async with asyncio.TaskGroup() as looks:
                while not found.done() and (stream := await self._come()) is not None:
                    self._kept.append(primed := PrimedStream(stream))
                    look = looks.create_task(self._look_at(primed, found, enough_bytes))
                    if not self._concurrent:
                        await look
            if not found.done():
                found.set_result((np.empty(0, np.uint8), True))
        except ExceptionGroup as failures:
            if not found.done():
                found.set_exception(failures.exceptions[0])

    async def _look_at(self, stream: PrimedStream, found: asyncio.Future[Head], enough_bytes: int) -> None:
        head = await stream.head(enough_bytes)
        if stream.empty:
            self._kept.remove(stream)
            await stream.aclose()
        elif head is not None and not found.done() and (not self._concurrent or _holds_record(*head)):
            found.set_result(head)

    async def _come(self) -> ByteStream | None:
        """The next stream, or None; cancelled, it is given the next time."""
        if self._coming is None:
            self._coming = asyncio.create_task(self._next())
        stream = await asyncio.shield(self._coming)
        self._coming = None
        return stream

    async def _next(self) -> ByteStream | None:
        async for stream in self._streams:
            return stream
        return None
