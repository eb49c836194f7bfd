"""Rows of one side of a join as they are kept: columns, and beside them the arrays that matching needs.

Kept texts are copied out of the block that they came in: a row that waits does not hold the megabyte around it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from msgspec import Struct

from asyncflow._kernels import strings as strings_kernel
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
from asyncflow.model.saved_batches import column_parts, restored_columns
from asyncflow.model.schema import DataType
from asyncflow.model.snapshot import Copied, Frozen, Plain, Saved


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


def frozen_rows(parts: Sequence[Rows], names: Int64Array) -> Frozen:
    """The state of one side's rows, by key and arrival; ``names[key]`` is the key's id among the saved keys."""
    if not parts:
        return Copied({"types": None})
    rows = concat_rows(parts)
    keys = names[rows.keys]
    order = np.lexsort((rows.arrivals, keys))
    rows = rows.take(order)
    arrays = {"keys": keys[order], "times": rows.times, "arrivals": rows.arrivals, "seen": rows.seen}
    types: list[Plain] = [kept_type(column).value for column in rows.columns]
    return Copied({"types": types}, {**column_parts(rows.columns), **arrays, "matched": rows.matched})


def restored_rows(saved: Saved, names: int, types: Mapping[int, DataType]) -> list[Rows]:
    """The rows that :func:`frozen_rows` saved, of keys below ``names``: one part, or none where there are no rows.  ``types``: those of
    columns that are known, by position.  ValueError names the field or part that does not fit."""
    if "types" in saved.fields and saved.fields["types"] is None:
        return []
    found = restored_types(saved, types)
    keys = saved.array("keys", np.int64)
    if len(keys) and not 0 <= int(keys.min()) <= int(keys.max()) < names:
        raise ValueError(f"keys: a key outside of 0..{names - 1}")
    times, arrivals, seen = (saved.array(name, np.int64, len(keys)) for name in ("times", "arrivals", "seen"))
    matched = saved.array("matched", np.bool_, len(keys)).copy()
    return [Rows.of(restored_columns(saved, found, len(keys)), keys.copy(), times, arrivals, seen, matched)]


def restored_types(saved: Saved, types: Mapping[int, DataType]) -> list[DataType]:
    """The types of the saved columns; ``types``: those that are known, by position."""
    names = saved.fields.get("types")
    if not isinstance(names, list):
        raise ValueError("types: the types of columns are wanted")  # noqa: TRY004  what was saved is wrong, not the caller
    found = []
    for position, name in enumerate(names):
        type_ = next((type_ for type_ in _KEPT if type_.value == name), None)
        if type_ is None or (position in types and _kept(types[position]) is not type_):
            raise ValueError(f"types: column {position} cannot be {name!r}")
        found.append(type_)
    if types and max(types) >= len(found):
        raise ValueError(f"types: column {max(types)} is missing")
    return found


_KEPT = (DataType.BOOL, DataType.INT64, DataType.FLOAT64, DataType.STRING)


def _kept(type_: DataType) -> DataType:
    """How values of a type are kept: a timestamp is int64."""
    return DataType.INT64 if type_ is DataType.TIMESTAMP else type_


def kept_type(column: Column) -> DataType:
    """The type of a column as its arrays tell it: a timestamp is int64."""
    if isinstance(column, StringColumn):
        return DataType.STRING
    return next(
        type_ for type_ in _KEPT if type_ is not DataType.STRING and type_.dtype == column.values.dtype
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
    data, starts = strings_kernel.copy_texts(column.data, column.starts.astype(np.int64), lengths, None)
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
