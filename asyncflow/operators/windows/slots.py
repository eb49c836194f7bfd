"""Slots: dense ids of (window, key) pairs, facts about each, and the slots of each open window.

Keys have ids of their own (``keys``, a group table), so that slots are sorted by the ranks of their keys.  Slots of windows that
are gone are dropped once they are the greater part, together with keys that no slot has any more.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from asyncflow._kernels import groups as groups_kernel
from asyncflow._kernels import window as window_kernel
from asyncflow.model.columns import BoolArray, Column, Int32Array, Int64Array
from asyncflow.model.snapshot import Array, Copied, Frozen, Saved, nested
from asyncflow.operators.kernel_state import frozen_by_group, frozen_keys, load_kernel
from asyncflow.operators.pieces import MAX_OUTPUT_BYTES, key_columns
from asyncflow.operators.raw import column_of_raw

if TYPE_CHECKING:
    from asyncflow.operators.aggregates.python_aggregates import State

FEW_SLOTS = 1 << 15
"""Slots that no open window has are looked for only where there are more slots than this."""
NEAR_WINDOWS = 1 << 30
"""Up to so many windows apart, a window's number and a key's id share one word."""


class _Pairs:
    """Dense ids of (window, key id), in one word each for as long as all windows lie near the first."""

    def __init__(self) -> None:
        self._ids = groups_kernel.GroupTable(["int64"])
        self._base: int | None = None
        self._packed = True

    @property
    def size(self) -> int:
        return int(self._ids.size)

    @property
    def nbytes(self) -> int:
        return int(self._ids.nbytes)

    def assign(self, windows: Int64Array, keys: Int32Array) -> Int32Array:
        if self._packed and len(windows):
            least, greatest = int(windows.min()), int(windows.max())
            if self._base is None:
                self._base = max(least - NEAR_WINDOWS, np.iinfo(np.int64).min)
            if not self._base <= least <= greatest < self._base + 2 * NEAR_WINDOWS:
                self._unpack()
        ids: Int32Array = self._ids.assign(self._words(windows, keys), len(windows))
        return ids

    def columns(self, ids: Int32Array) -> tuple[Int64Array, Int64Array]:
        columns: list[Int64Array] = [raw[0].view(np.int64) for raw in self._ids.columns(ids)]
        if self._packed:
            return (columns[0] >> 32) + (self._base or 0), columns[0] & 0xFFFFFFFF
        return columns[0], columns[1]

    def _words(self, windows: Int64Array, keys: Int32Array) -> list[tuple[Int64Array, None]]:
        if self._packed:
            return [(((windows - (self._base or 0)) << 32) | keys, None)]
        return [(windows, None), (keys.astype(np.int64), None)]

    def _unpack(self) -> None:
        windows, keys = self.columns(np.arange(self.size, dtype=np.int32))
        self._packed = False
        self._ids = groups_kernel.GroupTable(["int64", "int64"])
        self._ids.assign(self._words(windows, keys.astype(np.int32)), len(windows))


class _Near:
    """The slots of the window that rows are in now, by key id: found without hashing for as long as whole batches are in it."""

    def __init__(self) -> None:
        self._seen: int | None = None
        self._slots: Int32Array | None = None

    def find(self, window: int, keys: Int32Array, num_keys: int) -> Int32Array | None:
        """The slot of each key, -1 where it is not known; None while it is not worth the room: few rows of many keys, once."""
        again, self._seen = window == self._seen, window
        if not again:
            self._slots = None
        if self._slots is None and not again and 4 * len(keys) < num_keys:
            return None
        if self._slots is None or len(self._slots) < num_keys:
            grown = np.full(num_keys + num_keys // 4, -1, np.int32)
            if self._slots is not None:
                grown[: len(self._slots)] = self._slots
            self._slots = grown
        slots: Int32Array = self._slots[keys]
        return slots

    def learn(self, keys: Int32Array, slots: Int32Array) -> None:
        assert self._slots is not None
        self._slots[keys] = slots

    def forget(self) -> None:
        self._seen = self._slots = None

    @property
    def nbytes(self) -> int:
        return 0 if self._slots is None else self._slots.nbytes


class SlotTable:
    """``kinds``: the type names of the key's columns; ``state``: the window state whose groups are these slots.

    By slot (arrays of at least ``size``): ``windows``, ``key_of``, ``revisions`` (how often it was sent) and ``changed`` (since then).
    ``open``: the slots of each open window, in pieces.
    """

    def __init__(self, kinds: Sequence[str], state: State) -> None:
        self.keys = groups_kernel.GroupTable(list(kinds))
        self._pairs = _Pairs()
        self._state = state
        self.size = 0
        self._live = 0
        self._near = _Near()
        self._ranks: Int32Array = np.empty(0, np.int32)
        self._places: Int64Array = np.empty(0, np.int64)
        self._placed, self._least = 0, 0
        self._texts: list[Column] = []
        self._collect_above = FEW_SLOTS
        self.windows: Int64Array = np.empty(0, np.int64)
        self.key_of: Int32Array = np.empty(0, np.int32)
        self.revisions: Int64Array = np.empty(0, np.int64)
        self.changed: BoolArray = np.empty(0, np.bool_)
        self.open: dict[int, list[Int32Array]] = {}

    def assign(self, windows: Int64Array, keys: Int32Array) -> tuple[Int32Array, list[int]]:
        """The slot of each (window, key), and the windows that are new."""
        if not len(windows):
            return np.empty(0, np.int32), []
        alone = int(windows[0]) == int(windows[-1]) and bool((windows == windows[0]).all())
        slots = self._near.find(int(windows[0]), keys, self.keys.size) if alone else None
        if slots is None:
            slots = self._pairs.assign(windows, keys)
        elif len(new := np.flatnonzero(slots < 0)):
            slots[new] = self._pairs.assign(windows[new], keys[new])
            self._near.learn(keys[new], slots[new])
        return slots, self._extend() if self._pairs.size > self.size else []

    def _extend(self) -> list[int]:
        fresh = np.arange(self.size, self._pairs.size, dtype=np.int32)
        windows, keys = self._pairs.columns(fresh)
        self._reserve(self._pairs.size)
        self.windows[fresh], self.key_of[fresh] = windows, keys
        self.revisions[fresh], self.changed[fresh] = 0, False
        self.size = self._pairs.size
        self._live += len(fresh)
        order = np.argsort(windows, kind="stable")
        numbers, begins = np.unique(windows[order], return_index=True)
        opened = []
        for number, part in zip(numbers.tolist(), np.split(fresh[order], begins[1:]), strict=True):
            if number not in self.open:
                self.open[number] = []
                opened.append(number)
            self.open[number].append(part)
        return opened

    def _reserve(self, size: int) -> None:
        if size > len(self.windows):
            capacity = max(2 * len(self.windows), size, 64)
            self.windows = np.resize(self.windows, capacity)
            self.key_of = np.resize(self.key_of, capacity)
            self.revisions = np.resize(self.revisions, capacity)
            self.changed = np.resize(self.changed, capacity)
            self._places = np.resize(self._places, capacity)

    def of(self, window: int) -> Int32Array:
        """The slots of an open window."""
        pieces = self.open[window]
        if len(pieces) > 1:
            self.open[window] = pieces = [np.concatenate(pieces)]
        return pieces[0]

    def live(self) -> Int32Array:
        """The slots of all open windows, ascending."""
        pieces = [piece for window in self.open.values() for piece in window]
        return np.sort(np.concatenate(pieces)) if pieces else np.empty(0, np.int32)

    def in_order(self, slots: Int32Array) -> Int32Array:
        """These slots by window, then key."""
        if self.keys.size != len(self._ranks):
            self._ranks = np.empty(self.keys.size, np.int32)
            self._ranks[self.keys.order()] = np.arange(self.keys.size, dtype=np.int32)
            self._placed = 0
        if len(slots) < 2:
            return slots
        if self._placed < self.size and not self._place():
            return slots[np.lexsort((self._ranks[self.key_of[slots]], self.windows[slots]))]
        # One word of place and slot is sorted several times faster than places are sorted with the slots beside them.
        words = self._places[slots]
        words.sort()
        ordered: Int32Array = (words & 0xFFFFFFFF).astype(np.int32)
        return ordered

    def _place(self) -> bool:
        """Works out the words that slots are sorted by, of new ones or of all; False where windows are too far apart for them."""
        if self._placed:
            least, greatest = self._least, int(self.windows[self._placed : self.size].max())
            if int(self.windows[self._placed : self.size].min()) < least:
                self._placed = 0
        if not self._placed:
            least = self._least = int(self.windows[: self.size].min())
            greatest = int(self.windows[: self.size].max())
        if (greatest - least + 1) * self.keys.size >= 1 << 31:
            self._placed = 0
            return False
        fresh = slice(self._placed, self.size)
        places = (self.windows[fresh] - least) * self.keys.size + self._ranks[self.key_of[fresh]]
        self._places[fresh] = (places << 32) | np.arange(self._placed, self.size)
        self._placed = self.size
        return True

    def touch(self, slots: Int32Array) -> None:
        """They changed since they were last sent."""
        window_kernel.mark(self.changed, slots)

    def touched(self) -> Int32Array:
        """All slots that changed since they were last sent, ascending."""
        return window_kernel.marked(self.changed, self.size)

    def send(self, slots: Int32Array) -> None:
        """The state takes down a row of each."""
        self._state.send(slots, self.windows, self.key_of, self.revisions, self.changed)

    def key_columns(self, ids: Int32Array) -> list[Column]:
        """The keys of these ids.  Where they are many, their texts are not copied: all rows view those of the whole table."""
        if 4 * len(ids) < self.keys.size:
            return key_columns(self.keys, ids, MAX_OUTPUT_BYTES)
        if not self._texts or len(self._texts[0]) != self.keys.size:
            every = np.arange(self.keys.size, dtype=np.int32)
            self._texts = [column_of_raw(raw) for raw in self.keys.columns(every)]
        rows = ids.astype(np.intp)
        return [column.take(rows) for column in self._texts]

    def drop(self, window: int) -> None:
        """The window's slots are gone."""
        slots = self.of(window)
        self._state.clear(slots)
        self._near.forget()
        self.changed[slots] = False
        self._live -= len(slots)
        del self.open[window]

    def carry(self, window: int) -> list[int]:
        """What the window's slots hold goes to those of the next window, and they are gone; the next window, where it is new."""
        slots = self.of(window)
        into, opened = self.assign(np.full(len(slots), window + 1, np.int64), self.key_of[slots])
        self._state.merge(into, slots)
        self.drop(window)
        return opened

    def freeze(self) -> Frozen:
        """Slots by key, then window; those that are gone are forgotten first.  A slot's accumulators are a group of the window state."""
        self._compact(self.live())
        names = self.keys.ranks()[self.key_of]
        order = np.lexsort((self.windows, names))
        places = np.empty(self.size, np.int32)
        places[order] = np.arange(self.size, dtype=np.int32)
        arrays: dict[str, Array] = {
            "windows": self.windows[order],
            "keys": names[order],
            "revisions": self.revisions[order],
            "changed": self.changed[order],
        }
        return nested(
            {},
            {
                "of_slots": Copied({}, arrays),
                "keys": frozen_keys(self.keys),
                "cells": frozen_by_group(self._state, places),
            },
        )

    def restore(self, saved: Saved) -> None:
        """Takes over the slots of a table of the same keys.  ValueError names the part that does not fit."""
        load_kernel(self.keys, saved, "keys")
        of_slots = saved.within("of_slots")
        windows = of_slots.array("windows", np.int64)
        keys = of_slots.array("keys", np.int32, len(windows))
        if len(keys) and not 0 <= int(keys.min()) <= int(keys.max()) < self.keys.size:
            raise ValueError(f"of_slots.keys: a key outside of 0..{self.keys.size - 1}")
        self._pairs.assign(windows, keys)
        if self._pairs.size != len(windows):
            raise ValueError("of_slots.windows: a window and key stand there twice")
        revisions = of_slots.array("revisions", np.int64, len(windows))
        changed = of_slots.array("changed", np.bool_, len(windows))
        if len(windows):
            self._extend()
        self.revisions[: self.size], self.changed[: self.size] = revisions, changed
        load_kernel(self._state, saved, "cells")

    def collect(self) -> None:
        """Forgets slots that are gone once they are the greater part; looks again when there are twice as many."""
        if self.size <= self._collect_above:
            return
        if 2 * self._live < self.size:
            self._compact(self.live())
        self._collect_above = max(FEW_SLOTS, 2 * self._live)

    def _compact(self, live: Int32Array) -> None:
        kept = np.unique(self.key_of[live])
        self.keys.keep(kept)
        self._ranks = np.empty(0, np.int32)
        self._texts, self._placed = [], 0
        self._near.forget()
        self._state.keep(live)
        self.open = {w: [np.searchsorted(live, self.of(w)).astype(np.int32)] for w in list(self.open)}
        self.windows, self.revisions, self.changed = (
            self.windows[live],
            self.revisions[live],
            self.changed[live],
        )
        self.key_of = np.searchsorted(kept, self.key_of[live]).astype(np.int32)
        self.size = len(live)
        self._pairs = _Pairs()
        self._pairs.assign(self.windows, self.key_of)

    @property
    def nbytes(self) -> int:
        own = self.windows.nbytes + self.key_of.nbytes + self.revisions.nbytes + self.changed.nbytes
        own += self._places.nbytes + self._near.nbytes + sum(column.nbytes for column in self._texts)
        return int(self.keys.nbytes + self._pairs.nbytes + 4 * self._live + own)
