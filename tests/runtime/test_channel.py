"""The channel: bounded per port, in order, and every waiting writer is woken."""

from __future__ import annotations

import asyncio
import random

import pytest

from asyncflow.model.messages import Barrier, End, Message, Watermark
from asyncflow.runtime.edges.channel import ALL, MESSAGE_BYTES, Channel, FanOut
from asyncflow.runtime.edges.deadlock import DeadlockDetector


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def sending(channel: Channel, *numbers: int, port: int = 0) -> list[asyncio.Task[None]]:
    return [asyncio.create_task(channel.send(port, Watermark(number))) for number in numbers]


async def taken(channel: Channel, count: int) -> list[int]:
    found = []
    for _ in range(count):
        message = (await asyncio.wait_for(channel.receive(), 10))[1]
        assert isinstance(message, Watermark)
        found.append(message.time_ns)
    return found


async def test_writers_of_one_port_go_on_in_the_order_in_which_they_came() -> None:
    channel = Channel(1, 1)
    tasks = sending(channel, *range(20))
    await settle()
    assert channel.holds(0)
    assert await taken(channel, 20) == list(range(20))
    await asyncio.gather(*tasks)


async def test_one_that_is_woken_and_cancelled_at_once_leaves_the_room_to_the_next() -> None:
    channel = Channel(1, 1)
    tasks = sending(channel, 0, 1, 2, 3)
    await settle()
    await channel.receive()  # makes room for 1, which has not run yet
    tasks[1].cancel()
    assert await taken(channel, 2) == [2, 3]
    await asyncio.gather(*tasks, return_exceptions=True)
    assert tasks[1].cancelled()


async def test_one_that_comes_between_a_wake_and_its_turn_does_not_overtake() -> None:
    channel = Channel(1, 1)
    waiting = sending(channel, 0, 1)
    await settle()
    await channel.receive()
    late = asyncio.create_task(channel.send(0, Watermark(2)))
    assert await taken(channel, 2) == [1, 2]
    await asyncio.gather(*waiting, late)


