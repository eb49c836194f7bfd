"""``hash(x, ...)``: a number from 0 to 2^63 - 1 that is the same in every run, process, machine and for every chunking.

Made for sampling and splitting (``hash(user) % 10 = 0``), not for secrets.  A value's 64 bits are mixed by the finisher of splitmix64
(the bits of a float64 with one zero and one NaN; bool as 0 and 1; texts: see the ``strings`` kernel; null as a constant), several
values are folded one into the next, and the lowest bit is dropped.  These values are part of the language and never change.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from asyncflow._kernels import strings as _text
from asyncflow.model.columns import Column, FixedColumn, StringColumn
from asyncflow.operators.functions.arrays import rows_of

_NULL = np.uint64(0x5851F42D4C957F2D)
_FOLD = np.uint64(0xD6E8FEB86659FD93)
_STEP = np.uint64(0x9E3779B97F4A7C15)


def hash_(*columns: Column) -> FixedColumn:
    rows = rows_of(*columns)
    with np.errstate(over="ignore"):
        folded = _hash64(columns[0])
        for column in columns[1:]:
            folded = _mix(folded * _FOLD ^ _hash64(column))
        result: NDArray[np.int64] = (folded >> np.uint64(1)).astype(np.int64)
    return FixedColumn(result if len(result) == rows else np.broadcast_to(result, rows))


def _mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    x = x + _STEP
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _hash64(column: Column) -> NDArray[np.uint64]:
    if isinstance(column, StringColumn):
        hashes = np.empty(len(column), np.uint64)
        _text.hash64(column.data, column.starts, column.lengths, hashes)
    else:
        values = column.values
        if values.dtype == np.float64:
            values = np.where(np.isnan(values), np.nan, values + 0.0).view(np.int64)
        hashes = _mix(values.astype(np.int64).view(np.uint64))
    return hashes if column.valid is None else np.where(column.valid, hashes, _NULL)
