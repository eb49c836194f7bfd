"""Stages that tell rows by keys and pass them on whole, to their operators: dedup and top."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from asyncflow.model.batch import Batch
from asyncflow.model.columns import Column
from asyncflow.model.schema import Schema
from asyncflow.operators.dedup import DedupOperator
from asyncflow.operators.ordering import Direction
from asyncflow.operators.top import SortColumns, TopOperator
from asyncflow.plan.expressions.nodes import Expression
from asyncflow.plan.expressions.typed import Typed
from asyncflow.plan.expressions.typing import resolve_expression
from asyncflow.plan.stages.dedup import Dedup
from asyncflow.plan.stages.top import Top
from asyncflow.plan.windows import BOUNDS, AllRows, Hopping, Tumbling
from asyncflow.runtime.wiring.compile_expressions import Frame, compile_typed


def build_dedup(stage: Dedup, schema: Schema) -> DedupOperator:
    """The operator of a dedup stage over rows of ``schema``.  Raises ExpressionError for an expression that does not check."""
    trees = _resolved((expression for _, expression in stage.by), schema)
    losses: dict[str, int] = {}
    compiled = compile_typed(trees, schema, losses)

    def keys(batch: Batch) -> tuple[Column, ...]:
        frame = Frame(batch, losses)
        return tuple(key.within(frame) for key in compiled)

    return DedupOperator(schema, tuple(tree.type for tree in trees), keys, stage.within_ns, losses)


def build_top(stage: Top, schema: Schema) -> TopOperator:
    """The operator of a top stage over rows of ``schema``.  Raises ExpressionError for an expression that does not check."""
    by = _resolved((expression for _, expression in stage.by), schema)
    order = _resolved((key.expression for key in stage.order), schema)
    compiled = compile_typed([*by, *order], schema)
    output = stage.output((schema,))
    assert output is not None

    def prepare(batch: Batch) -> SortColumns:
        # The same row may be looked at several times, so what is lost in computing its place is not counted.
        frame = Frame(batch, {})
        columns = tuple(part.within(frame) for part in compiled)
        return SortColumns(columns[: len(by)], columns[len(by) :])

    return TopOperator(
        n=stage.n,
        output=output,
        kinds=[tree.type for tree in by],
        directions=[Direction(key.descending, key.nulls_first) for key in stage.order],
        prepare=prepare,
        end_column=BOUNDS[1] if stage.over_windows(schema) else None,
        **_windows(stage),
    )


def _windows(stage: Top) -> dict[str, Any]:
    match stage.shape:
        case Tumbling(size_ns=size_ns, offset_ns=offset_ns):
            return {"size_ns": size_ns, "offset_ns": offset_ns}
        case Hopping(size_ns=size_ns, every_ns=every_ns, offset_ns=offset_ns):
            return {"size_ns": size_ns, "every_ns": every_ns, "offset_ns": offset_ns}
        case None | AllRows():
            return {}
        case _:
            raise TypeError(f"{stage.name}: no top of these windows")


def _resolved(expressions: Iterable[Expression], schema: Schema) -> list[Typed]:
    return [resolve_expression(expression, schema) for expression in expressions]
