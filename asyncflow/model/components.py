"""Finds components by name: a module of the room's folder, or another distribution's entry point.

There is no list to edit: ``asyncflow/formats/csv.py`` is the format ``csv``.  Another distribution adds components through the entry points
``asyncflow.sources``, ``asyncflow.sinks``, ``asyncflow.formats`` and ``asyncflow.stages``, each naming a module of the same shape, and
through ``asyncflow.aggregates``, each naming a class.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from importlib.machinery import PathFinder
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint, EntryPoints

_NOT_COMPONENTS = {"contract"}


@cache
def names(room: str, capability: str, group: str) -> tuple[str, ...]:
    """Names of the components in package ``room`` whose module defines ``capability`` (``"open_source"``), and of those in ``group``."""
    found = [name for name in modules(room) if hasattr(import_module(f"{room}.{name}"), capability)]
    found += [point.name for point in _entry_points(group) if point.name not in found]
    return tuple(sorted(found))


@cache
def find(room: str, name: str, capability: str, group: str) -> ModuleType:
    """The module of component ``name``; KeyError when there is none that has ``capability``."""
    if has(room, name):
        module = import_module(f"{room}.{name}")
        if hasattr(module, capability):
            return module
    for point in _entry_points(group):
        if point.name == name:
            module = point.load()
            assert isinstance(module, ModuleType)
            return module
    raise KeyError(name)


@cache
def registered(group: str) -> Mapping[str, EntryPoint]:
    """The entry points of ``group`` by name, the first of several with one name.  Nothing is imported."""
    return {point.name.lower(): point for point in reversed(tuple(_entry_points(group)))}


def _entry_points(group: str) -> EntryPoints:
    # Imported only for a name that is no module here: the import costs tens of milliseconds.
    from importlib.metadata import entry_points

    return entry_points(group=group)


@cache
def has(room: str, name: str) -> bool:
    """Whether ``name`` is one of ``modules(room)``, without listing the folder: a small run asks for a few names."""
    if not name.isidentifier() or name.startswith("_") or name in _NOT_COMPONENTS:
        return False
    spec = PathFinder.find_spec(f"{room}.{name}", import_module(room).__path__)
    return spec is not None and spec.has_location


@cache
def modules(room: str) -> tuple[str, ...]:
    """Names of the modules in package ``room`` that may be components."""
    import pkgutil

    folder = import_module(room).__path__
    return tuple(
        info.name
        for info in pkgutil.iter_modules(folder)
        if info.name not in _NOT_COMPONENTS and not info.name.startswith("_")
    )
