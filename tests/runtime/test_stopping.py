"""After a stop a sink goes on as long as it gets something away, however long that takes in all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from asyncflow.connectors.contract import Buffer
from asyncflow.errors import ConnectorError
from asyncflow.formats.json import EncoderOptions
from asyncflow.model.batch import Batch
from asyncflow.model.columns import column_from_values
from asyncflow.model.messages import End, Message
from asyncflow.model.schema import DataType, Schema
from asyncflow.plan.tables import Component, Sink
from asyncflow.runtime import stopping
from asyncflow.runtime.offload import Offload
from asyncflow.runtime.sink import SinkStage
from asyncflow.runtime.stopping import Handed, run_to_end
from asyncflow.testing import ListSink

SCHEMA = Schema.of([("n", DataType.INT64)])
WRITES = 20


class SlowSink(ListSink):
    """Takes a quarter of the patience for each write, and none after ``at_most``."""

    def __init__(self, at_most: int = WRITES) -> None:
        super().__init__()
        self._at_most = at_most

    async def write(self, data: Buffer, *, origin: Any = None) -> None:
        if len(self.writes) == self._at_most:
            await asyncio.Event().wait()
        await asyncio.sleep(stopping.PATIENCE_SECONDS / 4)
        await super().write(data)


async def rows() -> AsyncIterator[Message]:
    for n in range(WRITES):
        yield Batch(SCHEMA, (column_from_values(DataType.INT64, [n]),), 1)


def stage_of(
    connector: ListSink, messages: AsyncIterator[Message]
) -> tuple[SinkStage, Handed, asyncio.Event]:
    stop = asyncio.Event()
    stop.set()
    handed = Handed(messages)
    sink = Sink("out", ("rows",), Component("list"), Component("json", EncoderOptions()))
    return SinkStage(sink, connector, handed, SCHEMA, Offload(1)), handed, stop


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopping, "PATIENCE_SECONDS", 0.1)


async def test_a_slow_one_gets_everything() -> None:
    connector = SlowSink()
    await run_to_end(*stage_of(connector, rows()))
    assert connector.data == b"".join(b'{"n":%d}\n' % n for n in range(WRITES))
    assert connector.closed is False


@pytest.mark.parametrize("at_most", [0, 3, WRITES - 1])
async def test_one_that_takes_no_more_fails(at_most: int) -> None:
    connector = SlowSink(at_most)
    with pytest.raises(ConnectorError, match="stopped while its rows waited for somebody"):
        await run_to_end(*stage_of(connector, rows()))
    assert len(connector.writes) == at_most
    assert connector.closed is True


async def test_one_that_has_nothing_to_do_is_waited_for() -> None:
    """What stands before it may take its time."""
    ready = asyncio.Event()

    async def later() -> AsyncIterator[Message]:
        await ready.wait()
        async for message in rows():
            yield message
        yield End()

    connector = SlowSink()
    running = asyncio.create_task(run_to_end(*stage_of(connector, later())))
    await asyncio.sleep(4 * stopping.PATIENCE_SECONDS)
    assert not running.done()
    ready.set()
    await running
    assert len(connector.writes) == WRITES


async def test_cancelled_it_closes_the_sink() -> None:
    connector = SlowSink(0)
    stage, handed, stop = stage_of(connector, rows())
    stop.clear()
    running = asyncio.create_task(run_to_end(stage, handed, stop))
    for _ in range(20):
        await asyncio.sleep(0)
    assert handed.working
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert connector.closed is True
