"""Draws the description of a plan (``explain.describe``) as a tree to read, and as Mermaid.

All settings of a stage are shown, whatever their names: texts first, then tables with a line for each entry.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

_COMMON = ("name", "type", "inputs", "columns", "side_outputs", "state")
"""What the description of every stage has."""
_WORDS = {"expressions": "column", "aggregates": "aggregate"}
"""What an entry of a table is called, where not as the table."""


def tree(description: Mapping[str, Any], summaries: Mapping[str, str]) -> Iterator[str]:
    """Sources at the left edge, each table under what it reads; one that reads several is shown whole under the first.

    ``summaries``: first lines of stages, by name."""
    yield description["name"]
    stages = {stage["name"] for stage in description["stages"]}
    tables = [*description["stages"], *description["sinks"]]
    shown: set[str] = set()

    def branch(table: Mapping[str, Any], indent: str, last: bool, via: str) -> Iterator[str]:
        again = table["name"] in shown
        shown.add(table["name"])
        yield f"{indent}{'└─ ' if last else '├─ '}{_title(table)}{via}" + (" (above)" if again else "")
        if again:
            return
        below = indent + ("   " if last else "│  ")
        children = [
            (each, name)
            for each in tables
            for name in each["inputs"]
            if name.partition(".")[0] == table["name"]
        ]
        lines = [*_component(table), summaries.get(table["name"], "")]
        lines += _settings(table) if table["name"] in stages else ()
        lines += _rows(table)
        for line in filter(None, lines):
            yield f"{below}{'│' if children else ' '}    {line}"
        for position, (child, name) in enumerate(children):
            side = f" ← {name}" if "." in name else ""
            yield from branch(child, below, position == len(children) - 1, side)

    for position, source in enumerate(description["sources"]):
        yield from branch(source, "", position == len(description["sources"]) - 1, "")


def _title(table: Mapping[str, Any]) -> str:
    return f"{table['name']}: {table['type']}"


def _component(table: Mapping[str, Any]) -> Iterator[str]:
    if table.get("options"):
        yield ", ".join(f"{key} = {_value(value)}" for key, value in table["options"].items())
    if table.get("format"):
        yield "format " + _format_text(table["format"])


def _settings(stage: Mapping[str, Any]) -> Iterator[str]:
    settings = {key: value for key, value in stage.items() if key not in _COMMON}
    for key, value in settings.items():
        if isinstance(value, str):
            yield f"{key} {value}"
    for key, value in settings.items():
        for name, text in value.items() if isinstance(value, Mapping) else ():
            yield f"{_WORDS.get(key, key)} {name}" + ("" if text == name else f" = {text}")


def _rows(table: Mapping[str, Any]) -> Iterator[str]:
    if "columns" in table:
        columns = table["columns"]
        known = (
            "not known before it runs"
            if columns is None
            else ", ".join(f"{n} {t}" for n, t in columns.items())
        )
        yield f"columns {known}"
    if table.get("reads") is not None and list(table["columns"]) != table["reads"]:
        yield f"reads {len(table['reads'])} of {len(table['columns'])} columns: {', '.join(table['reads']) or 'none'}"
    if "time" in table:
        delay = (
            ""
            if table["time"] == "arrival"
            else f", watermark {table['watermark_delay']} behind the greatest seen"
        )
        quiet = f", not waited for once quiet for {table['idle_timeout']}" if "idle_timeout" in table else ""
        yield f"time {table['time']}{delay}{quiet}"
    if table.get("state"):
        yield f"state {table['state']}"


def _format_text(format_: Mapping[str, Any]) -> str:
    options = ", ".join(f"{key} = {_value(value)}" for key, value in format_.items() if key != "type")
    return f"{format_['type']} ({options})" if options else str(format_["type"])


def _value(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


def mermaid(description: Mapping[str, Any]) -> Iterator[str]:
    yield "flowchart LR"
    for source in description["sources"]:
        yield f'  {_node(source)}[("{_label(source)}")]'
    for stage in description["stages"]:
        yield f'  {_node(stage)}{"[[" if stage["state"] else "["}"{_label(stage)}"{"]]" if stage["state"] else "]"}'
    for sink in description["sinks"]:
        yield f'  {_node(sink)}(["{_label(sink)}"])'
    for table in (*description["stages"], *description["sinks"]):
        for name in table["inputs"]:
            owner, _, kind = name.partition(".")
            yield f"  t_{owner} -->{f'|{kind}| ' if kind else ' '}{_node(table)}"


def _node(table: Mapping[str, Any]) -> str:
    # A prefix keeps names such as "end" from being read as words of Mermaid's own.
    return f"t_{table['name']}"


def _label(table: Mapping[str, Any]) -> str:
    parts = [f"<b>{table['name']}</b> {table['type']}", table.get("window", ""), table.get("where", "")]
    parts += [", ".join(table[key]) for key in ("by", "expressions", "aggregates") if table.get(key)]
    return "<br/>".join(_escaped(part, first=position == 0) for position, part in enumerate(parts) if part)


def _escaped(text: str, *, first: bool) -> str:
    if first:
        return text
    return text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;").replace(">", "&gt;")
