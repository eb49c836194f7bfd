"""What columns every table of a plan has, and which of a source's columns the plan reads at all.

A schema is None where it is not known yet: the source's was left out and nothing was read of it, the stage is a user's function, or an
expression before it does not type.  Projection (``read_columns``) is what lets a decoder skip the other columns.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from asyncflow.model.schema import DataType, Field, Schema
from asyncflow.plan import graph
from asyncflow.plan.expressions.nodes import Expression, columns_of
from asyncflow.plan.expressions.typing import check_expression
from asyncflow.plan.joins import join_reads, join_schema
from asyncflow.plan.tables import (
    SIDE_OUTPUTS,
    Dedup,
    Derive,
    Filter,
    Join,
    MapBatches,
    Plan,
    Sequence,
    Source,
    Stage,
    Top,
    Window,
)
from asyncflow.plan.times import re_timed_columns, time_columns
from asyncflow.plan.windows import BOUNDED, Hopping, Tumbling

REJECTED = Schema.of((name, DataType.STRING) for name in ("record", "reason", "position"))
"""Columns of every ``NAME.rejected``."""

BOUNDS = ("window_start", "window_end")
"""Columns that stand first in the rows of a window with bounds."""

RANK = "rank"
"""The last column of a top stage."""

REVISIONS = (("revision", DataType.INT64), ("final", DataType.BOOL))
"""Columns that stand last in the rows of a window that may be sent more than once."""


def source_schema(source: Source, inferred: Schema | None = None) -> Schema | None:
    """The source's columns: as declared, else as inferred, there with the time column read in ``time_unit``."""
    if source.schema is not None or inferred is None:
        return source.schema
    if not source.time_unit or source.time not in inferred:
        return inferred
    return Schema(
        tuple(
            Field(field.name, DataType.TIMESTAMP, source.time_unit) if field.name == source.time else field
            for field in inferred
        )
    )


def table_schemas(
    plan: Plan, inferred: Mapping[str, Schema] | None = None, *, incomplete: Collection[str] = ()
) -> dict[str, Schema | None]:
    """The schema of every source, stage and side output, by name; None where it is not known.

    ``inferred``: schemas of sources that were declared without one.  ``incomplete``: tables of which a door could not read a part.
    """
    schemas: dict[str, Schema | None] = {}
    for source in plan.sources:
        schema = source_schema(source, (inferred or {}).get(source.name))
        schemas[source.name] = None if source.name in incomplete else schema
        schemas[f"{source.name}.rejected"] = REJECTED
        schemas[f"{source.name}.future"] = schemas[source.name]
    ordered, cyclic = graph.order(plan)
    for stage in (*ordered, *cyclic):
        if isinstance(stage, Join):
            left, right = (schemas.get(name) for name in stage.inputs)
            schemas[stage.name] = None if stage.name in incomplete else join_schema(stage, left, right)
            schemas[f"{stage.name}.late"] = left
            continue
        read = input_schema(stage.inputs, schemas)
        schemas[stage.name] = None if stage.name in incomplete else stage_schema(stage, read)
        for kind in SIDE_OUTPUTS.get(type(stage), ()):
            schemas[f"{stage.name}.{kind}"] = REJECTED if kind == "rejected" else read
    return schemas


def input_schema(inputs: tuple[str, ...], schemas: Mapping[str, Schema | None]) -> Schema | None:
    """The schema of the union of ``inputs``: that of the first one known."""
    return next((schema for name in inputs if (schema := schemas.get(name)) is not None), None)


def stage_schema(stage: Stage, read: Schema | None) -> Schema | None:
    """What the stage's rows look like where it reads ``read``; None where that is not known or an expression does not type."""
    match stage:
        case MapBatches(schema=schema):
            return schema
        case Join():
            raise TypeError("a join reads two tables: see join_schema")
        case Filter() | Dedup() | Sequence():
            return None if read is None else Schema.of((field.name, field.type) for field in read)
        case Derive(columns=columns):
            if read is None:
                return None
            added = _typed(columns, read)
            if added is None:
                return None
            types = {field.name: field.type for field in read} | dict(added)
            return Schema.of(types.items())
        case Window(shape=shape, by=by, aggregates=aggregates, revised=revised):
            if read is None:
                return None
            keys, values = _typed(by, read), _typed(aggregates, read, aggregates=True)
            if keys is None or values is None:
                return None
            bounds = [(name, DataType.TIMESTAMP) for name in BOUNDS] if isinstance(shape, BOUNDED) else []
            columns_out = [*bounds, *keys, *values, *(REVISIONS if revised else ())]
            return Schema.of(columns_out) if len(dict(columns_out)) == len(columns_out) else None

        case Top():
            return None if read is None else top_schema(stage, read)


def top_schema(stage: Top, read: Schema) -> Schema | None:
    """Bounds where it has windows of its own, the input's columns, the rank; None where a name would stand there twice."""
    added = [(name, DataType.TIMESTAMP) for name in top_bounds(stage)]
    columns = [*added, *((field.name, field.type) for field in read), (RANK, DataType.INT64)]
    return Schema.of(columns) if len(dict(columns)) == len(columns) else None


