"""A pipeline as plain tables (what a pipeline file holds once its text is read) to a plan: every door comes through here.

``Problems`` collects everything that is wrong on the way.  A table that cannot be read whole keeps its place in the plan, so that the
other tables are wired and checked as written.  Its name goes into ``incomplete``: its columns are unknown, and cause no further
problems.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from asyncflow.doors import components
from asyncflow.doors import stages as kinds
from asyncflow.doors.components import DECODER, ENCODER, NOT_BUILT_YET, SINK, SOURCE, Problems
from asyncflow.doors.pipeline_file.tables import (
    LATER_KEYS,
    CheckpointTable,
    PipelineTable,
    SinkTable,
    SourceTable,
)
from asyncflow.doors.stages import inputs_of, read_stage
from asyncflow.doors.words import duration, size
from asyncflow.errors import PipelineError
from asyncflow.model.durations import format_size
from asyncflow.model.schema import DataType, Field, Schema
from asyncflow.plan import capabilities, graph
from asyncflow.plan.names import nearest
from asyncflow.plan.tables import (
    DEFAULT_STOP_TIMEOUT_NS,
    Checkpoints,
    Component,
    Plan,
    Sink,
    Source,
    Stage,
    Trial,
)

_ROOMS = ("sources", "stages", "sinks", "tests")
LEAST_MEMORY_BYTES = 1 << 20
LEAST_INTERVAL_NS = 100_000_000
LEAST_RETAINED = 2


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
        if kinds.is_written_in(table.get("type"), "sources"):
            stages.append(read_stage(each, table, (), problems, room="sources"))
        else:
            sources.append(source(each, table, problems))
    # What a stage among the sources reads (the parts of a sequence) is read as that stage.
    members = {member for each in stages for member in each.inputs}
    before = tuple(each for each in rooms["sources"] if each not in members)
    for each, table in rooms["stages"].items():
        stages.append(read_stage(each, table, before, problems))
        before = (each,)
    sinks = tuple(sink(each, table, before, problems) for each, table in rooms["sinks"].items())
    tests: tuple[Trial, ...] = ()
    if "tests" in document:
        from asyncflow.doors.pipeline_file.trials import trials

        tests = trials(document["tests"], problems)
    return Plan(
        settings.get("name") or default_name,
        tuple(sources),
        tuple(stages),
        sinks,
        tests,
        _stop_timeout(settings, problems),
        memory,
        _checkpoints(settings.get("checkpoint"), problems),
    )


def _checkpoints(table: Mapping[str, Any] | None, problems: Problems) -> Checkpoints | None:
    if table is None:
        return None
    for key in table.keys() - set(CheckpointTable.__struct_fields__):
        problems.add(
            f"checkpoint.{key}", f"unknown key {key!r}", nearest(key, CheckpointTable.__struct_fields__)
        )
    own, _ = _split(CheckpointTable, table)
    settings = components.convert_fields(CheckpointTable, own, "checkpoint", problems)
    if "dir" not in own:
        problems.add("checkpoint.dir", "'dir' is missing", 'dir = "state"')
    if settings.get("dir") == "" or "\0" in settings.get("dir", ""):
        problems.add("checkpoint.dir", "a folder is wanted", 'dir = "state"')
    interval_ns = duration(settings.get("interval", "10s"), "checkpoint.interval", problems) or 0
    if interval_ns < LEAST_INTERVAL_NS:
        problems.add("checkpoint.interval", "checkpoints are at least 100ms apart")
    if settings.get("retain", LEAST_RETAINED) < LEAST_RETAINED:
        problems.add("checkpoint.retain", f"at least {LEAST_RETAINED} are kept")
    return Checkpoints(settings.get("dir", ""), interval_ns, settings.get("retain", 3))


def _stop_timeout(settings: Mapping[str, Any], problems: Problems) -> int:
    if (written := settings.get("stop_timeout")) is None:
        return DEFAULT_STOP_TIMEOUT_NS
    timeout_ns = duration(written, "stop_timeout", problems)
    if timeout_ns is not None and timeout_ns < 0:
        problems.add("stop_timeout", f"{written!r} is below zero")
    return DEFAULT_STOP_TIMEOUT_NS if timeout_ns is None else timeout_ns


def memory_bytes(written: int | str) -> int:
    """The bound on a run's memory as it is written; PipelineError where it is none."""
    problems = Problems()
    most = size(written, "memory", problems)
    if most is not None and not LEAST_MEMORY_BYTES <= most < 1 << 63:
        least = format_size(LEAST_MEMORY_BYTES)
        problems.add("memory", f"a run needs at least {least}, and no more than there is", 'memory = "2GiB"')
    if problems.found:
        raise PipelineError(problems.found)
    assert most is not None
    return most


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
                SOURCE,
                type_,
                options,
                path,
                problems,
                also_known=SourceTable.__struct_fields__,
                other_types=lambda: kinds.names("sources"),
            )
    schema = _schema(values.get("schema"), path, problems)
    format_ = _source_format(connector, values, options, schema, path, problems)
    if connector is not None and schema is None:
        schema = components.known_schema(connector, format_)
    lengths = {
        f"{key}_ns": duration(values[key], f"{path}.{key}", problems)
        for key in ("watermark_delay", "max_future", "idle_timeout")
        if values.get(key) is not None
    }
    if "max_record_bytes" in values:
        lengths["max_record_bytes"] = size(values["max_record_bytes"], f"{path}.max_record_bytes", problems)
    settings: dict[str, Any] = {key: value for key, value in lengths.items() if value is not None}
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
    if connector is not None and capabilities.of_source(connector).schema is not None:
        if written is not None:
            problems.add(
                f"{path}.format", f"the source {connector.type!r} gives rows: there is nothing to decode"
            )
        return None
    if written is None:
        written = components.format_by_suffix(options.get("path"))
    if written is not None:
        return components.format_component(DECODER, written, f"{path}.format", problems)
    if connector is not None and connector.object is None and schema is not None:
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


def _split(struct: type, table: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The keys that ``struct`` has, and the others."""
    own = struct.__struct_fields__  # type: ignore[attr-defined]
    return {k: v for k, v in table.items() if k in own}, {k: v for k, v in table.items() if k not in own}


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
    format_ = None
    if connector is None or capabilities.of_sink(connector).takes_bytes or "format" in table:
        written = values.get("format") or components.format_by_suffix(options.get("path")) or "json"
        if written == {"type": "lines"}:
            written = "json"
        format_ = components.format_component(ENCODER, written, f"{path}.format", problems)
    return Sink(name, inputs_of(values.get("inputs"), before), connector or Component(""), format_)
