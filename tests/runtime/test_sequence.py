"""A sequence of two sources: each row of the overlap once, one watermark, one stream."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

import asyncflow as af
from asyncflow.cli import run_command
from asyncflow.plan.tables import Component
from asyncflow.runtime import Run
from asyncflow.testing import ListSink, chunks, one_by_one

few = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])

Row = tuple[int, int]  # time in ms, id

SOURCES = """
name = "law"
[sources.history]
type = "stdin"
format = "csv"
schema = { ts = "timestamp[ms]", id = "int64" }
time = "ts"
watermark_delay = "2s"
[sources.live]
type = "file"
path = "-"
format = "json"
schema = { ts = "timestamp[ms]", id = "int64" }
time = "ts"
watermark_delay = "3s"
[sources.rows]
type = "sequence"
of = ["history", "live"]
"""
UNIQUE = 'unique = ["id"]\n'
WINDOW = """
[stages.w]
type = "window"
window = { tumbling = "5s" }
aggregates = { n = "count(*)", s = "sum(id)" }
"""


def sink(name: str, table: str) -> str:
    return f'[sinks.{name}]\ntype = "null"\nformat = {{ type = "json", timestamps = "ms" }}\ninputs = ["{table}"]\n'


ENDS = sink("rows_out", "rows") + sink("duplicate", "rows.duplicate") + sink("late", "rows.late")


def csv_bytes(rows: Sequence[Row]) -> bytes:
    return ("ts,id\n" + "".join(f"{ts},{number}\n" for ts, number in rows)).encode()


def json_bytes(rows: Sequence[Row]) -> bytes:
    return "".join(json.dumps({"id": number, "ts": ts}) + "\n" for ts, number in rows).encode()


def outcome(text: str, **pieces: list[bytes]) -> tuple[dict[str, bytes], dict[str, Any]]:
    plan = af.load(text).plan
    sinks = {each.name: ListSink() for each in plan.sinks}
    plan = replace(
        plan,
        sources=tuple(replace(s, connector=Component("python", object=pieces[s.name])) for s in plan.sources),
        sinks=tuple(replace(s, connector=Component("list", object=sinks[s.name])) for s in plan.sinks),
    )
    counts = asyncio.run(Run(plan).execute()).to_dict()
    del counts["seconds"]
    return {name: each.data for name, each in sinks.items()}, counts


def read(data: bytes) -> list[Row]:
    return [(row["ts"], row["id"]) for row in map(json.loads, data.splitlines())]


def twin(past: list[Row], live: list[Row], delay: int, *, unique: bool) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {"rows_out": list(past), "duplicate": [], "late": []}
    last = max((ts for ts, _ in past), default=None)
    begin = live[0][0] - delay if live else 0
    keys = {number for ts, number in past if ts >= begin}
    watermark: float = float("-inf")
    for ts, number in live:
        way = "rows_out"
        if last is not None and ts <= last:
            if not unique or number in keys:
                way = "duplicate"
            if unique and ts < watermark:
                way = "late"
        found[way].append((ts, number))
        watermark = max(watermark, ts - delay)
    return found


sides = st.lists(st.tuples(st.integers(0, 30_000), st.integers(0, 30)), max_size=40)


@pytest.mark.parametrize("unique", [True, False])
@few
@given(past=sides, live=sides, seed=st.integers(0, 100))
def test_it_is_its_twin_however_it_is_cut(unique: bool, past: list[Row], live: list[Row], seed: int) -> None:
    text = (
        SOURCES + (UNIQUE if unique else "") + WINDOW + ENDS + sink("windows", "w") + sink("w_late", "w.late")
    )
    history, rest = csv_bytes(past), json_bytes(live)
    sinks, ledger = outcome(text, history=[history], live=[rest])
    expected = twin(past, live, 3000, unique=unique)
    assert {name: read(sinks[name]) for name in expected} == expected
    counts = ledger["stages"]["rows"]
    assert counts["rows_in"] == len(past) + len(live)
    assert counts["rows_in"] == counts["rows_out"] + counts["duplicate"] + counts["late"]
    assert (counts["duplicate"], counts["late"]) == (len(expected["duplicate"]), len(expected["late"]))
    again = outcome(text, history=chunks(history, seed), live=chunks(rest, seed + 1))
    assert outcome(text, history=one_by_one(history), live=one_by_one(rest)) == again
    assert again == (sinks, ledger)


@few
@given(
    steps=st.lists(st.tuples(st.integers(0, 1500), st.integers(0, 1900)), min_size=1, max_size=60),
    cut=st.tuples(st.integers(0, 60), st.integers(0, 60)),
    seed=st.integers(0, 100),
)
def test_there_is_no_seam(steps: list[tuple[int, int]], cut: tuple[int, int], seed: int) -> None:
    """History is a stream's first rows, live its rows from before history's end: what comes out is the stream."""
    now, stream = 5_000, []
    for number, (step, back) in enumerate(steps):
        now += step
        stream.append((now - back, number))
    first, last = sorted(min(each, len(stream)) for each in cut)
    text = SOURCES + UNIQUE + WINDOW + sink("windows", "w") + sink("w_late", "w.late")
    whole, _ = outcome(text, history=[csv_bytes(stream)], live=[b""])
    parts, ledger = outcome(
        text, history=chunks(csv_bytes(stream[:last]), seed), live=chunks(json_bytes(stream[first:]), seed)
    )
    assert parts == whole
    assert whole["w_late"] == b""
    assert ledger["stages"]["rows"]["duplicate"] == last - first


def test_history_does_not_close_windows_that_live_rows_still_need() -> None:
    """12 s came in live only; history was at 20 s already."""
    past, live = [(1_000, 1), (12_500, 2), (20_000, 4)], [(12_000, 3), (12_500, 2), (20_000, 4), (40_000, 5)]
    text = (SOURCES + UNIQUE + WINDOW + sink("windows", "w")).replace('"2s"', '"0s"')
    sinks, ledger = outcome(text, history=[csv_bytes(past)], live=[json_bytes(live)])
    assert [(r["window_start"], r["n"], r["s"]) for r in map(json.loads, sinks["windows"].splitlines())] == [
        (0, 1, 1),
        (10_000, 2, 5),
        (20_000, 1, 4),
        (40_000, 1, 5),
    ]
    assert ledger["stages"]["w"]["late"] == 0
    counts = ledger["stages"]["rows"]
    assert (counts["history_last"], counts["live_first"]) == (20_000_000_000, 12_000_000_000)
    assert (counts["history_rows"], counts["duplicate"], counts["late"]) == (3, 2, 0)


def test_a_row_of_the_past_is_late_by_the_tables_own_watermark() -> None:
    """History was at 20 s, but live began at 14 s: what ends after 11 s is open still, and what ended before is closed."""
    past, live = [(20_000, 1), (12_000, 2), (3_000, 3)], [(14_000, 4)]
    text = (SOURCES + UNIQUE + WINDOW + sink("windows", "w") + sink("w_late", "w.late")).replace(
        '"2s"', '"0s"'
    )
    sinks, _ = outcome(text, history=[csv_bytes(past)], live=[json_bytes(live)])
    assert [row["s"] for row in map(json.loads, sinks["windows"].splitlines())] == [6, 1]
    assert read(sinks["w_late"]) == [(3_000, 3)]


async def numbers(count: int, start: int = 0) -> AsyncIterator[dict[str, Any]]:
    for number in range(start, start + count):
        yield {"ts": number, "id": number}


SCHEMA = {"ts": "timestamp[ms]", "id": "int64"}


def source(rows: Any, name: str) -> af.Flow:
    return af.source(rows, schema=SCHEMA, time="ts", name=name)


async def ids(flow: af.Flow) -> list[int]:
    return [number async for batch in flow for number in batch["id"].tolist()]


async def test_the_python_door() -> None:
    for unique in ((), ["id"], "id"):
        flow = af.sequence(
            source(numbers(10), "past"), source(numbers(10, 5), "live"), unique=unique, name="all"
        )
        assert await ids(flow) == list(range(15))
        assert flow["all.duplicate"].head == ("all.duplicate",)
    flow = af.sequence(source(numbers(4), "past"), source(numbers(4, 4), "live")).filter("id % 2 = 0")
    assert await ids(flow) == [0, 2, 4, 6]


async def test_what_is_read_of_the_two_is_the_same() -> None:
    """A side output makes one of them be read whole; the table has its columns in one order all the same."""
    wide = {**SCHEMA, "note": "string"}
    past = af.source([{"ts": 1, "id": 1, "note": "x"}], schema=wide, time="ts", name="past")
    live = af.source([{"ts": 2, "id": 2, "note": "y"}], schema=wide, time="ts", name="live")
    flow = af.sequence(past, live).window(by=["id"], n="count(*)")
    batches = [batch async for batch in flow["past.future"].to("null")[flow.head[0]]]
    assert [row for batch in batches for row in batch.to_pylist()] == [{"id": 1, "n": 1}, {"id": 2, "n": 1}]


async def test_live_is_opened_before_anything_of_the_past_is_read() -> None:
    """The past's own first act is to send to the live side."""
    run: Run | None = None

    async def past() -> AsyncIterator[dict[str, Any]]:
        assert run is not None
        listening = next(stage.connector for stage in run.wiring.sources if stage.source.name == "live")
        host, _, port = listening.addresses[0].rpartition(":")  # type: ignore[attr-defined]
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(json_bytes([(3, 3), (4, 4), (5, 5)]))
        await writer.drain()
        writer.close()
        await writer.wait_closed()
        for number in (1, 2, 3):
            yield {"ts": number, "id": number}

    taken: list[int] = []

    def take(row: dict[str, Any]) -> dict[str, Any]:
        taken.append(row["id"])
        if row["id"] == 5:
            assert run is not None
            run.stop()
        return row

    live = af.source("tcp", listen="127.0.0.1:0", format="json", schema=SCHEMA, time="ts", name="live")
    flow = af.sequence(source(past(), "past"), live).map_rows(take, schema=SCHEMA)
    run = Run(flow.to("null").checked())
    async with asyncio.timeout(30):
        await run.execute()
    assert taken == [1, 2, 3, 4, 5]


