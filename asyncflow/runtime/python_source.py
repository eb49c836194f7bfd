"""Rows handed over in Python: any async (or plain) iterable of dicts, dicts of arrays, batches, or bytes.

Bytes are a byte stream like any other.  The rest is taken in natural batches: while a batch is being worked on, what the iterable gives
is collected, up to a bound, and goes on together; a quiet iterable gives batches of one.  A dict that does not fit the schema is one
rejected row.
"""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from msgspec import Struct

from asyncflow.connectors.contract import ByteSource, ByteStream, SourceConnector
from asyncflow.errors import DataError
from asyncflow.model.batch import Batch
from asyncflow.model.columns import Column, FixedColumn, column_from_values, concat_columns
from asyncflow.model.schema import TIMESTAMP_UNITS, DataType, Field, Schema

MAX_OBJECTS = 4096
EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def as_async(iterable: Any) -> AsyncIterator[Any]:
    """An async iterator over any iterable; TypeError when it is none."""
    if hasattr(iterable, "__aiter__"):
        iterator: AsyncIterator[Any] = iterable.__aiter__()
        return iterator
    if isinstance(iterable, Iterable) and not isinstance(iterable, str | bytes | Mapping):
        return _from_plain(iterable)
    raise TypeError(
        f"a source in Python is an (async) iterable of dicts, batches or bytes, not {type(iterable).__name__}"
    )


async def _from_plain(iterable: Iterable[Any]) -> AsyncIterator[Any]:
    for number, item in enumerate(iterable):
        if number % 1024 == 1023:
            await asyncio.sleep(0)
        yield item


async def _close(iterator: Any) -> None:
    if hasattr(iterator, "aclose"):
        await iterator.aclose()


class BytesSource(ByteSource, ByteStream):
    """An (async) iterable of bytes as one byte stream."""

    name = "python"

    def __init__(self, iterable: Any) -> None:
        self.bounded = not hasattr(iterable, "__aiter__")
        self.error = ""
        self._iterator = as_async(iterable)
        self._rest = memoryview(b"")
        self._waiting: asyncio.Task[Any] | None = None  # who waits for an item

    async def streams(self) -> AsyncIterator[ByteStream]:
        yield self

    async def read_into(self, buffer: memoryview) -> int:
        while not self._rest:
            item = None if self.error else await self._item()
            if item is None:
                return 0
            self._rest = memoryview(item).cast("B")
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count

    async def _item(self) -> Any:
        """The next item; None at the end, also when it was stopped while waiting."""
        self._waiting = task = asyncio.current_task()
        try:
            return await anext(self._iterator, None)
        except asyncio.CancelledError:
            if task is None or self._waiting is not None or task.cancelling() > 1:  # somebody else cancelled
                raise
            return None
        finally:
            if task is not None and self._waiting is None:
                task.uncancel()
            self._waiting = None

    async def stop(self) -> None:
        self.error = "stopped"
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    async def aclose(self) -> None:
        await _close(self._iterator)


class Converted(Struct, frozen=True, eq=False):
    """Objects as a batch; ``rejects``: (record, reason, position) of those that do not fit."""

    batch: Batch
    rejects: tuple[tuple[str, str, str], ...] = ()


