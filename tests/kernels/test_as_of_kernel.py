"""As-of joins: the kernel against its twin, through batches of any order, sweeps in portions, places that are given out again and moved,
keys that are forgotten; and both against pairs that are looked for one by one."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncflow._kernels.as_of import compiled
from asyncflow._kernels.as_of import reference as twin

NO_TIME, END = -(2**63), 2**63 - 1
KINDS = ["inner", "left", "right", "full", "semi", "anti"]
MODES: list[tuple[str, int | None]] = [
    ("backward", None),
    ("backward", 6),
    ("backward", 0),
    ("forward", 6),
    ("forward", 0),
    ("nearest", 6),
    ("nearest", 0),
    ("nearest", 2**62 + 1),
]
LONG_MODES: list[tuple[str, int | None]] = [
    ("backward", None),
    ("backward", 400),
    ("forward", 400),
    ("nearest", 400),
]
KEYS = 6
ALL = np.arange(KEYS, dtype=np.int32)


def int64(values: Any) -> Any:
    return np.array(list(values), np.int64)


class Driven:
    """A state, and which rows its references stand for: two states may give out other places for the same rows."""

    def __init__(self, state: Any) -> None:
        self.state = state
        self.placed: tuple[dict[int, int], dict[int, int]] = ({}, {})  # place -> arrival
        self.fresh: tuple[dict[int, int], dict[int, int]] = ({}, {})  # reference -> arrival
        self.arrived = [0, 0]
        self.names = ALL.copy()
        """Of each key its name."""

    def hold(self, port: int, keys: Any, times: Any, *marks: Any) -> Any:
        self.settle(port)
        named = np.where(keys >= 0, self.names[keys], -1).astype(np.int32)
        late, partly = self.state.hold(port, named, KEYS, times, *marks)
        for row in range(len(times)):
            if late is None or not late[row]:
                self.fresh[port][-2 - row] = self.arrived[port]
                self.arrived[port] += 1
        return None if late is None else late.tolist(), partly

    def settle(self, port: int) -> None:
        rows, places = self.state.settle(port)
        for row, place in zip(rows.tolist(), places.tolist(), strict=True):
            assert place not in self.placed[port]
            self.placed[port][place] = self.fresh[port].pop(-2 - row)
        self.fresh[port].clear()

    def arrival(self, port: int, ref: int) -> int | None:
        return None if ref == -1 else (self.placed if ref >= 0 else self.fresh)[port][ref]

    def sweep(self, clock: int, limit: int) -> Any:
        """The portions of the results, and the arrivals of the rows that left their places."""
        found, more = [], True
        while more:
            *met, more = self.state.sweep(clock, limit)
            found.append(
                [
                    (self.arrival(0, left), self.arrival(1, right), time, release)
                    for left, right, time, release in zip(*(each.tolist() for each in met), strict=True)
                ]
            )
        gone = [
            sorted(self.placed[port].pop(place) for place in self.state.recycle(port).tolist())
            for port in (0, 1)
        ]
        return found, gone

    def compact(self, port: int) -> None:
        self.settle(port)
        kept = self.state.compact(port).tolist()
        held = {place: self.placed[port][old] for place, old in enumerate(kept)}
        assert len(held) == len(self.placed[port])
        self.placed[port].clear()
        self.placed[port].update(held)
        assert self.state.places[port] == len(kept)


class Rows:
    """Rows of both sides, some late, some with watermarks that fall; and the clock."""

    def __init__(self, rng: random.Random, long: bool) -> None:
        self.rng = rng
        self.keys = [0, 0, 0, 1, -1] if long else [-1, 0, 0, 1, *range(KEYS)]
        self.spread = rng.choice([30, 200] if long else [0, 4, 12])
        self.counts, self.steps = ([0, 30, 90], [0, 50, 300]) if long else ([0, 1, 4, 9], [0, 3, 10, 40])
        self.delay, self.newest, self.clock = rng.choice([0, 3, 20]), [NO_TIME] * 2, NO_TIME
        self.middle = rng.choice([0, 0, 0, END - 400])

    def some(self, port: int) -> Any:
        """Keys, times, and the watermarks before them."""
        rng = self.rng
        offsets = [rng.randint(-self.spread, self.spread + 6) for _ in range(rng.choice(self.counts))]
        times = int64(min(self.middle + offset, END - 2) for offset in offsets)
        keys = np.array([rng.choice(self.keys) for _ in times], np.int32)
        before = NO_TIME if self.newest[port] == NO_TIME else self.newest[port] - self.delay
        marks = None
        if rng.random() < 0.4:
            marks = int64(
                rng.choice([before, int(time) - rng.randint(0, 9), before - 5 if before > 0 else before])
                for time in times
            )
        if len(times):
            self.newest[port] = max(self.newest[port], int(times.max()))
        return keys, times, marks, before, self.delay

    def step(self) -> int:
        self.middle = min(self.middle + self.rng.choice(self.steps), END - 2)
        if min(self.newest) > NO_TIME:
            self.clock = max(self.clock, min(self.newest) - self.delay)
        return self.clock


class Ordered(Rows):
    """Rows in order that are not late, but for a batch now and then: most batches are read where they lie."""

    def some(self, port: int) -> Any:
        keys, times, marks, before, delay = super().some(port)
        if self.rng.random() < 0.1:
            return keys, times, marks, before, delay
        newest = max(self.newest[port], self.clock, *times.tolist(), -self.spread)
        times = int64(
            min(newest + step, END - 2) for step in sorted(self.rng.randint(0, self.spread) for _ in times)
        )
        marks = None if marks is None else times - self.rng.choice([0, 0, 3])
        if len(times):
            self.newest[port] = int(times[-1])
        return keys, times, marks, before, delay


def check_equal(fast: Driven, plain: Driven) -> None:
    for name in ("rows", "ways", "wait", "reach"):
        assert getattr(fast.state, name) == getattr(plain.state, name)
    assert fast.state.next_due() == plain.state.next_due()
    assert fast.state.live_keys().tolist() == plain.state.live_keys().tolist()
    assert fast.state.nbytes >= plain.state.nbytes


def agree(rng: random.Random, mode: Any, kind: str, long: bool, of: type[Rows] = Rows) -> None:
    if mode[1] is None and kind in ("right", "full"):
        return
    both = [Driven(module.AsOfState(mode[0], kind, mode[1])) for module in (compiled, twin)]
    rows = of(rng, long)
    for _ in range(rng.randint(1, 8)):
        for port in (0, 1):
            some = rows.some(port)
            fast, plain = (driven.hold(port, *some) for driven in both)
            assert fast == plain
        clock, limit = rows.step(), rng.choice([1, 3, 1000])
        assert both[0].state.passes(clock) == both[1].state.passes(clock)
        fast, plain = (driven.sweep(clock, limit) for driven in both)
        assert fast == plain
        check_equal(*both)
        if rng.random() < 0.3:
            port = rng.randrange(2)
            for driven in both:
                driven.compact(port)
        if rng.random() < 0.3:
            live = both[1].state.live_keys().tolist()
            # Names stay: a key that moves would be another one in the rows to come.
            kept = np.array(range(max(live, default=-1) + 1), np.int32)
            for driven in both:
                driven.state.keep_keys(kept)
    fast, plain = (driven.sweep(END, 5) for driven in both)
    assert fast == plain
    check_equal(*both)
    assert both[0].state.rows == (0, 0)


@given(st.integers(0, 2**32), st.sampled_from(MODES), st.sampled_from(KINDS))
@settings(max_examples=400, deadline=None)
def test_twin_law(seed: int, mode: Any, kind: str) -> None:
    agree(random.Random(seed), mode, kind, False)


@given(st.integers(0, 2**32), st.sampled_from(LONG_MODES), st.sampled_from(KINDS))
@settings(max_examples=40, deadline=None)
def test_twin_law_of_many_rows_of_a_key(seed: int, mode: Any, kind: str) -> None:
    agree(random.Random(seed), mode, kind, True)


@given(st.integers(0, 2**32), st.sampled_from(MODES + LONG_MODES), st.sampled_from(KINDS), st.booleans())
@settings(max_examples=200, deadline=None)
def test_twin_law_of_batches_in_order(seed: int, mode: Any, kind: str, long: bool) -> None:
    agree(random.Random(seed), mode, kind, long, Ordered)


def pairs_one_by_one(mode: Any, left: Any, right: Any) -> list[tuple[int, int, int, int]]:
    """(release, left row, right row, time), by the words of the contract.  A row: key, time, watermark before it."""
    direction, tolerance = mode[0], END if mode[1] is None else mode[1]
    wait, found = 0 if direction == "backward" else tolerance, []
    for i, (key, at, seen) in enumerate(left):
        best: Any = None
        for j, (other, then, marked) in enumerate(right):
            fits = {"backward": then <= at, "forward": then >= at, "nearest": True}[direction]
            if (
                key != other
                or key < 0
                or not fits
                or abs(at - then) > tolerance
                or max(seen, marked) > at + wait
            ):
                continue
            back = direction == "backward" or (direction == "nearest" and then <= at)
            rank = abs(at - then), then, -j if back else j
            best = min(best, (rank, j)) if best else (rank, j)
        if best is not None:
            found.append((at + wait, i, best[1], max(at, right[best[1]][1])))
    return sorted(found)


@given(st.integers(0, 2**32), st.sampled_from([mode for mode in MODES if mode[1] != 2**62 + 1]))
@settings(max_examples=200, deadline=None)
def test_pairs_are_those_found_one_by_one(seed: int, mode: Any) -> None:
    """Also with rows behind their watermark, and however the rows are cut into batches and the clock rises."""
    rng = random.Random(seed)
    sides: list[list[tuple[int, int, int]]] = []
    for _ in (0, 1):
        rows, newest, delay = list[tuple[int, int, int]](), NO_TIME, rng.choice([0, 2, 50])
        for number in range(rng.randint(0, 40)):
            at = number // 2 + rng.randint(-6, 6)
            rows.append((rng.choice([-1, 0, 0, 1, 2]), at, newest - delay if newest > NO_TIME else NO_TIME))
            newest = max(newest, at)
        sides.append(rows)
    expected = pairs_one_by_one(mode, *sides)
    state = Driven(compiled.AsOfState(mode[0], "inner", mode[1]))
    names: tuple[list[int], list[int]] = ([], [])
    taken, found, clock = [0, 0], list[Any](), NO_TIME
    while any(taken[port] < len(sides[port]) for port in (0, 1)):
        port = rng.choice([port for port in (0, 1) if taken[port] < len(sides[port])])
        stop = min(len(sides[port]), taken[port] + rng.choice([1, 3, 20]))
        part = sides[port][taken[port] : stop]
        keys = np.array([key for key, _, _ in part], np.int32)
        late, _ = state.hold(
            port, keys, int64(at for _, at, _ in part), int64(seen for _, _, seen in part), 0, 0
        )
        names[port].extend(taken[port] + row for row in range(len(part)) if late is None or not late[row])
        taken[port] = stop
        following = [
            END if taken[side] == len(sides[side]) else sides[side][taken[side]][2] for side in (0, 1)
        ]
        clock = max(clock, min(following))
        if clock < END:
            found += state.sweep(clock, 1000)[0]
    found += state.sweep(END, 3)[0]
    met = [(release, names[0][i], names[1][j], at) for part in found for i, j, at, release in part]
    assert met == expected


@pytest.mark.parametrize("module", [compiled, twin])
def test_a_feed_that_is_always_late_does_not_pile_up(module: Any) -> None:
    """Every right row comes behind its input's watermark: the last of a key is all that stays."""
    state = module.AsOfState("backward", "inner", None)
    for number in range(1, 200):
        times = int64([number, number])
        state.hold(1, np.array([0, 1], np.int32), 2, times, times + 1, 0, 0)
        state.sweep(number + 1, 10)
        state.recycle(1)
        state.settle(1)
        assert state.rows[1] <= 4


