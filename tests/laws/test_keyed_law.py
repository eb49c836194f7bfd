"""dedup and top: against plain Python and DuckDB on random data, however the bytes are cut, with every row accounted for."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import duckdb
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import asyncflow as af
from asyncflow.runtime import Run
from asyncflow.testing import chunks, one_by_one
from tests.laws.flows import csv_bytes, outcome, rows

Row = tuple[int, str, float | None, int | None]
few = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
MS = 1_000_000

SOURCE = """
name = "law"
[sources.rows]
type = "stdin"
format = "csv"
schema = { ts = "timestamp[ms]", key = "string", value = "float64", qty = "int64" }
time = "ts"
watermark_delay = "2s"
"""
DEDUP = """
[stages.once]
type = "dedup"
by = ["key"]
within = "3s"
"""
TOP = """
[stages.best]
type = "top"
n = 2
order = ["value DESC", "qty % 3 NULLS FIRST", "key"]
by = { parity = "qty % 2" }
"""
OVER_WINDOWS = """
[stages.per_window]
type = "window"
window = { hopping = "10s", every = "4s" }
by = ["key"]
aggregates = { n = "count(*)", s = "sum(qty)" }
[stages.best]
type = "top"
n = 2
order = ["n DESC", "s", "key DESC"]
"""
STAGES = {
    "dedup": (DEDUP, "once.duplicate"),
    "top": (TOP, "best.late"),
    "top of tumbling": (TOP + 'window = { tumbling = "10s", offset = "1s" }\n', "best.late"),
    "top of hopping": (TOP + 'window = { hopping = "10s", every = "4s" }\n', "best.late"),
    "top over windows": (OVER_WINDOWS, "per_window.late"),
    "dedup of windows": (
        OVER_WINDOWS.split("[stages.best]")[0] + DEDUP.replace("3s", "9s"),
        "once.duplicate",
    ),
}


def sink(name: str, table: str) -> str:
    return f'[sinks.{name}]\ntype = "null"\nformat = {{ type = "json", timestamps = "ms" }}\ninputs = ["{table}"]\n'


def pipeline(kind: str) -> str:
    stages, side = STAGES[kind]
    last = stages.rpartition("[stages.")[2].partition("]")[0]
    return SOURCE + stages + sink("out", last) + sink("side", side)


def result(data: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in data.splitlines()]


@pytest.mark.parametrize("kind", STAGES)
@few
@given(table=rows, seed=st.integers(0, 1000), at_most=st.sampled_from([1, 30, 300]))
def test_cut_anywhere(kind: str, table: list[Row], seed: int, at_most: int) -> None:
    data = csv_bytes(table)
    whole = outcome(pipeline(kind), [data])
    assert outcome(pipeline(kind), chunks(data, seed, at_most)) == whole
    assert outcome(pipeline(kind), one_by_one(data)) == whole
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("asyncflow.operators.dedup.FEW_KEYS", 1)
        patch.setattr("asyncflow.operators.top.FEW_ROWS", 1)
        assert outcome(pipeline(kind), chunks(data, seed, at_most)) == whole


@pytest.mark.parametrize("kind", STAGES)
@few
@given(table=rows, seed=st.integers(0, 1000))
def test_any_number_of_workers_and_parts(kind: str, table: list[Row], seed: int) -> None:
    data = csv_bytes(table * 3)
    whole = outcome(pipeline(kind), [data])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("asyncflow.runtime.base.workers.INLINE_BYTES", 1)
        patch.setattr("asyncflow.operators.top.FEW_ROWS", 1)
        assert outcome(pipeline(kind), chunks(data, seed, 200), 7) == whole


@pytest.mark.parametrize("kind", STAGES)
@few
@given(table=rows)
def test_every_row_is_accounted_for(kind: str, table: list[Row]) -> None:
    sinks, ledger = outcome(pipeline(kind), [csv_bytes(table)])
    name, counts = list(ledger["stages"].items())[-1]
    before = list(ledger["stages"].values())[-2]["rows_out"] if len(ledger["stages"]) > 1 else len(table)
    assert counts["rows_in"] == before
    assert counts["rows_out"] == len(result(sinks["out"]))
    if name == "once":
        assert counts["rows_in"] == counts["duplicate"] + counts["rows_out"]
        assert counts["duplicate"] == len(result(sinks["side"]))
    else:
        assert counts["rows_in"] == counts["ranked"] + counts["late"]
        assert counts["windows_opened"] == counts["windows_closed"]


def dedup_twin(table: list[Row], delay: int, within: int) -> list[bool]:
    """Whether each row goes on: times in ms."""
    watermark: float = float("-inf")
    went_on: dict[str, list[int]] = {}
    fresh = []
    for ts, key, *_ in table:
        known = went_on.setdefault(key, [])
        fresh.append(not any(abs(ts - t) <= within and watermark <= t + within for t in known))
        if fresh[-1]:
            known.append(ts)
        watermark = max(watermark, ts - delay)
    return fresh


def as_row(row: Row) -> tuple[Any, ...]:
    ts, key, value, qty = row
    return ts, key, str(value), qty


def plain(rows: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return [(r["ts"], r["key"], r["qty"]) for r in rows]


@settings(few, max_examples=150)
@given(
    table=st.lists(
        st.tuples(st.integers(0, 15_000), st.sampled_from("abc"), st.none(), st.integers(0, 9)), max_size=50
    )
)
def test_dedup_is_its_twin(table: list[Row]) -> None:
    sinks, _ = outcome(pipeline("dedup"), [csv_bytes(table)])
    fresh = dedup_twin(table, 2000, 3000)
    assert plain(result(sinks["out"])) == [
        (r[0], r[1], r[3]) for r, on in zip(table, fresh, strict=True) if on
    ]
    assert plain(result(sinks["side"])) == [
        (r[0], r[1], r[3]) for r, on in zip(table, fresh, strict=True) if not on
    ]


def test_within_counts_from_the_row_that_went_on() -> None:
    """Duplicates do not prolong the memory, and it looks both ways."""
    times = [0, 2000, 3000, 3001, 5000, 6001, 6002, 20_000, 16_999, 17_000]
    sinks, _ = outcome(pipeline("dedup"), [csv_bytes([(t, "k", None, None) for t in times])])
    assert [r["ts"] for r in result(sinks["out"])] == [0, 3001, 6002, 20_000, 16_999]


def test_a_late_row_whose_key_was_forgotten_is_new() -> None:
    table = [(0, "k", None, 1), (10_000, "x", None, 2), (0, "k", None, 3), (0, "k", None, 4)]
    sinks, _ = outcome(pipeline("dedup"), [csv_bytes(table)])
    assert [r["qty"] for r in result(sinks["out"])] == [1, 2, 3, 4]
    table[1] = (5_000, "x", None, 2)  # the watermark is at 3 s: not yet past
    sinks, _ = outcome(pipeline("dedup"), [csv_bytes(table)])
    assert [r["qty"] for r in result(sinks["out"])] == [1, 2]


def test_a_key_may_be_computed_and_null() -> None:
    table = [(0, "a", None, 1), (1, "A", None, 2), (2, "b", None, None), (3, "B", None, None)]
    text = pipeline("dedup").replace('["key"]', '{ k = "upper(key)", q = "qty / 0" }')
    sinks, _ = outcome(text, [csv_bytes(table)])
    assert [r["key"] for r in result(sinks["out"])] == ["a", "b"]
    assert [r["key"] for r in result(sinks["side"])] == ["A", "B"]


@few
@given(table=rows)
def test_dedup_of_everything_is_duckdbs_first_rows(table: list[Row]) -> None:
    data = csv_bytes(sorted(table, key=lambda row: row[0]))
    text = pipeline("dedup").replace("3s", "10d").replace('["key"]', '["key", "value"]')
    sinks, _ = outcome(text, [data])
    connection = duckdb.connect()
    connection.execute("CREATE TABLE rows (n BIGINT, ts BIGINT, key VARCHAR, value DOUBLE, qty BIGINT)")
    for number, row in enumerate(sorted(table, key=lambda row: row[0])):
        connection.execute("INSERT INTO rows VALUES (?, ?, ?, ?, ?)", [number, *row])
    query = """SELECT ts, key, qty FROM rows
               QUALIFY row_number() OVER (PARTITION BY key, value ORDER BY n) = 1 ORDER BY n"""
    assert plain(result(sinks["out"])) == connection.execute(query).fetchall()


# -- top -----------------------------------------------------------------------------------------------------------------


@few
@given(table=rows)
def test_top_is_duckdbs_row_number(table: list[Row]) -> None:
    table = sorted(table, key=lambda row: row[0])
    sinks, _ = outcome(pipeline("top of tumbling"), [csv_bytes(table)])
    connection = duckdb.connect()
    connection.execute("CREATE TABLE rows (n BIGINT, ts BIGINT, key VARCHAR, value DOUBLE, qty BIGINT)")
    for number, row in enumerate(table):
        connection.execute("INSERT INTO rows VALUES (?, ?, ?, ?, ?)", [number, *row])
    query = """
        SELECT start, start + 10000, ts, key, qty, place FROM (
            SELECT *, (ts - 1000 - ((ts - 1000) % 10000 + 10000) % 10000) + 1000 AS start, qty % 2 AS parity,
                row_number() OVER (PARTITION BY start, parity ORDER BY value DESC NULLS LAST,
                                   qty % 3 ASC NULLS FIRST, encode(key), n) AS place
            FROM rows
        ) WHERE place <= 2 ORDER BY start, parity ASC NULLS LAST, place"""
    found = [
        (r["window_start"], r["window_end"], r["ts"], r["key"], r["qty"], r["rank"])
        for r in result(sinks["out"])
    ]
    assert found == connection.execute(query).fetchall()


def top_twin(
    table: list[Row], n: int, size: int, every: int, delay: int
) -> tuple[list[tuple[Any, ...]], list[int]]:
    """By qty descending, nulls last, then arrival; per key.  What comes out, and the rows that are late for all of their windows."""
    watermark: float = float("-inf")
    windows: dict[tuple[int, int, str], list[int]] = {}
    late = []
    for number, (ts, key, _, _qty) in enumerate(table):
        last = ts // every * every
        starts = [s for s in range(last, ts - size, -every) if s <= ts < s + size]
        still = [s for s in starts if s + size > watermark]
        for start in still:
            windows.setdefault((start + size, start, key), []).append(number)
        if not still:
            late.append(number)
        watermark = max(watermark, ts - delay)
    out = []
    for end, start, key in sorted(windows, key=lambda w: (w[0], w[1], w[2].encode())):
        members = windows[end, start, key]
        members.sort(key=lambda m: (table[m][3] is None, -(table[m][3] or 0), m))
        out += [(start, end, key, table[m][0], table[m][3], rank + 1) for rank, m in enumerate(members[:n])]
    return out, late


@pytest.mark.parametrize(("size", "every"), [(10, 10), (10, 4), (6, 3)])
@few
@given(table=rows, seed=st.integers(0, 100))
def test_top_is_its_twin(size: int, every: int, table: list[Row], seed: int) -> None:
    shape = f'{{ hopping = "{size}s", every = "{every}s" }}'
    stage = f'[stages.best]\ntype = "top"\nn = 3\norder = ["qty DESC"]\nby = ["key"]\nwindow = {shape}\n'
    text = SOURCE + stage + sink("out", "best") + sink("side", "best.late")
    sinks, _ = outcome(text, chunks(csv_bytes(table), seed))
    expected, late = top_twin(table, 3, size * 1000, every * 1000, 2000)
    found = [
        (r["window_start"], r["window_end"], r["key"], r["ts"], r["qty"], r["rank"])
        for r in result(sinks["out"])
    ]
    assert found == expected
    assert plain(result(sinks["side"])) == [(table[m][0], table[m][1], table[m][3]) for m in late]


def test_top_over_windows_is_of_each_window() -> None:
    table = [(t * 1000, key, None, t) for t in range(8) for key in "abcd"[: t % 4 + 1]]
    sinks, ledger = outcome(pipeline("top over windows"), [csv_bytes(table)])
    ends: dict[int, list[tuple[str, int]]] = {}
    for row in result(sinks["out"]):
        ends.setdefault(row["window_end"], []).append((row["key"], row["rank"]))
    assert list(ends) == sorted(ends)
    assert all([rank for _, rank in found] == [1, 2] for found in ends.values())
    assert ledger["stages"]["best"]["windows_closed"] == len(ends)


def test_rows_of_a_top_have_the_time_of_their_window() -> None:
    """So an hour can be made of the minutes' tops."""
    stages = """
[stages.best]
type = "top"
n = 1
order = ["qty DESC"]
window = { tumbling = "10s" }
[stages.longer]
type = "window"
window = { tumbling = "30s" }
aggregates = { n = "count(*)", s = "sum(qty)" }
"""
    table = [(t * 1000, "k", None, t) for t in range(60)]
    sinks, _ = outcome(SOURCE + stages + sink("out", "longer"), [csv_bytes(table)])
    assert [(r["window_end"], r["n"], r["s"]) for r in result(sinks["out"])] == [
        (30_000, 3, 9 + 19 + 29),
        (60_000, 3, 39 + 49 + 59),
    ]


