"""The stage ``derive``: adds computed columns, or replaces columns of the same name."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from asyncflow.errors import Problem
from asyncflow.model.schema import Schema
from asyncflow.plan.expressions.named import Named, column_problems, read_by, texts_of, types_of
from asyncflow.plan.expressions.nodes import ColumnRef
from asyncflow.plan.tables import Plan, Read, Stage, TimeColumns, Wanted, not_timestamps


class Derive(Stage, frozen=True):
    """Adds columns, or replaces those of the same name; each expression sees the input's columns only.

    Where the time column is replaced, rows have the new time; a row whose new time is null is rejected.
    """

    columns: Named

    type: ClassVar[str] = "derive"
    side_outputs: ClassVar[tuple[str, ...]] = ("rejected",)
    by_time: ClassVar[bool] = False
    passes_rows: ClassVar[bool] = True

    @property
    def ways(self) -> tuple[str, ...]:
        return ("rejected", "rows_out")

    def output(self, read: Read) -> Schema | None:
        if read[0] is None or (added := types_of(self.columns, read[0])) is None:
            return None
        types = {field.name: field.type for field in read[0]} | dict(added)
        return Schema.of(types.items())

    def reads(self, wanted: Wanted, read: Read, times: TimeColumns) -> tuple[Wanted, ...]:
        if wanted is None:
            return (None,)
        made = {name for name, _ in self.columns}
        needed = (wanted - made) | read_by(self.columns)
        if self.re_times(times, read):
            needed |= {column.name for column in times} - made
        return (needed,)

    def problems(self, read: Read, plan: Plan) -> Iterable[Problem]:
        return column_problems(self.path("columns"), self.columns, read[0])

    def describe(self, read: Read) -> dict[str, Any]:
        return {"expressions": texts_of(self.columns)}

    def state_text(self) -> str | None:
        return None

    def times(self, before: tuple[TimeColumns, ...], read: Read) -> TimeColumns:
        return () if not_timestamps(before[0], self.output(read)) else before[0]

    def re_times(self, before: TimeColumns, read: Read) -> bool:
        changed = {name for name, expression in self.columns if expression != ColumnRef(name)}
        return any(column.name in changed for column in before) and not not_timestamps(
            before, self.output(read)
        )

    def lost_times(self, lost: list[str], before: TimeColumns, read: Read) -> Iterable[Problem]:
        yield Problem(
            self.path("columns", lost[0]),
            f"{lost[0]!r} is the time of the rows, and no timestamp any more",
            "a column of another name leaves it as it is",
        )
