"""Snapshots of sessions and count windows: kernel and twin save the same bytes, load each other's, and go on as if nothing had been.

A run that was restored has other groups and slots: what is compared goes by places, and by slots as ``slot_ranks`` translates them.
"""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncflow._kernels.sessions import compiled
from asyncflow._kernels.sessions import reference as twin
from tests.kernels.saved_states import frozen, refuse_or_keep, shown

NO_TIME, END = -(2**63), 2**63 - 1
GROUPS = 7
ALL = np.arange(GROUPS, dtype=np.int32)


class Run:
    """One state, and the names of its own for what all runs call the same: groups and windows."""

    def __init__(self, state):
        self.state = state
        self.group_of = ALL.copy()
        """Of each key its group."""
        self.windows = {}
        """Of each slot with a window the window's name."""
        self.named = 0

    def rank(self):
        rank = np.empty(GROUPS, np.int32)
        rank[self.group_of] = ALL
        return rank

    def keys(self, groups):
        return self.rank()[groups].tolist()

    def name(self, slots):
        """Names of windows in the order in which rows come to them."""
        names = []
        for slot in slots.tolist():
            if slot not in self.windows:
                self.windows[slot] = self.named = self.named + 1
            names.append(self.windows[slot])
        return names

    def moved(self, make):
        """The run goes on in another state."""
        slots = self.state.slot_ranks(self.rank())
        assert sorted(slots[slots >= 0].tolist()) == list(range(self.state.slot_count))[: np.sum(slots >= 0)]
        other = make()
        other.load(*frozen(self.state, self.rank()))
        assert shown(frozen(other, ALL)) == shown(frozen(self.state, self.rank()))
        self.windows = {int(slots[slot]): name for slot, name in self.windows.items() if slots[slot] >= 0}
        self.state, self.group_of = other, ALL.copy()


