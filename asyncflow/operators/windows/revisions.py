"""The two halves of a window with corrections: spreads rows over their windows, and decides when slots are sent."""

from __future__ import annotations

import numpy as np
from msgspec import Struct

from asyncflow.model.columns import BoolArray, IndexArray, Int32Array, Int64Array
from asyncflow.operators.parts.part import Prepared


class Entries(Struct, frozen=True, eq=False):
    """Rows as they are folded: positions among them are also positions in ``clock``, the stage's watermark before each of them."""

    time: Int64Array
    clock: Int64Array
    keys: Int32Array
    prepared: Prepared

    def part(self, start: int, stop: int) -> Entries:
        prepared = Prepared(
            (),
            tuple(column.slice(start, stop) for column in self.prepared.inputs),
            tuple(mask[start:stop] for mask in self.prepared.masks),
        )
        return Entries(self.time[start:stop], self.clock[start:stop], self.keys[start:stop], prepared)

    def take(self, rows: IndexArray) -> Entries:
        prepared = Prepared(
            (),
            tuple(column.take(rows) for column in self.prepared.inputs),
            tuple(mask[rows] for mask in self.prepared.masks),
        )
        return Entries(self.time[rows], self.clock[rows], self.keys[rows], prepared)


class SentRows:
    """When rows were sent and for the last time or not; what they say is taken down by the window state."""

    def __init__(self) -> None:
        self.size = 0
        self._parts: list[tuple[int, int, Int64Array | int, BoolArray | bool]] = []
        self._moved: list[tuple[int, IndexArray]] = []

    def add(self, count: int, watermarks: Int64Array | int, final: BoolArray | bool) -> None:
        self._parts.append((self.size, self.size + count, watermarks, final))
        self.size += count

    def reorder(self, begin: int, order: IndexArray) -> None:
        """The last rows, from ``begin`` on, are to come out in this order."""
        self._moved.append((begin, order))

    def take(self) -> tuple[Int64Array, BoolArray, IndexArray | None]:
        """Watermark of each row and whether it is the last, and the order they come out in (None: as they are)."""
        watermarks, final = np.empty(self.size, np.int64), np.empty(self.size, np.bool_)
        for begin, stop, at, last in self._parts:
            watermarks[begin:stop], final[begin:stop] = at, last
        order = None
        if self._moved:
            order = np.arange(self.size)
            for begin, places in self._moved:
                order[begin : begin + len(places)] = begin + places
        self.size, self._parts, self._moved = 0, [], []
        return watermarks, final, order


def turns_of(slots: Int32Array) -> Int64Array:
    """How many of the same slot stand before each."""
    order = np.argsort(slots, kind="stable")
    ordered = slots[order]
    begins = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
    lengths = np.diff(np.concatenate((begins, [len(slots)])))
    turns = np.empty(len(slots), np.int64)
    turns[order] = np.arange(len(slots)) - np.repeat(begins, lengths)
    return turns
