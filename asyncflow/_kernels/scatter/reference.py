"""Rows to parts and back, plain.  The twin of ``compiled.pyx``, and what its results are.

``scatter`` puts the rows of a batch part by part: all rows of a key are in one part, in the order in which they came.  ``merge_runs`` and
``interleave`` go the other way: each part gives rows in order, and these become one sequence in that order.

A raw column is ``(values, valid)`` for fixed types and ``(data, starts, lengths, valid)`` for strings.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asyncflow._kernels.columns.raw import RawColumn
from asyncflow._kernels.groups.reference import DTYPES, sort_key, values_of

MOST_PARTS = 64
PART_SHIFT = 44
"""The part of a hash are bits from here on: neither the buckets of a group table nor their tags use these."""


def scatter(
    hashes: NDArray[np.uint64], parts: int, columns: Sequence[RawColumn]
) -> tuple[list[int], NDArray[np.int32], list[RawColumn]]:
    """The rows of ``columns`` part by part, in their order within each part: ``(ends, rows, columns)``.

    ``hashes``: of the rows' keys; row i belongs to part ``hashes[i] >> 44 & (parts - 1)``.  ``parts``: a power of two, 1 to 64.
    ``ends[p]``: where the rows of part p end.  ``rows`` (int32): the position that each row had.  Texts stay where they are: ``data`` is
    the same array.  ValueError for another number of parts, columns of other lengths, or values of another width than 1 and 8 bytes.
    """
    if not 1 <= parts <= MOST_PARTS or parts & (parts - 1):
        raise ValueError(f"{parts} parts: a power of two from 1 to {MOST_PARTS} is wanted")
    count = len(hashes)
    part = (hashes >> np.uint64(PART_SHIFT)).astype(np.int64) & (parts - 1)
    rows = np.argsort(part, kind="stable").astype(np.int32)
    ends = np.cumsum(np.bincount(part, minlength=parts)).tolist()
    return ends, rows, [_taken(column, rows, count) for column in columns]


def _taken(column: RawColumn, rows: NDArray[np.int32], count: int) -> RawColumn:
    for array in column[1:] if len(column) == 4 else column:
        if array is not None and len(array) != count:
            raise ValueError(f"a column of {len(array)} rows in a batch of {count}")
    if len(column) == 4:
        data, starts, lengths, valid = column
        return data, starts[rows], lengths[rows], None if valid is None else valid[rows]
    values, valid = column
    if values.itemsize not in (1, 8):
        raise ValueError(f"values of {values.itemsize} bytes: 1 or 8 are wanted")
    return values[rows], None if valid is None else valid[rows]


def watermarks(time: NDArray[np.int64], watermark_before: int, delay_ns: int) -> NDArray[np.int64]:
    """The watermark before each row of a source (int64 ns): ``watermark_before``, or the greatest time of the rows before it less
    ``delay_ns`` where that is more.  ValueError for a delay below 0."""
    if delay_ns < 0:
        raise ValueError(f"a delay of {delay_ns} ns: it is not below 0")
    marks: list[int] = []
    for at in time.tolist():
        marks.append(watermark_before)
        watermark_before = max(watermark_before, at - delay_ns)
    return np.array(marks, np.int64)


def gather(values: NDArray[np.int64], rows: NDArray[np.int32]) -> NDArray[np.int64]:
    """The values (int64) at these positions (int32); IndexError for one that is not there."""
    if len(rows) and not 0 <= rows.min() <= rows.max() < len(values):
        raise IndexError(f"an id outside of 0..{len(values) - 1}")
    return values[rows]


def merge_runs(
    kinds: Sequence[str], runs: Sequence[Sequence[RawColumn]], more: Sequence[bool], max_rows: int
) -> NDArray[np.uint8]:
    """The order of the rows of several sorted runs: of each merged row the run that it comes from (uint8), a run's rows in their order.

    A run is the columns that its rows are sorted by, of types ``kinds``, the first of them first: ascending as in a group table, nulls
    last; of equal rows the one of the earlier run comes first.  ``more[r]``: further rows of run r will follow, so that the merged rows end
    with its last one here.  At most ``max_rows`` rows.  ValueError for more than 64 runs, or columns of different lengths.
    """
    if len(runs) > MOST_PARTS or len(more) != len(runs):
        raise ValueError(f"at most {MOST_PARTS} runs are merged, each with more to follow or not")
    rows: list[list[Any]] = []
    for run in runs:
        columns = [
            [sort_key(value) for value in values_of(k, column)] for k, column in zip(kinds, run, strict=True)
        ]
        if len({len(column) for column in columns}) > 1:
            raise ValueError("columns of different lengths")
        rows.append(list(zip(*columns, strict=True)))
    sources: list[int] = []
    places = [0] * len(runs)
    while len(sources) < max_rows:
        if any(follows and place == len(run) for follows, place, run in zip(more, places, rows, strict=True)):
            break
        heads = [
            (run[place], r)
            for r, (run, place) in enumerate(zip(rows, places, strict=True))
            if place < len(run)
        ]
        if not heads:
            break
        source = min(heads)[1]
        sources.append(source)
        places[source] += 1
    return np.array(sources, np.uint8)


def interleave(columns: Sequence[RawColumn], sources: NDArray[np.uint8]) -> RawColumn:
    """One column of several, of the same type: row i is the next row of column ``sources[i]``.  Texts are copied, and stand end to end.

    IndexError where a column has too few rows, or there is no such column; OverflowError where the texts come to more than 2 GiB.
    """
    places = [0] * len(columns)
    if any(len(column) != len(columns[0]) for column in columns):
        raise ValueError("a column of values among columns of texts")
    picked: list[Any] = []
    valid: list[bool] = []
    for source in sources.tolist():
        place = places[source]
        places[source] += 1
        column = columns[source]
        valid.append(True if column[-1] is None else bool(column[-1][place]))
        if len(column) == 4:
            start, length = int(column[1][place]), int(column[2][place])
            if length and not 0 <= start <= start + length <= len(column[0]):
                raise ValueError("a text lies outside its data")
            picked.append(column[0][start : start + length].tobytes() if length else b"")
        else:
            picked.append(column[0][place])
    mask = None if all(column[-1] is None for column in columns) else np.array(valid, np.bool_)
    if columns and len(columns[0]) == 4:
        lengths = np.array([len(text) for text in picked], np.int32)
        total = int(lengths.sum(dtype=np.int64))
        if total > 2**31 - 1:
            raise OverflowError(f"the texts of {len(picked)} rows have {total} bytes, more than {2**31 - 1}")
        starts = (np.cumsum(lengths, dtype=np.int64) - lengths).astype(np.int32)
        return np.frombuffer(b"".join(picked), np.uint8), starts, lengths, mask
    return np.array(picked, columns[0][0].dtype if columns else DTYPES["int64"]), mask
