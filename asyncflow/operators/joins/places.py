"""Columns of waiting rows by place: rows are put in as they come, taken out as they are paired, and their places freed as they leave.

The ``as_of`` kernel gives places out, again and again.  Texts lie one after the other in the order in which they came; texts of rows that
left are dropped once they are the greater part.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asyncflow._kernels import strings as strings_kernel
from asyncflow.model.columns import (
    MAX_TEXT_BYTES,
    BoolArray,
    ByteArray,
    Column,
    FixedColumn,
    Int32Array,
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
    """Which places hold a value; nothing is kept until the first null comes."""

    def __init__(self) -> None:
        self.flags: BoolArray | None = None

    def put(self, places: Int64Array, valid: BoolArray | None, size: int) -> None:
        if valid is None and self.flags is None:
            return
        if self.flags is None or len(self.flags) < size:
            flags = np.ones(size, np.bool_)
            if self.flags is not None:
                flags[: len(self.flags)] = self.flags
            self.flags = flags
        self.flags[places] = True if valid is None else valid

    def take(self, places: Int64Array) -> BoolArray | None:
        if self.flags is None:
            return None
        found: BoolArray = self.flags[places]
        return None if found.all() else found

    def keep(self, places: Int64Array) -> None:
        if self.flags is not None:
            self.flags = self.flags[places]


class _FixedPlaces:
    def __init__(self, dtype: np.dtype[Any]) -> None:
        self._values: NDArray[Any] = np.empty(0, dtype)
        self.valid = _Valid()

    def put(self, places: Int64Array, column: FixedColumn, size: int) -> None:
        if len(self._values) < size:
            self._values = _grown(self._values, size)
        self._values[places] = column.values
        self.valid.put(places, column.valid, size)

    def take(self, places: Int64Array) -> FixedColumn:
        return FixedColumn(self._values[places], self.valid.take(places))

    @property
    def by_place(self) -> NDArray[Any]:
        return self._values

    def runs(self, places: Int64Array) -> Iterator[FixedColumn]:
        """The values of these places, as runs of a column."""
        yield self.take(places)

    def free(self, places: Int64Array) -> None:
        """Their values are written over."""

    def keep(self, places: Int64Array) -> None:
        self._values = self._values[places]
        self.valid.keep(places)

    def nbytes(self, rows: int) -> int:
        return rows * self._values.itemsize


class _StringPlaces:
    def __init__(self) -> None:
        self._data = np.empty(0, np.uint8)
        self._used = self._live = 0
        self._starts = np.empty(0, np.int64)
        self._lengths = np.empty(0, np.int32)
        self.valid = _Valid()

    def put(self, places: Int64Array, column: StringColumn, size: int) -> None:
        if len(self._starts) < size:
            self._starts, self._lengths = _grown(self._starts, size), _grown(self._lengths, size)
        own = packed(column)
        added = len(own.data)
        if self._used + added > len(self._data):
            self._make_room(added)
        self._data[self._used : self._used + added] = own.data
        self._starts[places] = own.starts
        self._starts[places] += self._used
        self._lengths[places] = own.lengths
        self._used += added
        self._live += int(own.lengths.sum(dtype=np.int64))
        self.valid.put(places, column.valid, size)

    def take(self, places: Int64Array) -> StringColumn:
        data, starts = strings_kernel.copy_texts(self._data, self._starts, self._lengths, places)
        check_text_bytes(len(data))
        return StringColumn(data, starts.astype(np.int32), self._lengths[places], self.valid.take(places))

    @property
    def by_place(self) -> tuple[ByteArray, Int64Array, Int32Array]:
        return self._data, self._starts, self._lengths

    def runs(self, places: Int64Array) -> Iterator[StringColumn]:
        """The texts of these places, as runs of a column: all together may be more than a column holds."""
        ends, begin = np.cumsum(self._lengths[places], dtype=np.int64), 0
        while begin < len(places):
            room = MAX_TEXT_BYTES + (int(ends[begin - 1]) if begin else 0)
            stop = max(int(np.searchsorted(ends, room, "right")), begin + 1)
            yield self.take(places[begin:stop])
            begin = stop

    def free(self, places: Int64Array) -> None:
        self._live -= int(self._lengths[places].sum(dtype=np.int64))
        self._starts[places] = 0
        self._lengths[places] = 0

    def keep(self, places: Int64Array) -> None:
        self._starts, self._lengths = self._starts[places], self._lengths[places]
        self.valid.keep(places)
        self._make_room(0)

    def nbytes(self, rows: int) -> int:
        return rows * 12 + self._live

    def _make_room(self, added: int) -> None:
        """All texts side by side, with room for as many again."""
        data, self._starts = strings_kernel.copy_texts(self._data, self._starts, self._lengths, None)
        self._used = len(data)
        self._data = _grown(data, max(FEW_BYTES, 2 * (self._used + added)))


class PlacedColumns:
    """All columns of one side; the first rows say of which types they are."""

    def __init__(self) -> None:
        self._columns: list[_FixedPlaces | _StringPlaces] = []
        self._size = 0

    def put(self, places: Int64Array, columns: Sequence[Column], top: int) -> None:
        """``top``: places from there on were never given out."""
        if top > self._size:
            self._size = max(top, 2 * self._size)
        if not self._columns:
            self._columns = [
                _StringPlaces() if isinstance(column, StringColumn) else _FixedPlaces(column.values.dtype)
                for column in columns
            ]
        for held, column in zip(self._columns, columns, strict=True):
            held.put(places, column, self._size)  # type: ignore[arg-type]

    def take(self, position: int, places: Int64Array) -> Column:
        return self._columns[position].take(places)

    def valid(self, position: int) -> BoolArray | None:
        """By place, what is not null (None: all)."""
        return self._columns[position].valid.flags

    def values(self, position: int) -> NDArray[Any]:
        """The values of a fixed column by place."""
        column = self._columns[position]
        assert isinstance(column, _FixedPlaces)
        return column.by_place

    def texts(self, position: int) -> tuple[ByteArray, Int64Array, Int32Array]:
        """Texts by place: their bytes, where each starts, its length."""
        column = self._columns[position]
        assert isinstance(column, _StringPlaces)
        return column.by_place

    def free(self, places: Int64Array) -> None:
        for held in self._columns:
            held.free(places)

    def keep(self, places: Int64Array) -> None:
        """Place ``places[i]`` becomes i; the others are free."""
        self._size = len(places)
        for held in self._columns:
            held.keep(places)

    def frozen(self, places: Int64Array) -> Frozen:
        """The columns of these places' rows, in this order."""
        if not len(places):
            return Copied({"types": None})
        columns: list[list[Column]] = [[*held.runs(places)] for held in self._columns]
        types: list[Plain] = [kept_type(runs[0]).value for runs in columns]
        return Copied({"types": types}, parts_of_runs(columns))

    def restore(self, saved: Saved, rows: int, types: Mapping[int, DataType]) -> None:
        """Puts saved columns of ``rows`` rows into places 0, 1, ...; ``types``: of columns that are known, by position."""
        if "types" in saved.fields and saved.fields["types"] is None and not rows:
            return
        columns = restored_columns(saved, restored_types(saved, types), rows)
        self.put(np.arange(rows), columns, rows)

    def nbytes(self, rows: int) -> int:
        return sum(held.nbytes(rows) for held in self._columns)
