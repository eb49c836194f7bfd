"""Joins by event time: the kernel against its twin, through sweeps, portions, recycled and moved slots, and keys that are forgotten."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncflow._kernels.join import compiled
from asyncflow._kernels.join import reference as twin

NO_TIME, END = -(2**63), 2**63 - 1
KINDS = ["inner", "left", "right", "full", "semi", "anti"]
MODES = [
    ("interval", -5, 5),
    ("interval", 0, 0),
    ("interval", 2, 9),
    ("interval", -9, -2),
    ("interval", -(2**62), 2**62),
    ("backward", 0, 6),
    ("backward", 0, None),
    ("forward", 0, 6),
    ("nearest", 0, 6),
    ("nearest", 0, 2**62 + 1),
]
KEYS = 6
NUMBERS = np.array([0, -(2**63), 2**63 - 1, 16, 17, 1 << 40], np.int64)


class Driven:
    """A state and what its slots stand for: two states may give out other slots for the same rows."""

    def __init__(self, state, numbered, interval):
        self.state = state
        self.interval = interval
        self.numbered = numbered
        self.rows = ({}, {})  # slot -> (arrival, time)
        self.arrived = [0, 0]
        self.waiting = [[], []]  # (moment, or as of time, arrival, slot)

    def hold(self, port, keys, times, seen):
        if self.numbered:
            valid = None if (keys >= 0).all() else keys >= 0
            slots = self.state.hold_numbers(port, NUMBERS[keys], valid, times, seen).tolist()
        else:
            slots = self.state.hold(port, keys, KEYS, times, seen).tolist()
        for slot, time, mark in zip(slots, times.tolist(), seen.tolist(), strict=True):
            assert slot not in self.rows[port]
            self.rows[port][slot] = self.arrived[port], time
            moment = max(time, mark) if self.interval else time
            self.waiting[port].append((moment, self.arrived[port], slot))
            self.arrived[port] += 1

    def sweep(self, clock, limit):
        ready = []
        for port in (0, 1):
            wait = self.state.wait if port == 0 else 0
            moment = [twin.shifted(time, wait) if wait else time for time, *_ in self.waiting[port]]
            taken = [
                row for row, at in zip(self.waiting[port], moment, strict=True) if at < clock or clock == END
            ]
            self.waiting[port] = [row for row in self.waiting[port] if row not in taken]
            taken.sort()
            ready.append((int64(slot for *_, slot in taken), int64(time for time, *_ in taken)))
        self.state.begin(clock, *ready)
        found, more = [], True
        while more:
            left, right, time, release, more = self.state.sweep(limit)
            part = [
                tuple(None if slot < 0 else self.rows[port][slot][0] for port, slot in enumerate(pair))
                for pair in zip(left.tolist(), right.tolist(), strict=True)
            ]
            found.append(list(zip(part, time.tolist(), release.tolist(), strict=True)))
            left_now = [(port, self.state.recycle(port).tolist()) for port in (0, 1)]
            gone = [sorted(self.rows[port].pop(slot)[0] for slot in slots) for port, slots in left_now]
            found[-1].append(gone)
        return found

    def compact(self, port):
        kept = self.state.compact(port).tolist()
        names = {old: new for new, old in enumerate(kept)}
        held = {names[slot]: row for slot, row in self.rows[port].items()}
        self.rows[port].clear()
        self.rows[port].update(held)
        self.waiting[port] = [(time, arrival, names[slot]) for time, arrival, slot in self.waiting[port]]
        assert self.state.slots[port] == len(kept)


def int64(values):
    return np.array(list(values), np.int64)


@given(st.integers(0, 2**32), st.sampled_from(MODES), st.sampled_from(KINDS), st.booleans())
@settings(max_examples=600, deadline=None)
def test_twin_law(seed, mode, kind, numbered):
    rng = random.Random(seed)
    spread, counts, steps = rng.choice([0, 4, 12]), [0, 1, 4, 9], [0, 3, 10, 40]
    agree(rng, mode, kind, numbered, [-1, 0, 0, 1, *range(KEYS)], spread, counts, steps)


LONG_MODES = [
    ("interval", -400, -390),
    ("interval", -3, 3),
    ("interval", 390, 400),
    ("backward", 0, 400),
    ("backward", 0, None),
    ("forward", 0, 400),
    ("nearest", 0, 400),
]


@given(st.integers(0, 2**32), st.sampled_from(LONG_MODES), st.sampled_from(KINDS), st.booleans())
@settings(max_examples=60, deadline=None)
def test_twin_law_of_many_rows_of_a_key(seed, mode, kind, numbered):
    """Rows in random order, so many wait that places among them are no longer looked for one by one."""
    rng = random.Random(seed)
    agree(rng, mode, kind, numbered, [0, 0, 0, 1], rng.choice([30, 200]), [0, 30, 90], [0, 50, 300])


def agree(rng, mode, kind, numbered, keys_of, spread, counts, steps):
    if mode[2] is None and kind in ("right", "full"):
        return
    numbered = numbered and mode[0] == "interval"
    states = [
        Driven(module.JoinState(mode[0], kind, *mode[1:]), numbered, mode[0] == "interval")
        for module in (compiled, twin)
    ]
    assert states[0].state.wait == states[1].state.wait
    assert states[0].state.reach == states[1].state.reach
    delay = rng.choice([0, 3, 20])
    newest, clock = [NO_TIME, NO_TIME], NO_TIME
    middle = 0
    for _ in range(rng.randint(1, 8)):
        for port in (0, 1):
            rows = []
            for _ in range(rng.choice(counts)):
                time = middle + rng.randint(-spread, spread) + rng.randint(0, 6)
                seen = max(newest[port] - delay, NO_TIME) if newest[port] > NO_TIME else NO_TIME
                newest[port] = max(newest[port], time)
                reach = states[0].state.reach[port] if mode[0] == "interval" or port else states[0].state.wait
                if mode[0] == "interval":
                    reach += mode[2] - mode[1]  # late rows as well
                if reach is None or seen <= twin.shifted(time, reach):
                    rows.append((rng.choice(keys_of), time, max(seen, clock)))
            keys = np.array([key for key, _, _ in rows], np.int32)
            times, seen = int64(time for _, time, _ in rows), int64(mark for _, _, mark in rows)
            for driven in states:
                driven.hold(port, keys, times, seen)
        middle += rng.choice(steps)
        if min(newest) > NO_TIME:
            clock = max(clock, min(newest) - delay)
        limit = rng.choice([1, 3, 1000])
        assert states[0].sweep(clock, limit) == states[1].sweep(clock, limit)
        check_equal(*states)
        if rng.random() < 0.3:
            port = rng.randrange(2)
            for driven in states:
                driven.compact(port)
        if numbered and rng.random() < 0.3:
            for driven in states:
                driven.state.compact_numbers()
                assert driven.state.key_slots == driven.state.keys
        elif not numbered and rng.random() < 0.3:
            live = states[1].state.live_keys().tolist()
            # Names stay: a key that moves would be another one in the rows to come.
            kept = np.array(range(max(live, default=-1) + 1), np.int32)
            for driven in states:
                driven.state.keep_keys(kept)
    assert states[0].sweep(END, 5) == states[1].sweep(END, 5)
    assert states[0].state.rows == (0, 0)
    check_equal(*states)


def check_equal(fast, plain):
    assert fast.state.rows == plain.state.rows
    assert fast.state.ways == plain.state.ways
    assert fast.state.keys == plain.state.keys
    assert fast.state.nbytes >= plain.state.nbytes
    if fast.numbered:  # the names are each state's own
        assert len(fast.state.live_keys()) == len(plain.state.live_keys()) == fast.state.keys
    else:
        assert fast.state.live_keys().tolist() == plain.state.live_keys().tolist()
    for port in (0, 1):
        assert fast.state.first_alone(port) == plain.state.first_alone(port)


@pytest.mark.parametrize("module", [compiled, twin])
def test_keys_are_renamed_in_rows_that_wait_and_rows_that_are_known(module):
    state = module.JoinState("interval", "inner", -10, 10)
    keys, times = np.array([3, 1, -1], np.int32), int64([1, 2, 3])
    held = state.hold(0, keys, 4, times, int64([NO_TIME] * 3))
    state.begin(2, (held[:1], times[:1]), (int64([]), int64([])))
    assert state.sweep(10)[4] is False
    assert state.live_keys().tolist() == [1, 3]
    state.keep_keys(np.array([1, 3], np.int32))
    other = state.hold(1, np.array([1, 0, 0], np.int32), 2, times + 1, int64([NO_TIME] * 3))
    state.begin(END, (held[1:], times[1:]), (other, times + 1))
    left, right, time, release, more = state.sweep(10)
    assert left.tolist() == [held[0], held[1], held[1]]
    assert right.tolist() == other.tolist()
    assert time.tolist() == release.tolist() == [2, 3, 4]
    assert more is False
    assert state.ways == (2, 1, 3, 0)


@pytest.mark.parametrize("module", [compiled, twin])
def test_a_feed_that_is_always_late_does_not_pile_up(module):
    """Without a reach, where every right row comes behind its input's watermark: none drives the others out as it comes."""
    state = module.JoinState("backward", "inner", 0, None)
    for number in range(1, 200):
        times = int64([number, number])
        held = state.hold(1, np.array([0, 1], np.int32), 2, times, times + 1)
        state.begin(number + 1, (int64([]), int64([])), (held, times))
        state.sweep(10)
        state.recycle(1)
        assert state.rows[1] <= 4


