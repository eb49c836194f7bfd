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
