"""The interval join: the kernel against its twin and a list of all pairs, through sweeps, portions, moved places and renamed keys."""

import random
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncflow._kernels.interval import compiled
from asyncflow._kernels.interval import reference as twin

NO_TIME, END = -(2**63), 2**63 - 1
KINDS = ["inner", "left", "right", "full", "semi", "anti"]
BOUNDS = [(-5, 5), (0, 0), (2, 9), (-9, -2), (-12, 1), (0, 30), (-(2**62), 2**62), (2**62, 2**63 - 1)]
LONG_BOUNDS = [(-400, -390), (-3, 3), (390, 400), (-200, 200)]
KEYS = 6
NUMBERS = np.array([0, -(2**63), 2**63 - 1, 16, 17, 1 << 40], np.int64)


def int64(values: Any) -> Any:
    return np.array(list(values), np.int64)


class Driven:
    """A state, and what its places stand for: two states may have other places for the same rows."""

    def __init__(self, state: Any, numbered: bool) -> None:
        self.state, self.numbered = state, numbered
        self.rows: tuple[dict[int, int], dict[int, int]] = ({}, {})  # place -> number in the order of arrival
        self.arrived = [0, 0]

    def hold(self, port: int, keys: Any, times: Any, marks: Any, watermark: int, delay: int) -> Any:
        before = self.state.places(port)[1]
        if self.numbered:
            valid = None if (keys >= 0).all() else keys >= 0
            late, partly = self.state.hold_numbers(port, NUMBERS[keys], valid, times, marks, watermark, delay)
        else:
            late, partly = self.state.hold(port, keys, KEYS, times, marks, watermark, delay)
        taken = len(times) if late is None else int((~late).sum())
        assert late is None or late.any()
        assert self.state.places(port)[1] == before + taken
        for place in range(before, before + taken):
            self.rows[port][place] = self.arrived[port]
            self.arrived[port] += 1
        return None if late is None else late.tolist(), partly

    def sweep(self, clock: int, limit: int) -> Any:
        found, more = [], True
        while more:
            if self.state.parts == 1:
                left, right, time, release, more = self.state.sweep(clock, limit)
            else:
                with ThreadPoolExecutor(2) as threads:
                    list(threads.map(lambda task: task(), self.state.tasks(clock, limit)))
                left, right, time, release, more = self.state.met()
            assert (np.diff(release) >= 0).all()
            pairs = zip(left.tolist(), right.tolist(), strict=True)
            named = [
                tuple(None if at < 0 else self.rows[port][at] for port, at in enumerate(pair))
                for pair in pairs
            ]
            part = list(zip(named, time.tolist(), release.tolist(), strict=True))
            assert not (part and found) or part[0][2] > found[-1][2], "a moment is given whole"
            assert not more or len(part) >= limit or self.state.parts > 1
            found += part
        leavers = []
        for port in (0, 1):
            live = set(self.state.live_places(port).tolist())
            assert live <= set(self.rows[port])
            first, following = self.state.places(port)
            assert first == min(live, default=following)
            gone = sorted(self.rows[port].pop(place) for place in set(self.rows[port]) - live)
            leavers.append(gone)
        return found, leavers

    def compact(self, port: int) -> None:
        kept, first = self.state.compact(port).tolist(), self.state.places(port)[0]
        held = {first + i: self.rows[port][place] for i, place in enumerate(kept)}
        assert sorted(held.values()) == sorted(self.rows[port].values())
        self.rows[port].clear()
        self.rows[port].update(held)


