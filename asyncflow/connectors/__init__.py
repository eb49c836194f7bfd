"""Connectors: sources and sinks at the edge of the process.  One file each, found by name; ``contract`` is the contract."""

from __future__ import annotations

from types import ModuleType

from asyncflow.model import components


def source_names() -> tuple[str, ...]:
    return components.names(__name__, "open_source", "asyncflow.sources")


def sink_names() -> tuple[str, ...]:
    return components.names(__name__, "open_sink", "asyncflow.sinks")


def find_source(name: str) -> ModuleType:
    """The connector module that can ``open_source``; KeyError when there is none."""
    return components.find(__name__, name, "open_source", "asyncflow.sources")


def find_sink(name: str) -> ModuleType:
    """The connector module that can ``open_sink``; KeyError when there is none."""
    return components.find(__name__, name, "open_sink", "asyncflow.sinks")
