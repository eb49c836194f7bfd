"""Public: test tools for authors of connectors, formats, aggregates and pipelines.  Real parts, kept in memory; no mocks.

``ListSink`` collects the output of a flow.  ``ChunkSource`` gives bytes in chosen pieces.  ``FakeClock`` is a clock that stands until it is
moved.  ``check_format``, ``check_source``, ``check_sink`` and ``check_aggregate`` check a component against its contract; AssertionError
names the promise that was broken.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from typing import Any

import numpy as np

from asyncflow.connectors.contract import Buffer, ByteSource, ByteStream, SinkConnector
from asyncflow.errors import StageError
from asyncflow.formats.contract import Block, Decoder
from asyncflow.model.aggregate import Aggregate, declared, qualified
from asyncflow.model.batch import Batch
from asyncflow.model.columns import Column, concat_columns
from asyncflow.model.schema import DataType
from asyncflow.operators.aggregates.python_values import checked_value
from asyncflow.operators.aggregates.saved_objects import loaded_object, saved_object
from asyncflow.runtime.base.clock import VirtualClock as FakeClock

__all__ = [
    "ChunkSource",
    "FakeClock",
    "ListSink",
    "check_aggregate",
    "check_format",
    "check_sink",
    "check_source",
    "chunks",
    "decode_all",
]


class ListSink(SinkConnector):
    """A sink that keeps its input: ``data`` is all bytes written, ``writes`` has an entry for each write, with its origin."""

    def __init__(self) -> None:
        self.writes: list[tuple[bytes, Any]] = []
        self.closed: bool | None = None
        """None while the sink is open; then whether it was closed after a failure."""

    @property
    def data(self) -> bytes:
        return b"".join(data for data, _ in self.writes)

    async def write(self, data: Buffer, *, origin: Any = None) -> None:
        self.writes.append((bytes(data), origin))

    async def aclose(self, *, failed: bool = False) -> None:
        if self.closed is None:
            self.closed = failed


class ChunkSource(ByteSource, ByteStream):
    """A source of one stream that gives the pieces it was made of, one a read, and less where the reader asks for less."""

    name = "chunks"

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = [piece for piece in pieces if piece]
        self._pieces.reverse()
        self.closed = False

    async def streams(self) -> AsyncIterator[ByteStream]:
        yield self

    async def read_into(self, buffer: memoryview) -> int:
        await asyncio.sleep(0)
        if not self._pieces:
            return 0
        piece = self._pieces.pop()
        count = min(len(piece), len(buffer))
        buffer[:count] = piece[:count]
        if count < len(piece):
            self._pieces.append(piece[count:])
        return count

    async def aclose(self) -> None:
        self.closed = True


def chunks(data: bytes, seed: int, at_most: int = 64) -> list[bytes]:
    """``data`` in random pieces of 1 to ``at_most`` bytes; the same for the same seed."""
    chance, pieces, start = random.Random(seed), [], 0
    while start < len(data):
        stop = start + chance.randint(1, at_most)
        pieces.append(data[start:stop])
        start = stop
    return pieces


def one_by_one(data: bytes) -> list[bytes]:
    """``data`` a line at a time: each record in a piece of its own."""
    return data.splitlines(keepends=True)


def decode_all(
    decoder: Decoder, pieces: Sequence[bytes]
) -> tuple[tuple[Column, ...], int, list[tuple[int, int, str]]]:
    """Decodes a stream that comes in ``pieces``: its columns, number of rows, and rejects as (line, offset, reason)."""
    rest: Block = np.empty(0, np.uint8)
    parts: list[tuple[Column, ...]] = []
    rejects: list[tuple[int, int, str]] = []
    rows = line = offset = 0
    prepared = False
    for number in range(len(pieces) + 1):
        final = number == len(pieces)
        piece = b"" if final else pieces[number]
        rest = np.concatenate([rest, np.frombuffer(piece, np.uint8)])
        if not prepared:
            skip = decoder.prepare(rest, final)
            if skip is None:
                continue
            prepared = True
            line, offset = line + int(np.count_nonzero(rest[:skip] == 10)), offset + skip
            rest = rest[skip:]
        while len(rest):
            cut = decoder.cut(rest, final)
            assert 0 <= cut.end <= cut.resume <= len(rest), f"a cut outside the data: {cut}"
            if cut.end:
                result = decoder.decode(rest[: cut.end].copy())
                parts.append(result.columns)
                rows += result.num_rows
                rejects += ((line + r.line, offset + r.offset, r.reason) for r in result.rejects)
                line += result.lines
            rejects += ((line + r.line, offset + r.offset, r.reason) for r in cut.rejects)
            line += cut.lines
            rest, offset = rest[cut.resume :], offset + cut.resume
            if cut.resume == 0:
                assert not final, "the decoder left bytes over at the end of the stream"
                break
    columns = tuple(concat_columns(list(column)) for column in zip(*parts, strict=True))
    return columns, rows, rejects


def check_format(make: Callable[[], Decoder], data: bytes, rounds: int = 10) -> None:
    """Checks that a decoder of ``make()`` gives the same rows and the same rejects however ``data`` is cut."""
    whole = _plain(make(), [data])
    for seed in range(rounds):
        at_most = (1, 3, 7, 64, 1000)[seed % 5]
        cut = _plain(make(), chunks(data, seed, at_most))
        assert cut == whole, f"cut at random (seed {seed}, at most {at_most}): {cut} instead of {whole}"


def _plain(
    decoder: Decoder, pieces: Sequence[bytes]
) -> tuple[list[list[Any]], int, list[tuple[int, int, str]]]:
    columns, rows, rejects = decode_all(decoder, pieces)
    batch = Batch(decoder.output, columns, rows) if columns else None
    values = (
        []
        if batch is None
        else [[repr(row[name]) for row in batch.to_pylist()] for name in batch.schema.names]
    )
    return values, rows, rejects


async def check_source(make: Callable[[], Awaitable[ByteSource]], expected: bytes) -> None:
    """Checks a byte source that ends: the same bytes for any size of buffer, and closing twice does no harm."""
    for size in (1 << 20, 4096, 7):
        source = await make()
        received = bytearray()
        async for stream in source.streams():
            received += await _drain(stream, size)
            await stream.aclose()
            await stream.aclose()
        await source.aclose()
        await source.aclose()
        assert bytes(received) == expected, f"with buffers of {size} bytes: {bytes(received)!r}"


async def _drain(stream: ByteStream, size: int) -> bytes:
    received, buffer = bytearray(), bytearray(size)
    while count := await stream.read_into(memoryview(buffer)):
        assert 0 < count <= size, f"read {count} bytes into a buffer of {size}"
        received += buffer[:count]
    return bytes(received)


async def check_sink(
    make: Callable[[], SinkConnector], read_back: Callable[[], bytes], pieces: Sequence[bytes]
) -> None:
    """Checks a byte sink: once closed, ``read_back`` gives all bytes in order; closing twice does no harm."""
    sink = make()
    await sink.open()
    for piece in pieces:
        await sink.write(piece)
    await sink.flush()
    await sink.aclose()
    await sink.aclose()
    assert read_back() == b"".join(pieces)


def check_aggregate(
    cls: type[Aggregate],
    *columns: Sequence[Any],
    rounds: int = 20,
    tolerance: float = 1e-9,
    saved: bool = True,
) -> None:
    """Checks an aggregate on given rows, an array or list for each argument.

    The result is the same (floats: within ``tolerance``, relative) and of the declared type however the rows are cut into updates and dealt
    out to objects that are merged; reading the result changes nothing; merging, and later updates, leave the merged object unchanged.
    Saving and loading an object between updates does not change the result (``saved=False``: not checked).
    """
    says = declared(cls)
    arrays = [
        np.array(column, None if np.asarray(column).dtype.kind in "biufM" else object) for column in columns
    ]
    count = len(arrays[0])
    type_ = DataType(says.returns) if len(says.returns) > 1 else None

    def read(state: Aggregate, what: str) -> Any:
        value = state.finish()
        assert _same(value, state.finish(), 0), f"{what}: finish changed the object"
        if type_ is None:
            return value
        try:
            return checked_value(value, type_)
        except ValueError as error:
            raise AssertionError(f"{what}: finish gave {error}") from None

    def fed(state: Aggregate, rows: Sequence[int]) -> Aggregate:
        if rows:
            state.update(*(array[list(rows)] for array in arrays))
        return state

    def reloaded(state: Aggregate) -> Any:
        if not saved:
            return state
        try:
            return loaded_object(cls, saved_object(state, qualified(cls)), qualified(cls))
        except StageError as error:
            raise AssertionError(f"it cannot be saved and loaded: {error}") from error

    read(reloaded(cls()), "of no rows")
    expected = read(fed(cls(), range(count)), "of all rows")
    for seed in range(rounds):
        chance = random.Random(seed)
        cuts = sorted(chance.choices(range(count + 1), k=chance.randint(0, 5)))
        state: Any = cls()
        for begin, stop in zip([0, *cuts], [*cuts, count], strict=True):
            value = read(fed(state, range(begin, stop)), f"after {stop} rows")
            state = reloaded(state)
            again = read(state, f"after {stop} rows, saved and loaded")
            assert _same(value, again, 0), (
                f"saved and loaded after {stop} rows: {again!r} instead of {value!r}"
            )
        found = read(state, "of all rows")
        assert _same(found, expected, tolerance), f"cut at {cuts}: {found!r} instead of {expected!r}"
        dealt = [chance.randrange(4) for _ in range(count)]
        parts = [fed(cls(), [row for row in range(count) if dealt[row] == part]) for part in range(4)]
        before = [read(part, "of a part") for part in parts]
        merged = cls()
        for part in parts:
            merged.merge(part)
        found = read(merged, "merged")
        assert _same(found, expected, tolerance), f"merged of {dealt}: {found!r} instead of {expected!r}"
        fed(merged, range(count))
        after = [read(part, "of a part") for part in parts]
        assert all(map(_same, before, after, [0.0] * 4)), (
            f"merging changed what was merged: {after} from {before}"
        )


def _same(a: Any, b: Any, tolerance: float) -> bool:
    if isinstance(a, float) and isinstance(b, float):
        return a == b or (a != a and b != b) or abs(a - b) <= tolerance * max(abs(a), abs(b))
    return bool(a is b or a == b)
