"""Everything that can be wrong with a plan before anything runs, found in one pass: all problems, each with its TOML path.

Checks that need a schema which is not known yet (left out, not inferred so far) are skipped: the runtime validates again once it is known.
A table with a problem of its own has no schema for those after it, so one mistake is told once.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from asyncflow.errors import Problem
from asyncflow.model.schema import DataType, Schema
from asyncflow.plan import capabilities, graph
from asyncflow.plan.names import is_plain_name, nearest
from asyncflow.plan.resources import resource_problems
from asyncflow.plan.schemas import table_schemas
from asyncflow.plan.tables import Plan, Sink, Source, Stage
from asyncflow.plan.times import time_problems

MOST_RECORD_BYTES = 1 << 30
"""A record is one piece for the kernels, which count its bytes in 32 bits."""


def validate(
    plan: Plan, inferred: Mapping[str, Schema] | None = None, *, incomplete: Collection[str] = ()
) -> list[Problem]:
    """All problems of ``plan``, in the order of its tables; an empty list means that it can run.

    ``inferred`` and ``incomplete``: as in :func:`~asyncflow.plan.schemas.table_schemas`.
    """
    problems = [*_names(plan), *_wires(plan, incomplete)]
    schemas = table_schemas(plan, inferred, incomplete=incomplete)
    for source in plan.sources:
        problems += _source(source, schemas[source.name])
    for stage in plan.stages:
        if not stage.apart:
            problems += _union(inputs_path(stage), stage.inputs, schemas)
        problems += stage.problems(graph.read_schemas(stage, schemas), plan)
    for sink in plan.sinks:
        problems += _union(inputs_path(sink), sink.inputs, schemas)
    if not plan.sources:
        problems.insert(0, Problem("sources", "there is no source", "add a table [sources.NAME] with a type"))
    problems += time_problems(plan, schemas)
    problems += resource_problems(plan)
    if plan.checkpoints is not None:
        problems += _resumable(plan)
    if plan.trials:
        from asyncflow.plan import trials

        problems += trials.problems_of(plan, schemas, incomplete)
    return list(dict.fromkeys(problems))


def _resumable(plan: Plan) -> Iterable[Problem]:
    for source in plan.sources:
        if not capabilities.of_source(source.connector).resumable:
            yield Problem(
                path_of(source),
                "a run with checkpoints cannot go on with this source: it cannot be read again from where a checkpoint was taken",
                "file reads files that can be",
            )


def path_of(table: Source | Stage | Sink) -> str:
    """The TOML path of a table: ``stages.sold``."""
    if isinstance(table, Stage):
        return table.path()
    return f"{'sources' if isinstance(table, Source) else 'sinks'}.{table.name}"


def inputs_path(table: Stage | Sink, port: int = 0) -> str:
    """The TOML path of the key that names an input of a table."""
    return f"{path_of(table)}.{table.input_key(port) if isinstance(table, Stage) else 'inputs'}"


def _names(plan: Plan) -> Iterable[Problem]:
    first: dict[str, str] = {}
    for table in plan.tables:
        path = path_of(table)
        if not is_plain_name(table.name):
            yield Problem(
                path,
                f"{table.name!r} is not a table name",
                "letters, digits and _, not starting with a digit",
            )
        if table.name in first:
            yield Problem(
                path,
                f"the name {table.name!r} is taken by {first[table.name]}",
                "names are unique over all tables",
            )
        first.setdefault(table.name, path)


def _wires(plan: Plan, incomplete: Collection[str]) -> Iterable[Problem]:
    readable = graph.readable(plan)
    sinks = {sink.name for sink in plan.sinks}
    cyclic = graph.order(plan)[1]
    for table in plan.readers:
        if not table.inputs and table.name not in incomplete:
            yield Problem(inputs_path(table), "it has no input")
        for port, name in enumerate(table.inputs):
            if name in readable:
                continue
            path = inputs_path(table, port)
            if name in sinks:
                yield Problem(path, f"{name!r} is a sink: nothing can be read from it")
            elif (table_name := graph.owner(name)) != name and table_name in readable:
                kinds = [each for each in readable if each.startswith(f"{table_name}.")]
                yield Problem(path, f"{table_name!r} has no side output {name!r}", nearest(name, kinds))
            else:
                yield Problem(path, f"unknown table {name!r}", nearest(name, readable))
        together = isinstance(table, Sink) or not table.apart
        if together and len(set(table.inputs)) != len(table.inputs):
            yield Problem(inputs_path(table), "an input is named twice")
    in_cycle = {stage.name for stage in cyclic}
    for stage in cyclic:
        if _reaches(stage, stage.name, plan):
            through = ", ".join(name for name in stage.inputs if graph.owner(name) in in_cycle)
            yield Problem(
                stage.path("inputs"),
                f"it reads itself, through {through}",
                "a pipeline has no cycles",
            )


def _reaches(stage: Stage, target: str, plan: Plan) -> bool:
    stages = {each.name: each for each in plan.stages}
    seen: set[str] = set()
    pending = [graph.owner(name) for name in stage.inputs]
    while pending:
        name = pending.pop()
        if name == target:
            return True
        if name in stages and name not in seen:
            seen.add(name)
            pending += [graph.owner(each) for each in stages[name].inputs]
    return False


def _source(source: Source, schema: Schema | None) -> Iterable[Problem]:
    path = f"sources.{source.name}"
    if source.watermark_delay_ns < 0:
        yield Problem(f"{path}.watermark_delay", "it cannot be negative")
    if source.max_future_ns < 0:
        yield Problem(f"{path}.max_future", "it cannot be negative")
    if source.idle_timeout_ns is not None and source.idle_timeout_ns <= 0:
        yield Problem(f"{path}.idle_timeout", "it must be longer than 0s")
    if not 1 <= source.max_record_bytes < MOST_RECORD_BYTES:
        yield Problem(f"{path}.max_record_bytes", "it must be at least 1 byte and below 1GiB")
    if source.time is None and source.watermark_delay_ns:
        yield Problem(
            f"{path}.watermark_delay", "there is no time column to delay", 'name one: time = "COLUMN"'
        )
    if schema is None:
        return
    if len(schema) == 0:
        yield Problem(f"{path}.schema", "it has no columns")
    if source.time is None:
        return
    if source.time not in schema:
        yield Problem(f"{path}.time", f"unknown column {source.time!r}", nearest(source.time, schema.names))
    elif (field := schema[source.time]).type is not DataType.TIMESTAMP:
        hint = 'say how to read it: "timestamp", or for numbers "timestamp[s]", "[ms]", "[us]" or "[ns]"'
        yield Problem(
            f"{path}.time", f"the column {source.time!r} is {field.type.value}, not timestamp", hint
        )


def _union(path: str, inputs: tuple[str, ...], schemas: Mapping[str, Schema | None]) -> Iterable[Problem]:
    known = [(name, schema) for name in inputs if (schema := schemas.get(name)) is not None]
    if len(known) < 2:
        return
    first_name, first = known[0]
    shape = [(field.name, field.type) for field in first]
    for name, schema in known[1:]:
        if [(field.name, field.type) for field in schema] != shape:
            yield Problem(
                path,
                f"a union needs the same columns and types: {first_name} has {_text(first)}; {name} has {_text(schema)}",
            )


def _text(schema: Schema) -> str:
    return ", ".join(f"{field.name} {field.type.value}" for field in schema)
