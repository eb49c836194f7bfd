"""What columns every table of a plan has, and which of a source's columns the plan reads at all.

A schema is None where it is not known yet: the source's was left out and nothing was read of it, the stage is a user's function, or an
expression before it does not type.  Projection (``read_columns``) is what lets a decoder skip the other columns.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from asyncflow.model.schema import DataType, Field, Schema
from asyncflow.plan import graph
from asyncflow.plan.expressions import Expression, columns_of
from asyncflow.plan.tables import Derive, Filter, MapBatches, Plan, Source, Stage, Window
from asyncflow.plan.typing import check_expression
from asyncflow.plan.windows import Hopping, Tumbling

REJECTED = Schema.of((name, DataType.STRING) for name in ("record", "reason", "position"))
"""Columns of every ``NAME.rejected``."""

BOUNDS = ("window_start", "window_end")
"""Columns that stand first in the rows of a window with bounds."""


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
        read = input_schema(stage.inputs, schemas)
        schemas[stage.name] = None if stage.name in incomplete else stage_schema(stage, read)
        if isinstance(stage, Window):
            schemas[f"{stage.name}.late"] = read
        elif isinstance(stage, MapBatches):
            schemas[f"{stage.name}.rejected"] = REJECTED
    return schemas


def input_schema(inputs: tuple[str, ...], schemas: Mapping[str, Schema | None]) -> Schema | None:
    """The schema of the union of ``inputs``: that of the first one known."""
    return next((schema for name in inputs if (schema := schemas.get(name)) is not None), None)


def stage_schema(stage: Stage, read: Schema | None) -> Schema | None:
    """What the stage's rows look like where it reads ``read``; None where that is not known or an expression does not type."""
    match stage:
        case MapBatches(schema=schema):
            return schema
        case Filter():
            return None if read is None else Schema.of((field.name, field.type) for field in read)
        case Derive(columns=columns):
            if read is None:
                return None
            added = _typed(columns, read)
            if added is None:
                return None
            types = {field.name: field.type for field in read} | dict(added)
            return Schema.of(types.items())
        case Window(shape=shape, by=by, aggregates=aggregates):
            if read is None:
                return None
            keys, values = _typed(by, read), _typed(aggregates, read, aggregates=True)
            if keys is None or values is None:
                return None
            bounds = (
                [(name, DataType.TIMESTAMP) for name in BOUNDS]
                if isinstance(shape, Tumbling | Hopping)
                else []
            )
            columns_out = [*bounds, *keys, *values]
            return Schema.of(columns_out) if len(dict(columns_out)) == len(columns_out) else None


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
    """For each source whose schema is known, the columns that the plan reads, in the schema's order; the time column is always one.

    A table that a sink, a side output or a function reads is needed whole, and so is one that nobody reads (it is the result).
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
                need(stage.inputs, None if everything is None else (everything - made) | used)
            case Window(by=by, aggregates=aggregates):
                used = {name for _, expression in (*by, *aggregates) for name in columns_of(expression)}
                need(stage.inputs, None if f"{stage.name}.late" in readers else used)
            case MapBatches():
                need(stage.inputs, None)
    result = {}
    for source in plan.sources:
        schema = schemas.get(source.name)
        if schema is None:
            continue
        names = set(needed.get(source.name, ()))
        if source.name not in readers or f"{source.name}.future" in readers:
            names.add("*")
        if source.time is not None:
            names.add(source.time)
        result[source.name] = (
            schema.names if "*" in names else tuple(name for name in schema.names if name in names)
        )
    return result