@pytest.mark.parametrize("module", [compiled, twin])
def test_a_row_that_stays_gets_a_place_before_the_next_batch(module: Any) -> None:
    state = module.AsOfState("backward", "inner", None)
    keys, times = np.array([0, 1, 0, 0], np.int32), int64([1, 2, 3, 9])
    assert state.hold(1, keys, 2, times, None, NO_TIME, 0) == (None, 0)
    state.hold(0, keys[:2], 2, int64([3, 3]), None, NO_TIME, 0)
    left, right, time, release, more = state.sweep(5, 10)
    assert (left.tolist(), right.tolist(), more) == ([-2, -3], [-4, -3], False)
    assert time.tolist() == release.tolist() == [3, 3]
    with pytest.raises(ValueError, match="settle"):
        state.hold(1, keys, 2, times + 9, None, NO_TIME, 0)
    rows, places = state.settle(1)
    assert sorted(rows.tolist()) == [1, 2, 3]
    assert sorted(places.tolist()) == [0, 1, 2]
    assert state.rows == (0, 3) and state.places == (0, 3)
    assert state.ways == (2, 0, 0, 1)


@pytest.mark.parametrize("module", [compiled, twin])
def test_what_does_not_fit_is_refused(module: Any) -> None:
    with pytest.raises(ValueError, match="no direction"):
        module.AsOfState("sideways", "inner", 1)
    for direction, kind in (("forward", "inner"), ("nearest", "inner"), ("backward", "full")):
        with pytest.raises(ValueError, match="tolerance"):
            module.AsOfState(direction, kind, None)
    with pytest.raises(ValueError, match="negative"):
        module.AsOfState("backward", "inner", -1)
    state = module.AsOfState("forward", "inner", 3)
    keys, times = np.array([0, 5], np.int32), int64([1, 2])
    for marks, count in ((int64([0]), 2), (None, 1)):
        with pytest.raises(ValueError, match="length"):
            state.hold(0, keys, 6, times[:count], marks, NO_TIME, 0)
    with pytest.raises(ValueError, match="negative"):
        state.hold(0, keys, 6, times, None, NO_TIME, -1)
    with pytest.raises(IndexError, match="key"):
        state.hold(0, keys, 5, times, None, NO_TIME, 0)
    with pytest.raises(IndexError, match="key"):
        state.keep_keys(np.array([7], np.int32))
    state.hold(0, keys, 6, times, None, NO_TIME, 0)
    with pytest.raises(ValueError, match="each once"):
        state.keep_keys(np.array([0], np.int32))
    with pytest.raises(ValueError, match="settle"):
        state.compact(0)
    state.settle(0)
    state.sweep(3, 10)
    with pytest.raises(ValueError, match="went back"):
        state.sweep(2, 10)


