"""The common part of the interval and the as-of join: rows at their places, and the kernel's sweep through time that pairs them.

Rows ahead of the clock wait in the order of their moments, in a few parts.  When the clock rises, the rows that it has passed go to
the sweep, which returns the places of pairs (the kernel calls them slots); their columns are gathered a portion of results at a time.
The moment of a row is its time; in an interval join, where late rows may be paired, the moment is the watermark before the row where
that is later.  Rows that left give their places back; where few of many rows are left, these move together.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import pairwise

import numpy as np

from asyncflow._kernels import join as join_kernel
from asyncflow.model.batch import END_OF_TIME, Batch, iter_slices
from asyncflow.model.columns import Column, FixedColumn, IndexArray, Int32Array, Int64Array, concat_columns
from asyncflow.model.snapshot import Copied, Frozen, Saved, nested
from asyncflow.operators.joins import results
from asyncflow.operators.joins.places import PlacedColumns
from asyncflow.operators.joins.rows import shifted, shifted_time
from asyncflow.operators.joins.timed import LEFT, RIGHT, JoinSpec, SiftedJoin
from asyncflow.operators.kernel_state import frozen_by_group, load_kernel
from asyncflow.operators.pieces import MAX_OUTPUT_ROWS

FEW_PLACES = 1 << 16
"""Free places are given up only where there are more places than this."""

FEW_ROWS = 1 << 14
"""Parts of fewer rows than this become one with the part before them, so that there are few."""


class _Ahead:
    """Rows of one side that the clock has not passed: places and moments by (moment, arrival), in parts in the order of arrival."""

    def __init__(self) -> None:
        self._parts: list[tuple[Int64Array, Int64Array]] = []

    def add(self, places: Int64Array, times: Int64Array) -> None:
        part = by_time(places, times)
        while self._parts and len(part[1]) < FEW_ROWS and len(self._parts[-1][1]) < 2 * len(part[1]):
            before = self._parts.pop()
            part = by_time(np.concatenate([before[0], part[0]]), np.concatenate([before[1], part[1]]))
        self._parts.append(part)

    def take_before(self, time_ns: int) -> tuple[Int64Array, Int64Array]:
        taken, rest = [], []
        for places, times in self._parts:
            stop = len(times)
            if time_ns != END_OF_TIME and times[-1] >= time_ns:
                stop = int(np.searchsorted(times, np.int64(time_ns), "left")) if times[0] < time_ns else 0
            if stop:
                taken.append((places[:stop], times[:stop]))
            if stop < len(times):
                rest.append((places[stop:], times[stop:]))
        self._parts = rest
        if len(taken) == 1:
            return taken[0]
        none = np.empty(0, np.int64)
        return by_time(
            np.concatenate([none, *(places for places, _ in taken)]),
            np.concatenate([none, *(times for _, times in taken)]),
        )

    def all(self) -> tuple[Int64Array, Int64Array]:
        """All rows, by (moment, arrival)."""
        none = np.empty(0, np.int64)
        return by_time(
            np.concatenate([none, *(places for places, _ in self._parts)]),
            np.concatenate([none, *(times for _, times in self._parts)]),
        )

    def oldest(self) -> list[int]:
        """The oldest time of each part."""
        return [int(times[0]) for _slots, times in self._parts]

    def rename(self, names: Int64Array) -> None:
        self._parts = [(names[places], times) for places, times in self._parts]


def by_time(places: Int64Array, times: Int64Array) -> tuple[Int64Array, Int64Array]:
    """Ordered by time, of one time as they are."""
    if (times[1:] >= times[:-1]).all():
        return places, times
    order = np.argsort(times, kind="stable")
    return places[order], times[order]


class SweptJoin(SiftedJoin):
    """``mode``: ``interval``, ``backward``, ``forward`` or ``nearest``; the bounds are those of the kernel."""

    def __init__(self, spec: JoinSpec, mode: str, lower_ns: int, upper_ns: int | None) -> None:
        self._state = join_kernel.JoinState(mode, spec.kind, lower_ns, upper_ns)
        self._wait: int = self._state.wait
        self._looks_both_ways = mode == "interval"
        self._numbered = mode == "interval" and tuple(spec.key_types) == ("int64",)
        self._reach: tuple[int, int | None] = self._state.reach
        self._bounds = lower_ns, upper_ns
        super().__init__(spec, self._held_back(spec))
        self._ahead = (_Ahead(), _Ahead())
        self._columns = (PlacedColumns(), PlacedColumns())

    def hold(
        self,
        port: int,
        keys: Sequence[Column],
        columns: tuple[Column, ...],
        times: Int64Array,
        seen: Int64Array,
    ) -> None:
        times, seen = np.ascontiguousarray(times), np.ascontiguousarray(seen)
        if self._numbered:
            (key,) = keys
            assert isinstance(key, FixedColumn)
            numbers = np.ascontiguousarray(key.values, np.int64)
            places = self._state.hold_numbers(port, numbers, key.valid, times, seen)
        else:
            groups = self._keys.groups(keys, len(times))
            places = self._state.hold(port, groups, self._keys.table.size, times, seen)
        moments = times
        if self._looks_both_ways and (late := seen > times).any():
            moments = np.where(late, np.maximum(seen, self.clock), times)
        self._ahead[port].add(places, moments)
        self._columns[port].put(places, columns, self._state.slots[port])

    def released(self, clock: int) -> Iterator[Batch]:
        left, right = self._ahead
        waited = left.take_before(shifted_time(clock, -self._wait))
        self._state.begin(clock, waited, right.take_before(clock))
        more = True
        while more:
            *met, more = self._state.sweep(results.MAX_PAIRS)
            if len(met[0]):
                yield from iter_slices(self._results(*met), MAX_OUTPUT_ROWS)
            for port in (LEFT, RIGHT):
                self._columns[port].free(self._state.recycle(port))
        ways = ("left_matched", "left_unmatched", "right_matched", "right_unmatched")
        self.counts.update(zip(ways, self._state.ways, strict=True))
        for port in (LEFT, RIGHT):
            if self._state.slots[port] > max(FEW_PLACES, 4 * self._state.rows[port]):
                self._compact(port)
        if self._numbered and self._state.key_slots > max(FEW_PLACES, 4 * self._state.keys):
            self._state.compact_numbers()

    @property
    def waiting_rows(self) -> tuple[int, int]:
        left, right = self._state.rows
        return left, right

    @property
    def next_due_ns(self) -> int | None:
        """When a row that waits is looked at, or one that has found nobody comes out alone."""
        dues = []
        for port, ahead in enumerate(self._ahead):
            if port == LEFT or self._looks_both_ways:
                wait = self._wait if port == LEFT else 0
                dues += [shifted_time(time_ns, wait + 1) for time_ns in ahead.oldest()]
            alone = self._state.first_alone(port)
            if alone is not None:
                dues.append(shifted_time(alone, (self._wait if port == LEFT else 0) + 1))
        return min(dues, default=None)

    def live_keys(self) -> Int32Array:
        live: Int32Array = self._state.live_keys()
        return live

    def keep_keys(self, kept: Int32Array) -> None:
        self._state.keep_keys(kept)

    def frozen_rows(self) -> Frozen:
        """Rows stand by key, time and arrival; of those ahead of the clock their places there, by moment and arrival."""
        sides: dict[str, Frozen] = {"matching": frozen_by_group(self._state, self._keys.table.ranks())}
        for port, name in enumerate(("left", "right")):
            ranks = self._state.slot_ranks(port)
            places = np.flatnonzero(ranks >= 0)
            places = places[np.argsort(ranks[places])]
            ahead, moments = self._ahead[port].all()
            columns = self._columns[port].frozen(places)
            waiting = {"places": ranks[ahead].astype(np.int64), "moments": moments}
            sides |= {f"{name}_columns": columns, f"{name}_ahead": Copied({}, waiting)}
        return nested({}, sides)

    def restore_rows(self, saved: Saved) -> None:
        load_kernel(self._state, saved, "matching", groups=self._keys.table.size)
        for port, name in enumerate(("left", "right")):
            rows = self._state.rows[port]
            self._columns[port].restore(saved.within(f"{name}_columns"), rows, self.spec.shape.types(port))
            ahead = saved.within(f"{name}_ahead")
            places = ahead.array("places", np.int64)
            moments = ahead.array("moments", np.int64, len(places))
            if len(places) and not 0 <= int(places.min()) <= int(places.max()) < rows:
                raise ValueError(f"{name}_ahead.places: a row outside of 0..{rows - 1}")
            if len(np.unique(places)) < len(places) or (moments[1:] < moments[:-1]).any():
                raise ValueError(f"{name}_ahead.moments: rows stand there in another order, or twice")
            if len(places):
                self._ahead[port].add(places, moments)

    @property
    def open_keys(self) -> int:
        return int(self._state.keys) if self._numbered else super().open_keys

    @property
    def held_bytes(self) -> int:
        columns = zip(self._columns, self._state.rows, strict=True)
        return int(self._state.nbytes) + sum(side.nbytes(rows) for side, rows in columns)

    @abstractmethod
    def _held_back(self, spec: JoinSpec) -> int:
        """How far before its release the time of a result may lie."""

    def _compact(self, port: int) -> None:
        names = np.zeros(self._state.slots[port], np.int64)
        kept = self._state.compact(port)
        names[kept] = np.arange(len(kept))
        self._ahead[port].rename(names)
        self._columns[port].keep(kept)

    def _results(self, left: Int64Array, right: Int64Array, time: Int64Array, release: Int64Array) -> Batch:
        """Rows of these places; -1: that side is null."""
        sides = ((left >= 0) + 2 * (right >= 0)).astype(np.int8)
        if (sides == sides[0]).all():
            columns = self._gathered(left, right)
        else:
            # Each column from those with both sides, with the left one, with the right one, and then back in order.
            order = np.argsort(sides, kind="stable")
            cuts = np.searchsorted(sides[order], [1, 2, 3, 4])
            parts = [
                self._gathered(left[order[start:stop]], right[order[start:stop]])
                for start, stop in pairwise(cuts)
                if stop > start
            ]
            place: IndexArray = np.empty(len(order), np.intp)
            place[order] = np.arange(len(order))
            columns = tuple(concat_columns(each).take(place) for each in zip(*parts, strict=True))
        marks = shifted(release, -self.hold_ns)
        return Batch(self.output, columns, len(time), time, watermarks=marks)

    def _gathered(self, left: Int64Array, right: Int64Array) -> tuple[Column, ...]:
        def take(port: int, places: Int64Array) -> Callable[[int], Column] | None:
            return None if places[0] < 0 else partial(self._columns[port].take, places=places)

        return self.spec.shape.columns(take(LEFT, left), take(RIGHT, right), len(left))
