"""Rows of one side of a join as they are kept: columns with text of their own, and what matching needs beside them.

Kept text is copied out of the block it came in, so a row that waits does not hold on to the megabyte around it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from msgspec import Struct

from asyncflow._kernels import join as join_kernel
from asyncflow.model.batch import END_OF_TIME, NO_TIME
from asyncflow.model.columns import (
    BoolArray,
    Column,
    FixedColumn,
    IndexArray,
    Int64Array,
    StringColumn,
    concat_columns,
)
from asyncflow.model.schema import DataType


class Rows(Struct, frozen=True, eq=False):
    """``keys``: ids of the join key, equal on both sides for equal keys; ``times``; ``arrivals``: the row's number on its side;
    ``seen``: the watermark before the row.  ``matched`` is written to: whether the row stands in a result."""

    columns: tuple[Column, ...]
    keys: Int64Array
    times: Int64Array
    arrivals: Int64Array
    seen: Int64Array
    matched: BoolArray
    nbytes: int

    @classmethod
    def of(
        cls,
        columns: tuple[Column, ...],
        keys: Int64Array,
        times: Int64Array,
        arrivals: Int64Array,
        seen: Int64Array,
        matched: BoolArray | None = None,
    ) -> Rows:
        kept = tuple(packed(column) if isinstance(column, StringColumn) else column for column in columns)
        flags = np.zeros(len(keys), np.bool_) if matched is None else matched
        return cls(kept, keys, times, arrivals, seen, flags, sum(map(_nbytes, kept)) + 33 * len(keys))

    def __len__(self) -> int:
        return len(self.keys)

    def take(self, rows: IndexArray) -> Rows:
        return Rows.of(
            tuple(column.take(rows) for column in self.columns),
            self.keys[rows],
            self.times[rows],
            self.arrivals[rows],
            self.seen[rows],
            self.matched[rows],
        )


def concat_rows(parts: Sequence[Rows]) -> Rows:
    if len(parts) == 1:
        return parts[0]
    return Rows(
        tuple(concat_columns(columns) for columns in zip(*(part.columns for part in parts), strict=True)),
        np.concatenate([part.keys for part in parts]),
        np.concatenate([part.times for part in parts]),
        np.concatenate([part.arrivals for part in parts]),
        np.concatenate([part.seen for part in parts]),
        np.concatenate([part.matched for part in parts]),
        sum(part.nbytes for part in parts),
    )


def packed(column: StringColumn) -> StringColumn:
    """The same texts, one after another in an array of their own."""
    lengths = column.lengths
    total = int(lengths.sum(dtype=np.int64))
    if total == len(column.data) or total > np.iinfo(np.int32).max:
        return column
    data, starts = join_kernel.copy_texts(column.data, column.starts.astype(np.int64), lengths, None)
    return StringColumn(data, starts.astype(np.int32), lengths, column.valid)


def gathered(column: Column, rows: IndexArray) -> Column:
    """The rows at these places; text is copied once for each row that is named, however often it is."""
    if not isinstance(column, StringColumn):
        return column.take(rows)
    named, places = np.unique(rows, return_inverse=True)
    return packed(column.take(named)).take(places)


def nulls(type_: DataType, count: int) -> Column:
    invalid = np.zeros(count, np.bool_)
    if type_ is DataType.STRING:
        nothing = np.zeros(count, np.int32)
        return StringColumn(np.empty(0, np.uint8), nothing, nothing, invalid)
    return FixedColumn(np.zeros(count, type_.dtype), invalid)


def shifted(times: Int64Array, by_ns: int) -> Int64Array:
    """``times + by_ns``; what would not fit is the first or last instant there is."""
    if by_ns >= 0:
        return np.minimum(times, END_OF_TIME - 1 - by_ns) + by_ns
    return np.maximum(times, NO_TIME + 1 - by_ns) + by_ns


def shifted_time(time_ns: int, by_ns: int) -> int:
    """One time, as :func:`shifted`; the ends of time stay what they are."""
    if time_ns in (NO_TIME, END_OF_TIME):
        return time_ns
    return min(max(time_ns + by_ns, NO_TIME + 1), END_OF_TIME - 1)


def before(times: Int64Array, time_ns: int) -> BoolArray:
    """Which times lie before that one; all of them before the end of time."""
    return np.ones(len(times), np.bool_) if time_ns == END_OF_TIME else times < time_ns


def masked(column: Column, keep: BoolArray) -> Column:
    """The column with null where ``keep`` is false."""
    valid = keep if column.valid is None else column.valid & keep
    if isinstance(column, StringColumn):
        return StringColumn(column.data, column.starts, np.where(valid, column.lengths, np.int32(0)), valid)
    return FixedColumn(column.values, valid)


def _nbytes(column: Column) -> int:
    valid = 0 if column.valid is None else len(column)
    if isinstance(column, StringColumn):
        return len(column.data) + 8 * len(column) + valid
    return column.nbytes + valid
