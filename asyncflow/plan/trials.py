"""What a pipeline's own tests say (``[[tests]]`` in its file): rows fed, time moved on, rows expected.

Values are as written: numbers, texts, truth values, datetimes; in ``expect`` a table ``{ null = true }`` stands for null.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from msgspec import Struct

from asyncflow.errors import Problem
from asyncflow.model.schema import Schema
from asyncflow.plan.names import nearest

if TYPE_CHECKING:
    from asyncflow.plan.tables import Plan

Row: TypeAlias = Mapping[str, Any]


class Feed(Struct, frozen=True):
    """These rows come into a source, together: one message where it has messages."""

    table: str
    rows: tuple[Row, ...]


class Advance(Struct, frozen=True):
    """Time moves on: every watermark, and the wall clock, to the greatest event time so far and this much more."""

    by_ns: int


class Expect(Struct, frozen=True):
    """All rows of a table, in order; columns left out of a row are not compared."""

    table: str
    rows: tuple[Row, ...]


class Trial(Struct, frozen=True):
    """One test.  After the last of ``feed`` the input ends."""

    name: str
    feed: tuple[Feed | Advance, ...] = ()
    expect: tuple[Expect, ...] = ()


def problems_of(
    plan: Plan, schemas: Mapping[str, Schema | None], incomplete: Iterable[str] = ()
) -> Iterable[Problem]:
    """Tables and columns that the tests name and the plan does not have."""
    from asyncflow.plan import graph  # it knows tables, which know trials

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
