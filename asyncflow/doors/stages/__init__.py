"""Stages as written to nodes of a plan: one file per kind, found by the name of the kind.

A kind is a module with:

- ``Table``: a msgspec struct of the keys of its table, each with type, default and a line of doc.  Reading, hints at unknown keys,
  ``asyncflow list`` and the JSON Schema are made from it.
- ``read(name, inputs, values, path, problems)``: the node (:class:`~asyncflow.plan.tables.Stage`) of a table's converted ``values``;
  None, with a problem added, where there is none.  ``inputs``: the tables that it reads; ``path``: of the table, for problems.
- ``MADE``, where it has any: for keys the types of objects that a call in Python may give in place of text.
- ``ROOM``: ``"sources"`` for a kind that is written as a source.

A distribution adds a kind through the entry point group ``asyncflow.stages``: a module of this shape that also has ``build``, which makes
the stage of a run (see ``runtime.wiring.builders``).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import Any

from asyncflow.doors.components import NOT_BUILT_YET, Problems, convert_fields
from asyncflow.model import components
from asyncflow.plan.names import nearest
from asyncflow.plan.stages.unreadable import Unreadable
from asyncflow.plan.tables import Stage

GROUP = "asyncflow.stages"
LATER = frozenset({"pattern"})


def names(room: str = "stages") -> tuple[str, ...]:
    """The kinds that are written in a room of the pipeline file, by name."""
    own = {name: getattr(components.find(__name__, name, "read", GROUP), "ROOM", "stages") for name in _own()}
    others = [name for name in components.registered(GROUP) if name not in own] if room == "stages" else []
    return tuple(sorted([*(name for name, its in own.items() if its == room), *others]))


def is_written_in(type_: object, room: str) -> bool:
    """Whether ``type_`` is in ``names(room)``, for a room other than ``stages``.  No module but the kind's own is imported."""
    if not isinstance(type_, str) or not components.has(__name__, type_):
        return False
    return getattr(components.find(__name__, type_, "read", GROUP), "ROOM", "stages") == room


def find(name: str) -> ModuleType:
    """The kind's module.  Raises KeyError where there is no such kind, ValueError where one of someone else's cannot be used."""
    if components.has(__name__, name):
        return components.find(__name__, name, "read", GROUP)
    point = components.registered(GROUP)[name]
    where = f"the stage {name!r} ({point.value})"
    try:
        module = point.load()
    except Exception as error:  # whatever a module of someone else's raises
        raise ValueError(f"{where} cannot be imported: {type(error).__name__}: {error}") from error
    for part in ("Table", "read", "build"):
        if not hasattr(module, part):
            raise ValueError(f"{where} has no {part!r}")
    assert isinstance(module, ModuleType)
    return module


def _own() -> tuple[str, ...]:
    return components.modules(__name__)


def read_stage(
    name: str, table: Mapping[str, Any], before: tuple[str, ...], problems: Problems, *, room: str = "stages"
) -> Stage:
    """The stage that ``[stages.NAME]`` says; ``before``: the tables that it reads where it does not say.

    A table that cannot be read gives an :class:`~asyncflow.plan.stages.unreadable.Unreadable`; of which a part cannot be read goes into
    ``problems.incomplete``."""
    path = f"{room}.{name}"
    if name in problems.incomplete:
        return Unreadable(name, before)
    kind = _kind(table.get("type"), f"{path}.type", problems)
    if kind is None:
        problems.incomplete.add(name)
        return Unreadable(name, inputs_of(table.get("inputs"), before))
    known = len(problems.found)
    values = _values(kind, table, path, problems)
    inputs = inputs_of(values.get("inputs"), before)
    made: Stage | None = kind.read(name, inputs, values, path, problems)
    if made is not None and not isinstance(made, Unreadable) and made.type != table["type"]:
        problems.add(
            f"{path}.type",
            f"the stage {table['type']!r} makes a {made.type!r}: no engine would find its builder",
        )
    if made is None or len(problems.found) > known:
        problems.incomplete.add(name)
    return Unreadable(name, inputs) if made is None else made


def inputs_of(written: object, before: tuple[str, ...]) -> tuple[str, ...]:
    """The tables that a table reads."""
    if isinstance(written, list | tuple):
        return tuple(str(each) for each in written)
    return before


def _kind(type_: object, path: str, problems: Problems) -> ModuleType | None:
    if not isinstance(type_, str):
        problems.add(path, "a stage needs a type", _choices())
        return None
    try:
        return find(type_)
    except KeyError:
        if type_ in LATER:
            problems.add(path, f"the stage {type_!r} is {NOT_BUILT_YET}", _choices())
        else:
            problems.add(path, f"unknown stage {type_!r}", nearest(type_, names()))
    except ValueError as error:
        problems.add(path, str(error))
    return None


def _choices() -> str:
    return "there is " + ", ".join(names())


def _values(kind: ModuleType, table: Mapping[str, Any], path: str, problems: Problems) -> dict[str, Any]:
    """The keys that fit, converted; objects made in Python, also as entries of a table, stay as they are."""
    types: Mapping[str, Any] = getattr(kind, "MADE", {})
    written, made = {}, {}
    for key, value in table.items():
        if key in types and isinstance(value, types[key]):
            made[key] = value
        elif key in types and isinstance(value, Mapping):
            made[key] = {name: each for name, each in value.items() if isinstance(each, types[key])}
            written[key] = {name: each for name, each in value.items() if name not in made[key]}
        else:
            written[key] = value
    values = convert_fields(kind.Table, written, path, problems)
    for key, each in made.items():
        if key not in written:
            values[key] = each
        elif key in values:
            both = {**values[key], **each}
            values[key] = {name: both[name] for name in table[key] if name in both}
    return values
