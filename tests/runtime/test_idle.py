"""``idle_timeout``: an idle input holds back no watermark until its next row; an input that waits for us is not idle."""

from __future__ import annotations

import asyncio
import socket

import numpy as np
import pytest

import asyncflow as af
from asyncflow.errors import PipelineError
from asyncflow.model.batch import NO_TIME, Batch
from asyncflow.model.columns import FixedColumn
from asyncflow.model.messages import Watermark
from asyncflow.model.schema import DataType, Schema
from asyncflow.plan.tables import Plan
from asyncflow.runtime import Run
from asyncflow.runtime.ingest.idleness import Idleness
from asyncflow.runtime.stages.watermarks import LowestWatermark
from asyncflow.testing import FakeClock
from tests.runtime.flows_runtime import SCHEMA, SECOND, Running, Tap, counted

NUMBERS = Schema.of([("n", DataType.INT64)])


async def test_a_quiet_input_holds_no_window_open() -> None:
    first, second = Tap(), Tap()
    running = Running(counted(first, second))
    second.say(1)
    first.say(2, 25)
    await running.settle()
    assert running.rows == []  # the second stands at 1
    running.clock.advance(9.9)
    await running.settle()
    assert running.rows == []
    running.clock.advance(0.2)
    await running.until(lambda: running.rows == [(0, 2)])
    first.end()
    second.end()
    await running.end()
    assert running.rows == [(0, 2), (20, 1)]


async def test_an_input_that_never_spoke_is_quiet_too() -> None:
    first, second = Tap(), Tap()
    running = Running(counted(first, second))
    first.say(2, 25)
    await running.settle()
    assert running.rows == []
    running.clock.advance(11)
    await running.until(lambda: running.rows == [(0, 1)])
    first.end()
    second.end()
    await running.end()


async def test_when_it_speaks_again_nothing_goes_back_in_time() -> None:
    """Its old rows are late by the stage's watermark; it holds the watermark again from then on."""
    first, second = Tap(), Tap()
    running = Running(counted(first, second))
    second.say(1)
    first.say(2, 25)
    await running.settle()
    running.clock.advance(11)
    await running.until(lambda: running.rows == [(0, 2)])
    second.say(3, 21)
    first.say(45)
    await running.settle()
    assert running.rows == [(0, 2)]  # it counts again, and stands at 21
    second.say(31)
    await running.until(lambda: running.rows == [(0, 2), (20, 2)])
    first.end()
    second.end()
    ledger = await running.end()
    assert ledger["stages"]["w"]["late"] == 1
    assert running.rows == [(0, 2), (20, 2), (30, 1), (40, 1)]


async def test_a_row_that_is_filtered_out_is_a_sign_of_life() -> None:
    first, second = Tap(), Tap()
    sources = (
        af.source(first, name="first", schema=SCHEMA, time="ts"),
        af.source(second, name="second", schema=SCHEMA, time="ts", idle_timeout="10s").filter("who = 'x'"),
    )
    running = Running(af.union(*sources).window(af.tumbling("10s"), n="count(*)").named("w"))
    second.say(1)
    first.say(2, 25)
    await running.settle()
    running.clock.advance(11)
    await running.until(lambda: running.rows == [(0, 2)])
    second.say(0, who="y")
    await running.settle()
    first.say(55)
    await running.settle()
    assert running.rows == [(0, 2)]
    first.end()
    second.end()
    await running.end()


async def test_all_quiet_the_furthest_stands() -> None:
    """Which timer was first makes no difference."""
    first, second = Tap(), Tap()
    running = Running(counted(first, second, idle_timeout="5s"))
    second.say(1)
    first.say(2, 25)
    await running.settle()
    running.clock.advance(6)  # the first alone: the second, behind it, still counts
    await running.settle()
    assert running.rows == []
    running.clock.advance(6)
    await running.until(lambda: running.rows == [(0, 2)])
    first.end()
    second.end()
    await running.end()


async def test_an_input_that_ended_does_not_count_and_a_quiet_one_alone_stays_where_it_was() -> None:
    first, second = Tap(), Tap()
    running = Running(counted(first, second))
    first.say(2, 25)
    second.say(12)
    await running.settle()
    running.rows.clear()
    first.end()
    await running.settle()
    running.clock.advance(11)
    await running.settle()
    second.say(13)
    await running.settle()
    assert running.rows == []
    second.end()
    await running.end()
    assert running.rows == [(10, 2), (20, 1)]


