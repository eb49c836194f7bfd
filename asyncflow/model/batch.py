"""Batch: rows of a table as columns, with event times and the watermark before each row.

The source sets a row's event time, which stands beside the columns (``time``).  The watermark *before* row i, that of
the row's own source, is::

    watermarks[i]                                                     where ``watermarks`` is given
    max(watermark_before, max(time[0..i-1]) - delay_ns)               where it is None (no row was taken out since the source)

A batch can be cut, filtered and concatenated, and which rows are late stays the same.  ``NO_TIME`` is minus infinity
(no row was seen yet), ``END_OF_TIME`` plus infinity.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
from msgspec import Struct
from msgspec.structs import replace
from numpy.typing import NDArray

from asyncflow.errors import MissingExtraError
from asyncflow.model.columns import Column, FixedColumn, IndexArray, Int64Array, StringColumn, concat_columns
from asyncflow.model.schema import DataType, Schema

NO_TIME = -(2**63)
END_OF_TIME = 2**63 - 1


class Batch(Struct, frozen=True, eq=False):
    """Rows of one table.  Frozen; ``columns[i]`` belongs to ``schema.fields[i]`` and has ``num_rows`` rows.

    ``time``: int64 ns event time per row, or None where rows have none.  ``origin``: for rows of one message, where it came from.
    ``ahead``: what the only reader of the table has made of exactly these columns before their turn (``operators.contract.Ahead``).
    """

    schema: Schema
    columns: tuple[Column, ...]
    num_rows: int
    time: Int64Array | None = None
    watermarks: Int64Array | None = None
    watermark_before: int = NO_TIME
    delay_ns: int = 0
    origin: Any = None
    ahead: Any = None

    # -- reading, for users ------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return self.num_rows

    def __repr__(self) -> str:
        """The schema and the first rows."""
        from asyncflow.model import preview

        return preview.text(self)

    def _repr_html_(self) -> str:
        from asyncflow.model import preview

        return preview.html(self)

    def __getitem__(self, name: str) -> NDArray[Any]:
        """A column as a numpy array: bool, int64, float64, ``datetime64[ns]`` or object (str); masked where rows are null."""
        position = self.schema.index(name)
        column = self.columns[position]
        if isinstance(column, StringColumn):
            return np.array(column.to_list(), dtype=object)
        values = column.values
        if self.schema.fields[position].type is DataType.TIMESTAMP:
            values = values.view("datetime64[ns]")
        return values if column.valid is None else np.ma.masked_array(values, mask=~column.valid)

    def to_pylist(self, *, times: Literal["ns", "datetime"] = "ns") -> list[dict[str, Any]]:
        """The rows as dicts; null is None, a timestamp is an int (ns since the epoch, UTC), or with ``times="datetime"`` a datetime in UTC
        (digits below the microsecond are cut off)."""
        if times not in ("ns", "datetime"):
            raise ValueError(f'times is "ns" or "datetime", not {times!r}')
        lists = [_column_list(column) for column in self.columns]
        if times == "datetime":
            for place, field in enumerate(self.schema):
                if field.type is DataType.TIMESTAMP:
                    lists[place] = [None if ns is None else _datetime(ns) for ns in lists[place]]
        names = self.schema.names
        if not lists:
            return [{} for _ in range(self.num_rows)]
        return [dict(zip(names, row, strict=True)) for row in zip(*lists, strict=True)]

    def to_pandas(self) -> Any:
        """A pandas DataFrame (extra ``pandas``)."""
        try:
            import pandas as pd
        except ImportError as error:
            raise MissingExtraError.of("pandas", "pandas") from error
        frame = {}
        for field, column in zip(self.schema, self.columns, strict=True):
            if isinstance(column, StringColumn):
                frame[field.name] = pd.array(column.to_list(), dtype="string")
            elif field.type is DataType.TIMESTAMP:
                values = column.values.view("datetime64[ns]").copy()
                if column.valid is not None:
                    values[~column.valid] = np.datetime64("NaT")
                frame[field.name] = pd.Series(values).dt.tz_localize("UTC")
            elif column.valid is not None:
                frame[field.name] = pd.Series(_column_list(column), dtype=_PANDAS_NULLABLE[field.type])
            else:
                frame[field.name] = pd.Series(column.values)
        return pd.DataFrame(frame)

    def to_arrow(self) -> Any:
        """A pyarrow Table (extra ``arrow``)."""
        try:
            import pyarrow as pa
        except ImportError as error:
            raise MissingExtraError.of("pyarrow", "arrow") from error
        arrow_types = {
            DataType.BOOL: pa.bool_(),
            DataType.INT64: pa.int64(),
            DataType.FLOAT64: pa.float64(),
            DataType.STRING: pa.string(),
            DataType.TIMESTAMP: pa.timestamp("ns", tz="UTC"),
        }
        arrays = []
        for field, column in zip(self.schema, self.columns, strict=True):
            if isinstance(column, StringColumn):
                arrays.append(pa.array(column.to_list(), arrow_types[field.type]))
            else:
                mask = None if column.valid is None else ~column.valid
                arrays.append(pa.array(column.values, mask=mask).cast(arrow_types[field.type]))
        return pa.table(arrays, names=list(self.schema.names))

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self.to_arrow().__arrow_c_stream__(requested_schema)

    def check(self) -> None:
        """Checks types, lengths and array layout of a batch that user code has made; ValueError names the column."""
        if len(self.columns) != len(self.schema):
            raise ValueError(f"a batch of {len(self.columns)} columns with a schema of {len(self.schema)}")
        for field, column in zip(self.schema, self.columns, strict=True):
            if not isinstance(column, StringColumn if field.type is DataType.STRING else FixedColumn):
                raise ValueError(f"column {field.name!r} of {field.type.value}: {type(column).__name__}")  # noqa: TRY004
            try:
                column.check(field.type)
            except ValueError as error:
                raise ValueError(f"column {field.name!r}: {error}") from None
            _check_array(f"column {field.name!r}", column.valid, np.dtype(np.bool_), self.num_rows)
            if len(column) != self.num_rows:
                raise ValueError(
                    f"column {field.name!r} has {len(column)} rows in a batch of {self.num_rows}"
                )
        _check_array("time", self.time, np.dtype(np.int64), self.num_rows)
        _check_array("watermarks", self.watermarks, np.dtype(np.int64), self.num_rows)

    # -- for operators -----------------------------------------------------------------------------------------------

    @property
    def nbytes(self) -> int:
        """Bytes of memory, about; the bound of a channel counts these."""
        count = 64 if self.time is None else 64 + 16 * self.num_rows
        for column in self.columns:
            count += column.nbytes
        return count if self.ahead is None else count + self.ahead.nbytes

    def counted(self) -> Batch:
        """The same batch, once its bytes are counted: who asks for ``nbytes`` later is told at once."""
        assert self.nbytes >= 0
        return self

    def column(self, name: str) -> Column:
        return self.columns[self.schema.index(name)]

    def select(self, names: Sequence[str]) -> Batch:
        """The same rows and times with these columns, in this order."""
        return self.with_columns(self.schema.select(names), tuple(self.column(name) for name in names))

    def compact(self) -> Batch:
        """The same rows with texts in memory of their own, so that a kept batch does not keep the source's blocks."""
        columns = (c.compact() if isinstance(c, StringColumn) else c for c in self.columns)
        return replace(self, columns=tuple(columns))

    def with_columns(self, schema: Schema, columns: tuple[Column, ...]) -> Batch:
        """The same rows and times with other columns."""
        return replace(self, schema=schema, columns=columns)

    def row_watermarks(self) -> Int64Array:
        """int64 ns, the watermark before each row (see the module); requires ``time``."""
        if self.watermarks is not None:
            return self.watermarks
        assert self.time is not None
        return watermarks_of(self.time, self.watermark_before, self.delay_ns)

    def settled(self, watermark_before: int) -> Batch:
        """The same rows of one source, made without the watermark before the source's batch, which is known now: no row's watermark is
        less.  The array of watermarks is written to."""
        if self.watermarks is not None:  # they never fall from row to row
            self.watermarks[: np.searchsorted(self.watermarks, watermark_before)] = watermark_before
        ahead = None if self.ahead is None else self.ahead.settled(watermark_before)
        return replace(self, watermark_before=watermark_before, ahead=ahead)

    def take(self, rows: IndexArray) -> Batch:
        """The rows at these positions; keeps the watermark before each of them.  Few rows have texts of their own: they would keep the
        source's block, of which a channel counts only their part."""
        columns = tuple(column.take(rows) for column in self.columns)
        if 2 * len(rows) < self.num_rows:
            columns = tuple(_apart(column) for column in columns)
        return replace(
            self,
            columns=columns,
            num_rows=len(rows),
            time=None if self.time is None else self.time[rows],
            watermarks=None if self.time is None else self.row_watermarks()[rows],
        )

    def slice(self, start: int, stop: int) -> Batch:
        """Rows ``start`` to ``stop`` (no text is copied); keeps the watermark before each of them."""
        return replace(
            self,
            columns=tuple(column.slice(start, stop) for column in self.columns),
            num_rows=stop - start,
            time=None if self.time is None else self.time[start:stop],
            watermarks=None if self.time is None else self.row_watermarks()[start:stop],
        )


