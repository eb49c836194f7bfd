"""Stages of a plan to operators: where the logical plan meets what runs.  Expressions are compiled once per plan."""

from __future__ import annotations

from asyncflow.model.batch import Batch
from asyncflow.model.columns import Column
from asyncflow.model.schema import Schema
from asyncflow.operators.contract import Operator
from asyncflow.operators.derive import DeriveOperator
from asyncflow.operators.filter import FilterOperator
from asyncflow.plan.expressions.typing import resolve_expression
from asyncflow.plan.stages.dedup import Dedup
from asyncflow.plan.stages.derive import Derive
from asyncflow.plan.stages.filter import Filter
from asyncflow.plan.stages.top import Top
from asyncflow.plan.stages.window import Window
from asyncflow.plan.tables import Stage
from asyncflow.runtime.wiring.compile_expressions import (
    Compiled,
    Frame,
    compile_expression,
    compile_predicate,
    compile_typed,
)
from asyncflow.runtime.wiring.compile_keyed import build_dedup, build_top
from asyncflow.runtime.wiring.compile_window import build_window

__all__ = ["Compiled", "build_operator", "compile_expression", "compile_predicate"]


def build_operator(stage: Stage, input_schema: Schema, *, by_rows: bool = True) -> Operator:
    """The operator of a stage with one core over rows of ``input_schema``; its ``output`` is the schema of what it gives.

    ``by_rows``: the watermarks that rows carry are those of the stage (not so where inputs without end are read as they come).
    Raises :class:`~asyncflow.plan.expressions.typing.ExpressionError` for an expression that does not check.
    """
    match stage:
        case Filter(where=where):
            losses: dict[str, int] = {}
            return FilterOperator(compile_predicate(where, input_schema, losses), input_schema, losses)
        case Derive():
            return _build_derive(stage, input_schema)
        case Window():
            return build_window(stage, input_schema, by_rows=by_rows)
        case Dedup():
            return build_dedup(stage, input_schema)
        case Top():
            return build_top(stage, input_schema)
        case _:
            raise TypeError(f"{stage.name}: a {type(stage).__name__} stage has no operator here")


def _build_derive(stage: Derive, schema: Schema) -> DeriveOperator:
    """Columns keep their places; a new one comes last; all see the input only."""
    trees = {name: resolve_expression(node, schema) for name, node in stage.columns}
    losses: dict[str, int] = {}
    compiled = dict(zip(trees, compile_typed(trees.values(), schema, losses), strict=True))
    types = {field.name: field.type for field in schema} | {name: tree.type for name, tree in trees.items()}
    plan = [compiled.get(name, position) for position, name in enumerate(types)]

    def evaluate(batch: Batch) -> tuple[Column, ...]:
        frame = Frame(batch, losses)
        return tuple(batch.columns[part] if isinstance(part, int) else part.within(frame) for part in plan)

    return DeriveOperator(Schema.of(types.items()), evaluate, losses)
