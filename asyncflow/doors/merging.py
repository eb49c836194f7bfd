"""Two plans made one, for joins and unions of flows: tables that both have stay one, generated names that are taken become others."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from msgspec.structs import replace

from asyncflow.plan.tables import Plan

_GENERATED = re.compile(r"(source|stage|sink)_\d+\Z")


def merged(plan: Plan, other: Plan) -> tuple[Plan, dict[str, str]]:
    """One plan of both, with tables that they share once, and the new names of the other's tables whose generated names were taken."""
    mine = {id(table) for table in plan.tables}
    taken = {table.name for table in plan.tables}
    fresh: dict[str, str] = {}
    for table in other.tables:
        if id(table) not in mine and table.name in taken and _GENERATED.match(table.name):
            fresh[table.name] = free_name(
                table.name.partition("_")[0],
                taken | {t.name for t in other.tables} | set(fresh.values()),
            )
    theirs = renamed(other, fresh)
    plan = replace(
        plan,
        sources=(*plan.sources, *(table for table in theirs.sources if id(table) not in mine)),
        stages=(*plan.stages, *(table for table in theirs.stages if id(table) not in mine)),
        sinks=(*plan.sinks, *(table for table in theirs.sinks if id(table) not in mine)),
    )
    return plan, fresh


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
