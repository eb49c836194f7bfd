"""Derive: the same rows with other columns.  Rows, their times and their watermarks stay unchanged."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from asyncflow.model.batch import Batch
from asyncflow.model.columns import Column
from asyncflow.model.schema import Schema
from asyncflow.operators.contract import CountsOnly, Output
from asyncflow.operators.pieces import whole_or_halves


class DeriveOperator(CountsOnly):
    """``evaluate`` gives the columns of ``output`` for a batch.  ``counts``: what ``losses`` counts while computing."""

    output: Schema

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

    def process(self, batch: Batch) -> Iterable[Output]:
        return whole_or_halves(self._derived, batch, self.counts) if batch.num_rows else []

    def _derived(self, batch: Batch) -> list[Output]:
        return [Output(batch.with_columns(self.output, self._evaluate(batch)))]
