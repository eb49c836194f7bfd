"""Derive: the same rows with other columns.  Rows, their times and watermarks pass untouched."""

from __future__ import annotations

from collections.abc import Callable

from asyncflow.model.batch import Batch
from asyncflow.model.columns import Column
from asyncflow.model.schema import Schema
from asyncflow.operators.contract import Operator, Output


class DeriveOperator(Operator):
    """``evaluate`` gives the columns of ``output`` for a batch.  ``counts``: what ``losses`` counts while computing."""

    def __init__(
        self,
        output: Schema,
        evaluate: Callable[[Batch], tuple[Column, ...]],
        losses: dict[str, int] | None = None,
    ) -> None:
        super().__init__()
        self.output = output
        self._evaluate = evaluate
        self.counts = {} if losses is None else losses

    def process(self, batch: Batch) -> list[Output]:
        if not batch.num_rows:
            return []
        return [Output(batch.with_columns(self.output, self._evaluate(batch)))]