async def test_what_waits_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asyncflow.runtime.wiring.builders.sequence.LIVE_BUFFER_BYTES", 10_000)
    given: list[int] = []

    async def live() -> AsyncIterator[dict[str, Any]]:
        for number in range(100, 140):
            given.append(number)
            yield {"ts": np.full(1000, number), "id": np.full(1000, number)}
            for _ in range(5):
                await asyncio.sleep(0)

    async def past() -> AsyncIterator[dict[str, Any]]:
        for _ in range(2000):
            await asyncio.sleep(0)
        held.append(len(given))
        yield {"ts": 1, "id": 1}

    held: list[int] = []
    monkeypatch.setattr("asyncflow.runtime.ingest.python.pull.MAX_ITEMS", 4)
    async with asyncio.timeout(30):
        rows = await ids(af.sequence(source(past(), "past"), source(live(), "live")))
    assert held[0] < 20
    assert rows == [1, *(number for number in range(100, 140) for _ in range(1000))]


@pytest.mark.parametrize("unique", [True, False])
async def test_a_stop_ends_it_wherever_it_is(unique: bool) -> None:
    """Live is silent for ever; by keys the past then waits too."""

    async def silent() -> AsyncIterator[dict[str, Any]]:
        await asyncio.Event().wait()
        yield {}

    flow = af.sequence(source(numbers(3), "past"), source(silent(), "live"), unique=["id"] if unique else [])
    run = Run(flow.to("null").checked())
    task = asyncio.create_task(run.execute())
    for _ in range(200):
        await asyncio.sleep(0)
    run.stop()
    async with asyncio.timeout(30):
        ledger = (await task).to_dict()
    assert ledger["sinks"]["sink_1"]["rows"] == ledger["sources"]["past"]["rows"] <= 3


