"""The plain twin of ``elementary``: the double nearest to the true value of ``exp``, ``ln``, ``log10``, ``power`` and ``round``,
ties to even.

The functions of one number (``exp_one`` ...) compute with 70 decimal digits: a true value that is no tie is never so near a tie that more
digits would matter.  Powers that are a tie, or a double, are computed as fractions.  Special values are those of C99, annex F.
"""

from __future__ import annotations

import math
from decimal import MAX_EMAX, MIN_EMIN, ROUND_HALF_UP, Context, Decimal
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

_PRECISE = Context(prec=70, Emin=MIN_EMIN, Emax=MAX_EMAX)
_LOSSLESS = Context(prec=1500, Emin=MIN_EMIN, Emax=MAX_EMAX)


def exp_one(x: float) -> float:
    if math.isnan(x):
        return math.nan
    if abs(x) > 800.0:
        return math.inf if x > 0.0 else 0.0
    return float(_PRECISE.exp(Decimal(x)))


def ln_one(x: float) -> float:
    return _log(x) if not 0.0 < x < math.inf else float(_PRECISE.ln(Decimal(x)))


def log10_one(x: float) -> float:
    return _log(x) if not 0.0 < x < math.inf else float(_PRECISE.log10(Decimal(x)))


def _log(x: float) -> float:
    return -math.inf if x == 0.0 else math.inf if x > 0.0 else math.nan


def power_one(x: float, y: float) -> float:
    if y == 0.0 or x == 1.0:
        return 1.0
    if math.isnan(x) or math.isnan(y):
        return math.nan
    whole = math.isinf(y) or y.is_integer()
    sign = math.copysign(1.0, x) if whole and not math.isinf(y) and int(y) % 2 else 1.0
    size = abs(x)
    if size == 1.0 and math.isinf(y):
        return 1.0
    if size in (0.0, math.inf) or math.isinf(y):
        return sign * (math.inf if (size > 1.0) == (y > 0.0) else 0.0)
    if x < 0.0 and not whole:
        return math.nan
    exact = _exact_power(Fraction(size), Fraction(y))
    if exact is not None:
        return sign * _nearest(exact)
    log = _PRECISE.multiply(_PRECISE.ln(Decimal(size)), Decimal(y))
    if abs(log) > 800:
        return sign * (math.inf if log > 0 else 0.0)
    return sign * float(_PRECISE.exp(log))


def _exact_power(x: Fraction, y: Fraction) -> Fraction | None:
    """x**y as a fraction where the result can be a double or a tie between two: a power of 2, or a root of few digits to a small
    power."""
    root = x
    for _ in range(y.denominator.bit_length() - 1):
        parts = math.isqrt(root.numerator), math.isqrt(root.denominator)
        if parts[0] ** 2 != root.numerator or parts[1] ** 2 != root.denominator:
            return None
        root = Fraction(*parts)
    power_of_two = root.numerator * root.denominator & root.numerator * root.denominator - 1 == 0
    return root**y.numerator if abs(y.numerator) <= (1100 if power_of_two else 40) else None


def _nearest(value: Fraction) -> float:
    try:
        return value.numerator / value.denominator
    except OverflowError:
        return math.inf


def round_one(x: float, digits: int) -> float:
    """x rounded to ``digits`` decimals, halves (of the value of x) away from zero; x where a double has no such decimals."""
    if x == 0.0 or not math.isfinite(x) or digits > 1100:
        return x
    if digits < -400:
        return math.copysign(0.0, x)
    result = float(Decimal(x).quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP, _LOSSLESS))
    return x if math.isinf(result) else math.copysign(result, x)


def exp(values: NDArray[np.float64], out: NDArray[np.float64]) -> None:
    """Fills ``out``, which is as long as ``values``; ``ln`` and ``log10`` do the same."""
    out[:] = [exp_one(x) for x in values.tolist()]


def ln(values: NDArray[np.float64], out: NDArray[np.float64]) -> None:
    out[:] = [ln_one(x) for x in values.tolist()]


def log10(values: NDArray[np.float64], out: NDArray[np.float64]) -> None:
    out[:] = [log10_one(x) for x in values.tolist()]


def power(bases: NDArray[np.float64], exponents: NDArray[np.float64], out: NDArray[np.float64]) -> None:
    """Fills ``out``; each argument has one value per row, or one value for all rows."""
    pairs = np.broadcast_arrays(bases, exponents)
    out[:] = [power_one(x, y) for x, y in zip(*(part.tolist() for part in pairs), strict=True)]


def round_to(values: NDArray[np.float64], digits: NDArray[np.int64], out: NDArray[np.float64]) -> None:
    """Fills ``out``; each argument has one value per row, or one value for all rows."""
    pairs = np.broadcast_arrays(values, digits)
    out[:] = [round_one(x, n) for x, n in zip(*(part.tolist() for part in pairs), strict=True)]
