"""``why``: each way in which an input can hold back a watermark, on virtual time."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

import asyncflow as af
from asyncflow.plan.tables import Component, Plan, Sink
from asyncflow.runtime import Run
from asyncflow.runtime.base.status import Holder, RunStatus, SourceStatus, StageStatus
from asyncflow.runtime.inspect.why import status
from asyncflow.runtime.inspect.why_text import instant, length, text
from asyncflow.testing import ChunkSource, FakeClock, ListSink
from tests.runtime.flows_runtime import SECOND, Shut, Tap

SCHEMA = {"ts": "timestamp[s]", "who": "string"}


class Asked:
    """A run under way on virtual time that can be asked; its last stage goes to a sink.  It ends with the block."""

    def __init__(self, flow: af.Flow, sink: ListSink | None = None) -> None:
        plan = flow.checked() if sink is None else into(flow, sink)
        self.clock = FakeClock(1000 * SECOND)
        self.run = Run(plan, clock=self.clock)

    async def __aenter__(self) -> Asked:
        self._task = asyncio.create_task(self.run.execute())
        await self.settle()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def settle(self) -> None:
        for _ in range(200):
            await asyncio.sleep(0)

    async def after(self, seconds: float) -> RunStatus:
        """How things stand so much later."""
        await self.settle()
        self.clock.advance(seconds)
        await self.settle()
        return status(self.run)

    async def text(self, seconds: float = 0.0) -> str:
        return text(await self.after(seconds))


class Lasting(ChunkSource):
    """Bytes that end by themselves, but only once the gate opens."""

    def __init__(self, *seconds: int) -> None:
        super().__init__([b'{"ts": %d, "who": "x"}\n' % each for each in seconds])
        self.gate = asyncio.Event()

    async def read_into(self, buffer: memoryview) -> int:
        count = await super().read_into(buffer)
        if not count:
            await self.gate.wait()
        return count

    def flow(self, name: str, **options: str) -> af.Flow:
        flow = af.source(iter([b""]), name=name, format="json", schema=SCHEMA, time="ts", **options)
        return read_from(flow, Component("chunks", object=self))


def read_from(flow: af.Flow, connector: Component) -> af.Flow:
    """The same flow, its source read from there."""
    [made] = flow.plan.sources
    return replace(flow, plan=replace(flow.plan, sources=(replace(made, connector=connector),)))


def into(flow: af.Flow, sink: ListSink) -> Plan:
    plan = flow.checked()
    out = Sink("out", (plan.stages[-1].name,), Component("list", object=sink), Component("json"))
    return replace(plan, sinks=(out,))


def tapped(tap: Tap, name: str, **options: str) -> af.Flow:
    return af.source(tap, name=name, schema=SCHEMA, time="ts", **options)


def windows(*sources: af.Flow, size: str = "10s") -> af.Flow:
    flow = sources[0] if len(sources) == 1 else af.union(*sources)
    return flow.window(af.tumbling(size), n="count(*)").named("w")


def stage(found: RunStatus, name: str = "w") -> StageStatus:
    return next(each for each in found.stages if each.name == name)


def source(found: RunStatus, name: str) -> SourceStatus:
    return next(each for each in found.sources if each.name == name)


def block(told: str, name: str) -> list[str]:
    """The lines of one stage, their words one space apart."""
    return next(
        [" ".join(line.split()) for line in each.splitlines()]
        for each in told.split("\n\n")
        if each.startswith(f"{name} (")
    )


async def test_of_two_inputs_the_one_that_is_idle_is_named() -> None:
    a, b = Tap(), Tap()
    async with Asked(
        windows(tapped(a, "a", watermark_delay="2s"), tapped(b, "b", watermark_delay="2s"))
    ) as asked:
        b.say(9)
        a.say(3, 4, 25, 39)
        await asked.settle()
        asked.clock.advance(30)
        a.say(40)
        told = await asked.text(4)
    assert (
        told
        == """\
flow, running for 34 s, asked at 1970-01-01T00:17:14Z

w (window)
  watermark   1970-01-01T00:00:07Z, last moved 34 s ago (1970-01-01T00:16:40Z)
  held by     b: quiet for 34 s; its latest event time is 1970-01-01T00:00:09Z
  holds       4 open windows with 6 rows, 1 key; the next goes out at 1970-01-01T00:00:10Z
  released by a row of b at or after 1970-01-01T00:00:12Z (window end + watermark_delay 2s)
              or b ending
              or b being quiet for its idle_timeout (not set: idle_timeout on sources.b)
  input  state   watermark             rows waiting
  a      counts  1970-01-01T00:00:38Z             0
  b      counts  1970-01-01T00:00:07Z             0