@pytest.mark.parametrize("module", [compiled, twin])
def test_what_does_not_fit_is_refused(module):
    with pytest.raises(ValueError, match="no mode"):
        module.JoinState("sideways", "inner", 0, 1)
    for mode, kind in (("forward", "inner"), ("backward", "full"), ("interval", "inner")):
        with pytest.raises(ValueError, match="upper bound"):
            module.JoinState(mode, kind, 0, None)
    state = module.JoinState("interval", "inner", 0, 1)
    keys, times = np.array([0, 5], np.int32), int64([1, 2])
    with pytest.raises(ValueError, match="length"):
        state.hold(0, keys, 6, times, int64([0]))
    with pytest.raises(IndexError, match="key"):
        state.hold(0, keys, 5, times, times)
    with pytest.raises(IndexError, match="slot"):
        state.begin(9, (int64([0]), int64([1])), (int64([]), int64([])))
    with pytest.raises(IndexError, match="key"):
        state.keep_keys(np.array([7], np.int32))
    held = state.hold(0, keys, 6, times, int64([NO_TIME] * 2))
    state.begin(END, (held, times), (int64([]), int64([])))
    state.sweep(10)
    with pytest.raises(ValueError, match="recycle"):
        state.compact(0)


@given(st.lists(st.binary(max_size=20), max_size=30), st.randoms(use_true_random=False))
@settings(deadline=None)
def test_texts_are_copied_as_they_are(texts, rng):
    data = np.frombuffer(b"".join(texts), np.uint8)
    lengths = np.array([len(text) for text in texts], np.int32)
    starts = np.cumsum(lengths, dtype=np.int64) - lengths
    rows = int64(rng.choice(range(len(texts))) for _ in range(len(texts) and 40))
    for wanted in (None, rows):
        fast, plain = (module.copy_texts(data, starts, lengths, wanted) for module in (compiled, twin))
        assert fast[0].tobytes() == plain[0].tobytes()
        assert fast[1].tolist() == plain[1].tolist()
    for module in (compiled, twin):
        with pytest.raises(IndexError):
            module.copy_texts(data, starts + len(data) + 1, lengths, np.zeros(1, np.int64))


