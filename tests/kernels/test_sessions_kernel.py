"""Sessions and count windows: the kernels against their twins, and results of chosen rows."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncflow._kernels.sessions import compiled
from asyncflow._kernels.sessions import reference as twin

NO_TIME, END = -(2**63), 2**63 - 1
GROUPS = 9


def lists(value):
    return [lists(part) for part in value] if isinstance(value, tuple) else value.tolist()


def ids(values):
    return np.array(values, np.int32)


def rows_of(rng, clock, spread):
    """Groups and times about a clock, with some anywhere."""
    count = rng.choice([0, 1, 7, 60])
    edge = [NO_TIME, NO_TIME + 3, END - 4, END]
    times = [
        rng.choice(edge) if rng.random() < 0.01 else clock + i // 3 + rng.randint(-spread, spread)
        for i in range(count)
    ]
    return ids([rng.randrange(GROUPS) for _ in times]), np.array(times, np.int64)


def both_keep(rng, fast, plain):
    """Groups and slots numbered anew; gives the new names of the groups back."""
    assert fast.live_groups(GROUPS).tolist() == plain.live_groups(GROUPS).tolist()
    live = plain.live_groups(GROUPS).tolist()
    keep = ids(sorted({*live, *rng.sample(range(GROUPS), 2)}))
    for state in (fast, plain):
        state.keep(keep)
    if rng.random() < 0.5:
        assert fast.keep_slots().tolist() == plain.keep_slots().tolist()


@given(st.integers(0, 2**32), st.sampled_from([1, 3, 10, 40, 2**62, END]), st.booleans())
@settings(max_examples=400, deadline=None)
def test_twin_law_of_sessions(seed, gap, several_sources):
    rng = random.Random(seed)
    fast, plain = compiled.Sessions(gap), twin.Sessions(gap)
    clock, spread, delay = rng.randint(-50, 50), rng.choice([0, 5, 60]), rng.choice([0, 4, 30, 10**12])
    watermark = NO_TIME
    for _ in range(rng.randint(1, 8)):
        groups, times = rows_of(rng, clock, spread)
        clock += rng.choice([1, 20, 100])
        marks = None
        if rng.random() < 0.3:
            steps = [clock - delay + rng.randint(-9, 9) for _ in times]
            marks = np.array(steps if several_sources else sorted(steps), np.int64)
        given_rows = (groups, GROUPS, times, marks, watermark if not several_sources else NO_TIME, delay)
        assert lists(fast.assign(*given_rows)) == lists(plain.assign(*given_rows))
        if rng.random() < 0.7:
            watermark = max(watermark, clock - delay - rng.randint(0, 20))
            assert lists(fast.close(watermark)) == lists(plain.close(watermark))
        if rng.random() < 0.3:
            both_keep(rng, fast, plain)
        assert (fast.slot_count, fast.open_windows) == (plain.slot_count, plain.open_windows)
    assert lists(fast.close(END)) == lists(plain.close(END))
    assert fast.windows_closed == plain.windows_closed
    assert fast.open_windows == 0


@given(st.integers(0, 2**32), st.sampled_from([1, 5, 30, 200]), st.booleans())
@settings(max_examples=100, deadline=None)
def test_twin_law_of_many_open_sessions_of_a_key(seed, gap, several_sources):
    """Rows in random order over a time that many sessions have room in; watermarks that fall let sessions lie within each other."""
    rng = random.Random(seed)
    fast, plain = compiled.Sessions(gap), twin.Sessions(gap)
    clock, reach, watermark = 0, rng.choice([300, 3000]), NO_TIME
    for _ in range(rng.randint(2, 6)):
        times = np.array([clock + rng.randint(-reach, reach) for _ in range(rng.choice([40, 150]))], np.int64)
        groups = ids([rng.random() < 0.1 for _ in times])
        clock += rng.choice([0, reach // 3, reach])
        marks = None
        if several_sources or rng.random() < 0.3:
            steps = [clock - rng.randint(0, 2 * reach) for _ in times]
            marks = np.array(steps if several_sources else sorted(steps), np.int64)
        given_rows = (groups, GROUPS, times, marks, watermark if not several_sources else NO_TIME, 2 * reach)
        assert lists(fast.assign(*given_rows)) == lists(plain.assign(*given_rows))
        if rng.random() < 0.5:
            watermark = max(watermark, clock - rng.choice([1, 2, 3]) * reach)
            assert lists(fast.close(watermark)) == lists(plain.close(watermark))
        if rng.random() < 0.5:
            both_keep(rng, fast, plain)
        assert (fast.slot_count, fast.open_windows) == (plain.slot_count, plain.open_windows)
        assert fast.next_end == plain.next_end
    assert lists(fast.close(END)) == lists(plain.close(END))
    assert fast.open_windows == 0


@given(st.integers(0, 2**32), st.sampled_from([1, 2, 3, 10, 10**15]), st.booleans())
@settings(max_examples=150, deadline=None)
def test_twin_law_of_counts(seed, size, timed):
    rng = random.Random(seed)
    fast, plain = compiled.CountWindows(size), twin.CountWindows(size)
    for _ in range(rng.randint(1, 6)):
        groups, times = rows_of(rng, 0, 9)
        given_rows = (groups, GROUPS, times if timed else None)
        assert lists(fast.assign(*given_rows)) == lists(plain.assign(*given_rows))
        if rng.random() < 0.4:
            both_keep(rng, fast, plain)
        assert (fast.slot_count, fast.open_windows) == (plain.slot_count, plain.open_windows)
    assert lists(fast.rest()) == lists(plain.rest())
    assert fast.windows_closed == plain.windows_closed
    assert fast.open_windows == 0


def assign(state, times, delay=10**6, watermark=NO_TIME):
    return lists(state.assign(ids([0] * len(times)), 1, np.array(times, np.int64), None, watermark, delay))


def closed(state, watermark=END):
    _, _, starts, ends = lists(state.close(watermark))
    return list(zip(starts, ends, strict=True))


@pytest.fixture(params=[compiled, twin], ids=["compiled", "twin"])
def sessions(request):
    return request.param.Sessions(10)


def test_a_gap_is_still_the_same_session(sessions):
    assert assign(sessions, [0, 10, 21])[0] == [1, 1, 2]
    assert closed(sessions) == [(0, 20), (21, 31)]


def test_a_row_between_two_sessions_makes_them_one(sessions):
    slots, late, merges = assign(sessions, [0, 20, 20, 10, 21])
    assert (slots, late, merges) == ([1, 2, 2, 1, 1], [], [[3], [1], [2]])
    assert closed(sessions) == [(0, 31)]


def test_late_is_a_row_whose_own_session_is_over_and_that_reaches_no_open_one(sessions):
    # With a delay of 5 the watermark before the last rows is 35: [0, 10) is over, [30 or so, 40) is open.
    slots, late, _ = assign(sessions, [0, 30, 40, 25, 21, 11], delay=5)
    assert late == []  # 25 reaches 30, 21 reaches 25 and so on, though each alone would be late
    assert slots == [1, 2, 2, 2, 2, 2]
    slots, late, _ = assign(sessions, [0], delay=5, watermark=35)
    assert (slots, late) == ([0], [0])


def test_a_row_near_a_closed_session_but_not_late_opens_a_new_one(sessions):
    assign(sessions, [0, 10])
    assert closed(sessions, 20) == [(0, 20)]
    slots, late, _ = assign(sessions, [15, 8], watermark=20)  # alone, [15, 25) is open and [8, 18) is not
    assert (len(set(slots)), late) == (1, [])  # but 8 reaches 15
    assert closed(sessions) == [(8, 25)]


def test_a_session_closed_within_the_batch_is_not_joined(sessions):
    slots, late, _ = assign(sessions, [0, 25, 5], delay=5)
    assert (slots, late) == ([1, 2, 0], [2])
    assert closed(sessions, 20) == [(0, 10)]


def test_slots_of_ever_new_sessions_are_used_again(sessions):
    for turn in range(1000):
        assign(sessions, [turn * 100], delay=0)
        sessions.close(turn * 100)
    assert sessions.slot_count <= 3


def test_a_window_of_so_many_rows_says_when_it_filled():
    state = compiled.CountWindows(2)
    slots, filled = state.assign(ids([0, 1, 1, 1, 0]), 2, np.array([5, 1, 0, 7, 4], np.int64))
    assert slots.tolist() == [0, 1, 1, 2, 0]
    assert lists(filled) == [[1, 0], [1, 0], [1, 5], [0, 4], [2, 4]]
    assert lists(state.rest()) == [[2], [1], [7], [7], [-1]]


@pytest.mark.parametrize("wrong", [0, -1, 2**63])
def test_windows_of_nothing_are_refused(wrong):
    for make in (compiled.Sessions, twin.Sessions, compiled.CountWindows, twin.CountWindows):
        with pytest.raises(ValueError, match="63 - 1"):
            make(wrong)
