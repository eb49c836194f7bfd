"""The engine as a whole: empty inputs, several sources, arrival time, side outputs, maps, errors."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import asyncflow as af
from asyncflow.errors import DataError, InternalError, PipelineError, StageError
from asyncflow.model.messages import End
from asyncflow.runtime import infer_schemas
from asyncflow.runtime.run.run import Run
from asyncflow.runtime.stages.stage import told
from tests.runtime.flows_runtime import collect, write

SECOND = 1_000_000_000


async def test_an_empty_input_has_no_rows_whatever_the_plan_names(tmp_path: Path) -> None:
    empty = write(tmp_path / "empty.csv", "")
    flow = af.source("file", path=str(empty)).filter("qty > 0").window(by=["key"], n="count(*)")
    assert await collect(flow) == []


async def test_an_empty_file_before_others_does_not_hide_their_schema(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", "")
    write(tmp_path / "b.csv", "key,qty\nx,2\n")
    flow = af.source("file", path=str(tmp_path / "*.csv")).window(by=["key"], total="sum(qty)")
    assert await collect(flow) == [{"key": "x", "total": 2}]


async def test_no_rows_in_python() -> None:
    assert await collect(af.source([]).window(n="count(*)")) == []


async def test_a_header_and_no_rows(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "key,qty\n")
    out = tmp_path / "out.csv"
    await af.source("file", path=str(path)).filter("key = 'a'").to("file", path=str(out), format="csv").run()
    assert out.read_text() == "key,qty\n"


async def test_columns_that_are_not_there_are_a_pipeline_error_once_the_schema_is_known(
    tmp_path: Path,
) -> None:
    path = write(tmp_path / "a.csv", "key,qty\na,1\n")
    with pytest.raises(PipelineError, match=r"no column 'qtty'.*qty"):
        await collect(af.source("file", path=str(path)).filter("qtty > 0"))


async def test_inferred_schemas_are_told(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.ndjson", '{"ts": "2024-01-01T00:00:00Z", "n": 1, "x": 2.5, "s": "t", "b": true}\n'
    )
    schemas = await infer_schemas(af.source("file", path=str(path)).plan)
    assert [(f.name, f.type_text) for f in schemas["source_1"]] == [
        ("ts", "timestamp"),
        ("n", "int64"),
        ("x", "float64"),
        ("s", "string"),
        ("b", "bool"),
    ]


async def test_on_error_fail_stops_at_the_record(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "key,qty\na,1\nb,two\nc,3\n")
    flow = af.source("file", path=str(path), schema={"key": "string", "qty": "int64"}, on_error="fail")
    with pytest.raises(DataError, match=r"source_1: .*a\.csv:3 .*not an int64.*two"):
        await collect(flow)


async def test_rejected_records_come_with_their_place(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "key,qty\na,1\nb,two\nc,3,4\nd,5\n")
    flow = af.source("file", path=str(path), schema={"key": "string", "qty": "int64"})
    rows = await collect(flow["source_1.rejected"])
    assert [row["record"] for row in rows] == ["b,two", "c,3,4"]
    assert [row["position"].rsplit("/", 1)[1] for row in rows] == ["a.csv:3 (byte 12)", "a.csv:4 (byte 18)"]
    assert rows[1]["reason"] == "expected 2 fields, found 3"


async def test_rows_from_the_future_do_not_move_the_watermark() -> None:
    rows = [{"ts": t * SECOND, "k": "a"} for t in (1, 2, 4_000_000_000, 3, 20)]
    source = af.source(rows, schema={"ts": "timestamp[ns]", "k": "string"}, time="ts")
    counted = await collect(source.window(af.tumbling("10s"), n="count(*)"))
    assert [row["n"] for row in counted] == [3, 1]
    assert [row["ts"] for row in await collect(source["source_1.future"])] == [4_000_000_000 * SECOND]


async def test_windows_close_by_the_clock_when_nothing_more_comes() -> None:
    async def one_then_quiet() -> AsyncIterator[dict[str, Any]]:
        yield {"k": "a"}
        await asyncio.sleep(60)

    flow = af.source(one_then_quiet(), schema={"k": "string"}).window(
        af.tumbling("200ms"), by=["k"], n="count(*)"
    )
    batches = flow.__aiter__()
    batch = await asyncio.wait_for(anext(batches), 10)
    assert batch.to_pylist()[0]["n"] == 1
    await batches.aclose()  # type: ignore[attr-defined]


async def test_bounded_sources_are_read_in_step_with_event_time() -> None:
    """However far one file is ahead in its own time, the union comes in the order of event time: nothing is late."""
    schema = {"ts": "timestamp[ns]", "v": "int64"}
    flows = []
    for start in (0, 1):
        rows = [{"ts": (2 * n + start) * SECOND, "v": n} for n in range(500)]
        flows.append(af.source(rows, schema=schema, time="ts"))
    union = af.union(*flows).window(af.tumbling("10s"), n="count(*)", first="first(v)", last="last(v)")
    rows = await collect(union)
    assert [row["n"] for row in rows] == [10] * 100
    assert [row["first"] for row in rows] == [5 * n for n in range(100)]


async def test_a_live_union_goes_by_the_lowest_watermark() -> None:
    schema = {"ts": "timestamp[ns]", "v": "int64"}

    async def slow() -> AsyncIterator[dict[str, Any]]:
        for n in range(5):
            await asyncio.sleep(0.01)
            yield {"ts": n * 10 * SECOND, "v": 1}

    async def quick() -> AsyncIterator[dict[str, Any]]:
        for n in range(50):
            yield {"ts": n * SECOND, "v": 1}

    flows = [af.source(each(), schema=schema, time="ts") for each in (slow, quick)]
    rows = await collect(af.union(*flows).window(af.tumbling("10s"), n="count(*)"))
    assert [row["n"] for row in rows] == [11] * 5


async def test_map_and_map_rows_plain_and_async() -> None:
    source = af.source([{"a": 1}, {"a": 2}, {"a": 3}], schema={"a": "int64"})

    async def doubled(batch: af.Batch) -> dict[str, Any]:
        await asyncio.sleep(0)
        return {"a": batch["a"] * 2, "half": batch["a"] / 2}

    assert await collect(source.map(doubled)) == [
        {"a": 2, "half": 0.5},
        {"a": 4, "half": 1.0},
        {"a": 6, "half": 1.5},
    ]
    odd = source.map_rows(lambda row: {"a": row["a"], "t": "odd"} if row["a"] % 2 else None)
    assert await collect(odd.window(by=["t"], total="sum(a)")) == [{"t": "odd", "total": 4}]


async def test_arrays_and_batches_in() -> None:
    arrays = {
        "t": np.array(["2024-01-01", "NaT"], "datetime64[s]"),
        "s": np.array(["x", None], object),
        "v": np.arange(2.0),
    }
    flow = af.source([arrays], schema={"t": "timestamp", "s": "string", "v": "float64"})
    rows = await collect(flow)
    assert rows == [{"t": 1704067200 * SECOND, "s": "x", "v": 0.0}, {"t": None, "s": None, "v": 1.0}]
    batches = [batch async for batch in flow]
    assert await collect(af.source(batches)) == rows


async def test_a_row_that_does_not_fit_is_rejected_alone() -> None:
    rows = [{"a": 1}, {"a": "x"}, {"a": 2**63}, {"a": True}, {}, {"a": 5}]
    ledger = await af.source(rows, schema={"a": "int64"}).to("null").run()
    counts = ledger.to_dict()["sources"]["source_1"]
    assert (counts["rows"], counts["rejected"], counts["rows_out"]) == (6, 3, 3)


async def test_every_batch_reads_as_arrow_and_pandas() -> None:
    flow = af.source([{"a": 1, "s": "x"}, {"a": None, "s": None}], schema={"a": "int64", "s": "string"})
    batches = [batch async for batch in flow]
    assert len(batches) == 1
    for batch in batches:
        assert batch.to_arrow().to_pylist() == [{"a": 1, "s": "x"}, {"a": None, "s": None}]
        assert json.loads(batch.to_pandas().to_json(orient="records")) == [
            {"a": 1, "s": "x"},
            {"a": None, "s": None},
        ]


async def test_a_flow_over_an_endless_iterable_of_bytes_can_be_stopped() -> None:
    waits, closed = asyncio.Event(), asyncio.Event()

    async def lines() -> AsyncIterator[bytes]:
        try:
            yield b"a\n1\n2\n"
            waits.set()
            await asyncio.Event().wait()
        finally:
            closed.set()

    flow = af.source(lines(), format="csv", schema={"a": "int64"}).window(n="count(*)")
    run = Run(flow.to("null").checked())
    execution = asyncio.create_task(run.execute("stage_1"))
    await asyncio.wait_for(waits.wait(), 10)
    run.stop()
    rows = []
    while not isinstance(message := (await asyncio.wait_for(run.results.receive(), 10))[1], End):
        rows += message.to_pylist() if isinstance(message, af.Batch) else []
    await asyncio.wait_for(execution, 10)
    assert rows == [{"n": 2}]
    assert closed.is_set()


@pytest.mark.parametrize("side", ["past.future", "live.future"])
async def test_a_union_takes_the_same_columns_whatever_else_is_read_of_each(side: str) -> None:
    """A side output makes one source be read whole, and each has its time elsewhere: rows of both must still mean the same."""
    schema = {"ts": "timestamp", "extra": "int64", "at": "timestamp", "key": "int64"}
    rows = [{"ts": 1, "extra": 100 + key, "at": 2, "key": key} for key in (1, 2)]
    past = af.source(rows, schema=schema, time="ts", name="past")
    live = af.source(rows, schema=schema, time="at", name="live")
    flow = af.union(past, live).window(by=["key"], n="count(*)")
    flow = flow[side].to("null")[flow.head[0]]
    assert [row async for batch in flow for row in batch.to_pylist()] == [
        {"key": 1, "n": 2},
        {"key": 2, "n": 2},
    ]


@pytest.mark.parametrize("first", [0, 1])
async def test_a_union_takes_of_each_table_what_all_pass_on(first: int) -> None:
    """One of them is read whole by somebody else."""
    rows = [{"ts": t * SECOND, "v": t, "w": 2 * t} for t in range(4)]
    schema = {"ts": "timestamp[ns]", "v": "int64", "w": "int64"}
    one, other = (af.source(rows, name=name, schema=schema, time="ts") for name in "ab")
    whole = one.to("null", name="whole", format="json")
    pair = (whole, other) if first else (other, whole)
    counted = af.union(*pair).filter("v > 0").window(af.tumbling("2s"), n="count(*)", total="sum(v)")
    assert [(row["n"], row["total"]) for row in await collect(counted)] == [(2, 2), (4, 10)]


def test_what_an_operator_of_ours_raises_is_our_fault() -> None:
    failure = told(TypeError("takes 3 arguments"), "per_minute")
    assert isinstance(failure, InternalError) and not isinstance(failure, StageError)
    assert str(failure) == "per_minute: TypeError: takes 3 arguments"
