"""A sink that reconnects: rows that one connection did not take go to the next, and rows that may be lost are counted."""

from __future__ import annotations

import asyncio
import json
import random
from pathlib import Path
from typing import Any

import pytest

from asyncflow.errors import ConnectorError
from tests.connectors.peers import Running, Server, receive, receive_all, reset
from tests.connectors.test_tcp_unix_sink import Fed, Numbers, writing


def again(server: Server) -> dict[str, Any]:
    return {"connect": server.address, "reconnect": True, "max_reconnect_delay": "10ms"}


def numbers_in(data: bytes) -> list[int]:
    """Of the whole lines."""
    return [json.loads(line)["n"] for line in data[: data.rfind(b"\n") + 1].splitlines()]


def test_after_each_end_in_order_the_next_row_goes_to_the_next_connection(
    run, kind: str, tmp_path: Path
) -> None:
    fed = Fed()

    async def main() -> None:
        with Server(kind, tmp_path) as server:
            async with Running(writing(fed.rows(), kind, **again(server))) as running:
                for turn in range(6):
                    fed.put({"n": turn})
                    with await server.accepted() as reader:
                        assert await receive(reader, 8) == b'{"n":%d}\n' % turn
                with_last = asyncio.create_task(server.accepted())
                fed.put({"n": 6})
                fed.end()
                with await with_last as reader:
                    assert await receive_all(reader) == b'{"n":6}\n'
                counted = (await running.end())["sinks"]["out"]
                assert counted == {"rows": 7, "bytes": 56, "connections": 7, "resent": 0, "lost": 0}

    run(main())


def test_rows_for_a_side_that_left_before_they_came_are_sent_to_the_next(run, tmp_path: Path) -> None:
    """Not seen before the write, only by the missing acknowledgement: also of the very last row."""
    fed = Fed()

    async def main() -> None:
        with Server("tcp", tmp_path) as server:
            async with Running(writing(fed.rows(), "tcp", **again(server))) as running:
                fed.put({"n": 0})
                with await server.accepted() as reader:
                    await receive(reader, 8)
                sink: Any = running.run.wiring.sinks[0].connector
                sink._over = lambda over=sink._over: sink.peer.fileno() < 0  # it comes too late to be seen
                fed.put({"n": 1})
                fed.end()
                with await server.accepted() as reader:
                    assert await receive_all(reader) == b'{"n":1}\n'
                counted = (await running.end())["sinks"]["out"]
                assert (counted["resent"], counted["lost"], counted["rows"]) == (1, 0, 2)

    run(main())


@pytest.mark.parametrize("seed", range(6))
def test_what_readers_never_got_is_at_most_what_is_counted_as_lost(
    run, kind: str, tmp_path: Path, seed: int
) -> None:
    """Readers that end, break off, or leave with bytes unread, at random moments."""
    chance = random.Random(seed)
    numbers = Numbers("x" * chance.choice((0, 50, 3000)))
    seen: list[int] = []

    async def main() -> None:
        with Server(kind, tmp_path) as server:
            flow = writing(numbers.rows(), kind, {"n": "int64", "text": "string"}, **again(server))
            async with Running(flow) as running:
                turns = chance.randint(2, 6)
                for turn in range(turns):
                    reader = await server.accepted()
                    data = b""
                    if turn == turns - 1:
                        numbers.ended = True
                        data = await receive_all(reader)
                    elif chance.random() < 0.8:
                        data = await receive(reader, chance.choice((1, 1000, 100_000, 1_000_000)))
                    await asyncio.sleep(chance.choice((0, 0, 0.02)))
                    found = numbers_in(data)
                    assert found == list(range(found[0], found[0] + len(found))) if found else True
                    seen.extend(found)
                    if kind == "tcp" and chance.random() < 0.5:
                        reset(reader)
                    else:
                        reader.close()
                counted = (await running.end())["sinks"]["out"]
            missing = numbers.made - len(set(seen))
            assert counted["rows"] == numbers.made
            assert missing <= counted["lost"]
            assert len(seen) - len(set(seen)) <= counted["resent"]

    run(main())


def test_connected_once_a_row_that_nobody_took_fails_the_run(run, kind: str, tmp_path: Path) -> None:
    """Even where it is the last, and the system took it."""
    fed = Fed()

    async def main() -> None:
        with Server(kind, tmp_path) as server:
            async with Running(writing(fed.rows(), kind, connect=server.address)) as running:
                fed.put({"n": 0})
                with await server.accepted() as reader:
                    await receive(reader, 8)
                await asyncio.sleep(0.02)
                fed.put({"n": 1})
                fed.end()
                with pytest.raises(ConnectorError, match=r"out: .*: the other side went away: "):
                    await running.end()

    run(main())
