"""Order law: float aggregates of the rows of a window are the same bytes in whatever order the rows come, and sums are those of fsum."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import asyncflow as af
from tests.laws.flows import SINKS, SOURCE, csv_bytes, outcome, rows

Row = tuple[int, str, float | None, int | None]
EXACT = """
[stages.w]
type = "window"
{window}
by = ["key"]
[stages.w.aggregates]
s = "sum(value)"
p = "sum(value * qty) / count(*)"
m = "mean(value)"
q = "mean(qty)"
v = "var(value)"
d = "stddev_pop(value)"
i = "stddev(qty)"
c = "covar(value, qty)"
r = "corr(value, qty) FILTER (WHERE qty < 1000)"
"""
WINDOWS = {
    "tumbling": 'window = { tumbling = "10s" }',
    "hopping": 'window = { hopping = "10s", every = "3s", offset = "1s" }',
    "session": 'window = { session = "3s" }',
    "cumulate": 'window = { cumulate = "20s", every = "5s" }',
    "all": "",
}


def pipeline(window: str) -> str:
    ends = SINKS.format(format="json", table="w", late="")
    return SOURCE.format(format="csv", delay="1h") + EXACT.format(window=WINDOWS[window]) + ends


@pytest.mark.parametrize("window", WINDOWS)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(table=rows, seed=st.integers(0, 1000))
def test_rows_in_any_order(window: str, table: list[Row], seed: int) -> None:
    shuffled = random.Random(seed).sample(table, len(table))
    text = pipeline(window)
    assert outcome(text, [csv_bytes(shuffled)]) == outcome(text, [csv_bytes(table)])


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(values=st.lists(st.floats(-1e300, 1e300), min_size=1, max_size=60))
async def test_sums_are_those_of_fsum(values: list[float]) -> None:
    flow = af.source(
        [{"ts": second * 10**9, "value": value} for second, value in enumerate(values)],
        schema={"ts": "timestamp[ns]", "value": "float64"},
        time="ts",
    ).window(af.hopping("20s", "7s"), s="sum(value)")
    found: dict[int, Any] = {}
    async for batch in flow:
        found |= {row["window_start"] // 10**9: row["s"] for row in batch.to_pylist()}
    for start, total in found.items():
        assert total == math.fsum(values[max(start, 0) : start + 20])
