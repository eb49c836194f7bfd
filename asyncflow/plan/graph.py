"""The wires of a plan: which table reads which, in what order the stages can be computed, and which sources a table comes from.

An input names a table (``sales``) or a side output (``sales.rejected``).  A stage may be written before a table it reads: order in the
file only decides the inputs that were left out.  Cycles are found here and reported by ``validate``.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec.structs import replace

from asyncflow.model.schema import Schema
from asyncflow.plan.tables import Plan, Read, Sink, Source, Stage, TimeColumns


def owner(name: str) -> str:
    """The table an input belongs to: ``sales`` for both ``sales`` and ``sales.rejected``."""
    return name.partition(".")[0]


def side_outputs(table: Source | Stage | Sink) -> tuple[str, ...]:
    """Full names of a table's side outputs: ``("sales.rejected", "sales.future")``."""
    return tuple(f"{table.name}.{kind}" for kind in table.side_outputs)


def ports(stage: Stage) -> tuple[tuple[str, ...], ...]:
    """The inputs of a stage, those together that it reads as one union."""
    return tuple((name,) for name in stage.inputs) if stage.apart else (stage.inputs,)


def read_schemas(stage: Stage, schemas: Mapping[str, Schema | None]) -> Read:
    """The schemas of what a stage reads, of a union that of the first input known; ``schemas``: of all tables, by name."""
    return tuple(
        next((schema for name in names if (schema := schemas.get(name)) is not None), None)
        for names in ports(stage)
    )


def read_times(stage: Stage, times: Mapping[str, TimeColumns]) -> tuple[TimeColumns, ...]:
    """The time columns of what a stage reads, none of a union whose inputs differ; ``times``: of all tables, by name."""
    found = [{times.get(name, ()) for name in names} for names in ports(stage)]
    return tuple(each.pop() if len(each) == 1 else () for each in found)


def readable(plan: Plan) -> tuple[str, ...]:
    """Every name that may stand in ``inputs``."""
    return tuple(
        name
        for table in plan.tables
        if not isinstance(table, Sink)
        for name in (table.name, *side_outputs(table))
    )


def read_names(plan: Plan) -> frozenset[str]:
    """Every name that does stand in some table's ``inputs``."""
    return frozenset(name for table in plan.readers for name in table.inputs)


def ends(plan: Plan) -> tuple[str, ...]:
    """The tables that a sink reads where it does not say: the last stage, or all sources (a stage among the sources instead of those that
    it reads)."""
    stages = [stage for stage in plan.stages if stage.room == "stages"]
    if stages:
        return (stages[-1].name,)
    members = {name for stage in plan.stages for name in stage.inputs}
    sources = [source.name for source in plan.sources if source.name not in members]
    return (*(stage.name for stage in plan.stages), *sources)


def order(plan: Plan) -> tuple[tuple[Stage, ...], tuple[Stage, ...]]:
    """The stages so that each comes after what it reads, as written where that is free; then those that never can (cycles, and what
    hangs on them)."""
    waiting = {stage.name for stage in plan.stages}
    ordered: list[Stage] = []
    pending = list(plan.stages)
    progressed = True
    while pending and progressed:
        progressed = False
        for stage in pending:
            if not any(owner(name) in waiting for name in stage.inputs):
                ordered.append(stage)
                pending.remove(stage)
                waiting.discard(stage.name)
                progressed = True
                break
    return tuple(ordered), tuple(pending)


def in_order(plan: Plan) -> Plan:
    """The same plan with every stage after the tables it reads; unchanged where it has cycles."""
    ordered, cyclic = order(plan)
    return plan if cyclic else replace(plan, stages=ordered)


def sources_of(plan: Plan, name: str) -> tuple[Source, ...]:
    """The sources whose rows reach table ``name``; side outputs count as their table.  Unknown names and cycles give what is known."""
    return part(plan, name).sources


def part(plan: Plan, name: str) -> Plan:
    """What table ``name`` comes from, and the table itself, as a plan of its own; as in ``sources_of``."""
    seen: set[str] = set()
    pending = [owner(name)]
    while pending:
        current = pending.pop(0)
        if current in seen:
            continue
        seen.add(current)
        try:
            table = plan.table(current)
        except KeyError:
            continue
        if not isinstance(table, Source):
            pending += [owner(each) for each in table.inputs]
    return Plan(
        plan.name,
        tuple(source for source in plan.sources if source.name in seen),
        tuple(stage for stage in plan.stages if stage.name in seen),
    )