class Oracle:
    """All rows, and what they come to."""

    def __init__(self, kind: str, lower: int, upper: int) -> None:
        self.kind, self.lower, self.upper = kind, lower, upper
        self.sides: tuple[list[Any], list[Any]] = ([], [])

    def results(self) -> list[Any]:
        left, right = self.sides
        holds, found = (max(self.upper, 0), max(-self.lower, 0)), []
        matched: tuple[dict[int, int], set[int]] = ({}, set())
        for i, (key, time, seen) in enumerate(left):
            for j, (other, at, mark) in enumerate(right):
                counts = seen <= at + holds[1] and mark <= time + holds[0]
                if key == other >= 0 and self.lower <= at - time <= self.upper and counts:
                    moment = max(time, at, seen, mark)
                    found.append((moment, i, j, max(time, at)))
                    matched[0][i] = min(moment, matched[0].get(i, moment))
                    matched[1].add(j)
        never = float("inf")
        if self.kind in ("semi", "anti"):
            found = []
        if self.kind == "semi":
            found = [(moment, i, never, left[i][1]) for i, moment in matched[0].items()]
        if self.kind in ("left", "full", "anti"):
            rows = [(i, row) for i, row in enumerate(left) if i not in matched[0]]
            found += [
                (max(twin.shifted(time, holds[0]), seen), i, never, time) for i, (_, time, seen) in rows
            ]
        if self.kind in ("right", "full"):
            rows = [(j, row) for j, row in enumerate(right) if j not in matched[1]]
            found += [
                (max(twin.shifted(time, holds[1]), seen), never, j, time) for j, (_, time, seen) in rows
            ]
        named = [
            ((None if i == never else i, None if j == never else j), time, moment)
            for moment, i, j, time in sorted(found)
        ]
        return named


def agree(
    rng: random.Random,
    bounds: Any,
    kind: str,
    numbered: bool,
    keys_of: Any,
    spread: int,
    counts: Any,
    steps: Any,
) -> None:
    states = [
        Driven(module.IntervalState(kind, *bounds, parts), numbered)
        for module, parts in ((compiled, 1), (twin, 1), (compiled, rng.choice([2, 8])))
    ]
    oracle = Oracle(kind, *bounds)
    assert states[0].state.reach == states[1].state.reach
    delay = rng.choice([0, 3, 20])
    newest, clock = [NO_TIME, NO_TIME], NO_TIME
    middle, met = 0, []
    for _ in range(rng.randint(1, 8)):
        for port in (0, 1):
            count = rng.choice(counts)
            keys = np.array([rng.choice(keys_of) for _ in range(count)], np.int32)
            times = int64(middle + rng.randint(-spread, spread) + rng.randint(0, 6) for _ in range(count))
            if rng.random() < 0.4:
                times.sort()
            before = NO_TIME if newest[port] == NO_TIME else newest[port] - delay
            marks = []
            for time in times.tolist():
                marks.append(max(NO_TIME if newest[port] == NO_TIME else newest[port] - delay, clock))
                newest[port] = max(newest[port], time)
            given = (int64(marks), 0, 0) if rng.random() < 0.5 else (None, before, delay)
            late = [driven.hold(port, keys, times, *given) for driven in states]
            assert late[0] == late[1] == late[2]
            flags = late[0][0] or [False] * count
            rows = zip(keys.tolist(), times.tolist(), marks, flags, strict=True)
            oracle.sides[port].extend((key, time, mark) for key, time, mark, gone in rows if not gone)
        middle += rng.choice(steps)
        if min(newest) > NO_TIME:
            clock = max(clock, min(newest) - delay)
        limit = rng.choice([1, 3, 1000])
        found = [driven.sweep(clock, limit) for driven in states]
        assert found[0] == found[1] == found[2]
        met += found[0][0]
        for driven in states[::2]:
            check_equal(driven, states[1])
        for driven in states:
            if rng.random() < 0.3:
                driven.compact(rng.randrange(2))
        if not numbered and rng.random() < 0.3:
            live = states[1].state.live_keys().tolist()
            # Names stay: a key that moves would be another one in the rows to come.
            kept = np.array(range(max(live, default=-1) + 1), np.int32)
            for driven in states:
                driven.state.keep_keys(kept)
    found = [driven.sweep(END, 5) for driven in states]
    assert found[0] == found[1] == found[2]
    met += found[0][0]
    assert states[0].state.rows == (0, 0)
    for driven in states[::2]:
        check_equal(driven, states[1])
    assert met == oracle.results()


