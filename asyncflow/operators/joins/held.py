"""Columns of waiting rows by place: rows are put in as they come, and leave about in the order in which they came.

Places count up; those from ``first`` on are held, in rings whose sizes are powers of two.  Texts lie one after the other in the order of
their places; those before the first place's make room for others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asyncflow._kernels import interval as interval_kernel
from asyncflow.model.columns import (
    MAX_TEXT_BYTES,
    BoolArray,
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
from asyncflow.operators.joins.rows import kept_type, restored_types

FEW_ROWS = 1 << 6
FEW_BYTES = 1 << 12


def _grown(items: NDArray[Any], size: int) -> NDArray[Any]:
    """A longer array that begins with these items; the same one further on, where there is room behind it.  Room that is not touched costs
    nothing, and the system zeroes what is touched first."""
    if isinstance(items.base, np.ndarray) and size <= len(items.base):
        return items.base[:size]
    grown = np.empty(4 * size, items.dtype)[:size]
    grown[: len(items)] = items
    return grown


class _Ring:
    """An array by place.  ``size``: a power of two."""

    def __init__(self, dtype: Any, size: int, fill: bool = False) -> None:
        self._items: NDArray[Any] = np.full(size, fill, dtype) if fill else np.empty(size, dtype)

    def put(self, first: int, items: NDArray[Any]) -> None:
        count, at = len(items), first & (len(self._items) - 1)
        head = min(count, len(self._items) - at)
        self._items[at : at + head] = items[:head]
        self._items[: count - head] = items[head:]

    def take(self, places: Int64Array) -> NDArray[Any]:
        if self._items.itemsize == 8:
            return interval_kernel.take_places(self._items.view(np.int64), places).view(self._items.dtype)
        found: NDArray[Any] = self._items.take(places & (len(self._items) - 1))
        return found

    def spans(self, places: Int64Array, origin: int) -> tuple[Int64Array, Int32Array]:
        """Of items that are where texts start, from ``origin``: where those of these places do, and their lengths."""
        return interval_kernel.take_spans(self._items, places, origin)

    def resize(self, size: int, first: int, following: int) -> None:
        """The items of places ``first`` to ``following`` in a ring of another size; of one that grows, those of one half move at most."""
        before = self._items
        if size > len(before):
            self._items = _grown(before, size)
        else:
            self._items = np.empty(size, before.dtype)
        while first < following:
            at = first & (len(before) - 1)
            count = min(following - first, len(before) - at)
            if size < len(before) or first & (size - 1) != at:
                self.put(first, before[at : at + count])
            first += count

    @property
    def nbytes(self) -> int:
        return self._items.nbytes


class _Held:
    """What fixed columns and texts share: which of the places hold a value; nothing is kept until the first null comes."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._valid: _Ring | None = None

    def _put_valid(self, first: int, valid: BoolArray | None, count: int) -> None:
        if self._valid is None:
            if valid is None:
                return
            self._valid = _Ring(np.bool_, self._size, fill=True)
        self._valid.put(first, np.ones(count, np.bool_) if valid is None else valid)

    def _take_valid(self, places: Int64Array) -> BoolArray | None:
        if self._valid is None:
            return None
        found: BoolArray = self._valid.take(places)
        return None if found.all() else found

    def _rings(self) -> Iterator[_Ring]:
        if self._valid is not None:
            yield self._valid

    def resize(self, size: int, first: int, following: int) -> None:
        self._size = size
        for ring in self._rings():
            ring.resize(size, first, following)

    @property
    def nbytes(self) -> int:
        return 0 if self._valid is None else self._valid.nbytes


class _FixedHeld(_Held):
    def __init__(self, dtype: np.dtype[Any], size: int) -> None:
        super().__init__(size)
        self._values = _Ring(dtype, size)

    def put(self, first: int, column: FixedColumn) -> None:
        self._values.put(first, column.values)
        self._put_valid(first, column.valid, len(column))

    def take(self, places: Int64Array) -> FixedColumn:
        return FixedColumn(self._values.take(places), self._take_valid(places))

    def runs(self, places: Int64Array) -> Iterator[FixedColumn]:
        """The values of these places, as runs of a column."""
        yield self.take(places)

    def drop_before(self, first: int, following: int) -> None:
        """Their values are written over."""

    @property
    def nbytes(self) -> int:
        return super().nbytes + self._values.nbytes

    def _rings(self) -> Iterator[_Ring]:
        yield from super()._rings()
        yield self._values


