"""Items of a source, its position after each, and how a stream is brought to a position that can only be read from its start.

An item is what is handed on at a time: a block of whole records, dropped bytes, a batch, some objects.  A barrier falls between two items,
so the position of a source is that after an item.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from msgspec import Struct

from asyncflow.connectors.contract import ByteStream
from asyncflow.errors import InternalError
from asyncflow.formats.contract import Block, Cut
from asyncflow.model.snapshot import Plain, Saved
from asyncflow.runtime.base.closing import closing


class Records(Struct, frozen=True, eq=False):
    """A block of whole records.  ``offset``: bytes of the stream before it."""

    data: Block
    offset: int


class Dropped(Struct, frozen=True, eq=False):
    """Bytes that hold no records: a header, or records that cannot be read (``cut.rejects``)."""

    cut: Cut
    offset: int


def size_bytes(item: Records | Dropped) -> int:
    """How much of the stream it is."""
    return len(item.data) if isinstance(item, Records) else item.cut.resume - item.cut.end


class Position(Struct, frozen=True):
    """Of byte streams read one after another: ``stream`` (from 0) is read after ``offset`` bytes, which are ``lines`` - 1 lines.  Of
    batches and objects: ``count`` rows or objects were handed on."""

    stream: int = 0
    offset: int = 0
    lines: int = 1
    count: int = 0

    def fields(self) -> dict[str, Plain]:
        return {"stream": self.stream, "offset": self.offset, "lines": self.lines, "count": self.count}


START = Position()


def saved_position(saved: Saved) -> Position:
    """Raises ValueError."""
    return Position(*(saved.integer(name, 0) for name in ("stream", "offset", "lines", "count")))


class Item(Struct, frozen=True):
    """What an item counts for, and the position after it; None: of a source that cannot be read again."""

    rows: int
    bytes: int
    after: Position | None


class WrappedStream(ByteStream):
    """The same stream: what is not overridden is forwarded."""

    def __init__(self, stream: ByteStream) -> None:
        self.name = stream.name
        self._stream = stream

    @property
    def error(self) -> str:  # type: ignore[override]
        return self._stream.error

    def ready(self) -> bool:
        return self._stream.ready()

    async def wait(self, held_bytes: int = 0, offset: int = 0) -> None:
        await self._stream.wait(held_bytes, offset)

    async def read_into(self, buffer: memoryview) -> int:
        return await self._stream.read_into(buffer)

    async def aclose(self) -> None:
        await self._stream.aclose()


class ReadAgain(WrappedStream):
    """The same stream; no read goes past its first ``offset`` bytes, until these are read.  So its decoder cuts them as it did before."""

    def __init__(self, stream: ByteStream, offset: int) -> None:
        super().__init__(stream)
        self._left = offset

    async def read_into(self, buffer: memoryview) -> int:
        count = await self._stream.read_into(buffer[: self._left] if self._left else buffer)
        self._left = max(0, self._left - count)
        return count


async def after(items: AsyncIterator[Records | Dropped], offset: int) -> AsyncIterator[Records | Dropped]:
    """The items behind the first ``offset`` bytes of their stream."""
    async with closing(items):
        async for item in items:
            begin = item.offset if isinstance(item, Records) else item.offset + item.cut.end
            end = item.offset + (len(item.data) if isinstance(item, Records) else item.cut.resume)
            if end > offset:
                if begin < offset:
                    raise InternalError(
                        f"a record at byte {begin} lies across byte {offset}, where reading went on"
                    )
                yield item
            del item  # nothing of it is kept while the next is awaited
