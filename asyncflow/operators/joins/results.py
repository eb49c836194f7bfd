"""Result rows of a join: their columns, and pairs of positions in batches in the order of the results."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import numpy as np
from msgspec import Struct

from asyncflow.model.batch import END_OF_TIME, Batch, iter_slices
from asyncflow.model.columns import Column, IndexArray, Int64Array, concat_columns
from asyncflow.model.schema import DataType, Schema
from asyncflow.operators.joins.rows import Rows, gathered, nulls, shifted
from asyncflow.operators.pieces import MAX_OUTPUT_ROWS

MAX_PAIRS = 1 << 20
"""About how many pairs are worked on at once; more only where they are of one instant."""


class Shape(Struct, frozen=True):
    """Where the columns of a result come from.  ``right``: the right columns that are taken; ``merged``: for each key that stands once,
    its left and right column.  Empty ``right`` and ``merged`` for results of left rows alone."""

    schema: Schema
    left: tuple[int, ...]
    right: tuple[int, ...]
    merged: tuple[tuple[int, int], ...] = ()

    def columns(
        self,
        left: Callable[[int], Column] | None,
        right: Callable[[int], Column] | None,
        count: int,
    ) -> tuple[Column, ...]:
        """``count`` rows, each side's columns by their position there; a side that is None gives nulls, but for the keys that the other
        one has too."""
        from_right = dict(self.merged)
        found: list[Column] = []
        types = [field.type for field in self.schema]
        for place, position in enumerate(self.left):
            if left is not None:
                found.append(left(position))
            elif right is not None and position in from_right:
                found.append(right(from_right[position]))
            else:
                found.append(nulls(types[place], count))
        for place, position in enumerate(self.right, len(self.left)):
            found.append(nulls(types[place], count) if right is None else right(position))
        return tuple(found)

    def types(self, port: int) -> dict[int, DataType]:
        """The types of one side's columns that results have, by position (0: of the left side, 1: of the right)."""
        fields = self.schema.fields
        if port == 0:
            return {position: fields[place].type for place, position in enumerate(self.left)}
        return {position: fields[place].type for place, position in enumerate(self.right, len(self.left))}


Taker = Callable[[Int64Array], Callable[[int], Column] | None]
"""Of one side's rows at these places (-1: null): gives their columns, by position; None where all are null."""


def of_places(
    shape: Shape, takers: tuple[Taker, Taker], places: tuple[Int64Array, Int64Array]
) -> tuple[Column, ...]:
    """The columns of results from rows of both sides at these places; -1: that side is null.

    A side's taker is asked for places that are all null or none of them."""
    left, right = places

    def gathered(left: Int64Array, right: Int64Array) -> tuple[Column, ...]:
        return shape.columns(takers[0](left), takers[1](right), len(left))

    if left.min() >= 0 and right.min() >= 0:
        return gathered(left, right)
    sides = ((left != -1) + 2 * (right != -1)).astype(np.int8)
    if (sides == sides[0]).all():
        return gathered(left, right)
    # Each column from results with the left side, with the right one, with both, and then back in order.
    order = np.argsort(sides, kind="stable")
    cuts = np.searchsorted(sides[order], [1, 2, 3, 4])
    parts = [gathered(left[order[a:b]], right[order[a:b]]) for a, b in pairwise(cuts) if b > a]
    place: IndexArray = np.empty(len(order), np.intp)
    place[order] = np.arange(len(order))
    return tuple(concat_columns(each).take(place) for each in zip(*parts, strict=True))


def taker(columns: tuple[Column, ...], rows: IndexArray) -> Callable[[int], Column]:
    """A column of these by its position, of these rows."""
    return lambda position: gathered(columns[position], rows)


class Piece(Struct, frozen=True, eq=False):
    """Result rows from one table of rows on each side (None: that side is null).  ``release``: when each becomes known, ns."""

    left: Rows | None
    left_rows: IndexArray
    right: Rows | None
    right_rows: IndexArray
    release: Int64Array


_NONE: IndexArray = np.empty(0, np.intp)


def left_alone(rows: Rows, places: IndexArray, release: Int64Array) -> Piece:
    return Piece(rows, places, None, _NONE, release)


def right_alone(rows: Rows, places: IndexArray, release: Int64Array) -> Piece:
    return Piece(None, _NONE, rows, places, release)


def batches(shape: Shape, pieces: Sequence[Piece], hold_ns: int) -> Iterator[Batch]:
    """The pieces' rows ordered by (release, left arrival, right arrival), in batches; each piece is in that order.

    ``hold_ns``: how long before its release the time of a row may lie; the watermark before a row is its release less that.
    """
    pieces = [piece for piece in pieces if len(piece.release)]
    if not pieces:
        return
    parts, times, firsts, seconds = [], [], [], []
    for piece in pieces:
        left, right, count = piece.left, piece.right, len(piece.release)
        parts.append(
            shape.columns(
                None if left is None else taker(left.columns, piece.left_rows),
                None if right is None else taker(right.columns, piece.right_rows),
                count,
            )
        )
        time_of = [
            s.times[r] for s, r in ((left, piece.left_rows), (right, piece.right_rows)) if s is not None
        ]
        times.append(time_of[0] if len(time_of) == 1 else np.maximum(*time_of))
        absent = np.full(count, END_OF_TIME, np.int64)
        firsts.append(absent if left is None else left.arrivals[piece.left_rows])
        seconds.append(absent if right is None else right.arrivals[piece.right_rows])
    if len(pieces) == 1:
        alone = Batch(
            shape.schema,
            parts[0],
            len(pieces[0].release),
            times[0],
            watermarks=shifted(pieces[0].release, -hold_ns),
        )
        yield from iter_slices(alone, MAX_OUTPUT_ROWS)
        return
    release = np.concatenate([piece.release for piece in pieces])
    order = np.lexsort((np.concatenate(seconds), np.concatenate(firsts), release))
    release = release[order]
    whole = Batch(
        shape.schema,
        tuple(concat_columns(columns).take(order) for columns in zip(*parts, strict=True)),
        len(release),
        np.concatenate(times)[order],
        watermarks=shifted(release, -hold_ns),
    )
    yield from iter_slices(whole, MAX_OUTPUT_ROWS)


def mark(piece: Piece) -> None:
    """Its rows stand in a result."""
    if piece.left is not None:
        piece.left.matched[piece.left_rows] = True
    if piece.right is not None:
        piece.right.matched[piece.right_rows] = True


def expanded(first: Int64Array, count: Int64Array) -> tuple[IndexArray, IndexArray]:
    """Ranges as pairs: for each place in range i, (i, place)."""
    owner = np.repeat(np.arange(len(first)), count)
    before = np.cumsum(count) - count
    return owner, np.arange(len(owner)) - (before - first)[owner]
