"""The dedup kernel against its twin: the same rows pass, however batches are cut and whenever keys are dropped."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncflow._kernels.dedup import compiled
from asyncflow._kernels.dedup import reference as twin
from asyncflow.model.batch import watermarks_of

NO_TIME, END_OF_TIME = -(2**63), 2**63 - 1
EDGES = st.sampled_from([NO_TIME, NO_TIME + 1, -1, 0, 1, END_OF_TIME - 1, END_OF_TIME])
TIMES = st.one_of(st.integers(-20, 60), EDGES)

Row = tuple[int, int, int]


def feed(state: Any, rows: list[Row], cuts: list[int], forget: bool) -> tuple[list[bool], int]:
    """Rows of (group, time, watermark) in pieces; between them it forgets what the watermark has passed, and renames what is left."""
    fresh: list[bool] = []
    new = {group: group for group in range(5)}
    start, watermark = 0, NO_TIME
    for stop in [*cuts, len(rows)]:
        part = rows[start:stop]
        groups = np.array([new.setdefault(g, len(new)) for g, _, _ in part], np.int32)
        times = np.array([t for _, t, _ in part], np.int64)
        marks = np.array([w for _, _, w in part], np.int64)
        fresh += state.add(groups, len(new), times, marks, watermark).tolist()
        start, watermark = stop, rows[stop][2] if stop < len(rows) else watermark
        if forget:
            live = state.live_groups(watermark)
            state.keep(live)
            new = {
                group: place
                for place, old in enumerate(live.tolist())
                for group, o in new.items()
                if o == old
            }
    state.live_groups(watermark)
    return fresh, state.entries


@settings(deadline=None)
@given(
    rows=st.lists(st.tuples(st.integers(0, 4), TIMES), max_size=60),
    delay=st.integers(0, 30),
    within=st.one_of(st.integers(0, 20), st.sampled_from([2**62, 2**63 - 1])),
    cuts=st.lists(st.integers(0, 60), max_size=5),
    forget=st.booleans(),
)
def test_compiled_and_twin_agree(
    rows: list[tuple[int, int]], delay: int, within: int, cuts: list[int], forget: bool
) -> None:
    marked: list[Row] = []
    watermark = NO_TIME
    for group, time in rows:
        marked.append((group, time, watermark))
        watermark = max(watermark, time - delay)
    cuts = sorted(min(cut, len(rows)) for cut in cuts)
    expected = feed(twin.DedupState(within), marked, [], False)
    assert feed(twin.DedupState(within), marked, cuts, forget)[0] == expected[0]
    assert feed(compiled.DedupState(within), marked, [], False) == expected
    assert feed(compiled.DedupState(within), marked, cuts, forget)[0] == expected[0]


@pytest.mark.parametrize("module", [compiled, twin])
@settings(deadline=None)
@given(
    rows=st.lists(st.tuples(st.integers(0, 2), TIMES), max_size=40),
    before=TIMES,
    delay=st.one_of(st.integers(0, 30), st.sampled_from([2**62, END_OF_TIME])),
    within=st.one_of(st.integers(0, 20), st.sampled_from([2**62, END_OF_TIME])),
)
def test_the_watermark_of_a_source_follows_its_rows(
    module: Any, rows: list[tuple[int, int]], before: int, delay: int, within: int
) -> None:
    """As the watermarks that a batch of one source stands for."""
    groups, times = (np.array([row[i] for row in rows], kind) for i, kind in enumerate((np.int32, np.int64)))
    given = module.DedupState(within).add(groups, 3, times, watermarks_of(times, before, delay), NO_TIME)
    assert (
        module.DedupState(within).add(groups, 3, times, None, NO_TIME, before, delay).tolist()
        == given.tolist()
    )


def test_what_the_watermark_has_passed_is_given_back() -> None:
    state = compiled.DedupState(10)
    for start in range(0, 1_000_000, 1000):
        times = np.arange(start, start + 1000)
        assert state.add(np.zeros(1000, np.int32), 1, times, times - 1, start - 1).sum() in (90, 91)
        if start % 100_000 == 0:
            assert state.live_groups(start).tolist() == [0]
            assert state.entries <= 92
    assert state.nbytes < 1 << 18
    assert state.live_groups(2_000_000).tolist() == []
    assert state.entries == 0


@pytest.mark.parametrize("module", [compiled, twin])
def test_what_does_not_fit_is_refused(module: Any) -> None:
    ids, times = np.zeros(2, np.int32), np.zeros(2, np.int64)
    for within in (-1, 2**63):
        with pytest.raises(ValueError, match="within_ns"):
            module.DedupState(within)
    with pytest.raises(ValueError, match="length"):
        module.DedupState(1).add(ids, 1, times, times[:1], 0)
    with pytest.raises(ValueError, match="delay_ns"):
        module.DedupState(1).add(ids, 1, times, None, 0, 0, -1)
    with pytest.raises(IndexError, match=r"0\.\.0"):
        module.DedupState(1).add(ids + 1, 1, times, times, 0)
    assert module.DedupState(1).add(ids[:0], 0, times[:0], times[:0], 0).tolist() == []
