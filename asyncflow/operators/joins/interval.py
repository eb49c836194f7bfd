"""Interval join: a left row meets the right rows of its key whose time lies in ``[left + lower, left + upper]``.

A pair is released at the later of its two times: it is found when the clock passes that time, by the row that is later (of two at the
same time by the left one) searching the rows of the other side.  So every pair is found once, and at its release.  A row without a
partner is released at the last moment at which one could have come.
"""

from __future__ import annotations

from asyncflow.model.columns import BoolArray, Int64Array
from asyncflow.operators.joins.rows import shifted
from asyncflow.operators.joins.swept import SweptJoin
from asyncflow.operators.joins.timed import JoinSpec


class IntervalJoin(SweptJoin):
    """``lower_ns`` and ``upper_ns``: right time - left time lies between them, with them."""

    def __init__(self, spec: JoinSpec, *, lower_ns: int, upper_ns: int) -> None:
        super().__init__(spec, "interval", lower_ns, upper_ns)

    def _lateness(self, port: int, times: Int64Array, seen: Int64Array) -> tuple[BoolArray, BoolArray]:
        reach = self._reach[port]
        assert reach is not None
        return seen > shifted(times, reach), seen > times