@pytest.mark.parametrize("module", [compiled, twin])
def test_numbers_are_forgotten_with_their_last_row(module):
    state = module.JoinState("interval", "inner", -100, 100)
    none = (int64([]), int64([]))
    for first in range(0, 3000, 300):
        times = np.arange(first, first + 300)
        held = [state.hold_numbers(port, times * 16 - 5, None, times, times) for port in (0, 1)]
        state.begin(first + 300, *((slots, times) for slots in held))
        assert len(state.sweep(1 << 20)[0]) == 300
        assert [len(state.recycle(port)) for port in (0, 1)] == [200 if first == 0 else 300] * 2
        assert state.keys == 100
        state.compact_numbers()
        assert state.key_slots == 100
    state.begin(END, none, none)
    state.sweep(10)
    assert state.keys == 0


def test_many_numbers_at_once():
    """More than the first buckets: the table grows while names are given."""
    rng = np.random.default_rng(3)
    numbers = rng.integers(-(2**63), 2**63, 20_000)
    pool = np.concatenate([numbers, np.arange(20_000), np.arange(20_000) << 32])
    state = compiled.JoinState("interval", "inner", -(10**9), 10**9)
    held = []
    for port in (0, 1):
        times = np.arange(len(pool))
        own = pool if port == 0 else rng.permutation(pool)
        held.append((state.hold_numbers(port, own, None, times, times), times))
        held[-1] += (own,)
    state.begin(END, *(each[:2] for each in held))
    left, right, *_ = state.sweep(1 << 20)
    expected = sum(count**2 for count in np.unique(pool, return_counts=True)[1].tolist())
    assert len(left) == expected
    assert (held[0][2][left] == held[1][2][right]).all()
    assert state.keys == 0


@pytest.mark.parametrize("module", [compiled, twin])
def test_keys_are_numbers_or_names(module):
    one, two = int64([1]), int64([1, 2])
    state = module.JoinState("interval", "inner", 0, 1)
    with pytest.raises(ValueError, match="length"):
        state.hold_numbers(0, one, None, two, two)
    with pytest.raises(ValueError, match="length"):
        state.hold_numbers(0, two, np.ones(1, np.bool_), two, two)
    state.hold_numbers(0, one, None, one, one)
    with pytest.raises(ValueError, match="numbers"):
        state.hold(0, np.zeros(1, np.int32), 1, one, one)
    with pytest.raises(ValueError, match="numbers"):
        state.keep_keys(np.zeros(1, np.int32))
    named = module.JoinState("interval", "inner", 0, 1)
    named.hold(0, np.zeros(1, np.int32), 1, one, one)
    as_of = module.JoinState("backward", "inner", 0, None)
    for other in (named, as_of):
        with pytest.raises(ValueError, match="named by others"):
            other.hold_numbers(0, one, None, one, one)
