"""The time columns of a plan's tables, and which stages give rows another time.

A row's event time is the greatest of the table's *time columns* that is not null.  A source has the column that it names; a window's rows
have ``window_end``, 1 ns before it; a join's rows have the columns of both sides.  A ``derive`` that replaces such a column, and every
user's function, *re-times* its rows.  A table has none where rows have their times of arrival, where the inputs of a union differ, or
where a column is no timestamp any more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from asyncflow.errors import Problem
from asyncflow.model.schema import Schema
from asyncflow.plan import graph
from asyncflow.plan.tables import Plan, Sink, TimeColumn, TimeColumns, not_timestamps


def time_columns(plan: Plan, schemas: Mapping[str, Schema | None]) -> dict[str, TimeColumns]:
    """The time columns of every table and side output, by name; none where they are not known."""
    found: dict[str, TimeColumns] = {}
    for source in plan.sources:
        found[source.name] = found[f"{source.name}.future"] = (
            () if source.time is None else (TimeColumn(source.time),)
        )
    ordered, cyclic = graph.order(plan)
    for stage in (*ordered, *cyclic):
        before = graph.read_times(stage, found)
        found[stage.name] = stage.times(before, graph.read_schemas(stage, schemas))
        found |= {f"{stage.name}.{kind}": before[0] for kind in stage.side_outputs if kind != "rejected"}
    return found


def re_timed(plan: Plan, schemas: Mapping[str, Schema | None]) -> frozenset[str]:
    """The stages whose results have times of their own."""
    times = time_columns(plan, schemas)
    return frozenset(
        stage.name
        for stage in plan.stages
        if stage.re_times(graph.read_times(stage, times)[0], graph.read_schemas(stage, schemas))
    )


def delay_ns(plan: Plan, name: str) -> int:
    """How far the watermark of re-timed rows stays behind them: the greatest delay of the sources they come from, and what stages between
    hold back."""
    part = graph.part(plan, name)
    held = sum(stage.delay_ns for stage in part.stages)
    return max((source.watermark_delay_ns for source in part.sources), default=0) + held


def goes_by_time(plan: Plan, name: str) -> bool:
    """Whether the times of this table's rows show anywhere: in a stage whose results hang on them, or in the order of a union."""
    for table in plan.readers:
        if name not in table.inputs:
            continue
        if len(table.inputs) > 1:
            return True
        if isinstance(table, Sink):
            continue
        if table.by_time or goes_by_time(plan, table.name):
            return True
    return False


def time_problems(plan: Plan, schemas: Mapping[str, Schema | None]) -> Iterable[Problem]:
    """Stages that take from rows the column that has their time, where the time is still needed."""
    if graph.order(plan)[1]:
        return
    times = time_columns(plan, schemas)
    for stage in plan.stages:
        before = graph.read_times(stage, times)[0]
        lost = not_timestamps(before, schemas.get(stage.name))
        if lost and goes_by_time(plan, stage.name):
            yield from stage.lost_times(lost, before, graph.read_schemas(stage, schemas))
