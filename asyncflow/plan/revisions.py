"""Rows that are sent again when they have changed, and the stages that may not read them.

A revised window sends each of its rows once per revision.  Another window over them would count them more than once, unless a filter
leaves the final ones only.
"""

from __future__ import annotations

from collections.abc import Iterable

from asyncflow.errors import Problem
from asyncflow.plan.tables import Plan, Stage


def revision_problems(stage: Stage, plan: Plan) -> Iterable[Problem]:
    """What is wrong with a stage over windows whose input sends rows again."""
    if (again := revised_input(stage, plan)) is not None:
        yield Problem(
            stage.path("inputs"),
            f"{again!r} sends its rows again when they change: a window or a top over these rows would count them more than once",
            'read the final ones only, through a filter: where = "final"',
        )


def revised_input(stage: Stage, plan: Plan) -> str | None:
    """The table whose revisions reach ``stage``; None where there is none."""
    stages = {each.name: each for each in plan.stages}
    seen: set[str] = set()
    pending = list(stage.inputs)
    while pending:
        name = pending.pop()
        table, _, output = name.partition(".")
        if name in seen or table not in stages:
            continue
        seen.add(name)
        read = stages[table]
        if read.revised and not output:
            return table
        if not read.settles(output):
            pending += read.inputs
    return None
