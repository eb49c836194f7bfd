"""Rows handed over in Python: any async (or plain) iterable of dicts, tables, batches, or bytes.

Bytes are a byte stream like any other.  The rest is taken in natural batches: while a batch is being worked on, what the iterable gives
is collected, up to a bound, and goes on together; a quiet iterable gives batches of one.  What an object says is read by ``objects``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Any

from asyncflow.connectors.contract import ByteSource, ByteStream, SourceConnector
from asyncflow.errors import DataError
from asyncflow.model.schema import Schema
from asyncflow.runtime.ingest.python.pull import Pull

if TYPE_CHECKING:
    from asyncflow.runtime.ingest.python.objects import Converted


class BytesSource(ByteSource, ByteStream):
    """An (async) iterable of bytes as one byte stream."""

    name = "python"

    def __init__(self, iterable: Any) -> None:
        self.bounded = not hasattr(iterable, "__aiter__")
        self.error = ""
        self._pull = Pull(iterable, _bytes)
        self._rest: deque[memoryview] = deque()

    async def streams(self) -> AsyncIterator[ByteStream]:
        yield self

    async def read_into(self, buffer: memoryview) -> int:
        while not self._rest:
            taken = await self._pull.taken()
            if not taken:
                return 0
            self._rest += (memoryview(item) for item in taken if item)
        first = self._rest.popleft()
        count = min(len(buffer), len(first))
        buffer[:count] = first[:count]
        if count < len(first):
            self._rest.appendleft(first[count:])
        return count

    async def stop(self) -> None:
        self.error = "stopped"
        self._pull.stop()

    async def aclose(self) -> None:
        await self._pull.aclose()


def _bytes(item: Any) -> tuple[bytes, int]:
    if not isinstance(item, bytes | bytearray | memoryview):
        raise DataError(
            f"a source with a format gives bytes, not {type(item).__name__}: give bytes, or leave the format out"
        )
    return bytes(item), len(item)


class ObjectSource(SourceConnector):
    """An (async) iterable of dicts (rows) and tables, or one table."""

    def __init__(self, iterable: Any) -> None:
        from asyncflow.runtime.ingest.python.objects import (  # not loaded by runs without such a source
            Converter,
            taken_down,
        )
        from asyncflow.runtime.ingest.python.table_objects import is_table

        if is_table(iterable):
            iterable = (iterable,)
        self.bounded = not hasattr(iterable, "__aiter__")
        self._pull = Pull(iterable, taken_down)
        self._head: tuple[Any, ...] = ()
        self._converter = Converter()

    async def head(self) -> Sequence[Any]:
        """The first objects, and at each further call more; ``objects`` gives them again.  Nothing new where there is no more."""
        self._head += _records(await self._pull.taken())
        return self._head

    async def objects(self) -> AsyncIterator[Sequence[Any]]:
        """Lists of what has come since the last, at least one object each."""
        taken, self._head = self._head, ()
        while taken := taken or _records(await self._pull.taken()):
            yield taken
            taken = ()

    def convert(self, objects: Sequence[Any], schema: Schema, required: str | None) -> Converted:
        """One batch of all the objects, in order.  ``required``: the column that must not be null."""
        return self._converter.convert(objects, schema, required)

    async def stop(self) -> None:
        self._pull.stop()

    async def aclose(self) -> None:
        await self._pull.aclose()


def _records(objects: tuple[Any, ...]) -> tuple[Any, ...]:
    """These; DataError where they begin with bytes, which nothing can be read from here."""
    if objects and isinstance(objects[0], bytes | memoryview):
        raise DataError("bytes are read with a format: say format=...")
    return objects
