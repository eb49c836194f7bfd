"""Makes a checked :class:`~asyncflow.plan.tables.Component` from a component's name and its options as written.

A connector or format declares its options once, as a msgspec struct.  Each option is converted to its declared type by itself, so that
every problem of a table is found and carries its path.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from inspect import get_annotations
from types import ModuleType, NoneType, SimpleNamespace, UnionType
from typing import Annotated, Any, Generic, Literal, Union, get_args, get_origin, get_type_hints

import msgspec
from msgspec import NODEFAULT, Struct, field

from asyncflow import connectors, formats
from asyncflow.errors import AsyncflowError, Problem
from asyncflow.formats.contract import DescribesRecords
from asyncflow.model.schema import Schema
from asyncflow.plan import capabilities, graph
from asyncflow.plan.names import nearest
from asyncflow.plan.tables import Component, Plan
from asyncflow.plan.validate import validate

LATER_CONNECTORS = frozenset(
    {"http", "websocket", "kafka", "nats", "mqtt", "redis", "amqp", "postgres", "sqlite", "s3"}
)
LATER_FORMATS = frozenset({"parquet", "arrow", "avro", "msgpack", "influx"})
NOT_BUILT_YET = "not built yet"

_SUFFIXES = {
    ".csv": {"type": "csv"},
    ".tsv": {"type": "csv", "delimiter": "\t"},
    ".json": {"type": "json"},
    ".jsonl": {"type": "json"},
    ".ndjson": {"type": "json"},
    ".txt": {"type": "lines"},
    ".log": {"type": "lines"},
}
_COMPRESSED = frozenset({".gz", ".zst", ".bz2", ".xz"})


class Problems(Struct):
    """Collects problems while a document is read.  ``incomplete``: tables of which a part could not be read."""

    found: list[Problem] = field(default_factory=list)
    incomplete: set[str] = field(default_factory=set)

    def add(self, path: str, message: str, hint: str = "") -> None:
        self.found.append(Problem(path, message, hint))


class Role(Struct, frozen=True):
    """One of the four roles of a component: how the component is found, the name of its options, and the names that are reserved."""

    noun: str
    find: Callable[[str], ModuleType]
    names: Callable[[], tuple[str, ...]]
    options: str
    later: frozenset[str]


SOURCE = Role(
    "source",
    connectors.find_source,
    connectors.source_names,
    "SourceOptions",
    LATER_CONNECTORS,
)
SINK = Role("sink", connectors.find_sink, connectors.sink_names, "SinkOptions", LATER_CONNECTORS)
DECODER = Role("format", formats.find_decoder, formats.decoder_names, "DecoderOptions", LATER_FORMATS)
ENCODER = Role("format", formats.find_encoder, formats.encoder_names, "EncoderOptions", LATER_FORMATS)


class NoOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The options of a component that declares none."""


def options_type(role: Role, module: ModuleType) -> type[msgspec.Struct] | None:
    """The component's options struct; None where it has no options."""
    found: type[msgspec.Struct] | None = getattr(module, role.options, None)
    return found


def component(
    role: Role,
    type_: object,
    options: Mapping[str, Any],
    path: str,
    problems: Problems,
    *,
    also_known: Collection[str] = (),
    other_types: Callable[[], Collection[str]] = tuple,
) -> Component | None:
    """The component of that name with its options converted; None, with problems added, where there is none or its options do not fit.

    ``also_known``: keys of the same table that are not the component's, for the hint at an unknown key; ``other_types``: gives the
    types of such tables that are not components, for the hint at an unknown type.
    """
    if not isinstance(type_, str):
        problems.add(f"{path}.type", f"a {role.noun} needs a type", _choices(role))
        return None
    try:
        module = role.find(type_)
    except KeyError:
        if type_ in role.later:
            problems.add(f"{path}.type", f"the {role.noun} {type_!r} is {NOT_BUILT_YET}", _choices(role))
        else:
            problems.add(
                f"{path}.type",
                f"unknown {role.noun} {type_!r}",
                nearest(type_, (*role.names(), *other_types())),
            )
        return None
    struct = options_type(role, module) or NoOptions
    before = len(problems.found)
    converted = convert_options(struct, options, path, problems, also_known=also_known)
    if len(problems.found) > before:
        return None
    return Component(type_, converted)


