"""Columns of one side of an as-of join by the references that the ``as_of`` kernel gives to rows.

The rows of the last batch are *fresh*: their columns are the batch's own, and most of them are paired and gone before the next batch
comes.  Those that stay are copied to places (``places.py``) then, and the batch is let go: at most one batch of each side is kept alive.
A reference is a place, -2 - i for row i of the last batch, or -1 for null.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asyncflow._kernels import as_of as as_of_kernel
from asyncflow.model.columns import BoolArray, Column, FixedColumn, Int64Array, StringColumn
from asyncflow.model.schema import DataType
from asyncflow.model.snapshot import Frozen, Saved
from asyncflow.operators.joins.places import PlacedColumns
from asyncflow.operators.joins.rows import masked


class ReferredColumns:
    """All columns of one side; the first rows say of which types they are."""

    def __init__(self) -> None:
        self._placed = PlacedColumns()
        self._placed_rows = 0
        self._fresh: Sequence[Column] = ()
        self._fresh_bytes = 0

    def hold(self, columns: Sequence[Column]) -> None:
        """The columns of a batch, whose rows are fresh; those of the batch before are settled."""
        self._fresh = columns
        self._fresh_bytes = sum(column.nbytes for column in columns)

    def free(self, places: Int64Array) -> None:
        """The rows of these places have left."""
        if len(places):
            self._placed.free(places)
            self._placed_rows -= len(places)

    def settle(self, rows: Int64Array, places: Int64Array, top: int) -> None:
        """Of the last batch ``rows`` stay, at ``places``.  Places from ``top`` on were never given out."""
        if len(rows):
            self._placed.put(places, [column.take(rows) for column in self._fresh], top)
            self._placed_rows += len(rows)
        self._fresh, self._fresh_bytes = (), 0

    def taker(self, refs: Int64Array) -> Callable[[int], Column] | None:
        """Gives columns, by their positions, of the rows with these references; None where all are null."""
        absent, placed, in_a_row = as_of_kernel.kinds(refs)
        if absent == len(refs):
            return None
        if absent:
            missing = refs == -1
            take, present = self.taker(np.where(missing, refs[np.argmin(missing)], refs)), ~missing
            assert take is not None
            return lambda position: masked(take(position), present)
        if placed == len(refs):
            return partial(self._placed.take, places=refs)
        if placed:
            return partial(self._mixed, refs=refs)
        columns = self._fresh
        if in_a_row:
            first, stop = -2 - int(refs[0]), -1 - int(refs[-1])
            return lambda position: columns[position].slice(first, stop)
        rows = -2 - refs
        return lambda position: columns[position].take(rows)

    def _mixed(self, position: int, refs: Int64Array) -> Column:
        column = self._fresh[position]
        valid = _picked_valid(self._placed.valid(position), column.valid, refs)
        if isinstance(column, FixedColumn):
            return FixedColumn(_picked(self._placed.values(position), column.values, refs), valid)
        of_fresh = column.data, column.starts, column.lengths
        return StringColumn(*as_of_kernel.pick_texts(self._placed.texts(position), of_fresh, refs), valid)

    def keep(self, places: Int64Array) -> None:
        """Place ``places[i]`` becomes i; the others are free."""
        self._placed.keep(places)

    def frozen(self, places: Int64Array) -> Frozen:
        """The columns of these places' rows, in this order; no row is fresh."""
        return self._placed.frozen(places)

    def restore(self, saved: Saved, rows: int, types: Mapping[int, DataType]) -> None:
        """Puts saved columns of ``rows`` rows into places 0, 1, ...; ``types``: of columns that are known, by position."""
        self._placed.restore(saved, rows, types)
        self._placed_rows = rows

    @property
    def nbytes(self) -> int:
        return self._placed.nbytes(self._placed_rows) + self._fresh_bytes


def _picked(placed: NDArray[Any], fresh: NDArray[Any], refs: Int64Array) -> NDArray[Any]:
    values = [np.ascontiguousarray(each).view(np.uint8) for each in (placed, fresh)]
    found: NDArray[Any] = as_of_kernel.pick(values[0], values[1], placed.itemsize, refs).view(placed.dtype)
    return found


def _picked_valid(placed: BoolArray | None, fresh: BoolArray | None, refs: Int64Array) -> BoolArray | None:
    if placed is None and fresh is None:
        return None
    of_fresh = refs < 0
    found = np.ones(len(refs), np.bool_)
    if placed is not None:
        found[~of_fresh] = placed[refs[~of_fresh]]
    if fresh is not None:
        found[of_fresh] = fresh[-2 - refs[of_fresh]]
    return found
