"""Filter: passes the rows for which a condition is true, and counts the others.  A null condition counts as not true.

Invariant: a passed row keeps the watermark before it, so a filter never changes which rows are late in later tables.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from asyncflow.model.batch import Batch
from asyncflow.model.columns import BoolArray
from asyncflow.model.schema import Schema
from asyncflow.operators.contract import Output, Stateless
from asyncflow.operators.pieces import whole_or_halves


class FilterOperator(Stateless):
    """``predicate`` gives a bool per row of a batch, and adds what is lost in computing to the counts that it is given.  ``counts``: also
    rows ``filtered``."""

    def __init__(
        self,
        predicate: Callable[[Batch, dict[str, int]], BoolArray],
        output: Schema,
    ) -> None:
        super().__init__()
        self.output = output
        self._predicate = predicate
        self.counts["filtered"] = 0

    def made_of(self, batch: Batch, counts: dict[str, int]) -> Iterable[Output]:
        return whole_or_halves(self._kept, batch, counts)

    def _kept(self, batch: Batch, counts: dict[str, int]) -> list[Output]:
        keep = self._predicate(batch, counts)
        kept = int(np.count_nonzero(keep))
        counts["filtered"] = counts.get("filtered", 0) + batch.num_rows - kept
        if kept == batch.num_rows:
            return [Output(batch)] if kept else []
        return [Output(batch.take(np.flatnonzero(keep)))] if kept else []