def _choices(role: Role) -> str:
    return "there is " + ", ".join(role.names())


def convert_options(
    struct: type[msgspec.Struct],
    options: Mapping[str, Any],
    path: str,
    problems: Problems,
    *,
    also_known: Collection[str] = (),
) -> Any:
    """``options`` as ``struct``; None, with a problem for each wrong or missing option, where they do not fit."""
    before = len(problems.found)
    values = convert_fields(struct, options, path, problems, also_known=also_known)
    if len(problems.found) > before:
        return None
    try:
        # Again as a whole: the struct's own rules (__post_init__) see all values together.
        return struct(**values)
    except (TypeError, ValueError, AsyncflowError) as error:
        problems.add(*_located(path, error))
        return None


def convert_fields(
    struct: type[msgspec.Struct],
    options: Mapping[str, Any],
    path: str,
    problems: Problems,
    *,
    also_known: Collection[str] = (),
) -> dict[str, Any]:
    """The options that fit, converted, by field name; a problem for each other option and for each required one that is missing."""
    fields = dict(zip(struct.__struct_encode_fields__, struct.__struct_fields__, strict=True))
    values = {}
    above = f"{path}." if path else ""
    for key, value in options.items():
        if key not in fields:
            problems.add(f"{above}{key}", f"unknown key {key!r}", nearest(key, (*fields, *also_known)))
            continue
        hint = _declared_type(struct, fields[key])
        try:
            values[fields[key]] = _convert(value, hint)
        except (msgspec.ValidationError, ValueError) as error:
            problems.found += _value_problems(value, hint, f"{above}{key}", error)
    required = len(fields) - len(struct.__struct_defaults__)
    for key, default in zip(fields, (*[NODEFAULT] * required, *struct.__struct_defaults__), strict=True):
        if default is NODEFAULT and key not in options:
            problems.add(f"{above}{key}", f"{key!r} is missing")
    return values


def _declared_type(struct: type[msgspec.Struct], name: str) -> Any:
    """The type of one field.  ``msgspec.structs.fields`` evaluates those of all fields: 2 of the 140 ms of a small run."""
    if issubclass(struct, Generic):
        return next(each.type for each in msgspec.structs.fields(struct) if each.name == name)
    owner = next(each for each in struct.__mro__ if name in get_annotations(each))
    alone = SimpleNamespace(__annotations__={name: get_annotations(owner)[name]})
    names = vars(sys.modules[owner.__module__])
    return get_type_hints(alone, globalns=dict(vars(owner)), localns=names, include_extras=True)[name]


def _value_problems(value: Any, hint: Any, path: str, error: Exception) -> Iterator[Problem]:
    """A problem for each entry of a table that does not fit, with its path; for any other value the error itself."""
    found = False
    for key, each in value.items() if isinstance(value, Mapping) else ():
        try:
            msgspec.convert({key: each}, hint)
        except (msgspec.ValidationError, ValueError) as inner:
            found = True
            yield Problem(*_located(f"{path}.{key}", inner))
    choices = _words(hint)
    if isinstance(value, str) and choices:
        yield Problem(path, f"unknown value {str(value)!r}", nearest(value, choices))
    elif not found:
        yield Problem(*_located(path, error))


