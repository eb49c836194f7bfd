"""tcp and unix as sinks of a run: backpressure of slow readers, readers that go away, rows that wait for a reader, reconnecting."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import asyncflow as af
from asyncflow.errors import ConnectorError
from tests.connectors.peers import Running, Server, dialled, local, receive, receive_all, reset, send

WIDE = "x" * 1000
HELD_AT_MOST_ROWS = 64_000
"""Rows of about 1 KB: channels and the system's buffers hold a few MiB each."""


class Numbers:
    """Endless rows, one by one, until ``ended``; ``made``: how many so far."""

    def __init__(self, text: str = WIDE) -> None:
        self.made = 0
        self.ended = False
        self._text = text

    async def rows(self) -> AsyncIterator[dict[str, Any]]:
        while not self.ended:
            self.made += 1
            yield {"n": self.made - 1, "text": self._text}
            if self.made % 100 == 0:
                await asyncio.sleep(0)

    def expected(self) -> bytes:
        return b"".join(b'{"n":%d,"text":"%b"}\n' % (n, self._text.encode()) for n in range(self.made))

    async def stalled(self) -> None:
        """Returns once no more rows are taken; fails where more are than can be held."""
        before = -1
        while before != self.made:
            before = self.made
            await asyncio.sleep(0.2)
            assert self.made < HELD_AT_MOST_ROWS


