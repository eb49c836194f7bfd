"""Arithmetic and rounding of int64 and float64, as DuckDB reads them.

float64 follows IEEE 754: no error, only inf and NaN.  int64 never wraps: a result beyond its range is null and counted as
``overflow``.  The extremes of both sides tell first whether any row can overflow (two cheap passes); only then
are the rows looked at.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from asyncflow._kernels import elementary as elementary_kernel
from asyncflow.model.columns import BoolArray, FixedColumn
from asyncflow.operators.functions.arrays import Count, fixed, rows_of, valid_of

Floats: TypeAlias = NDArray[np.float64]

LEAST, GREATEST = -(2**63), 2**63 - 1


def quiet() -> np.errstate:
    """Within it numpy computes as IEEE 754 and C do, without a word."""
    return np.errstate(all="ignore")


def within_int64(
    count: Count, values: NDArray[Any], valid: BoolArray | None, lost: BoolArray, reason: str = "overflow"
) -> FixedColumn:
    """The values, with null where they were ``lost``; those of rows that are not null anyway are counted."""
    if valid is not None:
        lost = lost & valid
    if not lost.any():
        return fixed(values, valid)
    count(reason, lost)
    return fixed(values, ~lost if valid is None else valid & ~lost)


def _bounds(values: NDArray[np.int64]) -> tuple[int, int]:
    return (int(values.min()), int(values.max())) if len(values) else (0, 0)


def add(count: Count, a: FixedColumn, b: FixedColumn) -> FixedColumn:
    x, y, valid = a.values, b.values, valid_of(a, b)
    with quiet():
        result = x + y
    if result.dtype == np.float64:
        return fixed(result, valid)
    (low_x, high_x), (low_y, high_y) = _bounds(x), _bounds(y)
    if low_x + low_y >= LEAST and high_x + high_y <= GREATEST:
        return fixed(result, valid)
    return within_int64(count, result, valid, ((x ^ result) & (y ^ result)) < 0)


def sub(count: Count, a: FixedColumn, b: FixedColumn) -> FixedColumn:
    x, y, valid = a.values, b.values, valid_of(a, b)
    with quiet():
        result = x - y
    if result.dtype == np.float64:
        return fixed(result, valid)
    (low_x, high_x), (low_y, high_y) = _bounds(x), _bounds(y)
    if low_x - high_y >= LEAST and high_x - low_y <= GREATEST:
        return fixed(result, valid)
    return within_int64(count, result, valid, ((x ^ y) & (x ^ result)) < 0)


def mul(count: Count, a: FixedColumn, b: FixedColumn) -> FixedColumn:
    x, y, valid = a.values, b.values, valid_of(a, b)
    with quiet():
        result = x * y
    if result.dtype == np.float64:
        return fixed(result, valid)
    corners = [left * right for left in _bounds(x) for right in _bounds(y)]
    if min(corners) >= LEAST and max(corners) <= GREATEST:
        return fixed(result, valid)
    with quiet():
        back = result // np.where(y == 0, 1, y)
    lost = ((y != 0) & (back != x)) | ((y == -1) & (x == LEAST))
    return within_int64(count, result, valid, lost)


def div(a: FixedColumn, b: FixedColumn) -> FixedColumn:
    with quiet():
        return fixed(a.values / b.values, valid_of(a, b))


def floordiv(count: Count, a: FixedColumn, b: FixedColumn) -> FixedColumn:
    """int64: cut towards zero; by zero null.  float64: DuckDB's ``//`` is plain division, null by zero."""
    x, y, valid = a.values, b.values, valid_of(a, b)
    zero = y == 0
    with quiet():
        if x.dtype == np.float64:
            result = x / y
        else:
            divisor = np.where(zero, 1, y) if zero.any() else y
            result = (x - np.fmod(x, np.where(divisor == -1, 1, divisor))) // divisor
    if zero.any():
        valid = ~zero if valid is None else valid & ~zero
    if x.dtype == np.float64 or len(x) == 0 or x.min() != LEAST:
        return fixed(result, valid)
    return within_int64(count, result, valid, (x == LEAST) & (y == -1))


