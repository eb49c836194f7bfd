"""The top kernel against its twin: the same rows in the same order, whichever windows and groups are dropped on the way."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncflow._kernels.groups.reference import column_of
from asyncflow._kernels.top import compiled
from asyncflow._kernels.top import reference as twin

END = 2**63 - 1
VALUES: dict[str, list[Any]] = {
    "int64": [None, -(2**63), -1, 0, 1, 2, 2**63 - 1],
    "float64": [None, -math.inf, -1.5, -0.0, 0.0, 5e-324, 2.5, math.inf, math.nan, -math.nan],
    "bool": [None, False, True],
    "string": [
        None,
        b"",
        b"\0",
        b"a",
        b"ab",
        b"ab\0",
        b"abcdefgh",
        b"abcdefghi",
        b"abcdefgh\0",
        b"\xc3\xa4" * 40,
    ],
}
KINDS = sorted(VALUES)
order_parts = st.tuples(st.sampled_from(KINDS), st.booleans(), st.booleans())


class Stream:
    """Random rows of random types, from a seed."""

    def __init__(self, seed: int, columns: Sequence[str], order: Sequence[tuple[str, bool, bool]]) -> None:
        self.draw = random.Random(seed)
        self.kinds = [*columns, *(kind for kind, _, _ in order)]
        self.split, self.arrived = len(columns), 0
        self.nulls = [self.draw.random() < 0.5 for _ in self.kinds]
        # All texts begin with the same bytes, up to some row.
        self.lead = self.draw.choice([b"", b"a", b"abcdefghi" * 3, b"x" * 80])
        self.led = self.draw.randint(0, 400)

    def batch(self, groups: int, windows: int | None) -> tuple[Any, ...]:
        """The arguments of ``add``."""
        count = self.draw.choice([0, 1, 3, 70, 200])
        found = []
        for kind, nulls in zip(self.kinds, self.nulls, strict=True):
            values = VALUES[kind] if nulls else VALUES[kind][1:]
            drawn = self.draw.choices(values, k=count)
            if kind == "string" and self.arrived < self.led:
                drawn = [None if text is None else self.lead + text for text in drawn]
            found.append(column_of(kind, drawn))
        ids = np.array(self.draw.choices(range(groups), k=count), np.int32)
        first = np.array([self.draw.randint(-2, windows or 0) for _ in range(count)], np.int64)
        last = first + np.array([self.draw.choice([-1, 0, 0, 0, 1, 4]) for _ in range(count)], np.int64)
        self.arrived += count
        arrivals = np.arange(self.arrived - count, self.arrived)
        between = None if windows is None else (first, last)
        return ids, groups, between, found[: self.split], found[self.split :], arrivals


def shown(state: Any, limit: int, ranks: Any) -> Any:
    """A ranking with its columns, to the byte."""
    found = state.ranking(limit, ranks)
    count = len(found[0])
    columns = [part for cut in ((0, count // 3), (count // 3, count)) for part in state.columns(*cut)]
    arrays = [
        None if array is None else (array.dtype, array.tobytes()) for column in columns for array in column
    ]
    return (
        [array.tolist() for array in found],
        arrays,
        (state.held_rows, state.open_windows, state.first_window, state.windows.tolist()),
    )


@settings(deadline=None, max_examples=300)
@given(
    n=st.sampled_from([1, 1, 2, 3, 6, 11, 50, 10**12]),
    columns=st.lists(st.sampled_from(KINDS), max_size=4),
    order=st.lists(order_parts, max_size=3),
    windows=st.sampled_from([None, 0, 3, 40]),
    groups=st.sampled_from([1, 4, 100]),
    seed=st.integers(0, 2**32),
)
def test_compiled_and_twin_agree(
    n: int,
    columns: list[str],
    order: list[tuple[str, bool, bool]],
    windows: int | None,
    groups: int,
    seed: int,
) -> None:
    states = [make(n, columns, order, windows is not None) for make in (compiled.TopState, twin.TopState)]
    stream, chance = Stream(seed, columns, order), random.Random(seed)
    ranks = np.array(chance.sample(range(groups), groups), np.int32)
    shift = 0
    for _ in range(chance.randint(1, 8)):
        ids, count, between, values, by, arrivals = stream.batch(groups, windows)
        if between is not None:
            between = between[0] + shift, between[1] + shift
        for state in states:
            state.add(ids, count, between, values, by, arrivals)
        limit = shift + chance.randint(-3, 3 + (windows or 0)) if chance.random() < 0.8 else END
        ours, theirs = (shown(state, limit, ranks) for state in states)
        assert ours == theirs
        if windows is not None and chance.random() < 0.6:
            released = [state.release(limit) for state in states]
            assert released[0] == released[1]
            shift += chance.choice([0, 0, 2, 50])
        if windows is not None and chance.random() < 0.3:
            live = [state.live_groups(groups) for state in states]
            assert live[0].tolist() == live[1].tolist()
            kept = np.union1d(live[0], np.array(chance.sample(range(groups), groups // 2), np.int32)).astype(
                np.int32
            )
            for state in states:
                state.keep(kept)
            kept_ranks = ranks[kept]
            assert shown(states[0], END, kept_ranks) == shown(states[1], END, kept_ranks)
            ranks = np.concatenate([kept_ranks, np.setdiff1d(ranks, kept_ranks)]).astype(np.int32)
    assert shown(states[0], END, ranks) == shown(states[1], END, ranks)
    assert states[0].release(END) == states[1].release(END)
    assert states[0].held_rows == states[0].open_windows == 0


def sorted_by_python(rows: list[tuple[int, float, int]], n: int) -> list[tuple[int, int]]:
    """(group, arrival) of the n rows of each group with the greatest numbers, NaN above all; ties by arrival."""
    found = []
    for group in sorted({group for group, _, _ in rows}):
        own = [row for row in rows if row[0] == group]
        own.sort(key=lambda row: (not math.isnan(row[1]), 0.0 if math.isnan(row[1]) else -row[1], row[2]))
        found += [(group, arrival) for _, _, arrival in own[:n]]
    return found


@settings(deadline=None)
@given(
    rows=st.lists(st.tuples(st.integers(0, 5), st.floats() | st.sampled_from([0.0, -0.0, 1.0]))),
    n=st.integers(1, 12),
    cut=st.integers(0, 50),
)
def test_a_ranking_is_what_sorting_gives(rows: list[tuple[int, float]], n: int, cut: int) -> None:
    state = compiled.TopState(n, [], [("float64", True, False)], False)
    for start, stop in ((0, cut), (cut, len(rows))):
        part = rows[start:stop]
        groups, values = np.array([g for g, _ in part], np.int32), np.array([v for _, v in part], np.float64)
        state.add(groups, 6, None, [], [(values, None)], np.arange(start, start + len(part)))
    _, places, arrivals = state.ranking(END, np.arange(6, dtype=np.int32))
    expected = sorted_by_python([(*row, number) for number, row in enumerate(rows)], n)
    assert arrivals.tolist() == [arrival for _, arrival in expected]
    assert places.tolist() == [
        1 + [group for group, _ in expected[:i]].count(group) for i, (group, _) in enumerate(expected)
    ]


def test_of_a_million_rows_the_half() -> None:
    numbers = np.random.default_rng(1).permutation(1_000_000)
    state = compiled.TopState(500_000, ["int64"], [("int64", False, False)], False)
    for start in range(0, len(numbers), 100_000):
        part = numbers[start : start + 100_000]
        ids, arrivals = np.zeros(len(part), np.int32), np.arange(start, start + len(part))
        state.add(ids, 1, None, [(part, None)], [(part, None)], arrivals)
    _, places, arrivals = state.ranking(END, np.zeros(1, np.int32))
    assert np.array_equal(numbers[arrivals], np.arange(500_000))
    assert np.array_equal(state.columns(0, 500_000)[0][0], np.arange(500_000))
    assert np.array_equal(places, np.arange(1, 500_001))


def test_memory_follows_what_is_held() -> None:
    """Rows that are replaced, and windows that leave, give their memory to those that come."""
    text = column_of("string", [b"x" * 100] * 1000)
    state = compiled.TopState(1, ["string"], [("int64", True, False)], True)
    most = 0
    for window in range(300):
        numbers = np.arange(window * 1000, window * 1000 + 1000)
        windows = np.full(1000, window)
        for _ in range(2):
            ids = (numbers % 100).astype(np.int32)
            state.add(ids, 100, (windows, windows), [text], [(numbers, None)], numbers)
            most = max(most, state.nbytes)
        if window % 3 == 2:
            assert state.release(window - 1) in (2, 3)
    assert state.held_rows == 100
    assert most < 400 * 300
    state.keep(np.arange(100, dtype=np.int32))
    assert state.nbytes < 100 * 300
    _, _, arrivals = state.ranking(END, np.arange(100, dtype=np.int32))
    assert arrivals.tolist() == list(range(299_900, 300_000))


def test_long_texts_and_great_windows_leave_no_memory_behind() -> None:
    longs = np.arange(1000)
    ids = longs.astype(np.int32)
    state = compiled.TopState(1, ["string"], [("int64", True, False)], True)

    def add(window: int, count: int, text: bytes, number: int) -> None:
        windows, numbers = np.full(count, window), np.full(count, number)
        state.add(
            ids[:count],
            1000,
            (windows, windows),
            [column_of("string", [text] * count)],
            [(numbers, None)],
            longs[:count],
        )

    add(0, 1000, b"x" * 10_000, 0)
    assert state.nbytes > 10_000_000
    for number in range(3):
        add(0, 1000, b"y", number + 1)
    assert state.nbytes < 11_000_000
    state.keep(ids)
    assert state.nbytes < 200_000
    state.ranking(0, ids)
    assert state.columns(0, 1000)[0][0].tobytes() == b"y" * 1000
    for window in range(1, 4):
        assert state.release(window - 1) == 1
        add(window, 3, b"z", 0)
    assert state.nbytes < 20_000


@pytest.mark.parametrize("module", [compiled, twin], ids=["compiled", "twin"])
def test_what_does_not_fit_is_refused(module: Any) -> None:
    ids, longs = np.zeros(2, np.int32), np.zeros(2, np.int64)
    order = [("int64", False, False)]
    with pytest.raises(ValueError, match="n must"):
        module.TopState(0, [], order, False)
    state = module.TopState(1, ["int64"], order, True)
    column = (longs, None)
    with pytest.raises(ValueError, match="not those"):
        state.add(ids, 1, None, [column], [column], longs)
    with pytest.raises(ValueError, match="not those"):
        state.add(ids, 1, (longs, longs), [], [column], longs)
    with pytest.raises(IndexError, match=r"0\.\.0"):
        state.add(ids + 1, 1, (longs, longs), [column], [column], longs)
    with pytest.raises(ValueError, match="no rows"):
        state.columns(0, 0)
    state.add(ids, 1, (longs, longs), [column], [column], longs)
    with pytest.raises(ValueError, match="no place"):
        state.ranking(0, ids[:0])
    state.ranking(0, ids)
    with pytest.raises(ValueError, match="no rows"):
        state.columns(0, 2)
    with pytest.raises(ValueError, match="to be kept"):
        state.keep(ids[:0])
    with pytest.raises(IndexError):
        state.live_groups(0)
    if module is compiled:
        outside = (np.zeros(4, np.uint8), ids + 2, ids + 3, None)
        with pytest.raises(ValueError, match="outside"):
            module.TopState(1, ["string"], [], False).add(ids, 1, None, [outside], [], longs)
    with pytest.raises(ValueError, match="with their windows"):
        module.TopState(1, [], [], False).keep(ids[:1])
