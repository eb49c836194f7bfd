"""What a window with corrections folds and what it sends: rows spread over their windows, and slots as they were when they were sent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from msgspec import Struct

from asyncflow.model.columns import BoolArray, Column, IndexArray, Int32Array, Int64Array, concat_columns
from asyncflow.operators.window import Prepared


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


class Sent(Struct, frozen=True, eq=False):
    """Slots as they were when they were sent."""

    slots: Int32Array
    results: tuple[Column, ...]
    revisions: Int64Array
    final: BoolArray
    watermarks: Int64Array

    def take(self, rows: IndexArray) -> Sent:
        results = tuple(column.take(rows) for column in self.results)
        return Sent(self.slots[rows], results, self.revisions[rows], self.final[rows], self.watermarks[rows])


def turns_of(slots: Int32Array) -> Int64Array:
    """How many of the same slot stand before each."""
    order = np.argsort(slots, kind="stable")
    ordered = slots[order]
    begins = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
    lengths = np.diff(np.concatenate((begins, [len(slots)])))
    turns = np.empty(len(slots), np.int64)
    turns[order] = np.arange(len(slots)) - np.repeat(begins, lengths)
    return turns


def joined(parts: Sequence[Sent]) -> Sent:
    if len(parts) == 1:
        return parts[0]

    def one(arrays: list[Any]) -> Any:
        return np.concatenate(arrays)

    return Sent(
        one([part.slots for part in parts]),
        tuple(concat_columns(columns) for columns in zip(*(part.results for part in parts), strict=True)),
        one([part.revisions for part in parts]),
        one([part.final for part in parts]),
        one([part.watermarks for part in parts]),
    )
