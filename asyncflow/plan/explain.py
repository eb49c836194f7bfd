"""Explains a plan: as a tree to read, as Mermaid to draw, as JSON to process.

All three have every table with its columns, the columns read of each source, how the watermark moves, and where state is held.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import msgspec

from asyncflow.model.durations import format_duration
from asyncflow.model.schema import Schema
from asyncflow.plan import graph
from asyncflow.plan.diagrams import mermaid, tree
from asyncflow.plan.schemas import read_columns, table_schemas
from asyncflow.plan.tables import Component, Plan, Sink, Source, Stage
from asyncflow.printable import hidden, printable, printable_lines


def explain(plan: Plan, form: str = "tree", inferred: Mapping[str, Schema] | None = None) -> str:
    """The plan as text; ``form`` is ``tree``, ``mermaid`` or ``json``.  ``inferred``: schemas of sources declared without one."""
    description = describe(plan, inferred)
    if form == "json":
        return printable_lines(json.dumps(_hidden(description), indent=2, ensure_ascii=False, default=str))
    summaries = {stage.name: stage.summary() for stage in plan.stages}
    lines = mermaid(description) if form == "mermaid" else tree(description, summaries)
    return "\n".join(printable(hidden(line)) for line in lines)


def _hidden(value: Any) -> Any:
    """Plain data with what came from the environment left out: also numbers, so that the text stays JSON."""
    if isinstance(value, dict):
        return {hidden(key): _hidden(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_hidden(each) for each in value]
    if value is None or isinstance(value, bool):
        return value
    text = str(value)
    return value if isinstance(value, int | float) and hidden(text) == text else hidden(text)


def describe(plan: Plan, inferred: Mapping[str, Schema] | None = None) -> dict[str, Any]:
    """The plan as plain data: what ``explain --as json`` prints."""
    schemas = table_schemas(plan, inferred)
    reads = read_columns(plan, schemas)
    readers = graph.read_names(plan)
    return {
        "name": plan.name,
        "sources": [_source(source, schemas, reads, readers) for source in plan.sources],
        "stages": [_stage(stage, schemas, readers) for stage in plan.stages],
        "sinks": [_sink(sink) for sink in plan.sinks],
    }


def _source(
    source: Source,
    schemas: Mapping[str, Schema | None],
    reads: Mapping[str, tuple[str, ...]],
    readers: frozenset[str],
) -> dict[str, Any]:
    return {
        "name": source.name,
        "type": source.connector.type,
        "options": component_options(source.connector),
        "format": _component(source.format),
        "columns": _columns(schemas[source.name]),
        "reads": None if source.name not in reads else list(reads[source.name]),
        "time": source.time or "arrival",
        "watermark_delay": format_duration(source.watermark_delay_ns),
        "max_future": format_duration(source.max_future_ns),
        **_idle(source),
        "on_error": source.on_error,
        "side_outputs": _side_outputs(source, readers),
        "state": None,
    }


def _idle(source: Source) -> dict[str, str]:
    idle = source.idle_timeout_ns
    return {} if idle is None else {"idle_timeout": format_duration(idle)}


def _stage(stage: Stage, schemas: Mapping[str, Schema | None], readers: frozenset[str]) -> dict[str, Any]:
    return {
        "name": stage.name,
        "type": stage.type,
        "inputs": list(stage.inputs),
        **stage.describe(graph.read_schemas(stage, schemas)),
        "columns": _columns(schemas[stage.name]),
        "side_outputs": _side_outputs(stage, readers),
        "state": stage.state_text(),
    }


def _sink(sink: Sink) -> dict[str, Any]:
    return {
        "name": sink.name,
        "type": sink.connector.type,
        "inputs": list(sink.inputs),
        "options": component_options(sink.connector),
        "format": _component(sink.format),
    }


def _columns(schema: Schema | None) -> dict[str, str] | None:
    return None if schema is None else {field.name: field.type_text for field in schema}


def _side_outputs(table: Source | Stage, readers: frozenset[str]) -> dict[str, str]:
    return {name: "read" if name in readers else "counted" for name in graph.side_outputs(table)}


def component_options(component: Component) -> dict[str, Any]:
    """The options that differ from their defaults."""
    if not isinstance(component.options, msgspec.Struct):
        return {}
    found = {}
    for field in msgspec.structs.fields(component.options):
        value = getattr(component.options, field.name)
        if field.required or value != field.default:
            found[field.encode_name] = value
    return found


def _component(component: Component | None) -> dict[str, Any] | None:
    return None if component is None else {"type": component.type, **component_options(component)}
