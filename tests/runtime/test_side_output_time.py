"""Side outputs are tables in time: windows over them close while the input is open; unions of what ends are always in one order."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

import asyncflow as af
from asyncflow.plan.tables import Component, Sink
from asyncflow.runtime import Run
from asyncflow.runtime.checks.verify import verify
from asyncflow.testing import FakeClock, ListSink
from tests.runtime.flows_runtime import SECOND, Running, Tap, collect, write

SCHEMA = {"ts": "timestamp[s]", "who": "string"}
BAD = {"ts": "no time"}


def source(tap: Any, name: str = "s", **options: Any) -> af.Flow:
    return af.source(tap, name=name, schema=SCHEMA, time="ts", **options)


def joined(tap: Tap) -> af.Flow:
    """The right side says how far it is by a last row."""
    right = source([{"ts": 1, "who": "x"}], name="right")
    return source(tap).join(right, on=["who"], within="1s").named("t")


def refusing(row: dict[str, Any]) -> dict[str, Any]:
    if row["who"] == "bad":
        raise ValueError("it is bad")
    return row


LATE = [5, 25, 6, 65]  # the third is late for what ends by 25, and [0, 60) is over with the fourth
WAYS: dict[str, tuple[Callable[[Tap], af.Flow], list[Any]]] = {
    "s.rejected": (source, [5, BAD, 65]),
    "window.late": (lambda tap: source(tap).window(af.tumbling("10s"), n="count(*)").named("t"), LATE),
    "sessions.late": (lambda tap: source(tap).window(af.session("5s"), n="count(*)").named("t"), LATE),
    "corrected.late": (
        lambda tap: source(tap).window(af.tumbling("5s"), allowed_lateness="5s", n="count(*)").named("t"),
        LATE,
    ),
    "updated.late": (
        lambda tap: source(tap).window(af.tumbling("5s"), emit={"every": "1s"}, n="count(*)").named("t"),
        LATE,
    ),
    "top.late": (lambda tap: source(tap).top(1, order=["who"], window=af.tumbling("10s")).named("t"), LATE),
    "join.late": (joined, LATE),
    "dedup.duplicate": (lambda tap: source(tap).dedup(by=["who"], within="10s").named("t"), [5, 6, 65]),
    "map.rejected": (
        lambda tap: source(tap).map_rows(refusing, on_error="reject").named("t"),
        [5, {"ts": 6, "who": "bad"}, 65],
    ),
    "sequence.duplicate": (
        lambda tap: af.sequence(source([{"ts": 6, "who": "x"}], name="past"), source(tap), name="t"),
        [4, 65],
    ),
    "sequence.late": (
        lambda tap: af.sequence(
            source([{"ts": 40, "who": "x"}], name="past"), source(tap), unique=["who"], name="t"
        ),
        [7, 30, 6, 65],
    ),
}


@pytest.mark.parametrize("way", WAYS)
async def test_windows_over_a_side_output_close_while_the_input_is_open(way: str) -> None:
    flow, rows = WAYS[way]
    tap = Tap()
    table = way if way.startswith("s.") else f"t.{way.partition('.')[2]}"
    running = Running(flow(tap)[table].window(af.tumbling("60s"), n="count(*)").named("w"))
    for row in rows:
        tap.give({"ts": row, "who": "x"} if isinstance(row, int) else row)
        await running.settle()
    await running.until(lambda: bool(running.rows))
    assert running.rows[0][0] == 0
    tap.end()
    await running.end()


async def test_windows_over_future_rows_close_when_the_source_comes_there() -> None:
    tap = Tap()
    running = Running(
        source(tap, max_future="1h")["s.future"].window(af.tumbling("60s"), n="count(*)").named("w")
    )
    tap.say(1000, 7200)
    await running.settle()
    running.clock.advance(7000)
    tap.say(7300)
    await running.until(lambda: running.rows == [(7200, 1)])
    tap.end()
    await running.end()


@given(
    rows=st.lists(st.one_of(st.integers(100, 140), st.none(), st.just(10**7)), max_size=12),
    cuts=st.lists(st.booleans(), min_size=12, max_size=12),
)
def test_a_rejected_record_has_the_time_that_its_source_had_come_to(
    rows: list[int | None], cuts: list[bool]
) -> None:
    """The same however the input is cut: the greatest time of the rows before it, none of them from the future; else the epoch."""
    text = [b'{"ts": "no"}\n' if row is None else b'{"ts": %d, "who": "x"}\n' % row for row in rows]
    pieces: list[bytes] = []
    for line, cut in zip(text, cuts, strict=False):
        if cut or not pieces:
            pieces.append(line)
        else:
            pieces[-1] += line
    flow = source(pieces, format="json", watermark_delay="3s")["s.rejected"].window(
        af.tumbling("1s"), n="count(*)"
    )
    sink = ListSink()
    plan = flow.to("null").plan
    plan = replace(
        plan, sinks=(Sink("o", plan.sinks[0].inputs, Component("list", object=sink), Component("json")),)
    )
    asyncio.run(Run(plan, clock=FakeClock(1000 * SECOND)).execute())
    expected: dict[int, int] = {}
    reached = 0
    for row in rows:
        if row is None:
            expected[reached] = expected.get(reached, 0) + 1
        elif row < 10**6:
            reached = max(reached, row)
    found = [json.loads(line) for line in sink.data.splitlines()]
    assert [row["n"] for row in found] == [expected[each] for each in sorted(expected)]


UNIONS = {
    "rows": '["a", "b"]',
    "rejected": '["a.rejected", "b.rejected"]',
    "branches": '["odd", "even", "a"]',
    "late": '["w.late", "v.late"]',
    "one of each": '["a.rejected", "all.rejected"]',
}


@pytest.mark.parametrize("timed", [True, False], ids=["timed", "arrival"])
@pytest.mark.parametrize("union", UNIONS)
async def test_a_union_of_what_ends_is_always_in_one_order(tmp_path: Path, union: str, timed: bool) -> None:
    if union == "late" and not timed:
        return
    for name in "ab":
        lines = (
            f'{{"ts":{1_700_000_000_000 + n * 70 - n % 13 * 900},"n":{n if n % 3 else chr(34) + "x" + chr(34)}}}\n'
            for n in range(4000)
        )
        write(tmp_path / f"{name}.json", "".join(lines))
    time = 'time = "ts"\n' if timed else ""
    text = "".join(
        f'[sources.{name}]\ntype = "file"\npath = "{tmp_path}/{name}.json"\nformat = "json"\n'
        f'schema = {{ ts = "timestamp[ms]", n = "int64" }}\n{time}'
        for name in "ab"
    )
    text += (
        f'[sources.all]\ntype = "file"\npath = ["{tmp_path}/a.json", "{tmp_path}/b.json"]\nformat = "json"\n'
    )
    text += f'schema = {{ ts = "timestamp[ms]", n = "int64" }}\n{time}'
    text += '[stages.odd]\ntype = "filter"\ninputs = ["a"]\nwhere = "n % 2 = 1"\n'
    text += '[stages.even]\ntype = "filter"\ninputs = ["a"]\nwhere = "n % 2 = 0"\n'
    if timed:
        for stage, table in (("w", "a"), ("v", "b")):
            text += (
                f'[stages.{stage}]\ntype = "window"\nwindow = {{ tumbling = "1s" }}\ninputs = ["{table}"]\n'
            )
            text += 'aggregates = { n = "count(*)" }\n'
    text += f'[sinks.o]\ntype = "null"\ninputs = {UNIONS[union]}\n'
    text += '[sinks.rest]\ntype = "null"\ninputs = ["b"]\n'
    found = [sameness async for sameness in verify(af.load(text).plan)]
    assert [sameness.differing for sameness in found] == [()] * len(found)
    assert found[0].sinks["o"][2] > 0


async def test_what_arrives_is_put_together_input_by_input() -> None:
    first, second = (
        af.source([{"n": n} for n in range(low, low + 3)], name=name, schema={"n": "int64"})
        for name, low in (("a", 0), ("b", 10))
    )
    assert [row["n"] for row in await collect(af.union(second, first))] == [10, 11, 12, 0, 1, 2]
    branches = af.union(first.filter("n > 0"), first)
    assert [row["n"] for row in await collect(branches)] == [0, 1, 1, 2, 2]
