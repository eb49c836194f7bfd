"""The JSON Schema of the pipeline file, for editors: made from the same structs that check a pipeline, so it cannot differ from them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any

import msgspec

from asyncflow.doors import stages
from asyncflow.doors.components import DECODER, ENCODER, SINK, SOURCE, Role, options_type
from asyncflow.doors.pipeline_file.tables import PipelineTable, SinkTable, SourceTable
from asyncflow.doors.pipeline_file.trials import AdvanceTable, RowsTable, TrialTable

_NAME = r"^[A-Za-z_][A-Za-z0-9_]*$"


def json_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of a pipeline file with every component that is installed."""
    definitions: dict[str, Any] = {
        "reading": _format(DECODER),
        "writing": _format(ENCODER),
        "source": _one_of(
            [
                *(_table(SourceTable, SOURCE, name, "reading") for name in SOURCE.names()),
                *_stages("sources"),
            ]
        ),
        "stage": _one_of(_stages("stages")),
        "sink": _one_of(_table(SinkTable, SINK, name, "writing") for name in SINK.names()),
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "asyncflow pipeline",
        "type": "object",
        "properties": {
            **_object(PipelineTable)["properties"],
            "sources": _room("source") | {"minProperties": 1},
            "stages": _room("stage"),
            "sinks": _room("sink"),
            "tests": {"type": "array", "items": _trial()},
        },
        "required": ["sources"],
        "additionalProperties": False,
        "$defs": definitions,
    }


def _stages(room: str) -> Iterator[dict[str, Any]]:
    """The tables of the kinds of stages; one of someone else's that cannot be used is left out."""
    for name in stages.names(room):
        with suppress(ValueError):
            yield _closed(_object(stages.find(name).Table))


def _trial() -> dict[str, Any]:
    schema = _closed(_object(TrialTable))
    for key, steps in (("feed", (RowsTable, AdvanceTable)), ("expect", (RowsTable,))):
        schema["properties"][key]["items"] = {"anyOf": [_closed(_object(each)) for each in steps]}
    return schema


def _room(definition: str) -> dict[str, Any]:
    return {
        "type": "object",
        "propertyNames": {"pattern": _NAME},
        "additionalProperties": {"$ref": f"#/$defs/{definition}"},
    }


def _one_of(schemas: Iterable[dict[str, Any]]) -> dict[str, Any]:
    return {"oneOf": list(schemas)}


def _closed(schema: dict[str, Any]) -> dict[str, Any]:
    return schema | {"additionalProperties": False}


def _object(struct: type[msgspec.Struct]) -> dict[str, Any]:
    """The struct's own schema with what it refers to put in place."""
    schema = msgspec.json.schema(struct)
    return dict(_inlined(schema, schema.get("$defs", {})))


def _inlined(node: Any, definitions: dict[str, Any]) -> Any:
    if isinstance(node, dict):
        if "$ref" in node:
            return _inlined(definitions[node["$ref"].rsplit("/", 1)[1]], definitions)
        return {key: _inlined(value, definitions) for key, value in node.items() if key != "$defs"}
    return [_inlined(each, definitions) for each in node] if isinstance(node, list) else node


def _component(role: Role, name: str) -> dict[str, Any]:
    """A component's options together with ``type``, its name."""
    struct = options_type(role, role.find(name))
    schema: dict[str, Any] = _object(struct) if struct is not None else {"type": "object", "properties": {}}
    schema["properties"] = {"type": {"const": name}, **schema.get("properties", {})}
    schema["required"] = ["type", *schema.get("required", [])]
    schema.pop("title", None)
    return _closed(schema)


def _table(struct: type[msgspec.Struct], role: Role, name: str, format_definition: str) -> dict[str, Any]:
    """``[sources.NAME]`` of one connector: the keys that every one has and its own."""
    own, shared = _component(role, name), _object(struct)
    properties = {
        **shared["properties"],
        "format": {"$ref": f"#/$defs/{format_definition}"},
        **own["properties"],
    }
    return _closed({"title": name, "type": "object", "properties": properties, "required": own["required"]})


def _format(role: Role) -> dict[str, Any]:
    return {"anyOf": [{"enum": list(role.names())}, *(_component(role, name) for name in role.names())]}
