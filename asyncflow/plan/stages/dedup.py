"""The stage ``dedup``: the first row of each key, by arrival."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from asyncflow.errors import Problem
from asyncflow.model.durations import format_duration
from asyncflow.model.schema import Schema
from asyncflow.plan.expressions.named import Named, column_problems, read_by, texts_of
from asyncflow.plan.tables import Plan, Read, Stage, TimeColumns, Wanted


class Dedup(Stage, frozen=True):
    """The first row by arrival of each key ``by`` goes on; others within ``within_ns`` of event time of it are duplicates."""

    by: Named
    within_ns: int

    type: ClassVar[str] = "dedup"
    side_outputs: ClassVar[tuple[str, ...]] = ("duplicate",)
    passes_rows: ClassVar[bool] = True

    @property
    def ways(self) -> tuple[str, ...]:
        return ("duplicate", "rows_out")

    def output(self, read: Read) -> Schema | None:
        return None if read[0] is None else read[0].plain()

    def reads(self, wanted: Wanted, read: Read, times: TimeColumns) -> tuple[Wanted, ...]:
        return (None if wanted is None else wanted | read_by(self.by),)

    def problems(self, read: Read, plan: Plan) -> Iterable[Problem]:
        yield from column_problems(self.path("by"), self.by, read[0])
        if not self.by:
            yield Problem(self.path("by"), "there is no key", 'for example ["id"]')
        if self.within_ns < 0:
            yield Problem(self.path("within"), "it cannot be negative")

    def describe(self, read: Read) -> dict[str, Any]:
        return {"by": texts_of(self.by), "within": format_duration(self.within_ns)}

    def state_text(self) -> str:
        within = format_duration(self.within_ns)
        return f"the times of each key's rows, until the watermark is {within} past them"

    @property
    def closes(self) -> str:
        return "at once"
