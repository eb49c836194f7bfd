"""Which columns say the time of a table's rows, and which stages give rows another time.

A row's event time is the greatest of the table's *time columns* that is not null.  A source has the column that it names; a window's rows
go by ``window_end``, 1 ns before it; a join's rows have the columns of both sides.  A ``derive`` that replaces such a column, and every
user's function, *re-times* its rows.  A table has none where rows go by their arrival, where the inputs of a union differ, or where a
column is no timestamp any more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from asyncflow.errors import Problem
from asyncflow.model.schema import DataType, Schema
from asyncflow.plan import graph
from asyncflow.plan.expressions.nodes import ColumnRef
from asyncflow.plan.joins import right_columns
from asyncflow.plan.tables import (
    SIDE_OUTPUTS,
    Derive,
    Filter,
    Join,
    MapBatches,
    Plan,
    Sink,
    Stage,
    Top,
    Window,
)
from asyncflow.plan.windows import BOUNDED, Count, Hopping, Tumbling

TIMES = (DataType.TIMESTAMP, DataType.INT64)
"""What a column of a function's result may be, to say its rows' times: ``to_pylist`` gives timestamps as integers of ns."""


class TimeColumn(NamedTuple):
    """A row's time is this column's value less ``before_ns``."""

    name: str
    before_ns: int = 0


TimeColumns = tuple[TimeColumn, ...]
WINDOWS: TimeColumns = (TimeColumn("window_end", 1),)
"""Of a window's rows.  A function that leaves this one out is no mistake: nobody named it as the time."""


def time_columns(plan: Plan, schemas: Mapping[str, Schema | None]) -> dict[str, TimeColumns]:
    """The time columns of every table and side output, by name; none where they are not known."""
    found: dict[str, TimeColumns] = {}
    for source in plan.sources:
        found[source.name] = found[f"{source.name}.future"] = (
            () if source.time is None else (TimeColumn(source.time),)
        )
    ordered, cyclic = graph.order(plan)
    for stage in (*ordered, *cyclic):
        read = {found.get(name, ()) for name in stage.inputs}
        before = found.get(stage.inputs[0], ()) if isinstance(stage, Join) or len(read) == 1 else ()
        found[stage.name] = _given(stage, before, found, schemas)
        for kind in SIDE_OUTPUTS.get(type(stage), ()):
            if kind != "rejected":
                found[f"{stage.name}.{kind}"] = before
    return found


def re_times(stage: Stage, before: TimeColumns, schema: Schema | None) -> bool:
    """Whether a stage over rows of these time columns gives them times of its own; ``schema``: of its rows."""
    if isinstance(stage, MapBatches):
        return bool(before)
    if not isinstance(stage, Derive):
        return False
    changed = [name for name, expression in stage.columns if expression != ColumnRef(name)]
    return any(column.name in changed for column in before) and not _lost(before, schema)


def re_timed_columns(stage: Derive, schema: Schema | None, before: TimeColumns) -> set[str]:
    """The input's columns that a re-timing derive needs beside those of its expressions."""
    made = {name for name, _ in stage.columns}
    return {column.name for column in before} - made if re_times(stage, before, schema) else set()


def delay_ns(plan: Plan, name: str) -> int:
    """How far the watermark of re-timed rows stays behind them: the greatest delay of the sources they come from, and what joins between
    hold back."""
    part = graph.part(plan, name)
    held = sum(_join_ns(stage) for stage in part.stages if isinstance(stage, Join))
    return max((source.watermark_delay_ns for source in part.sources), default=0) + held


def goes_by_time(plan: Plan, name: str) -> bool:
    """Whether the times of this table's rows show anywhere: in a stage that goes by them, or in the order of a union."""
    for table in (*plan.stages, *plan.sinks):
        if name not in table.inputs:
            continue
        if len(table.inputs) > 1:
            return True
        if isinstance(table, Sink):
            continue
        if not isinstance(table, Filter | Derive | MapBatches) or goes_by_time(plan, table.name):
            return True
    return False


def time_problems(plan: Plan, schemas: Mapping[str, Schema | None]) -> Iterable[Problem]:
    """Stages that take from rows the column by which they have their time, where that is still needed."""
    if graph.order(plan)[1]:
        return
    times = time_columns(plan, schemas)
    for stage in plan.stages:
        if not isinstance(stage, Derive | MapBatches) or len({times.get(name) for name in stage.inputs}) != 1:
            continue
        schema, before = schemas.get(stage.name), times.get(stage.inputs[0], ())
        if schema is None or not (lost := _lost(before, schema)) or not goes_by_time(plan, stage.name):
            continue
        if isinstance(stage, Derive):
            yield Problem(
                f"stages.{stage.name}.columns.{lost[0]}",
                f"{lost[0]!r} is the time of the rows, and no timestamp any more",
                "a column of another name leaves it as it is",
            )
        elif before != WINDOWS and any(name not in schema or schema[name].type not in TIMES for name in lost):
            yield Problem(
                f"stages.{stage.name}.schema",
                f"the time column {lost[0]!r} is missing: rows keep their time by it",
                "the function has to return it",
            )


def _given(
    stage: Stage, before: TimeColumns, found: Mapping[str, TimeColumns], schemas: Mapping[str, Schema | None]
) -> TimeColumns:
    schema = schemas.get(stage.name)
    match stage:
        case Window(shape=shape):
            return WINDOWS if isinstance(shape, BOUNDED) and not isinstance(shape, Count) else ()
        case Top(shape=shape) if isinstance(shape, Tumbling | Hopping):
            return WINDOWS
        case Top():
            return before if before == WINDOWS else ()
        case Join():
            if stage.is_lookup or stage.kind in ("semi", "anti"):
                return before
            left, right = (schemas.get(name) for name in stage.inputs)
            other = found.get(stage.inputs[1], ())
            if left is None or right is None or not before or not other:
                return ()
            names = right_columns(stage, left.names, right.names)
            return before + tuple(
                each._replace(name=names[each.name]) for each in other if each.name in names
            )
        case Derive():
            return () if _lost(before, schema) else before
        case _:
            return before


def _lost(before: TimeColumns, schema: Schema | None) -> list[str]:
    """The time columns that are no timestamps in ``schema``."""
    if schema is None:
        return []
    return [
        column.name
        for column in before
        if column.name not in schema or schema[column.name].type is not DataType.TIMESTAMP
    ]


def _join_ns(stage: Join) -> int:
    if stage.within_ns is not None:
        lower, upper = stage.within_ns
        return max(upper, 0) - min(lower, 0)
    if isinstance(stage.window, Tumbling | Hopping):
        return stage.window.size_ns
    return 2 * (stage.tolerance_ns or 0)
