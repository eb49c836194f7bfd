"""Two plans made one, for joins and unions of flows: tables that both have stay one, generated names that are taken become others.

A table is the object that a call made.  A table that gets another name or other inputs here is another object and still the same table:
:data:`Originals` keeps the object as it was made.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence, Set
from typing import Any, TypeAlias, TypeVar

from msgspec.structs import replace

from asyncflow.plan.tables import Plan, Sink, Source, Stage

_GENERATED = re.compile(r"(source|stage|sink)_\d+\Z")


AnyTable = TypeVar("AnyTable", Source, Stage, Sink)
Table: TypeAlias = Source | Stage | Sink
Originals: TypeAlias = Mapping[str, Table]
"""By the names of tables that were given another name or other inputs when plans were merged: the tables as they were made."""


def merged(
    plan: Plan, originals: Originals, other: Plan, others: Originals
) -> tuple[Plan, dict[str, Table], dict[str, str]]:
    """One plan of both, with tables that they share once; its originals; and the new names of the other's tables.

    A table that both have goes by its name in ``plan``; a generated name that is taken becomes another.
    """
    mine = {id(originals.get(table.name, table)): table.name for table in plan.tables}
    taken = {table.name for table in plan.tables} | {table.name for table in other.tables}
    of_plan = {table.name for table in plan.tables}
    fresh: dict[str, str] = {}
    shared = set()
    for table in other.tables:
        if (name := mine.get(id(others.get(table.name, table)))) is not None:
            shared.add(table.name)
            if name != table.name:
                fresh[table.name] = name
        elif table.name in of_plan and _GENERATED.match(table.name):
            fresh[table.name] = free_name(table.name.partition("_")[0], taken)
            taken.add(fresh[table.name])
    both = dict(originals)
    theirs = renamed(other, fresh)
    for before, after in zip(other.tables, theirs.tables, strict=True):
        original = others.get(before.name, before)
        if before.name not in shared and after is not original:
            both[after.name] = original
    plan = replace(
        plan,
        sources=(*plan.sources, *_new(other.sources, theirs.sources, shared)),
        stages=(*plan.stages, *_new(other.stages, theirs.stages, shared)),
        sinks=(*plan.sinks, *_new(other.sinks, theirs.sinks, shared)),
    )
    return plan, both, fresh


def _new(before: Sequence[AnyTable], after: Sequence[AnyTable], shared: Set[str]) -> Iterator[AnyTable]:
    """The tables, by their names before, that are not shared."""
    return (new for old, new in zip(before, after, strict=True) if old.name not in shared)


def free_name(kind: str, taken: set[str]) -> str:
    number = 1
    while f"{kind}_{number}" in taken:
        number += 1
    return f"{kind}_{number}"


def rename(name: str, names: Mapping[str, str]) -> str:
    table, dot, kind = name.partition(".")
    return names.get(table, table) + dot + kind


def renamed(plan: Plan, names: Mapping[str, str]) -> Plan:
    """The plan with tables renamed, and with them all that reads them; a table that is not concerned stays the same object."""

    def reader(table: Any) -> Any:
        name, inputs = names.get(table.name, table.name), tuple(rename(each, names) for each in table.inputs)
        return (
            table
            if (name, inputs) == (table.name, table.inputs)
            else replace(table, name=name, inputs=inputs)
        )

    return replace(
        plan,
        sources=tuple(
            replace(each, name=names[each.name]) if each.name in names else each for each in plan.sources
        ),
        stages=tuple(reader(each) for each in plan.stages),
        sinks=tuple(reader(each) for each in plan.sinks),
    )
