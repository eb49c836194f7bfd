"""Deadlocks among tables that read one source: every flow comes to its end, with the same rows for every size of channel."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

import asyncflow as af
from asyncflow.errors import ConnectorError, InternalError, StageError
from asyncflow.model.messages import Watermark
from asyncflow.plan.tables import Component
from asyncflow.runtime import Run
from asyncflow.runtime.edges.channel import Channel
from asyncflow.runtime.edges.deadlock import DeadlockDetector
from asyncflow.runtime.stages import shutdown
from asyncflow.runtime.wiring import wires
from asyncflow.testing import ListSink, chunks

SOURCES = """
name = "tangle"
""" + "".join(
    f"""
[sources.{name}]
type = "file"
path = "{name}.csv"
format = "csv"
schema = {{ ts = "timestamp[ms]", key = "string", n = "int64" }}
time = "ts"
watermark_delay = "{delay}"
"""
    for name, delay in (("a", "2s"), ("b", "0s"))
)
BY_TIME = (
    'within = "1000h"',
    'within = "2s"',
    'window = { tumbling = "1h" }',
    'as_of = "forward"\ntolerance = "1h"',
)

Table = tuple[str, str]
"""Name and kind of its columns: those of a source, or of a window."""


@st.composite
def plans(draw: st.DrawFn) -> str:
    """Filters, unions, dedups, joins and windows over two sources, side outputs among what they read, and sinks for what is left."""
    tables: list[Table] = [("a", "row"), ("b", "row")]
    origins = {"a": frozenset("a"), "b": frozenset("b")}
    read: set[str] = set()
    text = SOURCES

    def some(kind: str | None = None, most: int = 1) -> list[str]:
        fitting = [name for name, columns in tables if kind in (None, columns)]
        chosen = draw(st.lists(st.sampled_from(fitting), min_size=1, max_size=most, unique=True))
        read.update(chosen)
        return chosen

    def quoted(names: list[str]) -> str:
        return str(names).replace("'", '"')

    for number in range(draw(st.integers(1, 6))):
        name = f"t{number}"
        kind = draw(st.sampled_from(sorted({columns for _, columns in tables})))
        stage = draw(st.sampled_from(["filter", "filter", "dedup", "join", "join", "window"]))
        if stage == "join":
            left, right = some(kind)[0], some()[0]
            lookup = [""] if not origins[left] & origins[right] else []
            how = draw(st.sampled_from([*BY_TIME, *lookup]))
            text += f'[stages.{name}]\ntype = "join"\nleft = "{left}"\nright = "{right}"\non = {{ key = "key" }}\n'
            text += f'kind = "{draw(st.sampled_from(["semi", "anti"]))}"\n{how}\n'
            tables += [(name, kind)] + ([(f"{name}.late", kind)] if how else [])
            origins[name] = origins[f"{name}.late"] = origins[left] | origins[right]
            continue
        text += f'[stages.{name}]\ntype = "{stage}"\ninputs = {quoted(inputs := some(kind, 3))}\n'
        for each in ("", ".late", ".duplicate"):
            origins[name + each] = frozenset[str]().union(*(origins[read] for read in inputs))
        if stage == "filter":
            text += f'where = "{draw(st.sampled_from(["n > 0", "n <> 1", "n < 100"]))}"\n'
            tables.append((name, kind))
        elif stage == "dedup":
            text += 'by = ["key", "n"]\nwithin = "5s"\n'
            tables += [(name, kind), (f"{name}.duplicate", kind)]
        else:
            size = draw(st.sampled_from(["1s", "30s", "10h"]))
            text += f'window = {{ tumbling = "{size}" }}\nby = ["key"]\naggregates = {{ n = "sum(n)" }}\n'
            tables += [(name, "window"), (f"{name}.late", kind)]
    for number, name in enumerate(name for name, _ in tables if name not in read):
        text += f'[sinks.s{number}]\ntype = "null"\nformat = "json"\ninputs = ["{name}"]\n'
    kind = draw(st.sampled_from(sorted({columns for _, columns in tables})))
    return text + f'[sinks.several]\ntype = "null"\nformat = "json"\ninputs = {quoted(some(kind, 3))}\n'


rows = st.lists(
    st.tuples(st.integers(0, 40_000), st.sampled_from("xyz"), st.integers(-2, 3)), min_size=1, max_size=40
)
DIAMOND = (
    SOURCES
    + """
