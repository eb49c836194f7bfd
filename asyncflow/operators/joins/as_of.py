"""As-of join: each left row meets the one right row of its key that is nearest in time, before it, after it or either way.

Of right rows at the same time the last to arrive is taken looking back, the first looking forward; of two as near the earlier one.  A left
row is released at its own time looking back, else ``tolerance_ns`` later, when every right row that could be nearer is there; so results
come in the order of the left rows' times.  Without a tolerance (looking back only) the last right row of each key stays for ever.
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

    def _lateness(self, port: int, times: Int64Array, seen: Int64Array) -> tuple[BoolArray, BoolArray]:
        if port == LEFT:
            late = seen > shifted(times, self._wait)
            return late, late
        reach = self._reach[RIGHT]
        late = np.zeros(len(times), np.bool_) if reach is None else seen > shifted(times, reach)
        return late, seen > times