def top_bounds(stage: Top) -> tuple[str, ...]:
    """The bounds columns that a top stage adds."""
    return BOUNDS if isinstance(stage.shape, Tumbling | Hopping) else ()


def goes_over_windows(stage: Top, read: Schema) -> bool:
    """Whether a top stage groups its input's rows by the window they come from."""
    return stage.shape is None and BOUNDS[1] in read and read[BOUNDS[1]].type is DataType.TIMESTAMP


def _typed(
    columns: tuple[tuple[str, Expression], ...], read: Schema, *, aggregates: bool = False
) -> list[tuple[str, DataType]] | None:
    types = []
    for name, expression in columns:
        type_, problems = check_expression(expression, read, aggregates=aggregates)
        if problems:
            return None
        types.append((name, type_ or DataType.STRING))
    return types


def read_columns(plan: Plan, schemas: Mapping[str, Schema | None]) -> dict[str, tuple[str, ...]]:
    """For each source whose schema is known, the columns that are read of it, in the schema's order: those that it passes on, the time
    column, and all of them where ``NAME.future`` is read."""
    readers = graph.read_names(plan)
    result = {}
    for name, passed in passed_columns(plan, schemas).items():
        source, schema = plan.table(name), schemas[name]
        assert isinstance(source, Source)
        assert schema is not None
        whole = f"{name}.future" in readers
        result[name] = tuple(each for each in schema.names if whole or each in passed or each == source.time)
    return result


def passed_columns(plan: Plan, schemas: Mapping[str, Schema | None]) -> dict[str, tuple[str, ...]]:
    """For each source whose schema is known, the columns that the plan uses of its rows, in the schema's order.

    A table that a sink, a side output or a function reads is needed whole, and so is one that nobody reads (it is the result).  The same
    for all sources of a union, whatever else is read of each.
    """
    readers = graph.read_names(plan)
    needed: dict[str, set[str]] = {}

    def need(inputs: tuple[str, ...], names: Collection[str] | None) -> None:
        """``names`` None: all columns of that table."""
        for name in inputs:
            schema = schemas.get(name)
            wanted = names if names is not None else schema.names if schema is not None else ("*",)
            needed.setdefault(name, set()).update(wanted)

    for sink in plan.sinks:
        need(sink.inputs, None)
    ordered, cyclic = graph.order(plan)
    times = time_columns(plan, schemas)
    for stage in reversed((*ordered, *cyclic)):
        if stage.name not in readers:
            need((stage.name,), None)
        wanted = needed.get(stage.name, set())
        everything = None if "*" in wanted else wanted
        match stage:
            case Filter(where=where):
                need(stage.inputs, None if everything is None else everything | set(columns_of(where)))
            case Derive(columns=columns):
                used = {name for _, expression in columns for name in columns_of(expression)}
                made = {name for name, _ in columns}
                used |= re_timed_columns(stage, schemas.get(stage.name), times.get(stage.inputs[0], ()))
                need(stage.inputs, None if everything is None else (everything - made) | used)
            case Window(by=by, aggregates=aggregates):
                used = {name for _, expression in (*by, *aggregates) for name in columns_of(expression)}
                need(stage.inputs, None if f"{stage.name}.late" in readers else used)
            case Dedup(by=by):
                need(stage.inputs, _passed(stage, wanted, readers, _columns_of(e for _, e in by)))
            case Top(by=by, order=order):
                used = _columns_of((*(e for _, e in by), *(key.expression for key in order)))
                read = input_schema(stage.inputs, schemas)
                if read is not None and goes_over_windows(stage, read):
                    used.add(BOUNDS[1])
                need(stage.inputs, _passed(stage, wanted - {RANK, *top_bounds(stage)}, readers, used))
            case Sequence(unique=unique):
                need(stage.inputs, _passed(stage, wanted, readers, set(unique)))
            case Join(inputs=(left, right)):
                both = join_reads(
                    stage,
                    everything,
                    schemas.get(left),
                    schemas.get(right),
                    late=f"{stage.name}.late" in readers,
                )
                for name, names in zip(stage.inputs, both, strict=True):
                    need((name,), names)
            case MapBatches():
                need(stage.inputs, None)
    result = {}
    for source in plan.sources:
        schema = schemas.get(source.name)
        if schema is None:
            continue
        names = needed.get(source.name, set())
        whole = "*" in names or source.name not in readers
        result[source.name] = tuple(name for name in schema.names if whole or name in names)
    return result


def _columns_of(expressions: Iterable[Expression]) -> set[str]:
    return {name for expression in expressions for name in columns_of(expression)}


def _passed(stage: Stage, wanted: set[str], readers: Collection[str], used: set[str]) -> set[str] | None:
    """What a stage that passes whole rows on needs of its input: None (all) where a side output is read, for it has the input's columns."""
    whole = "*" in wanted or any(name in readers for name in graph.side_outputs(stage))
    return None if whole else wanted | used
