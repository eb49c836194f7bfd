"""Everything that can be wrong with a plan before anything runs, found in one pass: all problems, each with its TOML path.

What needs a schema that is not known yet (left out, not inferred so far) is not judged: the runtime validates again once it knows.
A table with a problem of its own has no schema for those after it, so one mistake is told once.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from asyncflow.errors import Problem
from asyncflow.model.durations import format_duration
from asyncflow.model.schema import DataType, Schema
from asyncflow.plan import graph, trials
from asyncflow.plan.expressions.nodes import Expression
from asyncflow.plan.expressions.typed import as_condition
from asyncflow.plan.expressions.typing import check_expression
from asyncflow.plan.joins import join_problems
from asyncflow.plan.names import TABLE_NAME, nearest
from asyncflow.plan.resources import resource_problems
from asyncflow.plan.revisions import revised_input
from asyncflow.plan.schemas import (
    BOUNDS,
    RANK,
    REVISIONS,
    input_schema,
    stage_schema,
    table_schemas,
    top_bounds,
)
from asyncflow.plan.tables import (
    Dedup,
    Derive,
    Filter,
    Join,
    MapBatches,
    Plan,
    Sequence,
    Sink,
    Source,
    Stage,
    Top,
    Window,
)
from asyncflow.plan.times import time_problems
from asyncflow.plan.windows import (
    BOUNDED,
    AllRows,
    Count,
    Cumulate,
    Hopping,
    PerMessage,
    Session,
    TimeWindow,
    Tumbling,
    WindowShape,
    too_many,
)

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
        if isinstance(stage, Join):
            problems += join_problems(stage, plan, *(schemas.get(name) for name in stage.inputs))
            continue
        problems += _union(inputs_path(stage), stage.inputs, schemas)
        problems += _stage(stage, input_schema(stage.inputs, schemas), plan)
    for sink in plan.sinks:
        problems += _union(f"sinks.{sink.name}.inputs", sink.inputs, schemas)
    if not plan.sources:
        problems.insert(0, Problem("sources", "there is no source", "add a table [sources.NAME] with a type"))
    problems += time_problems(plan, schemas)
    problems += resource_problems(plan)
    problems += trials.problems_of(plan, schemas, incomplete)
    return list(dict.fromkeys(problems))


def path_of(table: Source | Stage | Sink) -> str:
    """The TOML path of a table: ``stages.sold``."""
    room = (
        "sources"
        if isinstance(table, Source | Sequence)
        else "sinks"
        if isinstance(table, Sink)
        else "stages"
    )
    return f"{room}.{table.name}"


def inputs_path(table: Stage | Sink) -> str:
    """The TOML path of the key that says what a table reads."""
    return f"{path_of(table)}.{'of' if isinstance(table, Sequence) else 'inputs'}"


def _names(plan: Plan) -> Iterable[Problem]:
    first: dict[str, str] = {}
    for table in (*plan.sources, *plan.stages, *plan.sinks):
        path = path_of(table)
        if not TABLE_NAME.match(table.name):
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
    for table in (*plan.stages, *plan.sinks):
        path = inputs_path(table)
        if not table.inputs and table.name not in incomplete:
            yield Problem(path, "it has no input")
        for port, name in enumerate(table.inputs):
            if isinstance(table, Join):
                path = f"{path_of(table)}.{'right' if port else 'left'}"
            if name in readable:
                continue
            if name in sinks:
                yield Problem(path, f"{name!r} is a sink: nothing can be read from it")
            elif (table_name := graph.owner(name)) != name and table_name in readable:
                kinds = [each for each in readable if each.startswith(f"{table_name}.")]
                yield Problem(path, f"{table_name!r} has no side output {name!r}", nearest(name, kinds))
            else:
                yield Problem(path, f"unknown table {name!r}", nearest(name, readable))
        if len(set(table.inputs)) != len(table.inputs) and not isinstance(table, Join):
            yield Problem(path, "an input stands there twice")
    in_cycle = {stage.name for stage in cyclic}
    for stage in cyclic:
        if _reaches(stage, stage.name, plan):
            through = ", ".join(name for name in stage.inputs if graph.owner(name) in in_cycle)
            yield Problem(
                f"stages.{stage.name}.inputs",
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


def _stage(stage: Stage, read: Schema | None, plan: Plan) -> Iterable[Problem]:
    path = path_of(stage)
    match stage:
        case Filter(where=where):
            yield from _condition(f"{path}.where", where, read)
        case Derive(columns=columns):
            yield from _columns(f"{path}.columns", columns, read)
        case Window():
            yield from _window(stage, path, read, plan)
        case MapBatches():
            yield from _map(stage, path)
        case Dedup(by=by, within_ns=within):
            yield from _columns(f"{path}.by", by, read)
            if not by:
                yield Problem(f"{path}.by", "there is no key to tell rows by", 'for example ["id"]')
            if within < 0:
                yield Problem(f"{path}.within", "it cannot be negative")
        case Top():
            yield from _top(stage, path, read)
            yield from _over_revisions(stage, path, plan)
        case Sequence():
            yield from _sequence(stage, path, read, plan)


def _condition(path: str, where: Expression, read: Schema | None) -> Iterable[Problem]:
    type_, problems = check_expression(where, read)
    for problem in problems:
        yield Problem(path, problem.message, problem.hint)
    if not problems and type_ is not None and type_ is not DataType.BOOL:
        yield Problem(path, f"a condition must be bool, this is {type_.value}", as_condition(type_))


def _columns(
    path: str, columns: tuple[tuple[str, Expression], ...], read: Schema | None, *, aggregates: bool = False
) -> Iterable[Problem]:
    for name, expression in columns:
        if not name:
            yield Problem(path, "a column has an empty name")
        for problem in check_expression(expression, read, aggregates=aggregates)[1]:
            yield Problem(f"{path}.{name}", problem.message, problem.hint)


def _window(stage: Window, path: str, read: Schema | None, plan: Plan) -> Iterable[Problem]:
    yield from _shape(stage.shape, path)
    yield from _revisions(stage, path)
    yield from _over_revisions(stage, path, plan)
    yield from _columns(f"{path}.by", stage.by, read)
    yield from _columns(f"{path}.aggregates", stage.aggregates, read, aggregates=True)
    if not stage.by and not stage.aggregates:
        yield Problem(f"{path}.aggregates", "there is nothing to compute", 'for example { n = "count(*)" }')
    taken = dict.fromkeys(BOUNDS if isinstance(stage.shape, BOUNDED) else (), "the window's bounds")
    taken |= dict.fromkeys((name for name, _ in REVISIONS if stage.revised), "the window's revisions")
    for key, columns in (("by", stage.by), ("aggregates", stage.aggregates)):
        for name, _ in columns:
            if name in taken:
                yield Problem(
                    f"{path}.{key}.{name}",
                    f"the column name {name!r} is taken by {taken[name]}",
                    "give it another name",
                )
            taken.setdefault(name, f"{path}.{key}")


def _map(stage: MapBatches, path: str) -> Iterable[Problem]:
    if stage.concurrency < 1:
        yield Problem(f"{path}.concurrency", "it must be at least 1")
    if stage.timeout_ns is not None and stage.timeout_ns <= 0:
        yield Problem(f"{path}.timeout", "it must be longer than 0s")
    if stage.on_error not in ("fail", "reject"):
        yield Problem(
            f"{path}.on_error", f"unknown way {stage.on_error!r}", nearest(stage.on_error, ("fail", "reject"))
        )


def _top(stage: Top, path: str, read: Schema | None) -> Iterable[Problem]:
    if stage.n < 1:
        yield Problem(f"{path}.n", "it must be at least 1")
    if not stage.order:
        yield Problem(f"{path}.order", "there is nothing to go by", 'for example ["revenue DESC"]')
    yield from _columns(f"{path}.by", stage.by, read)
    for position, key in enumerate(stage.order):
        for problem in check_expression(key.expression, read)[1]:
            yield Problem(f"{path}.order.{position}", problem.message, problem.hint)
    if isinstance(stage.shape, Tumbling | Hopping):
        yield from _shape(stage.shape, path)
    elif stage.shape is not None and not isinstance(stage.shape, AllRows):
        yield Problem(f"{path}.window", 'a top is of tumbling or hopping windows, or of "all"')
    for name in (*top_bounds(stage), RANK):
        if read is not None and name in read:
            hint = "leave window out: it goes by the window the rows come from" if name in BOUNDS else ""
            yield Problem(path, f"its input has a column {name!r} already", hint)


def _sequence(stage: Sequence, path: str, read: Schema | None, plan: Plan) -> Iterable[Problem]:
    sources = {source.name: source for source in plan.sources}
    if len(stage.inputs) not in (0, 2):
        yield Problem(f"{path}.of", "a sequence is of two sources: the past, then what is live")
    for name in stage.inputs:
        if name not in sources and name in graph.readable(plan):
            yield Problem(f"{path}.of", f"{name!r} is not a source", nearest(name, sources))
    for source in (sources[name] for name in stage.inputs if name in sources):
        if source.time is None:
            hint = 'name one: time = "COLUMN"'
            yield Problem(
                f"sources.{source.name}.time", f"the sequence {stage.name!r} goes by event time", hint
            )
    for name in stage.unique:
        if read is not None and name not in read:
            yield Problem(f"{path}.unique", f"unknown column {name!r}", nearest(name, read.names))


def _shape(shape: WindowShape, path: str) -> Iterable[Problem]:
    match shape:
        case Tumbling(size_ns=size):
            if size <= 0:
                yield Problem(f"{path}.window.tumbling", "a window must be longer than 0s")
        case Hopping(size_ns=size, every_ns=every):
            if size <= 0:
                yield Problem(f"{path}.window.hopping", "a window must be longer than 0s")
            if every <= 0:
                yield Problem(f"{path}.window.every", "it must be longer than 0s")
            elif told := too_many(size, every):
                yield Problem(f"{path}.window.every", *told)
            elif every > size > 0:
                yield Problem(
                    f"{path}.window.every",
                    f"every ({format_duration(every)}) is longer than the window ({format_duration(size)}): rows would fall between",
                )
        case Session(gap_ns=gap):
            if gap <= 0:
                yield Problem(f"{path}.window.session", "the gap between sessions must be longer than 0s")
        case Count(size=size):
            if size < 1:
                yield Problem(f"{path}.window.count", "a window must have at least 1 row")
        case Cumulate(size_ns=size, every_ns=every):
            if size <= 0:
                yield Problem(f"{path}.window.cumulate", "a window must be longer than 0s")
            if every <= 0:
                yield Problem(f"{path}.window.every", "it must be longer than 0s")
            elif told := too_many(size, every):
                yield Problem(f"{path}.window.every", *told)
            elif size > 0 and size % every:
                yield Problem(
                    f"{path}.window.every",
                    f"the window ({format_duration(size)}) is not a multiple of every ({format_duration(every)})",
                )
        case AllRows() | PerMessage():
            pass


def _revisions(stage: Window, path: str) -> Iterable[Problem]:
    if stage.allowed_lateness_ns < 0:
        yield Problem(f"{path}.allowed_lateness", "it cannot be negative")
    if stage.emit_every_ns is not None and stage.emit_every_ns <= 0:
        yield Problem(f"{path}.emit.every", "it must be longer than 0s")
    if not isinstance(stage.shape, TimeWindow):
        given = {"allowed_lateness": stage.allowed_lateness_ns != 0, "emit": stage.emit_every_ns is not None}
        for key in (key for key, there in given.items() if there):
            hint = "tumbling, hopping and cumulate windows have it"
            yield Problem(f"{path}.{key}", "this window is not one of a fixed time", hint)


def _over_revisions(stage: Window | Top, path: str, plan: Plan) -> Iterable[Problem]:
    if (again := revised_input(stage, plan)) is not None:
        yield Problem(
            f"{path}.inputs",
            f"{again!r} sends its rows again when they change: what goes over windows would count them more than once",
            'read the final ones only, through a filter: where = "final"',
        )


__all__ = ["path_of", "stage_schema", "validate"]
