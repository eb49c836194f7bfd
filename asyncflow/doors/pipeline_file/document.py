"""A pipeline as plain tables (what a pipeline file holds once its text is read) to a plan: every door comes through here.

``Problems`` collects everything that is wrong on the way.  A table that cannot be read whole still takes its place in the plan, so that the
others are wired and checked as written; its name goes into ``incomplete`` and nothing is said about columns that come from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from asyncflow.doors import components
from asyncflow.doors.components import DECODER, ENCODER, NOT_BUILT_YET, SINK, SOURCE, Problems
from asyncflow.doors.expressions.expression_text import parse_expression
from asyncflow.doors.expressions.sort_keys import sort_key
from asyncflow.doors.joins import join_stage
from asyncflow.doors.pipeline_file.tables import (
    LATER_KEYS,
    LATER_STAGES,
    SEQUENCE,
    STAGES,
    DedupTable,
    DeriveTable,
    FilterTable,
    JoinTable,
    PipelineTable,
    SequenceTable,
    SinkTable,
    SourceTable,
    TopTable,
    WindowTable,
)
from asyncflow.doors.pipeline_file.trials import trials
from asyncflow.doors.windows import emit_every, window_shape
from asyncflow.errors import PipelineError
from asyncflow.model.durations import format_size, parse_duration, parse_size
from asyncflow.model.schema import DataType, Field, Schema
from asyncflow.plan import graph
from asyncflow.plan.expressions.nodes import ColumnRef, Expression
from asyncflow.plan.expressions.typing import ExpressionError
from asyncflow.plan.names import nearest
from asyncflow.plan.stages.dedup import Dedup
from asyncflow.plan.stages.derive import Derive
from asyncflow.plan.stages.filter import Filter
from asyncflow.plan.stages.sequence import Sequence
from asyncflow.plan.stages.top import Top
from asyncflow.plan.stages.unreadable import Unreadable
from asyncflow.plan.stages.window import Window
from asyncflow.plan.tables import DEFAULT_STOP_TIMEOUT_NS, Component, Plan, Sink, Source, Stage

_ROOMS = ("sources", "stages", "sinks", "tests")
T = TypeVar("T")
LEAST_MEMORY_BYTES = 1 << 20


def read_document(document: Mapping[str, Any], *, name: str = "pipeline") -> Plan:
    """The plan that the tables of ``document`` describe; PipelineError with every problem found.  ``name``: where it has none itself."""
    problems = Problems()
    plan = _read(document, name, problems)
    return checked(plan, problems)


def checked(plan: Plan, problems: Problems | None = None) -> Plan:
    """The plan with its stages in an order that can be run; PipelineError with ``problems`` and every one of the plan's own."""
    problems = problems or Problems()
    found = [*problems.found, *components.check(plan, incomplete=problems.incomplete)]
    if found:
        raise PipelineError(list(dict.fromkeys(found)))
    return graph.in_order(plan)


def _read(document: Mapping[str, Any], default_name: str, problems: Problems) -> Plan:
    for key in document:
        if key in LATER_KEYS:
            problems.add(key, f"{key} is {NOT_BUILT_YET}")
        elif key not in (known := (*PipelineTable.__struct_fields__, *_ROOMS)):
            problems.add(key, f"unknown key {key!r}", nearest(key, known))
    own, _ = _split(PipelineTable, document)
    settings = components.convert_fields(PipelineTable, own, "", problems)
    memory = settings.get("memory")
    try:
        memory = None if memory is None else memory_bytes(memory)
    except PipelineError as error:
        problems.found += error.problems
    rooms = {room: _room(document, room, problems) for room in ("sources", "stages", "sinks")}
    sources: list[Source] = []
    stages: list[Stage] = []
    for each, table in rooms["sources"].items():
        if table.get("type") == SEQUENCE:
            stages.append(sequence(each, table, problems))
        else:
            sources.append(source(each, table, problems))
    # What a sequence reads is read as the sequence.
    members = {member for each in stages for member in each.inputs}
    before = tuple(each for each in rooms["sources"] if each not in members)
    for each, table in rooms["stages"].items():
        stages.append(stage(each, table, before, problems))
        before = (each,)
    sinks = tuple(sink(each, table, before, problems) for each, table in rooms["sinks"].items())
    tests = trials(document.get("tests", []), problems)
    return Plan(
        settings.get("name") or default_name,
        tuple(sources),
        tuple(stages),
        sinks,
        tests,
        _stop_timeout(settings, problems),
        memory,
    )


