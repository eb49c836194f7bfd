"""Refuses a plan in which two components want one file, address or standard stream."""

from __future__ import annotations

from collections.abc import Iterable

from asyncflow.errors import Problem
from asyncflow.model.capabilities import Resource
from asyncflow.plan import capabilities
from asyncflow.plan.tables import Plan, Sink, Source


def resource_problems(plan: Plan) -> Iterable[Problem]:
    """A problem for each component that wants a resource of an earlier one; sources come first, in the order written."""
    taken: list[tuple[Source | Sink, Resource]] = []
    tables: list[Source | Sink] = [*plan.sources, *plan.sinks]
    for table in tables:
        own = resources_of(table)
        for resource in own:
            clash = next(((owner, other) for owner, other in taken if resource.clashes(other)), None)
            if clash is not None:
                owner, other = clash
                room = "source" if isinstance(owner, Source) else "sink"
                yield Problem(
                    f"{_room(table)}.{table.name}.{resource.option}",
                    f"{resource.text} is {other.use} by the {room} {owner.name!r} already",
                )
                break
        taken += [(table, resource) for resource in own]


def resources_of(table: Source | Sink) -> tuple[Resource, ...]:
    """What the table's connector takes of the outside."""
    if isinstance(table, Source):
        return capabilities.of_source(table.connector).resources
    return capabilities.of_sink(table.connector).resources


def _room(table: Source | Sink) -> str:
    return "sources" if isinstance(table, Source) else "sinks"
