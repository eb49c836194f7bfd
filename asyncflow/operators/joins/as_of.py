"""As-of join: each left row meets the one right row of its key that is nearest in time, before it, after it or either way.

Of right rows at the same time the last to arrive is taken looking back, the first looking forward; of two as near the earlier one.  A left
row is released at its own time looking back, else ``tolerance_ns`` later, when every right row that could be nearer is there; so results
come in the order of the left rows' times.  Without a tolerance (looking back only) the last right row of each key stays for ever.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from asyncflow.model.batch import END_OF_TIME, NO_TIME
from asyncflow.model.columns import BoolArray, Int64Array
from asyncflow.operators.joins.interval import alone, mark
from asyncflow.operators.joins.results import Piece, left_alone
from asyncflow.operators.joins.rows import Rows, shifted, shifted_time
from asyncflow.operators.joins.runs import Run, not_before
from asyncflow.operators.joins.timed import LEFT, RIGHT, JoinSpec, TimedJoin, new_run


class AsOfJoin(TimedJoin):
    """``direction``: ``backward``, ``forward`` or ``nearest``; ``tolerance_ns``: how far apart the two may be, None only looking back."""

    def __init__(self, spec: JoinSpec, *, direction: str, tolerance_ns: int | None) -> None:
        if tolerance_ns is None and (direction != "backward" or spec.right_alone):
            raise ValueError("this as-of join needs a tolerance")
        self._direction = direction
        self._tolerance = tolerance_ns
        self._wait = 0 if direction == "backward" or tolerance_ns is None else tolerance_ns
        self._reach = (
            None if tolerance_ns is None else tolerance_ns + (self._wait if direction == "nearest" else 0)
        )
        super().__init__(spec, max(self._wait, (self._reach or 0) if spec.right_alone else 0))

    def released(self, since: int, clock: int) -> Iterator[list[Piece]]:
        left, right = self.sides
        new_run(right, clock)
        rows = left.take_before(shifted_time(clock, -self._wait))
        pieces = [] if rows is None else self._met(rows)
        if self.spec.right_alone:
            assert self._reach is not None
            pieces += [alone(run, RIGHT, since, clock, self._reach) for run in right.runs]
        yield pieces

    def tidy(self, clock: int) -> None:
        runs = self.sides[RIGHT].runs
        if self._reach is None:
            runs.tidy(partial(_still_nearest, clock))
            if clock == END_OF_TIME:
                runs.drop_before(END_OF_TIME)
        else:
            needed_from = shifted_time(clock, -self._reach)
            runs.drop_before(needed_from)
            runs.tidy(partial(not_before, needed_from))

    def _lateness(self, port: int, times: Int64Array, seen: Int64Array) -> tuple[BoolArray, BoolArray]:
        if port == LEFT:
            late = seen > shifted(times, self._wait)
            return late, late
        partly = seen > times
        return (
            np.zeros(len(times), np.bool_) if self._reach is None else seen > shifted(times, self._reach)
        ), partly

    def _due(self, port: int, time_ns: int) -> int | None:
        return shifted_time(time_ns, self._wait + 1) if port == LEFT else None

    def _met(self, rows: Rows) -> list[Piece]:
        """The results of these left rows; they leave the state."""
        # In the order of the runs, so that neighbours search the same places.
        rows = rows.take(np.lexsort((rows.times, rows.keys)))
        best = _Best(rows, shifted(rows.times, self._wait))
        low = (
            np.full(len(rows), NO_TIME) if self._tolerance is None else shifted(rows.times, -self._tolerance)
        )
        for run in self.sides[RIGHT].runs:
            if self._direction != "forward":
                best.look_back(run, low)
            if self._direction != "backward":
                assert self._tolerance is not None
                # A row at the same time has been found looking back.
                start = shifted(rows.times, 1) if self._direction == "nearest" else rows.times
                best.look_forward(run, start, shifted(rows.times, self._tolerance))
        pieces = best.pieces()
        for piece in pieces:
            mark(piece)
        self.sides[LEFT].dropped(rows.matched)
        if self.spec.pairs:
            found = pieces
        else:
            kept = np.flatnonzero(rows.matched if self.spec.kind == "semi" else ~rows.matched)
            return [left_alone(rows, kept, best.release[kept])]
        if self.spec.left_alone:
            without = np.flatnonzero(~rows.matched)
            found.append(left_alone(rows, without, best.release[without]))
        return found


class _Best:
    """For each of some left rows the best right row so far: its run, its place there, and how far away it is."""

    def __init__(self, rows: Rows, release: Int64Array) -> None:
        self.rows, self.release = rows, release
        self._runs: list[Run] = []
        self._run = np.full(len(rows), -1)
        self._place = np.zeros(len(rows), np.intp)
        self._time = np.zeros(len(rows), np.int64)
        self._arrival = np.zeros(len(rows), np.int64)

    def look_back(self, run: Run, low: Int64Array) -> None:
        """The last row not after the left one."""
        first, count = run.find(self.rows.keys, low, self.rows.times)
        self._take(run, first + count - 1, first, -1)

    def look_forward(self, run: Run, low: Int64Array, high: Int64Array) -> None:
        """The first row not before the left one."""
        first, count = run.find(self.rows.keys, low, high)
        self._take(run, first, first + count - 1, +1)

    def _take(self, run: Run, place: Int64Array, end: Int64Array, step: int) -> None:
        """Going by ``step`` from ``place`` to ``end`` the first right row that came in time; it counts where it is the best."""
        own = np.flatnonzero((end - place) * step >= 0)
        place, end = place[own], end[own]
        waiting = np.flatnonzero(run.rows.seen[place] > self.release[own])
        while len(waiting):
            place[waiting] += step
            inside = (end[waiting] - place[waiting]) * step >= 0
            gone, waiting = waiting[~inside], waiting[inside]
            end[gone] = -1
            waiting = waiting[run.rows.seen[place[waiting]] > self.release[own[waiting]]]
        there = np.flatnonzero(end >= 0)
        own, place = own[there], place[there]
        better = self._better(own, run.rows.times[place], run.rows.arrivals[place], step)
        own, place = own[better], place[better]
        self._run[own] = len(self._runs)
        self._runs.append(run)
        self._place[own] = place
        self._time[own], self._arrival[own] = run.rows.times[place], run.rows.arrivals[place]

    def _better(self, own: Int64Array, times: Int64Array, arrivals: Int64Array, step: int) -> BoolArray:
        """Whether these are nearer than what is known; as near, the earlier time; at the same time the last looking back, the first
        looking forward."""
        left, known = self.rows.times[own], self._time[own]
        distance, known_distance = _distance(left, times), _distance(left, known)
        same_time = (self._arrival[own] - arrivals) * step > 0
        as_near = np.where(times == known, same_time, times < known)
        nearer = (distance < known_distance) | ((distance == known_distance) & as_near)
        better: BoolArray = nearer | (self._run[own] < 0)
        return better

    def pieces(self) -> list[Piece]:
        found = []
        for number, run in enumerate(self._runs):
            own = np.flatnonzero(self._run == number)
            if len(own):
                found.append(Piece(self.rows, own, run.rows, self._place[own], self.release[own]))
        return found


def _distance(one: Int64Array, other: Int64Array) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
    """|one - other|, which may be more than an int64 holds."""
    difference = np.maximum(one, other).astype(np.uint64) - np.minimum(one, other).astype(np.uint64)
    return difference


def _still_nearest(clock: int, rows: Rows) -> BoolArray:
    """Of rows in the order (key, time, arrival): those after which none of their key stands that every left row to come sees."""
    last = np.full(int(rows.keys[-1]) + 1, -1) if len(rows) else np.empty(0, np.intp)
    visible = np.flatnonzero((rows.times < clock) & (rows.seen < clock))
    last[rows.keys[visible]] = visible
    keep: BoolArray = np.arange(len(rows)) >= last[rows.keys]
    return keep & (rows.keys > 1)