def check_equal(fast: Any, plain: Any) -> None:
    assert fast.state.rows == plain.state.rows
    assert fast.state.ways == plain.state.ways
    assert fast.state.keys == plain.state.keys
    assert fast.state.nbytes >= plain.state.nbytes
    if not fast.numbered:
        assert fast.state.live_keys().tolist() == plain.state.live_keys().tolist()
    for port in (0, 1):
        assert fast.state.first_alone(port) == plain.state.first_alone(port)
        assert fast.state.first_ahead(port) == plain.state.first_ahead(port)


@given(st.integers(0, 2**32), st.sampled_from(BOUNDS), st.sampled_from(KINDS), st.booleans())
@settings(max_examples=600, deadline=None)
def test_twin_law(seed: int, bounds: Any, kind: str, numbered: bool) -> None:
    rng = random.Random(seed)
    spread, counts, steps = rng.choice([0, 4, 12]), [0, 1, 4, 9], [0, 3, 10, 40]
    agree(rng, bounds, kind, numbered, [-1, 0, 0, 1, *range(KEYS)], spread, counts, steps)


@given(st.integers(0, 2**32), st.sampled_from(LONG_BOUNDS), st.sampled_from(KINDS), st.booleans())
@settings(max_examples=60, deadline=None)
def test_twin_law_of_many_rows_of_a_key(seed: int, bounds: Any, kind: str, numbered: bool) -> None:
    """Rows in random order, so that blocks are full, runs merge, and logs, places and buckets grow."""
    rng = random.Random(seed)
    agree(rng, bounds, kind, numbered, [0, 0, 0, 1], rng.choice([30, 200]), [0, 30, 90], [0, 50, 300])


@pytest.mark.parametrize("module", [compiled, twin])
def test_keys_are_renamed_in_rows_that_wait_and_rows_that_are_known(module: Any) -> None:
    state = module.IntervalState("inner", -10, 10)
    keys, times = np.array([3, 1, -1], np.int32), int64([1, 2, 3])
    state.hold(0, keys, 4, times, None, NO_TIME, 100)
    assert state.sweep(2, 10)[4] is False
    assert state.live_keys().tolist() == [1, 3]
    with pytest.raises(IndexError, match="held of"):
        state.keep_keys(np.array([1], np.int32))
    state.keep_keys(np.array([1, 3], np.int32))
    state.hold(1, np.array([1, 0, 0], np.int32), 2, times + 1, None, NO_TIME, 100)
    left, right, time, release, more = state.sweep(END, 10)
    assert left.tolist() == [0, 1, 1]
    assert right.tolist() == [0, 1, 2]
    assert time.tolist() == release.tolist() == [2, 3, 4]
    assert more is False
    assert state.ways == (2, 1, 3, 0)


@pytest.mark.parametrize("module", [compiled, twin])
def test_what_does_not_fit_is_refused(module: Any) -> None:
    for wrong in (("sideways", 0, 1), ("inner", 1, 0), ("inner", NO_TIME, 1)):
        with pytest.raises(ValueError, match=r"no kind|bounds"):
            module.IntervalState(*wrong)
    state = module.IntervalState("inner", 0, 1)
    keys, times, rest = np.array([0, 5], np.int32), int64([1, 2]), (None, NO_TIME, 0)
    with pytest.raises(ValueError, match="length"):
        state.hold(0, keys, 6, times[:1], *rest)
    with pytest.raises(ValueError, match="length"):
        state.hold(0, keys, 6, times, times[:1], 0, 0)
    with pytest.raises(ValueError, match="delay"):
        state.hold(0, keys, 6, times, None, 0, -1)
    for bad in (keys, np.array([-2, 0], np.int32)):
        with pytest.raises(IndexError, match="key"):
            state.hold(0, bad, 5, times, *rest)
    with pytest.raises(IndexError, match="key"):
        state.keep_keys(np.array([7], np.int32))
    state.sweep(9, 10)
    with pytest.raises(ValueError, match="never falls"):
        state.sweep(8, 10)


