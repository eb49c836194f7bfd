"""Rows of one key in any order of time: four times the rows take about four times as long, however many wait for the watermark."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest

from asyncflow._kernels.as_of import compiled as as_of
from asyncflow._kernels.dedup import compiled as dedup
from asyncflow._kernels.dedup import reference as plain_dedup
from asyncflow._kernels.interval import compiled as interval
from asyncflow._kernels.sessions import compiled as sessions
from asyncflow._kernels.sessions import reference as plain_sessions
from asyncflow._kernels.window import compiled as window

NO_TIME, END = -(2**63), 2**63 - 1
STEP, GAP = 2000, 1000
ORDERS: dict[str, Callable[[int], np.ndarray]] = {
    "rising": np.arange,
    "falling": lambda count: np.arange(count)[::-1].copy(),
    "random": lambda count: np.random.default_rng(1).permutation(count),
    "inwards": lambda count: np.where(np.arange(count) % 2, 2 * count - np.arange(count), np.arange(count)),
    "blocks that fall": lambda count: np.arange(count).reshape(-1, 100)[::-1].ravel(),
}


def into_sessions(times: np.ndarray, marks: np.ndarray | None, kernel=sessions) -> int:
    state = kernel.Sessions(GAP)
    groups = np.zeros(len(times), np.int32)
    for part in np.array_split(np.arange(len(times)), 5):
        marked = None if marks is None else marks[part]
        state.assign(groups[part], 1, times[part], marked, NO_TIME, 10**12)
    return len(state.close(END)[0])


def into_dedup(times: np.ndarray, marks: np.ndarray | None, kernel=dedup) -> int:
    state = kernel.DedupState(GAP)
    marks = np.full(len(times), NO_TIME) if marks is None else marks
    groups = np.zeros(len(times), np.int32)
    parts = np.array_split(np.arange(len(times)), 5)
    return sum(int(state.add(groups[part], 1, times[part], marks[part], NO_TIME).sum()) for part in parts)


def into_windows(times: np.ndarray, marks: np.ndarray | None) -> int:
    """A window a row."""
    state = window.WindowState(STEP, STEP, 0, [("count", (), (), None)])
    groups, found = np.zeros(len(times), np.int32), 0
    for part in np.array_split(np.arange(len(times)), 5):
        marked = None if marks is None else marks[part]
        state.add(groups[part], 1, times[part], marked, NO_TIME, 10**12, [], [])
    while (closed := state.close(END, np.zeros(1, np.int32), 1 << 15)) is not None:
        found += len(closed[0])
    return found


def into_interval_join(times: np.ndarray, marks: np.ndarray | None) -> int:
    """Left rows of one key that come in this order, late ones among them, and wait for right ones of a time long after."""
    count = len(times)
    state = interval.IntervalState("inner", 10**12, 10**12 + 1)
    given = (None, NO_TIME, 0) if marks is None else (np.full(count, 2 * STEP * count), 0, 0)
    for part in np.array_split(np.arange(count), 5):
        rest = (None if given[0] is None else given[0][part], *given[1:])
        state.hold(0, np.zeros(len(part), np.int32), 1, times[part], *rest)
    assert len(state.sweep(2 * STEP * count + 1, 10 * count)[0]) == 0
    held = state.rows[0]
    state.sweep(END, 10 * count)
    return held


def into_interval_join_of_pairs(times: np.ndarray, marks: np.ndarray | None) -> int:
    """Rows of one key on both sides, each of which meets the one of its time."""
    state = interval.IntervalState("full", -1, 1)
    zeros = np.zeros(len(times), np.int32)
    for port in (0, 1):
        for part in np.array_split(np.arange(len(times)), 5):
            marked = None if marks is None else marks[part]
            state.hold(port, zeros[part], 1, times[part], marked, NO_TIME, 10**12)
    return len(state.sweep(END, 10 * len(times))[0])


def into_as_of_join(times: np.ndarray, marks: np.ndarray | None) -> int:
    """Left rows that look both ways, at right ones which came after a watermark that had passed many of them."""
    count, keys = len(times), np.zeros(len(times), np.int32)
    state = as_of.AsOfState("nearest", "inner", 4 * STEP * count)
    marks = np.full(count, STEP * count // 2) if marks is None else marks
    for part in np.array_split(np.arange(count), 5):
        for port in (0, 1):
            state.settle(port)
            state.hold(port, keys[part], 1, times[part], marks[part] if port else None, NO_TIME, 10**12)
    return len(state.sweep(END, 10 * count)[0])


def into_as_of_join_row_by_row(times: np.ndarray, marks: np.ndarray | None) -> int:
    """Batches of a row, while nothing comes from the other side."""
    state, key = as_of.AsOfState("backward", "left", None), np.zeros(1, np.int32)
    for row in range(0, len(times), 20):
        state.settle(0)
        state.hold(0, key, 1, times[row : row + 1], None, NO_TIME, 10**12)
        state.sweep(row - 10**9, 1)
    return 20 * len(state.sweep(END, 10 * len(times))[0])


def seconds(do: Callable[[], int], wanted: int) -> float:
    """The least CPU time of three tries."""
    tries = []
    for _ in range(3):
        begin = time.process_time()
        assert do() == wanted
        tries.append(time.process_time() - begin)
    return min(tries)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("several_sources", [False, True], ids=["one", "several"])
@pytest.mark.parametrize(
    "take",
    [
        into_sessions,
        into_dedup,
        into_windows,
        into_interval_join,
        into_interval_join_of_pairs,
        into_as_of_join,
        into_as_of_join_row_by_row,
    ],
)
def test_the_time_of_a_row_hardly_grows(take, order: str, several_sources: bool) -> None:
    """``several``: watermarks before rows fall, too, all of them before every row.  Eight times the rows: in quadratic time 64 times as
    long."""
    taken = []
    for count in (20_000, 160_000):
        times = ORDERS[order](count).astype(np.int64) * STEP
        marks = -np.arange(count) if several_sources else None
        taken.append(seconds(lambda times=times, marks=marks, count=count: take(times, marks), count))
    assert taken[1] < 32 * max(taken[0], 1e-3)


def test_many_sessions_become_one_in_the_time_of_their_number() -> None:
    """Sessions a gap and a bit apart, then the rows that join them, from both ends and in random order."""
    taken = []
    for count in (5_000, 20_000):
        apart = np.arange(count) * (GAP + 1)
        between = np.random.default_rng(2).permutation(apart[:-1] + GAP // 2)
        rows = np.concatenate([apart, between])
        taken.append(seconds(lambda rows=rows: into_sessions(rows, None), 1))
    assert taken[1] < 10 * max(taken[0], 1e-3)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("spread", [STEP, GAP // 3], ids=["apart", "overlapping"])
def test_every_order_gives_what_the_twins_give(order: str, spread: int) -> None:
    rng = np.random.default_rng(3)
    times = ORDERS[order](1000).astype(np.int64) * spread + rng.integers(0, GAP, 1000)
    for marks in (None, rng.integers(0, 1000 * spread, 1000)):
        assert into_sessions(times, marks) == into_sessions(times, marks, plain_sessions)
        assert into_dedup(times, marks) == into_dedup(times, marks, plain_dedup)
