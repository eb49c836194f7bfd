"""The time law: on thousands of random schedules windows, late rows and counts are those of a plain model (``time_model``)."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from itertools import groupby
from typing import Any

import pytest
from msgspec.structs import replace

import asyncflow as af
from asyncflow.model.batch import NO_TIME, Batch
from asyncflow.model.columns import column_from_values
from asyncflow.model.messages import Watermark
from asyncflow.model.schema import DataType, Schema
from asyncflow.operators.contract import Operator, Output
from asyncflow.plan.tables import Component, Source
from asyncflow.plan.windows import Hopping, Tumbling
from asyncflow.runtime import Run
from asyncflow.runtime.base.ledger import SourceCounts
from asyncflow.runtime.ingest.way_out import EventTime
from asyncflow.runtime.stages.watermarks import LowestWatermark
from asyncflow.testing import FakeClock
from tests.operators_of import operator_of
from tests.time_model import Moment, Result, Row, Schedule, TimeModel, schedule

SCHEMA = Schema.of([("time", DataType.TIMESTAMP), ("key", DataType.STRING), ("value", DataType.INT64)])
SUMMARY = {
    "count": "count(*)",
    "total": "sum(value)",
    "first": "first(value)",
    "last": "last(value)",
}
SCHEDULES, CHUNK = 10_000, 1_000


def shape_of(given: Schedule) -> Tumbling | Hopping:
    shape = given.shape
    if shape.size == shape.every:
        return Tumbling(shape.size, shape.offset)
    return Hopping(shape.size, shape.every, shape.offset)


def flow_over(source: af.Flow, given: Schedule) -> af.Flow:
    return source.window(shape_of(given), by=["key"], aggregates=SUMMARY).named("w")


STAGE = flow_over(af.source([], schema=SCHEMA, time="time"), schedule(0)).plan.stages[0]


def window_of(given: Schedule) -> Operator:
    made: Operator = operator_of(replace(STAGE, shape=shape_of(given)), SCHEMA)
    return made


class Driven:
    """Sources and a window stage without their coroutines: what they would say to one another, said at once."""

    def __init__(self, given: Schedule, chance: random.Random) -> None:
        self._chance = chance
        self.operator = window_of(given)
        self.lowest = LowestWatermark(len(given.delays))
        self.sources = [
            EventTime(Source(str(n), Component("python"), time="time", watermark_delay_ns=delay), FakeClock(), SourceCounts())
            for n, delay in enumerate(given.delays)
        ]  # fmt: skip
        self.results: list[Result] = []
        self.late: list[Row] = []
        self._silent = [False] * len(given.delays)

    def play(self, moments: tuple[Moment, ...]) -> None:
        for source, kind, together in runs_of(moments, self._chance):
            if kind == "row":
                self._rows(source, [moment.row for moment in together])
            elif kind == "end":
                self._raised(self.lowest.on_end(source))
            else:
                if kind == "watermark":
                    self.sources[source].raise_to(together[0].time)
                self._say(source, idle=kind == "silent")
        assert self.lowest.ended
        self._take(self.operator.finish())

    def _rows(self, source: int, rows: list[Row]) -> None:
        if self._silent[source]:
            self._say(source, idle=False)
        before = self.sources[source].watermark
        columns = tuple(
            column_from_values(each.type, list(values)) for each, values in zip(SCHEMA, zip(*rows, strict=True), strict=True)
        )  # fmt: skip
        timed = self.sources[source].assign(SCHEMA, columns, len(rows))
        assert timed.future is None
        self._take(self.operator.process(self.lowest.with_watermarks(source, timed.rows)))
        if self.sources[source].watermark > before:
            self._say(source, idle=False)

    def _say(self, source: int, idle: bool) -> None:
        self._silent[source] = idle
        self._raised(self.lowest.on_watermark(source, Watermark(self.sources[source].watermark, idle)))

    def _raised(self, news: Watermark | None) -> None:
        if news is not None and news.time_ns > NO_TIME:
            self._take(self.operator.advance(news.time_ns))

    def _take(self, outputs: list[Output]) -> None:
        for output in outputs:
            if output.kind == "late":
                self.late += late_of(output.batch)
            else:
                assert output.kind == ""
                self.results += results_of(output.batch)


def runs_of(moments: tuple[Moment, ...], chance: random.Random) -> Iterator[tuple[int, str, list[Moment]]]:
    """Rows of one source that come after one another, in batches cut at random; everything else by itself."""
    batches = [0]
    for moment in moments:
        batches.append(batches[-1] + (moment.kind != "row" or chance.random() < 0.3))
    numbered = list(zip(batches[1:], moments, strict=True))
    for (_, source, kind), together in groupby(
        numbered, key=lambda each: (each[0], each[1].source, each[1].kind)
    ):
        found = [moment for _, moment in together]
        yield from (
            (source, kind, part) for part in ([found] if kind == "row" else [[each] for each in found])
        )


def results_of(batch: Batch) -> list[Result]:
    return [Result(*row.values()) for row in batch.to_pylist()]


def late_of(batch: Batch) -> list[Row]:
    return [Row(row["time"], row["key"], row["value"]) for row in batch.to_pylist()]


def same(model: TimeModel, results: list[Result], late: list[Row], counts: Any) -> None:
    assert results == model.results
    assert late == model.late
    assert counts["late"] == len(model.late)
    assert counts["late_partly"] == model.late_partly
    assert counts["aggregated"] == model.aggregated
    assert counts["windows_opened"] == counts["windows_closed"] == model.windows_opened


@pytest.mark.parametrize("first", range(0, SCHEDULES, CHUNK))
def test_the_operators_agree_with_the_model(first: int) -> None:
    for seed in range(first, first + CHUNK):
        given = schedule(seed)
        driven = Driven(given, random.Random(-seed))
        driven.play(given.moments)
        try:
            same(given.model(), driven.results, driven.late, driven.operator.counts)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {given}") from error


def test_the_schedules_show_what_they_are_for() -> None:
    """Late rows, rows late in part, windows of several sources, silence that lets a window go: none of it is rare."""
    models = [schedule(seed).model() for seed in range(1000)]
    assert sum(bool(model.late) for model in models) > 200
    assert sum(bool(model.late_partly) for model in models) > 100
    assert sum(len(model.sources) > 1 for model in models) > 300
    quietly = [schedule(seed, silence=False).model() for seed in range(1000)]
    assert sum(model.late != other.late for model, other in zip(models, quietly, strict=True)) > 100


# -- whole runs ------------------------------------------------------------------------------------------------------------


class Given:
    """A live source: rows as they are given."""

    def __init__(self) -> None:
        self.rows: asyncio.Queue[list[Row] | None] = asyncio.Queue()

    async def __aiter__(self) -> AsyncIterator[dict[str, Any]]:
        while (rows := await self.rows.get()) is not None:
            for row in rows:
                yield row._asdict()


async def whole_run(given: Schedule, chance: random.Random) -> tuple[list[Result], list[Row], dict[str, Any]]:
    """The schedule through a run on virtual time, coming to rest after each moment.  Silence comes to all sources at once."""
    taps = [Given() for _ in given.delays]
    sources = [
        af.source(
            tap, name=f"s{n}", schema=SCHEMA, time="time", watermark_delay=f"{delay}ns", idle_timeout="1s"
        )
        for n, (tap, delay) in enumerate(zip(taps, given.delays, strict=True))
    ]
    flow = flow_over(af.union(*sources) if len(sources) > 1 else sources[0], given)
    late: list[Row] = []

    async def keep(batch: Batch) -> None:
        late.extend(late_of(batch))

    with_late = flow["w.late"].map(keep).to("null")
    clock = FakeClock()
    run = Run(with_late.checked(), clock=clock)
    task = asyncio.create_task(run.execute("w"))
    try:
        await rest()
        for source, kind, together in runs_of(given.moments, chance):
            if kind == "row":
                taps[source].rows.put_nowait([moment.row for moment in together])
            elif kind == "end":
                taps[source].rows.put_nowait(None)
            elif kind == "watermark":
                await run.wiring.sources[source].raise_watermark(together[0].time)
            else:
                clock.advance(1.5)
            await rest()
        ledger = await asyncio.wait_for(task, 10)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    run.results.end(0)
    results: list[Result] = []
    while isinstance(message := (await run.results.receive())[1], Batch | Watermark):
        results += results_of(message) if isinstance(message, Batch) else []
    return results, late, ledger.to_dict()["stages"]["w"]


async def rest() -> None:
    """More turns of the loop than anything in a run takes to come to rest."""
    for _ in range(40):
        await asyncio.sleep(0)


def for_all(given: Schedule) -> Schedule:
    """The same with silence falling on all sources that have not ended, at once."""
    moments: list[Moment] = []
    ended: set[int] = set()
    for moment in given.moments:
        if moment.kind == "silent":
            moments += [Moment("silent", n) for n in range(len(given.delays)) if n not in ended]
        else:
            moments.append(moment)
        if moment.kind == "end":
            ended.add(moment.source)
    return Schedule(given.shape, given.delays, tuple(moments))


@pytest.mark.parametrize("seed", range(0, 300, 30))
def test_whole_runs_agree_with_the_model(seed: int) -> None:
    async def all_of_them() -> None:
        for each in range(seed, seed + 30):
            given = schedule(1_000_000 + each, most=15)
            same(for_all(given).model(), *await whole_run(given, random.Random(each)))

    asyncio.run(all_of_them())


@pytest.mark.parametrize("seed", range(0, 200, 50))
def test_bounded_inputs_read_in_step_agree_with_the_model(seed: int) -> None:
    """Rows in the order of their levels (own watermark once they count), then of the inputs: the model's order of arrival."""

    async def all_of_them() -> None:
        for each in range(seed, seed + 50):
            given = schedule(2_000_000 + each, silence=False, said=False)
            sources, moments = [], []
            for n, delay in enumerate(given.delays):
                rows = [m.row for m in given.moments if m.kind == "row" and m.source == n]
                level = NO_TIME
                for row in rows:
                    level = max(level, row.time - delay)
                    moments.append((level, n, row))
                sources.append(
                    af.source(
                        [row._asdict() for row in rows],
                        name=f"s{n}",
                        schema=SCHEMA,
                        time="time",
                        watermark_delay=f"{delay}ns",
                    )
                )
            ordered = [Moment("row", n, row) for _, n, row in sorted(moments, key=lambda each: each[:2])]
            ends = [Moment("end", n) for n in range(len(given.delays))]
            model = Schedule(given.shape, given.delays, (*ordered, *ends)).model()
            flow = flow_over(af.union(*sources) if len(sources) > 1 else sources[0], given)
            results = [row async for batch in flow for row in results_of(batch)]
            late = [row async for batch in flow["w.late"] for row in late_of(batch)]
            assert (results, late) == (model.results, model.late), f"seed {each}: {given}"

    asyncio.run(all_of_them())
