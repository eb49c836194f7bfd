"""A lookup whose right table is refreshed: schedule, rows that the left side sees, failed refreshes, end, counts."""

from __future__ import annotations

import asyncio
import gzip
import logging
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

import asyncflow as af
from asyncflow.errors import PipelineError
from asyncflow.model.batch import Batch
from asyncflow.model.messages import End
from asyncflow.plan.tables import Component, Sink
from asyncflow.runtime import Run
from asyncflow.runtime.inspect.why import status
from asyncflow.runtime.inspect.why_text import text
from asyncflow.runtime.stages.refresh import RefreshedStage
from asyncflow.testing import FakeClock, ListSink
from tests.runtime.flows_runtime import SECOND, Shut, write

RATES = {"who": "string", "rate": "int64"}
OLD, NEW = "who,rate\na,1\nb,2\n", "who,rate\na,10\nb,20\nc,30\n"


class Live:
    """The left side: objects as they are told to it, until ``end``."""

    def __init__(self) -> None:
        self._objects: asyncio.Queue[Any] = asyncio.Queue()

    def say(self, *who: str) -> None:
        """One batch of rows."""
        self._objects.put_nowait({"who": np.array(who, object)})

    def end(self) -> None:
        self._objects.put_nowait(None)

    async def __aiter__(self) -> AsyncIterator[Any]:
        while (told := await self._objects.get()) is not None:
            yield told


class Gated:
    """The right side: one row, then as many more as the reading's number, but these only once the gate opens."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.gate.set()
        self.begun = self.closed = 0

    async def __aiter__(self) -> AsyncIterator[dict[str, Any]]:
        self.begun += 1
        number = self.begun
        try:
            yield {"who": "a", "rate": number}
            await self.gate.wait()
            for each in range(number):
                yield {"who": "abc"[each], "rate": 100 * number}
        finally:
            self.closed += 1


class Running:
    """A flow under way on virtual time; it is cancelled at the end of the block, if it has not ended."""

    def __init__(self, flow: af.Flow, *, workers: int = 1, sink: ListSink | None = None) -> None:
        plan = flow.checked(rows=True)
        if sink is not None:
            out = Sink("out", ("j",), Component("list", object=sink), Component("json"))
            plan = replace(plan, sinks=(out,))
        self._table = plan.stages[-1].name if sink is None else None
        self.clock = FakeClock(1000 * SECOND)
        self.run = Run(plan, clock=self.clock, workers=workers)
        self.rows: list[tuple[Any, ...]] = []

    async def __aenter__(self) -> Running:
        self.task = asyncio.create_task(self.run.execute(self._table))
        self.task.add_done_callback(lambda _: self.run.results.end(0))
        self._reader = asyncio.create_task(self._read())
        await self.until(lambda: any(each.refresh_status().due_ns for each in self._stages()))
        return self

    async def __aexit__(self, *_: object) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, self._reader, return_exceptions=True)

    async def _read(self) -> None:
        while not isinstance(message := (await self.run.results.receive())[1], End):
            if isinstance(message, Batch):
                self.rows += [tuple(row.values()) for row in message.to_pylist()]

    @property
    def stage(self) -> RefreshedStage:
        [found] = self._stages()
        return found

    def _stages(self) -> list[RefreshedStage]:
        return [each for each in self.run.wiring.stages if isinstance(each, RefreshedStage)]

    @property
    def ways(self) -> dict[str, int]:
        return dict(self.stage.counts.ways)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Files are read by threads, so turns of the loop do not count."""
        async with asyncio.timeout(20):
            while not condition():
                if self.task.done():
                    await self.task
                await asyncio.sleep(0.001)

    async def told(self, live: Live, *who: str) -> list[tuple[Any, ...]]:
        """What comes of these left rows, told as one batch."""
        before, rows_in = len(self.rows), self.run.ledger.sources["live"].rows_out + len(who)
        live.say(*who)
        await self.until(lambda: self.run.ledger.sources["live"].rows_out == rows_in)
        await self.until(lambda: self.ways["left_matched"] + self.ways["left_unmatched"] == rows_in)
        for _ in range(50):
            await asyncio.sleep(0)
        return self.rows[before:]

    async def refreshed(self, seconds: float = 300) -> str:
        """The time of the next reading has come, and it has been; gives why it failed, or ``""``."""
        before = self.ways["refreshed"] + self.ways["refresh_failed"]
        self.clock.advance(seconds)
        await self.until(lambda: self.ways["refreshed"] + self.ways["refresh_failed"] == before + 1)
        await self.until(lambda: not self.stage.refresh_status().reading)
        return self.stage.refresh_status().failure

    async def ended(self) -> dict[str, Any]:
        ledger = await asyncio.wait_for(self.task, 20)
        return ledger.to_dict()


