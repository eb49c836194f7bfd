"""As-of join: each left row is paired with the right row of its key that is nearest in time: before it, after it, or either way.

Of right rows at one time the last to arrive counts looking back, and the first looking forward; of two rows at the same distance
the earlier one.  Looking back, a left row is released at its own time; else ``tolerance_ns`` later, when every right row that could
be nearer has come.  So results come in the order of the left rows' times.  Without a tolerance (looking back only) the last right
row of each key stays for ever.

Late rows.  A left row counts unless the watermark of its own input, before the row, had passed its release.  The left row sees a
right row unless the watermark of the right input, before that row, had passed the same release.  Both depend only on the rows of
each input and their order.  A late left row has no partner: in an interval join a missing pair is no pair, but here the nearest of
the rows that happen to be held would be a wrong pair.  (Flink's temporal join answers a late row from its remaining state, so the
answer depends on how the inputs interleave.)

The kernel keeps the rows that wait and finds the pairs, as references; ``referred.ReferredColumns`` has the columns.  When the clock
rises, the results are gathered a portion at a time.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from asyncflow._kernels import as_of as as_of_kernel
from asyncflow.model.batch import Batch, iter_slices
from asyncflow.model.columns import BoolArray, Int32Array, Int64Array
from asyncflow.model.snapshot import Frozen, Saved, nested
from asyncflow.operators.joins import results
from asyncflow.operators.joins.referred import ReferredColumns
from asyncflow.operators.joins.rows import shifted, shifted_time
from asyncflow.operators.joins.timed import LEFT, RIGHT, JoinSpec, TimedJoin
from asyncflow.operators.kernel_state import frozen_by_group, load_kernel

RESULT_ROWS = 1 << 16
"""Most rows of a batch of results: about as many as a block of input has.  The results of a block mostly come out together."""
ROW_BYTES = 32
"""What a row that is swept counts for as work: its time, its key and its part of the results."""
FEW_PLACES = 1 << 16
"""Free places are given up only where there are more places than this."""


class AsOfJoin(TimedJoin):
    """``direction``: ``backward``, ``forward`` or ``nearest``; ``tolerance_ns``: how far apart the two may be, None only looking back."""

    state_version = 2

    def __init__(self, spec: JoinSpec, *, direction: str, tolerance_ns: int | None) -> None:
        self._state = as_of_kernel.AsOfState(direction, spec.kind, tolerance_ns)
        reach = self._state.reach if spec.right_alone else None
        super().__init__(spec, max(self._state.wait, reach or 0))
        self._columns = (ReferredColumns(), ReferredColumns())

    def take_in(self, port: int, batch: Batch) -> BoolArray | None:
        assert batch.time is not None
        self._settle(port)
        groups = self._keys.groups([batch.columns[each] for each in self.spec.keys[port]], batch.num_rows)
        marks = batch.watermarks, batch.watermark_before, batch.delay_ns
        times = np.ascontiguousarray(batch.time)
        late, partly = self._state.hold(port, groups, self._keys.table.size, times, *marks)
        self._columns[port].hold([batch.columns[each] for each in self.spec.columns[port]])
        self.counts["late_partly"] += partly
        return late

    def released(self, clock: int) -> Iterator[Batch]:
        more = True
        while more:
            *met, more = self._state.sweep(clock, results.MAX_PAIRS)
            if len(met[0]):
                yield from iter_slices(self._results(*met), RESULT_ROWS)
        ways = ("left_matched", "left_unmatched", "right_matched", "right_unmatched")
        self.counts.update(zip(ways, self._state.ways, strict=True))
        for port in (LEFT, RIGHT):
            self._columns[port].free(self._state.recycle(port))
            if self._state.places[port] > max(FEW_PLACES, 4 * self._state.rows[port]):
                self._settle(port)
                self._columns[port].keep(self._state.compact(port))

    def advance_bytes(self, watermark_ns: int, fresh_bytes: int) -> int:
        return ROW_BYTES * self._state.passes(watermark_ns)

    @property
    def waiting_rows(self) -> tuple[int, int]:
        left, right = self._state.rows
        return left, right

    @property
    def next_due_ns(self) -> int | None:
        """When a row that waits is looked at, or one that has found nobody comes out alone."""
        due = self._state.next_due()
        return None if due is None else shifted_time(due, 1)

    def live_keys(self) -> Int32Array:
        live: Int32Array = self._state.live_keys()
        return live

    def keep_keys(self, kept: Int32Array) -> None:
        self._state.keep_keys(kept)

    def frozen_rows(self) -> Frozen:
        """Rows stand by key, time and arrival."""
        for port in (LEFT, RIGHT):
            self._settle(port)
        sides: dict[str, Frozen] = {"matching": frozen_by_group(self._state, self._keys.table.ranks())}
        for port, name in enumerate(("left", "right")):
            sides[f"{name}_columns"] = self._columns[port].frozen(self._state.saved_places(port))
        return nested({}, sides)

    def restore_rows(self, saved: Saved) -> None:
        load_kernel(self._state, saved, "matching", groups=self._keys.table.size)
        for port, name in enumerate(("left", "right")):
            columns = saved.within(f"{name}_columns")
            self._columns[port].restore(columns, self._state.rows[port], self.spec.shape.types(port))

    @property
    def held_bytes(self) -> int:
        return int(self._state.nbytes) + sum(side.nbytes for side in self._columns)

    def _settle(self, port: int) -> None:
        self._columns[port].settle(*self._state.settle(port), self._state.places[port])

    def _results(self, left: Int64Array, right: Int64Array, time: Int64Array, release: Int64Array) -> Batch:
        """Rows of these references; -1: that side is null."""
        shape, takers = self.spec.shape, (self._columns[LEFT].taker, self._columns[RIGHT].taker)
        if self.spec.right_alone:
            columns = results.of_places(shape, takers, (left, right))
        else:
            columns = shape.columns(takers[LEFT](left), takers[RIGHT](right), len(left))
        marks = shifted(release, -self.hold_ns) if self.hold_ns else release
        return Batch(self.output, columns, len(time), time, watermarks=marks)
