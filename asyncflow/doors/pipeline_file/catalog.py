"""The catalog that ``asyncflow list`` prints: sources, stages, sinks, formats, aggregates and functions with their options.

Entries are made from the options structs and tables of functions; the same structs make the JSON Schema (``json_schema``) and check every
pipeline.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType, NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Struct

from asyncflow.doors import stages
from asyncflow.doors.components import DECODER, ENCODER, SINK, SOURCE, Role, options_type
from asyncflow.doors.pipeline_file.tables import PipelineTable, SinkTable, SourceTable
from asyncflow.model.capabilities import DescribesSink, DescribesSource
from asyncflow.plan.expressions.aggregates import aggregate_names, find_aggregate
from asyncflow.plan.expressions.functions import SCALARS

KINDS = ("pipeline", "sources", "stages", "sinks", "formats", "aggregates", "functions")


class Option(Struct, frozen=True):
    """One option of a component; ``default`` None: it must be given."""

    name: str
    type: str
    default: str | None
    doc: str


class Entry(Struct, frozen=True):
    """One thing there is.  ``doc``: a sentence; ``usage``: how a function is called; ``options``: of a component; ``guarantee``: of a
    connector (see ``model.capabilities``)."""

    name: str
    doc: str
    usage: str = ""
    options: tuple[Option, ...] = ()
    guarantee: str = ""


def entries(kind: str) -> tuple[Entry, ...]:
    """Everything of one of :data:`KINDS`, by name."""
    if kind == "pipeline":
        return (_table("(top)", PipelineTable),)
    if kind == "sources":
        found = (*(_component(SOURCE, name) for name in SOURCE.names()), *_stages("sources"))
        return (_table("(each)", SourceTable), *sorted(found, key=lambda entry: entry.name))
    if kind == "stages":
        return tuple(_stages("stages"))
    if kind == "sinks":
        return (_table("(each)", SinkTable), *(_component(SINK, name) for name in SINK.names()))
    if kind == "formats":
        return tuple(_format(name) for name in sorted({*DECODER.names(), *ENCODER.names()}))
    if kind == "aggregates":
        return tuple(_aggregate(name) for name in sorted(aggregate_names()))
    return tuple(Entry(name, function.doc, function.usage) for name, function in sorted(SCALARS.items()))


def _stages(room: str) -> Iterator[Entry]:
    """One of someone else's that cannot be used says why."""
    for name in stages.names(room):
        try:
            yield _table(name, stages.find(name).Table)
        except ValueError as error:
            yield Entry(name, str(error))


def _aggregate(name: str) -> Entry:
    """One of someone else's that cannot be used says why."""
    try:
        function = find_aggregate(name)
    except ValueError as error:
        return Entry(name, str(error))
    assert function is not None
    return Entry(name, function.doc, function.usage)


def _table(name: str, struct: type[msgspec.Struct]) -> Entry:
    """A table of the pipeline file, without the key that says which it is."""
    options = tuple(option for option in _options(struct) if option.name != "type")
    return Entry(name, (struct.__doc__ or "").rstrip("."), options=options)


def _component(role: Role, name: str) -> Entry:
    module = role.find(name)
    struct = options_type(role, module)
    guarantee = "none"
    if struct is not None and issubclass(struct, DescribesSource | DescribesSink):
        guarantee = struct.guarantee_text
    return Entry(name, _first_sentence(module), options=tuple(_options(struct)), guarantee=guarantee)


def _format(name: str) -> Entry:
    """Reading and writing together; an option that only one of them has says so."""
    sides = []
    for role, word in ((DECODER, "reading"), (ENCODER, "writing")):
        if name in role.names():
            sides.append(
                (role.find(name), word, {o.name: o for o in _options(options_type(role, role.find(name)))})
            )
    merged: dict[str, Option] = {}
    for _, word, options in sides:
        for option in options.values():
            everywhere = all(option.name in other for _, _, other in sides)
            note = "" if everywhere and len(sides) > 1 else f" ({word})" if len(sides) > 1 else ""
            merged.setdefault(
                option.name, Option(option.name, option.type, option.default, option.doc + note)
            )
    doc = _first_sentence(sides[0][0]) + (f" (only {sides[0][1]})" if len(sides) == 1 else "")
    return Entry(name, doc, options=tuple(merged.values()))


def _first_sentence(module: ModuleType) -> str:
    """The first sentence of a module's docstring, without the words that only name it."""
    text = " ".join((module.__doc__ or "").split("\n\n")[0].split())
    sentence = text.partition(". ")[0].rstrip(".").replace("``", "")
    head, colon, rest = sentence.partition(": ")
    return rest if colon and len(head) < 30 else sentence


def _options(struct: type[msgspec.Struct] | None) -> Iterator[Option]:
    if struct is None:
        return
    hints = get_type_hints(struct, include_extras=True)
    for field in msgspec.structs.fields(struct):
        default = None if field.required else _default_text(field)
        yield Option(field.encode_name, type_text(hints[field.name]), default, _doc(hints[field.name]))


def _default_text(field: msgspec.structs.FieldInfo) -> str:
    value = field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
    return "" if value is None else msgspec.json.encode(value, enc_hook=str).decode()


def _doc(hint: Any) -> str:
    for part in getattr(hint, "__metadata__", ()):
        if isinstance(part, msgspec.Meta) and part.description:
            return part.description
    for part in get_args(hint):
        if (doc := _doc(part)) != "":
            return doc
    return ""


_TYPE_WORDS = {
    str: "text",
    int: "integer",
    float: "number",
    bool: "true or false",
    dict: "table",
    list: "list",
}


def type_text(hint: Any) -> str:
    """A type in the words of the pipeline file: ``text``, ``integer or text``, ``"create" | "append"``, ``list of text``."""
    origin = get_origin(hint)
    if origin is Annotated:
        return type_text(get_args(hint)[0])
    if origin is Literal:
        return " | ".join(f'"{value}"' for value in get_args(hint))
    if origin in (Union, UnionType):
        return " or ".join(type_text(part) for part in get_args(hint) if part is not NoneType)
    if origin in (list, tuple) and get_args(hint):
        return f"list of {type_text(get_args(hint)[0])}"
    if origin is dict:
        return "table"
    return _TYPE_WORDS.get(hint, getattr(hint, "__name__", str(hint)))


def text(kind: str) -> Iterator[str]:
    """One kind as lines to read: names at the edge, options below."""
    yield kind
    found = entries(kind)
    width = max((len(entry.name) for entry in found), default=0)
    for entry in found:
        usage = f"\n  {'':{width}}  ".join(entry.usage.splitlines())
        yield f"  {entry.name:{width}}  {usage or entry.doc}"
        if usage:
            yield f"  {'':{width}}  {entry.doc}"
        if entry.guarantee:
            yield f"  {'':{width}}  guarantee: {entry.guarantee}"
        for option in entry.options:
            given = (
                " required" if option.default is None else f" = {option.default}" if option.default else ""
            )
            yield f"  {'':{width}}    {option.name} ({option.type}){given}" + (
                f": {option.doc}" if option.doc else ""
            )
