"""Aggregates written in Python: equal to built-in aggregates, independent of chunks and workers, and freed with their windows."""

from __future__ import annotations

import asyncio
import gc
import json
import time
import weakref
from collections.abc import AsyncIterator, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import asyncflow as af
import asyncflow.operators.aggregates.python_cells
import asyncflow.operators.windows.grouped
import asyncflow.operators.windows.slot_window
import asyncflow.operators.windows.slots
import asyncflow.runtime.base.workers
from asyncflow._kernels import MODE
from asyncflow.doors.expressions.expression_text import parse_expression
from asyncflow.model.batch import Batch
from asyncflow.model.columns import column_from_values
from asyncflow.model.schema import DataType, Schema
from asyncflow.plan.stages.window import Window
from asyncflow.runtime import Run
from asyncflow.testing import chunks, one_by_one
from tests.laws.flows import LATE, SINKS, SOURCE, csv_bytes, outcome, rows
from tests.operators_of import operator_of
from tests.own_aggregates import All, GeometricMean, Least, Rows, Sum, Values, installed

Table = list[tuple[int, str, float | None, int | None]]
few = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])


class Instant(Least):
    """``datetime64`` comes in and goes out."""

    takes = "timestamp"
    returns = "timestamp"

    def update(self, x: Any) -> None:
        assert x.dtype == np.dtype("datetime64[ns]")
        self.values.extend(x)


WINDOWS: dict[str, dict[str, Any]] = {
    "tumbling": {"shape": af.tumbling("10s", "3s")},
    "hopping": {"shape": af.hopping("12s", "4s")},
    "hopping with a tail": {"shape": af.hopping("10s", "4s", "1s")},
    "session": {"shape": af.session("3s")},
    "count": {"shape": af.count(3)},
    "cumulate": {"shape": af.cumulate("20s", "5s")},
    "all": {"shape": af.all_rows()},
    "revised": {"shape": af.hopping("10s", "4s"), "allowed_lateness": "6s", "emit": "updates"},
    "revised cumulate": {
        "shape": af.cumulate("20s", "5s"),
        "allowed_lateness": "4s",
        "emit": {"every": "3s"},
    },
}
PAIRS: list[tuple[str, Any]] = [
    ("sum(qty)", af.aggregate(Sum, "qty")),
    ("sum(qty) FILTER (WHERE qty > 0)", af.aggregate(Sum, "qty", where="qty > 0")),
    ("min(key)", af.aggregate(Least, "key")),
    ("min(value)", af.aggregate(Least, "value")),
    ("min(ts)", af.aggregate(Instant, "ts")),
    ("bool_and(value < 11)", af.aggregate(All, "value < 11")),
    ("1000 * count(*) + count(*) - count(value)", af.aggregate(Rows, "value")),
    ("1000 * count(key)", af.aggregate(Rows, "key")),
    ("round(mean(qty % 100), 6)", af.expression("round(mean_(qty % 100), 6)", mean_=Values)),
    ("sum(qty) / count(*)", af.expression("s(qty) / count(*)", s=Sum)),
]


async def rows_of(flow: af.Flow) -> list[dict[str, Any]]:
    return [row async for batch in flow for row in batch.to_pylist()]