def _words(hint: Any) -> tuple[str, ...]:
    """The words that a type allows; none where it allows other values."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Literal:
        return tuple(each for each in parts if isinstance(each, str))
    if origin is Annotated:
        return _words(parts[0])
    others = [each for each in parts if each is not NoneType]
    return _words(others[0]) if origin in (Union, UnionType) and len(others) == 1 else ()


class FromEnvironment(str):
    """Text from an environment variable, which may stand for a number or a truth value."""

    __slots__ = ()


def _convert(value: Any, hint: Any) -> Any:
    if isinstance(value, FromEnvironment):
        return msgspec.convert(str(value), hint, strict=False)
    return msgspec.convert(value, hint)


_TYPE_NAMES = r"`([a-z]+(?: \| [a-z]+)*)`"
_PLAIN = {
    "str": "text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "array": "a list",
    "object": "a table",
    "null": "nothing",
}


def _located(path: str, error: Exception) -> tuple[str, str]:
    """A conversion error's own path added to ``path``, and its message in the pipeline file's words."""
    message, _, where = str(error).partition(" - at `$")
    where = where.rstrip("`").removesuffix("[...]").replace("[", ".").replace("]", "")
    message = re.sub(_TYPE_NAMES, lambda match: _plain_types(match[1]), message)
    return path + where, message[:1].lower() + message[1:]


def _plain_types(names: str) -> str:
    # That an optional value may be nothing need not be told.
    words = [_PLAIN.get(name, name) for name in names.split(" | ")]
    return " or ".join(word for word in words if word != "nothing" or len(words) == 1)


def format_component(role: Role, value: object, path: str, problems: Problems) -> Component | None:
    """A format as written: ``"csv"`` or ``{ type = "csv", delimiter = ";" }``."""
    if isinstance(value, str):
        # A problem of a plain name belongs to the key itself, not to a ``type`` below it.
        inner = Problems()
        made = component(role, value, {}, path, inner)
        problems.found += [Problem(p.path.removesuffix(".type"), p.message, p.hint) for p in inner.found]
        return made
    if isinstance(value, Mapping):
        options = {key: option for key, option in value.items() if key != "type"}
        return component(role, value.get("type"), options, path, problems)
    problems.add(
        path, "a format is a name or a table", 'for example "csv" or { type = "csv", delimiter = ";" }'
    )
    return None


def format_by_suffix(path: object) -> dict[str, Any] | None:
    """The format of a file by the suffix of its name, as it would be written: ``data.csv.gz`` is csv.  Of a list the first path counts."""
    if isinstance(path, list | tuple) and path:
        path = path[0]
    if not isinstance(path, str | os.PathLike):
        return None
    _, *parts = os.path.basename(str(path)).lstrip(".").lower().split(".")
    suffixes = [f".{part}" for part in parts]
    while suffixes and suffixes[-1] in _COMPRESSED:
        suffixes.pop()
    return _SUFFIXES.get(suffixes[-1]) if suffixes else None


def known_schema(connector: Component, format_: Component | None) -> Schema | None:
    """A source's columns where they are known without reading: its connector gives rows, or its format has fixed columns."""
    if (made := capabilities.of_source(connector).schema) is not None:
        return made
    options = None if format_ is None else format_.options
    return options.fixed_schema() if isinstance(options, DescribesRecords) else None


def check(
    plan: Plan, inferred: Mapping[str, Schema] | None = None, *, incomplete: Collection[str] = ()
) -> list[Problem]:
    """All problems of a plan: the plan's own (see :func:`~asyncflow.plan.validate.validate`) and those of its components together."""
    return [
        *validate(plan, inferred, incomplete=incomplete),
        *(problem for stage in plan.stages for problem in stage.source_problems(plan)),
        *_reply_problems(plan),
    ]


def _reply_problems(plan: Plan) -> Iterator[Problem]:
    """Sinks that reply to a source without messages, or with rows of others."""
    replies = [
        (sink, target)
        for sink in plan.sinks
        if (target := capabilities.of_sink(sink.connector).replies_to) is not None
    ]
    if not replies:
        return
    with_messages = {
        source.name for source in plan.sources if capabilities.of_source(source.connector).messages
    }
    whole = {source.name for source in plan.sources if source.connector.type} - with_messages
    for sink, target in replies:
        path = f"sinks.{sink.name}.reply"
        if target not in {source.name for source in plan.sources}:
            yield Problem(path, f"unknown source {target!r}", nearest(target, sorted(with_messages)))
        elif target in whole:
            yield Problem(path, f"the source {target!r} has no messages to reply to", "udp has them")
        elif any(source.name != target for name in sink.inputs for source in graph.sources_of(plan, name)):
            yield Problem(path, f"its rows do not all come from {target!r}")
