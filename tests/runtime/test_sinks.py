"""A sink writes what a worker has encoded beside the encoding of the next rows: in order, and a failure ends it at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest

from asyncflow.connectors.contract import Buffer
from asyncflow.formats.json import EncoderOptions
from asyncflow.model.batch import Batch
from asyncflow.model.columns import column_from_values
from asyncflow.model.messages import End, Watermark
from asyncflow.model.schema import DataType, Schema
from asyncflow.plan.tables import Component, Sink
from asyncflow.runtime.base.beside import Beside
from asyncflow.runtime.base.workers import INLINE_BYTES, Offload
from asyncflow.runtime.edges.channel import Channel
from asyncflow.runtime.stages.readers import AsTheyCome
from asyncflow.runtime.stages.sink import SinkStage
from asyncflow.testing import ListSink

SCHEMA = Schema.of([("n", DataType.INT64)])
SINK = Sink("out", ("rows",), Component("list"), Component("json", EncoderOptions()))
MANY = INLINE_BYTES // 8


@pytest.fixture
async def offload() -> AsyncIterator[Offload]:
    made = Offload(2)
    yield made
    made.close()


def rows_of(number: int, count: int) -> Batch:
    return Batch(SCHEMA, (column_from_values(DataType.INT64, [number] * count),), count)


class Waits(ListSink):
    """Each write waits until it is let go; one of them may fail then."""

    def __init__(self, failing: int = -1) -> None:
        super().__init__()
        self.go_on = asyncio.Semaphore(0)
        self.begun = 0
        self.held_rows: list[int] = []
        self.flushed_at: list[int] = []
        self._failing = failing

    async def write(self, data: Buffer, *, origin: Any = None) -> None:
        self.begun += 1
        self.held_rows.append(self.rows_in_hand)
        await self.go_on.acquire()
        if self.begun - 1 == self._failing:
            raise OSError("full")
        await super().write(data)

    async def flush(self) -> None:
        self.flushed_at.append(len(self.writes))


async def until(condition: Any) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


async def test_rows_are_written_in_order_beside_the_encoding_of_the_next(offload: Offload) -> None:
    counts = [MANY, MANY, 1, MANY, 2, 3, MANY]
    channel, connector = Channel(1, 1 << 30), Waits()
    stage = SinkStage(SINK, connector, AsTheyCome(channel, 1), SCHEMA, offload)
    running = asyncio.create_task(stage.run())
    for number, count in enumerate(counts):
        await channel.send(0, rows_of(number, count))
    await until(lambda: stage.taken_rows == 2 * MANY and connector.begun == 1)
    assert stage.counts.rows == 0
    for _ in counts:
        connector.go_on.release()
    await channel.send(0, Watermark(5))
    await channel.send(0, End())
    await running
    assert connector.data == b"".join(b'{"n":%d}\n' % n * count for n, count in enumerate(counts))
    assert connector.held_rows == counts
    assert connector.flushed_at == [len(counts)] * 2
    assert stage.counts.rows == stage.taken_rows == sum(counts)


@pytest.mark.parametrize("more", [0, 1, 3])
async def test_a_write_that_fails_ends_it_though_no_message_comes(offload: Offload, more: int) -> None:
    channel, connector = Channel(1, 1 << 30), Waits(failing=0)
    stage = SinkStage(SINK, connector, AsTheyCome(channel, 1), SCHEMA, offload)
    running = asyncio.create_task(stage.run())
    for number in range(1 + more):
        await channel.send(0, rows_of(number, MANY))
    await until(lambda: connector.begun == 1)
    connector.go_on.release()
    with pytest.raises(OSError, match="full"):
        async with asyncio.timeout(30):
            await running
    assert connector.closed is True


async def test_cancelled_it_cancels_the_write_and_closes(offload: Offload) -> None:
    channel, connector = Channel(1, 1 << 30), Waits()
    stage = SinkStage(SINK, connector, AsTheyCome(channel, 1), SCHEMA, offload)
    running = asyncio.create_task(stage.run())
    await channel.send(0, rows_of(0, MANY))
    await until(lambda: connector.begun == 1)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert connector.closed is True
    assert stage.counts.rows == 0


async def test_a_failure_beside_another_failure_is_not_told() -> None:
    async def fails() -> None:
        await asyncio.sleep(0)
        raise OSError("beside")

    with pytest.raises(ValueError, match="own"):
        async with Beside() as beside:
            await beside.start(fails)
            raise ValueError("own")


@pytest.mark.parametrize("most", [1, 2, 3])
async def test_pieces_of_work_come_one_after_another(most: int) -> None:
    done: list[int] = []

    async def work(number: int) -> None:
        await asyncio.sleep(0)
        done.append(number)

    async with Beside(most) as beside:
        for number in range(5):
            await beside.start(partial(work, number))
            assert done == list(range(max(number + 1 - most, 0)))
        await beside.settle()
    assert done == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("most", [1, 2, 3])
async def test_the_piece_after_one_that_failed_is_not_begun(most: int) -> None:
    async def fails() -> None:
        raise OSError("first")

    async def never() -> None:
        raise AssertionError

    with pytest.raises(OSError, match="first"):
        async with Beside(most) as beside:
            await beside.start(fails)
            await beside.start(never)
            await beside.settle()


async def test_pieces_that_are_left_are_cancelled() -> None:
    async with Beside(2) as beside:
        await beside.start(asyncio.Event().wait)
        await beside.start(asyncio.Event().wait)
