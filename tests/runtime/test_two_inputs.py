"""A stage with two inputs: idle inputs, the output watermark, and inputs that must not wait for each other."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from contextlib import nullcontext

import numpy as np
import pytest

import asyncflow.runtime.base.workers
from asyncflow.errors import StageError
from asyncflow.model.batch import Batch
from asyncflow.model.columns import FixedColumn
from asyncflow.model.messages import End, Message, Watermark
from asyncflow.model.schema import DataType, Schema
from asyncflow.plan.stages.join import Join
from asyncflow.runtime.base.clock import Clock
from asyncflow.runtime.base.memory import Memory
from asyncflow.runtime.base.workers import Offload
from asyncflow.runtime.edges.channel import Channel, FanOut
from asyncflow.runtime.stages.join import TwoInputStage
from asyncflow.runtime.stages.readers import AsTheyCome, OneAfterOther
from tests.operators_of import operator_of

SCHEMA = Schema.of([("k", DataType.INT64)])


def batch(*rows: tuple[int, int]) -> Batch:
    """Rows of (key, time)."""
    keys, times = (np.array(values, np.int64) for values in zip(*rows, strict=True))
    return Batch(SCHEMA, (FixedColumn(keys),), len(rows), times)


def joining(
    channel: Channel,
    kind: str,
    offload: Offload | None = None,
    max_state_bytes: int = 1 << 30,
    parts: int = 1,
) -> TwoInputStage:
    """A join within 10 ns."""
    table = Join("j", ("l", "r"), (("k", "k"),), kind, within_ns=(-10, 10), max_state_bytes=max_state_bytes)
    reader = AsTheyCome(channel, 2, apart=True)
    operator = operator_of(table, SCHEMA, SCHEMA, parts=parts)
    stage = TwoInputStage("j", reader, operator, table.ways, clock=Clock(), memory=Memory(), offload=offload)
    stage.side["late"] = FanOut()
    return stage


async def told(
    messages: list[tuple[int, Message]],
    kind: str = "left",
    offload: Offload | None = None,
    parts: int = 1,
) -> tuple[TwoInputStage, list[Message]]:
    """What a join within 10 ns says to these messages of its ports."""
    channel, results = Channel(2, 1 << 20), Channel(1, 1 << 20)
    stage = joining(channel, kind, offload, parts=parts)
    stage.outlet.connect(results, 0)
    for port, message in messages:
        await channel.send(port, message)
    await stage.run()
    said: list[Message] = []
    while not isinstance(message := (await results.receive())[1], End):
        said.append(message)
    return stage, said


async def test_a_quiet_input_does_not_hold_the_join_up() -> None:
    stage, said = await told(
        [
            (0, batch((1, 5), (2, 40))),
            (0, Watermark(40)),
            (1, Watermark(0, idle=True)),  # without it nothing could be said of the row at 5
            (1, Watermark(1)),
            (1, batch((1, 6), (2, 41))),  # and what it says now is judged by what was reached without it
            (0, End()),
            (1, End()),
        ]
    )
    # A row alone may be let out as much as both bounds after its time, where it was late.
    assert [len(each) if isinstance(each, Batch) else each for each in said] == [1, Watermark(20), 1]
    first, last = (each.to_pylist() for each in said if isinstance(each, Batch))
    assert (first, last) == ([{"k": 1}], [{"k": 2}])
    assert stage.counts.ways["late_right"] == 1
    assert stage.counts.ways["left_matched"] == stage.counts.ways["right_matched"] == 1
    assert stage.counts.balance() is None


async def test_that_both_are_quiet_is_passed_on() -> None:
    _, said = await told(
        [
            (0, Watermark(50, idle=True)),
            (1, Watermark(30, idle=True)),
            (1, Watermark(60)),
            (0, End()),
            (1, End()),
        ],
        "inner",
    )
    assert said[0] == Watermark(40, idle=True)  # a pair with a late row may have a time so much before
    assert said[1] == Watermark(50)


def lookup(channel: Channel, max_held_bytes: int = 1 << 20) -> OneAfterOther:
    account = Memory().account("j", "rows")
    return OneAfterOther(channel, ("l", "r"), (1, 0), account, max_held_bytes=max_held_bytes, apart=True)


async def test_in_step_reads_the_one_that_is_behind_and_a_lookup_the_right_one() -> None:
    messages = [
        (0, batch((0, 10))),
        (0, Watermark(10)),
        (0, batch((0, 20))),
        (0, Watermark(20)),
        (0, End()),
        (1, batch((1, 15))),
        (1, Watermark(15)),
        (1, batch((1, 30))),
        (1, Watermark(30)),
        (1, End()),
    ]
    channel, other = Channel(2, 1 << 20), Channel(2, 1 << 20)
    for reader, ports in (
        (AsTheyCome(channel, 2, in_step=True, apart=True), [0, 1, 0, 1, 0, 1]),
        (lookup(other), [1, 1, 1, 0, 0, 0]),
    ):
        for port, message in messages:
            await (channel if reader.wanted is None else other).send(port, message)
        assert [
            port async for port, message in reader.messages() if not isinstance(message, Watermark)
        ] == ports


async def test_a_port_that_is_full_is_read_before_an_empty_one_that_is_preferred() -> None:
    channel = Channel(2, 100)
    await channel.send(1, batch(*((row, row) for row in range(50))))
    waiting = asyncio.create_task(channel.receive_preferring(0))
    await asyncio.sleep(0)
    assert not waiting.done(), "port 1 has a message, but its writer does not wait"
    blocked = asyncio.create_task(channel.send(1, Watermark(7)))
    port, message = await asyncio.wait_for(waiting, 10)
    assert port == 1
    assert isinstance(message, Batch)
    await asyncio.wait_for(blocked, 10)


async def test_what_a_lookup_holds_of_its_left_side_counts_for_its_max_state() -> None:
    held = batch(*((row, row) for row in range(50)))
    for limit, fits in ((held.nbytes, True), (held.nbytes - 1, False)):
        channel = Channel(2, 1)

        async def write(channel: Channel) -> None:
            for message in (held, End()):
                await channel.send(0, message)
            await channel.send(1, End())

        writing = asyncio.create_task(write(channel))
        ports: list[int] = []
        with (
            pytest.raises(StageError, match=r"of rows of 'l' that wait for 'r'")
            if not fits
            else nullcontext()
        ):
            async with asyncio.timeout(10):
                ports += [port async for port, _ in lookup(channel, limit).messages()]
        assert ports == ([1, 0, 0] if fits else [])
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)


@pytest.fixture
def offload(monkeypatch: pytest.MonkeyPatch) -> Iterator[Offload]:
    """Workers that take all work, however little."""
    monkeypatch.setattr(asyncflow.runtime.base.workers, "INLINE_BYTES", 0)
    workers = Offload(3)
    yield workers
    workers.close()


@pytest.mark.parametrize("kind", ["inner", "left", "full", "anti"])
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("parts", [1, 4])
async def test_second_halves_beside_first_ones_change_nothing(
    kind: str, seed: int, parts: int, offload: Offload
) -> None:
    chance, messages = random.Random(seed), list[tuple[int, Message]]()
    reached = [0, 0]
    for _ in range(60):
        port = chance.randrange(2)
        times = sorted(
            max(0, reached[port] + chance.randrange(-25, 20)) for _ in range(chance.randrange(1, 9))
        )
        messages.append((port, batch(*((chance.randrange(3), time) for time in times))))
        if chance.random() < 0.7:
            reached[port] = max(reached[port], times[-1])
            messages.append((port, Watermark(reached[port])))
    messages += [(0, End()), (1, End())]
    one, alone = await told(messages, kind)
    other, beside = await told(messages, kind, offload, parts)

    def plain(said: list[Message]) -> list[object]:
        return [
            [repr(column) for column in each.columns] + [repr(each.time)] if isinstance(each, Batch) else each
            for each in said
        ]

    assert plain(beside) == plain(alone)
    assert (other.counts.rows_out, other.counts.ways) == (one.counts.rows_out, one.counts.ways)


@pytest.mark.parametrize("parts", [1, 4])
async def test_a_second_half_that_fails_ends_a_stage_that_waits_for_rows(
    parts: int, offload: Offload
) -> None:
    channel = Channel(2, 1 << 20)
    stage = joining(channel, "left", offload, 100, parts)
    running = asyncio.create_task(stage.run())
    await channel.send(0, batch(*((row, row) for row in range(50))))
    with pytest.raises(StageError, match=r"50 keys.*more than max_state = 100B"):
        await asyncio.wait_for(running, 10)


async def test_a_stage_that_is_stopped_leaves_no_second_half(offload: Offload) -> None:
    channel = Channel(2, 1 << 20)
    stage = joining(channel, "left", offload)
    running = asyncio.create_task(stage.run())
    await channel.send(0, batch(*((row, row) for row in range(50))))
    await asyncio.sleep(0.01)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert asyncio.all_tasks() == {asyncio.current_task()}