[stages.short]
type = "filter"
inputs = ["a"]
where = "n > 0"
[stages.alone]
type = "join"
left = "a"
right = "b"
on = { key = "key" }
kind = "anti"
within = "1000h"
[stages.both]
type = "filter"
inputs = ["short", "alone"]
where = "n < 3"
[sinks.several]
type = "null"
format = "json"
inputs = ["both"]
"""
)
CROSSED = (
    SOURCES
    + """
[stages.left]
type = "join"
left = "a"
right = "b"
on = { key = "key" }
kind = "semi"
[stages.right]
type = "join"
left = "b"
right = "a"
on = { key = "key" }
kind = "anti"
[sinks.several]
type = "null"
format = "json"
inputs = ["left", "right", "a"]
"""
)
LATE = (
    SOURCES
    + """
[stages.once]
type = "dedup"
inputs = ["a", "b"]
by = ["key", "n"]
within = "5s"
[stages.all]
type = "filter"
inputs = ["once", "once.duplicate", "b"]
where = "n < 3"
[sinks.several]
type = "null"
format = "json"
inputs = ["all"]
[sinks.other]
type = "null"
format = "json"
inputs = ["once"]
"""
)
HELD_BACK = (
    SOURCES
    + """
[stages.met]
type = "join"
left = "b"
right = "b"
on = { key = "key" }
kind = "semi"
within = "1000h"
[stages.once]
type = "dedup"
inputs = ["met", "met.late"]
by = ["key", "n"]
within = "5s"
[sinks.several]
type = "null"
format = "json"
inputs = ["once"]
[sinks.other]
type = "null"
format = "json"
inputs = ["a"]
"""
)
MANY = [(1000 * t, "xyz"[t % 3], t % 4) for t in range(40)]


async def outcome(text: str, tables: Sequence[Sequence[tuple[int, str, int]]]) -> tuple[Any, ...]:
    """What every sink got, and the ledger without what depends on the clock."""
    run, sinks = wired(text, tables)
    async with asyncio.timeout(20):
        ledger = (await run.execute()).to_dict()
    del ledger["seconds"]
    return {name: sink.data for name, sink in sinks.items()}, ledger


def wired(text: str, tables: Sequence[Sequence[tuple[int, str, int]]]) -> tuple[Run, dict[str, ListSink]]:
    plan = af.load(text).plan
    sinks = {sink.name: ListSink() for sink in plan.sinks}
    sources = []
    for source, table in zip(plan.sources, tables, strict=True):
        data = "ts,key,n\n" + "".join(f"{ts},{key},{n}\n" for ts, key, n in table)
        pieces = chunks(data.encode(), len(data), 30)
        sources.append(replace(source, connector=Component("python", object=pieces)))
    plan = replace(
        plan,
        sources=tuple(sources),
        sinks=tuple(replace(s, connector=Component("list", object=sinks[s.name])) for s in plan.sinks),
    )
    return Run(plan), sinks


@settings(
    max_examples=80,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(plans(), rows, rows)
@example(DIAMOND, MANY, MANY[:3])
@example(CROSSED, MANY, MANY)
@example(LATE, MANY, MANY)
@example(HELD_BACK, MANY[:1], [(0, "z", 2), (5001, "x", 0), (0, "z", 2), (5002, "z", 0)])
def test_a_flow_ends_and_says_the_same_whatever_its_channels_hold(
    monkeypatch: pytest.MonkeyPatch, text: str, a: list[tuple[int, str, int]], b: list[tuple[int, str, int]]
) -> None:
    monkeypatch.setattr(wires, "CHANNEL_BYTES", 1 << 30)
    expected = asyncio.run(outcome(text, (a, b)))
    for most in (1, 200):
        monkeypatch.setattr(wires, "CHANNEL_BYTES", most)
        assert asyncio.run(outcome(text, (a, b))) == expected


@pytest.mark.parametrize(("text", "behind"), [(DIAMOND, "alone"), (LATE, "once.duplicate")])
async def test_what_is_held_has_a_limit_and_the_table_is_named(
    monkeypatch: pytest.MonkeyPatch, text: str, behind: str
) -> None:
    monkeypatch.setattr(wires, "CHANNEL_BYTES", 1)
    monkeypatch.setattr("asyncflow.runtime.stages.readers.MAX_HELD_BYTES", 200)
    with pytest.raises(
        StageError,
        match=rf"^(both|all): it holds .* of rows of '\w+' that wait for '{behind}', more than 200B",
    ):
        await outcome(text, (MANY, MANY))


class Waiting:
    """A reader of two ports of little room that prefers the first; ``writer`` and ``other`` write to them."""

    def __init__(self) -> None:
        self.deadlocks = DeadlockDetector()
        self.channel, self.other = Channel(2, 1, "reader"), Channel(1, 1, "middle")
        self.deadlocks.add(self.other, ["source"])
        self.deadlocks.add(self.channel, ["middle", "source"])
        self.taken = asyncio.create_task(self.channel.receive_preferring(0))
        self.sent = asyncio.create_task(self.fill())

    async def fill(self) -> None:
        for time_ns in (1, 2):
            await self.channel.send(1, Watermark(time_ns))

    async def settle(self) -> None:
        for _ in range(10):
            await asyncio.sleep(0)

    async def end(self) -> None:
        for task in (self.taken, self.sent):
            task.cancel()
        await asyncio.gather(self.taken, self.sent, return_exceptions=True)


async def test_a_full_port_is_left_alone_while_the_other_ones_writer_is_at_work() -> None:
    waiting = Waiting()
    await waiting.settle()
    assert waiting.channel.blocked(1)
    assert not waiting.taken.done(), "middle does not wait for anything"
    await waiting.channel.send(0, Watermark(7))
    assert await asyncio.wait_for(waiting.taken, 10) == (0, Watermark(7))
    assert waiting.channel.blocked(1)
    await waiting.end()


async def test_a_full_port_is_read_once_the_other_ones_writer_waits_for_the_same_table() -> None:
    waiting = Waiting()
    await waiting.settle()
    middle = asyncio.create_task(waiting.other.receive())
    assert await asyncio.wait_for(waiting.taken, 10) == (1, Watermark(1))
    await asyncio.wait_for(waiting.sent, 10)
    middle.cancel()
    await asyncio.gather(middle, return_exceptions=True)
    await waiting.end()


async def test_a_stopped_run_whose_tables_wait_for_one_another_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wires, "CHANNEL_BYTES", 1)
    monkeypatch.setattr(shutdown, "PATIENCE_SECONDS", 0.05)
    monkeypatch.setattr(DeadlockDetector, "look", lambda self: None)
    run, _ = wired(DIAMOND, (MANY, MANY[:3]))
    running = asyncio.create_task(run.execute())
    async with asyncio.timeout(20):
        moves = -1
        while run.moves > moves or not run.moves:
            moves = run.moves
            await asyncio.sleep(0.05)
        assert not running.done()
        run.stop()
        with pytest.raises(InternalError, match="its tables wait for one another"):
            await running


@pytest.mark.parametrize("reads", [False, True])
async def test_a_stopped_run_waits_for_the_reader_of_a_pipe_as_long_as_it_reads(
    tmp_path: Path, *, reads: bool
) -> None:
    os.mkfifo(path := tmp_path / "pipe")
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    rows = [{"text": f"{n:0200}"} for n in range(20_000)]
    flow = af.source(rows, name="rows", schema={"text": "string"})
    plan = flow.to("file", name="out", path=str(path), format="json").plan
    run = Run(plan if reads else replace(plan, stop_timeout_ns=200_000_000))
    running = asyncio.create_task(run.execute())
    got = 0
    try:
        async with asyncio.timeout(60):
            while "rows" not in run.ledger.sources or not run.ledger.sources["rows"].rows:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            run.stop()
            if not reads:
                with pytest.raises(ConnectorError, match=r"stop_timeout .* rows for out$"):
                    await running
                return
            while not running.done():
                with contextlib.suppress(BlockingIOError):
                    got += len(os.read(reader, 1 << 18))
                await asyncio.sleep(0.02)
            with contextlib.suppress(BlockingIOError):
                while more := len(os.read(reader, 1 << 20)):
                    got += more
            ledger = (await running).to_dict()
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        os.close(reader)
    assert got == ledger["sinks"]["out"]["bytes"] == 212 * ledger["sources"]["rows"]["rows"] > 0
