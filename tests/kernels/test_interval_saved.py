"""Snapshots of interval joins: kernel and twin save the same bytes, load each other's, and go on as if nothing had been."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncflow._kernels.interval import compiled
from asyncflow._kernels.interval import reference as twin
from tests.kernels.saved_states import frozen, refuse_or_keep, shown
from tests.kernels.test_interval_kernel import BOUNDS, END, KEYS, KINDS, LONG_BOUNDS, NO_TIME, Driven, int64

ALL = np.arange(KEYS, dtype=np.int32)


class Moving(Driven):
    """A join that may go on in another state, where its keys have other names."""

    def __init__(self, make: Any, numbered: bool) -> None:
        super().__init__(make(), numbered)
        self.names = ALL.copy()
        """Of each key its name."""

    def hold(self, port: int, keys: Any, times: Any, marks: Any, watermark: int = 0, delay: int = 0) -> Any:
        named = keys if self.numbered else np.where(keys >= 0, self.names[keys], -1).astype(np.int32)
        return super().hold(port, named, times, marks, watermark, delay)

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
            live = self.state.live_places(port).tolist()
            assert other.live_places(port).tolist() == list(range(len(live)))
            held = {i: self.rows[port][place] for i, place in enumerate(live)}
            self.rows[port].clear()
            self.rows[port].update(held)
        assert other.rows == self.state.rows and other.ways == self.state.ways
        self.state, self.names = other, order.copy()


class Rows:
    """Rows of both sides, some late, and the clock."""

    def __init__(self, rng: random.Random, long: bool) -> None:
        self.rng = rng
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
            rows.append((self.rng.choice(self.keys), time, seen))
        keys = np.array([key for key, _, _ in rows], np.int32)
        return keys, int64(time for _, time, _ in rows), int64(mark for _, _, mark in rows)

    def step(self) -> int:
        self.middle += self.rng.choice(self.steps)
        if min(self.newest) > NO_TIME:
            self.clock = max(self.clock, min(self.newest) - self.delay)
        return self.clock


def makers_of(kind: str, bounds: Any) -> Any:
    return [
        lambda module=module, parts=parts: module.IntervalState(kind, *bounds, parts)
        for module, parts in ((compiled, 1), (twin, 1), (compiled, 2), (compiled, 16))
    ]


def check(seed: int, bounds: Any, kind: str, numbered: bool, long: bool) -> None:
    rng = random.Random(seed)
    makers = makers_of(kind, bounds)
    joins = [Moving(make, numbered) for make in makers for _ in range(2)]
    rows = Rows(rng, long)
    for _ in range(rng.randint(1, 6)):
        for port in (0, 1):
            some = rows.some(port)
            late = [join.hold(port, *some) for join in joins]
            assert all(each == late[0] for each in late)
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


@given(st.integers(0, 2**32), st.sampled_from(BOUNDS), st.sampled_from(KINDS), st.booleans())
@settings(max_examples=300, deadline=None)
def test_a_restored_join_goes_on_as_if_nothing_had_been(
    seed: int, bounds: Any, kind: str, numbered: bool
) -> None:
    check(seed, bounds, kind, numbered, False)


@given(st.integers(0, 2**32), st.sampled_from(LONG_BOUNDS), st.sampled_from(KINDS), st.booleans())
@settings(max_examples=30, deadline=None)
def test_a_restored_join_of_many_rows_of_a_key(seed: int, bounds: Any, kind: str, numbered: bool) -> None:
    check(seed, bounds, kind, numbered, True)


def use(state: Any, seed: int) -> Any:
    """More rows, and all that the state then gives; places may differ."""
    rng = random.Random(seed)
    times = np.sort(int64(rng.randint(0, 60) for _ in range(20)))
    keys = np.array([rng.randrange(-1, 2) for _ in times], np.int32)
    numbered, late = False, []
    for port in (0, 1):
        try:
            late.append(state.hold(port, keys, 2, times, times, 0, 0))
        except ValueError:
            numbered = True
            late.append(state.hold_numbers(port, keys.astype(np.int64), keys >= 0, times, times, 0, 0))
    found: list[Any] = [[(None if flags is None else flags.tolist(), partly) for flags, partly in late]]
    for clock in (30, END):
        more, met = True, []
        try:
            while more:
                left, right, time, release, more = state.sweep(clock, 50)
                firsts = [state.places(port)[1] for port in (0, 1)]
                sides = [
                    np.where(at < 0, 0, at - first) for at, first in zip((left, right), firsts, strict=True)
                ]
                met += list(
                    zip(*(side.tolist() for side in sides), time.tolist(), release.tolist(), strict=True)
                )
        except ValueError:  # the clock was beyond this one
            met = [None]
        found.append(met)
    return numbered, found, state.ways, state.rows


DAMAGED_BOUNDS = [(-9, 9), (2, 9), (-9, -2), (-(2**62), 2**62), (0, 2**63 - 1)]


def refused(rng: random.Random, bounds: Any, numbered: bool) -> None:
    """A damaged snapshot is refused, or both go on from it alike."""
    makers = tuple(makers_of("left", bounds))
    join = Moving(makers[1], numbered)
    rows = Rows(rng, False)
    for _ in range(2):
        for port in (0, 1):
            join.hold(port, *rows.some(port))
        join.sweep(rows.step(), 100)
    refuse_or_keep(rng, join.snapshot(), makers, use, ALL)


@pytest.mark.parametrize("bounds", DAMAGED_BOUNDS)
@pytest.mark.parametrize("numbered", [False, True])
def test_what_does_not_fit_is_refused(bounds: Any, numbered: bool) -> None:
    for seed in range(200):
        refused(random.Random(seed), bounds, numbered)


@pytest.mark.parametrize("module", [compiled, twin], ids=["compiled", "twin"])
def test_a_snapshot_is_taken_between_sweeps_and_loaded_before_the_first_row(module: Any) -> None:
    state = module.IntervalState("full", -10, 10)
    keys, times = np.array([0, 1], np.int32), int64([1, 2])
    state.hold(0, keys, 2, times, None, NO_TIME, 0)
    snapshot = frozen(state, ALL)
    with pytest.raises(ValueError, match="had rows"):
        state.load(*snapshot)
    with pytest.raises(ValueError, match="no place"):
        state.freeze(ALL[:1])
    many = np.arange(200)
    state.hold(1, np.zeros(200, np.int32), 2, 100 * many, None, NO_TIME, 0)
    assert state.sweep(10**6, 1)[4] is True
    for call in (
        lambda: state.freeze(ALL),
        lambda: state.compact(0),
        lambda: state.sweep(10**6 + 1, 1),
        lambda: state.hold(0, keys, 2, times, None, NO_TIME, 0),
    ):
        with pytest.raises(ValueError, match="not over"):
            call()
    for other in (("left", -10, 10), ("full", -10, 9)):
        with pytest.raises(ValueError, match="was saved"):
            module.IntervalState(*other).load(*snapshot)