def _stop_timeout(settings: Mapping[str, Any], problems: Problems) -> int:
    if (written := settings.get("stop_timeout")) is None:
        return DEFAULT_STOP_TIMEOUT_NS
    timeout_ns: int | None = _parsed(parse_duration, written, "stop_timeout", problems)
    if timeout_ns is not None and timeout_ns < 0:
        problems.add("stop_timeout", f"{written!r} is below zero")
    return DEFAULT_STOP_TIMEOUT_NS if timeout_ns is None else timeout_ns


def memory_bytes(written: int | str) -> int:
    """The bound on a run's memory as it is written; PipelineError where it is none."""
    problems = Problems()
    size = _parsed(_size, written, "memory", problems)
    if size is not None and not LEAST_MEMORY_BYTES <= size < 1 << 63:
        least = format_size(LEAST_MEMORY_BYTES)
        problems.add("memory", f"a run needs at least {least}, and no more than there is", 'memory = "2GiB"')
    if problems.found:
        raise PipelineError(problems.found)
    assert isinstance(size, int)
    return size


def _room(document: Mapping[str, Any], room: str, problems: Problems) -> dict[str, Mapping[str, Any]]:
    tables = document.get(room, {})
    if not isinstance(tables, Mapping):
        problems.add(room, "expected tables", f"[{room}.NAME]")
        return {}
    found = {}
    for name, table in tables.items():
        if isinstance(table, Mapping):
            found[name] = table
        else:
            problems.add(f"{room}.{name}", "expected a table", f"[{room}.{name}]")
            problems.incomplete.add(name)
            if room != "sinks":
                found[name] = {}
    return found


def source(
    name: str, table: Mapping[str, Any], problems: Problems, *, python_object: object = None
) -> Source:
    """One ``[sources.NAME]``.  ``python_object``: what a source made in Python iterates over; its type is then ``python``."""
    path = f"sources.{name}"
    if name in problems.incomplete:
        return Source(name, Component(""))
    keys, options = _split(SourceTable, table)
    values = components.convert_fields(SourceTable, keys, path, problems)
    if python_object is not None:
        connector: Component | None = Component("python", object=python_object)
        for key in options:
            problems.add(f"{path}.{key}", f"unknown key {key!r}", nearest(key, SourceTable.__struct_fields__))
    else:
        type_ = table.get("type")
        connector = None
        if "type" in table:
            connector = components.component(
                SOURCE, type_, options, path, problems, also_known=SourceTable.__struct_fields__
            )
    schema = _schema(values.get("schema"), path, problems)
    format_ = _source_format(connector, values, options, schema, path, problems)
    if connector is not None and schema is None:
        schema = components.known_schema(connector, format_)
    durations = {
        f"{key}_ns": _parsed(parse_duration, values[key], f"{path}.{key}", problems)
        for key in ("watermark_delay", "max_future", "idle_timeout")
        if values.get(key) is not None
    }
    if "max_record_bytes" in values:
        durations["max_record_bytes"] = _parsed(
            _size, values["max_record_bytes"], f"{path}.max_record_bytes", problems
        )
    settings: dict[str, Any] = {key: value for key, value in durations.items() if value is not None}
    if "on_error" in values:
        settings["on_error"] = values["on_error"]
    return Source(name, connector or Component(""), format_, schema, values.get("time"), **settings)


