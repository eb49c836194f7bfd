"""Rows handed over in Python: any async (or plain) iterable of dicts, dicts of arrays, batches, or bytes.

Bytes are a byte stream like any other.  The rest is taken in natural batches: while a batch is being worked on, what the iterable gives
is collected, up to a bound, and goes on together; a quiet iterable gives batches of one.  A dict that does not fit the schema is one
rejected row.
"""

from __future__ import annotations

import datetime as dt
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any

import numpy as np
from msgspec import Struct

from asyncflow.connectors.contract import ByteSource, ByteStream, SourceConnector
from asyncflow.errors import DataError
from asyncflow.model.batch import Batch
from asyncflow.model.columns import Column, FixedColumn, column_from_values, concat_columns
from asyncflow.model.schema import TIMESTAMP_UNITS, DataType, Field, Schema
from asyncflow.runtime.pull import Pull

EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


class BytesSource(ByteSource, ByteStream):
    """An (async) iterable of bytes as one byte stream."""

    name = "python"

    def __init__(self, iterable: Any) -> None:
        self.bounded = not hasattr(iterable, "__aiter__")
        self.error = ""
        self._pull = Pull(iterable, _bytes, len)
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


def _bytes(item: Any) -> bytes:
    if not isinstance(item, bytes | bytearray | memoryview):
        raise DataError(
            f"a source with a format gives bytes, not {type(item).__name__}: give bytes, or leave the format out"
        )
    return bytes(item)


class Converted(Struct, frozen=True, eq=False):
    """Objects as a batch; ``rejects``: (record, reason, position) of those that do not fit."""

    batch: Batch
    rejects: tuple[tuple[str, str, str], ...] = ()


class ObjectSource(SourceConnector):
    """An (async) iterable of dicts (rows), dicts of arrays, or batches."""

    def __init__(self, iterable: Any) -> None:
        self.bounded = not hasattr(iterable, "__aiter__")
        self._pull = Pull(iterable, taken_down)
        self._head: tuple[Any, ...] = ()
        self._row = 0

    async def head(self) -> Sequence[Any]:
        """The first objects, which ``objects`` gives again; none when there are none."""
        self._head = await self._pull.taken()
        return self._head

    async def objects(self) -> AsyncIterator[Sequence[Any]]:
        """Lists of what has come since the last, at least one object each."""
        taken, self._head = self._head, ()
        while taken := taken or await self._pull.taken():
            yield taken
            taken = ()

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
        self._pull.stop()

    async def aclose(self) -> None:
        await self._pull.aclose()

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


_UNCHANGING = frozenset({int, float, str, bool, type(None), bytes, dt.datetime, dt.date, Decimal})


def taken_down(item: Any) -> Any:
    """An object as it is now, whoever writes into it later."""
    if type(item) is dict:
        if _UNCHANGING.issuperset(map(type, item.values())):
            return item.copy()
        return {key: taken_down(value) for key, value in item.items()}
    if type(item) is list:
        return [taken_down(value) for value in item]
    if isinstance(item, np.ndarray):
        return item.copy()
    return bytes(item) if type(item) is bytearray else item


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
