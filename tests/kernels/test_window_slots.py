"""Slots of the window kernel, read, merged and emptied one by one: the kernel against its twin, bit by bit."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncflow._kernels.accumulators.table import result_kind
from asyncflow._kernels.groups import reference as raw
from asyncflow._kernels.window import compiled
from asyncflow._kernels.window import reference as twin
from tests.kernels.window_rows import KINDS, VALUES, aggregate, batch_of, bits

NO_TIME = -(2**63)


def ids(values):
    return np.array(values, np.int32)


def shown(aggregates, peeked):
    results, overflows = peeked
    kinds = [result_kind(function, types) for function, _, types, *_ in aggregates]
    return [bits(kind, column) for kind, column in zip(kinds, results, strict=True)], overflows


def some_merges(rng, rows):
    """Pairs of slots, before which rows; now and then chained, into itself, or from a slot that holds nothing."""
    at = sorted(rng.randint(0, rows) for _ in range(rng.choice([0, 1, 4, 20])))
    slots = [0, 1, 2, 63, 64, 199, 230]
    pairs = [(rng.choice(slots), rng.choice(slots)) for _ in at]
    return np.array(at, np.int64), ids([into for into, _ in pairs]), ids([source for _, source in pairs])


@given(st.lists(aggregate(), max_size=6), st.integers(0, 2**32))
@settings(max_examples=200, deadline=None)
def test_twin_law(aggregates, seed):
    rng = random.Random(seed)
    fast = compiled.WindowState(None, 1, 0, aggregates)
    plain = twin.WindowState(None, 1, 0, aggregates)
    for _ in range(rng.randint(1, 6)):
        batch = batch_of(rng, False)
        merges = rng.choice([None, some_merges(rng, len(batch["groups"]))])
        for state in (fast, plain):
            late, partly = state.add(**batch, merges=merges)
            assert (len(late), partly) == (0, 0)
        _, into, source = some_merges(rng, 0)
        gone = ids(rng.sample(range(232), rng.choice([0, 3, 200])))
        asked = ids([rng.randrange(300) for _ in range(rng.choice([0, 5, 300]))])
        for step in (lambda s, a=into, b=source: s.merge(a, b), lambda s, a=gone: s.clear(a)):
            assert shown(aggregates, fast.peek(asked)) == shown(aggregates, plain.peek(asked))
            step(fast)
            step(plain)
        assert shown(aggregates, fast.peek(asked)) == shown(aggregates, plain.peek(asked))
        assert fast.live_groups(300).tolist() == plain.live_groups(300).tolist()
        if rng.random() < 0.3:
            keep = ids(sorted({*plain.live_groups(300).tolist(), *rng.sample(range(200), 9)}))
            fast.keep(keep)
            plain.keep(keep)


def shown_rows(aggregates, rows):
    *by_slot, results, overflows = rows
    dtypes = [values.dtype for values in by_slot]
    return dtypes, [values.tolist() for values in by_slot], shown(aggregates, (results, overflows))


@given(st.lists(aggregate(), max_size=6), st.integers(0, 2**32))
@settings(max_examples=100, deadline=None)
def test_twin_law_of_rows_that_are_sent(aggregates, seed):
    rng = random.Random(seed)
    fast = compiled.WindowState(None, 1, 0, aggregates)
    plain = twin.WindowState(None, 1, 0, aggregates)
    windows = np.array([rng.randint(-(2**63), 2**63 - 1) for _ in range(300)], np.int64)
    keys = ids([rng.randrange(2**31) for _ in range(300)])
    books = [(np.zeros(300, np.int64), np.zeros(300, np.bool_)) for _ in range(2)]
    for _ in range(rng.randint(1, 4)):
        for _ in range(rng.randint(0, 4)):
            batch = batch_of(rng, False)
            asked = ids([rng.randrange(300) for _ in range(rng.choice([0, 5, 300]))])
            for module, state, (revisions, changed) in zip(
                (compiled, twin), (fast, plain), books, strict=True
            ):
                state.add(**batch)
                module.mark(changed, batch["groups"])
                state.send(asked, windows, keys, revisions, changed)
            for count in (0, 100, 300):
                found = [m.marked(c, count) for m, (_, c) in zip((compiled, twin), books, strict=True)]
                assert found[0].dtype == found[1].dtype
                assert found[0].tolist() == found[1].tolist()
        assert shown_rows(aggregates, fast.sent()) == shown_rows(aggregates, plain.sent())
        assert books[0][0].tolist() == books[1][0].tolist()
        asked = ids(range(300))
        assert shown(aggregates, fast.peek(asked)) == shown(aggregates, plain.peek(asked))


ALL = [("count", (), (), None), ("sum", (1,), ("float64",), None)] + [
    (function, (i,), (KINDS[i],), None)
    for i in (0, 1, 3)
    for function in ("count_distinct", "min", "first", "last")
]


def rows(state, slots, seed, merges=None):
    rng = random.Random(seed)
    columns = [raw.column_of(kind, [VALUES[kind](rng) for _ in slots]) for kind in KINDS]
    state.add(ids(slots), 8, None, None, NO_TIME, 0, columns, [], merges)


def test_an_emptied_slot_starts_anew():
    state, other = (compiled.WindowState(None, 1, 0, ALL) for _ in range(2))
    rows(state, [0, 1, 1, 0, 2], 1)
    state.merge(ids([0]), ids([2]))
    before = state.nbytes
    state.clear(ids([0, 1]))
    assert state.nbytes < before
    empty = [values[0] for values in shown(ALL, state.peek(ids([0])))[0]]
    assert empty == [value if value == 0 else None for value in empty]
    for each in (state, other):
        rows(each, [1, 0, 1], 2)
    assert shown(ALL, state.peek(ids([1, 0, 2]))) == shown(ALL, other.peek(ids([1, 0, 2])))


def test_peeking_changes_nothing():
    state = compiled.WindowState(None, 1, 0, ALL)
    rows(state, [0, 1, 0], 1)
    first = shown(ALL, state.peek(ids([1, 0, 1, 7])))
    assert first == shown(ALL, state.peek(ids([1, 0, 1, 7])))
    assert first[0][0] == [1, 2, 1, 0]


def test_merges_between_rows_are_those_between_calls():
    together, apart = (compiled.WindowState(None, 1, 0, ALL) for _ in range(2))
    slots = [0, 1, 0, 1, 1, 0]
    rng = random.Random(3)
    values = {kind: [VALUES[kind](rng) for _ in slots] for kind in KINDS}

    def add(state, begin, end, merges=None):
        columns = [raw.column_of(kind, values[kind][begin:end]) for kind in KINDS]
        state.add(ids(slots[begin:end]), 2, None, None, NO_TIME, 0, columns, [], merges)

    add(together, 0, 6, (np.array([2, 5], np.int64), ids([0, 1]), ids([1, 0])))
    for begin, end, pair in ((0, 2, (0, 1)), (2, 5, (1, 0)), (5, 6, None)):
        add(apart, begin, end)
        if pair:
            apart.merge(ids(pair[:1]), ids(pair[1:]))
    assert shown(ALL, together.peek(ids([0, 1]))) == shown(ALL, apart.peek(ids([0, 1])))
    assert shown(ALL, together.peek(ids([0, 1])))[0][0] == [1, 5]


def test_many_slots_with_distinct_values_come_and_go_in_level_memory():
    state = compiled.WindowState(None, 1, 0, [("count_distinct", (0,), ("string",), None)])
    held = []
    slots = np.arange(2000, dtype=np.int32)
    for turn in range(40):
        values = raw.column_of("string", [b"%d" % (turn * 2000 + n) for n in range(2000)])
        state.add(slots, 2000, None, None, NO_TIME, 0, [values], [])
        held.append(state.nbytes)
        state.merge(slots[::2], slots[1::2])
        assert set(state.peek(slots)[0][0][0].tolist()) == {0, 2}
        state.clear(slots)
    assert max(held) <= 2 * held[0]


def test_slots_are_those_of_a_window_over_everything():
    sized = compiled.WindowState(10, 10, 0, ALL)
    for call in (
        lambda: sized.peek(ids([0])),
        lambda: sized.clear(ids([0])),
        lambda: sized.merge(ids([0]), ids([1])),
    ):
        with pytest.raises(ValueError, match="no slots"):
            call()
    state = compiled.WindowState(None, 1, 0, [("count", (), (), None)])
    with pytest.raises(ValueError, match="below 0"):
        state.peek(ids([-1]))
    with pytest.raises(ValueError, match="order of rows"):
        state.add(
            ids([0, 0]), 1, None, None, NO_TIME, 0, [], [], (np.array([2, 1]), ids([0, 0]), ids([0, 0]))
        )


@pytest.mark.parametrize("module", [compiled, twin], ids=["compiled", "twin"])
def test_rows_that_were_sent_are_as_they_were_then(module):
    state = module.WindowState(None, 1, 0, ALL)
    by_slot = np.array([7, 8, 9], np.int64), ids([4, 5, 6]), np.zeros(3, np.int64), np.ones(3, np.bool_)
    rows(state, [0, 1, 0], 1)
    state.send(ids([1, 0]), *by_slot)
    rows(state, [0], 2)
    state.clear(ids([1]))
    state.send(ids([0]), *by_slot)
    for call in (lambda: state.peek(ids([0])), lambda: state.close(2**63 - 1, ids(range(8)), 10)):
        with pytest.raises(RuntimeError, match="not taken"):
            call()
    windows, keys, revisions, results, overflows = state.sent()
    assert (windows.tolist(), keys.tolist(), revisions.tolist()) == ([8, 7, 7], [5, 4, 4], [0, 0, 1])
    assert (results[0][0].tolist(), overflows) == ([1, 2, 3], 0)
    assert by_slot[3].tolist() == [False, False, True]
    assert [len(values) for values in state.sent()[:3]] == [0, 0, 0]


def test_what_is_written_in_place_is_of_its_type_and_long_enough():
    state = compiled.WindowState(None, 1, 0, ALL)
    good = [np.zeros(3, np.int64), ids([0, 0, 0]), np.zeros(3, np.int64), np.zeros(3, np.bool_)]
    for at, wrong, error in (
        (0, np.zeros(3, np.int32), TypeError),
        (1, ids([0, 0, 0, 0, 0, 0])[::2], TypeError),
        (2, np.zeros(2, np.int64), ValueError),
        (3, np.zeros(3, np.uint8), TypeError),
    ):
        with pytest.raises(error):
            state.send(ids([2]), *good[:at], wrong, *good[at + 1 :])
    for places in ([-1], [3]):
        with pytest.raises(ValueError, match="below"):
            compiled.mark(good[3], ids(places))
    with pytest.raises(ValueError, match="below 4"):
        compiled.marked(good[3], 4)
    assert not good[3].any()


def test_room_for_a_great_many_rows_is_given_back():
    state = compiled.WindowState(None, 1, 0, [("count", (), (), None)])
    slots = np.zeros(1 << 19, np.int32)
    by_slot = np.zeros(1, np.int64), ids([0]), np.zeros(1, np.int64), np.zeros(1, np.bool_)
    before = state.nbytes
    state.send(slots, *by_slot)
    assert state.nbytes > before + 20 * len(slots)
    assert len(state.sent()[0]) == len(slots)
    assert state.nbytes == before
    assert by_slot[2].tolist() == [1 << 19]
