"""Snapshots of the memory of a dedup stage: kernel and twin save the same bytes, load each other's, and go on as if nothing had been."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncflow._kernels.dedup import compiled
from asyncflow._kernels.dedup import reference as twin
from tests.kernels.saved_states import frozen, refuse_or_keep, shown

NO_TIME, END_OF_TIME = -(2**63), 2**63 - 1
EDGES = (NO_TIME, NO_TIME + 1, -1, 0, 1, END_OF_TIME - 1, END_OF_TIME)
GROUPS = 5
ALL = np.arange(GROUPS, dtype=np.int32)


def rows_of(rng: random.Random, clock: int) -> tuple[Any, Any, Any]:
    """Keys, times and watermarks of a batch, many of them late."""
    count = rng.choice([0, 1, 5, 80])
    times = [rng.choice(EDGES) if rng.random() < 0.02 else clock + rng.randint(-60, 60) for _ in range(count)]
    marks = [clock + rng.randint(-20, 20) for _ in range(count)]
    keys = [rng.choice([0, 0, 0, 1, 2, 3, 4]) for _ in range(count)]
    return np.array(keys, np.intp), np.array(times, np.int64), np.array(marks, np.int64)


@settings(deadline=None, max_examples=200)
@given(st.integers(0, 2**32), st.one_of(st.integers(0, 20), st.sampled_from([2**62, 2**63 - 1])))
def test_a_restored_state_goes_on_as_if_nothing_had_been(seed: int, within: int) -> None:
    makers = (compiled.DedupState, twin.DedupState)
    states = [[make(within), ALL.copy()] for make in makers for _ in range(2)]  # and of each key its group
    rng, clock, watermark = random.Random(seed), 0, NO_TIME
    for _ in range(rng.randint(1, 8)):
        keys, times, marks = rows_of(rng, clock)
        fresh = [
            state.add(group_of[keys], GROUPS, times, marks, watermark).tolist() for state, group_of in states
        ]
        assert all(each == fresh[0] for each in fresh)
        clock += rng.choice([1, 20, 100])
        watermark = max(watermark, clock - rng.choice([20, 100]))
        if rng.random() < 0.3:
            counts = {len(state.live_groups(watermark)) for state, _ in states}
            assert len(counts) == 1
        snapshots = []
        for state, group_of in states:
            rank = np.empty(GROUPS, np.int32)
            rank[group_of] = ALL
            snapshots.append(frozen(state, rank))
        assert all(shown(each) == shown(snapshots[0]) for each in snapshots)
        for run, snapshot in zip(states[1:], snapshots[1:], strict=True):
            if rng.random() < 0.5:
                run[:] = rng.choice(makers)(within), ALL.copy()
                run[0].load(*snapshot)
                assert shown(frozen(run[0], ALL)) == shown(snapshot)
            elif rng.random() < 0.3 and len(run[0].live_groups(watermark)) < GROUPS:
                order = np.array(rng.sample(range(GROUPS), GROUPS), np.int32)  # other names for the same
                other = rng.choice(makers)(within)
                other.load(*frozen(run[0], order))
                run[:] = other, order[run[1]]


def refused(rng: random.Random, within: int) -> None:
    """A damaged snapshot is refused, or both go on from it alike."""
    makers = (lambda: compiled.DedupState(within), lambda: twin.DedupState(within))

    def use(state: Any, seed: int) -> Any:
        keys, times, marks = rows_of(random.Random(seed), 40)
        return (
            state.add(ALL[keys], GROUPS, times, marks, 20).tolist(),
            state.live_groups(30).tolist(),
            state.entries,
        )

    state = twin.DedupState(within)
    keys, times, marks = rows_of(rng, 0)
    state.add(ALL[keys], GROUPS, times, marks, rng.choice([NO_TIME, -20, 0]))
    refuse_or_keep(rng, frozen(state, ALL), makers, use, ALL)


@pytest.mark.parametrize("within", [0, 10])
def test_what_does_not_fit_is_refused(within: int) -> None:
    for seed in range(600):
        refused(random.Random(seed), within)


@pytest.mark.parametrize("kernel", [compiled, twin], ids=["compiled", "twin"])
def test_what_the_watermark_has_passed_is_not_saved(kernel: Any) -> None:
    state = kernel.DedupState(10)
    zeros, marks = np.zeros(3, np.int32), np.full(3, NO_TIME)
    state.add(zeros, 1, np.array([0, 20, 40]), marks, 15)
    fields, parts = frozen(state, ALL[:1])
    assert fields == {"within_ns": 10, "watermark_ns": 15, "groups": 1}
    assert (parts["group"].tolist(), parts["time"].tolist()) == ([0, 0], [20, 40])
    with pytest.raises(ValueError, match="had rows"):
        state.load(fields, parts)
    with pytest.raises(ValueError, match="no place"):
        state.freeze(ALL[:0])


@pytest.mark.parametrize("kernel", [compiled, twin], ids=["compiled", "twin"])
def test_many_times_of_a_key_move(kernel: Any) -> None:
    times = np.random.default_rng(4).permutation(3000).astype(np.int64) * 25
    zeros, marks = np.zeros(3000, np.int32), np.full(3000, NO_TIME)
    state = kernel.DedupState(10)
    assert state.add(zeros, 1, times, marks, NO_TIME).all()
    other = kernel.DedupState(10)
    other.load(*frozen(state, ALL[:1]))
    assert not other.add(zeros, 1, times + 7, marks, NO_TIME).any()
    assert other.entries == 3000