def mod(a: FixedColumn, b: FixedColumn) -> FixedColumn:
    """Remainder with the sign of the first; by zero null (int64) or NaN (float64)."""
    x, y, valid = a.values, b.values, valid_of(a, b)
    with quiet():
        if x.dtype == np.float64:
            return fixed(np.fmod(x, y), valid)
        harmless = np.where((y == 0) | (y == -1), 1, y)  # x % -1 is 0, but x86 traps on the least int64
        result = np.fmod(x, harmless)
    zero = y == 0
    if zero.any():
        valid = ~zero if valid is None else valid & ~zero
    return fixed(result, valid)


def neg(count: Count, a: FixedColumn) -> FixedColumn:
    with quiet():
        result = np.negative(a.values)
    if result.dtype == np.float64:
        return fixed(result, a.valid)
    return within_int64(count, result, a.valid, a.values == LEAST)


def absolute(count: Count, a: FixedColumn) -> FixedColumn:
    with quiet():
        result = np.abs(a.values)
    if result.dtype == np.float64:
        return fixed(result, a.valid)
    return within_int64(count, result, a.valid, a.values == LEAST)


def sign(a: FixedColumn) -> FixedColumn:
    values = (a.values > 0).astype(np.int64) - (a.values < 0)
    return fixed(values, a.valid)


def _of_floats(function: Callable[[NDArray[Any]], NDArray[Any]]) -> Callable[[FixedColumn], FixedColumn]:
    def apply(a: FixedColumn) -> FixedColumn:
        with quiet():
            return fixed(function(a.values), a.valid)

    return apply


floor = _of_floats(np.floor)
ceil = _of_floats(np.ceil)
sqrt = _of_floats(np.sqrt)


def ln(a: FixedColumn) -> FixedColumn:
    return _elementary(elementary_kernel.ln, a)


def log10(a: FixedColumn) -> FixedColumn:
    return _elementary(elementary_kernel.log10, a)


def exp(a: FixedColumn) -> FixedColumn:
    return _elementary(elementary_kernel.exp, a)


def _elementary(function: Callable[[Floats, Floats], None], a: FixedColumn) -> FixedColumn:
    """By the kernel: numpy's results depend on the processor, and those of the C library on its version."""
    values = np.ascontiguousarray(a.values)
    out = np.empty_like(values)
    function(values, out)
    return fixed(out, a.valid)


def power(a: FixedColumn, b: FixedColumn) -> FixedColumn:
    return _of_two(elementary_kernel.power, a, b)


def _of_two(function: Callable[[Floats, Any, Floats], None], a: FixedColumn, b: FixedColumn) -> FixedColumn:
    out = np.empty(rows_of(a, b), np.float64)
    function(np.ascontiguousarray(a.values), np.ascontiguousarray(b.values), out)
    return fixed(out, valid_of(a, b))


def round_(count: Count, a: FixedColumn, digits: FixedColumn | None = None) -> FixedColumn:
    """To ``digits`` decimals by the number's value, halves away from zero; negative digits round before the point."""
    if a.values.dtype == np.int64:
        return fixed(a.values, a.valid) if digits is None else _round_whole(count, a, digits)
    return _of_two(
        elementary_kernel.round_to, a, FixedColumn(np.zeros(1, np.int64)) if digits is None else digits
    )


def _round_whole(count: Count, a: FixedColumn, digits: FixedColumn) -> FixedColumn:
    valid = valid_of(a, digits)
    places = np.clip(-digits.values, 0, 20)
    if not places.any():
        return fixed(a.values, valid)
    scale = np.power(10, np.minimum(places, 18))
    rest = np.fmod(a.values, scale)
    down = a.values - rest
    up = np.abs(rest) >= (scale + 1) // 2
    step = np.where(up, np.where(a.values < 0, -scale, scale), 0)
    step, down = np.where(places >= 19, 0, step), np.where(places >= 19, 0, down)
    with quiet():
        result = down + step
    lost = ((down ^ result) & (step ^ result)) < 0
    to_the_next = (a.values >= 5 * 10**18) | (a.values <= -5 * 10**18)  # 10**19 is beyond int64
    lost = lost | ((places == 19) & to_the_next)
    return within_int64(count, result, valid, lost)