def _apart(column: Column) -> Column:
    """The column without the bytes that it does not need, where these are more than what it needs."""
    return (
        column.compact() if isinstance(column, StringColumn) and column.nbytes < len(column.data) else column
    )


def _check_array(what: str, array: object, dtype: np.dtype[Any], count: int) -> None:
    if array is None:
        return
    if not isinstance(array, np.ndarray) or array.dtype != dtype or array.shape != (count,):
        raise ValueError(f"{what}: an array of {count} {dtype} is wanted")
    if not array.flags.c_contiguous:
        raise ValueError(f"{what}: its array is not contiguous")


def watermarks_of(time: Int64Array, watermark_before: int, delay_ns: int) -> Int64Array:
    """The watermark before each row of a source (int64 ns); ``watermark_before``: before the first row."""
    before = np.empty(len(time), np.int64)
    if len(time):
        before[0] = watermark_before
        seen = before[1:]
        if (time[1:] >= time[:-1]).all():  # a tenth of the cost of the other way
            seen[:] = time[:-1]
        else:
            np.maximum.accumulate(time[:-1], out=seen)
        least = watermark_before + delay_ns
        if least > END_OF_TIME:
            seen[:] = watermark_before
        else:  # ``seen`` never falls: the times below the known watermark are a prefix
            seen[: np.searchsorted(seen, least)] = least
            np.subtract(seen, delay_ns, out=seen)
    return before