def joined(live: Live, right: af.Flow, **options: Any) -> af.Flow:
    options = {"on": ["who"], "refresh": "5m", **options}
    return af.source(live, name="live", schema={"who": "string"}).join(right, **options).named("j")


def from_file(path: Path, **options: Any) -> af.Flow:
    return af.source("file", name="rates", path=str(path), schema=RATES, **options)


def removed(path: Path) -> None:
    path.unlink()


def replaced(path: Path, content: str) -> None:
    """As a file should be: at once."""
    write(path.with_suffix(".new"), content).rename(path)


@pytest.fixture
def rates(tmp_path: Path) -> Path:
    return write(tmp_path / "rates.csv", OLD)


@pytest.mark.parametrize("workers", [1, 3])
async def test_left_rows_see_the_table_as_last_read(rates: Path, workers: int) -> None:
    live = Live()
    async with Running(joined(live, from_file(rates)), workers=workers) as it:
        assert await it.told(live, "a", "b", "c") == [("a", 1), ("b", 2)]
        replaced(rates, NEW)
        it.clock.advance(299)
        assert await it.told(live, "a") == [("a", 1)]
        assert await it.refreshed(1) == ""
        assert await it.told(live, "a", "c", "d") == [("a", 10), ("c", 30)]
        replaced(rates, OLD)
        assert await it.refreshed() == ""
        assert await it.told(live, "b") == [("b", 2)]
        live.end()
        counts = await it.ended()
    assert counts["sources"]["rates"]["rows"] == counts["sources"]["rates"]["rows_out"] == 2 + 3 + 2
    assert counts["sources"]["rates"]["bytes"] == 2 * len(OLD) + len(NEW)
    stage = counts["stages"]["j"]
    assert (stage["refreshed"], stage["refresh_failed"]) == (2, 0)
    assert stage["rows_in"] == 8 + 7
    assert (stage["left_matched"], stage["left_unmatched"]) == (6, 2)
    assert (stage["right_matched"], stage["right_unmatched"]) == (2 + 2 + 1, 1 + 1)


@pytest.mark.parametrize(
    ("kind", "on", "before", "after"),
    [
        ("left", ["who"], [("a", 1), ("c", None)], [("a", 10), ("c", 30)]),
        ("semi", ["who"], [("a",)], [("a",), ("c",)]),
        ("anti", ["who"], [("c",)], []),
        ("inner", [], [("a", "a", 1), ("a", "b", 2), ("c", "a", 1), ("c", "b", 2)], None),
    ],
)
async def test_every_kind_that_has_it(rates: Path, kind: str, on: list[str], before: Any, after: Any) -> None:
    live = Live()
    if after is None:
        after = [(left, right, rate) for left in "ac" for right, rate in (("a", 10), ("b", 20), ("c", 30))]
    async with Running(joined(live, from_file(rates), kind=kind, on=on)) as it:
        assert await it.told(live, "a", "c") == before
        replaced(rates, NEW)
        await it.refreshed()
        assert await it.told(live, "a", "c") == after
        live.end()
        await it.ended()


async def test_tables_before_the_right_one_are_worked_out_anew(rates: Path) -> None:
    live, calls = Live(), []

    def noted(row: dict[str, Any]) -> dict[str, Any]:
        calls.append(row["who"])
        return row

    right = from_file(rates).filter("rate > 1").named("dear").derive(rate="rate * 2").named("twice")
    right = right.map_rows(noted, schema=RATES).named("noted")
    right = right.window(by=["who"], rate="sum(rate)").named("sums")
    async with Running(joined(live, right)) as it:
        assert await it.told(live, "a", "b") == [("b", 4)]
        replaced(rates, NEW + "b,1\nb,5\n")
        assert await it.refreshed() == ""
        assert await it.told(live, "a", "b") == [("a", 20), ("b", 50)]
        live.end()
        stages = (await it.ended())["stages"]
    assert calls == ["b", "a", "b", "c", "b"]
    assert (stages["dear"]["rows_in"], stages["dear"]["filtered"]) == (2 + 5, 1 + 1)
    assert stages["sums"]["aggregated"] == stages["twice"]["rows_out"] == 1 + 4
    assert stages["sums"]["windows_opened"] == stages["sums"]["windows_closed"] == 2
    assert stages["j"]["rows_in"] == 4 + 1 + 3


