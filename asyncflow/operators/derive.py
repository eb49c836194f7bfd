"""Derive: the same rows with other columns.  Rows, their times and their watermarks stay unchanged."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from asyncflow.model.batch import Batch
from asyncflow.model.columns import Column
from asyncflow.model.schema import Schema
from asyncflow.operators.contract import Output, Stateless
from asyncflow.operators.pieces import whole_or_halves


class DeriveOperator(Stateless):
    """``evaluate`` gives the columns of ``output`` for a batch, and adds what is lost in computing to the counts that it is given."""

    output: Schema

    def __init__(
        self,
        output: Schema,
        evaluate: Callable[[Batch, dict[str, int]], tuple[Column, ...]],
    ) -> None:
        super().__init__()
        self.output = output
        self._evaluate = evaluate

    def made_of(self, batch: Batch, counts: dict[str, int]) -> Iterable[Output]:
        return whole_or_halves(self._derived, batch, counts) if batch.num_rows else []

    def _derived(self, batch: Batch, counts: dict[str, int]) -> list[Output]:
        return [Output(batch.with_columns(self.output, self._evaluate(batch, counts)))]