@pytest.mark.parametrize("module", [compiled, twin])
def test_keys_are_numbers_or_names(module: Any) -> None:
    one, two, rest = int64([1]), int64([1, 2]), (None, NO_TIME, 0)
    state = module.IntervalState("inner", 0, 1)
    with pytest.raises(ValueError, match="length"):
        state.hold_numbers(0, one, None, two, *rest)
    with pytest.raises(ValueError, match="length"):
        state.hold_numbers(0, two, np.ones(1, np.bool_), two, *rest)
    state.hold_numbers(0, one, None, one, *rest)
    with pytest.raises(ValueError, match="numbers"):
        state.hold(0, np.zeros(1, np.int32), 1, one, *rest)
    with pytest.raises(ValueError, match="numbers"):
        state.keep_keys(np.zeros(1, np.int32))
    with pytest.raises(ValueError, match="numbers"):
        state.live_keys()
    named = module.IntervalState("inner", 0, 1)
    named.hold(0, np.zeros(1, np.int32), 1, one, *rest)
    with pytest.raises(ValueError, match="named by others"):
        named.hold_numbers(0, one, None, one, *rest)


def test_many_numbers_at_once() -> None:
    """Logs, places and buckets grow; numbers far apart, side by side, and that differ in their high bits only."""
    rng = np.random.default_rng(3)
    numbers = rng.integers(-(2**63), 2**63, 20_000)
    pool = np.concatenate([numbers, np.arange(20_000), np.arange(20_000) << 32])
    state = compiled.IntervalState("inner", -(10**9), 10**9)
    sides = [pool, rng.permutation(pool)]
    for port, own in enumerate(sides):
        state.hold_numbers(port, own, None, np.arange(len(pool)), None, NO_TIME, 0)
    left, right, *_ = state.sweep(END, 1 << 20)
    assert len(left) == sum(count**2 for count in np.unique(pool, return_counts=True)[1].tolist())
    assert (sides[0][left] == sides[1][right]).all()
    assert state.keys == 0 and state.rows == (0, 0)


@pytest.mark.parametrize("module", [compiled, twin])
def test_numbers_are_forgotten_with_their_last_row(module: Any) -> None:
    state = module.IntervalState("inner", -100, 100)
    for first in range(0, 1500, 300):
        times = np.arange(first, first + 300)
        for port in (0, 1):
            state.hold_numbers(port, times * 16 - 5, None, times, None, NO_TIME, 0)
        assert len(state.sweep(first + 300, 1 << 20)[0]) == 300
        assert state.rows == (100, 100)
        assert state.keys == 100


def test_memory_follows_the_rows_that_wait() -> None:
    state = compiled.IntervalState("full", -100, 100)
    held = []
    for first in range(0, 300_000, 1000):
        times = np.arange(first, first + 1000) if first < 200_000 else np.arange(first, first + 10)
        for port in (0, 1):
            state.hold_numbers(port, times, None, times, None, NO_TIME, 0)
        state.sweep(first + 1000, 1 << 20)
        held.append(state.nbytes)
    assert max(held) < 1_000_000
    state.sweep(10**9, 1 << 20)
    assert state.nbytes < 200_000


def test_a_row_that_stays_long_does_not_keep_the_places_of_others() -> None:
    """Places are in use from the first row that is held: rows are moved together."""
    state = compiled.IntervalState("inner", -1, 1)
    state.hold_numbers(0, int64([7]), None, int64([10**6]), None, NO_TIME, 0)
    for first in range(0, 10_000, 100):
        times = np.arange(first, first + 100)
        state.hold_numbers(0, times, None, times, np.full(100, NO_TIME), 0, 0)
        state.sweep(first + 100, 100)
    first, following = state.places(0)
    assert (first, following) == (0, 10_001)
    kept = state.compact(0).tolist()
    assert kept == [0, 10_000] and state.places(0) == (10_001, 10_003)
    state.hold_numbers(1, int64([7]), None, int64([10**6]), None, NO_TIME, 0)
    assert [part.tolist() for part in state.sweep(END, 100)[:2]] == [[10_001], [0]]


