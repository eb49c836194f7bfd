"""What the functions share: how columns meet, and how one is made from several.

The rule of this room: a column of one row stands for every row (a constant, or a batch of one row: the same thing), so numpy's
broadcasting does the rest.  Functions take and give columns of one row or of as many rows as the batch; they never write to
what they are given.  A null row's value is unspecified, so arithmetic may run over it and its result is hidden by ``valid``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from asyncflow.model.columns import BoolArray, Column, FixedColumn, StringColumn, check_text_bytes

Count: TypeAlias = Callable[[str, BoolArray], None]
"""Notes rows whose value was lost, by the name of the reason: ``count("overflow", lost)``."""


def rows_of(*columns: Column) -> int:
    """How many rows the columns have together."""
    lengths = {len(column) for column in columns} - {1}
    if len(lengths) > 1:
        raise ValueError(f"columns of different lengths: {sorted(lengths)}")
    return lengths.pop() if lengths else 1


def valid_of(*columns: Column) -> BoolArray | None:
    """Where none of the columns is null; None where that is everywhere."""
    valid: BoolArray | None = None
    for column in columns:
        if column.valid is not None:
            valid = column.valid if valid is None else valid & column.valid
    return valid


def validity(column: Column, rows: int) -> BoolArray:
    """``valid`` as an array of ``rows``."""
    if column.valid is None:
        return np.ones(rows, np.bool_)
    return np.broadcast_to(column.valid, rows)


def fixed(values: NDArray[Any], valid: BoolArray | None) -> FixedColumn:
    """A column from values and validity, either of which may have one row."""
    if valid is not None and len(valid) != len(values):
        rows = len(values) if len(valid) == 1 else len(valid)
        values, valid = np.broadcast_to(values, rows), np.broadcast_to(valid, rows)
    return FixedColumn(values, valid)


def expand(column: Column, rows: int) -> Column:
    """The column with all its rows, as a batch holds it: contiguous, ``valid`` None where no row is null."""
    valid = column.valid
    if valid is not None:
        valid = None if valid.all() else valid
    if isinstance(column, StringColumn):
        starts, lengths = column.starts, column.lengths
        if valid is not None:
            lengths = np.where(valid, lengths, np.int32(0))
        if len(column) != rows:
            starts, lengths = np.repeat(starts, rows), np.repeat(lengths, rows)
            valid = None if valid is None else np.repeat(valid, rows)
        if valid is column.valid and starts is column.starts and lengths is column.lengths:
            return column
        return StringColumn(column.data, starts, lengths, valid)
    values = column.values
    if len(column) != rows:
        values = np.repeat(values, rows)
        valid = None if valid is None else np.repeat(valid, rows)
    if valid is column.valid and values is column.values and values.flags.c_contiguous:
        return column
    return FixedColumn(np.ascontiguousarray(values), None if valid is None else np.ascontiguousarray(valid))


def choose(conditions: Sequence[BoolArray], columns: Sequence[Column], rows: int) -> Column:
    """Row by row the column whose condition is the first to hold; ``columns`` has one more, taken where none holds."""
    valid: BoolArray | None = None
    if any(column.valid is not None for column in columns):
        valid = np.copy(validity(columns[-1], rows))
        for condition, column in zip(reversed(conditions), reversed(columns[:-1]), strict=True):
            valid = np.where(condition, validity(column, rows), valid)
    if isinstance(columns[0], FixedColumn):
        values = columns[-1].values if isinstance(columns[-1], FixedColumn) else np.empty(0)
        for condition, column in zip(reversed(conditions), reversed(columns[:-1]), strict=True):
            assert isinstance(column, FixedColumn)
            values = np.where(condition, column.values, values)
        return fixed(_whole(values, rows), valid)
    strings = [column for column in columns if isinstance(column, StringColumn)]
    data, starts_of = _one_buffer(strings)
    starts, lengths = starts_of[-1], strings[-1].lengths
    for condition, start, string in zip(
        reversed(conditions), reversed(starts_of[:-1]), reversed(strings[:-1]), strict=True
    ):
        starts, lengths = np.where(condition, start, starts), np.where(condition, string.lengths, lengths)
    return StringColumn(data, _whole(starts, rows), _whole(lengths, rows), valid)


def _whole(values: NDArray[Any], rows: int) -> NDArray[Any]:
    return values if len(values) == rows else np.repeat(values, rows)


def _one_buffer(columns: Sequence[StringColumn]) -> tuple[NDArray[np.uint8], list[NDArray[np.int32]]]:
    """All texts in one buffer, each buffer once, and each column's starts in it."""
    bases: dict[int, int] = {}
    buffers: list[NDArray[np.uint8]] = []
    size = 0
    for column in columns:
        if id(column.data) not in bases:
            bases[id(column.data)] = size
            buffers.append(column.data)
            size += len(column.data)
    check_text_bytes(size)
    data = buffers[0] if len(buffers) == 1 else np.concatenate(buffers)
    return data, [column.starts + np.int32(bases[id(column.data)]) for column in columns]
