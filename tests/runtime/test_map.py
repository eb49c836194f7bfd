"""The user's function: several calls at once, order, watermarks, timeouts, rejects, and nothing left under way."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest

import asyncflow as af
from asyncflow.errors import PipelineError, StageError
from asyncflow.runtime import Run
from tests.runtime.flows_runtime import collect

SECOND = 1_000_000_000
SCHEMA = {"ts": "timestamp[s]", "v": "int64"}
RESULT = {"ts": "timestamp", "v": "int64"}


async def one_by_one(rows: list[dict[str, Any]]) -> AsyncIterator[dict[str, Any]]:
    """Each row a batch of its own, so each has a watermark after it."""
    for row in rows:
        yield row
        for _ in range(5):
            await asyncio.sleep(0)


def numbered(count: int, step: int = 1) -> list[dict[str, Any]]:
    return [{"ts": n * step, "v": n} for n in range(count)]


class Answers:
    """An async function whose calls are answered in an order drawn by ``seed``, once no more calls come."""

    def __init__(self, seed: int = 0) -> None:
        self._chance = random.Random(seed)
        self.waiting: list[tuple[Any, asyncio.Future[None]]] = []
        self.under_way = self.most = 0
        self.cancelled = 0

    async def __call__(self, argument: Any) -> Any:
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.waiting.append((argument, future))
        try:
            await future
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.under_way -= 1
        return argument

    async def answer_all(self) -> None:
        while True:
            seen = -1
            while len(self.waiting) != seen:
                seen = len(self.waiting)
                for _ in range(20):
                    await asyncio.sleep(0)
            if self.waiting:
                _, future = self.waiting.pop(self._chance.randrange(len(self.waiting)))
                future.set_result(None)


@asynccontextmanager
async def answered(function: Answers) -> AsyncIterator[None]:
    task = asyncio.create_task(function.answer_all())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("rows_at_once", [True, False])
@pytest.mark.parametrize("whole", [True, False])
async def test_in_order_whoever_is_first(seed: int, rows_at_once: bool, whole: bool) -> None:
    function = Answers(seed)
    rows = numbered(40)
    flow = af.source(rows if whole else one_by_one(rows), schema=SCHEMA, time="ts")
    mapped = (flow.map_rows if rows_at_once else flow.map)(function, schema=RESULT, concurrency=7)
    async with answered(function):
        got = await collect(mapped)
    assert [row["v"] for row in got] == list(range(40))
    assert function.most <= 7
    if rows_at_once or not whole:
        assert function.most == 7


@pytest.mark.parametrize("seed", range(5))
async def test_order_is_free_between_watermarks_and_never_across(seed: int) -> None:
    """Rows of one batch may be swapped; what a watermark stands between stays apart, so no window misses a row."""
    function = Answers(seed)
    batches = [{"ts": np.full(6, 10 * n, np.int64), "v": np.arange(6 * n, 6 * n + 6)} for n in range(6)]

    async def source() -> AsyncIterator[dict[str, Any]]:
        for batch in batches:
            yield batch
            await asyncio.sleep(0)

    flow = af.source(source(), schema=SCHEMA, time="ts")
    mapped = flow.map_rows(function, schema=RESULT, concurrency=4, ordered=False)
    async with answered(function):
        got = [row["v"] for row in await collect(mapped)]
    assert got != sorted(got)
    assert [sorted(got[n : n + 6]) for n in range(0, 36, 6)] == [
        list(range(n, n + 6)) for n in range(0, 36, 6)
    ]


@pytest.mark.parametrize("ordered", [True, False])
async def test_a_watermark_does_not_overtake_rows(ordered: bool) -> None:
    function = Answers(3)
    flow = af.source(one_by_one(numbered(30, 5)), schema=SCHEMA, time="ts")
    windows = flow.map_rows(function, schema=RESULT, concurrency=8, ordered=ordered).window(
        af.tumbling("10s"), n="count(*)"
    )
    async with answered(function):
        assert [row["n"] for row in await collect(windows)] == [2] * 15


async def test_no_more_is_read_than_can_be_under_way() -> None:
    taken = 0

    async def source() -> AsyncIterator[dict[str, Any]]:
        nonlocal taken
        for row in numbered(1000):
            taken += 1
            yield row
            for _ in range(5):
                await asyncio.sleep(0)

    function = Answers()
    flow = af.source(source(), schema=SCHEMA, time="ts").map_rows(function, concurrency=3).to("null")
    run = Run(flow.checked())
    task = asyncio.create_task(run.execute())
    for _ in range(500):
        await asyncio.sleep(0)
    assert function.under_way == 3
    assert len(function.waiting) == 3
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert function.under_way == 0
    assert function.cancelled == 3


@pytest.mark.parametrize("concurrency", [1, 4])
@pytest.mark.parametrize("rows_at_once", [True, False])
async def test_a_failing_call_fails_the_run_once_and_ends_the_others(
    concurrency: int, rows_at_once: bool
) -> None:
    closed = []

    async def function(argument: Any) -> Any:
        value = argument["v"] if rows_at_once else int(argument["v"][0])
        try:
            if value == 2:
                raise KeyError("no such key")
            if value > 2:
                await asyncio.Event().wait()
        finally:
            closed.append(value)
        return argument

    flow = af.source(one_by_one(numbered(9)), schema=SCHEMA, time="ts")
    mapped = (flow.map_rows if rows_at_once else flow.map)(function, schema=RESULT, concurrency=concurrency)
    with pytest.raises(StageError, match=r"looked_up: KeyError: 'no such key'") as raised:
        await collect(mapped.named("looked_up"))
    assert isinstance(raised.value.__cause__, KeyError)
    assert closed[:3] == [0, 1, 2]
    assert sorted(closed) == list(range(len(closed)))


@pytest.mark.parametrize("concurrency", [1, 4])
async def test_rows_that_fail_are_rejected_with_the_reason(concurrency: int) -> None:
    async def function(row: dict[str, Any]) -> Any:
        match row["v"]:
            case 1:
                raise ValueError("it is one")
            case 3:
                await asyncio.Event().wait()
            case 4:
                return None
            case 5:
                return {"ts": row["ts"], "v": "five"}
            case 6:
                return [6]
        return row

    flow = (
        af.source(numbered(8), schema=SCHEMA, time="ts")
        .map_rows(function, schema=RESULT, concurrency=concurrency, timeout="50ms", on_error="reject")
        .named("m")
        .to("null")
    )
    assert [row["v"] for row in await collect(flow)] == [0, 2, 7]
    rejected = await collect(flow["m.rejected"])
    assert [(row["reason"], row["position"]) for row in rejected] == [
        ("ValueError: it is one", "row 2"),
        ("no answer within 50ms", "row 4"),
        ('v: not an int64: "five"', "row 6"),
        ("TypeError: the function of map_rows gives a dict or None, not list", "row 7"),
    ]
    assert rejected[0]["record"] == "{'ts': 1000000000, 'v': 1}"
    ledger = (await flow.run()).to_dict()["stages"]["m"]
    assert {key: ledger[key] for key in ("rows_in", "filtered", "rejected", "rows_out")} == {
        "rows_in": 8,
        "filtered": 1,
        "rejected": 4,
        "rows_out": 3,
    }


@pytest.mark.parametrize("concurrency", [1, 4])
async def test_a_batch_that_fails_is_rejected_row_by_row(concurrency: int) -> None:
    async def function(batch: af.Batch) -> Any:
        if 3 in batch["v"]:
            raise ConnectionError("gone")
        return batch

    batches = [{"ts": np.arange(n, n + 2), "v": np.arange(n, n + 2)} for n in range(0, 6, 2)]

    async def source() -> AsyncIterator[dict[str, Any]]:
        for batch in batches:
            yield batch
            for _ in range(5):
                await asyncio.sleep(0)

    flow = af.source(source(), schema=SCHEMA, time="ts").map(
        function, schema=RESULT, concurrency=concurrency, on_error="reject"
    )
    got = await collect(flow["stage_1.rejected"])
    assert [(row["reason"], row["position"]) for row in got] == [
        ("ConnectionError: gone", "row 3"),
        ("ConnectionError: gone", "row 4"),
    ]


async def test_a_timeout_fails_the_run_by_name() -> None:
    async def never(_row: Any) -> None:
        await asyncio.Event().wait()

    flow = af.source(numbered(3), schema=SCHEMA).map_rows(never, concurrency=2, timeout="20ms").named("slow")
    with pytest.raises(StageError, match=r"^slow: no answer within 20ms$"):
        await collect(flow)


async def test_a_timeout_of_the_functions_own_is_told_as_such() -> None:
    async def impatient(_row: Any) -> None:
        raise TimeoutError("mine")

    flow = af.source(numbered(1), schema=SCHEMA).map_rows(impatient, timeout="1m")
    with pytest.raises(StageError, match="TimeoutError: mine"):
        await collect(flow)


async def test_lookups_in_a_server() -> None:
    """Four connections to a server on loopback, each answering for itself; as many lookups under way, results in order."""
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        turns = random.Random(connections)
        while line := await reader.readline():
            for _ in range(turns.randrange(50)):
                await asyncio.sleep(0)
            writer.write(b"%d\n" % (int(line) ** 2))
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()[:2]
    idle: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()
    for _ in range(4):
        idle.put_nowait(await asyncio.open_connection(*address))

    async def squared(row: dict[str, Any]) -> dict[str, Any]:
        reader, writer = connection = idle.get_nowait()  # never more under way than there are connections
        writer.write(b"%d\n" % row["v"])
        answer = int(await reader.readline())
        idle.put_nowait(connection)
        return {**row, "square": answer}

    flow = af.source(numbered(200), schema=SCHEMA, time="ts").map_rows(squared, concurrency=4, timeout="10s")
    try:
        rows = await asyncio.wait_for(collect(flow), 30)
    finally:
        while not idle.empty():
            writer = idle.get_nowait()[1]
            writer.close()
            await writer.wait_closed()
        server.close()
        await server.wait_closed()
    assert [(row["v"], row["square"]) for row in rows] == [(n, n * n) for n in range(200)]
    assert connections == 4


async def test_an_input_that_has_no_rows() -> None:
    flow = af.source([], schema=SCHEMA, time="ts").map_rows(Answers(), concurrency=3)
    assert await collect(flow) == []


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"concurrency": 0}, r"stages\.stage_1\.concurrency: it must be at least 1"),
        ({"timeout": "soon"}, r"stages\.stage_1\.timeout: not a duration: 'soon'"),
        ({"timeout": "0s"}, r"stages\.stage_1\.timeout: it must be longer than 0s"),
        ({"on_error": "rejct"}, r"stages\.stage_1\.on_error: .*did you mean 'reject'"),
    ],
)
async def test_options_that_cannot_be(options: dict[str, Any], told: str) -> None:
    with pytest.raises(PipelineError, match=told):
        af.source([], schema=SCHEMA).map(len, **options).checked()


def test_explain_says_how_it_is_called() -> None:
    flow = af.source([], schema=SCHEMA).map_rows(
        len, concurrency=8, ordered=False, timeout="2s", on_error="reject"
    )
    assert "calls up to 8 at once, in any order, timeout 2s, failures rejected" in flow.explain()
    assert "calls" not in af.source([], schema=SCHEMA).map_rows(len).explain()
