"""Window join: rows of both sides that lie in one window and have the same key, pair by pair.

All results of a window are released at its end.  A pair that several hopping windows share comes once for each; a row without a
partner comes once for each window in which it has none.  Rows wait until the last of their windows has closed.

Pairs are made a portion at a time, as they are taken, also the pairs of one window and of one row: memory does not grow with the
number of pairs. A portion is a run of left rows in the order of the results, so portions need no sorting among them.

Late rows.  A row counts in a window unless the watermark of its own input, before the row, had reached the window's end.  This is
the rule of the interval join, because all rows of a window expire at its end.  So a pair depends only on the rows of each input and
their order.  (Flink's window join uses the lower watermark of both inputs at the moment at which a row comes, so its pairs depend
on how the inputs interleave.)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from asyncflow.model.batch import END_OF_TIME, NO_TIME, Batch
from asyncflow.model.columns import BoolArray, Column, IndexArray, Int32Array, Int64Array
from asyncflow.model.snapshot import Frozen, Plain, Saved, nested
from asyncflow.operators.bounds import WindowBounds, WindowLattice, left_open
from asyncflow.operators.joins.results import (
    Piece,
    batches,
    expanded,
    left_alone,
    mark,
    right_alone,
)
from asyncflow.operators.joins.rows import Rows, before, concat_rows, frozen_rows, restored_rows
from asyncflow.operators.joins.timed import LEFT, NULL_KEYS, RIGHT, JoinSpec, TimedJoin

FEW_BYTES = 1 << 20
"""Parts smaller than this become one with the part before them, so that there are few."""
MAX_PAIRS = 1 << 18
"""How many pairs are worked on at once."""
MAX_ENTRIES = 1 << 20
"""How many (row, window) pairs are worked on at once, but for one window that holds more rows."""


class WindowJoin(TimedJoin):
    """Windows as in :class:`~asyncflow.operators.windows.window.WindowOperator`, by their numbers on the lattice."""

    def __init__(self, spec: JoinSpec, *, size_ns: int, every_ns: int, offset_ns: int = 0) -> None:
        super().__init__(spec, size_ns - 1)
        self._lattice: WindowBounds = WindowLattice(size_ns, every_ns, offset_ns)
        self._closed = self._ended(NO_TIME)
        self._sides = (_Waiting(), _Waiting())
        self._leaving_bytes = 0

    def take_in(self, port: int, batch: Batch) -> BoolArray | None:
        assert batch.time is not None
        seen = batch.row_watermarks()
        late, partly = self._lateness(batch.time, seen)
        self.counts["late_partly"] += int(np.count_nonzero(partly & ~late))
        some = bool(late.any())
        if some:
            batch = batch.take(np.flatnonzero(~late))
            seen = batch.row_watermarks()
        if batch.num_rows:
            assert batch.time is not None
            keys = self._keys.assign(
                port, [batch.columns[each] for each in self.spec.keys[port]], batch.num_rows
            )
            columns = tuple(batch.columns[each] for each in self.spec.columns[port])
            self._sides[port].add(columns, keys, batch.time, seen)
        return late if some else None

    @property
    def held_bytes(self) -> int:
        return self._leaving_bytes + sum(rows.nbytes for side in self._sides for rows in side.parts)

    @property
    def waiting_rows(self) -> tuple[int, int]:
        left, right = (sum(map(len, side.parts)) for side in self._sides)
        return left, right

    @property
    def next_due_ns(self) -> int | None:
        oldest = [int(rows.times.min()) for side in self._sides for rows in side.parts]
        if not oldest:
            return None
        return min(self._lattice.end(max(self._ended(min(oldest)), self._closed) + 1), END_OF_TIME)

    def frozen_rows(self) -> Frozen:
        names = self._keys.names
        left, right = (frozen_rows(side.parts, names) for side in self._sides)
        arrived: list[Plain] = [side.arrived for side in self._sides]
        return nested({"closed": self._closed, "arrived": arrived}, {"left": left, "right": right})

    def restore_rows(self, saved: Saved) -> None:
        self._closed = saved.integer("closed")
        match saved.fields.get("arrived"):
            case [int(left), int(right)]:
                arrived = left, right
            case other:
                raise ValueError(f"arrived: two numbers are wanted, not {other!r}")
        names = self._keys.table.size + NULL_KEYS
        for port, (name, side) in enumerate(zip(("left", "right"), self._sides, strict=True)):
            side.parts = restored_rows(saved.within(name), names, self.spec.shape.types(port))
            side.arrived = arrived[port]

    def live_keys(self) -> Int32Array:
        held = [np.unique(rows.keys) for side in self._sides for rows in side.parts]
        live = np.unique(np.concatenate([np.empty(0, np.int64), *held]))
        return (live[live >= NULL_KEYS] - NULL_KEYS).astype(np.int32)

    def keep_keys(self, kept: Int32Array) -> None:
        names = np.concatenate([np.arange(NULL_KEYS), kept + NULL_KEYS])
        for side in self._sides:
            for rows in side.parts:
                rows.keys[:] = np.searchsorted(names, rows.keys)

    def released(self, clock: int) -> Iterator[Batch]:
        start, stop = self._closed, self._ended(clock)
        if stop <= start:
            return
        self._closed = stop
        end = END_OF_TIME if clock == END_OF_TIME else self._lattice.end(stop)
        rows = [side.take_before(end) for side in self._sides]
        self._leaving_bytes = sum(taken.nbytes for taken in rows if taken is not None)
        begin = start
        for upto in self._cuts([taken for taken in rows if taken is not None], start, stop):
            places = [_InWindows(self, side, begin, upto) for side in rows]
            for pieces in self._joined(places[LEFT], places[RIGHT]):
                yield from batches(self.spec.shape, pieces, self.hold_ns)
            begin = upto
        self._leaving_bytes = 0
        for name, side, taken in zip(("left", "right"), self._sides, rows, strict=True):
            if taken is not None:
                over = self._lattice.of(taken.times)[1] <= stop
                found = int(np.count_nonzero(taken.matched[over]))
                self.counts[f"{name}_matched"] += found
                self.counts[f"{name}_unmatched"] += int(np.count_nonzero(over)) - found
                if not over.all():
                    side.parts.insert(0, taken.take(np.flatnonzero(~over)))

    def _lateness(self, times: Int64Array, seen: Int64Array) -> tuple[BoolArray, BoolArray]:
        """Of rows with these times and the watermarks before them: late for all, and late for some or all."""
        (first, last), ended = self._lattice.of(times), self._lattice.ended(seen)
        return last <= ended, first <= ended

    def _ended(self, clock: int) -> int:
        """The last window that has ended."""
        return int(self._lattice.ended(np.array([clock]))[0])

    def windows_of(self, rows: Rows, start: int, stop: int) -> tuple[IndexArray, Int64Array]:
        """The windows after ``start`` up to ``stop`` that rows lie in and came in time for, as (row, number of the window)."""
        first, last = self._in_time(rows)
        first = np.maximum(first, start + 1)
        return expanded(first, np.maximum(np.minimum(last, stop) - first + 1, 0))

    def _in_time(self, rows: Rows) -> tuple[Int64Array, Int64Array]:
        """The first and the last window that each row came in time for."""
        return left_open(*self._lattice.of(rows.times), self._lattice.ended(rows.seen))

    def _cuts(self, sides: Sequence[Rows], start: int, stop: int) -> Iterator[int]:
        """Up to which windows to go at a time from ``start`` to ``stop``, so that about ``MAX_ENTRIES`` are worked on at once."""
        if self._lattice.most * sum(map(len, sides)) > MAX_ENTRIES:
            spans = [self._in_time(rows) for rows in sides]
            first, last = (np.concatenate(each) for each in zip(*spans, strict=True))

            def entries(upto: int) -> int:
                return int(np.maximum(np.minimum(last, upto) - np.maximum(first, start + 1) + 1, 0).sum())

            while entries(stop) > MAX_ENTRIES:
                low = max(start + 1, int(first[last > start].min()))
                high = stop
                while high - low > 1:
                    middle = (low + high) // 2
                    low, high = (middle, high) if entries(middle) <= MAX_ENTRIES else (low, middle)
                if low >= stop:
                    break
                yield low
                start = low
        yield stop

    def _joined(self, left: _InWindows, right: _InWindows) -> Iterator[list[Piece]]:
        low, count = left.find(right)
        met = np.zeros(len(right.places), np.bool_)
        begin_right = 0
        for part in _portions(count):
            pieces: list[Piece] = []
            for owner, found in _pairs(low, count, part):
                if pieces:  # more of one row's pairs
                    yield pieces
                    pieces = []
                found = right.in_order[found]
                met[found] = True
                assert left.rows is not None and right.rows is not None
                release = self._release(left.windows[owner])
                pair = Piece(left.rows, left.places[owner], right.rows, right.places[found], release)
                mark(pair)
                pieces = [pair] if self.spec.pairs else []
            if left.rows is not None and not (self.spec.pairs and not self.spec.left_alone):
                wanted = count[part] > 0 if self.spec.kind == "semi" else count[part] == 0
                chosen = np.flatnonzero(wanted) + part.start
                pieces.append(left_alone(left.rows, left.places[chosen], self._release(left.windows[chosen])))
            if right.rows is not None and self.spec.right_alone:
                # Those of a window come behind all of its left rows.
                end_right = len(right.windows)
                if part.stop < len(left.windows):
                    end_right = int(np.searchsorted(right.windows, left.windows[part.stop], "left"))
                chosen = np.flatnonzero(~met[begin_right:end_right]) + begin_right
                release = self._release(right.windows[chosen])
                pieces.append(right_alone(right.rows, right.places[chosen], release))
                begin_right = end_right
            yield pieces

    def _release(self, windows: Int64Array) -> Int64Array:
        return self._lattice.bounds(windows)[1] - 1


def _portions(count: Int64Array) -> Iterator[slice]:
    """Runs of left rows with about ``MAX_PAIRS`` pairs, or one row that has more."""
    total = np.cumsum(count + 1)
    start = 0
    while True:
        base = int(total[start - 1]) if start else 0
        stop = max(int(np.searchsorted(total, base + MAX_PAIRS, "right")), start + 1)
        yield slice(start, min(stop, len(count)))
        start = stop
        if start >= len(count):
            return


def _pairs(low: Int64Array, count: Int64Array, part: slice) -> Iterator[tuple[IndexArray, IndexArray]]:
    """The pairs of these left rows: the row, and the place of its partner; those of one row a portion at a time."""
    if part.stop - part.start == 1:
        place, first, pairs = part.start, int(low[part.start]), int(count[part.start])
        for start in range(first, first + pairs, MAX_PAIRS):
            found = np.arange(start, min(start + MAX_PAIRS, first + pairs))
            yield np.full(len(found), place), found
        return
    owner, found = expanded(low[part], count[part])
    if len(owner):
        yield owner + part.start, found


class _Waiting:
    """The rows of one side whose windows are open, in parts as they came."""

    def __init__(self) -> None:
        self.arrived = 0
        self.parts: list[Rows] = []

    def add(self, columns: tuple[Column, ...], keys: Int64Array, times: Int64Array, seen: Int64Array) -> None:
        arrivals = np.arange(self.arrived, self.arrived + len(keys))
        part = Rows.of(columns, keys, times, arrivals, seen)
        while self.parts and part.nbytes < FEW_BYTES and self.parts[-1].nbytes < 2 * part.nbytes:
            part = concat_rows([self.parts.pop(), part])
        self.parts.append(part)
        self.arrived += len(keys)

    def take_before(self, time_ns: int) -> Rows | None:
        """The rows older than that; they wait no longer."""
        taken, rest = [], []
        for rows in self.parts:
            ready = before(rows.times, time_ns)
            if ready.all():
                taken.append(rows)
            elif ready.any():
                taken.append(rows.take(np.flatnonzero(ready)))
                rest.append(rows.take(np.flatnonzero(~ready)))
            else:
                rest.append(rows)
        self.parts = rest
        return concat_rows(taken) if taken else None


class _InWindows:
    """One side's rows in the windows that close now: ``places`` of rows and their ``windows``, ordered by window, then arrival."""

    def __init__(self, join: WindowJoin, rows: Rows | None, start: int, stop: int) -> None:
        self.rows = rows
        empty = np.empty(0, np.int64)
        self.places, self.windows = (empty, empty) if rows is None else join.windows_of(rows, start, stop)
        arrivals = empty if rows is None else rows.arrivals[self.places]
        order = np.lexsort((arrivals, self.windows))
        self.places, self.windows = self.places[order], self.windows[order]
        self.keys = empty if rows is None else rows.keys[self.places]
        self.in_order: IndexArray = np.empty(0, np.intp)

    def find(self, right: _InWindows) -> tuple[Int64Array, Int64Array]:
        """For each of these the place (in ``right.in_order``) of the first right one in the same window with its key, and how many."""
        windows = np.unique(right.windows)
        many = int(max(right.keys.max(initial=0), self.keys.max(initial=0))) + 1
        codes = np.searchsorted(windows, right.windows) * many + right.keys
        right.in_order = np.argsort(codes, kind="stable")
        codes = codes[right.in_order]
        number = np.searchsorted(windows, self.windows)
        known = np.zeros(len(number), np.bool_)
        inside = number < len(windows)
        known[inside] = windows[number[inside]] == self.windows[inside]
        wanted = number * many + self.keys
        first = np.searchsorted(codes, wanted, "left")
        count = np.searchsorted(codes, wanted, "right") - first
        return first, np.where(known, count, 0)
