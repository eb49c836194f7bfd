"""Interval join: a left row is paired with the right rows of its key whose time lies in ``[left + lower, left + upper]``.

A row *expires* at its time plus the bound of its side (a left row ``upper`` later, a right row ``-lower`` later).  A pair counts
unless the watermark of one row's own input, before that row, had passed the other row's expiry.  So two late rows may be paired,
and whether they are depends only on the rows of each input and their order.  No pair is lost that both states could hold at one
time.  (Flink's interval join keeps the same pairs where both inputs are read in step; else its pairs depend on how the inputs
interleave.)

The *moment* of a row is its time, or the watermark before the row where that is later.  A pair is released at the later of its two
moments.  It is found when the clock passes that moment: the row with the later moment (of two at one moment the left row) searches
the rows of the other side. So each pair is found once, at its release.  A row without a partner is released at its expiry, or at
its moment where that is later.  A row is late where no partner could count any more.
"""

from __future__ import annotations

from asyncflow.model.columns import BoolArray, Int64Array
from asyncflow.operators.joins.rows import shifted
from asyncflow.operators.joins.swept import SweptJoin
from asyncflow.operators.joins.timed import LEFT, JoinSpec

END = 2**63 - 2
"""Longer than this no time can be shifted."""


class IntervalJoin(SweptJoin):
    """``lower_ns`` and ``upper_ns``: right time - left time lies between them, with them."""

    def __init__(self, spec: JoinSpec, *, lower_ns: int, upper_ns: int) -> None:
        super().__init__(spec, "interval", lower_ns, upper_ns)

    def _lateness(self, port: int, times: Int64Array, seen: Int64Array) -> tuple[BoolArray, BoolArray]:
        """The partners of a row expire from the first of these to the last."""
        lower, upper = self._bounds
        assert upper is not None
        other = self._reach[1 - port] or 0
        first, last = (lower, upper) if port == LEFT else (-upper, -lower)
        return seen > shifted(times, min(last + other, END)), seen > shifted(times, min(first + other, END))

    def _held_back(self, spec: JoinSpec) -> int:
        lower, upper = self._bounds
        assert upper is not None
        left, right = (reach or 0 for reach in self._reach)
        # Of a pair the watermark before one row is at most the other's expiry; of a row alone, at most that of its last possible partner.
        holds = [left - max(0, lower), right - max(0, -upper)] if spec.pairs else [0]
        if spec.left_alone or spec.kind == "semi":
            holds += [left, upper + right]
        if spec.right_alone:
            holds += [right, left - lower]
        return min(max(holds), END)