async def test_the_right_side_may_be_a_lookup_itself(rates: Path, tmp_path: Path) -> None:
    live, names = Live(), write(tmp_path / "names.csv", "who,name\na,Ann\n")
    named = af.source("file", name="names", path=str(names), schema={"who": "string", "name": "string"})
    async with Running(joined(live, from_file(rates).join(named, on=["who"]).named("both"))) as it:
        assert await it.told(live, "a", "b") == [("a", 1, "Ann")]
        replaced(names, "who,name\nb,Bob\na,Anne\n")
        assert await it.refreshed() == ""
        assert await it.told(live, "a", "b") == [("a", 1, "Anne"), ("b", 2, "Bob")]
        live.end()
        both = (await it.ended())["stages"]["both"]
    assert both["rows_in"] == 3 + 4
    assert (both["left_matched"], both["left_unmatched"]) == (3, 1)


async def test_columns_told_from_the_first_reading_are_those_of_the_later_ones(rates: Path) -> None:
    live = Live()
    right = af.source("file", name="rates", path=str(rates))
    async with Running(joined(live, right)) as it:
        assert await it.told(live, "a") == [("a", 1)]
        replaced(rates, "more,rate,who\nx,5,a\ny,many,b\n")
        assert await it.refreshed() == ""
        assert await it.told(live, "a", "b") == [("a", 5)]
        [warning] = it.run.warnings
        assert warning.startswith(f"rates: {rates}:3 (byte 20): ")
        assert "many" in warning
        live.end()
        source = (await it.ended())["sources"]["rates"]
    assert (source["rows"], source["rejected"], source["rows_out"]) == (4, 1, 3)


async def test_a_list_of_the_users_is_gone_through_again() -> None:
    live, table = Live(), [{"who": "a", "rate": 1}]
    async with Running(joined(live, af.source(table, name="rates", schema=RATES))) as it:
        assert await it.told(live, "a") == [("a", 1)]
        table[:] = [{"who": "a", "rate": 2}]
        await it.refreshed()
        assert await it.told(live, "a") == [("a", 2)]


# -- readings that fail ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["gone", "column-gone", "bad-record", "half-an-archive", "too-large"])
async def test_a_reading_that_fails_leaves_the_old_table(
    how: str, rates: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "asyncflow")
    live, path, options = Live(), rates, {"on_error": "fail"}
    large = "who,rate\n" + "".join(f"{n},{n}\n" for n in range(10_000))
    if how == "half-an-archive":
        path = rates.with_name("rates.csv.gz")
        path.write_bytes(gzip.compress(OLD.encode()))
        options["format"] = "csv"
    async with Running(joined(live, from_file(path, **options), max_state="300KiB")) as it:
        match how:
            case "gone":
                removed(path)
            case "column-gone":
                replaced(path, "who,price\na,5\n")
            case "bad-record":
                replaced(path, NEW + "d,many\n")
            case "half-an-archive":
                path.write_bytes(gzip.compress(NEW.encode())[:-12])
            case "too-large":
                replaced(path, large)
        held = it.run.state_bytes
        told = await it.refreshed()
        assert it.run.state_bytes == held
        names = {
            "gone": "rates.csv",
            "column-gone": "no column 'rate'",
            "bad-record": "many",
            "half-an-archive": "rates.csv.gz",
            "too-large": "max_state = 300KiB",
        }
        assert names[how] in told
        assert await it.told(live, "a", "c") == [("a", 1)]
        assert names[how] in await it.refreshed()
        [warning] = caplog.records
        assert warning.levelname == "WARNING"
        assert warning.getMessage().startswith("j: rates could not be read again, the table stays as it was")
        assert told in warning.getMessage()
        assert "next in 5m" in warning.getMessage()
        await it.refreshed()  # 10 minutes after the first
        assert len(caplog.records) == 2
        if how == "half-an-archive":
            path.write_bytes(gzip.compress(NEW.encode()))
        else:
            replaced(path, NEW)
        assert await it.refreshed() == ""
        assert caplog.records[2].getMessage() == "j: rates is read again"
        assert await it.told(live, "a", "c") == [("a", 10), ("c", 30)]
        live.end()
        counts = await it.ended()
    assert (counts["stages"]["j"]["refreshed"], counts["stages"]["j"]["refresh_failed"]) == (1, 3)
    assert counts["sources"]["rates"]["rows"] == 2 + 3, "what failed is not counted"