def sessions_step(run, rng, clock, several):
    """Some rows and a watermark: late rows, and the windows of the others, merges and closed sessions by name."""
    count = rng.choice([0, 1, 7, 60])
    keys = [rng.randrange(GROUPS) for _ in range(count)]
    times = np.array([clock + i // 3 + rng.randint(-60, 60) for i in range(count)], np.int64)
    if count and rng.random() < 0.05:
        times[rng.randrange(count)] = rng.choice([NO_TIME, NO_TIME + 3, END - 4, END])
    marks = [clock + rng.randint(-40, 9) for _ in range(count)]
    watermarks = np.array(marks if several else sorted(marks), np.int64)
    delay = rng.choice([0, 4, 30])
    closes, watermark = rng.random() < 0.5, clock + rng.randint(-40, 0)
    slots, late, merges = run.state.assign(
        run.group_of[keys], GROUPS, times, watermarks if several or delay == 4 else None, NO_TIME, delay
    )
    merged, found = {int(row): [] for row in merges[0]}, []
    for row, into, source in zip(*(part.tolist() for part in merges), strict=True):
        merged[row].append((into, source))
    late_rows = set(late.tolist())
    for row, slot in enumerate(slots.tolist()):
        for into, source in merged.get(row, ()):
            found.append(("merged", run.windows[into], run.windows.pop(source)))
        found.append("late" if row in late_rows else run.name(np.array([slot]))[0])
    if closes:
        slots, groups, starts, ends = run.state.close(watermark)
        rows = zip(ends.tolist(), starts.tolist(), run.keys(groups), slots.tolist(), strict=True)
        found.append(sorted((end, start, key, run.windows.pop(slot)) for end, start, key, slot in rows))
    return found, run.state.open_windows, run.state.next_end, run.state.windows_closed


def counts_step(run, rng, clock, several):
    count = rng.choice([0, 1, 7, 60])
    keys = [rng.randrange(GROUPS) for _ in range(count)]
    times = np.array([clock + rng.randint(-9, 9) for _ in range(count)], np.int64)
    slots, filled = run.state.assign(run.group_of[keys], GROUPS, None if several else times)
    found = []
    ends = {int(row): int(slot) for slot, row in zip(filled[0], filled[-1], strict=True)}
    for row, slot in enumerate(slots):
        found.append(run.name(np.array([slot]))[0])
        if row in ends:
            run.windows.pop(ends[row])
    _, groups, firsts, lasts, rows = filled
    found.append((run.keys(groups), firsts.tolist(), lasts.tolist(), rows.tolist()))
    return found, run.state.open_windows, run.state.windows_closed


def check(seed, step, makers, several):
    runs, chance = [Run(make()) for make in makers for _ in range(2)], random.Random(seed)
    clock = chance.randint(-50, 50)
    for _ in range(chance.randint(1, 8)):
        again = chance.randrange(2**32)
        results = [step(run, random.Random(again), clock, several) for run in runs]
        assert all(result == results[0] for result in results)
        clock += chance.choice([1, 20, 100])
        snapshots = [shown(frozen(run.state, run.rank())) for run in runs]
        assert all(snapshot == snapshots[0] for snapshot in snapshots)
        for run in runs[1:]:  # the first one is never moved
            if chance.random() < 0.5:
                run.moved(chance.choice(makers))
            elif chance.random() < 0.2:
                kept = run.state.keep_slots()
                run.windows = {
                    new: run.windows[old] for new, old in enumerate(kept.tolist()) if old in run.windows
                }
    return runs


@given(st.integers(0, 2**32), st.sampled_from([1, 3, 10, 40, 2**62, END]), st.booleans())
@settings(max_examples=200, deadline=None)
def test_restored_sessions_go_on_as_if_nothing_had_been(seed, gap, several):
    rests = []
    for run in check(
        seed, sessions_step, (lambda: compiled.Sessions(gap), lambda: twin.Sessions(gap)), several
    ):
        _, groups, starts, ends = run.state.close(END)
        rest = sorted(zip(ends.tolist(), starts.tolist(), run.keys(groups), strict=True))
        rests.append((rest, run.state.windows_closed))
    assert all(rest == rests[0] for rest in rests)


@given(st.integers(0, 2**32), st.sampled_from([1, 2, 5, 10**15]), st.booleans())
@settings(max_examples=100, deadline=None)
def test_restored_count_windows_go_on_as_if_nothing_had_been(seed, size, timed):
    makers = (lambda: compiled.CountWindows(size), lambda: twin.CountWindows(size))
    rests = []
    for run in check(seed, counts_step, makers, timed):
        _, groups, firsts, lasts, _ = run.state.rest()
        rest = sorted(zip(run.keys(groups), firsts.tolist(), lasts.tolist(), strict=True))
        rests.append((rest, run.state.windows_closed))
    assert all(rest == rests[0] for rest in rests)


def sessions_refused(rng, several):
    """A damaged snapshot is refused, or both go on from it alike."""
    makers = (lambda: compiled.Sessions(10), lambda: twin.Sessions(10))
    run = Run(twin.Sessions(10))
    for clock in (0, 30):
        sessions_step(run, rng, clock, several)
    refuse_or_keep(
        rng, frozen(run.state, ALL), makers, lambda state, again: go_on(state, again, several), ALL
    )


@pytest.mark.parametrize("several", [False, True])
def test_sessions_that_do_not_fit_are_refused(several):
    for seed in range(400):
        sessions_refused(random.Random(seed), several)


def go_on(state, seed, several):
    rng = random.Random(seed)
    found = [
        lists(state.assign(ALL, GROUPS, np.array([rng.randint(0, 60) for _ in ALL]), None, NO_TIME, 10**6))
    ]
    if several:
        found.append(lists(state.close(30)))
    return [*found, lists(state.close(END)), state.open_windows]


def lists(value):
    return [lists(part) for part in value] if isinstance(value, tuple) else value.tolist()


def counts_refused(rng):
    """A damaged snapshot is refused, or both go on from it alike."""

    def use(state, seed):
        return lists(state.assign(ALL, GROUPS, ALL.astype(np.int64))), lists(state.rest())

    run = Run(twin.CountWindows(4))
    counts_step(run, rng, 0, False)
    makers = (lambda: compiled.CountWindows(4), lambda: twin.CountWindows(4))
    refuse_or_keep(rng, frozen(run.state, ALL), makers, use, ALL)


def test_count_windows_that_do_not_fit_are_refused():
    for seed in range(400):
        counts_refused(random.Random(seed))


@pytest.mark.parametrize("kernel", [compiled, twin], ids=["compiled", "twin"])
def test_many_sessions_of_a_key_move(kernel):
    state, rng = kernel.Sessions(10), np.random.default_rng(2)
    times = rng.permutation(3000) * 20
    zeros = np.zeros(len(times), np.int32)
    state.assign(zeros, 1, times, None, NO_TIME, 10**9)
    other = kernel.Sessions(10)
    other.load(*frozen(state, ALL))
    for each in (state, other):
        slots, _, merges = each.assign(zeros, 1, times + 10, None, NO_TIME, 10**9)
        assert (each.open_windows, len(merges[0])) == (1, 2999) and len(slots) == 3000
        assert [part.tolist() for part in each.close(END)[2:]] == [[0], [3000 * 20]]


@pytest.mark.parametrize("kernel", [compiled, twin], ids=["compiled", "twin"])
def test_sessions_that_began_at_one_time_are_merged_into_the_one_that_ends_first(kernel):
    """Whatever their slots: a slot was free when the later one came."""
    state = kernel.Sessions(10)

    def add(groups, times, mark):
        marks = np.full(len(times), mark, np.int64)
        return lists(state.assign(np.array(groups, np.int32), 2, np.array(times), marks, NO_TIME, 0))

    assert add([1, 0, 0, 0], [-15, 0, 10, 20], NO_TIME)[0] == [1, 2, 2, 2]
    assert state.close(-5)[0].tolist() == [1]
    # For rows after the watermark 30 the session [0, 20] is closed.
    assert add([0, 0, 0, 0], [25, 15, 5, 0], 30)[0] == [1, 1, 1, 1]
    assert add([0], [12], 0) == [[2], [], [[0], [2], [1]]]


@pytest.mark.parametrize("kernel", [compiled, twin], ids=["compiled", "twin"])
def test_a_state_in_use_takes_no_snapshot_and_groups_need_places(kernel):
    for state in (kernel.Sessions(10), kernel.CountWindows(3)):
        given = (ALL, GROUPS, ALL.astype(np.int64))
        state.assign(*given) if isinstance(state, kernel.CountWindows) else state.assign(
            *given, None, NO_TIME, 0
        )
        with pytest.raises(ValueError, match="had rows"):
            state.load(*frozen(state, ALL))
        for rank in (ALL[:3], np.full(GROUPS, -1, np.int32)):
            with pytest.raises(ValueError, match="no place"):
                state.freeze(rank)
            with pytest.raises(ValueError, match="no place"):
                state.slot_ranks(rank)
