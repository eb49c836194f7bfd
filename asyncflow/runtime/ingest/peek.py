"""Byte streams whose first bytes were looked at before they are read: to tell the source's format and its schema."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from functools import partial
from typing import NamedTuple, TypeAlias

import numpy as np

from asyncflow.connectors.contract import ByteSource, ByteStream
from asyncflow.formats.contract import BYTE_ORDER_MARK, Block
from asyncflow.runtime.base.failures import Group

PAUSE_SECONDS = 0.3
"""A live input that pauses for so long after its first data record is judged by what it has sent."""
FEW_RECORDS = 10
"""Fewer data records than this, from one of several peers, decide only where nobody else says more within ``FEW_SECONDS``."""
FEW_SECONDS = 2.0


CountRecords: TypeAlias = Callable[[Block, bool], int]
"""How many whole data records stand in the head of a stream; the bool: the head is all of the stream."""


class Head(NamedTuple):
    """The first bytes of a stream, whether they are all of it, and how many whole data records stand in them."""

    data: Block
    whole: bool
    records: int


NOTHING = Head(np.empty(0, np.uint8), True, 0)


def content(data: bytes) -> bytes:
    """What a stream says in its first bytes: without a byte order mark and blank lines."""
    return data.removeprefix(BYTE_ORDER_MARK).lstrip()


class PeekedStream(ByteStream):
    """Gives the same bytes as ``stream``, the head among them."""

    def __init__(self, stream: ByteStream) -> None:
        self.name = stream.name
        self._stream = stream
        self._head = bytearray()
        self._ended = False
        self._reading: asyncio.Task[bytes] | None = None

    @property
    def error(self) -> str:  # type: ignore[override]
        return self._stream.error

    @property
    def ended(self) -> bool:
        """All of it was looked at."""
        return self._ended

    @property
    def empty(self) -> bool:
        """It has ended without a byte."""
        return self._ended and not self._head

    async def head(self, count: CountRecords, enough_bytes: int, most_bytes: int) -> Head:
        """The first ``enough_bytes``, and up to ``most_bytes`` where no whole data record stands in them.  Less where the stream ends, or
        pauses after its first data record.  Of a stream that was broken off only what stands before its last line end.
        """
        records, counted = 0, (0, False)
        while not self._ended and len(self._head) < (enough_bytes if records else most_bytes):
            if self._reading is None:
                self._reading = asyncio.create_task(self._read())
            done, _ = await asyncio.wait((self._reading,), timeout=PAUSE_SECONDS if records else None)
            if not done:
                break
            seen = len(self._head)
            await self._take()
            if not records and (self._ended or b"\n" in self._head[seen:]):
                records, counted = count(*self._seen()), (len(self._head), self._ended)
        data, whole = self._seen()
        if records and counted != (len(self._head), self._ended):
            records = count(data, whole)
        return Head(data, whole, records)

    def _seen(self) -> tuple[Block, bool]:
        data, whole = bytes(self._head), self._ended and not self.error
        if self._ended and not whole:
            data = data[: data.rfind(b"\n") + 1]
        return np.frombuffer(data, np.uint8), whole

    def ready(self) -> bool:
        if self._head or self._ended:
            return True
        return self._stream.ready() if self._reading is None else self._reading.done()

    async def wait(self, held_bytes: int = 0, offset: int = 0) -> None:
        if self._reading is None:
            await self._stream.wait(held_bytes, offset)
        else:  # which waits already, and says that it holds the head
            await asyncio.wait((self._reading,))

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

    async def _read(self) -> bytes:
        if not self._stream.ready():
            await self._stream.wait(len(self._head))
        space = bytearray(1 << 16)
        return bytes(space[: await self._stream.read_into(memoryview(space))])

    async def _take(self) -> None:
        assert self._reading is not None
        data = await asyncio.shield(self._reading)
        self._reading = None
        self._head += data
        self._ended = not data
        if self._ended:
            await (
                self._stream.aclose()
            )  # its descriptor is needed no longer, however many streams are looked at


class PeekedStreams(AsyncIterator[ByteStream]):
    """A source's streams in the order in which they came, those that ``head`` has looked at among them."""

    def __init__(self, source: ByteSource) -> None:
        self._concurrent = source.concurrent
        self._streams = source.streams()
        self._kept: deque[PeekedStream] = deque()
        self._coming: asyncio.Task[ByteStream | None] | None = None

    async def head(self, count: CountRecords, enough_bytes: int, most_bytes: int) -> Head:
        """The head of the first stream that holds a data record.  Of concurrent ones that of the one with the most data records among
        those that spoke first, whoever else is silent: one strange peer does not decide for all.

        Where all have ended and none holds a data record: the first head that says something (a header), else ``NOTHING``.
        """
        heads: asyncio.Queue[Head | None] = asyncio.Queue()
        looking = asyncio.create_task(
            self._look(heads, partial(self._head_of, count, enough_bytes, most_bytes))
        )
        looking.add_done_callback(lambda _: heads.put_nowait(None))
        try:
            best = await self._best(heads)
            if (
                looking.done()
                and not looking.cancelled()
                and (failure := looking.exception())
                and not best.records
            ):
                raise failure.exceptions[0] if isinstance(failure, BaseExceptionGroup) else failure
            return best
        finally:
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)

    async def _best(self, heads: asyncio.Queue[Head | None]) -> Head:
        """The head that decides, of those that come."""
        enough = FEW_RECORDS if self._concurrent else 1
        best, until = NOTHING, None
        while best.records < enough:
            try:
                async with asyncio.timeout_at(until):
                    head = await heads.get()
            except TimeoutError:
                break
            if head is None:
                break
            if head.records > best.records or not len(best.data):
                best = head
            if best.records and until is None:
                until = asyncio.get_running_loop().time() + FEW_SECONDS
        return best

    async def open(self) -> None:
        """Waits for the first stream without reading of it; it is given like any other."""
        if not self._kept and (stream := await self._come()) is not None:
            self._kept.append(PeekedStream(stream))

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

    async def _look(
        self, heads: asyncio.Queue[Head | None], look: Callable[[PeekedStream], Awaitable[Head]]
    ) -> None:
        """Looks at the streams, one after the other or, where they are concurrent, side by side."""

        async def look_at(stream: PeekedStream) -> Head:
            head = await look(stream)
            if content(head.data.tobytes()) or not stream.ended:
                heads.put_nowait(head)
            return head

        async with Group() as looks:
            while (stream := await self._come()) is not None:
                self._kept.append(peeked := PeekedStream(stream))
                looking = looks.create_task(look_at(peeked))
                if not self._concurrent and ((await looking).records or not peeked.ended):
                    return

    async def _head_of(
        self, count: CountRecords, enough_bytes: int, most_bytes: int, stream: PeekedStream
    ) -> Head:
        head = await stream.head(count, enough_bytes, most_bytes)
        if stream.empty:
            self._kept.remove(stream)
            await stream.aclose()
        return head

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
