"""The scatter kernel against its twin: rows to parts, and sorted rows of parts into one order."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncflow._kernels.groups import reference as groups
from asyncflow._kernels.scatter import compiled, reference
from asyncflow.model.batch import watermarks_of

NAN = float("nan")
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "int64": st.sampled_from([0, 1, -1, 2**63 - 1, -(2**63), None]),
    "float64": st.sampled_from([0.0, -0.0, 1.5, -1.5, NAN, float("inf"), -float("inf"), 5e-324, None]),
    "bool": st.sampled_from([False, True, None]),
    "string": st.sampled_from(
        [b"", b"a", b"abcdefgh", b"abcdefghi", b"abcdefgh\0", b"\xff" * 9, b"x" * 70, None]
    ),
}
KINDS = st.lists(st.sampled_from(sorted(VALUES)), min_size=1, max_size=3)


def bits(column: Any) -> Any:
    """A raw column as Python values, floats to the bit."""
    if column is None:
        return None
    values = [groups.values_of("", (*column[:-1], None)), None if column[-1] is None else column[-1].tolist()]
    if len(column) == 2 and column[0].dtype == np.float64:
        values[0] = column[0].view(np.int64).tolist()
    return values


def column_of(draw: Any, kind: str, rows: int) -> Any:
    values = draw(st.lists(VALUES[kind], min_size=rows, max_size=rows))
    return groups.column_of(kind, values)


@st.composite
def blocks(draw: Any) -> Any:
    rows = draw(st.integers(0, 40))
    hashes = np.array(draw(st.lists(st.integers(0, 2**64 - 1), min_size=rows, max_size=rows)), np.uint64)
    columns = [column_of(draw, kind, rows) for kind in draw(KINDS)]
    return hashes, draw(st.sampled_from([1, 2, 4, 8, 64])), columns


@settings(max_examples=200, deadline=None)
@given(blocks())
def test_rows_go_to_their_parts_in_order(block: Any) -> None:
    hashes, parts, columns = block
    ends, rows, moved = compiled.scatter(hashes, parts, [*columns, (hashes, None)])
    plain_ends, plain_rows, plain = reference.scatter(hashes, parts, [*columns, (hashes, None)])
    assert ends == plain_ends
    assert rows.dtype == plain_rows.dtype == np.int32
    assert rows.tolist() == plain_rows.tolist()
    assert [bits(column) for column in moved] == [bits(column) for column in plain]
    begin = 0
    for part, end in enumerate(ends):
        mine = rows[begin:end]
        assert (mine[1:] > mine[:-1]).all()
        assert ((hashes[mine] >> np.uint64(44)) % np.uint64(parts) == part).all()
        begin = end


TIMES = st.one_of(st.integers(-(2**63), 2**63 - 1), st.integers(-5, 5))


@settings(max_examples=200, deadline=None)
@given(
    st.lists(TIMES, max_size=40), TIMES, st.one_of(st.integers(0, 2**63 - 1), st.integers(0, 5)), st.randoms()
)
def test_watermarks_before_rows_are_those_of_the_batch(
    times: list[int], before: int, delay: int, rng: Any
) -> None:
    time = np.array(times, np.int64)
    marks = compiled.watermarks(time, before, delay)
    assert marks.tolist() == reference.watermarks(time, before, delay).tolist()
    assert marks.tolist() == watermarks_of(time, before, delay).tolist()
    rows = np.array(rng.choices(range(len(times)), k=9) if times else [], np.int32)
    assert compiled.gather(marks, rows).tolist() == reference.gather(marks, rows).tolist()


@pytest.mark.parametrize("kernel", [compiled, reference])
def test_what_is_no_delay_and_no_row_is_refused(kernel: Any) -> None:
    with pytest.raises(ValueError, match="a delay of -1 ns"):
        kernel.watermarks(np.zeros(3, np.int64), 0, -1)
    for wrong in (-1, 3):
        with pytest.raises(IndexError, match=r"an id outside of 0\.\.2"):
            kernel.gather(np.zeros(3, np.int64), np.array([0, wrong], np.int32))


@st.composite
def sorted_runs(draw: Any) -> Any:
    kinds = draw(KINDS)
    runs = []
    for _ in range(draw(st.integers(0, 9))):
        rows = draw(st.lists(st.tuples(*(VALUES[kind] for kind in kinds)), max_size=9))
        rows.sort(key=lambda row: [groups.sort_key(groups.canonical(v) if v == v else v) for v in row])
        runs.append([groups.column_of(k, [row[c] for row in rows]) for c, k in enumerate(kinds)])
    more = [draw(st.booleans()) for _ in runs]
    return kinds, runs, more, draw(st.sampled_from([0, 3, 1000]))


@settings(max_examples=300, deadline=None)
@given(sorted_runs())
def test_runs_are_merged(case: Any) -> None:
    kinds, runs, more, most = case
    sources = compiled.merge_runs(kinds, runs, more, most)
    assert sources.dtype == np.uint8
    assert sources.tolist() == reference.merge_runs(kinds, runs, more, most).tolist()
    for c in range(len(kinds) if runs else 0):
        columns = [run[c] for run in runs]
        assert bits(compiled.interleave(columns, sources)) == bits(reference.interleave(columns, sources))


def test_all_rows_of_many_runs_come_in_order() -> None:
    chance = np.random.default_rng(3)
    values = np.sort(chance.integers(-99, 99, 5000))
    part = chance.integers(0, 64, len(values))
    runs = [[(values[part == p], None)] for p in range(64)]
    sources = compiled.merge_runs(["int64"], runs, [False] * 64, 10**9)
    merged, valid = compiled.interleave([run[0] for run in runs], sources)
    assert valid is None
    assert merged.tolist() == values.tolist()


@pytest.mark.parametrize("module", [compiled, reference])
def test_wrong_calls(module: Any) -> None:
    hashes, words = np.zeros(3, np.uint64), np.zeros(3, np.int64)
    text = np.zeros(4, np.uint8), np.array([0, 9, 0], np.int32), np.array([1, 1, 1], np.int32), None
    for parts in (0, 3, 128):
        with pytest.raises(ValueError, match="a power of two from 1 to 64"):
            module.scatter(hashes, parts, [])
    with pytest.raises(ValueError, match="2 rows in a batch of 3"):
        module.scatter(hashes, 2, [(words[:2], None)])
    with pytest.raises(ValueError, match="2 rows in a batch of 3"):
        module.scatter(hashes, 2, [(words, np.ones(2, np.bool_))])
    with pytest.raises(ValueError, match="values of 2 bytes"):
        module.scatter(hashes, 2, [(np.zeros(3, np.int16), None)])
    with pytest.raises(ValueError, match="at most 64 runs"):
        module.merge_runs(["int64"], [[(words, None)]] * 65, [False] * 65, 9)
    with pytest.raises(ValueError, match="columns of different lengths"):
        module.merge_runs(["int64"] * 2, [[(words, None), (words[:2], None)]], [False], 9)
    with pytest.raises(ValueError, match="lies outside"):
        module.interleave([text], np.zeros(2, np.uint8))
    for sources in (np.zeros(4, np.uint8), np.ones(1, np.uint8)):
        with pytest.raises(IndexError):
            module.interleave([(words, None)], sources)
