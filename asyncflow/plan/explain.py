"""A plan made visible: as a tree to read, as Mermaid to draw, as JSON to process.

All three say the same: every table with its columns, what of each source is read, how the watermark moves, and where state is held.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from asyncflow.model.durations import format_duration
from asyncflow.model.schema import Schema
from asyncflow.plan import graph
from asyncflow.plan.expressions.aggregates import python_classes
from asyncflow.plan.expressions.expression_print import expression_text
from asyncflow.plan.expressions.nodes import Expression
from asyncflow.plan.joins import join_state, join_texts
from asyncflow.plan.schemas import goes_over_windows, input_schema, read_columns, table_schemas
from asyncflow.plan.tables import (
    Component,
    Dedup,
    Derive,
    Filter,
    Join,
    MapBatches,
    Plan,
    Sequence,
    Sink,
    SortKey,
    Source,
    Stage,
    Top,
    Window,
)
from asyncflow.plan.windows import (
    AllRows,
    Count,
    Cumulate,
    Hopping,
    PerMessage,
    Session,
    Tumbling,
    WindowShape,
)
from asyncflow.printable import hidden, printable, printable_lines


def explain(plan: Plan, form: str = "tree", inferred: Mapping[str, Schema] | None = None) -> str:
    """The plan as text; ``form`` is ``tree``, ``mermaid`` or ``json``.  ``inferred``: schemas of sources declared without one."""
    description = describe(plan, inferred)
    if form == "json":
        return printable_lines(json.dumps(_hidden(description), indent=2, ensure_ascii=False, default=str))
    lines = _mermaid(description) if form == "mermaid" else _tree(description)
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
    description: dict[str, Any] = {"name": stage.name, "type": "", "inputs": list(stage.inputs)}
    match stage:
        case Filter(where=where):
            description |= {"type": "filter", "where": expression_text(where)}
        case Derive(columns=columns):
            description |= {"type": "derive", "expressions": _expressions(columns)}
        case Window(shape=shape, by=by, aggregates=aggregates):
            description |= {"type": "window", "window": window_text(shape), "by": _expressions(by)}
            description |= {"aggregates": _expressions(aggregates)}
            if classes := python_classes(each for _, each in aggregates):
                description["python"] = classes
            if stage.allowed_lateness_ns:
                description["allowed_lateness"] = format_duration(stage.allowed_lateness_ns)
            if stage.emit_every_ns is not None:
                description["emit"] = f"every {format_duration(stage.emit_every_ns)}"
        case Dedup(by=by, within_ns=within):
            description |= {"type": "dedup", "by": _expressions(by), "within": format_duration(within)}
        case Top(n=n, order=order, by=by):
            read = input_schema(stage.inputs, schemas)
            description |= {"type": "top", "n": n, "order": [sort_text(key) for key in order]}
            description |= {"window": _top_window(stage, read), "by": _expressions(by)}
        case Sequence(unique=unique):
            told = f"unique {', '.join(unique)}" if unique else "event time"
            description |= {"type": "sequence", "overlap": told}
        case Join(window=window):
            description |= {"type": "join", **join_texts(stage)}
            if window is not None:
                description["window"] = window_text(window)
        case MapBatches(function=function, rows=rows):
            name = getattr(function, "__qualname__", type(function).__qualname__)
            description |= {"type": "map_rows" if rows else "map", "function": name, **_calls(stage)}
    description["columns"] = _columns(schemas[stage.name])
    description["side_outputs"] = _side_outputs(stage, readers)
    description["state"] = state_text(stage)
    return description


def _calls(stage: MapBatches) -> dict[str, str]:
    """How the function is called, where that is not one call after the other."""
    said = []
    if stage.concurrency > 1:
        said.append(f"up to {stage.concurrency} at once, {'in order' if stage.ordered else 'in any order'}")
    if stage.timeout_ns is not None:
        said.append(f"timeout {format_duration(stage.timeout_ns)}")
    if stage.on_error == "reject":
        said.append("failures rejected")
    return {"calls": ", ".join(said)} if said else {}


def _sink(sink: Sink) -> dict[str, Any]:
    return {
        "name": sink.name,
        "type": sink.connector.type,
        "inputs": list(sink.inputs),
        "options": component_options(sink.connector),
        "format": _component(sink.format),
    }


def window_text(shape: WindowShape) -> str:
    """``tumbling 1m``, ``hopping 5m every 1m``, ``cumulate 1d every 1h``, ``session 30s``, ``count 100``, ``all``, ``message``."""
    match shape:
        case Tumbling(size_ns=size, offset_ns=offset):
            text = f"tumbling {format_duration(size)}"
        case Hopping(size_ns=size, every_ns=every, offset_ns=offset):
            text = f"hopping {format_duration(size)} every {format_duration(every)}"
        case Session(gap_ns=gap):
            return f"session {format_duration(gap)}"
        case Count(size=rows):
            return f"count {rows}"
        case Cumulate(size_ns=size, every_ns=every, offset_ns=offset):
            text = f"cumulate {format_duration(size)} every {format_duration(every)}"
        case AllRows():
            return "all"
        case PerMessage():
            return "message"
    return f"{text} offset {format_duration(offset)}" if offset else text


def sort_text(key: SortKey) -> str:
    """``revenue DESC``."""
    text = expression_text(key.expression) + (" DESC" if key.descending else "")
    return f"{text} NULLS FIRST" if key.nulls_first else text


def _top_window(stage: Top, read: Schema | None) -> str:
    if stage.shape is not None:
        return window_text(stage.shape)
    if read is None:
        return "that of its input"
    return "that of its input: window_end" if goes_over_windows(stage, read) else "all"


def state_text(stage: Stage) -> str | None:
    """Where a stage holds state and until when; None where it holds none."""
    match stage:
        case Join():
            return join_state(stage)
        case Dedup(within_ns=within):
            return f"the times of each key's rows, until the watermark is {format_duration(within)} past them"
        case Top(n=n, by=by):
            per = " per key" if by else ""
            return f"at most {n} rows{per} in each open window, until the watermark reaches the window's end"
        case Sequence(unique=unique):
            kept = "rows of the live side that wait"
            return (
                f"{kept}, and the keys of the overlap, until the live side has passed it" if unique else kept
            )
        case Window():
            state = _window_state(stage)
            classes = python_classes(each for _, each in stage.aggregates)
            return f"{state}; with each an object of {', '.join(classes)}" if classes else state
    return None


def _window_state(stage: Window) -> str | None:
    per = "one group per key" if stage.by else "one group"
    until = "until the watermark reaches the window's end"
    if stage.allowed_lateness_ns:
        until += f" and {format_duration(stage.allowed_lateness_ns)} more"
    match stage.shape:
        case Tumbling():
            return f"{per} in each open window, {until}"
        case Cumulate(every_ns=every) if not stage.revised:
            return f"{per} in each open step of {format_duration(every)}, carried on until the watermark reaches the last window's end"
        case Hopping(size_ns=size, every_ns=every) | Cumulate(size_ns=size, every_ns=every):
            windows = -(-size // every) if every > 0 else 1
            at_most = "" if isinstance(stage.shape, Hopping) else "up to "
            return f"{per} in each open window ({at_most}{windows} over any moment), {until}"
        case Session():
            each = "one group per session of a key" if stage.by else "one group per session"
            return f"{each}, until the watermark reaches its end"
        case Count(size=rows):
            return f"{per}, until it has {rows} rows"
        case AllRows():
            return f"{per}, until the end of the input"
        case PerMessage():
            return f"{per}, until the end of the message"


def _columns(schema: Schema | None) -> dict[str, str] | None:
    return None if schema is None else {field.name: field.type_text for field in schema}


def _expressions(columns: tuple[tuple[str, Expression], ...]) -> dict[str, str]:
    return {name: expression_text(expression) for name, expression in columns}


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


# -- tree ------------------------------------------------------------------------------------------------------------


def _tree(description: Mapping[str, Any]) -> Iterator[str]:
    """Sources at the left edge, each table under what it reads; one that reads several is shown whole under the first."""
    yield description["name"]
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
        for line in _details(table):
            yield f"{below}{'│' if children else ' '}    {line}"
        for position, (child, name) in enumerate(children):
            side = f" ← {name}" if "." in name else ""
            yield from branch(child, below, position == len(children) - 1, side)

    for position, source in enumerate(description["sources"]):
        yield from branch(source, "", position == len(description["sources"]) - 1, "")


def _title(table: Mapping[str, Any]) -> str:
    return f"{table['name']}: {table['type']}"


def _details(table: Mapping[str, Any]) -> Iterator[str]:
    if table.get("options"):
        yield ", ".join(f"{key} = {_value(value)}" for key, value in table["options"].items())
    if table.get("format"):
        yield "format " + _format_text(table["format"])
    if table["type"] == "top" and "order" in table:
        yield f"first {table['n']} by {', '.join(table['order'])}"
    for key in (
        "where",
        "function",
        "calls",
        "kind",
        "window",
        "allowed_lateness",
        "emit",
        "within",
        "as_of",
        "lookup",
        "overlap",
    ):
        if key in table:
            yield f"{key} {table[key]}"
    for key in ("on", "by", "expressions", "aggregates", "python"):
        for name, text in table.get(key, {}).items():
            word = key if key in ("by", "on", "python") else "column" if key == "expressions" else "aggregate"
            yield f"{word} {name}" + ("" if text == name else f" = {text}")
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


# -- mermaid ---------------------------------------------------------------------------------------------------------


def _mermaid(description: Mapping[str, Any]) -> Iterator[str]:
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
