"""Checks a pipeline's own tests (``[[tests]]`` in its file) against its plan."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from asyncflow.errors import Problem
from asyncflow.model.schema import Schema
from asyncflow.plan import graph
from asyncflow.plan.names import nearest
from asyncflow.plan.tables import Advance, Plan, Row


def problems_of(
    plan: Plan, schemas: Mapping[str, Schema | None], incomplete: Iterable[str] = ()
) -> Iterable[Problem]:
    """Tables and columns that the tests name and the plan does not have."""
    sources = [source.name for source in plan.sources]
    sinks = {sink.name: sink.inputs for sink in plan.sinks}
    readable = (*graph.readable(plan), *sinks)
    hidden = set(incomplete)
    for number, trial in enumerate(plan.trials):
        for position, step in enumerate(trial.feed):
            if isinstance(step, Advance) or not step.table:
                continue
            path = f"tests[{number}].feed[{position}]"
            if step.table not in sources:
                yield Problem(f"{path}.table", f"unknown source {step.table!r}", nearest(step.table, sources))
            elif step.table not in hidden:
                yield from _columns(step.rows, f"{path}.rows", schemas.get(step.table))
        for position, expected in enumerate(trial.expect):
            path = f"tests[{number}].expect[{position}]"
            name = expected.table
            if name and name not in readable:
                yield Problem(f"{path}.table", f"unknown table {name!r}", nearest(name, readable))
                continue
            read = next((schemas.get(each) for each in sinks.get(name, (name,))), None)
            if graph.owner(name) not in hidden:
                yield from _columns(expected.rows, f"{path}.rows", read)


def _columns(rows: Iterable[Row], path: str, schema: Schema | None) -> Iterable[Problem]:
    if schema is None:
        return
    for number, row in enumerate(rows):
        for name in row:
            if name not in schema:
                yield Problem(
                    f"{path}[{number}].{name}", f"unknown column {name!r}", nearest(name, schema.names)
                )
