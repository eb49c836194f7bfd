"""Capabilities of each connector, from its options alone; the opened connector agrees with them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from asyncflow import connectors
from asyncflow.connectors.contract import MessageSource
from asyncflow.model.capabilities import SinkCapabilities, SourceCapabilities
from asyncflow.plan import capabilities
from asyncflow.plan.tables import Component
from asyncflow.testing import ChunkSource, ListSink

SOURCES: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    (
        "file",
        {"path": "data/*.csv"},
        {"bounded": True, "rereadable": True, "resumable": True, "guarantee": "at-least-once"},
    ),
    ("file", {"path": "a.csv", "follow": True}, {"bounded": False, "rereadable": True, "guarantee": "none"}),
    ("file", {"path": ["a.csv", "/dev/stdin"]}, {"bounded": None, "rereadable": False, "guarantee": "none"}),
    (
        "generate",
        {"start": "2024-01-01"},
        {"bounded": False, "rereadable": True, "resumable": True, "guarantee": "at-least-once"},
    ),
    (
        "generate",
        {"rows": 5},
        {"bounded": True, "rereadable": True, "resumable": True, "guarantee": "none"},
    ),
    ("stdin", {}, {"bounded": None}),
    ("tcp", {"listen": "127.0.0.1:0"}, {"bounded": False}),
    ("tcp", {"connect": "127.0.0.1:9"}, {"bounded": False}),
    ("udp", {"listen": "127.0.0.1:0"}, {"bounded": False, "messages": True}),
    ("unix", {"listen": "/tmp/a.sock"}, {"bounded": False}),
]
SINKS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("file", {"path": "a.csv"}, {}),
    ("file", {"path": "a.csv", "mode": "append"}, {"guarantee": "at-least-once"}),
    ("file", {"path": "a.csv", "mode": "replace"}, {"guarantee": "exactly-once"}),
    ("file", {"path": "/dev/stdout", "mode": "replace"}, {"may_wait": True, "guarantee": "at-least-once"}),
    ("null", {}, {"takes_bytes": False}),
    ("stdout", {}, {"may_wait": True, "guarantee": "at-least-once"}),
    ("tcp", {"listen": "127.0.0.1:0"}, {"may_wait": True}),
    ("tcp", {"connect": "127.0.0.1:9"}, {}),
    ("unix", {"connect": "a.sock", "reconnect": True}, {"may_wait": True}),
    ("udp", {"to": "127.0.0.1:9"}, {}),
    ("udp", {"reply": "asked"}, {"replies_to": "asked"}),
]


def test_every_connector_is_here() -> None:
    assert {name for name, _, _ in SOURCES} == set(connectors.source_names())
    assert {name for name, _, _ in SINKS} == set(connectors.sink_names())


@pytest.mark.parametrize(("name", "options", "says"), SOURCES)
async def test_sources(name: str, options: dict[str, Any], says: dict[str, Any]) -> None:
    module = connectors.find_source(name)
    made = Component(name, module.SourceOptions(**options))
    can = capabilities.of_source(made)
    assert {field: getattr(can, field) for field in says} == says
    assert can.resumable == says.get("resumable", False)
    assert can.guarantee in made.options.guarantee_text
    source = module.open_source(made.options)
    assert can.bounded in (None, source.bounded)
    assert can.messages == isinstance(source, MessageSource)
    await source.aclose()


@pytest.mark.parametrize(("name", "options", "says"), SINKS)
async def test_sinks(name: str, options: dict[str, Any], says: dict[str, Any]) -> None:
    module = connectors.find_sink(name)
    made = Component(name, module.SinkOptions(**options))
    can = capabilities.of_sink(made)
    plain = {"takes_bytes": True, "may_wait": False, "replies_to": None, "guarantee": "none"}
    assert {field: getattr(can, field) for field in plain} == plain | says
    assert can.guarantee in made.options.guarantee_text
    sink = module.open_sink(made.options)
    assert sink.takes_bytes == can.takes_bytes
    await sink.aclose()


def test_a_pipe_is_read_once_and_may_be_waited_for(tmp_path: Path) -> None:
    os.mkfifo(path := str(tmp_path / "pipe"))
    module = connectors.find_source("file")
    can = capabilities.of_source(Component("file", module.SourceOptions(path=path)))
    assert (can.bounded, can.rereadable) == (None, False)
    assert capabilities.of_sink(Component("file", module.SinkOptions(path=path))).may_wait


async def rows() -> AsyncIterator[dict[str, int]]:
    yield {"n": 1}


class Rows:
    def __aiter__(self) -> AsyncIterator[dict[str, int]]:
        return rows()


@pytest.mark.parametrize(
    ("given", "bounded", "rereadable"),
    [
        ([{"n": 1}], True, True),
        (iter([{"n": 1}]), True, False),
        (rows(), None, False),
        (Rows(), None, True),
        (ChunkSource([b"1\n"]), True, False),
    ],
)
def test_objects_of_python(given: Any, bounded: bool | None, rereadable: bool) -> None:
    can = capabilities.of_source(Component("python", object=given))
    assert (can.bounded, can.rereadable) == (bounded, rereadable)


def test_what_declares_nothing_promises_nothing() -> None:
    assert capabilities.of_source(Component("foreign", object())) == SourceCapabilities()
    assert capabilities.of_sink(Component("foreign", object())) == SinkCapabilities()
    assert capabilities.of_sink(Component("list", object=ListSink())) == SinkCapabilities()


def test_nothing_is_bound_or_opened(tmp_path: Path) -> None:
    path = tmp_path / "not-there"
    options = connectors.find_source("unix").SourceOptions(listen=str(path))
    (taken,) = capabilities.of_source(Component("unix", options)).resources
    assert (taken.kind, taken.option, path.exists()) == ("file", "listen", False)


def test_a_sink_that_cannot_reply_says_so() -> None:
    from asyncflow.errors import ConnectorError

    with pytest.raises(ConnectorError, match="ListSink cannot reply"):
        asyncio.run(_bind())


async def _bind() -> None:
    ListSink().bind_reply(ChunkSource([]))
