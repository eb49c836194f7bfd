"""Builds derives, with new times for their rows where they replace the time column."""

from __future__ import annotations

from asyncflow.model.batch import Batch
from asyncflow.model.columns import Column
from asyncflow.model.schema import Schema
from asyncflow.operators.contract import Operator
from asyncflow.operators.derive import DeriveOperator
from asyncflow.plan.expressions.typing import resolve_expression
from asyncflow.plan.stages.derive import Derive
from asyncflow.runtime.stages.retiming import RetimedDerive
from asyncflow.runtime.stages.stage import Stage
from asyncflow.runtime.wiring.compile_expressions import Frame, compile_typed
from asyncflow.runtime.wiring.site import Site


def build(table: Derive, site: Site) -> Stage:
    retiming = site.retiming(moved=True)

    def make(read: Schema) -> Operator:
        made = operator(table, read)
        return made if retiming is None else RetimedDerive(made, retiming)

    return site.one_input(make, retiming=retiming)


def operator(table: Derive, read: Schema) -> DeriveOperator:
    """The operator over rows of ``read``.  Columns keep their places; a new one comes last; all see the input only.

    Raises ExpressionError for an expression that does not check."""
    trees = {name: resolve_expression(node, read) for name, node in table.columns}
    compiled = dict(zip(trees, compile_typed(trees.values(), read), strict=True))
    types = {field.name: field.type for field in read} | {name: tree.type for name, tree in trees.items()}
    plan = [compiled.get(name, position) for position, name in enumerate(types)]

    def evaluate(batch: Batch, losses: dict[str, int]) -> tuple[Column, ...]:
        frame = Frame(batch, losses)
        return tuple(batch.columns[part] if isinstance(part, int) else part.within(frame) for part in plan)

    return DeriveOperator(Schema.of(types.items()), evaluate)
