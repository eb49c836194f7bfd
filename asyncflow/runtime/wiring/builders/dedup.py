"""Builds dedups."""

from __future__ import annotations

from functools import partial

from asyncflow.model.batch import Batch
from asyncflow.model.columns import Column
from asyncflow.model.schema import Schema
from asyncflow.operators.contract import Operator
from asyncflow.operators.dedup import DedupOperator
from asyncflow.operators.parts.part import Prepared
from asyncflow.plan.expressions.typing import resolve_expression
from asyncflow.plan.stages.dedup import Dedup
from asyncflow.runtime.stages.stage import Stage
from asyncflow.runtime.wiring.compile_expressions import Frame, compile_typed
from asyncflow.runtime.wiring.site import Site


def build(table: Dedup, site: Site) -> Stage:
    return site.one_input(partial(operator, table, parts=site.parts))


def operator(table: Dedup, read: Schema, *, parts: int = 1) -> Operator:
    """The operator over rows of ``read``, in so many parts by key.  Raises ExpressionError for an expression that does not check."""
    trees = [resolve_expression(expression, read) for _, expression in table.by]
    losses: dict[str, int] = {}
    compiled = compile_typed(trees, read, losses)

    def keys(batch: Batch) -> tuple[Column, ...]:
        frame = Frame(batch, losses)
        return tuple(key.within(frame) for key in compiled)

    kinds = tuple(tree.type for tree in trees)
    if parts == 1:
        return DedupOperator(read, kinds, keys, table.within_ns, losses)
    from asyncflow.operators.parts.parted import Parted

    def prepare(batch: Batch, lost: dict[str, int]) -> Prepared:
        frame = Frame(batch, lost)
        return Prepared(tuple(key.within(frame) for key in compiled), (), ())

    return Parted(
        lambda: DedupOperator(read, kinds, keys, table.within_ns, {}),
        parts,
        prepare=prepare,
        key_kinds=[kind.value for kind in kinds],
        side="duplicate",
        passes=True,
    )