class ObjectSource(SourceConnector):
    """An (async) iterable of dicts (rows), dicts of arrays, or batches."""

    def __init__(self, iterable: Any) -> None:
        self.bounded = not hasattr(iterable, "__aiter__")
        self._iterator = as_async(iterable)
        self._stopped = asyncio.Event()
        self._head: list[Any] = []
        self._row = 0

    async def first(self) -> Any:
        """The first object, which ``objects`` gives again; None when there is none."""
        item = await anext(self._iterator, None)
        if item is not None:
            self._head.append(item)
        return item

    async def objects(self) -> AsyncIterator[Sequence[Any]]:
        """Lists of what has come since the last, at least one object each."""
        if self._head:
            yield tuple(self._head)
            self._head.clear()
        waiting: list[Any] = []
        news, room = asyncio.Event(), asyncio.Event()

        async def collect() -> None:
            async for item in self._iterator:
                waiting.append(item)
                news.set()
                while len(waiting) >= MAX_OBJECTS:
                    room.clear()
                    await room.wait()

        collector = asyncio.create_task(collect())
        stopped = asyncio.create_task(self._stopped.wait())
        try:
            collector.add_done_callback(lambda _: news.set())
            stopped.add_done_callback(lambda _: news.set())
            while True:
                await news.wait()
                news.clear()
                if stopped.done():
                    collector.cancel()
                taken, waiting[:] = tuple(waiting), []
                room.set()
                if taken:
                    yield taken
                if stopped.done():
                    return
                if collector.done() and not waiting:
                    collector.result()
                    return
        finally:
            collector.cancel()
            stopped.cancel()
            await asyncio.gather(collector, stopped, return_exceptions=True)

    def convert(self, objects: Sequence[Any], schema: Schema, required: str | None) -> Converted:
        """One batch of all the objects, in order."""
        parts: list[Batch] = []
        rejects: list[tuple[str, str, str]] = []
        rows: list[Mapping[str, Any]] = []
        for item in objects:
            if isinstance(item, Mapping) and not _holds_arrays(item):
                rows.append(item)
                continue
            if rows:
                parts.append(self._rows(rows, schema, required, rejects))
                rows = []
            parts.append(self._columns(item, schema, required, rejects))
        if rows:
            parts.append(self._rows(rows, schema, required, rejects))
        columns = tuple(
            concat_columns([part.columns[position] for part in parts]) for position in range(len(schema))
        )
        return Converted(Batch(schema, columns, sum(part.num_rows for part in parts)), tuple(rejects))

    async def stop(self) -> None:
        self._stopped.set()

    async def aclose(self) -> None:
        self._stopped.set()
        await _close(self._iterator)

    def _rows(
        self,
        rows: Sequence[Mapping[str, Any]],
        schema: Schema,
        required: str | None,
        rejects: list[tuple[str, str, str]],
    ) -> Batch:
        readers = [(field.name, _reader(field)) for field in schema]
        values: list[list[Any]] = [[] for _ in schema]
        for row in rows:
            self._row += 1
            try:
                converted = [
                    None if (value := row.get(name)) is None else read(value) for name, read in readers
                ]
            except (ValueError, TypeError, OverflowError) as error:
                rejects.append((repr(dict(row))[:4096], str(error), f"row {self._row}"))
                continue
            if required is not None and converted[schema.index(required)] is None:
                rejects.append((repr(dict(row))[:4096], f"{required}: null event time", f"row {self._row}"))
                continue
            for column, value in zip(values, converted, strict=True):
                column.append(value)
        columns = tuple(column_from_values(f.type, column) for f, column in zip(schema, values, strict=True))
        return Batch(schema, columns, len(values[0]) if values else len(rows))

    def _columns(
        self, item: Any, schema: Schema, required: str | None, rejects: list[tuple[str, str, str]]
    ) -> Batch:
        if isinstance(item, Batch):
            missing = [name for name in schema.names if name not in item.schema]
            if missing:
                raise DataError(f"a batch without the column {missing[0]!r}")
            columns = tuple(item.column(name) for name in schema.names)
            length = item.num_rows
        elif isinstance(item, Mapping):
            columns = tuple(_from_array(field, item) for field in schema)
            length = len(columns[0]) if columns else 0
            if any(len(column) != length for column in columns):
                raise DataError("the arrays of one batch differ in length")
        else:
            raise DataError(f"a source in Python gives dicts, batches or bytes, not {type(item).__name__}")
        batch = Batch(schema, columns, length)
        if required is not None and (valid := columns[schema.index(required)].valid) is not None:
            reason = f"{required}: null event time"
            rejects += (
                (f"row {row}", reason, f"row {self._row + row + 1}")
                for row in np.flatnonzero(~valid).tolist()
            )
            batch = batch.take(np.flatnonzero(valid))
        self._row += length
        return batch


def infer_schema(item: Any) -> Schema:
    """The schema that a first object shows; DataError when it shows none."""
    if isinstance(item, Batch):
        return item.schema
    if isinstance(item, Mapping):
        return Schema(tuple(Field(str(name), _type_of(name, value)) for name, value in item.items()))
    raise DataError(f"cannot tell a schema from {type(item).__name__}: say schema=...")


def _holds_arrays(item: Mapping[str, Any]) -> bool:
    return any(isinstance(value, np.ndarray) for value in item.values())