@pytest.mark.parametrize("module", [compiled, twin])
def test_nothing_else_is_done_while_a_sweep_is_not_over(module: Any) -> None:
    state = module.AsOfState("backward", "left", None)
    keys, times = np.zeros(3, np.int32), int64([1, 2, 3])
    state.hold(0, keys, 1, times, None, NO_TIME, 0)
    assert state.sweep(9, 1)[-1]
    calls = (
        lambda: state.hold(1, keys, 1, times, None, NO_TIME, 0),
        lambda: state.settle(0),
        lambda: state.compact(0),
        lambda: state.freeze(ALL),
        lambda: state.keep_keys(ALL[:1]),
    )
    for call in calls:
        with pytest.raises(ValueError, match="not over"):
            call()
    while state.sweep(9, 1)[-1]:
        pass
    assert state.rows == (0, 0)


@given(st.integers(0, 2**32), st.sampled_from([np.float64, np.int64, np.int32, np.bool_]))
@settings(max_examples=50, deadline=None)
def test_values_are_picked_by_reference(seed: int, dtype: Any) -> None:
    chance = np.random.default_rng(seed)
    placed, fresh = (chance.integers(0, 2, int(chance.integers(1, 20))).astype(dtype) for _ in (0, 1))
    refs = np.where(
        chance.random(30) < 0.5, chance.integers(0, len(placed), 30), -2 - chance.integers(0, len(fresh), 30)
    )
    width = np.dtype(dtype).itemsize
    expected = [placed[ref] if ref >= 0 else fresh[-2 - ref] for ref in refs.tolist()]
    for module in (compiled, twin):
        pick = module.pick(placed.view(np.uint8), fresh.view(np.uint8), width, refs)
        assert pick.view(dtype).tolist() == expected
        for wrong in (len(placed), -1, -2 - len(fresh), END, NO_TIME):
            with pytest.raises(IndexError, match="no row"):
                module.pick(placed.view(np.uint8), fresh.view(np.uint8), width, int64([wrong]))
        with pytest.raises(ValueError, match="bytes"):
            module.pick(placed.view(np.uint8), fresh.view(np.uint8), 3, refs)