async def test_an_input_that_waits_for_us_still_counts() -> None:
    """The coroutine of the second source is blocked on a full channel: however long that lasts, it is not quiet."""
    gate = asyncio.Event()

    async def slow(batch: Batch) -> Batch:
        await gate.wait()
        return batch

    first, second = Tap(), Tap()
    sources = (
        af.source(first, name="first", schema=SCHEMA, time="ts"),
        af.source(second, name="second", schema=SCHEMA, time="ts", idle_timeout="10s"),
    )
    held = sources[1].map(slow, schema=SCHEMA)
    running = Running(af.union(sources[0], held).window(af.tumbling("10s"), n="count(*)").named("w"))
    await running.settle()
    channel = running.run.wiring.outlets["second"]._targets[0][0]
    channel._max_bytes = 1
    second.say(1)
    await running.settle()
    second.say(2)
    await running.settle()
    second.say(3)
    await running.settle()
    assert channel.blocked(0)
    first.say(25)
    running.clock.advance(100)
    await running.settle()
    assert running.rows == []
    gate.set()
    await running.settle()
    assert running.rows == []  # its time of silence begins only now
    running.clock.advance(11)
    await running.until(lambda: running.rows == [(0, 3)])
    first.end()
    second.end()
    await running.end()


async def test_bytes_on_a_socket_real_time() -> None:
    """A client that connects and says nothing more; the other input goes on."""
    listener = socket.create_server(("127.0.0.1", 0))
    accepted = asyncio.get_running_loop().run_in_executor(None, listener.accept)
    first = Tap()
    address = "{}:{}".format(*listener.getsockname())
    sources = (
        af.source(first, name="first", schema=SCHEMA, time="ts"),
        af.source("tcp", connect=address, name="second", format="json", schema=SCHEMA, time="ts", idle_timeout="50ms"),
    )  # fmt: skip
    run = Run(af.union(*sources).window(af.tumbling("10s"), n="count(*)").named("w").checked())
    task = asyncio.create_task(run.execute("w"))
    try:
        peer = (await asyncio.wait_for(accepted, 10))[0]
        peer.sendall(b'{"ts": 1, "who": "y"}\n{"ts"')
        async with asyncio.timeout(20):
            while run.ledger.sources["second"].rows_out == 0:  # noqa: ASYNC110 - a count has no event
                await asyncio.sleep(0.005)
            first.say(2, 25)
            while not isinstance(message := (await run.results.receive())[1], Batch):
                pass
        assert message.to_pylist()[0]["n"] == 2
        peer.close()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        listener.close()


async def test_silence_counts_only_the_time_in_which_we_could_have_listened() -> None:
    clock = FakeClock()
    idleness = Idleness(5 * SECOND, clock)
    clock.advance(4)
    idleness.on_input()
    with idleness.work():
        clock.advance(100)
        assert not idleness.reached
    assert not idleness.reached
    clock.advance(5)
    assert idleness.reached
    never = Idleness(None, clock)
    clock.advance(1e6)
    assert not never.reached


def batch_of(*times: int) -> Batch:
    return Batch(NUMBERS, (FixedColumn(np.array(times, np.int64)),), len(times), np.array(times, np.int64))


def test_the_lowest_of_those_that_count() -> None:
    lowest = LowestWatermark(3)
    assert lowest.on_watermark(0, Watermark(10)) is None
    assert lowest.on_watermark(1, Watermark(20)) is None
    assert lowest.on_watermark(2, Watermark(NO_TIME, idle=True)) == Watermark(10)
    assert lowest.on_watermark(0, Watermark(10, idle=True)) == Watermark(20)
    judged = lowest.with_watermarks(2, batch_of(5, 40, 6))
    assert judged.row_watermarks().tolist() == [20, 20, 40]
    assert lowest.with_watermarks(1, same := batch_of(5)) is same
    assert lowest.on_watermark(2, Watermark(7)) is None
    assert lowest.on_watermark(1, Watermark(30)) is None
    assert lowest.on_end(2) == Watermark(30)
    assert lowest.on_watermark(1, Watermark(30, idle=True)) == Watermark(30, idle=True)
    assert lowest.on_end(1) is None
    assert lowest.idle and not lowest.ended
    assert lowest.on_watermark(0, Watermark(35)) == Watermark(35)
    assert lowest.on_end(0) is None
    assert lowest.ended


def test_it_must_be_longer_than_nothing() -> None:
    def plan(idle: str) -> Plan:
        return af.source([{"ts": 1, "who": "x"}], schema=SCHEMA, time="ts", idle_timeout=idle).checked()

    assert plan("1ms").sources[0].idle_timeout_ns == 1_000_000
    with pytest.raises(PipelineError, match=r"sources\.source_1\.idle_timeout: it must be longer than 0s"):
        plan("0s")
