"""A stage that a door could not read: the node keeps the place of the table, so that the other tables are checked as written."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from asyncflow.errors import Problem
from asyncflow.model.schema import Schema
from asyncflow.plan.tables import Plan, Read, Stage, TimeColumns, Wanted


class Unreadable(Stage, frozen=True):
    """Says nothing of its rows, and never runs: the door that made it has a problem to tell."""

    type: ClassVar[str] = "unreadable"
    by_time: ClassVar[bool] = False
    side_outputs: ClassVar[tuple[str, ...]] = ("rejected",)

    @property
    def ways(self) -> tuple[str, ...] | None:
        return None

    def output(self, read: Read) -> Schema | None:
        return None

    def reads(self, wanted: Wanted, read: Read, times: TimeColumns) -> tuple[Wanted, ...]:
        return (None,) * len(read)

    def problems(self, read: Read, plan: Plan) -> Iterable[Problem]:
        return ()

    def describe(self, read: Read) -> dict[str, Any]:
        return {}

    def state_text(self) -> str | None:
        return None

    def settles(self, output: str) -> bool:
        return True
