"""New times: of a derive that replaces the time column and of what a user's function returns, in any batches and before any stage."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import asyncflow as af
from asyncflow.errors import PipelineError, StageError
from tests.runtime.flows_runtime import SECOND, Running, Tap, collect

SCHEMA = {"ts": "timestamp[s]", "v": "int64"}
Rows = list[tuple[int, int]]  # time in s, value
rows_of = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 9)), max_size=25)
few = settings(max_examples=15, deadline=None)


class Batches:
    """An input that can be read again."""

    def __init__(self, rows: Rows, cut: int) -> None:
        self.rows, self.cut = rows, cut

    async def __aiter__(self) -> AsyncIterator[Any]:
        for low in range(0, len(self.rows), self.cut):
            part = self.rows[low : low + self.cut]
            yield {"ts": np.array([t for t, _ in part]), "v": np.array([v for _, v in part])}
            for _ in range(4):
                await asyncio.sleep(0)


def source(rows: Rows, cut: int, name: str = "s", **options: Any) -> af.Flow:
    """The rows in batches of ``cut``."""

    options = {"watermark_delay": "3s"} | options
    return af.source(Batches(rows, cut), name=name, schema=SCHEMA, time="ts", **options)


def found(flow: af.Flow, *tables: str) -> list[str]:
    """All that comes out, as text; of these side outputs too."""

    async def all_of_it() -> list[str]:
        return [
            json.dumps(row)
            for table in ("", *tables)
            for row in await collect(flow[table] if table else flow)
        ]

    return asyncio.run(all_of_it())


def columns(ts: Any, v: Any) -> dict[str, Any]:
    return {"ts": ts.astype("datetime64[ns]"), "v": v}


def shifted(batch: af.Batch) -> dict[str, Any]:
    return columns(batch["ts"] - np.timedelta64(3600, "s") + batch["v"].astype("timedelta64[s]"), batch["v"])


FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "the same": lambda batch: columns(batch["ts"], batch["v"]),
    "the batch itself": lambda batch: batch,
    "repeats": lambda batch: columns(
        np.repeat(batch["ts"], batch["v"] % 3), np.repeat(batch["v"], batch["v"] % 3)
    ),
    "repeats, moves some": lambda batch: columns(
        np.repeat(batch["ts"] - (batch["v"] // 7 * 5).astype("timedelta64[s]"), batch["v"] % 3),
        np.repeat(batch["v"], batch["v"] % 3),
    ),
    "drops": lambda batch: columns(batch["ts"][batch["v"] > 4], batch["v"][batch["v"] > 4]),
    "moves": shifted,
    "moves some": lambda batch: columns(
        batch["ts"] - (batch["v"] % 2 * 7).astype("timedelta64[s]"), batch["v"]
    ),
    "explodes": lambda batch: columns(
        (batch["ts"][:, None] + np.array([0, 5, 9], "timedelta64[s]")[None, :]).ravel(),
        np.repeat(batch["v"], 3),
    ),
    "explodes, some have no time": lambda batch: columns(
        np.where(
            np.repeat(batch["v"] > 3, 2),
            (batch["ts"][:, None] + np.array([0, 5], "timedelta64[s]")[None, :]).ravel(),
            np.repeat(np.where(batch["ts"].astype(np.int64) % 3 > 0, batch["ts"], np.datetime64("NaT")), 2),
        ),
        np.repeat(batch["v"], 2),
    ),
}
AFTER: dict[str, tuple[Callable[[af.Flow], af.Flow], tuple[str, ...]]] = {
    "windows": (
        lambda flow: flow.window(af.tumbling("5s"), n="count(*)", s="sum(v)").named("w"),
        ("w.late",),
    ),
    "sessions": (lambda flow: flow.window(af.session("2s"), by=["v"], n="count(*)").named("w"), ("w.late",)),
    "corrected": (
        lambda flow: flow.window(af.tumbling("5s"), allowed_lateness="4s", n="count(*)", s="sum(v)").named(
            "w"
        ),
        ("w.late",),
    ),
    "dedup": (lambda flow: flow.dedup(by=["v"], within="4s").named("w"), ("w.duplicate",)),
    "top": (lambda flow: flow.top(2, order=["v"], window=af.tumbling("5s")).named("w"), ("w.late",)),
    "filter, windows": (
        lambda flow: flow.filter("v > 2").window(af.tumbling("5s"), n="count(*)").named("w"),
        ("w.late",),
    ),
}


@pytest.mark.parametrize("after", AFTER)
@pytest.mark.parametrize("function", FUNCTIONS)
@few
@given(rows=rows_of, cut=st.integers(1, 9))
@example([(8, 0), (21, 0), (13, 0)], 1)
@example([(26, 7), (21, 7), (3, 2)], 1)
@example([(8, 8), (3, 8), (21, 8), (3, 8)], 1)
def test_any_batches_give_the_same(function: str, after: str, rows: Rows, cut: int) -> None:
    then, sides = AFTER[after]
    whole, pieces = (
        found(then(source(rows, each).map(FUNCTIONS[function])), *sides) for each in (max(1, len(rows)), cut)
    )
    assert pieces == whole


@pytest.mark.parametrize(
    ("function", "rows"), [("moves some", [(33, 1), (26, 0)]), ("repeats", [(8, 0), (0, 2)])]
)
def test_as_many_rows_with_known_times_may_be_moved_or_repeated(function: str, rows: Rows) -> None:
    """The other columns tell which."""
    then, sides = AFTER["windows"]
    whole, pieces = (found(then(source(rows, cut).map(FUNCTIONS[function])), *sides) for cut in (2, 1))
    assert pieces == whole


@pytest.mark.parametrize("after", ["windows", "sessions"])
@pytest.mark.parametrize("delay", ["0s", "3s"])
@few
@given(rows=rows_of, cut=st.integers(1, 9))
@example([(0, 6), (2, 1), (2, 6)], 3)
def test_leaving_rows_out_is_a_filter(after: str, delay: str, rows: Rows, cut: int) -> None:
    """The same late rows, too: those that are left out have moved the watermark."""
    then, sides = AFTER[after]
    made = source(rows, cut, watermark_delay=delay)
    filtered = found(then(made.filter("v > 4")), *sides)
    assert found(then(made.map(FUNCTIONS["drops"])), *sides) == filtered
    by_row = made.map_rows(
        lambda row: row if row["v"] > 4 else None, schema={"ts": "timestamp", "v": "int64"}
    )
    assert found(then(by_row), *sides) == filtered


def model(rows: Rows, new: Callable[[int, int], int], size: int, delay: int) -> tuple[dict[int, int], int]:
    """Windows by the new times, and how many rows are late by the greatest of these so far."""
    windows: dict[int, int] = {}
    reached, late = -(10**9), 0
    for ts, v in rows:
        time = new(ts, v)
        start = time // size * size
        if start + size <= reached - delay:
            late += 1
        else:
            windows[start] = windows.get(start, 0) + 1
        reached = max(reached, time)
    return windows, late


def test_a_function_that_writes_into_its_batch_changes_that_alone() -> None:
    def later(batch: af.Batch) -> af.Batch:
        times, values = batch["ts"], batch["v"]
        times += np.timedelta64(60, "s")
        values[:] = 99
        return batch

    flow = source([(1, 1), (2, 2), (13, 3)], 3)
    both = af.union(flow.map(later, schema={"ts": "timestamp", "v": "int64"}), flow.derive(v="v"))
    counts = asyncio.run(collect(both.window(af.tumbling("10s"), n="count(*)", s="sum(v)")))
    assert [(row["window_start"] // SECOND, row["n"], row["s"]) for row in counts] == [
        (0, 2, 3),
        (10, 1, 3),
        (60, 2, 198),
        (70, 1, 99),
    ]


@few
@given(rows=rows_of, cut=st.integers(1, 9))
def test_a_derive_goes_by_the_new_time_row_by_row(rows: Rows, cut: int) -> None:
    derived = source(rows, cut).derive(
        ts="CASE WHEN v > 5 THEN ts - INTERVAL '20' SECOND ELSE ts - INTERVAL '3' SECOND END"
    )
    flow = derived.window(af.tumbling("5s"), n="count(*)", lo="min(ts)", hi="max(ts)").named("w")
    windows, late = model(rows, lambda ts, v: ts - (20 if v > 5 else 3), 5, 3)
    got = [json.loads(row) for row in found(flow)]
    assert {row["window_start"] // SECOND: row["n"] for row in got} == windows
    assert all(row["window_start"] <= row["lo"] <= row["hi"] < row["window_end"] for row in got)
    assert len(found(flow, "w.late")) - len(got) == late


@few
@given(left=rows_of, right=rows_of, cut=st.integers(1, 9))
def test_joins_meet_by_the_new_time(left: Rows, right: Rows, cut: int) -> None:
    def joined(each: int) -> list[str]:
        one = source(left, each, "l").derive(ts="ts - INTERVAL '10' SECOND")
        other = source(right, each, "r").map(FUNCTIONS["the same"], schema={"ts": "timestamp", "v": "int64"})
        return found(one.join(other, on=["v"], within="3s", kind="full").named("w"), "w.late")

    assert joined(cut) == joined(40)


def test_rows_of_a_join_go_by_the_later_time_again() -> None:
    one, other = source([(5, 1)], 9, "l"), source([(7, 1)], 9, "r")
    flow = one.join(other, on=["v"], within="3s").derive(ts="ts + INTERVAL '60' SECOND")
    (row,) = [json.loads(each) for each in found(flow.window(af.tumbling("5s"), n="count(*)"))]
    assert row["window_start"] == 65 * SECOND
    assert found(flow.derive(v="ts").window(af.tumbling("5s"), n="count(*)")) == [json.dumps(row)]


async def test_a_row_without_a_new_time_is_rejected() -> None:
    flow = source([(5, 1), (6, 0), (7, 1)], 2).derive(ts="CASE WHEN v > 0 THEN ts END").named("d")
    windows = flow.window(af.tumbling("60s"), n="count(*)")
    assert [row["n"] for row in await collect(windows)] == [2]
    (gone,) = await collect(flow["d.rejected"])
    assert (gone["reason"], gone["position"]) == ("ts: null event time", "row 2")


@pytest.mark.parametrize("rows_at_once", [True, False])
async def test_a_result_without_a_time_is_rejected_and_one_far_ahead_too(rows_at_once: bool) -> None:
    far = 1 << 62
    times = {0: None, 1: 5 * SECOND, 2: far}

    def by_row(row: dict[str, Any]) -> dict[str, Any]:
        return {"ts": times[row["v"]], "v": row["v"]}

    def whole(batch: af.Batch) -> dict[str, Any]:
        values = np.array([times[v] or 0 for v in batch["v"].tolist()], np.int64).astype("datetime64[ns]")
        return {"ts": np.where(batch["v"] == 0, np.datetime64("NaT"), values), "v": batch["v"]}

    flow = source([(5, 1), (6, 0), (7, 2), (8, 1)], 4)
    schema = {"ts": "timestamp", "v": "int64"}
    mapped = (flow.map_rows(by_row, schema=schema) if rows_at_once else flow.map(whole, schema=schema)).named(
        "m"
    )
    assert [row["n"] for row in await collect(mapped.window(af.tumbling("60s"), n="count(*)"))] == [2]
    gone = await collect(mapped["m.rejected"])
    assert [row["position"] for row in gone] == ["row 2", "row 3"]
    assert gone[0]["reason"] == "ts: null event time"
    assert "max_future" in gone[1]["reason"]


async def test_the_time_column_must_be_there_where_anything_goes_by_it() -> None:
    plain = source([(5, 1), (6, 2)], 2)
    with pytest.raises(StageError, match="the result has no time column 'ts'"):
        await collect(plain.map(lambda batch: {"v": batch["v"]}).window(af.tumbling("60s"), n="count(*)"))
    with pytest.raises(PipelineError, match=r"stages\.stage_1\.schema: the time column 'ts' is missing"):
        plain.map(lambda batch: batch, schema={"v": "int64"}).window(
            af.tumbling("60s"), n="count(*)"
        ).checked()
    with pytest.raises(PipelineError, match=r"stages\.stage_1\.columns\.ts: 'ts' is the time of the rows"):
        plain.derive(ts="epoch_ms(ts)").window(af.tumbling("60s"), n="count(*)").checked()
    assert [row["v"] for row in await collect(plain.map(lambda batch: {"v": batch["v"]}))] == [1, 2]
    assert [row["ts"] for row in await collect(plain.derive(ts="epoch_ms(ts)"))] == [5000, 6000]
    by_row = plain.map_rows(lambda row: {"v": row["v"]}).window(af.tumbling("60s"), n="count(*)")
    assert [row["n"] for row in await collect(by_row)] == [2]


async def test_windows_after_a_function_that_keeps_times_close_with_the_source() -> None:
    """Also where it has left out all rows since."""
    tap = Tap()
    flow = af.source(tap, name="s", schema={"ts": "timestamp[s]", "who": "string"}, time="ts")
    kept = flow.map_rows(
        lambda row: row if row["who"] == "x" else None, schema={"ts": "timestamp", "who": "string"}
    )
    running = Running(kept.window(af.tumbling("10s"), n="count(*)").named("w"))
    tap.say(5)
    tap.say(25, who="y")
    await running.until(lambda: running.rows == [(0, 1)])
    tap.end()
    await running.end()


async def test_windows_after_new_times_close_while_the_input_is_open() -> None:
    tap = Tap()
    flow = af.source(
        tap, name="s", schema={"ts": "timestamp[s]", "who": "string"}, time="ts", idle_timeout="5s"
    )
    running = Running(
        flow.derive(ts="ts - INTERVAL '1' HOUR").window(af.tumbling("10s"), n="count(*)").named("w")
    )
    tap.say(7205, 7206, 7225)
    await running.until(lambda: running.rows == [(3600, 2)])
    tap.end()
    await running.end()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("moves", [0, 3600])
async def test_calls_in_any_order_make_no_row_late(seed: int, moves: int) -> None:
    chance = random.Random(seed)
    rows = [(n, n) for n in range(60)]

    async def slow(row: dict[str, Any]) -> dict[str, Any]:
        for _ in range(chance.randint(0, 30)):
            await asyncio.sleep(0)
        return {"ts": row["ts"] + moves * SECOND, "v": row["v"]}

    flow = source(rows, 20).map_rows(
        slow, schema={"ts": "timestamp", "v": "int64"}, concurrency=8, ordered=False
    )
    windows = flow.window(af.tumbling("5s"), n="count(*)").named("w")
    assert [row["n"] for row in await collect(windows)] == [5] * 12


async def test_functions_over_windows_leave_their_times() -> None:
    """Row for row, fewer or more; what follows closes as it would without."""
    rows = [(n, n % 3) for n in range(60)]
    minutes = source(rows, 7).window(af.tumbling("5s"), by=["v"], n="count(*)")
    plain = await collect(minutes.window(af.tumbling("20s"), s="sum(n)", k="count(*)"))
    same = minutes.map(lambda batch: batch).window(af.tumbling("20s"), s="sum(n)", k="count(*)")
    assert await collect(same) == plain
    some = minutes.map(lambda batch: {name: batch[name][batch["v"] > 0] for name in batch.schema.names})
    filtered = minutes.filter("v > 0").window(af.tumbling("20s"), s="sum(n)", k="count(*)")
    assert await collect(some.window(af.tumbling("20s"), s="sum(n)", k="count(*)")) == await collect(filtered)
