"""Snapshots of as-of joins: kernel and twin save the same bytes, load each other's, and go on as if nothing had been."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncflow._kernels.as_of import compiled
from asyncflow._kernels.as_of import reference as twin
from tests.kernels.saved_states import frozen, refuse_or_keep, shown
from tests.kernels.test_as_of_kernel import (
    ALL,
    END,
    KEYS,
    KINDS,
    LONG_MODES,
    MODES,
    NO_TIME,
    Driven,
    Rows,
    int64,
)


class Moving(Driven):
    """A join that may go on in another state, where its keys have other names."""

    def snapshot(self, order: Any = ALL) -> Any:
        """With the keys in this order: ``order[key]`` is the place of a key."""
        rank = np.empty(KEYS, np.int32)
        rank[self.names] = order
        for port in (0, 1):
            self.settle(port)
        return frozen(self.state, rank)

    def move(self, make: Any, order: Any) -> None:
        snapshot, other = self.snapshot(order), make()
        other.load(*snapshot)
        assert shown(frozen(other, ALL)) == shown(snapshot)
        for port in (0, 1):
            places = self.state.saved_places(port).tolist()
            assert other.saved_places(port).tolist() == list(range(len(places)))
            assert sorted(places) == sorted(self.placed[port])
            moved = {place: self.placed[port][old] for place, old in enumerate(places)}
            self.placed[port].clear()
            self.placed[port].update(moved)
        assert other.rows == self.state.rows and other.ways == self.state.ways
        self.state, self.names = other, order.copy()


def makers_of(mode: Any, kind: str) -> list[Any]:
    return [lambda module=module: module.AsOfState(mode[0], kind, mode[1]) for module in (compiled, twin)]


def check(seed: int, mode: Any, kind: str, long: bool) -> None:
    if mode[1] is None and kind in ("right", "full"):
        return
    rng, makers = random.Random(seed), makers_of(mode, kind)
    joins = [Moving(make()) for make in makers for _ in range(2)]
    rows = Rows(rng, long)
    for _ in range(rng.randint(1, 6)):
        for port in (0, 1):
            some = rows.some(port)
            held = [join.hold(port, *some) for join in joins]
            assert all(each == held[0] for each in held)
        clock, limit = rows.step(), rng.choice([1, 3, 1000])
        found = [join.sweep(clock, limit)[0] for join in joins]
        assert all(each == found[0] for each in found)
        snapshots = [shown(join.snapshot()) for join in joins]
        assert all(each == snapshots[0] for each in snapshots)
        for join in joins[1:]:  # the first one is never moved
            if rng.random() < 0.6:
                join.move(rng.choice(makers), np.array(rng.sample(range(KEYS), KEYS), np.int32))
            if rng.random() < 0.2:
                join.compact(rng.randrange(2))
    ends = [(join.sweep(END, 5)[0], join.state.ways, join.state.rows) for join in joins]
    assert all(each == ends[0] for each in ends)


@given(st.integers(0, 2**32), st.sampled_from(MODES), st.sampled_from(KINDS))
@settings(max_examples=300, deadline=None)
def test_a_restored_join_goes_on_as_if_nothing_had_been(seed: int, mode: Any, kind: str) -> None:
    check(seed, mode, kind, False)


@given(st.integers(0, 2**32), st.sampled_from(LONG_MODES), st.sampled_from(KINDS))
@settings(max_examples=30, deadline=None)
def test_a_restored_join_of_many_rows_of_a_key(seed: int, mode: Any, kind: str) -> None:
    check(seed, mode, kind, True)


def use(state: Any, seed: int) -> Any:
    """More rows, and all that the state then gives: without references, as places may differ."""
    rng = random.Random(seed)
    times = int64(rng.randint(0, 90) for _ in range(20))
    keys = np.array([rng.randrange(-1, 2) for _ in times], np.int32)
    found = []
    for port in (0, 1):
        state.settle(port)
        late, partly = state.hold(port, keys, 2, times, None, NO_TIME, 5)
        found.append((None if late is None else late.tolist(), partly))
    for clock in (70, END):
        try:
            more = True
            while more:
                left, _, time, release, more = state.sweep(clock, 50)
                found.append((len(left), time.tolist(), release.tolist()))
        except ValueError as error:  # the clock that was saved is later
            found.append(str(error))
    return found, state.ways, state.rows


DAMAGED = [("backward", None, "left"), ("backward", 9, "left"), ("backward", 9, "full"), ("forward", 6, "left"), ("forward", 6, "full"),
           ("nearest", 6, "left"), ("nearest", 6, "full")]  # fmt: skip


def refused(rng: random.Random, direction: str, tolerance: int | None, kind: str) -> None:
    """A damaged snapshot is refused, or both go on from it alike."""
    makers = makers_of((direction, tolerance), kind)
    join, rows = Moving(makers[1]()), Rows(rng, False)
    for _ in range(2):
        for port in (0, 1):
            join.hold(port, *rows.some(port))
        join.sweep(rows.step(), 100)
    refuse_or_keep(rng, join.snapshot(), tuple(makers), use, ALL)


@pytest.mark.parametrize(("direction", "tolerance", "kind"), DAMAGED)
def test_what_does_not_fit_is_refused(direction: str, tolerance: int | None, kind: str) -> None:
    for seed in range(300):
        refused(random.Random(seed), direction, tolerance, kind)


@pytest.mark.parametrize("module", [compiled, twin], ids=["compiled", "twin"])
def test_a_snapshot_is_taken_between_sweeps_and_loaded_before_the_first_row(module: Any) -> None:
    state = module.AsOfState("backward", "left", 10)
    with pytest.raises(ValueError, match="was frozen"):
        state.saved_places(0)
    keys, times = np.array([0, 1], np.int32), int64([1, 2])
    state.hold(0, keys, 2, times, None, NO_TIME, 0)
    with pytest.raises(ValueError, match="settle"):
        state.freeze(ALL)
    state.settle(0)
    snapshot = frozen(state, ALL)
    with pytest.raises(ValueError, match="had rows"):
        state.load(*snapshot)
    with pytest.raises(ValueError, match="no place"):
        state.freeze(ALL[:1])
    state.sweep(10, 1)
    with pytest.raises(ValueError, match="not over"):
        state.freeze(ALL)
    for other in (("backward", "inner", 10), ("backward", "left", 9), ("nearest", "left", 10)):
        with pytest.raises(ValueError, match="was saved"):
            module.AsOfState(*other).load(*snapshot)