def _source_format(
    connector: Component | None,
    values: Mapping[str, Any],
    options: Mapping[str, Any],
    schema: Schema | None,
    path: str,
    problems: Problems,
) -> Component | None:
    written = values.get("format")
    if connector is not None and components.gives_rows(connector):
        if written is not None:
            problems.add(
                f"{path}.format", f"the source {connector.type!r} gives rows: there is nothing to decode"
            )
        return None
    if written is None:
        written = components.format_by_suffix(options.get("path"))
    if written is not None:
        return components.format_component(DECODER, written, f"{path}.format", problems)
    if connector is not None and connector.type != "python" and schema is not None:
        problems.add(f"{path}.format", "'format' is missing", "there is " + ", ".join(DECODER.names()))
    return None


def _schema(columns: Mapping[str, str] | None, path: str, problems: Problems) -> Schema | None:
    if columns is None:
        return None
    fields = []
    for name, text in columns.items():
        try:
            fields.append(Field.parse(name, text))
        except ValueError as error:
            types = [type_.value for type_ in DataType]
            problems.add(
                f"{path}.schema.{name}",
                str(error),
                nearest(text, (*types, *(f"timestamp[{u}]" for u in _UNITS))),
            )
    return Schema(tuple(fields)) if len(fields) == len(columns) else None


_UNITS = ("s", "ms", "us", "ns")


def _size(value: int | str) -> int:
    return value if isinstance(value, int) else parse_size(value)


def _parsed(parse: Any, value: Any, path: str, problems: Problems) -> Any:
    try:
        return parse(value)
    except ValueError as error:
        problems.add(path, str(error))
        return None