@pytest.mark.parametrize("kind", STAGES)
def test_nothing_in_nothing_out(kind: str) -> None:
    for data in (b"ts,key,value,qty\n", b""):
        sinks, ledger = outcome(pipeline(kind), [data])
        assert sinks == {"out": b"", "side": b""}
        assert ledger["sources"]["rows"]["rows"] == 0


def test_times_at_the_edges_of_int64() -> None:
    """Bounds are clamped, and no row is lost."""
    times = [-(2**63) // MS + 1, 0, 2**62 // MS]
    text = pipeline("top of hopping").replace('"2s"', '"0s"\nmax_future = "100000d"')
    sinks, ledger = outcome(text, [csv_bytes([(t, "k", 1.0, 1) for t in times])])
    assert ledger["stages"]["best"]["ranked"] == 3
    assert {r["ts"] for r in result(sinks["out"])} == set(times)


# -- memory --------------------------------------------------------------------------------------------------------------


async def test_a_top_holds_its_rows_and_not_the_blocks_they_came_in() -> None:
    """Long texts that do not place are not kept."""
    run: Run | None = None
    held: list[int] = []

    async def batches() -> AsyncIterator[dict[str, Any]]:
        for first in range(200):
            yield {"n": np.arange(first, first + 50), "text": np.array(["x" * 1000] * 50, object)}
            assert run is not None
            held.append(run.state_bytes)

    flow = af.source(batches(), schema={"n": "int64", "text": "string"}).top(3, order="n DESC")
    run = Run(flow.to("null").checked())
    await run.execute()
    assert max(held) < 200 * 3 * 1200
