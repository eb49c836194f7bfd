"""The columns of every table of a plan, and which of a source's columns the plan reads at all.

A schema is None where it is not known yet: the source's was left out and nothing was read of it, the stage is a user's function, or an
expression before it does not type.  Projection (``read_columns``) lets a decoder skip the columns that nobody reads.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from asyncflow.model.schema import DataType, Field, Schema
from asyncflow.plan import graph
from asyncflow.plan.tables import Plan, Source, Stage, Wanted
from asyncflow.plan.times import time_columns

REJECTED = Schema.of((name, DataType.STRING) for name in ("record", "reason", "position"))
"""Columns of every ``NAME.rejected``."""


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
        schemas |= side_schemas(source, schemas[source.name])
    ordered, cyclic = graph.order(plan)
    for stage in (*ordered, *cyclic):
        read = graph.read_schemas(stage, schemas)
        schemas[stage.name] = None if stage.name in incomplete else stage.output(read)
        schemas |= side_schemas(stage, read[0])
    return schemas


def side_schemas(table: Source | Stage, read: Schema | None) -> dict[str, Schema | None]:
    """The schemas of a table's side outputs, by their names; ``read``: of a source's own rows, or of a stage's (first) input."""
    return {f"{table.name}.{kind}": REJECTED if kind == "rejected" else read for kind in table.side_outputs}


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
    needed, _ = _needs(plan, schemas)
    readers = graph.read_names(plan)
    return {
        source.name: _in_order(
            schema, needed.get(source.name, frozenset()) if source.name in readers else None
        )
        for source in plan.sources
        if (schema := schemas.get(source.name)) is not None
    }


def taken_columns(plan: Plan, schemas: Mapping[str, Schema | None]) -> dict[str, tuple[Wanted, ...]]:
    """For each stage the columns that it needs of what it reads: for itself, and for those that read its rows."""
    return _needs(plan, schemas)[1]


def given_columns(plan: Plan, schemas: Mapping[str, Schema | None]) -> dict[str, Wanted]:
    """For each stage the columns that others need of its rows; None: all of them, so too where nobody reads it."""
    readers, (needed, _) = graph.read_names(plan), _needs(plan, schemas)
    return {
        stage.name: needed.get(stage.name, frozenset()) if stage.name in readers else None
        for stage in plan.stages
    }


def _needs(
    plan: Plan, schemas: Mapping[str, Schema | None]
) -> tuple[dict[str, Wanted], dict[str, tuple[Wanted, ...]]]:
    """For each table that is read the columns that are needed of it, and for each stage those that it needs of what it reads."""
    readers = graph.read_names(plan)
    times = time_columns(plan, schemas)
    needed: dict[str, Wanted] = {}
    taken: dict[str, tuple[Wanted, ...]] = {}

    def need(names: Iterable[str], columns: Wanted) -> None:
        for name in names:
            known = needed.get(name, frozenset())
            needed[name] = None if columns is None or known is None else known | columns

    for sink in plan.sinks:
        need(sink.inputs, None)
    ordered, cyclic = graph.order(plan)
    for stage in reversed((*ordered, *cyclic)):
        wanted = needed.get(stage.name, frozenset()) if stage.name in readers else None
        if wanted is None and (schema := schemas.get(stage.name)) is not None:
            wanted = frozenset(schema.names)
        before = graph.read_times(stage, times)[0]
        columns = list(stage.reads(wanted, graph.read_schemas(stage, schemas), before))
        if any(f"{stage.name}.{kind}" in readers for kind in stage.side_outputs if kind != "rejected"):
            columns[0] = None
        taken[stage.name] = tuple(columns)
        for inputs, part in zip(graph.ports(stage), columns, strict=True):
            need(inputs, part)
    return needed, taken


def _in_order(schema: Schema, wanted: Wanted) -> tuple[str, ...]:
    return schema.names if wanted is None else tuple(name for name in schema.names if name in wanted)
