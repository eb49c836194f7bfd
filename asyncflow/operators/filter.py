"""Filter: passes the rows for which a condition is true, and counts the others.  A null condition counts as not true.

Invariant: a passed row keeps the watermark before it, so a filter never changes which rows are late in later tables.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from asyncflow.model.batch import Batch
from asyncflow.model.columns import BoolArray
from asyncflow.model.schema import Schema
from asyncflow.operators.contract import CountsOnly, Output
from asyncflow.operators.pieces import whole_or_halves


class FilterOperator(CountsOnly):
    """``predicate`` gives a bool per row of a batch.  ``counts``: rows ``filtered``, and what ``losses`` counts while computing."""

    def __init__(
        self,
        predicate: Callable[[Batch], BoolArray],
        output: Schema,
        losses: dict[str, int] | None = None,
    ) -> None:
        super().__init__()
        self.output = output
        self._predicate = predicate
        self.counts = {} if losses is None else losses
        self.counts["filtered"] = 0

    def process(self, batch: Batch) -> Iterable[Output]:
        return whole_or_halves(self._kept, batch, self.counts)

    def _kept(self, batch: Batch) -> list[Output]:
        keep = self._predicate(batch)
        kept = int(np.count_nonzero(keep))
        self.counts["filtered"] += batch.num_rows - kept
        if kept == batch.num_rows:
            return [Output(batch)] if kept else []
        return [Output(batch.take(np.flatnonzero(keep)))] if kept else []
