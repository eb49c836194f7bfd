"""Builds tops."""

from __future__ import annotations

from functools import partial
from typing import Any

from asyncflow.model.batch import Batch
from asyncflow.model.schema import Schema
from asyncflow.operators.contract import Operator
from asyncflow.operators.ordering import Direction
from asyncflow.operators.top import SortColumns, TopOperator
from asyncflow.plan.expressions.typing import resolve_expression
from asyncflow.plan.stages.top import Top
from asyncflow.plan.tables import Wanted
from asyncflow.plan.windows import BOUNDS, AllRows, Hopping, Tumbling
from asyncflow.runtime.stages.stage import Stage
from asyncflow.runtime.wiring.compile_expressions import Frame, compile_typed
from asyncflow.runtime.wiring.site import Site
from asyncflow.runtime.wiring.wires import narrowed


def build(table: Top, site: Site) -> Stage:
    return site.one_input(partial(operator, table, wanted=site.wanted[0], parts=site.parts))


def operator(table: Top, read: Schema, wanted: Wanted = None, *, parts: int = 1) -> Operator:
    """The operator over rows of ``read``, of which it keeps the columns that are ``wanted``.  Raises ExpressionError for an expression that
    does not check.  ``parts``: into how many parts by key it is cut, a power of two; without effect where there is no key."""
    read = narrowed(read, wanted)
    by = [resolve_expression(expression, read) for _, expression in table.by]
    order = [resolve_expression(key.expression, read) for key in table.order]
    compiled = compile_typed([*by, *order], read)
    output = table.output((read,))
    assert output is not None

    def prepare(batch: Batch) -> SortColumns:
        # The same row may be looked at several times, so what is lost in computing its place is not counted.
        frame = Frame(batch, {})
        columns = tuple(part.within(frame) for part in compiled)
        return SortColumns(columns[: len(by)], columns[len(by) :])

    make = partial(
        TopOperator,
        n=table.n,
        output=output,
        kinds=[tree.type for tree in by],
        directions=[Direction(key.descending, key.nulls_first) for key in table.order],
        prepare=prepare,
        end_column=BOUNDS[1] if table.over_windows(read) else None,
        **_windows(table),
    )
    if parts == 1 or not by:
        return make()
    from asyncflow.operators.parts.tops import PartedTop

    keys = compile_typed(by, read)
    return PartedTop(
        make,
        parts,
        key_kinds=[tree.type.value for tree in by],
        keys=lambda batch: tuple(key.within(Frame(batch, {})) for key in keys),
    )


def _windows(table: Top) -> dict[str, Any]:
    match table.shape:
        case Tumbling(size_ns=size_ns, offset_ns=offset_ns):
            return {"size_ns": size_ns, "offset_ns": offset_ns}
        case Hopping(size_ns=size_ns, every_ns=every_ns, offset_ns=offset_ns):
            return {"size_ns": size_ns, "every_ns": every_ns, "offset_ns": offset_ns}
        case None | AllRows():
            return {}
        case _:
            raise TypeError(f"{table.name}: no top of these windows")