class Fed:
    """Rows when the test says so."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()

    def put(self, *rows: dict[str, Any]) -> None:
        for row in rows:
            self._queue.put_nowait(row)

    def end(self) -> None:
        self._queue.put_nowait(None)

    async def rows(self) -> AsyncIterator[dict[str, Any]]:
        while (row := await self._queue.get()) is not None:
            yield row


def writing(
    rows: AsyncIterator[dict[str, Any]], kind: str, schema: dict[str, str] | None = None, **options: Any
) -> af.Flow:
    schema = schema or {"n": "int64"}
    return af.source(rows, name="rows", schema=schema).to(kind, name="out", format="json", **options)


WIDE_SCHEMA = {"n": "int64", "text": "string"}


# -- slow readers -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["listen", "connect"])
def test_a_slow_reader_pushes_back_and_loses_nothing(run, kind: str, tmp_path: Path, mode: str) -> None:
    numbers = Numbers()

    async def main() -> None:
        with Server(kind, tmp_path) if mode == "connect" else contextlib.nullcontext() as server:
            where = local(kind, tmp_path) if server is None else server.address
            async with Running(writing(numbers.rows(), kind, WIDE_SCHEMA, **{mode: where})) as running:
                if server is None:
                    reader = await dialled(await running.address("out"), receive_buffer_bytes=1 << 16)
                else:
                    reader = await server.accepted()
                with reader:
                    await numbers.stalled()
                    head = await receive(reader, 300_000)  # a little room, and it waits again
                    await numbers.stalled()
                    numbers.ended = True
                    data = head + await receive_all(reader)
                counted = await running.end()
                assert data == numbers.expected()
                assert counted["sinks"]["out"].items() >= {"rows": numbers.made, "bytes": len(data)}.items()

    run(main())


def test_the_slowest_reader_sets_the_pace_and_all_get_everything(run, kind: str, tmp_path: Path) -> None:
    numbers = Numbers()
    start = asyncio.Event()

    async def gated() -> AsyncIterator[dict[str, Any]]:
        await start.wait()
        async for row in numbers.rows():
            yield row

    async def main() -> None:
        options = {"listen": local(kind, tmp_path), "max_peer_bytes": "4MiB"}
        async with Running(writing(gated(), kind, WIDE_SCHEMA, **options)) as running:
            address = await running.address("out")
            slow, *fast = [await dialled(address, receive_buffer_bytes=1 << 16) for _ in range(4)]
            await running.connected(4)
            reading = [asyncio.create_task(receive_all(reader)) for reader in fast]
            start.set()
            await numbers.stalled()
            numbers.ended = True
            assert await receive_all(slow) == numbers.expected()
            assert await asyncio.gather(*reading) == [numbers.expected()] * 3
            await running.end()
            for reader in (slow, *fast):
                reader.close()

    run(main())


# -- readers that go away ---------------------------------------------------------------------------------------------------


def test_connected_a_reader_that_goes_away_is_a_clear_error(run, kind: str, tmp_path: Path) -> None:
    numbers = Numbers()

    async def main() -> None:
        with Server(kind, tmp_path) as server:
            async with Running(writing(numbers.rows(), kind, WIDE_SCHEMA, connect=server.address)) as running:
                with await server.accepted() as reader:
                    await receive(reader, 10_000)
                with pytest.raises(ConnectorError) as caught:
                    await running.end()
                assert str(caught.value).startswith(f"out: {server.address}: the other side went away: ")
                assert "connection reset" in str(caught.value) or "broken pipe" in str(caught.value)

    run(main())


def test_a_reader_that_goes_away_ends_the_command_with_1(kind: str, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text((WIDE + "\n") * 20_000)
    server = socket.socket(socket.AF_INET if kind == "tcp" else socket.AF_UNIX)
    with server:
        server.bind(("127.0.0.1", 0) if kind == "tcp" else str(tmp_path / "s"))
        server.listen()
        where = f"127.0.0.1:{server.getsockname()[1]}" if kind == "tcp" else str(tmp_path / "s")
        (tmp_path / "pipeline.toml").write_text(
            '[sources.rows]\ntype = "file"\npath = "in.txt"\nformat = "lines"\n'
            f'[sinks.out]\ntype = "{kind}"\nconnect = "{where}"\nformat = "json"\n'
        )
        command = [sys.executable, "-m", "asyncflow", "run", "pipeline.toml"]
        with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
            server.settimeout(60)
            peer, _ = server.accept()
            peer.recv(1000)
            peer.close()
            _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert said.startswith(f"error: out: {where}: the other side went away: ")
    assert said.count("\n") == 1


def test_with_reconnect_each_connection_gets_whole_records_in_order(run, kind: str, tmp_path: Path) -> None:
    """What the system took for a connection that then broke is lost; a batch begins again with the next one."""
    numbers = Numbers("")

    async def main() -> None:
        with Server(kind, tmp_path) as server:
            options = {"connect": server.address, "reconnect": True, "max_reconnect_delay": "20ms"}
            async with Running(writing(numbers.rows(), kind, WIDE_SCHEMA, **options)) as running:
                for turn in range(4):
                    with await server.accepted() as reader:
                        data = await receive(reader, 50_000)
                        if turn == 3:
                            numbers.ended = True
                            data += await receive_all(reader)
                    lines = data[: data.rindex(b"\n") + 1].splitlines()
                    seen = [json.loads(line)["n"] for line in lines]
                    assert seen == list(range(seen[0], seen[0] + len(seen)))
                assert seen[-1] == numbers.made - 1
                counted = await running.end()
                assert counted["sinks"]["out"]["rows"] == numbers.made

    run(main())


def test_a_reader_that_leaves_is_forgotten_and_the_others_go_on(run, kind: str, tmp_path: Path) -> None:
    numbers = Numbers()

    async def main() -> None:
        flow = writing(numbers.rows(), kind, WIDE_SCHEMA, listen=local(kind, tmp_path))
        async with Running(flow) as running:
            address = await running.address("out")
            stays = await dialled(address)
            begin = await receive(stays, 5_000)
            leaves = await dialled(address)
            rest = asyncio.create_task(receive_all(stays))
            await receive(leaves, 5_000)
            leaves.close()
            mark = numbers.made
            await running.until(lambda: numbers.made > mark + 1000)
            numbers.ended = True
            assert begin + await rest == numbers.expected()
            await running.end()
            stays.close()

    run(main())


# -- nobody there -------------------------------------------------------------------------------------------------------------


def test_rows_wait_for_the_first_reader(run, kind: str, tmp_path: Path) -> None:
    numbers = Numbers()

    async def main() -> None:
        async with Running(
            writing(numbers.rows(), kind, WIDE_SCHEMA, listen=local(kind, tmp_path))
        ) as running:
            address = await running.address("out")
            await numbers.stalled()
            assert numbers.made
            numbers.ended = True
            with await dialled(address) as reader:
                assert await receive_all(reader) == numbers.expected()
            await running.end()

    run(main())


def test_rows_wait_again_after_the_only_reader_broke_off(run, kind: str, tmp_path: Path) -> None:
    fed = Fed()

    async def main() -> None:
        async with Running(writing(fed.rows(), kind, listen=local(kind, tmp_path))) as running:
            address = await running.address("out")
            for turn in range(4):
                fed.put({"n": turn})  # nobody is there
                reader = await dialled(address)
                assert await receive(reader, 8) == b'{"n":%d}\n' % turn
                await running.connected(1)
                reset(reader) if kind == "tcp" and turn % 2 else reader.close()
                await running.connected(0)
            fed.end()
            await running.end()

    run(main())


def test_cancelling_while_rows_wait_for_somebody(run, kind: str, tmp_path: Path) -> None:
    async def main() -> None:
        numbers = Numbers()
        async with Running(
            writing(numbers.rows(), kind, WIDE_SCHEMA, listen=local(kind, tmp_path))
        ) as running:
            await running.address("out")
            await numbers.stalled()
        assert running.task is not None
        assert running.task.cancelled()

    run(main())


# -- tcp only: the same port again -----------------------------------------------------------------------------------------------


def test_a_reader_that_comes_back_from_the_same_port_takes_the_place_of_the_first(
    run, tmp_path: Path
) -> None:
    """The fixture counts the descriptors: the broken connection must be closed too."""
    fed = Fed()

    async def main() -> None:
        async with Running(writing(fed.rows(), "tcp", listen="127.0.0.1:0")) as running:
            address = await running.address("out")
            first = await dialled(address)
            port = first.getsockname()[1]
            await running.connected(1)
            reset(first)
            await running.connected(0)
            with await dialled(address, port=port) as second:
                await running.connected(1)
                fed.put({"n": 7})
                assert await receive(second, 8) == b'{"n":7}\n'
                fed.end()
                await running.end()
                assert await receive_all(second) == b""

    run(main())


def test_what_readers_send_is_no_harm(run, kind: str, tmp_path: Path) -> None:
    """Closing with unread bytes would reset the connection before its last rows are read."""
    fed = Fed()

    async def main() -> None:
        async with Running(writing(fed.rows(), kind, listen=local(kind, tmp_path))) as running:
            with await dialled(await running.address("out")) as reader:
                await send(reader, b"GET / HTTP/1.0\r\n\r\n" * 1000)
                fed.put({"n": 1})
                fed.end()
                await running.end()
                assert await receive_all(reader) == b'{"n":1}\n'

    run(main())
