"""The builders of a run's stages: one file per kind, found by the name of the kind.

A builder is a module with ``build(table, site)``, which makes the running stage of a plan's stage ``table``; ``site`` has what it needs
(:class:`~asyncflow.runtime.wiring.site.Site`).  Most kinds differ in their operator alone and say ``site.one_input(...)``.  A kind of a
distribution brings its builder in the module that the entry point group ``asyncflow.stages`` names.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

from asyncflow.model import components
from asyncflow.runtime.stages.stage import Stage
from asyncflow.runtime.wiring.site import Site

GROUP = "asyncflow.stages"
WITHOUT = {"unreadable": "a door could not read the table, so its plan has a problem and never runs"}
"""Kinds that are never built, and why."""


def builder_of(kind: str) -> ModuleType:
    """The module that builds stages of a kind.  Raises TypeError where there is none."""
    try:
        return components.find(__name__, kind, "build", GROUP)
    except KeyError:
        raise TypeError(
            f"a stage {kind!r} cannot be built: {WITHOUT.get(kind, 'it has no builder')}"
        ) from None


def build_stage(site: Site) -> Stage:
    """The running stage of ``site.table``."""
    build: Callable[[Any, Site], Stage] = builder_of(site.table.type).build
    return build(site.table, site)