class _TextHeld(_Held):
    """``_starts``: where a text begins, counted from the first one that ever came, and so where the one before it ends; ``_origin``: where
    ``_data`` begins."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self._data = np.empty(FEW_BYTES, np.uint8)
        self._origin = self._first = self._end = 0
        self._starts = _Ring(np.int64, size)

    def put(self, first: int, column: StringColumn) -> None:
        added = int(column.lengths.sum(dtype=np.int64))
        if self._end - self._origin + added > len(self._data):
            self._make_room(added)
        starts = interval_kernel.put_texts(
            self._data, self._end - self._origin, column.data, column.starts, column.lengths
        )
        starts += self._origin
        self._end += added
        self._starts.put(first, starts)
        self._starts.put(first + len(column), np.array([self._end]))
        self._put_valid(first, column.valid, len(column))

    def take(self, places: Int64Array) -> StringColumn:
        starts, lengths = self._starts.spans(places, self._origin)
        check_text_bytes(int(lengths.sum(dtype=np.int64)))
        data, places_of = interval_kernel.take_texts(self._data, starts, lengths)
        return StringColumn(data, places_of, lengths, self._take_valid(places))

    def runs(self, places: Int64Array) -> Iterator[StringColumn]:
        """The texts of these places, as runs of a column: all together may be more than a column holds."""
        ends, begin = np.cumsum(self._starts.spans(places, 0)[1], dtype=np.int64), 0
        while begin < len(places):
            room = MAX_TEXT_BYTES + (int(ends[begin - 1]) if begin else 0)
            stop = max(int(np.searchsorted(ends, room, "right")), begin + 1)
            yield self.take(places[begin:stop])
            begin = stop

    def drop_before(self, first: int, following: int) -> None:
        self._first = int(self._starts.take(np.array([first]))[0])
        if len(self._data) > FEW_BYTES and 8 * (self._end - self._first) < len(self._data):
            self._make_room(self._end - self._first)

    @property
    def nbytes(self) -> int:
        return super().nbytes + self._starts.nbytes + len(self._data)

    def _rings(self) -> Iterator[_Ring]:
        yield from super()._rings()
        yield self._starts

    def _make_room(self, added: int) -> None:
        """The texts that are held, with room for these and as many again."""
        held, used = self._end - self._first, self._end - self._origin
        room = max(FEW_BYTES, 2 * (held + added))
        if 2 * room < len(self._data):
            data = np.empty(room, np.uint8)
        else:
            data = self._data if room <= len(self._data) else _grown(self._data, room)
            if used + added <= room:
                self._data = data
                return
        data[:held] = self._data[used - held : used]
        self._data, self._origin = data, self._first


class HeldColumns:
    """All columns of one side; the first rows say of which types they are.  The rings have room for one place more than there are rows."""

    def __init__(self) -> None:
        self._columns: list[_FixedHeld | _TextHeld] = []
        self._size = FEW_ROWS
        self._first = self._next = 0

    def put(self, columns: Sequence[Column], count: int) -> None:
        """The rows of the next ``count`` places."""
        if not count:
            return
        if not self._columns:
            self._columns = [
                _TextHeld(self._size)
                if isinstance(column, StringColumn)
                else _FixedHeld(column.values.dtype, self._size)
                for column in columns
            ]
        self._resize(self._next - self._first + count + 1)
        for held, column in zip(self._columns, columns, strict=True):
            held.put(self._next, column)  # type: ignore[arg-type]
        self._next += count

    def take(self, position: int, places: Int64Array) -> Column:
        return self._columns[position].take(places)

    def taker(self, places: Int64Array) -> Callable[[int], Column] | None:
        """Gives columns, by their positions, of the rows at these places; None where these are null: all of them are, or none."""
        return None if places[0] < 0 else partial(self.take, places=places)

    def drop_before(self, first: int) -> None:
        """Places before this one are not asked for again."""
        if first == self._first:
            return
        self._first = first
        for held in self._columns:
            held.drop_before(first, self._next)
        self._resize(self._next - first + 1)

    def move(self, kept: Int64Array) -> None:
        """The rows of these places (ascending) are at the next ones from now on; the others are gone."""
        columns = [list(held.runs(kept)) for held in self._columns]
        self._columns, self._size, self._first = [], FEW_ROWS, self._next
        for runs in zip(*columns, strict=True):
            self.put(runs, len(runs[0]))

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
        self.put(restored_columns(saved, restored_types(saved, types), rows), rows)

    @property
    def nbytes(self) -> int:
        return sum(held.nbytes for held in self._columns)

    def _resize(self, wanted: int) -> None:
        """Rings for so many rows; small again where they stand empty."""
        size = self._size
        while size < wanted:
            size *= 2
        while size > FEW_ROWS and size > 8 * wanted:
            size //= 2
        if size != self._size:
            for held in self._columns:
                held.resize(size, self._first, self._next + 1)
            self._size = size
