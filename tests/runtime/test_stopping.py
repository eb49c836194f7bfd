"""After a stop, rows that were read flow out within ``stop_timeout``; after it the run fails and counts the rows not delivered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from msgspec.structs import replace

import asyncflow as af
from asyncflow.connectors.contract import Buffer
from asyncflow.errors import AsyncflowError, ConnectorError
from asyncflow.formats.json import EncoderOptions
from asyncflow.model.batch import Batch
from asyncflow.model.columns import column_from_values
from asyncflow.model.messages import End
from asyncflow.model.schema import DataType, Schema
from asyncflow.plan.tables import Component, Sink
from asyncflow.runtime.base.workers import Offload
from asyncflow.runtime.edges.channel import Channel
from asyncflow.runtime.run.run import Run
from asyncflow.runtime.stages import shutdown
from asyncflow.runtime.stages.readers import AsTheyCome
from asyncflow.runtime.stages.shutdown import run_to_end
from asyncflow.runtime.stages.sink import SinkStage
from asyncflow.testing import ListSink

SCHEMA = Schema.of([("n", DataType.INT64)])
WRITES = 20


class SlowSink(ListSink):
    """Takes a while for each write, and none after ``at_most``."""

    def __init__(self, at_most: int = WRITES) -> None:
        super().__init__()
        self._at_most = at_most

    async def write(self, data: Buffer, *, origin: Any = None) -> None:
        if len(self.writes) == self._at_most:
            await asyncio.Event().wait()
        await asyncio.sleep(0.001)
        await super().write(data)


async def numbers(reached: asyncio.Event | None = None) -> AsyncIterator[dict[str, int]]:
    """Rows, then silence; ``reached`` is set once all were asked for."""
    for n in range(WRITES):
        yield {"n": n}
        await asyncio.sleep(0)
    if reached is not None:
        reached.set()
        await asyncio.Event().wait()


def run_of(connector: ListSink, reached: asyncio.Event, stop_timeout: float, flow: Any = None) -> Run:
    flow = (flow or (lambda source: source))(af.source(numbers(reached), name="rows", schema={"n": "int64"}))
    plan = flow.to("null", name="out").checked()
    sink = replace(
        plan.sinks[0],
        connector=Component("list", object=connector),
        format=Component("json", EncoderOptions()),
    )
    return Run(replace(plan, sinks=(sink,), stop_timeout_ns=int(stop_timeout * 1e9)))


async def stopped(run: Run, reached: asyncio.Event) -> None:
    running = asyncio.create_task(run.execute())
    async with asyncio.timeout(30):
        await reached.wait()
        run.stop()
        await running


async def test_a_slow_sink_gets_everything_within_the_time() -> None:
    connector, reached = SlowSink(), asyncio.Event()
    await stopped(run_of(connector, reached, 30), reached)
    assert connector.data == b"".join(b'{"n":%d}\n' % n for n in range(WRITES))
    assert connector.closed is False


@pytest.mark.parametrize("at_most", [0, 3, WRITES - 1])
async def test_one_that_takes_no_more_fails_the_run(at_most: int) -> None:
    connector, reached = SlowSink(at_most), asyncio.Event()
    rows = WRITES - at_most
    told = rf"^stopped, and stop_timeout \(1s\) was too short .* lost: {rows} rows? for out$"
    with pytest.raises(ConnectorError, match=told):
        await stopped(run_of(connector, reached, 1), reached)
    assert len(connector.writes) == at_most
    assert connector.closed is True


async def test_a_function_that_does_not_return_fails_the_run() -> None:
    async def hangs(batch: Any) -> Any:
        await asyncio.Event().wait()

    connector, reached = ListSink(), asyncio.Event()
    run = run_of(connector, reached, 0.2, lambda source: source.map(hangs))
    with pytest.raises(AsyncflowError, match=r"stop_timeout \(200ms\) .* not ended: .*stage_1"):
        await stopped(run, reached)


@pytest.mark.parametrize(
    ("waiting", "under_way", "told"),
    [
        ([("out", 3), ("other", 0)], ["w", "out", "other"], "; lost: 3 rows for out; not ended: w, other"),
        ([("out", 1)], ["out"], "; lost: 1 row for out"),
        ([("out", 0)], ["rows"], "; not ended: rows"),
    ],
)
def test_tables_that_hold_rows_are_told_beside_the_sinks(
    waiting: list[tuple[str, int]], under_way: list[str], told: str
) -> None:
    assert str(shutdown.not_delivered(waiting, 10**9, under_way)).endswith(f"flow out{told}")


async def reader(*rows: Batch) -> AsTheyCome:
    """What a sink reads: these rows, and the end."""
    channel = Channel(1, 1 << 20)
    for message in (*rows, End()):
        await channel.send(0, message)
    return AsTheyCome(channel, 1)


async def test_without_rows_it_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sink that waits for somebody, to give only a header to, ends well long before the time is over."""
    monkeypatch.setattr(shutdown, "PATIENCE_SECONDS", 0.05)

    class Waits(ListSink):
        async def flush(self) -> None:
            await asyncio.Event().wait()

    stop = asyncio.Event()
    stop.set()
    sink = Sink("out", ("rows",), Component("list"), Component("json", EncoderOptions()))
    stage = SinkStage(sink, Waits(), await reader(), SCHEMA, Offload(1))
    async with asyncio.timeout(30):
        await run_to_end(stage, stop)


async def test_cancelled_it_closes_the_sink() -> None:
    rows = [Batch(SCHEMA, (column_from_values(DataType.INT64, [n]),), 1) for n in range(WRITES)]
    connector = SlowSink(0)
    sink = Sink("out", ("rows",), Component("list"), Component("json", EncoderOptions()))
    stage = SinkStage(sink, connector, await reader(*rows), SCHEMA, Offload(1))
    running = asyncio.create_task(run_to_end(stage, asyncio.Event()))
    for _ in range(20):
        await asyncio.sleep(0)
    assert stage.taken_rows == 1
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert connector.closed is True
