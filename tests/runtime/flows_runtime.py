"""Small pieces for tests of whole runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import asyncflow as af
from asyncflow.connectors.contract import Buffer
from asyncflow.model.batch import Batch
from asyncflow.model.messages import Watermark
from asyncflow.runtime import Run
from asyncflow.testing import FakeClock, ListSink

SECOND = 1_000_000_000
SCHEMA = {"ts": "timestamp[s]", "who": "string"}
"""What taps give."""


async def collect(flow: af.Flow) -> list[dict[str, Any]]:
    """All rows of a flow."""
    return [row async for batch in flow for row in batch.to_pylist()]


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


class Tap:
    """An input that gives rows when told to."""

    def __init__(self) -> None:
        self._rows: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()

    def say(self, *seconds: int, who: str = "x") -> None:
        for each in seconds:
            self._rows.put_nowait({"ts": each, "who": who})

    def give(self, row: dict[str, Any]) -> None:
        self._rows.put_nowait(row)

    def end(self) -> None:
        self._rows.put_nowait(None)

    async def __aiter__(self) -> AsyncIterator[dict[str, Any]]:
        while (row := await self._rows.get()) is not None:
            yield row


class Shut(ListSink):
    """A sink that takes nothing until its gate opens."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = asyncio.Event()

    async def write(self, data: Buffer, *, origin: Any = None) -> None:
        await self.gate.wait()
        await super().write(data, origin=origin)


class Running:
    """A flow under way on virtual time."""

    def __init__(self, flow: af.Flow) -> None:
        self.clock = FakeClock(1000 * SECOND)
        self.run = Run(flow.checked(), clock=self.clock)
        self.task = asyncio.create_task(self.run.execute("w"))
        self.task.add_done_callback(lambda _: self.run.results.end(0))
        self.rows: list[tuple[int, int]] = []
        self._reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        while True:
            _, message = await self.run.results.receive()
            if isinstance(message, Batch):
                self.rows += [(row["window_start"] // SECOND, row["n"]) for row in message.to_pylist()]
            elif not isinstance(message, Watermark):
                return

    async def until(self, condition: Callable[[], bool]) -> None:
        for _ in range(10_000):
            if condition():
                return
            await asyncio.sleep(0)
        raise AssertionError(f"it never came true; rows so far {self.rows}")

    async def settle(self) -> None:
        for _ in range(200):
            await asyncio.sleep(0)

    async def end(self) -> dict[str, Any]:
        await asyncio.wait_for(self._reader, 10)
        return (await self.task).to_dict()


Given = tuple[list[dict[str, Any]], list[tuple[Any, Any]]]


async def read_given(source: Any, schema: Any, options: dict[str, Any]) -> Given:
    flow = af.source(source, schema=schema, **options)
    rows = [row async for batch in flow for row in batch.to_pylist()]
    if hasattr(source, "__anext__"):
        return rows, []
    rejected = [
        (row["record"], row["reason"]) async for b in flow["source_1.rejected"] for row in b.to_pylist()
    ]
    return rows, rejected


def given_rows(source: Any, schema: Any = None, **options: Any) -> Given:
    """The rows that come of a source, and what it rejects."""
    return asyncio.run(read_given(source, schema, options))


def batches_of(objects: list[dict[str, Any]], schema: dict[str, str]) -> list[af.Batch]:
    async def read() -> list[af.Batch]:
        return [batch async for batch in af.source(objects, schema=schema)]

    return asyncio.run(read())


REJECTED = "rejected"


def outcome(given: Given) -> Any:
    rows, rejected = given
    assert len(rows) + len(rejected) == 1
    return rows[0]["x"] if rows else REJECTED


def counted(first: Tap, second: Tap, idle: str = "10s", **options: str) -> af.Flow:
    """Windows of 10 s over both taps; only the second one has an idle timeout unless ``options`` say so for both."""
    sources = (
        af.source(first, name="first", schema=SCHEMA, time="ts", **options),
        af.source(second, name="second", schema=SCHEMA, time="ts", idle_timeout=idle),
    )
    return af.union(*sources).window(af.tumbling("10s"), n="count(*)").named("w")
