"""Comparisons: ``= <> < <= > >=``, ``IS DISTINCT FROM``, ``IN``, ``greatest`` and ``least``.

float64 as DuckDB orders it: NaN equals NaN and is greater than everything else; 0.0 equals -0.0.  Text by its UTF-8 bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asyncflow._kernels import strings as _text
from asyncflow.model.columns import BoolArray, Column, FixedColumn, StringColumn
from asyncflow.operators.functions.arrays import choose, fixed, rows_of, valid_of, validity

MAX_SEPARATE = 12
"""Up to this many constants ``IN`` compares one after the other; beyond, it looks them up."""


def eq(a: Column, b: Column) -> FixedColumn:
    return fixed(_equal(a, b), valid_of(a, b))


def ne(a: Column, b: Column) -> FixedColumn:
    return fixed(~_equal(a, b), valid_of(a, b))


def is_distinct(a: Column, b: Column) -> FixedColumn:
    """``IS DISTINCT FROM``: null is equal to null, and to nothing else."""
    differ = ~_equal(a, b)
    if a.valid is None and b.valid is None:
        return fixed(differ, None)
    rows = rows_of(a, b)
    left, right = validity(a, rows), validity(b, rows)
    return fixed(np.where(left & right, differ, left | right), None)


def lt(a: Column, b: Column) -> FixedColumn:
    return fixed(_less(a, b), valid_of(a, b))


def gt(a: Column, b: Column) -> FixedColumn:
    return fixed(_less(b, a), valid_of(a, b))


def le(a: Column, b: Column) -> FixedColumn:
    return fixed(~_less(b, a), valid_of(a, b))


def ge(a: Column, b: Column) -> FixedColumn:
    return fixed(~_less(a, b), valid_of(a, b))


def _equal(a: Column, b: Column) -> BoolArray:
    if isinstance(a, StringColumn) and isinstance(b, StringColumn):
        out = np.empty(rows_of(a, b), np.bool_)
        _text.equal(a.data, a.starts, a.lengths, b.data, b.starts, b.lengths, out)
        return out
    x, y = _values(a), _values(b)
    same: BoolArray = x == y
    if x.dtype == np.float64 and _has_nan(x) and _has_nan(y):
        same = same | (np.isnan(x) & np.isnan(y))
    return same


def _less(a: Column, b: Column) -> BoolArray:
    if isinstance(a, StringColumn) and isinstance(b, StringColumn):
        order = np.empty(rows_of(a, b), np.int8)
        _text.compare(a.data, a.starts, a.lengths, b.data, b.starts, b.lengths, order)
        return order < 0
    x, y = _values(a), _values(b)
    less: BoolArray
    if x.dtype != np.float64:
        less = x < y
    elif len(x) == 1 and not _has_nan(x):
        less = ~(x >= y)  # a NaN in y is greater
    elif not _has_nan(y):
        less = x < y
    else:
        less = (x < y) | (np.isnan(y) & ~np.isnan(x))
    return less


def _values(column: Column) -> NDArray[Any]:
    assert isinstance(column, FixedColumn)
    return column.values


def _has_nan(values: NDArray[np.float64]) -> bool:
    return bool(np.isnan(values).any())


def in_(value: Column, *candidates: Column) -> FixedColumn:
    """True where one is equal; else null where the value or a candidate is null; else false."""
    rows = rows_of(value, *candidates)
    constants = [column for column in candidates if len(column) == 1]
    given = [column for column in constants if column.valid is None or column.valid[0]]
    if len(constants) == len(candidates) and len(given) > MAX_SEPARATE:
        found = np.broadcast_to(_looked_up(value, given), rows)
        doubtful = np.full(rows, len(given) < len(constants))
    else:
        found, doubtful = np.zeros(rows, np.bool_), np.zeros(rows, np.bool_)
        for column in candidates:
            if column.valid is None:
                found = found | _equal(value, column)
            else:
                valid = validity(column, rows)
                found = found | (_equal(value, column) & valid)
                doubtful = doubtful | ~valid
    known = validity(value, rows)
    return fixed(found, known & (found | ~doubtful))


def _looked_up(value: Column, constants: list[Column]) -> BoolArray:
    if isinstance(value, StringColumn):
        wanted = StringColumn.from_values(_only_text(column) for column in constants)
        found = np.empty(len(value), np.bool_)
        _text.among(
            value.data, value.starts, value.lengths, wanted.data, wanted.starts, wanted.lengths, found
        )
        return found
    values, candidates = _values(value), np.concatenate([_values(column) for column in constants])
    return np.isin(values, candidates) | (
        np.isnan(values)
        if values.dtype == np.float64 and _has_nan(candidates)
        else np.zeros(len(values), np.bool_)
    )


def _only_text(column: Column) -> bytes:
    assert isinstance(column, StringColumn)
    start = int(column.starts[0])
    return column.data[start : start + int(column.lengths[0])].tobytes()


def _extreme(better: Callable[[Column, Column], BoolArray]) -> Callable[..., Column]:
    """Row by row the best of the columns, nulls left out; of equal ones the first."""

    def apply(*columns: Column) -> Column:
        rows = rows_of(*columns)
        best = columns[0]
        for column in columns[1:]:
            replaced = better(column, best)
            if column.valid is not None:
                replaced = replaced & column.valid
            if best.valid is not None:
                replaced = replaced | (~best.valid & validity(column, rows))
            best = choose([replaced], [column, best], rows)
        return best

    return apply


greatest = _extreme(lambda a, b: _less(b, a))
least = _extreme(_less)