@pytest.mark.parametrize("unique", ["", UNIQUE])
@pytest.mark.parametrize(("past", "live"), [([], []), ([(1, 1)], []), ([], [(1, 1)])])
def test_empty_sides(unique: str, past: list[Row], live: list[Row]) -> None:
    text = SOURCES + unique + ENDS
    sinks, _ = outcome(text, history=[csv_bytes(past)], live=[json_bytes(live)])
    assert [read(sinks[name]) for name in ("rows_out", "duplicate", "late")] == [[*past, *live], [], []]


def test_the_keys_of_the_overlap_go_when_live_has_passed_it() -> None:
    held: list[int] = []
    run: Run | None = None

    async def past() -> AsyncIterator[dict[str, Any]]:
        for start in range(0, 200_000, 10_000):
            yield {"ts": np.arange(start, start + 10_000), "id": np.arange(start, start + 10_000)}

    async def live() -> AsyncIterator[dict[str, Any]]:
        for start in range(150_000, 400_000, 10_000):
            yield {"ts": np.arange(start, start + 10_000), "id": np.arange(start, start + 10_000)}
            assert run is not None
            held.append(run.state_bytes)

    flow = af.sequence(source(past(), "past"), source(live(), "live"), unique=["id"]).window(n="count(*)")
    run = Run(flow.to("null").checked())
    ledger = asyncio.run(run.execute()).to_dict()
    counts = ledger["stages"]["source_1"]
    assert counts["rows_out"] == 400_000
    assert counts["duplicate"] == 50_000
    operator = next(stage.operator for stage in run.wiring.stages if stage.name == "source_1")
    assert operator is not None
    assert operator.state_bytes == 0
    assert max(held) < 8 << 20  # those of 50 000 rows, not of 200 000


def test_the_hand_over_is_told(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="asyncflow.sequence"):
        outcome(
            SOURCES + ENDS,
            history=[csv_bytes([(1000, 1), (2000, 2)])],
            live=[json_bytes([(2000, 2), (9000, 3)])],
        )
    assert caplog.messages == [
        "rows: the past has ended after 2 rows, the last at 1970-01-01 00:00:02: live from here",
        "rows: the overlap is over: live began at 1970-01-01 00:00:02; 1 rows were there already, 0 were late",
    ]


TRIAL = """
[[tests]]
name = "an order that both have counts once"
feed = [
    { table = "history", rows = [{ ts = 1000, id = 1 }, { ts = 7000, id = 2 }] },
    { table = "live", rows = [{ ts = 7000, id = 2 }, { ts = 8000, id = 3 }] },
    { advance = "20s" },
    { table = "live", rows = [{ ts = 30000, id = 4 }] },
]
expect = [{ table = "w", rows = [{ n = 1, s = 1 }, { n = 2, s = 5 }, { n = 1, s = 4 }] }]
"""


@pytest.mark.parametrize("unique", ["", UNIQUE])
def test_a_pipelines_own_tests_come_to_rest(unique: str, tmp_path: Path) -> None:
    path = tmp_path / "pipeline.toml"
    path.write_text(SOURCES + unique + WINDOW + sink("windows", "w") + TRIAL)
    assert run_command(["test", str(path)]) == 0
