"""As-of join: each left row meets the one right row of its key that is nearest in time, before it, after it or either way.

Of right rows at the same time the last to arrive is taken looking back, the first looking forward; of two as near the earlier one.  A left
row is released at its own time looking back, else ``tolerance_ns`` later, when every right row that could be nearer is there; so results
come in the order of the left rows' times.  Without a tolerance (looking back only) the last right row of each key stays for ever.

Late rows.  A left row counts unless its own input's watermark, before it, had passed its release; it sees a right row unless that row's own
input's watermark, before that, had passed this release.  Both depend on the rows of each input and their order alone.  A left row that is
late is not answered from what is left, as rows of an interval join are: a missing pair is no pair, but the nearest of the rows that happen
to be held is a wrong one.  (Flink's temporal join answers it with the version that its state still has, which hangs on how the inputs
interleave.)
"""

from __future__ import annotations

import numpy as np

from asyncflow.model.columns import BoolArray, Int64Array
from asyncflow.operators.joins.rows import shifted
from asyncflow.operators.joins.swept import SweptJoin
from asyncflow.operators.joins.timed import LEFT, RIGHT, JoinSpec


class AsOfJoin(SweptJoin):
    """``direction``: ``backward``, ``forward`` or ``nearest``; ``tolerance_ns``: how far apart the two may be, None only looking back."""

    def __init__(self, spec: JoinSpec, *, direction: str, tolerance_ns: int | None) -> None:
        super().__init__(spec, direction, 0, tolerance_ns)

    def _held_back(self, spec: JoinSpec) -> int:
        return max(self._wait, (self._reach[RIGHT] or 0) if spec.right_alone else 0)

    def _lateness(self, port: int, times: Int64Array, seen: Int64Array) -> tuple[BoolArray, BoolArray]:
        if port == LEFT:
            late = seen > shifted(times, self._wait)
            return late, late
        reach = self._reach[RIGHT]
        late = np.zeros(len(times), np.bool_) if reach is None else seen > shifted(times, reach)
        return late, seen > times