async def test_what_the_users_source_raises_is_a_reading_that_failed() -> None:
    live = Live()

    class Database:
        rows = 0

        async def __aiter__(self) -> AsyncIterator[dict[str, Any]]:
            self.rows += 1
            yield {"who": "a", "rate": self.rows}
            if self.rows == 2:
                raise RuntimeError("the database is gone")

    async with Running(joined(live, af.source(Database(), name="rates", schema=RATES))) as it:
        assert "the database is gone" in await it.refreshed()
        assert await it.told(live, "a") == [("a", 1)]
        assert await it.refreshed() == ""
        assert await it.told(live, "a") == [("a", 3)]
        live.end()
        await it.ended()


async def test_the_first_reading_has_to_succeed(tmp_path: Path) -> None:
    flow = joined(Live(), from_file(tmp_path / "none.csv"))
    with pytest.raises(af.ConnectorError, match=r"rates: .*none\.csv"):
        await asyncio.wait_for(Run(flow.checked(rows=True), clock=FakeClock()).execute(), 20)


# -- between two batches -----------------------------------------------------------------------------------------------


async def test_no_row_sees_half_a_table() -> None:
    live, right = Live(), Gated()
    async with Running(joined(live, af.source(right, name="rates", schema=RATES))) as it:
        assert await it.told(live, "a") == [("a", 1), ("a", 100)]
        right.gate.clear()
        it.clock.advance(300)
        await it.until(lambda: right.begun == 2)
        assert it.stage.refresh_status().reading
        assert await it.told(live, "a", "b") == [("a", 1), ("a", 100)]
        it.clock.advance(300)  # the next is counted from the end of this one
        right.gate.set()
        await it.until(lambda: it.ways["refreshed"] == 1)
        assert await it.told(live, "a", "b") == [("a", 2), ("a", 200), ("b", 200)]
        assert right.begun == 2
        await it.refreshed()
        assert right.begun == right.closed == 3


async def test_a_left_batch_under_way_is_looked_up_in_one_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asyncflow.operators.joins.lookup.MAX_OUTPUT_ROWS", 2)
    monkeypatch.setattr("asyncflow.runtime.wiring.wires.CHANNEL_BYTES", 1)
    live, right, sink = Live(), Gated(), Shut()
    async with Running(joined(live, af.source(right, name="rates", schema=RATES)), sink=sink) as it:
        live.say(*"a" * 5)
        await it.until(lambda: it.ways["left_matched"] == 5)
        live.say("a")
        it.clock.advance(300)
        await it.until(lambda: right.closed == 2)
        for _ in range(200):
            await asyncio.sleep(0)
        assert it.ways["refreshed"] == 0, "the batch has not gone on yet"
        sink.gate.set()
        await it.until(lambda: it.ways["left_matched"] == 6)
        assert it.ways["refreshed"] == 1
        live.end()
        await it.ended()
    rates = [int(line.split(b":")[-1][:-1]) for line in sink.data.splitlines()]
    assert rates == [1, 100] * 5 + [2, 200]


async def test_state_does_not_grow_with_readings(rates: Path) -> None:
    live = Live()
    async with Running(joined(live, from_file(rates))) as it:
        await it.refreshed()
        held = it.run.state_bytes
        assert held > 0
        for _ in range(5):
            await it.refreshed()
            assert it.run.state_bytes == held


# -- ends --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["left-ends", "stop", "cancel"])
@pytest.mark.parametrize("when", ["waiting", "reading"])
async def test_it_ends_at_once_and_closes_all(how: str, when: str) -> None:
    tasks = asyncio.all_tasks()
    live, right = Live(), Gated()
    async with Running(joined(live, af.source(right, name="rates", schema=RATES))) as it:
        await it.refreshed()
        if when == "reading":
            right.gate.clear()
            it.clock.advance(300)
            await it.until(lambda: right.begun == 3)
        assert await it.told(live, "a") == [("a", 2), ("a", 200)]
        match how:
            case "left-ends":
                live.end()
            case "stop":
                it.run.stop()
            case "cancel":
                it.task.cancel()
        if how == "cancel":
            with pytest.raises(asyncio.CancelledError):
                await asyncio.wait_for(it.task, 20)
        else:
            counts = await it.ended()
            assert counts["sources"]["rates"]["rows"] == 2 + 3
            assert counts["stages"]["j"]["rows_in"] == 1 + 2 + 3
        assert right.closed == right.begun
    assert asyncio.all_tasks() == tasks