def _type_of(name: object, value: Any) -> DataType:
    kind = value.dtype.kind if isinstance(value, np.ndarray | np.generic) else None
    if kind is not None:
        by_kind = {"b": DataType.BOOL, "i": DataType.INT64, "u": DataType.INT64, "f": DataType.FLOAT64}
        by_kind |= {"M": DataType.TIMESTAMP, "U": DataType.STRING, "S": DataType.STRING, "O": DataType.STRING}
        if kind in by_kind:
            return by_kind[kind]
    for type_, python in (
        (DataType.BOOL, bool),
        (DataType.INT64, int),
        (DataType.FLOAT64, float),
        (DataType.STRING, str),
        (DataType.TIMESTAMP, dt.datetime),
    ):
        if isinstance(value, python):
            return type_
    raise DataError(f"cannot tell the type of column {str(name)!r} from {value!r}: say schema=...")


def _from_array(field: Field, item: Mapping[str, Any]) -> Column:
    if field.name not in item:
        raise DataError(f"arrays without the column {field.name!r}")
    values = np.asarray(item[field.name])
    valid = None
    if isinstance(item[field.name], np.ma.MaskedArray):
        valid = ~np.ma.getmaskarray(item[field.name])
    if field.type is DataType.STRING:
        texts = [None if v is None or (isinstance(v, float) and v != v) else str(v) for v in values.tolist()]
        return column_from_values(field.type, texts)
    if values.dtype.kind == "O":
        return column_from_values(
            field.type, [None if v is None else _reader(field)(v) for v in values.tolist()]
        )
    if field.type is DataType.TIMESTAMP:
        if values.dtype.kind == "M":
            valid = _both(valid, ~np.isnat(values))
            values = values.astype("datetime64[ns]").view(np.int64)
        elif values.dtype.kind in "iu":
            values = values.astype(np.int64) * TIMESTAMP_UNITS[field.unit or "ns"]
        else:
            return column_from_values(field.type, [_reader(field)(v) for v in values.tolist()])
    elif not np.can_cast(values.dtype, field.type.dtype, "same_kind"):
        raise DataError(f"column {field.name!r}: {values.dtype} does not fit {field.type.value}")
    return FixedColumn(
        np.ascontiguousarray(values, dtype=field.type.dtype), None if valid is None or valid.all() else valid
    )


def _both(one: Any, other: Any) -> Any:
    return other if one is None else one & other


def _reader(field: Field) -> Callable[[Any], Any]:
    """A function from a Python value to the column's value; raises ValueError that names the column."""
    if field.type is DataType.TIMESTAMP:
        return lambda value: read_timestamp(field, value)
    accepted, convert = _PYTHON_TYPES[field.type]

    def read(value: Any) -> Any:
        if not isinstance(value, accepted) or (isinstance(value, bool) and field.type is not DataType.BOOL):
            raise ValueError(f"{field.name}: not a {field.type.value}: {value!r}")
        converted = convert(value)
        if field.type is DataType.INT64 and not -(2**63) <= converted < 2**63:
            raise ValueError(f"{field.name}: not an int64: {value!r}")
        return converted

    return read


_PYTHON_TYPES: dict[DataType, tuple[tuple[type, ...], Callable[[Any], Any]]] = {
    DataType.BOOL: ((bool, np.bool_), bool),
    DataType.INT64: ((int, np.integer), int),
    DataType.FLOAT64: ((float, int, np.floating, np.integer), float),
    DataType.STRING: ((str,), str),
}
"""What a Python value may be to fit a column, and how it is converted."""


def read_timestamp(field: Field, value: Any) -> int:
    """A Python value as ns since the epoch; numbers are in the field's unit.  Raises ValueError."""
    unit_ns = TIMESTAMP_UNITS[field.unit or "ns"]
    if isinstance(value, str):
        try:
            value = dt.datetime.fromisoformat(value)
        except ValueError as error:
            raise ValueError(f"{field.name}: not a timestamp: {value!r}") from error
    if isinstance(value, dt.datetime):
        aware = value if value.tzinfo is not None else value.replace(tzinfo=dt.UTC)
        since = aware - EPOCH
        ns = ((since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds) * 1_000
    elif isinstance(value, np.datetime64):
        ns = int(value.astype("datetime64[ns]").astype(np.int64))
    elif isinstance(value, int | np.integer) and not isinstance(value, bool):
        ns = int(value) * unit_ns
    elif isinstance(value, float) and field.unit == "s" and np.isfinite(value):
        ns = round(value * unit_ns)
    else:
        raise ValueError(f"{field.name}: not a timestamp: {value!r}")
    if not -(2**63) <= ns < 2**63:
        raise ValueError(f"{field.name}: out of the range of timestamps: {value!r}")
    return ns