source  state            last heard                        latest event time     rows  rejected  future
a       quiet for 4.0 s  4.0 s ago (1970-01-01T00:17:10Z)  1970-01-01T00:00:40Z     5         0       0
b       quiet for 34 s   34 s ago (1970-01-01T00:16:40Z)   1970-01-01T00:00:09Z     1         0       0
"""
    )


async def test_what_releases_it_does() -> None:
    """A row at the instant that was named closes the window; one before it does not."""
    a, b = Tap(), Tap()
    async with Asked(windows(tapped(a, "a"), tapped(b, "b", watermark_delay="2s"))) as asked:
        b.say(9)
        a.say(3, 25)
        [holder] = stage(await asked.after(0)).holders
        assert (holder.source, holder.needed_ns, holder.path) == ("b", 10 * SECOND, ("b",))
        b.say(11)
        assert stage(await asked.after(0)).next_due_ns == 10 * SECOND
        b.say(12)
        found = stage(await asked.after(0))
        assert found.next_due_ns == 20 * SECOND
        assert found.left == {}


async def test_an_idle_timeout_says_when_and_then_the_other_holds_it() -> None:
    a, b = Tap(), Tap()
    async with Asked(windows(tapped(a, "a"), tapped(b, "b", idle_timeout="10s"))) as asked:
        b.say(9)
        a.say(3, 25)
        told = await asked.text(4)
        assert "or b being quiet for its idle_timeout, 10s (in 6.0 s)" in block(told, "w")
        found = await asked.after(7)
        assert [holder.source for holder in stage(found).holders] == ["a"]
        assert source(found, "b").idle
        assert "b quiet, does not count 1970-01-01T00:00:09Z 0" in block(text(found), "w")
        assert "quiet for 11 s, counts no longer" in text(found)


async def test_where_all_are_quiet_any_one_moves_it() -> None:
    a, b = Tap(), Tap()
    async with Asked(windows(tapped(a, "a", idle_timeout="5s"), tapped(b, "b", idle_timeout="5s"))) as asked:
        b.say(9)
        a.say(3)
        found = await asked.after(6)
        assert stage(found).any_holder
        lines = block(text(found), "w")
        assert "any one of them moves it" in lines
        assert "released by a row of a at or after 1970-01-01T00:00:10Z, or a ending" in lines
        assert "or a row of b at or after 1970-01-01T00:00:10Z, or b ending" in lines


async def test_before_the_first_row_both_hold_it() -> None:
    a, b = Tap(), Tap()
    async with Asked(windows(tapped(a, "a"), tapped(b, "b"))) as asked:
        lines = block(await asked.text(3), "w")
    assert lines[1:6] == [
        "watermark none yet, for 3.0 s",
        "held by a: quiet for 3.0 s; it has not said anything yet",
        "b: quiet for 3.0 s; it has not said anything yet",
        "all of them are needed",
        "holds no open window",
    ]


async def test_an_input_that_ended_holds_nothing() -> None:
    a, b = Tap(), Tap()
    async with Asked(windows(tapped(a, "a"), tapped(b, "b"))) as asked:
        b.say(9)
        b.end()
        a.say(3, 25)
        found = await asked.after(2)
        assert [holder.source for holder in stage(found).holders] == ["a"]
        assert (source(found, "b").state, source(found, "a").state) == ("ended", "quiet")
        lines = block(text(found), "w")
        assert "b ended 1970-01-01T00:00:09Z 0" in lines
        assert not any(
            "idle_timeout" in line for line in lines
        )  # there is no other input that it would leave
        a.end()
        found = await asked.after(1)
        assert stage(found).state == "ended"
        assert "w (window): it has ended" in text(found)
        assert found.phase == "ended"


async def test_a_slow_sink_is_not_a_quiet_input(monkeypatch: pytest.MonkeyPatch) -> None:
    """The source waits for room: that is ours, however long it takes, and the sink at the end is named."""
    monkeypatch.setattr("asyncflow.runtime.wiring.wires.CHANNEL_BYTES", 1)
    tap, sink = Tap(), Shut()
    flow = (
        tapped(tap, "a", idle_timeout="5s")
        .filter("TRUE")
        .named("kept")
        .dedup(by=["ts"], within="1s")
        .named("w")
    )
    async with Asked(flow, sink) as asked:
        for second in range(20):
            tap.say(second)
            await asked.settle()
        found = await asked.after(60)
        held = source(found, "a")
        assert (held.state, held.waits_for, held.idle) == ("held", ("kept", "w", "out"), False)
        assert stage(found).state == "held"
        assert [(each.state, each.rows) for each in found.sinks] == [("writes", 0)]
        told = text(found)
        assert (
            "itself      held by us: it waits for room in out, which waits for the outside to take rows"
            in told
        )
        assert "a       held by us (out)" in told
        assert "out   waits for the outside to take rows" in told
        sink.gate.set()
        found = await asked.after(0)
        assert source(found, "a").state == "reading"
        assert [(each.state, each.rows) for each in found.sinks] == [("waits", 20)]


async def test_a_users_function_that_takes_its_time_is_ours() -> None:
    gate = asyncio.Event()

    async def slow(batch: Any) -> Any:
        await gate.wait()
        return batch

    for concurrency in (1, 3):
        gate.clear()
        tap = Tap()
        mapped = tapped(tap, "a").map(slow, schema=SCHEMA, concurrency=concurrency).named("m")
        async with Asked(mapped.window(af.tumbling("10s"), n="count(*)").named("w")) as asked:
            tap.say(1)
            await asked.settle()
            tap.say(25)
            found = await asked.after(3)
            [holder] = stage(found).holders
            assert (holder.reason, holder.at) == ("rows wait", "m")
            assert "held by     us: what came from " in text(found)
            gate.set()
            found = await asked.after(0)
            assert [each.reason for each in stage(found).holders] == ["source"]
            assert stage(found).watermark_ns == 25 * SECOND


async def test_rows_from_the_future_do_not_move_it() -> None:
    tap = Tap()
    async with Asked(windows(tapped(tap, "a", max_future="1h"))) as asked:
        tap.say(3, 900_000)
        told = await asked.text(2)
    said = "held by a: quiet for 2.0 s; its latest event time is 1970-01-01T00:00:03Z; 1 row from the future"
    assert said in " ".join(block(told, "w"))
    assert "a: future rows, more than max_future = 1h ahead of the clock, do not move the watermark" in told


async def test_late_rows_are_counted_where_they_are_late() -> None:
    tap = Tap()
    flow = tapped(tap, "a").window(af.hopping("10s", "5s"), n="count(*)").named("w")
    async with Asked(flow) as asked:
        tap.say(3, 26, 1, 24)
        found = await asked.after(0)
    assert stage(found).left == {"late": 1, "late_partly": 1}
    assert "rows 1 late, 1 late for some of their windows only" in block(text(found), "w")


async def test_a_join_with_one_idle_side() -> None:
    a, b = Tap(), Tap()
    joined = tapped(a, "a").join(tapped(b, "b"), on=["who"], within="5s", kind="left").named("w")
    async with Asked(joined.window(af.tumbling("10s"), n="count(*)").named("after")) as asked:
        b.say(2)
        a.say(3, 25)
        found = await asked.after(12)
        lines = block(text(found), "w")
        assert "held by b: quiet for 12 s; its latest event time is 1970-01-01T00:00:02Z" in lines
        assert "holds 2 rows of the left and 1 of the right side" in lines
        assert "released by a row of b after 1970-01-01T00:00:02Z" in lines
        assert "held by b (through w), as above" in block(text(found), "after")
        b.say(9)  # what is released: a left row at 3 meets the right one at 2
        assert stage(await asked.after(0)).next_due_ns == 9 * SECOND + 1


async def test_windows_over_windows_lead_down_to_the_source() -> None:
    a, b = Tap(), Tap()
    small = af.union(tapped(a, "a"), tapped(b, "b")).window(
        af.tumbling("10s"), n="count(*)", allowed_lateness="5s"
    )
    large = small.named("small").filter("final").window(af.tumbling("30s"), n="sum(n)").named("w")
    async with Asked(large) as asked:
        a.say(3, 60)
        b.say(17)
        found = await asked.after(8)
        [holder] = stage(found).holders
        assert holder.source == "b"
        assert holder.path == ("stage_1", "small", "b")
        assert stage(found).next_due_ns == 30 * SECOND
        assert holder.needed_ns == 35 * SECOND  # the small ones are held for corrections
        assert (
            "released by a row of b at or after 1970-01-01T00:00:35Z (window end + 5s that stages before may hold rows)"
            in " ".join(block(text(found), "w"))
        )
        b.say(34)
        assert stage(await asked.after(0)).next_due_ns == 30 * SECOND
        b.say(35)
        assert stage(await asked.after(0)).next_due_ns != 30 * SECOND


async def test_inputs_that_end_by_themselves_are_read_in_step() -> None:
    first, second = Lasting(3, 25, 39), Lasting(9)
    flows = (first.flow("a", idle_timeout="5s"), second.flow("b", idle_timeout="5s"))
    async with Asked(windows(*flows)) as asked:
        found = await asked.after(30)
        w = stage(found)
        assert (w.in_step, w.takes) == (True, "b")
        lines = block(text(found), "w")
        assert "a not taken before b 1970-01-01T00:00:25Z 2" in lines
        assert (
            "held by b: quiet for 30 s (waited for all the same: idle_timeout is for inputs that are read as they come)"
            in (" ".join(lines))
        )
        assert not any(line.startswith("or b being quiet") for line in lines)
        first.gate.set()
        second.gate.set()
        assert stage(await asked.after(0)).state == "ended"


async def test_a_sequence_waits_for_its_sides_in_turn() -> None:
    past, live = Tap(), Tap()
    events = af.sequence(tapped(past, "past"), tapped(live, "live"), unique=["who"], name="events")
    async with Asked(events.window(af.tumbling("10s"), n="count(*)").named("w")) as asked:
        past.say(1)
        found = await asked.after(5)
        assert [(h.source, h.path) for h in stage(found).holders] == [("live", ("events", "live"))]
        assert source(found, "past").state == "quiet"
        assert "past not taken before live - 1" in block(text(found), "events")
        live.say(20, who="y")
        past.say(35)
        found = await asked.after(5)
        [holder] = stage(found).holders
        assert (holder.reason, holder.at, holder.source) == ("seam", "events", "past")
        assert "held by events: it goes no further before past has ended" in block(text(found), "w")
        assert "released by past ending" in block(text(found), "w")
        past.end()
        found = await asked.after(5)
        assert [(h.source, h.reason) for h in stage(found).holders] == [("live", "source")]
        assert "past ended - 0" in block(text(found), "events")


async def test_windows_that_do_not_go_by_time_say_what_they_wait_for() -> None:
    tap = Tap()
    flow = tapped(tap, "a").window(af.count(3), by=["who"], n="count(*)").named("w")
    async with Asked(flow) as asked:
        tap.say(1, 2)
        lines = block(await asked.text(), "w")
        assert lines[1:] == [
            "holds 1 open window with 2 rows, 1 key",
            "released by 3 rows of a key, or the end of a",
        ]
    for over_all in (
        tapped(tap := Tap(), "a").window(n="count(*)"),
        tapped(tap, "a").top(1, order=["who"]),
    ):
        async with Asked(over_all.named("w")) as asked:
            tap.say(1, 2)
            lines = block(await asked.text(), "w")
            assert lines[1].startswith("holds 1 open window with")
            assert lines[2] == "released by the end of a"


async def test_by_arrival_it_is_the_clock() -> None:
    tap = Tap()
    flow = af.source(tap, name="a", schema=SCHEMA).window(af.tumbling("10s"), n="count(*)").named("w")
    async with Asked(flow) as asked:
        tap.say(1)
        lines = block(await asked.text(3), "w")
        assert "released by the clock reaching 1970-01-01T00:16:50Z (window end)" in lines


async def test_a_lookup_reads_its_right_side_first() -> None:
    a, b = Tap(), Tap()
    async with Asked(tapped(a, "a").join(tapped(b, "b"), on=["who"]).named("w")) as asked:
        a.say(1)
        b.say(1)
        found = await asked.after(4)
        assert stage(found).takes == "b"
        assert [holder.source for holder in stage(found).holders] == ["b"]
        assert "a not taken before b - 1" in block(text(found), "w")
        b.end()
        assert stage(await asked.after(0)).takes == "a"


async def test_a_side_output_says_nothing_of_the_time() -> None:
    tap = Tap()
    first = tapped(tap, "a").window(af.tumbling("10s"), n="count(*)").named("first")
    flow = first["first.late"].window(af.tumbling("1m"), n="count(*)").named("w")
    async with Asked(flow) as asked:
        tap.say(3, 25, 4)
        found = await asked.after(2)
        lines = block(text(found), "w")
        assert "held by first.late: a side output says nothing of the time before it ends" in lines
        assert "released by first.late ending" in lines


async def test_a_run_that_waits_for_its_first_record_says_so() -> None:
    tap = Tap()
    flow = af.source(tap, name="a").filter("TRUE").named("w")
    async with Asked(flow) as asked:
        found = await asked.after(3)
        assert (found.phase, found.phase_table, found.stages) == ("head", "a", ())
        assert source(found, "a").state == "opening"
        assert "it waits for the first records of a, to tell their schema" in text(found)
        tap.say(1)
        found = await asked.after(0)
        assert found.phase == "running"
        assert "no stage waits on time" in text(found)


async def test_the_answer_survives_the_wire() -> None:
    a, b = Tap(), Tap()
    joined = tapped(a, "a").join(tapped(b, "b"), on=["who"], within="5s").named("w")
    async with Asked(joined) as asked:
        a.say(1, 2)
        found = await asked.after(2)
    assert msgspec.json.decode(msgspec.json.encode(found), type=RunStatus) == found


async def test_windows_that_are_sent_more_than_once_are_due_more_than_once() -> None:
    tap = Tap()
    options: dict[str, Any] = {"emit": {"every": "5s"}, "allowed_lateness": "2s"}
    flow = (
        tapped(tap, "a", watermark_delay="1s").window(af.tumbling("10s"), n="count(*)", **options).named("w")
    )
    async with Asked(flow) as asked:
        for second, due in ((2, 5), (6, 10), (12, 12), (13, 15)):
            tap.say(second)
            assert stage(await asked.after(0)).next_due_ns == due * SECOND
        lines = block(await asked.text(), "w")
        assert (
            "released by a row of a at or after 1970-01-01T00:00:16Z (when it is due + watermark_delay 1s)"
            in lines
        )


def crafted(state: str, **of_source: Any) -> RunStatus:
    w = StageStatus(
        name="w", kind="window", state="works", waits_for=(), closes="time", watermark_ns=None, moved_ns=None,
        inputs=(), takes=None, in_step=False, holders=(Holder("a", ("a",), needed_ns=SECOND),), any_holder=False,
        next_due_ns=SECOND, open_windows=1,
    )  # fmt: skip
    made = SourceStatus(name="a", state=state, rows=3, **of_source)
    return RunStatus("p", 9 * SECOND, 0, "running", "", (made,), (w,), (), pid=12, file="/p.toml")


def test_decoding_is_ours() -> None:
    told = text(crafted("held", heard_ns=SECOND))
    assert told.startswith("p (pid 12, /p.toml), running for 9.0 s, asked at 1970-01-01T00:00:09Z\n")
    assert "  itself      at work\n" in told
    assert "  held by     a: held by us: what came is being decoded and handed on\n" in told
    assert "  released by a going on: what came is being decoded and handed on\n" in told
    assert "a       held by us (decoding)  8.0 s ago (1970-01-01T00:00:01Z)" in told


@pytest.mark.parametrize(
    ("phase", "table", "told"),
    [
        ("head", "", "it has not begun yet"),
        ("open", "out", "it has not begun: it waits for the sink out to open"),
        ("ended", "", "it has ended"),
    ],
)
def test_before_and_after(phase: str, table: str, told: str) -> None:
    found = replace(crafted("opening"), phase=phase, phase_table=table, stages=())
    assert text(found).splitlines()[1] == told
    assert "a       not read yet" in text(found)


@pytest.mark.parametrize(
    ("ns", "told"),
    [
        (-5, "0.0 s"),
        (150_000_000, "0.1 s"),
        (34 * SECOND, "34 s"),
        (59_700_000_000, "1 min"),
        (310 * SECOND, "5 min 10 s"),
        (7_500 * SECOND, "2 h 5 min"),
        (273_600 * SECOND, "3 d 4 h"),
    ],
)
def test_lengths_are_short(ns: int, told: str) -> None:
    assert length(ns) == told


def test_instants_have_no_more_than_milliseconds() -> None:
    assert instant(None) == "-"
    assert instant(1_704_067_201_000_000_000) == "2024-01-01T00:00:01Z"
    assert instant(1_704_067_201_250_999_999) == "2024-01-01T00:00:01.250Z"
    assert instant(2**63 - 1) == "2262-04-11T23:47:16.854Z"
