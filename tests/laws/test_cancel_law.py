"""Cancel law: stopped anywhere, nothing is left open, and no exception is lost."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import asyncflow as af
from asyncflow.errors import StageError
from asyncflow.runtime import Run
from tests.laws.flows import csv_bytes, pipeline


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def other_tasks() -> set[asyncio.Task[Any]]:
    return {task for task in asyncio.all_tasks() if task is not asyncio.current_task()}


async def endless() -> AsyncIterator[dict[str, Any]]:
    number = 0
    while True:
        yield {"ts": number * 100, "key": "ab"[number % 2]}
        number += 1
        if number % 50 == 0:
            await asyncio.sleep(0)


def flow_of(source: Any) -> af.Flow:
    schema = {"ts": "timestamp[ms]", "key": "string"}
    return af.source(source, schema=schema, time="ts").window(af.tumbling("1s"), by=["key"], n="count(*)")


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "rows.csv"
    path.write_bytes(csv_bytes([(n * 10, "abc"[n % 3], n / 3, n) for n in range(20_000)]))
    return path


async def test_leaving_the_loop_closes_everything() -> None:
    before, tasks = open_files(), other_tasks()
    batches = flow_of(endless()).__aiter__()
    async for batch in batches:
        assert batch.num_rows
        break
    await batches.aclose()  # type: ignore[attr-defined]
    assert other_tasks() == tasks
    assert open_files() == before


async def test_an_iterator_let_go_closes_everything() -> None:
    tasks = other_tasks()
    async for _ in flow_of(endless()):
        break
    for _ in range(1000):
        await asyncio.sleep(0.01)
        if other_tasks() == tasks:
            break
    assert other_tasks() == tasks


@pytest.mark.parametrize("workers", [1, 3])
async def test_cancelled_at_any_moment(table: Path, tmp_path: Path, workers: int) -> None:
    text = pipeline("hopping").replace('type = "stdin"', f'type = "file"\npath = "{table}"')
    chance = random.Random(5)
    before, tasks, cancelled = open_files(), other_tasks(), 0
    for round_ in range(25):
        plan = af.load(
            text.replace(
                'type = "null"\nformat = "json"\ninputs = ["w"]',
                f'''
            type = "file"
            path = "{tmp_path}/out-{round_}.json"
            inputs = ["w"]
            format = "json"''',
            )
        ).plan
        task = asyncio.create_task(Run(plan, workers=workers).execute())
        await asyncio.sleep(chance.random() * 0.02)
        if task.cancel():
            with pytest.raises(asyncio.CancelledError):
                await task
            cancelled += 1
        else:  # it was done before
            await task
        assert other_tasks() == tasks
    assert cancelled
    assert open_files() == before


async def test_an_exception_in_a_stage_arrives_once_with_its_name() -> None:
    def broken(batch: af.Batch) -> af.Batch:
        raise ZeroDivisionError("in the user's code")

    tasks = other_tasks()
    flow = flow_of(endless()).map(broken).named("mine")
    with pytest.raises(StageError, match=r"^mine: ZeroDivisionError: in the user's code$") as caught:
        async for _ in flow:
            raise AssertionError("no batch can come")
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert other_tasks() == tasks


async def test_an_exception_in_the_users_source_arrives() -> None:
    async def failing() -> AsyncIterator[dict[str, Any]]:
        yield {"ts": 1, "key": "a"}
        raise RuntimeError("the sensor is gone")

    tasks = other_tasks()
    with pytest.raises(StageError, match=r"^source_1: RuntimeError: the sensor is gone$") as caught:
        async for _ in flow_of(failing()):
            pass
    assert isinstance(caught.value.__cause__, RuntimeError)
    assert other_tasks() == tasks


async def test_a_blocked_consumer_blocks_nobody_else() -> None:
    """Two flows in one loop; the rows of one are not taken: the other goes on to its end."""
    stuck = flow_of(endless()).__aiter__()
    await anext(stuck)
    rows = [{"ts": n, "key": "k"} for n in range(5000)]
    total = sum([int(batch["n"].sum()) async for batch in flow_of(rows)])
    assert total == 5000
    await stuck.aclose()  # type: ignore[attr-defined]


async def test_backpressure_reaches_the_source() -> None:
    """A consumer that takes nothing: the source is asked for no more than the channels hold."""
    asked = 0

    async def counting() -> AsyncIterator[bytes]:
        nonlocal asked
        while True:
            asked += 1
            yield b"x" * 1000 + b"\n"

    flow = af.source(counting(), format="lines")
    batches = flow.__aiter__()
    await anext(batches)
    for _ in range(200):
        await asyncio.sleep(0)
    held = asked
    for _ in range(200):
        await asyncio.sleep(0)
    assert asked == held
    assert asked * 1000 < 64 << 20
    await batches.aclose()  # type: ignore[attr-defined]


async def test_stop_lets_what_was_read_flow_out(tmp_path: Path) -> None:
    rows = endless()
    plan = flow_of(rows).to("file", path=str(tmp_path / "out.json"), format="json").checked()
    run = Run(plan)
    task = asyncio.create_task(run.execute())
    await asyncio.sleep(0.1)
    run.stop()
    ledger = await asyncio.wait_for(task, 10)
    counted = ledger.to_dict()
    assert counted["sources"]["source_1"]["rows"] == counted["stages"]["stage_1"]["aggregated"] > 0
    assert counted["stages"]["stage_1"]["windows_opened"] == counted["stages"]["stage_1"]["windows_closed"]
