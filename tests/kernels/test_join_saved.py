"""Snapshots of joins: kernel and twin save the same bytes, load each other's, and go on as if nothing had been."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncflow._kernels.join import compiled
from asyncflow._kernels.join import reference as twin
from tests.kernels.saved_states import frozen, refuse_or_keep, shown
from tests.kernels.test_join_kernel import END, KEYS, KINDS, LONG_MODES, MODES, NO_TIME, Driven, int64

ALL = np.arange(KEYS, dtype=np.int32)
NONE = (int64([]), int64([]))


class Moving(Driven):
    """A join that may go on in another state, where its keys have other names."""

    def __init__(self, make: Any, numbered: bool, interval: bool) -> None:
        super().__init__(make(), numbered, interval)
        self.names = ALL.copy()
        """Of each key its name."""

    def hold(self, port: int, keys: Any, times: Any, seen: Any) -> None:
        named = keys if self.numbered else np.where(keys >= 0, self.names[keys], -1).astype(np.int32)
        super().hold(port, named, times, seen)

    def snapshot(self, order: Any = ALL) -> Any:
        """With the keys in this order: ``order[key]`` is the place of a key."""
        rank = np.empty(KEYS, np.int32)
        rank[self.names] = order
        return frozen(self.state, rank)

    def move(self, make: Any, order: Any) -> None:
        snapshot, other = self.snapshot(order), make()
        other.load(*snapshot)
        assert shown(frozen(other, ALL)) == shown(snapshot)
        for port in (0, 1):
            ranks = self.state.slot_ranks(port)
            ahead = sorted(int(ranks[slot]) for *_, slot in self.waiting[port])
            assert self.state.ahead(port).tolist() == sorted(slot for *_, slot in self.waiting[port])
            assert other.ahead(port).tolist() == ahead
            assert sorted(ranks[ranks >= 0].tolist()) == list(range(other.slots[port]))
            moved = {int(ranks[slot]): row for slot, row in self.rows[port].items()}
            self.rows[port].clear()
            self.rows[port].update(moved)
            self.waiting[port] = [
                (time, arrival, int(ranks[slot])) for time, arrival, slot in self.waiting[port]
            ]
        assert other.rows == self.state.rows and other.ways == self.state.ways
        self.state, self.names = other, order.copy()


class Rows:
    """Rows of both sides, some late, and the clock."""

    def __init__(self, rng: random.Random, mode: Any, reaches: Any, wait: int, long: bool) -> None:
        self.rng, self.mode, self.wait = rng, mode, wait
        self.reaches = [each if port or mode[0] == "interval" else wait for port, each in enumerate(reaches)]
        self.keys = [0, 0, 0, 1] if long else [-1, 0, 0, 1, *range(KEYS)]
        self.spread = rng.choice([30, 200] if long else [0, 4, 12])
        self.counts, self.steps = ([0, 30, 90], [0, 50, 300]) if long else ([0, 1, 4, 9], [0, 3, 10, 40])
        self.delay, self.newest, self.clock, self.middle = rng.choice([0, 3, 20]), [NO_TIME] * 2, NO_TIME, 0

    def some(self, port: int) -> tuple[Any, Any, Any]:
        rows = []
        for _ in range(self.rng.choice(self.counts)):
            time = self.middle + self.rng.randint(-self.spread, self.spread + 6)
            newest = self.newest[port]
            seen = NO_TIME if newest == NO_TIME else newest - self.delay
            self.newest[port] = max(newest, time)
            reach = self.reaches[port]
            if reach is None or seen <= twin.shifted(time, reach):
                rows.append((self.rng.choice(self.keys), time, max(seen, self.clock)))
        keys = np.array([key for key, _, _ in rows], np.int32)
        return keys, int64(time for _, time, _ in rows), int64(mark for _, _, mark in rows)

    def step(self) -> int:
        self.middle += self.rng.choice(self.steps)
        if min(self.newest) > NO_TIME:
            self.clock = max(self.clock, min(self.newest) - self.delay)
        return self.clock


def check(seed: int, mode: Any, kind: str, numbered: bool, long: bool) -> None:
    if mode[2] is None and kind in ("right", "full"):
        return
    rng, numbered, interval = random.Random(seed), numbered and mode[0] == "interval", mode[0] == "interval"
    makers = [lambda module=module: module.JoinState(mode[0], kind, *mode[1:]) for module in (compiled, twin)]
    joins = [Moving(make, numbered, interval) for make in makers for _ in range(2)]
    rows = Rows(rng, mode, joins[0].state.reach, joins[0].state.wait, long)
    for _ in range(rng.randint(1, 6)):
        for port in (0, 1):
            some = rows.some(port)
            for join in joins:
                join.hold(port, *some)
        clock, limit = rows.step(), rng.choice([1, 3, 1000])
        found = [join.sweep(clock, limit) for join in joins]
        assert all(each == found[0] for each in found)
        snapshots = [shown(join.snapshot()) for join in joins]
        assert all(each == snapshots[0] for each in snapshots)
        for join in joins[1:]:  # the first one is never moved
            if rng.random() < 0.6:
                join.move(rng.choice(makers), np.array(rng.sample(range(KEYS), KEYS), np.int32))
            if rng.random() < 0.2:
                join.compact(rng.randrange(2))
    ends = [(join.sweep(END, 5), join.state.ways, join.state.rows) for join in joins]
    assert all(each == ends[0] for each in ends)


@given(st.integers(0, 2**32), st.sampled_from(MODES), st.sampled_from(KINDS), st.booleans())
@settings(max_examples=300, deadline=None)
def test_a_restored_join_goes_on_as_if_nothing_had_been(
    seed: int, mode: Any, kind: str, numbered: bool
) -> None:
    check(seed, mode, kind, numbered, False)


@given(st.integers(0, 2**32), st.sampled_from(LONG_MODES), st.sampled_from(KINDS), st.booleans())
@settings(max_examples=30, deadline=None)
def test_a_restored_join_of_many_rows_of_a_key(seed: int, mode: Any, kind: str, numbered: bool) -> None:
    check(seed, mode, kind, numbered, True)


def use(state: Any, seed: int) -> Any:
    """More rows, and all that the state then gives: by arrival, as slots may differ; the rows ahead that nobody knows stay."""
    rng = random.Random(seed)
    times = np.sort(int64(rng.randint(0, 60) for _ in range(20)))
    keys = np.array([rng.randrange(-1, 2) for _ in times], np.int32)
    numbered = False
    try:
        ready = [(state.hold(port, keys, 2, times, times), times) for port in (0, 1)]
    except ValueError:
        numbered = True
        ready = [
            (state.hold_numbers(port, keys.astype(np.int64), keys >= 0, times, times), times)
            for port in (0, 1)
        ]
    found = []
    for clock in (30, END):
        parts = [int((times < clock).sum()) if clock != END else len(times) for _ in (0, 1)]
        state.begin(
            clock, *((slots[:stop], of[:stop]) for (slots, of), stop in zip(ready, parts, strict=True))
        )
        ready = [(slots[stop:], of[stop:]) for (slots, of), stop in zip(ready, parts, strict=True)]
        more = True
        for _ in range(200):
            if not more:
                break
            left, _, time, release, more = state.sweep(50)
            found.append((len(left), sorted(time.tolist()), release.tolist()))
            for port in (0, 1):
                state.recycle(port)
    return numbered, found, state.ways, state.rows


DAMAGED_MODES = [("interval", -9, 9), ("backward", 0, None), ("forward", 0, 6), ("nearest", 0, 6)]


def refused(rng: random.Random, mode: Any, numbered: bool) -> None:
    """A damaged snapshot is refused, or both go on from it alike."""
    numbered = numbered and mode[0] == "interval"
    makers = tuple(
        lambda module=module: module.JoinState(mode[0], "left", *mode[1:]) for module in (compiled, twin)
    )
    join = Moving(makers[1], numbered, mode[0] == "interval")
    rows = Rows(rng, mode, join.state.reach, join.state.wait, False)
    for _ in range(2):
        for port in (0, 1):
            join.hold(port, *rows.some(port))
        join.sweep(rows.step(), 100)
    refuse_or_keep(rng, join.snapshot(), makers, use, ALL)


@pytest.mark.parametrize("mode", DAMAGED_MODES)
@pytest.mark.parametrize("numbered", [False, True])
def test_what_does_not_fit_is_refused(mode: Any, numbered: bool) -> None:
    for seed in range(300):
        refused(random.Random(seed), mode, numbered)


@pytest.mark.parametrize("module", [compiled, twin], ids=["compiled", "twin"])
def test_a_snapshot_is_taken_between_sweeps_and_loaded_before_the_first_row(module: Any) -> None:
    state = module.JoinState("interval", "inner", -10, 10)
    with pytest.raises(ValueError, match="was frozen"):
        state.slot_ranks(0)
    keys, times = np.array([0, 1], np.int32), int64([1, 2])
    held = state.hold(0, keys, 2, times, int64([NO_TIME] * 2))
    snapshot = frozen(state, ALL)
    with pytest.raises(ValueError, match="had rows"):
        state.load(*snapshot)
    with pytest.raises(ValueError, match="no place"):
        state.freeze(ALL[:1])
    state.begin(10, (held, times), NONE)
    with pytest.raises(ValueError, match="not over"):
        state.freeze(ALL)
    for other in (("interval", "left", -10, 10), ("interval", "inner", -10, 9), ("nearest", "inner", 0, 10)):
        with pytest.raises(ValueError, match="was saved"):
            module.JoinState(*other).load(*snapshot)


@pytest.mark.parametrize("module", [compiled, twin], ids=["compiled", "twin"])
def test_a_row_that_a_sweep_has_met_is_not_met_again(module: Any) -> None:
    """Whoever says so after a restore: a chain would be a ring."""
    state = module.JoinState("interval", "inner", -10, 10)
    times = int64([1, 2, 3])
    held = state.hold(0, np.zeros(3, np.int32), 1, times, int64([NO_TIME] * 3))
    state.begin(4, (held, times), NONE)
    state.sweep(10)
    other = module.JoinState("interval", "inner", -10, 10)
    other.load(*frozen(state, ALL))
    assert other.ahead(0).tolist() == []
    mine = other.hold(1, np.zeros(1, np.int32), 1, int64([4]), int64([NO_TIME]))
    other.begin(END, (int64([0, 1, 2]), times), (mine, int64([4])))
    assert [part.tolist() for part in other.sweep(10)[:2]] == [[0, 1, 2], [0, 0, 0]]
    assert other.rows == (0, 0)
