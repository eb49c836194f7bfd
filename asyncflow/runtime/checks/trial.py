"""Runs a pipeline's ``[[tests]]`` on virtual time: a real run, with other sources, sinks and clock.

Sources are fed by the test's steps, sinks keep rows, and nothing outside is opened.  The run comes to rest after each step (every
coroutine waits for a message), so its output depends on the steps and their order alone.  The clock stands at the first event time fed
(the epoch where there is none) until an ``advance`` moves it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from asyncflow.connectors.contract import Buffer, SinkConnector
from asyncflow.errors import AsyncflowError, InternalError
from asyncflow.model.batch import Batch
from asyncflow.model.instants import parse_timestamp
from asyncflow.model.schema import DataType, Field
from asyncflow.model.values import instant
from asyncflow.plan import capabilities
from asyncflow.plan.tables import Advance, Component, Feed, Plan, Row, Sink, Source, Trial
from asyncflow.runtime.base.clock import VirtualClock
from asyncflow.runtime.checks.expected import Table, differences
from asyncflow.runtime.ingest.python.sources import ObjectSource
from asyncflow.runtime.process.process import warnings
from asyncflow.runtime.run.run import Run

REST_TURNS = 20
"""A run is at rest after so many turns of the event loop without a message: more than any hand-over takes."""
MOST_TURNS = 1_000_000


class Outcome(Struct, frozen=True):
    """The result of one test.  ``failure``: empty where the test passed, else lines that say what differs and where."""

    name: str
    failure: tuple[str, ...] = ()


async def run_trials(plan: Plan) -> list[Outcome]:
    """Runs all tests of the plan, one after the other."""
    outcomes = []
    for number, trial in enumerate(plan.trials):
        try:
            failure = await _run(plan, trial, f"tests[{number}]")
        except AsyncflowError as error:
            failure = [f"tests[{number}]: {line}" for line in str(error).splitlines()]
        outcomes.append(Outcome(trial.name, tuple(failure)))
    return outcomes


async def _run(plan: Plan, trial: Trial, path: str) -> list[str]:
    feeds = {source.name: FedSource(source, trial) for source in plan.sources}
    kept = [KeptRows() for _ in trial.expect]
    reads = {sink.name: sink.inputs for sink in plan.sinks}
    fed = replace(
        plan,
        sources=tuple(
            replace(each, connector=Component("python", object=feeds[each.name]), format=None)
            for each in plan.sources
        ),
        sinks=tuple(
            Sink(f"__expected_{number}", reads.get(each.table, (each.table,)), Component("", object=rows))
            for number, (each, rows) in enumerate(zip(trial.expect, kept, strict=True))
        ),
        trials=(),
    )
    bench = _Bench(Run(fed, clock=VirtualClock(_start(plan, trial))), feeds)
    await bench.play(trial.feed)
    unit = next((each.schema[each.time].unit for each in plan.sources if each.schema and each.time), "")
    failure: list[str] = []
    for number, (expected, rows) in enumerate(zip(trial.expect, kept, strict=True)):
        where = f"{path}.expect[{number}] {expected.table}"
        failure += differences(where, expected.rows, Table(rows.rows, rows.timestamps, unit))
    return failure + [f"    {line}" for line in warnings(bench.run)] if failure else []


def _start(plan: Plan, trial: Trial) -> int:
    """The first event time that is fed, ns."""
    sources = {source.name: source for source in plan.sources}
    for step in trial.feed:
        if isinstance(step, Feed) and (time := sources[step.table].time) is not None:
            for row in step.rows:
                try:
                    ns = instant(row.get(time), _time_field(sources[step.table], time))
                except ValueError:
                    continue
                if ns is not None:
                    return ns
    return 0


def _time_field(source: Source, time: str) -> Field:
    declared = source.schema[time] if source.schema is not None and time in source.schema else None
    return declared or Field(time, DataType.TIMESTAMP, source.time_unit)


class _Bench:
    """One test under way."""

    def __init__(self, run: Run, feeds: dict[str, FedSource]) -> None:
        self.run = run
        self._feeds = feeds
        self._task: asyncio.Task[Any] | None = None

    async def play(self, steps: Sequence[Feed | Advance]) -> None:
        self._task = asyncio.create_task(self.run.execute())
        try:
            await self._rest()
            for step in steps:
                if isinstance(step, Feed):
                    self._feeds[step.table].feed(step.rows)
                else:
                    await self._advance(step.by_ns)
                await self._rest()
            for feed in self._feeds.values():
                feed.end()
            await self._task
        finally:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _advance(self, by_ns: int) -> None:
        clock = self.run.clock
        assert isinstance(clock, VirtualClock)
        seen = [each.last_time for each in self.run.ledger.sources.values() if each.last_time is not None]
        clock.move_to(max([clock.now_ns(), *seen]) + by_ns)
        await self.run.raise_watermarks(clock.now_ns())

    async def _rest(self) -> None:
        """Waits until no message moves."""
        assert self._task is not None
        still, moves = 0, -1
        for _ in range(MOST_TURNS):
            if self._task.done():
                return
            at_rest = moves == self.run.moves and all(feed.at_rest for feed in self._feeds.values())
            still, moves = still + 1 if at_rest else 0, self.run.moves
            if still == REST_TURNS:
                return
            await asyncio.sleep(0)
        raise InternalError("a test does not come to rest")


class FedSource(ObjectSource):
    """A source that a test feeds; ``bounded`` as declared by the source in its place."""

    def __init__(self, source: Source, trial: Trial) -> None:
        super().__init__(())
        self.bounded = capabilities.of_source(source.connector).bounded is True
        self._source = source
        self._sample = _sample(source, trial)
        self._steps: asyncio.Queue[tuple[Row, ...] | None] = asyncio.Queue()
        self._waits = self._closed = False

    @property
    def at_rest(self) -> bool:
        """The source waits for rows, or was closed."""
        return self._closed or (self._waits and self._steps.empty())

    async def aclose(self) -> None:
        self._closed = True

    def feed(self, rows: tuple[Row, ...]) -> None:
        self._steps.put_nowait(rows)

    def end(self) -> None:
        self._steps.put_nowait(None)

    async def head(self) -> Sequence[Any]:
        """One value of each column, to infer the schema from where none is declared."""
        return (self._sample,) if self._sample else ()

    async def objects(self) -> AsyncIterator[Sequence[Any]]:
        while True:
            self._waits = True
            rows = await self._steps.get()
            self._waits = False
            if rows is None:
                return
            if rows:
                yield [self._written(row) for row in rows]

    def _written(self, row: Row) -> dict[str, Any]:
        """The row with ISO texts of timestamp columns as instants, whatever the column's unit."""
        written = dict(row)
        for field in self._source.schema or ():
            if field.type is DataType.TIMESTAMP and isinstance(value := written.get(field.name), str):
                with contextlib.suppress(ValueError):
                    written[field.name] = np.datetime64(instant(value, field), "ns")
        return written


def _sample(source: Source, trial: Trial) -> dict[str, Any]:
    sample: dict[str, Any] = {}
    for step in trial.feed:
        for row in step.rows if isinstance(step, Feed) and step.table == source.name else ():
            for name, value in row.items():
                if name == source.time and isinstance(value, str):
                    value = _instant(value)
                if name not in sample or (isinstance(value, float) and type(sample[name]) is int):
                    sample[name] = value
    return sample


def _instant(text: str) -> Any:
    import datetime

    try:
        parse_timestamp(text)
    except ValueError:
        return text
    return datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


class KeptRows(SinkConnector):
    """Keeps the rows of a table as dicts."""

    takes_bytes = False

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.timestamps: set[str] = set()

    def take_rows(self, batch: Batch) -> None:
        self.rows += batch.to_pylist()
        self.timestamps.update(field.name for field in batch.schema if field.type is DataType.TIMESTAMP)

    async def write(self, data: Buffer, *, origin: Any = None) -> None:
        raise AssertionError("rows are not encoded")

    async def aclose(self, *, failed: bool = False) -> None:
        pass
