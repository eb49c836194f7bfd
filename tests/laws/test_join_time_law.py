"""The time law of joins: on thousands of random schedules an interval join agrees with a plain model, with late rows and idle inputs."""

from __future__ import annotations

import random

import pytest

from asyncflow.model.batch import NO_TIME
from asyncflow.model.columns import column_from_values
from asyncflow.model.messages import Watermark
from asyncflow.model.schema import DataType, Schema
from asyncflow.operators.contract import Output
from asyncflow.plan.stages.join import Join
from asyncflow.plan.tables import Component, Source
from asyncflow.runtime.base.ledger import SourceCounts
from asyncflow.runtime.ingest.way_out import EventTime
from asyncflow.runtime.stages.watermarks import LowestWatermark
from asyncflow.testing import FakeClock
from tests.operators_of import operator_of
from tests.time_model import JoinModel, Moment, Row, Schedule, two_sides

SCHEMA = Schema.of([("time", DataType.TIMESTAMP), ("key", DataType.STRING), ("value", DataType.INT64)])
BOUNDS = ((-5, 5), (0, 0), (-3, 0), (0, 7), (2, 9), (-9, -2), (-20, 20))
SCHEDULES, CHUNK = 4_000, 1_000


class Driven:
    """Two sources and a join without their coroutines.  Rows carry their place on their side as ``value``."""

    def __init__(self, given: Schedule, bounds: tuple[int, int]) -> None:
        stage = Join("j", ("l", "r"), (("key", "key"),), "full", within_ns=bounds)
        self.operator = operator_of(stage, SCHEMA, SCHEMA)
        self.lowest = LowestWatermark(2)
        self.sources = [
            EventTime(Source(str(n), Component("python"), time="time", watermark_delay_ns=delay), FakeClock(), SourceCounts())
            for n, delay in enumerate(given.delays)
        ]  # fmt: skip
        self.found: list[tuple[int | None, int | None]] = []
        self.late: list[int] = []
        self._silent = [False, False]
        self._places = [0, 0]

    def play(self, moments: tuple[Moment, ...], chance: random.Random) -> None:
        rows: list[Row] = []
        for number, moment in enumerate(moments):
            source = moment.source
            if moment.kind == "row":
                rows.append(moment.row)
                following = moments[number + 1] if number + 1 < len(moments) else None
                if (
                    following
                    and following.kind == "row"
                    and following.source == source
                    and chance.random() < 0.7
                ):
                    continue
                self._rows(source, rows)
                rows = []
            elif moment.kind == "end":
                news = self.lowest.on_end(source)
                self._take(self.operator.finish(source))
                self._advance(news)
            else:
                if moment.kind == "watermark":
                    self.sources[source].raise_to(moment.time)
                self._say(source, idle=moment.kind == "silent")

    def _rows(self, source: int, rows: list[Row]) -> None:
        if self._silent[source]:
            self._say(source, idle=False)
        before = self.sources[source].watermark
        places = range(self._places[source], self._places[source] + len(rows))
        self._places[source] = places.stop
        values = ([row.time for row in rows], [row.key for row in rows], list(places))
        columns = tuple(
            column_from_values(each.type, list(value)) for each, value in zip(SCHEMA, values, strict=True)
        )
        timed = self.sources[source].assign(SCHEMA, columns, len(rows))
        self._take(self.operator.process(source, self.lowest.with_watermarks(source, timed.rows)))
        if self.sources[source].watermark > before:
            self._say(source, idle=False)

    def _say(self, source: int, *, idle: bool) -> None:
        self._silent[source] = idle
        self._advance(self.lowest.on_watermark(source, Watermark(self.sources[source].watermark, idle)))

    def _advance(self, news: Watermark | None) -> None:
        if news is not None and news.time_ns > NO_TIME:
            self._take(self.operator.advance(news.time_ns))

    def _take(self, outputs: list[Output]) -> None:
        for output in outputs:
            rows = output.batch.to_pylist()
            if output.kind == "late":
                self.late += [row["value"] for row in rows]
            else:
                self.found += [(row["value"], row["value_right"]) for row in rows]


@pytest.mark.parametrize("first", range(0, SCHEDULES, CHUNK))
def test_an_interval_join_agrees_with_the_model(first: int) -> None:
    late = met_late = 0
    for seed in range(first, first + CHUNK):
        given, bounds = two_sides(seed), BOUNDS[seed % len(BOUNDS)]
        model = JoinModel(given.shape, given.delays, lower=bounds[0], upper=bounds[1])
        for moment in given.moments:
            model.happens(moment)
        driven = Driven(given, bounds)
        driven.play(given.moments, random.Random(-seed))
        expected = model.joined()
        assert (driven.found, driven.late) == expected, f"seed {seed}: {bounds} {given}"
        late += bool(expected[1])
        left, right = model.sides
        met_late += any(
            i is not None
            and j is not None
            and left[i][1] > left[i][0].time
            and right[j][1] > right[j][0].time
            for i, j in expected[0]
        )
    assert late > 50 and met_late > 30, "late rows, and pairs of them, are not rare"
