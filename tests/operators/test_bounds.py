"""Windows by number: against whole numbers of Python, and against the windows that the kernel and its twin give out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncflow._kernels import window as chosen_kernel
from asyncflow._kernels.window import reference
from asyncflow.model.batch import END_OF_TIME, NO_TIME, Batch
from asyncflow.model.columns import FixedColumn
from asyncflow.model.schema import DataType, Schema
from asyncflow.operators.aggregates.state import window_state
from asyncflow.operators.aggregates.table import AggregateSpec
from asyncflow.operators.bounds import WindowLattice, left_open
from asyncflow.operators.top import SortColumns, TopOperator
from tests.own_aggregates import Sum

few = settings(max_examples=150, deadline=None)

sizes = st.sampled_from([1, 2, 3, 7, 60, 10**9, 2**62, 2**63 - 1])
parts = st.integers(1, 5)
offsets = st.integers(-(10**10), 10**10)
instants = st.one_of(
    st.integers(-200, 200),
    st.integers(NO_TIME + 1, NO_TIME + 20),
    st.integers(END_OF_TIME - 20, END_OF_TIME),
    st.integers(NO_TIME + 1, END_OF_TIME),
)


def clamped(value: int) -> int:
    return min(max(value, NO_TIME), END_OF_TIME)


def numbered(lattice: WindowLattice, time: int) -> bool:
    """Whether all windows of a row have numbers."""
    first = NO_TIME + (2 if lattice.growing else 1) * lattice.size_ns
    return lattice.every_ns > 1 or lattice.most == 1 or time > first


@given(
    size=sizes,
    parts=parts,
    offset=offsets,
    growing=st.booleans(),
    times=st.lists(instants, min_size=1, max_size=20),
)
def test_windows_by_number(size: int, parts: int, offset: int, growing: bool, times: list[int]) -> None:
    every = max(1, size // parts)
    size = every * (size // every) if growing else size
    lattice = WindowLattice(size, every, offset, growing=growing)
    first, last = lattice.of(np.array(times, np.int64))
    ended = lattice.ended(np.array(times, np.int64))
    for time, low, high, done in zip(times, first.tolist(), last.tolist(), ended.tolist(), strict=True):
        if not numbered(lattice, time):
            assert high <= low + lattice.most - 1
            continue
        assert lattice.end(low - 1) <= time < lattice.end(low)
        assert 1 <= high - low + 1 <= lattice.most
        assert done == (low - 1 if time < END_OF_TIME else high)
        exact = [lattice.end(number) for number in (low, high)]
        if growing:
            begin = (time - offset) // size * size + offset
            begins = [begin, begin]
            assert (lattice.last(low), exact[1]) == (high, begin + size)
        else:
            begins = [end - size for end in exact]
            assert begins[1] <= time < begins[1] + every and (begins[1] - offset) % every == 0
        starts, ends = lattice.bounds(np.array([low, high], np.int64))
        assert ends.tolist() == [clamped(end) for end in exact]
        assert starts.tolist() == [clamped(start) for start in begins]
        if not growing:
            found = zip(starts.tolist(), ends.tolist(), strict=True)
            assert [lattice.number(start, end) for start, end in found] == [low, high]


@pytest.mark.parametrize("kernel", [chosen_kernel, reference], ids=["kernel", "twin"])
@few
@given(
    size=sizes,
    parts=parts,
    offset=offsets,
    rows=st.lists(st.tuples(instants, st.one_of(st.just(NO_TIME), instants)), min_size=1, max_size=12),
)
def test_the_windows_are_those_of_the_kernel(
    kernel: Any, size: int, parts: int, offset: int, rows: list[tuple[int, int]]
) -> None:
    every = max(1, size // parts)
    lattice = WindowLattice(size, every, offset)
    rows = [row for row in rows if numbered(lattice, row[0])]
    times, watermarks = (
        np.array(values, np.int64) for values in ([t for t, _ in rows], [w for _, w in rows])
    )
    groups = np.arange(len(rows), dtype=np.int32)
    state = kernel.WindowState(size, every, offset, [("count", (), (), None)])
    late, partly = state.add(groups, len(rows), times, watermarks, NO_TIME, 0, [], ())
    first, _ = lattice.of(times)
    begun, last = left_open(*lattice.of(times), lattice.ended(watermarks))
    assert late.tolist() == np.flatnonzero(begun > last).tolist()
    assert partly == int(np.count_nonzero((begun > first) & (begun <= last)))
    found = set()
    while (closed := state.close(END_OF_TIME, groups, 1000)) is not None:
        starts, ends, of_row, _, _ = closed
        for start, end, row in zip(starts.tolist(), ends.tolist(), of_row.tolist(), strict=True):
            found.add((row, lattice.number(start, end), start, end))
    wanted = set()
    for row, (low, high) in enumerate(zip(begun.tolist(), last.tolist(), strict=True)):
        numbers = np.array(range(low, high + 1), np.int64)
        starts, ends = lattice.bounds(numbers)
        wanted |= {
            (row, *window) for window in zip(numbers.tolist(), starts.tolist(), ends.tolist(), strict=True)
        }
    assert found == wanted


@pytest.mark.parametrize(("size", "every"), [(1, 1), (3, 1), (2, 2), (10, 4)])
def test_a_top_has_the_windows_of_the_last_nanosecond(size: int, every: int) -> None:
    times = np.array([END_OF_TIME, END_OF_TIME - 1, END_OF_TIME], np.int64)
    schema = Schema.of([("x", DataType.INT64)])
    bounds = [("window_start", DataType.TIMESTAMP), ("window_end", DataType.TIMESTAMP)]
    top = TopOperator(
        n=1,
        output=Schema.of([*bounds, ("x", DataType.INT64), ("rank", DataType.INT64)]),
        kinds=[DataType.INT64],
        directions=[],
        prepare=lambda batch: SortColumns((batch.columns[0],), ()),
        size_ns=size,
        every_ns=every,
    )
    batch = Batch(schema, (FixedColumn(np.arange(3)),), 3, times, np.full(3, NO_TIME, np.int64))
    assert top.process(batch) == []
    found = {
        row[:3]
        for out in top.finish()
        for row in zip(*(c.values.tolist() for c in out.batch.columns[:3]), strict=True)
    }  # type: ignore[union-attr]
    assert found == {
        (start, min(start + size, END_OF_TIME), row)
        for row, time in enumerate(times.tolist())
        for start in range(time - size + 1, time + 1)
        if start % every == 0
    }
    assert top.counts["late"] == top.counts["late_partly"] == 0


def test_a_lattice_of_no_windows_is_refused() -> None:
    for size, every, growing in ((10, 0, False), (10, 11, False), (10, 4, True)):
        with pytest.raises(ValueError, match="need"):
            WindowLattice(size, every, growing=growing)


@few
@given(
    size=sizes,
    parts=parts,
    rows=st.lists(st.tuples(instants, st.one_of(st.just(NO_TIME), instants)), min_size=1, max_size=12),
)
def test_an_aggregate_in_python_has_the_rows_of_one_in_c(
    size: int, parts: int, rows: list[tuple[int, int]]
) -> None:
    every = max(1, size // parts)
    lattice = WindowLattice(size, every)
    rows = [row for row in rows if numbered(lattice, row[0])]
    times, watermarks = (
        np.array(values, np.int64) for values in ([t for t, _ in rows], [w for _, w in rows])
    )
    specs = [
        AggregateSpec("sum", (0,), (DataType.INT64,)),
        AggregateSpec("own_sum", (0,), (DataType.INT64,), None, None, Sum, DataType.INT64),
    ]
    state = window_state(specs, size, every)
    values = (np.arange(1, len(rows) + 1), None)
    state.add(np.zeros(len(rows), np.int32), 1, times, watermarks, NO_TIME, 0, [values], ())
    while (closed := state.close(END_OF_TIME, np.zeros(1, np.int32), 1000)) is not None:
        in_c, in_python = closed[3]
        assert in_c[0].view(np.int64).tolist() == in_python[0].view(np.int64).tolist()
