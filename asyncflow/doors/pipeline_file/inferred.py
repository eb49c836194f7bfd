"""A ready pipeline file for data whose columns were inferred: what ``asyncflow infer FILE`` prints."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping

from asyncflow.doors.pipeline_file.document import read_document
from asyncflow.model.schema import DataType, Field, Schema
from asyncflow.plan.explain import component_options
from asyncflow.plan.tables import Component, Plan
from asyncflow.printable import printable_lines

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+\Z")


def source_plan(path: str, format_: str | None) -> Plan:
    """A plan that only reads the file ``path`` (``-``: stdin)."""
    source = {"type": "stdin"} if path == "-" else {"type": "file", "path": path}
    return read_document({"sources": {"input": source | ({} if format_ is None else {"format": format_})}})


def pipeline_text(path: str, format_: Component, schema: Schema, epochs: Mapping[str, Field]) -> str:
    """TOML of a pipeline over the file ``path``: its schema, a guessed time column, and a window to start from.

    ``epochs``: number columns that look like instants, as they would be declared.
    """
    # What printable escapes is inside strings, and its escapes are TOML's.
    return printable_lines("\n".join(_lines(path, format_, schema, epochs))) + "\n"


def _lines(path: str, format_: Component, schema: Schema, epochs: Mapping[str, Field]) -> Iterator[str]:
    times = _time_columns(schema, epochs)
    yield "[sources.input]"
    if path == "-":
        yield 'type   = "stdin"'
    else:
        yield 'type   = "file"'
        yield f"path   = {_quoted(path)}"
    yield f"format = {_format_text(format_)}"
    if times:
        yield f"time   = {_quoted(times[0].name)}" + _others(times[1:])
        yield 'watermark_delay = "0s"   # how late rows may come'
    else:
        yield '# time = "..."            # no column looks like an event time: rows count at their arrival'
    yield ""
    yield "[sources.input.schema]"
    width = max((len(_key(field.name)) for field in schema), default=0)
    for field in schema:
        chosen = times[0] if times and times[0].name == field.name else field
        yield f"{_key(field.name):{width}} = {_quoted(chosen.type_text)}"
    yield ""
    yield "[stages.windows]"
    yield 'type   = "window"'
    yield 'window = { tumbling = "1m" }' if times else 'window = "all"'
    time_name = times[0].name if times else None
    keys = [field for field in schema if field.type is DataType.STRING and field.name != time_name]
    yield f"by     = [{_quoted(keys[0].name)}]" if keys else "by     = []"
    numbers = [field for field in schema if field.type.is_number and field.name != time_name]
    aggregates = {"rows": "count(*)"} | (
        {f"mean_{numbers[0].name}": f"mean({_column(numbers[0].name)})"} if numbers else {}
    )
    yield (
        "aggregates = { "
        + ", ".join(f"{_key(name)} = {_quoted(text)}" for name, text in aggregates.items())
        + " }"
    )
    yield ""
    yield "[sinks.output]"
    yield 'type   = "stdout"'
    yield 'format = "json"'


def _time_columns(schema: Schema, epochs: Mapping[str, Field]) -> list[Field]:
    """The columns that may be the event time, best first, as they would be declared."""
    return [*(field for field in schema if field.type is DataType.TIMESTAMP), *epochs.values()]


def _format_text(format_: Component) -> str:
    options = component_options(format_)
    if not options:
        return _quoted(format_.type)
    inner = ", ".join(f"{key} = {json.dumps(value)}" for key, value in options.items())
    return f"{{ type = {_quoted(format_.type)}, {inner} }}"


def _others(fields: list[Field]) -> str:
    return "" if not fields else "   # or " + ", ".join(field.name for field in fields)


def _key(name: str) -> str:
    return name if _BARE_KEY.match(name) else _quoted(name)


def _quoted(text: str) -> str:
    # JSON's escapes are all TOML's too, as long as no surrogate pair is written out; DEL alone must be escaped by hand.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _column(name: str) -> str:
    return name if re.match(r"[A-Za-z_][A-Za-z0-9_]*\Z", name) else '"' + name.replace('"', '""') + '"'
