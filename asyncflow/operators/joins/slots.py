"""Columns of waiting rows by slot: rows are put in as they come, taken out as they are paired, and their slots freed as they leave.

A value is at its slot.  Texts lie one after the other in the order in which they came; texts of rows that left are dropped once
they are the greater part.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asyncflow._kernels import join as join_kernel
from asyncflow.model.columns import (
    MAX_TEXT_BYTES,
    BoolArray,
    Column,
    FixedColumn,
    Int64Array,
    StringColumn,
    check_text_bytes,
)
from asyncflow.model.saved_batches import parts_of_runs, restored_columns
from asyncflow.model.schema import DataType
from asyncflow.model.snapshot import Copied, Frozen, Plain, Saved
from asyncflow.operators.joins.rows import kept_type, packed, restored_types

FEW_BYTES = 1 << 16
"""Texts of rows that left are dropped only where all texts take more bytes than this."""


def _grown(array: NDArray[Any], size: int) -> NDArray[Any]:
    grown = np.zeros(size, array.dtype)
    grown[: len(array)] = array
    return grown


class _Valid:
    """Which slots hold a value; nothing is kept until the first null comes."""

    def __init__(self) -> None:
        self._flags: BoolArray | None = None

    def put(self, slots: Int64Array, valid: BoolArray | None, size: int) -> None:
        if valid is None and self._flags is None:
            return
        if self._flags is None or len(self._flags) < size:
            flags = np.ones(size, np.bool_)
            if self._flags is not None:
                flags[: len(self._flags)] = self._flags
            self._flags = flags
        self._flags[slots] = True if valid is None else valid

    def take(self, slots: Int64Array) -> BoolArray | None:
        if self._flags is None:
            return None
        found: BoolArray = self._flags[slots]
        return None if found.all() else found

    def keep(self, slots: Int64Array) -> None:
        if self._flags is not None:
            self._flags = self._flags[slots]


class _FixedSlots:
    def __init__(self, dtype: np.dtype[Any]) -> None:
        self._values: NDArray[Any] = np.empty(0, dtype)
        self._valid = _Valid()

    def put(self, slots: Int64Array, column: FixedColumn, size: int) -> None:
        if len(self._values) < size:
            self._values = _grown(self._values, size)
        self._values[slots] = column.values
        self._valid.put(slots, column.valid, size)

    def take(self, slots: Int64Array) -> FixedColumn:
        return FixedColumn(self._values[slots], self._valid.take(slots))

    def runs(self, slots: Int64Array) -> Iterator[FixedColumn]:
        """The values of these slots, as runs of a column."""
        yield self.take(slots)

    def free(self, slots: Int64Array) -> None:
        """Their values are written over."""

    def keep(self, slots: Int64Array) -> None:
        self._values = self._values[slots]
        self._valid.keep(slots)

    def nbytes(self, rows: int) -> int:
        return rows * self._values.itemsize


class _StringSlots:
    def __init__(self) -> None:
        self._data = np.empty(0, np.uint8)
        self._used = self._live = 0
        self._starts = np.empty(0, np.int64)
        self._lengths = np.empty(0, np.int32)
        self._valid = _Valid()

    def put(self, slots: Int64Array, column: StringColumn, size: int) -> None:
        if len(self._starts) < size:
            self._starts, self._lengths = _grown(self._starts, size), _grown(self._lengths, size)
        own = packed(column)
        added = len(own.data)
        if self._used + added > len(self._data):
            self._make_room(added)
        self._data[self._used : self._used + added] = own.data
        self._starts[slots] = own.starts
        self._starts[slots] += self._used
        self._lengths[slots] = own.lengths
        self._used += added
        self._live += int(own.lengths.sum(dtype=np.int64))
        self._valid.put(slots, column.valid, size)

    def take(self, slots: Int64Array) -> StringColumn:
        data, starts = join_kernel.copy_texts(self._data, self._starts, self._lengths, slots)
        check_text_bytes(len(data))
        return StringColumn(data, starts.astype(np.int32), self._lengths[slots], self._valid.take(slots))

    def runs(self, slots: Int64Array) -> Iterator[StringColumn]:
        """The texts of these slots, as runs of a column: all together may be more than a column holds."""
        ends, begin = np.cumsum(self._lengths[slots], dtype=np.int64), 0
        while begin < len(slots):
            room = MAX_TEXT_BYTES + (int(ends[begin - 1]) if begin else 0)
            stop = max(int(np.searchsorted(ends, room, "right")), begin + 1)
            yield self.take(slots[begin:stop])
            begin = stop

    def free(self, slots: Int64Array) -> None:
        self._live -= int(self._lengths[slots].sum(dtype=np.int64))
        self._starts[slots] = 0
        self._lengths[slots] = 0

    def keep(self, slots: Int64Array) -> None:
        self._starts, self._lengths = self._starts[slots], self._lengths[slots]
        self._valid.keep(slots)
        self._make_room(0)

    def nbytes(self, rows: int) -> int:
        return rows * 12 + self._live

    def _make_room(self, added: int) -> None:
        """All texts side by side, with room for as many again."""
        data, self._starts = join_kernel.copy_texts(self._data, self._starts, self._lengths, None)
        self._used = len(data)
        self._data = _grown(data, max(FEW_BYTES, 2 * (self._used + added)))


class SlotColumns:
    """All columns of one side; the first rows say of which types they are."""

    def __init__(self) -> None:
        self._columns: list[_FixedSlots | _StringSlots] = []
        self._size = 0

    def put(self, slots: Int64Array, columns: Sequence[Column], top: int) -> None:
        """``top``: slots from there on were never given out."""
        if top > self._size:
            self._size = max(top, 2 * self._size)
        if not self._columns:
            self._columns = [
                _StringSlots() if isinstance(column, StringColumn) else _FixedSlots(column.values.dtype)
                for column in columns
            ]
        for held, column in zip(self._columns, columns, strict=True):
            held.put(slots, column, self._size)  # type: ignore[arg-type]

    def take(self, position: int, slots: Int64Array) -> Column:
        return self._columns[position].take(slots)

    def free(self, slots: Int64Array) -> None:
        for held in self._columns:
            held.free(slots)

    def keep(self, slots: Int64Array) -> None:
        """Slot ``slots[i]`` becomes i; the others are free."""
        self._size = len(slots)
        for held in self._columns:
            held.keep(slots)

    def frozen(self, slots: Int64Array) -> Frozen:
        """The columns of these slots' rows, in this order."""
        if not len(slots):
            return Copied({"types": None})
        columns: list[list[Column]] = [[*held.runs(slots)] for held in self._columns]
        types: list[Plain] = [kept_type(runs[0]).value for runs in columns]
        return Copied({"types": types}, parts_of_runs(columns))

    def restore(self, saved: Saved, rows: int, types: Mapping[int, DataType]) -> None:
        """Puts saved columns of ``rows`` rows into slots 0, 1, ...; ``types``: of columns that are known, by position."""
        if "types" in saved.fields and saved.fields["types"] is None and not rows:
            return
        columns = restored_columns(saved, restored_types(saved, types), rows)
        self.put(np.arange(rows), columns, rows)

    def nbytes(self, rows: int) -> int:
        return sum(held.nbytes(rows) for held in self._columns)
