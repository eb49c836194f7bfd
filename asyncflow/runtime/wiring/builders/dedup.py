"""Builds dedups."""

from __future__ import annotations

from functools import partial

from asyncflow.model.batch import Batch
from asyncflow.model.columns import Column
from asyncflow.model.schema import Schema
from asyncflow.operators.dedup import DedupOperator
from asyncflow.plan.expressions.typing import resolve_expression
from asyncflow.plan.stages.dedup import Dedup
from asyncflow.runtime.stages.stage import Stage
from asyncflow.runtime.wiring.compile_expressions import Frame, compile_typed
from asyncflow.runtime.wiring.site import Site


def build(table: Dedup, site: Site) -> Stage:
    return site.one_input(partial(operator, table))


def operator(table: Dedup, read: Schema) -> DedupOperator:
    """The operator over rows of ``read``.  Raises ExpressionError for an expression that does not check."""
    trees = [resolve_expression(expression, read) for _, expression in table.by]
    losses: dict[str, int] = {}
    compiled = compile_typed(trees, read, losses)

    def keys(batch: Batch) -> tuple[Column, ...]:
        frame = Frame(batch, losses)
        return tuple(key.within(frame) for key in compiled)

    return DedupOperator(read, tuple(tree.type for tree in trees), keys, table.within_ns, losses)
