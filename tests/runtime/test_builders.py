"""Every kind of stage of a plan has what the other rooms need of it: a builder, and a table of a pipeline file, or a reason."""

from __future__ import annotations

import inspect
import pkgutil
from importlib import import_module
from typing import get_args, get_type_hints

import pytest

from asyncflow.doors import stages as doors
from asyncflow.plan import stages as kinds
from asyncflow.plan.tables import Stage
from asyncflow.runtime.wiring import builders

NOT_WRITTEN = {"map": "a function has no text", "unreadable": "stands for what could not be read"}
"""Kinds without a table in a pipeline file, and why."""


def nodes() -> dict[str, type[Stage]]:
    modules = [
        import_module(f"{kinds.__name__}.{info.name}") for info in pkgutil.iter_modules(kinds.__path__)
    ]
    found = {}
    for module in modules:
        for each in vars(module).values():
            if inspect.isclass(each) and issubclass(each, Stage) and each.__module__ == module.__name__:
                assert module.__name__.endswith(f".{each.type}")
                found[each.type] = each
    return found


NODES = nodes()


def test_there_are_kinds() -> None:
    assert {"filter", "window", "join", "map", "sequence", "unreadable"} <= NODES.keys()


@pytest.mark.parametrize("kind", NODES)
def test_every_kind_answers_every_question(kind: str) -> None:
    node = NODES[kind]
    questions = {name for name, each in vars(Stage).items() if _is_abstract(each)}
    assert questions >= {"output", "reads", "problems", "describe", "state_text", "ways"}
    assert [name for name in questions if _is_abstract(getattr(node, name))] == []


@pytest.mark.parametrize("kind", NODES)
def test_every_kind_is_built_or_has_a_reason(kind: str) -> None:
    if kind in builders.WITHOUT:
        with pytest.raises(TypeError, match=builders.WITHOUT[kind]):
            builders.builder_of(kind)
    else:
        takes = get_type_hints(builders.builder_of(kind).build)
        assert takes["table"] is NODES[kind]


@pytest.mark.parametrize("kind", NODES)
def test_every_kind_is_read_or_has_a_reason(kind: str) -> None:
    if kind in NOT_WRITTEN:
        assert kind not in (*doors.names("stages"), *doors.names("sources"))
        return
    assert kind in doors.names(NODES[kind].room)
    door = doors.find(kind)
    assert get_args(get_type_hints(door.Table)["type"]) == (kind,)
    made = get_type_hints(door.read)["return"]
    assert NODES[kind] in (made, *get_args(made))


def _is_abstract(each: object) -> bool:
    return bool(getattr(each, "__isabstractmethod__", False))