@pytest.mark.parametrize("at_once", [2, 1024])
@pytest.mark.parametrize("window", WINDOWS)
@few
@given(
    table=st.lists(
        st.tuples(
            st.integers(-5_000, 60_000),
            st.sampled_from(["a", "b", "", "naïve"]),
            st.one_of(st.none(), st.floats(allow_nan=False)),
            st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1), st.integers(-3, 5)),
        ),
        max_size=60,
    )
)
def test_they_are_what_the_engine_says(window: str, at_once: int, table: Table) -> None:
    options = WINDOWS[window]
    records = [{"ts": ts, "key": key, "value": value, "qty": qty} for ts, key, value, qty in table]
    schema = {"ts": "timestamp[ms]", "key": "string", "value": "float64", "qty": "int64"}
    built = {f"e{number}": text for number, (text, _) in enumerate(PAIRS)}
    own = {f"o{number}": made for number, (_, made) in enumerate(PAIRS)}
    flow = af.source(records, schema=schema, time="ts", watermark_delay="2s").window(
        options["shape"],
        by=["key"],
        aggregates={**built, **own},
        **{k: v for k, v in options.items() if k != "shape"},
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(asyncflow.operators.aggregates.python_cells, "ROWS_AT_ONCE", at_once)
        for row in asyncio.run(rows_of(flow)):
            for number, (text, _) in enumerate(PAIRS):
                assert (
                    repr(row[f"e{number}"]) == repr(row[f"o{number}"])
                    or row[f"e{number}"] == row[f"o{number}"]
                ), text


TEXTS = {
    "tumbling": 'window = { tumbling = "10s" }',
    "hopping": 'window = { hopping = "10s", every = "4s", offset = "1s" }',
    "session": 'window = { session = "3s" }',
    "count": "window = { count = 3 }",
    "cumulate": 'window = { cumulate = "20s", every = "5s", offset = "2s" }',
    "all": 'window = "all"',
    "revised": 'window = { hopping = "10s", every = "4s" }\nallowed_lateness = "6s"\nemit = "updates"',
}
STAGE = """
[stages.w]
type = "window"
{window}
by = ["key"]
[stages.w.aggregates]
n = "count(*)"
t = "trace(value, key)"
f = "trace(qty, key) FILTER (WHERE qty > 0)"
g = "geometric_mean(abs(value))"
r = "own_rows(qty) + own_sum(qty) / 2"
"""


def pipeline(window: str) -> str:
    ends = SINKS.format(format="json", table="w", late=LATE)
    return SOURCE.format(format="csv", delay="2s") + STAGE.format(window=TEXTS[window]) + ends


@pytest.fixture(scope="module")
def _installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with installed(tmp_path_factory.mktemp("site")):
        yield


@pytest.mark.usefixtures("_installed")
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of logarithms of anything
@pytest.mark.parametrize("window", TEXTS)
@few
@given(
    table=rows,
    seed=st.integers(0, 1000),
    at_most=st.sampled_from([5, 40, 300]),
    at_once=st.sampled_from([1, 3, 1024]),
)
def test_chunks_and_workers_change_nothing(
    window: str, table: Table, seed: int, at_most: int, at_once: int
) -> None:
    """Not even in what order an object is given what, and how much of it at a time."""
    data, text = csv_bytes(table), pipeline(window)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(asyncflow.operators.aggregates.python_cells, "ROWS_AT_ONCE", at_once)
        whole = outcome(text, [data])
        assert outcome(text, chunks(data, seed, at_most)) == whole
        assert outcome(text, one_by_one(data)) == whole
        patch.setattr(asyncflow.runtime.base.workers, "INLINE_BYTES", 1)
        assert outcome(text, chunks(data, seed, at_most), workers=1 + seed % 3) == whole


@pytest.mark.usefixtures("_installed")
def test_many_rows_of_few_keys() -> None:
    """Objects are full many times within a batch."""
    table: Table = [(number, "ab"[number % 3 > 0], (number + 1) / 8, number % 10) for number in range(20_000)]
    data, text = csv_bytes(table), pipeline("hopping")
    whole = outcome(text, [data])
    assert outcome(text, chunks(data, 1, 70_000)) == whole == outcome(text, chunks(data, 2, 900))
    last = json.loads(whole[0]["out"].splitlines()[-1])
    assert last["n"] > 1000
    values = [number for number in range(17_001, 20_001) if number % 3 != 1]
    assert last["g"] == pytest.approx(float(np.exp(np.log(np.array(values) / 8).mean())))


@pytest.mark.parametrize("window", ["tumbling", "hopping", "session", "cumulate", "revised"])
async def test_objects_leave_with_their_windows(window: str) -> None:
    """Ever new keys: neither objects nor what is said to be held grow with the rows."""
    alive: weakref.WeakSet[Any] = weakref.WeakSet()
    held: list[tuple[int, int]] = []
    run: Run | None = None

    class Counted(GeometricMean):
        def __init__(self) -> None:
            super().__init__()
            alive.add(self)

    async def batches() -> AsyncIterator[dict[str, Any]]:
        for number in range(60):
            times = np.full(200, number * 1_000_000_000)
            keys = np.array([f"key-{number}-{each % 50}" for each in range(200)], object)
            yield {"ts": times, "key": keys, "value": np.arange(1.0, 201.0)}
            assert run is not None
            gc.collect()
            held.append((len(alive), run.state_bytes))

    options = {"allowed_lateness": "2s", "emit": "updates"} if window == "revised" else {}
    shape = {
        "hopping": af.hopping("4s", "1s"),
        "session": af.session("500ms"),
        "cumulate": af.cumulate("4s", "1s"),
    }.get(window, af.tumbling("2s"))
    flow = af.source(
        batches(), schema={"ts": "timestamp[ns]", "key": "string", "value": "float64"}, time="ts"
    ).window(shape, by=["key"], g=af.aggregate(Counted, "value"), **options)
    run = Run(flow.to("null").checked())
    await run.execute()
    objects, held_bytes = zip(*held, strict=True)
    assert max(objects) <= 1000 and max(objects[30:]) <= max(objects[:30])
    assert max(held_bytes[30:]) <= 1.2 * max(held_bytes[:30])
    gc.collect()
    assert not alive


@pytest.mark.parametrize("window", WINDOWS)
def test_keys_that_come_and_go(window: str) -> None:
    """Groups and slots are given other names once most of them are gone; each object stays with its own."""
    records = [
        {"ts": number * 100 - (number % 7) * 300, "key": f"key-{number // 6 - number % 3}", "qty": number}
        for number in range(3000)
    ]

    async def batches() -> AsyncIterator[dict[str, Any]]:
        for start in range(0, 3000, 50):
            part = records[start : start + 50]
            yield {name: np.array([record[name] for record in part]) for name in ("ts", "key", "qty")}

    options = dict(WINDOWS[window])
    flow = af.source(
        batches(),
        schema={"ts": "timestamp[ms]", "key": "string", "qty": "int64"},
        time="ts",
        watermark_delay="1s",
    ).window(options.pop("shape"), by=["key"], e="sum(qty)", o=af.aggregate(Sum, "qty"), **options)
    with pytest.MonkeyPatch.context() as patch:
        for module in (asyncflow.operators.windows.grouped, asyncflow.operators.windows.slot_window):
            patch.setattr(module, "FEW_GROUPS", 16)
        patch.setattr(asyncflow.operators.windows.slots, "FEW_SLOTS", 16)
        found = asyncio.run(rows_of(flow))
    assert len(found) > 400
    assert [row["o"] for row in found] == [row["e"] for row in found]


@pytest.mark.parametrize("window", ["tumbling", "hopping", "hopping with a tail"])
def test_a_watermark_that_no_row_brought(window: str) -> None:
    """Rows after it, of an input that was quiet, are judged by it; a row that is late for some of its windows counts in the others."""
    schema = Schema.of([("qty", DataType.INT64)])
    aggregates = (("e", parse_expression("sum(qty)")), ("o", af.aggregate(Sum, "qty")))
    operator = operator_of(Window("w", ("s",), WINDOWS[window]["shape"], (), aggregates), schema)
    second, found = 1_000_000_000, []
    for at, times in enumerate(([1, 2, 9], [11, 3, 12, 8], [13, 4, 9, 30])):
        time = np.array(times) * second
        columns = (column_from_values(DataType.INT64, [10**at * (1 + k) for k in range(len(times))]),)
        found += operator.process(Batch(schema, columns, len(times), time, delay_ns=20 * second))
        found += operator.advance((12 + 2 * at) * second)
    found += operator.finish()
    rows = [row for output in found if not output.kind for row in output.batch.to_pylist()]
    assert operator.counts["late"] + operator.counts["late_partly"] > 0
    assert rows and [row["o"] for row in rows] == [row["e"] for row in rows]


@pytest.mark.skipif(MODE == "reference", reason="the twins look through all panes")
@pytest.mark.parametrize("falling", [False, True], ids=["rising", "falling"])
def test_the_time_of_a_window_does_not_grow_with_the_open_ones(falling: bool) -> None:
    """Four times the windows, all open until the end of the input, take about four times as long."""

    def seconds(count: int) -> float:
        async def all_rows() -> AsyncIterator[dict[str, Any]]:
            numbers = np.arange(count)[:: -1 if falling else 1]
            yield {"ts": numbers * 1000, "qty": np.ones(count, np.int64)}

        schema = {"ts": "timestamp[ms]", "qty": "int64"}
        source = af.source(all_rows(), schema=schema, time="ts", watermark_delay="30d")
        begin = time.process_time()
        found = asyncio.run(rows_of(source.window(af.hopping("2s", "1s"), s=af.aggregate(Sum, "qty"))))
        assert len(found) == count + 1
        return time.process_time() - begin

    few_windows = min(seconds(1500) for _ in range(2))
    assert seconds(6000) < 10 * few_windows
