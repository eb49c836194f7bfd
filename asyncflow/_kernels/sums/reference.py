"""Exact sums, plain: integers in a unit of which every float64, and every product of two, is a whole number; results are rounded once.

The twin of ``sums``: the same sums, results and saved bytes.
"""

from __future__ import annotations

import math
import struct

from asyncflow._kernels.accumulators.saved import Blocks, Loading, View, Word, check, one_nan

POINT = 2176
"""Products are kept in units of 2^-POINT, sums too: 34 limbs of 64 bits below 1."""
SAVED_LIMBS = 68
LIMB = 64


def whole(value: float) -> int:
    """A finite value in units of 2^-POINT."""
    numerator, denominator = value.as_integer_ratio()
    return numerator << POINT - denominator.bit_length() + 1


def product(x: float, y: float) -> int:
    """The product of two finite values in units of 2^-POINT."""
    (a, b), (c, d) = x.as_integer_ratio(), y.as_integer_ratio()
    return a * c << POINT - (b * d).bit_length() + 1


def ratio(number: int, divisor: int) -> float:
    """``number / divisor`` rounded once; infinite beyond float64."""
    try:
        return number / divisor
    except OverflowError:
        return math.inf if number > 0 else -math.inf


def root(number: int, divisor: int) -> float:
    """The square root of ``number / divisor``, neither below 0, rounded once."""
    shift = max(0, 140 - number.bit_length() + divisor.bit_length()) // 2  # 70 bits of the root, and the rest
    quotient, rest = divmod(number << 2 * shift, divisor)
    integer = math.isqrt(quotient)
    more = rest > 0 or integer * integer != quotient
    return ratio(2 * integer + more, 2 << shift)


def block_of(number: int, kind: int) -> Blocks:
    """A number that is saved as a block: which limb its first one is, and its limbs; none of 0."""
    if not number:
        return []
    first = ((number & -number).bit_length() - 1) // LIMB
    number >>= LIMB * first
    size = (number if number >= 0 else ~number).bit_length() // LIMB + 1
    return [(kind, struct.pack("<q", first) + number.to_bytes(8 * size, "little", signed=True))]


def number_of(view: View | None) -> int:
    """A number of its block; ValueError for one that is not saved so."""
    if view is None:
        return 0
    first = view.word()
    limbs = view.bytes(view.left)
    check(first >= 0 and first + len(limbs) // 8 <= SAVED_LIMBS, "a sum beyond all sums")
    number = int.from_bytes(limbs, "little", signed=True) << LIMB * first
    check(
        block_of(number, 0) == [(0, struct.pack("<q", first) + limbs)], "a sum that is not as sums are saved"
    )
    return number


class Sum:
    """A sum of float64.  ``special``: what the values that are not finite come to, 0 where there are none."""

    def __init__(self) -> None:
        self.number = 0
        self.special = 0.0

    def add(self, value: float) -> None:
        if math.isfinite(value):
            self.number += whole(value)
        else:
            self.special += value

    def merge(self, other: Sum) -> None:
        self.number += other.number
        self.special += other.special

    @property
    def finite(self) -> bool:
        return not self.special

    def over(self, count: int) -> float:
        """The sum over a count, rounded once."""
        return ratio(self.number, count << POINT) if self.finite else self.special

    def save(self, kind: int) -> tuple[list[Word], Blocks]:
        if not self.finite:
            return [one_nan(self.special), 0.0], []
        high = ratio(self.number, 1 << POINT)
        if math.isfinite(high):
            low = ratio(self.number - whole(high), 1 << POINT)
            if whole(high) + whole(low) == self.number:
                return [high, low], []
        return [0.0, 0.0], block_of(self.number, kind)

    def load(self, saved: Loading, kind: int) -> None:
        words = [saved.word(), saved.word()]
        if not math.isfinite(words[0]):
            self.special = words[0]
        elif math.isfinite(words[1]):
            self.number = whole(words[0]) + whole(words[1])
        check(self._as_saved(kind) == (struct.pack("<2d", *words), []), "a sum that is not as sums are saved")
        view = saved.take(kind)
        if view is not None:
            check(words == [0.0, 0.0], "a sum that is saved twice")
            self.number = number_of(view)
            check(bool(self._as_saved(kind)[1]), "a sum that needs no block")

    def _as_saved(self, kind: int) -> tuple[bytes, Blocks]:
        words, blocks = self.save(kind)
        return struct.pack("<2d", *words), blocks


class Products:
    """A sum of products of float64, without those of values that are not finite."""

    def __init__(self) -> None:
        self.number = 0

    def add(self, x: float, y: float) -> None:
        if math.isfinite(x) and math.isfinite(y):
            self.number += product(x, y)

    def merge(self, other: Products) -> None:
        self.number += other.number

    def save(self, kind: int) -> Blocks:
        return block_of(self.number, kind)

    def load(self, saved: Loading, kind: int) -> None:
        self.number = number_of(saved.take(kind))


def spread(count: int, products: Products, x: Sum, y: Sum) -> tuple[int, int]:
    """``count`` times the sum of products without the product of the sums, and its unit: ``count`` squared times the covariance."""
    return (count * products.number << POINT) - x.number * y.number, 1 << 2 * POINT