@pytest.mark.parametrize("module", [compiled, twin])
def test_what_references_are(module: Any) -> None:
    for refs, found in (
        ([-1, -1], (2, 0, False)),
        ([-2, -3, -4], (0, 0, True)),
        ([-7], (0, 0, True)),
        ([-3, -3], (0, 0, False)),
        ([-4, -3], (0, 0, False)),
        ([-2, -1], (1, 0, False)),
        ([0, -2, 5], (0, 2, False)),
        ([1, 0], (0, 2, False)),
    ):
        assert module.kinds(int64(refs)) == found


@given(st.lists(st.binary(max_size=50), min_size=1, max_size=20), st.randoms(use_true_random=False))
@settings(max_examples=50, deadline=None)
def test_texts_are_picked_by_reference(texts: list[bytes], rng: random.Random) -> None:
    data = np.frombuffer(b"".join(texts), np.uint8)
    lengths = np.array([len(text) for text in texts], np.int32)
    starts = np.cumsum(lengths, dtype=np.int64) - lengths
    backwards = starts.astype(np.int32)[::-1].copy(), lengths[::-1].copy()
    refs = int64(rng.choice([rng.randrange(len(texts)), -2 - rng.randrange(len(texts))]) for _ in range(30))
    expected = [texts[ref] if ref >= 0 else texts[::-1][-2 - ref] for ref in refs.tolist()]
    for module in (compiled, twin):
        packed, begins, sizes = module.pick_texts((data, starts, lengths), (data, *backwards), refs)
        assert sizes.tolist() == [*map(len, expected)]
        assert packed.tobytes() == b"".join(expected)
        assert begins.tolist() == [sum(map(len, expected[:row])) for row in range(len(expected))]
        for wrong in (len(texts), -1, -2 - len(texts), END, NO_TIME):
            with pytest.raises(IndexError, match="no row"):
                module.pick_texts((data, starts, lengths), (data, *backwards), int64([wrong]))
        for ref in (0, -2):
            outside = (
                (data, starts + len(data), lengths + np.int32(1)),
                (data, backwards[0] + np.int32(len(data)), lengths + np.int32(1)),
            )
            with pytest.raises(IndexError, match="outside"):
                module.pick_texts(*outside, int64([ref]))
