"""Interval join: a left row meets the right rows of its key whose time lies in ``[left + lower, left + upper]``.

A pair is released at the later of its two times: it is found when the clock passes that time, by the row that is later (of two at the
same time by the left one) searching the runs of the other side.  So every pair is found once, and at its release.  A row without a
partner is released at the last moment at which one could have come.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
from msgspec import Struct

from asyncflow.model.batch import END_OF_TIME, NO_TIME
from asyncflow.model.columns import BoolArray, IndexArray, Int64Array
from asyncflow.operators.joins.results import Piece, expanded, left_alone, portions, right_alone
from asyncflow.operators.joins.rows import shifted, shifted_time
from asyncflow.operators.joins.runs import Run, not_before
from asyncflow.operators.joins.timed import LEFT, RIGHT, JoinSpec, TimedJoin, new_run


class _Search(Struct, frozen=True, eq=False):
    """Rows of ``own`` at ``places``, ordered by time, and in ``other`` the ranges that they meet."""

    port: int
    own: Run
    places: IndexArray
    times: Int64Array
    other: Run
    first: Int64Array
    count: Int64Array


class IntervalJoin(TimedJoin):
    """``lower_ns`` and ``upper_ns``: right time - left time lies between them, with them."""

    def __init__(self, spec: JoinSpec, *, lower_ns: int, upper_ns: int) -> None:
        self._lower, self._upper = lower_ns, upper_ns
        self._reach = (max(0, upper_ns), max(0, -lower_ns))
        left_waits = spec.left_alone or spec.kind == "semi"
        super().__init__(
            spec,
            max(self._reach[LEFT] if left_waits else 0, self._reach[RIGHT] if spec.right_alone else 0),
        )

    def released(self, since: int, clock: int) -> Iterator[list[Piece]]:
        fresh = [new_run(side, clock) for side in self.sides]
        searches = [search for port in (LEFT, RIGHT) for search in self._searches(port, fresh[port])]
        moments = np.concatenate([np.empty(0, np.int64), *(s.times for s in searches)])
        weights = np.concatenate([np.empty(0, np.int64), *(s.count for s in searches)])
        order = np.argsort(moments, kind="stable")
        start = since
        for stop in (*portions(moments[order], weights[order]), clock):
            pieces = [piece for search in searches for piece in self._pairs(search, start, stop)]
            if self.spec.kind == "semi":
                pieces = first_of_each(pieces)
            for piece in pieces:
                mark(piece)
            if not self.spec.pairs and self.spec.kind != "semi":
                pieces = []
            yield pieces + self._alone(start, stop)
            start = stop

    def tidy(self, clock: int) -> None:
        for port, side in enumerate(self.sides):
            needed_from = shifted_time(clock, -self._reach[port])
            side.runs.drop_before(needed_from)
            side.runs.tidy(partial(not_before, needed_from))

    def _lateness(self, port: int, times: Int64Array, seen: Int64Array) -> tuple[BoolArray, BoolArray]:
        return seen > shifted(times, self._reach[port]), seen > times

    def _due_alone(self) -> Iterator[int]:
        for port, wanted in ((LEFT, self.spec.left_alone), (RIGHT, self.spec.right_alone)):
            for run in self.sides[port].runs:
                if wanted and not run.rows.matched.all():
                    yield shifted_time(int(run.rows.times[~run.rows.matched].min()), self._reach[port] + 1)

    def _searches(self, port: int, own: Run | None) -> Iterator[_Search]:
        """The searches of new rows in the other side's runs; a late row does not search, it can only be found."""
        if own is None:
            return
        rows = own.rows
        places = own.by_time[(rows.seen <= rows.times)[own.by_time]]
        times, keys = rows.times[places], rows.keys[places]
        if port == LEFT:
            low, high = shifted(times, self._lower), np.minimum(shifted(times, self._upper), times)
        else:
            low, high = (
                shifted(times, -self._upper),
                np.minimum(shifted(times, -self._lower), shifted(times, -1)),
            )
        for other in self.sides[1 - port].runs:
            if len(places) and other.times[0] <= high.max() and other.times[-1] >= low.min():
                first, count = other.find(keys, low, high)
                met = np.flatnonzero(count)
                if len(met):
                    yield _Search(port, own, places[met], times[met], other, first[met], count[met])

    def _pairs(self, search: _Search, start: int, stop: int) -> Iterator[Piece]:
        """The pairs with releases in ``[start, stop)`` that both rows came in time for."""
        begin, end = np.searchsorted(search.times, np.array([start, stop], np.int64), "left")
        owner, found = expanded(search.first[begin:end], search.count[begin:end])
        if not len(owner):
            return
        release = search.times[begin:end][owner]
        own = search.places[begin:end][owner]
        in_time = search.other.rows.seen[found] <= release
        if not in_time.all():
            own, found, release = own[in_time], found[in_time], release[in_time]
        if search.port == LEFT:
            yield Piece(search.own.rows, own, search.other.rows, found, release)
        else:
            yield Piece(search.other.rows, found, search.own.rows, own, release)

    def _alone(self, start: int, stop: int) -> list[Piece]:
        pieces = []
        for port, wanted in ((LEFT, self.spec.left_alone), (RIGHT, self.spec.right_alone)):
            if wanted:
                pieces += [alone(run, port, start, stop, self._reach[port]) for run in self.sides[port].runs]
        return pieces


def alone(run: Run, port: int, start: int, stop: int, reach_ns: int) -> Piece:
    """The rows of a run that found no partner, of those that are released in ``[start, stop)``: ``reach_ns`` after their time."""
    places = run.between(_before(start, reach_ns), _before(stop, reach_ns))
    places = places[~run.rows.matched[places]]
    release = shifted(run.rows.times[places], reach_ns)
    return (right_alone if port else left_alone)(run.rows, places, release)


def _before(time_ns: int, reach_ns: int) -> int:
    return time_ns if time_ns in (NO_TIME, END_OF_TIME) else max(time_ns - reach_ns, NO_TIME)


def mark(piece: Piece) -> None:
    if piece.left is not None:
        piece.left.matched[piece.left_rows] = True
    if piece.right is not None:
        piece.right.matched[piece.right_rows] = True


def first_of_each(pieces: list[Piece]) -> list[Piece]:
    """Of pairs the left rows that had no partner before, each once, with the release of their first; all rows are marked."""
    found = []
    for left in {id(piece.left): piece.left for piece in pieces}.values():
        assert left is not None
        own = [piece for piece in pieces if piece.left is left]
        places = np.concatenate([piece.left_rows for piece in own])
        release = np.concatenate([piece.release for piece in own])
        fresh = ~left.matched[places]
        places, release = places[fresh], release[fresh]
        order = np.argsort(release, kind="stable")
        distinct, first = np.unique(places[order], return_index=True)
        found.append(left_alone(left, distinct, release[order][first]))
    for piece in pieces:
        mark(piece)
    return found
