"""The end of the next window and the number of rows held: kernels and twins agree at any moment."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncflow import _kernels

NO_TIME = -(2**63)
times = st.integers(-50, 200) | st.sampled_from([NO_TIME, 2**63 - 1])
steps = st.lists(
    st.tuples(st.lists(st.tuples(st.integers(0, 70), times), max_size=6), st.integers(-60, 220)), max_size=6
)
shapes = st.sampled_from([(10, 10, 0), (10, 10, 3), (10, 5, 0), (10, 3, 2), (None, 1, 0), (2**62, 2**62, 0)])


def pair(module: str, name: str, *args: Any) -> tuple[Any, Any]:
    compiled = import_module(f"{_kernels.__name__}.{module}.compiled")
    twin = import_module(f"{_kernels.__name__}.{module}.reference")
    return getattr(compiled, name)(*args), getattr(twin, name)(*args)


def arrays(rows: list[tuple[int, int]]) -> tuple[Any, Any]:
    groups, stamps = zip(*rows, strict=True) if rows else ((), ())
    return np.array(groups, np.int32), np.array(stamps, np.int64)


@given(shapes, steps)
def test_windows(
    shape: tuple[int | None, int, int], moments: list[tuple[list[tuple[int, int]], int]]
) -> None:
    made = pair("window", "WindowState", *shape, [("count", (), (), None)])
    order = np.arange(71, dtype=np.int32)
    advanced = NO_TIME
    for rows, watermark in moments:
        groups, stamps = arrays(rows)
        for state in made:
            state.add(groups, 71, stamps, None, advanced, 0, [], [])
        advanced = max(advanced, watermark)
        for state in made:
            while state.close(advanced, order, 1000) is not None:
                pass
        assert made[0].next_end == made[1].next_end
        assert made[0].held_rows == made[1].held_rows
        if shape[0] is not None and made[0].next_end is not None:
            assert made[0].next_end > advanced
            assert made[0].open_windows > 0
        assert (made[0].held_rows is None) == (shape[0] is not None and shape[0] != shape[1])
        if made[0].held_rows is not None:
            assert (made[0].held_rows > 0) == (made[0].open_windows > 0)


@given(st.sampled_from([1, 7, 2**62]), steps)
def test_sessions(gap: int, moments: list[tuple[list[tuple[int, int]], int]]) -> None:
    made = pair("sessions", "Sessions", gap)
    advanced = NO_TIME
    for rows, watermark in moments:
        groups, stamps = arrays(rows)
        for state in made:
            state.assign(groups, 71, stamps, None, advanced, 0)
        advanced = max(advanced, watermark)
        ends = [state.close(advanced)[3].tolist() for state in made]
        assert ends[0] == ends[1]
        assert made[0].next_end == made[1].next_end
        assert (made[0].next_end is None) == (made[0].open_windows == 0)
        if made[0].next_end is not None:
            assert made[0].next_end > advanced


def test_rows_are_counted_until_their_window_is_gone() -> None:
    for state in pair("window", "WindowState", 10, 10, 0, [("count", (), (), None)]):
        groups, stamps = arrays([(0, 1), (1, 2), (0, 15)])
        state.add(groups, 2, stamps, None, NO_TIME, 0, [], [])
        assert (state.next_end, state.held_rows) == (10, 3)
        state.close(10, np.arange(2, dtype=np.int32), 100)
        assert (state.next_end, state.held_rows) == (20, 1)


@pytest.mark.parametrize("slots", [[0], [0, 1]])
def test_of_slots_rows_go_as_they_are_cleared(slots: list[int]) -> None:
    for state in pair("window", "WindowState", None, 1, 0, [("count", (), (), None)]):
        state.add(np.array([0, 1, 1], np.int32), 2, None, None, NO_TIME, 0, [], [])
        state.merge(np.array([0], np.int32), np.array([1], np.int32))
        assert (state.next_end, state.held_rows) == (None, 3)
        state.clear(np.array(slots, np.int32))
        assert state.held_rows == 0