@given(st.lists(st.binary(max_size=40), max_size=30), st.randoms(use_true_random=False))
@settings(deadline=None)
def test_texts_are_copied_as_they_are(texts: list[bytes], rng: random.Random) -> None:
    data = np.frombuffer(b"".join(texts), np.uint8)
    lengths = np.array([len(text) for text in texts], np.int32)
    starts = np.cumsum(lengths, dtype=np.int32) - lengths
    rows = [rng.randrange(len(texts)) for _ in range(len(texts) and 40)]
    copied = [
        module.take_texts(data, starts[rows].astype(np.int64), lengths[rows]) for module in (compiled, twin)
    ]
    assert copied[0][0].tobytes() == copied[1][0].tobytes() == b"".join(texts[row] for row in rows)
    assert copied[0][1].tolist() == copied[1][1].tolist()
    for room in (0, 1, 50):
        held = []
        for module in (compiled, twin):
            out = np.full(5 + len(data) + room, 7, np.uint8)
            held.append(
                (module.put_texts(out, 5, data, starts, lengths).tolist(), out[5 : 5 + len(data)].tobytes())
            )
            assert out[:5].tolist() == [7] * 5
        assert held[0] == held[1]
    for module in (compiled, twin):
        if len(data):
            with pytest.raises(IndexError):
                module.take_texts(data, starts.astype(np.int64) + len(data) + 1, lengths)
            with pytest.raises(IndexError):
                module.put_texts(np.empty(len(data), np.uint8), 1, data, starts, lengths)
        with pytest.raises(IndexError):
            module.take_texts(data, int64([0]), np.array([-1], np.int32))
        assert module.take_texts(data, int64([-9, 10**9]), np.zeros(2, np.int32))[0].tolist() == []


@given(
    st.integers(0, 6),
    st.lists(st.integers(0, 2**31 - 1), min_size=64, max_size=64),
    st.lists(st.integers(-(2**63), 2**63 - 1), max_size=60),
    st.integers(-(2**40), 2**40),
)
@settings(deadline=None)
def test_rings_are_read_by_place(power: int, lengths: list[int], places: list[int], origin: int) -> None:
    ring = np.cumsum(int64(lengths[: 1 << power]))
    wanted = int64(places)
    assert compiled.take_places(ring, wanted).tolist() == twin.take_places(ring, wanted).tolist()
    told = []
    for module in (compiled, twin):
        try:
            told.append([part.tolist() for part in module.take_spans(ring, wanted, origin)])
        except IndexError as error:
            told.append(str(error))
    assert told[0] == told[1]
    for module in (compiled, twin):
        for size in (0, 3):
            with pytest.raises(ValueError, match="a power of two"):
                module.take_places(np.zeros(size, np.int64), wanted)
            with pytest.raises(ValueError, match="a power of two"):
                module.take_spans(np.zeros(size, np.int64), wanted, 0)


def test_one_key_costs_what_its_pairs_cost() -> None:
    """All rows of one key, of which each meets two or three: neighbours in time are found first, whatever else waits or comes at once."""
    count, times = 100_000, np.arange(100_000)
    for lower, upper in ((-1, 1), (50_000, 50_002), (-50_002, -50_000)):
        state, zeros = compiled.IntervalState("inner", lower, upper), np.zeros(count, np.int64)
        for port in (0, 1):
            state.hold_numbers(port, zeros, None, times, None, NO_TIME, 0)
        met = state.sweep(END, 1 << 20)
        expected = sum(max(0, count - abs(apart)) for apart in range(lower, upper + 1))
        assert len(met[0]) == expected
        assert (np.isin(times[met[1]] - times[met[0]], np.arange(lower, upper + 1))).all()
