"""The wall clock is set during a run: arrival times follow it, durations do not, and every window closes."""

from __future__ import annotations

import pytest

import asyncflow as af
from asyncflow.runtime.base.clock import ArrivalClock, Clock, VirtualClock
from tests.runtime.flows_runtime import SCHEMA, SECOND, Running, Tap, counted

DAY = 86_400


@pytest.mark.parametrize("step", [3 * DAY, -3 * DAY])
async def test_what_is_the_future_is_told_by_the_clock_as_it_is_now(step: int) -> None:
    tap = Tap()
    source = af.source(tap, name="s", schema=SCHEMA, time="ts", watermark_delay="10d")
    running = Running(source.window(af.tumbling("10s"), n="count(*)").named("w"))
    tap.say(1000)
    await running.settle()
    running.clock.set(step)
    tap.say(1000 + step, 1000 + step + 2 * DAY)
    await running.settle()
    tap.end()
    ledger = await running.end()
    assert ledger["sources"]["s"]["future"] == 1
    assert ledger["sources"]["s"]["rows_out"] == 2


@pytest.mark.parametrize("step", [3 * DAY, -3 * DAY])
async def test_setting_the_clock_makes_no_input_quiet_and_none_loud(step: int) -> None:
    first, second = Tap(), Tap()
    running = Running(counted(first, second))
    second.say(1)
    first.say(2, 25)
    await running.settle()
    running.clock.advance(5)
    running.clock.set(step)
    running.clock.advance(4.9)
    await running.settle()
    assert running.rows == []
    running.clock.advance(0.2)
    await running.until(lambda: running.rows == [(0, 2)])
    first.end()
    second.end()
    await running.end()


@pytest.mark.parametrize("step", [3600, -3600])
async def test_windows_of_arrival_go_on(step: int) -> None:
    """Set forward they jump with it; set back they go on, more slowly, and no row is late."""
    tap = Tap()
    running = Running(
        af.source(tap, name="s", schema={"who": "string"}).window(af.tumbling("10s"), n="count(*)").named("w")
    )
    for _ in range(3):
        tap.give({"who": "x"})
        await running.settle()
        running.clock.advance(10)
        await running.settle()
    assert [n for _, n in running.rows] == [1, 1, 1]
    running.clock.set(step)
    for _ in range(2):
        tap.give({"who": "x"})
        await running.settle()
        running.clock.advance(20)
        await running.settle()
    assert [n for _, n in running.rows[3:]] == [1, 1]
    starts = [start for start, _ in running.rows]
    assert starts == sorted(starts)
    assert starts[3] == (1030 + step if step > 0 else 1030)
    tap.end()
    ledger = await running.end()
    assert ledger["stages"]["w"]["late"] == 0


def test_the_arrival_clock_never_goes_back_and_catches_up() -> None:
    clock = VirtualClock(1000 * SECOND)
    arrival = ArrivalClock(clock)
    clock.set(-100)
    assert arrival.now_ns() == 1000 * SECOND
    for passed in (1, 50, 99):
        clock.advance(passed)
        arrival.now_ns()
    assert arrival.now_ns() == 1075 * SECOND
    clock.advance(60)
    assert arrival.now_ns() == clock.now_ns() == 1110 * SECOND


def test_the_clock_of_a_run_is_the_wall_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr("time.time_ns", lambda: 42)
    assert clock.now_ns() == 42
    assert clock.elapsed_ns() <= clock.elapsed_ns()