_PANDAS_NULLABLE = {DataType.BOOL: "boolean", DataType.INT64: "Int64", DataType.FLOAT64: "Float64"}


def _datetime(ns: int) -> dt.datetime:
    return _EPOCH + dt.timedelta(microseconds=ns // 1000)


_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def _column_list(column: Column) -> list[Any]:
    if isinstance(column, StringColumn):
        return column.to_list()
    values: list[Any] = column.values.tolist()
    if column.valid is not None:
        for row in np.flatnonzero(~column.valid).tolist():
            values[row] = None
    return values


def concat_batches(batches: Sequence[Batch]) -> Batch:
    """One batch from several of the same schema, rows in order; each row keeps its own watermark."""
    if len(batches) == 1:
        return batches[0]
    first = batches[0]
    timed = first.time is not None
    return replace(
        first,
        columns=tuple(concat_columns(parts) for parts in zip(*(b.columns for b in batches), strict=True)),
        num_rows=sum(b.num_rows for b in batches),
        time=np.concatenate([b.time for b in batches if b.time is not None]) if timed else None,
        watermarks=np.concatenate([b.row_watermarks() for b in batches]) if timed else None,
    )


def iter_slices(batch: Batch, max_rows: int) -> Iterator[Batch]:
    """The batch in pieces of at most ``max_rows`` rows."""
    if batch.num_rows <= max_rows:
        yield batch
        return
    for start in range(0, batch.num_rows, max_rows):
        yield batch.slice(start, min(start + max_rows, batch.num_rows))


def iter_pieces(batch: Batch, max_rows: int, max_bytes: int) -> Iterator[Batch]:
    """The batch in pieces of at most ``max_rows`` rows and ``max_bytes``, and at least one row; a text counts once for each row."""
    if batch.nbytes <= max_bytes:
        yield from iter_slices(batch, max_rows)
        return
    sizes = np.full(batch.num_rows, 16, np.int64)
    for column in batch.columns:
        sizes += column.lengths if isinstance(column, StringColumn) else column.values.itemsize
    ends = np.cumsum(sizes)
    start = 0
    while start < batch.num_rows:
        room = max_bytes + (int(ends[start - 1]) if start else 0)
        stop = max(int(np.searchsorted(ends, room, "right")), start + 1)
        stop = min(stop, start + max_rows)
        yield batch.slice(start, stop)
        start = stop


__all__ = ["END_OF_TIME", "NO_TIME", "Batch", "FixedColumn", "concat_batches", "iter_pieces", "iter_slices"]
