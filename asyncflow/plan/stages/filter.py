"""The stage ``filter``: rows for which a condition is true."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from asyncflow.errors import Problem
from asyncflow.model.schema import Schema
from asyncflow.plan.expressions.expression_print import expression_text
from asyncflow.plan.expressions.named import condition_problems
from asyncflow.plan.expressions.nodes import Call, ColumnRef, Expression, Literal, columns_of
from asyncflow.plan.tables import Plan, Read, Stage, TimeColumns, Wanted

FINAL = ColumnRef("final")


class Filter(Stage, frozen=True):
    """Keeps the rows for which ``where`` is true; not those for which it is null."""

    where: Expression

    type: ClassVar[str] = "filter"
    by_time: ClassVar[bool] = False
    passes_rows: ClassVar[bool] = True

    @property
    def ways(self) -> tuple[str, ...]:
        return ("filtered", "rows_out")

    def output(self, read: Read) -> Schema | None:
        return None if read[0] is None else read[0].plain()

    def reads(self, wanted: Wanted, read: Read, times: TimeColumns) -> tuple[Wanted, ...]:
        return (None if wanted is None else wanted | set(columns_of(self.where)),)

    def problems(self, read: Read, plan: Plan) -> Iterable[Problem]:
        return condition_problems(self.path("where"), self.where, read[0])

    def describe(self, read: Read) -> dict[str, Any]:
        return {"where": expression_text(self.where)}

    def state_text(self) -> str | None:
        return None

    def settles(self, output: str) -> bool:
        """A filter for final rows leaves each result once."""
        return leaves_final(self.where)


def leaves_final(where: Expression) -> bool:
    """Whether the condition is, or has as a part of its AND, ``final`` (or ``final = TRUE``)."""
    match where:
        case Call("and", args):
            return any(leaves_final(arg) for arg in args)
        case Call("eq", (left, right)):
            return FINAL in (left, right) and any(
                isinstance(each, Literal) and each.value is True for each in (left, right)
            )
        case _:
            return where == FINAL