def _split(struct: type, table: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The keys that ``struct`` has, and the others."""
    own = struct.__struct_fields__  # type: ignore[attr-defined]
    return {k: v for k, v in table.items() if k in own}, {k: v for k, v in table.items() if k not in own}


def stage(name: str, table: Mapping[str, Any], before: tuple[str, ...], problems: Problems) -> Stage:
    """One ``[stages.NAME]``; ``before``: what it reads where it does not say."""
    path = f"stages.{name}"
    type_ = table.get("type")
    if name in problems.incomplete:
        return _unreadable(name, before, problems)
    if not isinstance(type_, str) or type_ not in STAGES:
        choices = "there is " + ", ".join(STAGES)
        if not isinstance(type_, str):
            problems.add(f"{path}.type", "a stage needs a type", choices)
        elif type_ in LATER_STAGES:
            problems.add(f"{path}.type", f"the stage {type_!r} is {NOT_BUILT_YET}", choices)
        else:
            problems.add(f"{path}.type", f"unknown stage {type_!r}", nearest(type_, STAGES))
        return _unreadable(name, _inputs(table.get("inputs"), before), problems)
    struct = STAGES[type_]
    shape = table.get("window", "all" if struct is WindowTable else None)
    windowed = struct in (WindowTable, TopTable, JoinTable)
    if windowed and shape is not None and not isinstance(shape, str | Mapping):
        table = {**table, "window": "all"}
    made_aggregates = {}
    if struct is WindowTable and isinstance(written := table.get("aggregates"), Mapping):
        made_aggregates = {key: each for key, each in written.items() if isinstance(each, Expression)}
        table = {**table, "aggregates": {**written, **dict.fromkeys(made_aggregates, "")}}
    known = len(problems.found)
    values = components.convert_fields(struct, table, path, problems)
    inputs = _inputs(values.get("inputs"), before)
    made: Stage
    if struct is FilterTable:
        where = expression(values["where"], f"{path}.where", problems) if "where" in values else None
        made = Unreadable(name, inputs) if where is None else Filter(name, inputs, where)
    elif struct is DeriveTable:
        if values.get("columns") == {}:
            problems.add(f"{path}.columns", "there is no column to add", 'for example { twice = "qty * 2" }')
        made = Derive(name, inputs, _expressions(values.get("columns", {}), f"{path}.columns", problems))
    elif struct is DedupTable:
        within = _parsed(parse_duration, values.get("within", "0s"), f"{path}.within", problems)
        made = Dedup(name, inputs, _keys(values.get("by", ()), path, problems), within or 0)
    elif struct is TopTable:
        order = [
            sort_key(text, f"{path}.order.{position}", problems)
            for position, text in enumerate(values.get("order", ()))
        ]
        keys = _keys(values.get("by", ()), path, problems)
        window = None if shape is None else window_shape(shape, f"{path}.window", problems)
        made = Top(name, inputs, values.get("n", 1), tuple(key for key in order if key), keys, window)
    elif struct is JoinTable:
        if not ("left" in values and "right" in values):
            given = tuple(values[side] for side in ("left", "right") if side in values)
            return _unreadable(name, given or before[:1], problems)
        made = join_stage(name, {**values, "window": shape}, path, problems)
    else:
        keys = _keys(values.get("by", ()), path, problems)
        texts = {**values.get("aggregates", {}), **made_aggregates}
        aggregates = _expressions(texts, f"{path}.aggregates", problems)
        window = window_shape(shape, f"{path}.window", problems)
        lateness = _parsed(
            parse_duration, values.get("allowed_lateness", "0s"), f"{path}.allowed_lateness", problems
        )
        emit = emit_every(values.get("emit", "final"), window, f"{path}.emit", problems)
        made = Window(name, inputs, window, keys, aggregates, lateness or 0, emit)
    if len(problems.found) > known:
        problems.incomplete.add(name)
    return made


def sequence(name: str, table: Mapping[str, Any], problems: Problems) -> Sequence:
    """One ``[sources.NAME]`` of type ``sequence``."""
    known = len(problems.found)
    values = components.convert_fields(SequenceTable, table, f"sources.{name}", problems)
    if len(problems.found) > known:
        problems.incomplete.add(name)
    return Sequence(name, tuple(values.get("of", ())), tuple(values.get("unique", ())))


def _keys(
    by: Mapping[str, str] | list[str], path: str, problems: Problems
) -> tuple[tuple[str, Expression], ...]:
    if isinstance(by, Mapping):
        return _expressions(by, f"{path}.by", problems)
    return tuple((column, ColumnRef(column)) for column in by)


def _inputs(written: object, before: tuple[str, ...]) -> tuple[str, ...]:
    if isinstance(written, list | tuple):
        return tuple(str(each) for each in written)
    return before


def _unreadable(name: str, inputs: tuple[str, ...], problems: Problems) -> Stage:
    problems.incomplete.add(name)
    return Unreadable(name, inputs)


def expression(text: str, path: str, problems: Problems) -> Expression | None:
    """The expression that ``text`` says; None, with a problem added, where it cannot be read."""
    try:
        return parse_expression(text)
    except ExpressionError as error:
        problems.add(path, error.message, error.hint)
        return None


def _expressions(
    columns: Mapping[str, str | Expression], path: str, problems: Problems
) -> tuple[tuple[str, Expression], ...]:
    parsed = [
        (name, expression(each, f"{path}.{name}", problems) if isinstance(each, str) else each)
        for name, each in columns.items()
    ]
    return tuple((name, each) for name, each in parsed if each is not None)


def sink(name: str, table: Mapping[str, Any], before: tuple[str, ...], problems: Problems) -> Sink:
    """One ``[sinks.NAME]``; ``before``: what it reads where it does not say."""
    path = f"sinks.{name}"
    keys, options = _split(SinkTable, table)
    values = components.convert_fields(SinkTable, keys, path, problems)
    connector = None
    if "type" in table:
        connector = components.component(
            SINK, table["type"], options, path, problems, also_known=SinkTable.__struct_fields__
        )
    written = values.get("format") or components.format_by_suffix(options.get("path")) or "json"
    if written == {"type": "lines"}:
        written = "json"
    format_ = components.format_component(ENCODER, written, f"{path}.format", problems)
    if connector is not None and connector.type == "null" and "format" not in table:
        format_ = None
    return Sink(name, _inputs(values.get("inputs"), before), connector or Component(""), format_)
