"""Interval join: a left row is paired with the right rows of its key whose time lies in ``[left + lower, left + upper]``.

A row *expires* at its time plus the bound of its side (a left row ``upper`` later, a right row ``-lower`` later).  A pair counts
unless the watermark of one row's own input, before that row, had passed the other row's expiry.  So two late rows may be paired,
and whether they are depends only on the rows of each input and their order.  No pair is lost that both states could hold at one
time.  (Flink's interval join keeps the same pairs where both inputs are read in step; else its pairs depend on how the inputs
interleave.)

The *moment* of a row is its time, or the watermark before the row where that is later.  A pair is released at the later of its two
moments.  A row without a partner is released at its expiry, or at its moment where that is later.  A row is late where no partner could
count any more.

The kernel keeps the rows and finds the pairs, as places; the columns of the rows stand by place in ``held.HeldColumns``, and are
gathered a portion of results at a time.  A call's first half is that of the kernel, and its second half that of the columns: neither
touches what the other one has, so that the columns of one call may be at work beside the kernel in the next.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from threading import Lock

import numpy as np

from asyncflow._kernels import interval as interval_kernel
from asyncflow.model.batch import Batch, iter_slices
from asyncflow.model.columns import BoolArray, FixedColumn, Int32Array, Int64Array
from asyncflow.model.snapshot import Frozen, Saved, nested
from asyncflow.operators.contract import FirstHalf, Output, SecondHalf
from asyncflow.operators.joins import results
from asyncflow.operators.joins.held import HeldColumns
from asyncflow.operators.joins.rows import shifted, shifted_time
from asyncflow.operators.joins.timed import LEFT, RIGHT, JoinSpec, TimedJoin, event_times
from asyncflow.operators.kernel_state import frozen_by_group, load_kernel
from asyncflow.operators.pieces import MAX_OUTPUT_ROWS

END = 2**63 - 2
"""Longer than this no time can be shifted."""

FEW_PLACES = 1 << 16
"""Places without rows are given up only where there are more places than this."""


class IntervalJoin(TimedJoin):
    """``lower_ns`` and ``upper_ns``: right time - left time lies between them, with them."""

    state_version = 2
    in_halves = True

    def __init__(self, spec: JoinSpec, *, lower_ns: int, upper_ns: int, parts: int = 1) -> None:
        self._state = interval_kernel.IntervalState(spec.kind, lower_ns, upper_ns, parts)
        self._numbered = spec.key_types in (("int64",), ("timestamp",))
        super().__init__(spec, _held_back(spec, lower_ns, upper_ns, self._state.reach))
        self._columns = (HeldColumns(), HeldColumns())
        self._at_parts = [Lock() for _ in range(parts)]

    def process(self, port: int, batch: Batch) -> list[Output]:
        return self.process_first(port, batch)()

    def process_first(self, port: int, batch: Batch) -> SecondHalf:
        """The kernel takes the keys and times; the second half puts the columns by."""
        if not batch.num_rows:
            return list
        with self._at_kernel():
            late = self.take_in(port, batch)
            return partial(self._put, port, batch, late, self._kernel_bytes)

    def take_in(self, port: int, batch: Batch) -> BoolArray | None:
        times = event_times(batch)
        keys = [batch.columns[position] for position in self.spec.keys[port]]
        rows = np.ascontiguousarray(times), batch.watermarks, batch.watermark_before, batch.delay_ns
        if self._numbered:
            (key,) = keys
            assert isinstance(key, FixedColumn)
            numbers = np.ascontiguousarray(key.values, np.int64)
            late, partly = self._state.hold_numbers(port, numbers, key.valid, *rows)
        else:
            groups = self._keys.groups(keys, batch.num_rows)
            late, partly = self._state.hold(port, groups, self._keys.table.size, *rows)
        self.counts["late_partly"] += partly
        return late

    def _put(self, port: int, batch: Batch, late: BoolArray | None, kernel_bytes: int) -> list[Output]:
        columns, count = [batch.columns[position] for position in self.spec.columns[port]], batch.num_rows
        if late is not None:
            on_time = np.flatnonzero(~late)
            columns, count = [column.take(on_time) for column in columns], len(on_time)
        self._columns[port].put(columns, count)
        outputs = self._late_outputs(port, batch, late)
        size = kernel_bytes + self._column_bytes
        if size > self.spec.max_state_bytes:
            with self._at_kernel():
                raise self._too_much(size)
        return outputs

    def released(self, clock: int) -> Iterator[Batch]:
        for first_half in self._sweeps(clock):
            for task in first_half.tasks:
                task()
            second_half, _ = first_half.joined()
            for output in second_half():
                yield output.batch

    def advance_first(self, watermark_ns: int) -> Iterator[FirstHalf]:
        """The kernel finds pairs, of its parts side by side; the second half gathers their columns."""
        if watermark_ns > self.clock:
            self.clock = watermark_ns
            yield from self._sweeps(watermark_ns)

    def _sweeps(self, clock: int) -> Iterator[FirstHalf]:
        more = True

        def joined() -> tuple[SecondHalf, bool]:
            nonlocal more
            with self._at_kernel():
                *met, more = self._state.met()
                first = self._state.places(LEFT)[0], self._state.places(RIGHT)[0]
                kept = (None, None) if more else (self._compacted(LEFT), self._compacted(RIGHT))
                if not more:
                    self._forget_keys()
                    ways = ("left_matched", "left_unmatched", "right_matched", "right_unmatched")
                    self.counts.update(zip(ways, self._state.ways, strict=True))
            return partial(self._gather, met, first, kept), more

        while more:
            tasks = self._state.tasks(clock, results.MAX_PAIRS)
            yield FirstHalf(
                [partial(_held, lock, task) for lock, task in zip(self._at_parts, tasks, strict=False)],
                joined,
            )

    @contextmanager
    def _at_kernel(self) -> Iterator[None]:
        """No other thread is in the kernel."""
        with ExitStack() as locks:
            for lock in self._at_parts:
                locks.enter_context(lock)
            yield

    def _compacted(self, port: int) -> Int64Array | None:
        """The places of the rows that are held, where they got new ones: so few of the places are in use."""
        first, following = self._state.places(port)
        if following - first <= max(FEW_PLACES, 4 * self._state.rows[port]):
            return None
        kept: Int64Array = self._state.compact(port)
        return kept

    def _gather(
        self, met: list[Int64Array], first: tuple[int, int], kept: tuple[Int64Array | None, Int64Array | None]
    ) -> list[Output]:
        found = (
            [Output(rows.counted()) for rows in iter_slices(self._results(*met), MAX_OUTPUT_ROWS)]
            if len(met[0])
            else []
        )
        for columns, place, moved in zip(self._columns, first, kept, strict=True):
            columns.drop_before(place)
            if moved is not None:
                columns.move(moved)
        return found

    @property
    def waiting_rows(self) -> tuple[int, int]:
        left, right = self._state.rows
        return left, right

    @property
    def next_due_ns(self) -> int | None:
        """When a row that waits is looked at, or one that has found nobody comes out alone."""
        dues = [
            due
            for port in (LEFT, RIGHT)
            for due in (self._state.first_ahead(port), self._state.first_alone(port))
        ]
        return min((shifted_time(due, 1) for due in dues if due is not None), default=None)

    def live_keys(self) -> Int32Array:
        live: Int32Array = self._state.live_keys()
        return live

    def keep_keys(self, kept: Int32Array) -> None:
        self._state.keep_keys(kept)

    def frozen_rows(self) -> Frozen:
        """Rows stand by arrival, which is the order of their places."""
        sides: dict[str, Frozen] = {"matching": frozen_by_group(self._state, self._keys.table.ranks())}
        for port, name in enumerate(("left", "right")):
            sides[f"{name}_columns"] = self._columns[port].frozen(self._state.live_places(port))
        return nested({}, sides)

    def restore_rows(self, saved: Saved) -> None:
        load_kernel(self._state, saved, "matching", groups=self._keys.table.size)
        for port, name in enumerate(("left", "right")):
            columns = saved.within(f"{name}_columns")
            self._columns[port].restore(columns, self._state.rows[port], self.spec.shape.types(port))

    @property
    def open_keys(self) -> int:
        return int(self._state.keys) if self._numbered else super().open_keys

    @property
    def held_bytes(self) -> int:
        return int(self._state.nbytes) + self._column_bytes

    @property
    def _column_bytes(self) -> int:
        return sum(side.nbytes for side in self._columns)

    @property
    def _kernel_bytes(self) -> int:
        return int(self._keys.table.nbytes) + int(self._state.nbytes)

    def _results(self, left: Int64Array, right: Int64Array, time: Int64Array, release: Int64Array) -> Batch:
        takers = self._columns[LEFT].taker, self._columns[RIGHT].taker
        columns = results.of_places(self.spec.shape, takers, (left, right))
        return Batch(self.output, columns, len(time), time, watermarks=shifted(release, -self.hold_ns))


def _held(lock: Lock, task: Callable[[], None]) -> None:
    with lock:
        task()


def _held_back(spec: JoinSpec, lower: int, upper: int, reach: tuple[int, int]) -> int:
    """How far before its release the time of a result may lie."""
    left, right = reach
    # Of a pair the watermark before one row is at most the other's expiry; of a row alone, at most that of its last possible partner.
    holds = [left - max(0, lower), right - max(0, -upper)] if spec.pairs else [0]
    if spec.left_alone or spec.kind == "semi":
        holds += [left, upper + right]
    if spec.right_alone:
        holds += [right, left - lower]
    return min(max(holds), END)