@pytest.mark.parametrize("seed", range(30))
async def test_random_writers_readers_and_cancellations(seed: int) -> None:
    """Every message whose sender was not cancelled comes out once, in the order of its writer; none waits while there is room."""
    chance = random.Random(seed)
    ports = chance.randint(1, 3)
    bound = chance.choice((1, MESSAGE_BYTES, 3 * MESSAGE_BYTES))
    channel = Channel(ports, bound)
    sent: list[tuple[int, int]] = []
    got: list[tuple[int, int]] = []

    async def write(writer: int, port: int) -> None:
        for number in range(chance.randint(1, 15)):
            stamp = writer * 1000 + number
            await channel.send(port, Watermark(stamp))
            sent.append((port, stamp))
            if chance.random() < 0.3:
                await asyncio.sleep(0)

    async def read() -> None:
        while True:
            wanted = chance.randrange(ports)
            receive = channel.receive() if chance.random() < 0.5 else channel.receive_preferring(wanted)
            try:
                port, message = await asyncio.wait_for(receive, 0.001 if chance.random() < 0.2 else 0.05)
            except TimeoutError:
                if not writers_left():
                    return
                continue
            assert isinstance(message, Watermark)
            got.append((port, message.time_ns))
            if chance.random() < 0.3:
                await asyncio.sleep(0)

    writers = [
        asyncio.create_task(write(writer, chance.randrange(ports)))
        for writer in range(1, chance.randint(2, 50))
    ]

    def writers_left() -> bool:
        return any(not task.done() for task in writers) or any(map(channel.holds, range(ports)))

    async def disturb() -> None:
        while writers_left():
            await asyncio.sleep(0)
            if chance.random() < 0.1:
                chance.choice(writers).cancel()

    async with asyncio.timeout(20):
        await asyncio.gather(read(), disturb())
    await asyncio.gather(*writers, return_exceptions=True)
    assert sorted(got) == sorted(sent)
    for writer in range(1, len(writers) + 1):
        mine = [stamp for _, stamp in got if stamp // 1000 == writer]
        assert mine == sorted(mine)
    assert not any(map(channel.blocked, range(ports)))


async def test_a_second_sender_where_the_order_counts_is_an_error() -> None:
    channel = Channel(1, 1)
    outlet, shared = FanOut(), FanOut(several=True)
    outlet.connect(channel, 0)
    shared.connect(channel, 0)
    first = asyncio.create_task(outlet.send(Watermark(0)))
    second = asyncio.create_task(outlet.send(Watermark(1)))
    await settle()
    with pytest.raises(AssertionError, match="two senders"):
        await outlet.send(Watermark(2))
    others = [asyncio.create_task(shared.send(Watermark(number))) for number in (3, 4)]
    await settle()
    assert await taken(channel, 4) == [0, 1, 3, 4]
    await asyncio.gather(first, second, *others)


async def test_a_table_that_waits_for_room_in_two_places_waits_in_vain_only_if_neither_can_go_on() -> None:
    """Two clients of ``source`` wait: one for ``joined``, which wants ``middle`` first, one for ``other``, whose reader is at work."""
    deadlocks = DeadlockDetector()
    joined, middle, other = Channel(2, 1, "joined"), Channel(1, 1, "middle"), Channel(1, 1, "other")
    deadlocks.add(joined, ["middle", "source"])
    deadlocks.add(middle, ["source"])
    deadlocks.add(other, ["source"])
    clients = [*sending(joined, 1, 2, port=1), *sending(other, 3, 4)]
    reading = asyncio.create_task(joined.receive_preferring(0))
    waiting = asyncio.create_task(middle.receive())
    await settle()
    assert not reading.done(), "the reader of other may yet let source go on"
    assert await taken(other, 2) == [3, 4]
    idle = asyncio.create_task(other.receive())
    assert await asyncio.wait_for(reading, 10) == (1, Watermark(1))
    for task in (waiting, idle):
        task.cancel()
    await asyncio.gather(waiting, idle, *clients, return_exceptions=True)


async def test_an_end_of_a_writer_that_is_gone_needs_no_room() -> None:
    channel = Channel(1, 1)
    tasks = sending(channel, 0, 1)
    await settle()
    channel.end(0)
    found: list[Message] = [(await asyncio.wait_for(channel.receive(), 10))[1] for _ in range(3)]
    assert sum(isinstance(message, End) for message in found) == 1
    await asyncio.gather(*tasks)


async def test_a_barrier_holds_its_port_until_all_open_ports_have_delivered_it() -> None:
    channel = Channel(3, 1 << 20)
    for port, message in (
        (0, Barrier(1)),
        (0, Watermark(5)),
        (1, Watermark(6)),
        (2, Watermark(7)),
        (1, Barrier(1)),
        (1, Watermark(8)),
    ):
        await channel.send(port, message)
    assert await channel.receive() == (1, Watermark(6))
    assert channel.awaited_ports == [1, 2]
    assert await channel.receive_preferring(1) == (2, Watermark(7)), "no port is preferred meanwhile"
    waiting = asyncio.create_task(channel.receive())
    await settle()
    assert not waiting.done(), "what came behind the barrier is held"
    assert channel.awaited_ports == [2]
    await channel.send(2, End())
    assert await asyncio.wait_for(waiting, 10) == (2, End())
    assert await channel.receive() == (ALL, Barrier(1)), "an input that has ended counts as aligned"
    assert [await channel.receive() for _ in range(2)] == [(0, Watermark(5)), (1, Watermark(8))]
    assert channel.ended_ports == [2]


async def test_a_barrier_of_the_only_port_waits_for_nobody() -> None:
    channel = Channel(1, 1 << 20)
    for message in (Watermark(1), Barrier(7), Watermark(2)):
        await channel.send(0, message)
    assert [await channel.receive() for _ in range(3)] == [
        (0, Watermark(1)),
        (ALL, Barrier(7)),
        (0, Watermark(2)),
    ]


async def test_a_port_whose_end_was_taken_in_a_run_before_is_not_waited_for() -> None:
    channel = Channel(2, 1 << 20)
    channel.close_port(1)
    assert channel.awaited_ports == [0]
    await channel.send(0, Barrier(1))
    assert await channel.receive() == (ALL, Barrier(1))


async def test_a_second_barrier_before_the_first_has_passed_is_an_error() -> None:
    channel = Channel(2, 1 << 20)
    await channel.send(0, Barrier(1))
    await channel.send(1, Barrier(2))
    with pytest.raises(AssertionError, match="a second epoch"):
        await channel.receive()