async def test_a_table_that_comes_after_the_last_row_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asyncflow.runtime.wiring.wires.CHANNEL_BYTES", 1)
    live, right, sink = Live(), Gated(), Shut()
    async with Running(joined(live, af.source(right, name="rates", schema=RATES)), sink=sink) as it:
        live.say("a")
        live.end()
        await it.until(lambda: it.stage.reader.ports[0].ended)
        it.clock.advance(300)
        await it.until(lambda: right.closed == 2)
        for _ in range(200):
            await asyncio.sleep(0)
        assert not it.task.done(), "the sink has not taken the row yet"
        sink.gate.set()
        counts = await it.ended()
    assert counts["stages"]["j"]["refreshed"] == 0
    assert counts["stages"]["j"]["rows_in"] == 1 + 2
    assert counts["sources"]["rates"]["rows"] == 2


async def test_leaving_the_loop_ends_it_too() -> None:
    tasks = asyncio.all_tasks()
    live, right = Live(), Gated()
    live.say("a")
    batches = joined(live, af.source(right, name="rates", schema=RATES), refresh="1ms").__aiter__()
    assert (await asyncio.wait_for(anext(batches), 20)).num_rows
    await batches.aclose()  # type: ignore[attr-defined]
    assert right.closed == right.begun
    assert asyncio.all_tasks() == tasks


# -- told --------------------------------------------------------------------------------------------------------------


async def test_why_tells_of_a_reading_under_way() -> None:
    live, right = Live(), Gated()
    async with Running(joined(live, af.source(right, name="rates", schema=RATES))) as it:
        right.gate.clear()
        it.clock.advance(300)
        await it.until(lambda: right.begun == 2)
        it.clock.advance(20)
        told = " ".join(text(status(it.run)).split())
        assert "rates as read 5 min 20 s ago (1970-01-01T00:16:40Z), being read again for 20 s" in told


async def test_why_tells_when_it_was_read(rates: Path) -> None:
    def table() -> str:
        told = text(status(it.run)).split("  table ")[1].split("\n  input")[0]
        return " ".join(told.split())

    live = Live()
    async with Running(joined(live, from_file(rates))) as it:
        it.clock.advance(60)
        assert table() == "rates as read 1 min ago (1970-01-01T00:16:40Z), read again in 4 min"
        removed(rates)
        await it.refreshed(240)
        failed = table()
        assert failed.startswith("rates as read 5 min ago (1970-01-01T00:16:40Z), read again in 5 min")
        assert "the last reading failed: rates:" in failed
        write(rates, OLD)
        await it.refreshed()
        assert table() == "rates as read 0.0 s ago (1970-01-01T00:26:40Z), read again in 5 min"


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda rates: af.source(iter([{"who": "a", "rate": 1}]), name="rates", schema=RATES), "only once"),
        (lambda rates: af.source((row async for row in Gated()), name="rates", schema=RATES), "only once"),
        (lambda rates: af.source("stdin", name="rates", format="csv", schema=RATES), "only once"),
    ],
)
def test_what_cannot_be_read_again_is_told(make: Any, told: str, rates: Path) -> None:
    right = make(rates)
    with pytest.raises(PipelineError, match=r"stages\.j\.refresh: the source 'rates' can be read " + told):
        joined(Live(), right).checked()
    joined(Live(), right, refresh=None).checked()


def test_a_left_side_that_ends_is_told(rates: Path) -> None:
    left = af.source([{"who": "a"}], name="live", schema={"who": "string"})
    with pytest.raises(
        PipelineError, match=r"stages\.stage_1\.refresh: the left side, 'live', ends by itself"
    ):
        left.join(from_file(rates), on=["who"], refresh="5m").checked()
    both = af.union(left, af.source(Live(), name="other", schema={"who": "string"}))
    both.join(from_file(rates), on=["who"], refresh="5m").checked()
