"""The elementary functions give the nearest double, whatever the processor: the compiled ones agree with their twin to the bit."""

from __future__ import annotations

import math
import random
import struct
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import asyncflow._kernels as kernels
from asyncflow._kernels.elementary import compiled as elementary
from asyncflow._kernels.elementary import reference as twin
from asyncflow._kernels.elementary import tables

INF, NAN = math.inf, math.nan
EDGES = [0.0, -0.0, 1.0, -1.0, 2.0, -2.0, 0.5, 3.0, -3.0, 10.0, 1e22, 1e-5, INF, -INF, NAN, 5e-324, -5e-324, 2.2250738585072014e-308,
         1.7976931348623157e308, 2.0**53, 2.0**53 + 2, -(2.0**53) - 2, 709.782712893384, 709.7827128933841, -745.1332191019411,
         -745.1332191019412, -708.5, 1 + 2**-52, 1 - 2**-53, 1 + 2**-20, 1 - 2**-30, 0.75, 1.5, 255 / 256, 257 / 256, math.e]  # fmt: skip
ANY = st.one_of(
    st.sampled_from(EDGES),
    st.floats(),
    st.floats(-750, 720),
    st.floats(-4, 4),
    st.floats(-1, 1).map(lambda x: 1 + x * 2**-20),
    st.integers(-1000, 100_000).map(float),
    st.integers(-(10**7), 10**7).map(lambda n: n / 1000),
)
EXPONENTS = st.one_of(
    ANY, st.sampled_from([2.0, 3.0, 0.5, 1.5, -1.0, -2.0, 1 / 3, 1.7, 0.25, 10.0, 7.0, 2.5])
)


def bits(values: Any) -> list[str]:
    return ["nan" if math.isnan(x) else x.hex() for x in np.asarray(values, np.float64).tolist()]


def applied(function: Callable[..., None], *arguments: Any, rows: int | None = None) -> list[str]:
    out = np.empty(len(arguments[0]) if rows is None else rows)
    function(*arguments, out)
    return bits(out)


def floats(values: list[float]) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.array(values, np.float64)


@settings(max_examples=300, deadline=None)
@given(st.lists(ANY, min_size=1, max_size=20))
def test_functions_of_one_number_agree_with_their_twin(values: list[float]) -> None:
    for name in ("exp", "ln", "log10"):
        assert applied(getattr(elementary, name), floats(values)) == applied(
            getattr(twin, name), floats(values)
        ), name


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(ANY, EXPONENTS), min_size=1, max_size=20))
def test_powers_agree_with_their_twin(pairs: list[tuple[float, float]]) -> None:
    x, y = floats([a for a, _ in pairs]), floats([b for _, b in pairs])
    assert applied(elementary.power, x, y) == applied(twin.power, x, y)
    assert applied(elementary.power, x, y[:1]) == applied(twin.power, x, y[:1])
    assert applied(elementary.power, x[:1], y, rows=len(y)) == applied(twin.power, x[:1], y, rows=len(y))


def test_every_exponent_and_the_neighbourhood_of_one() -> None:
    rng = random.Random(5)
    values = [math.ldexp(1 + rng.random(), e) for e in range(-1074, 1024, 3)]
    values += [1 + sign * 2.0**-k * (1 + rng.random()) for k in range(2, 53) for sign in (1, -1)]
    values += [place / 256 for place in range(192, 385)]
    for name in ("ln", "log10"):
        assert applied(getattr(elementary, name), floats(values)) == applied(
            getattr(twin, name), floats(values)
        )
    arguments = [rng.uniform(-745.2, 709.9) for _ in range(500)] + [
        sign * 2.0**-k for k in range(60) for sign in (1, -1)
    ]
    assert applied(elementary.exp, floats(arguments)) == applied(twin.exp, floats(arguments))


@pytest.mark.parametrize("module", [elementary, twin])
def test_powers_that_are_exact_or_ties(module: Any) -> None:
    """Whole powers of whole numbers, also where the result is half-way between two doubles, and of squares to half powers."""
    cases: list[tuple[float, float, Fraction]] = []
    for n in [2, 3, 4, 5, 7, 10, 34]:
        top = int(2 ** (54 / n))
        cases += [
            (float(base), float(n), Fraction(base) ** n) for base in {3, 10, top, top - 1, top | 1, top // 2}
        ]
    cases += [(float(s * s), 1.5, Fraction(s) ** 3) for s in (3, 2**17 + 1, 2**17 + 3, 2**18 - 1)]
    cases += [(float(s * s), 2.5, Fraction(s) ** 5) for s in (3, 2**10 + 1, 1777, 1779)]
    cases += [(2.0, float(n), Fraction(2) ** n) for n in (1023, -1022, -1074, -1075, -1076, 31, -3)]
    cases += [(10.0, float(n), Fraction(10) ** n) for n in range(-30, 31)]
    x, y = floats([a for a, _, _ in cases]), floats([b for _, b, _ in cases])
    assert applied(module.power, x, y) == bits([c.numerator / c.denominator for _, _, c in cases])


@pytest.mark.parametrize("module", [elementary, twin])
def test_special_powers_are_those_of_c(module: Any) -> None:
    special = [
        0.0,
        -0.0,
        1.0,
        -1.0,
        2.0,
        -2.0,
        0.5,
        -0.5,
        3.0,
        -3.0,
        INF,
        -INF,
        NAN,
        2.0**53,
        2.0**54,
        -8.0,
        1 / 3,
    ]
    for x in special:
        for y in special:
            try:
                expected = math.pow(x, y)
            except OverflowError:
                expected = -INF if x < 0 and y % 2 == 1 else INF
            except ValueError:  # a pole, or no number
                expected = NAN if x != 0 else math.copysign(INF, x) if abs(y) % 2 == 1 else INF
            assert applied(module.power, floats([x]), floats([y])) == bits([expected]), (x, y)


@pytest.mark.parametrize("module", [elementary, twin])
def test_special_values_of_logarithms_and_exp(module: Any) -> None:
    assert applied(module.ln, floats([0.0, -0.0, -1.0, INF, -INF, NAN, 1.0])) == bits(
        [-INF, -INF, NAN, INF, NAN, NAN, 0.0]
    )
    assert applied(module.log10, floats([10.0**n for n in range(23)])) == bits([float(n) for n in range(23)])
    assert applied(module.exp, floats([INF, -INF, NAN, 0.0, -0.0, 1000.0, -1000.0])) == bits(
        [INF, 0.0, NAN, 1.0, 1.0, INF, 0.0]
    )


# -- round to decimals -----------------------------------------------------------------------------------------------

DECIMALS = st.one_of(
    ANY,
    st.integers(-(10**9), 10**9).map(lambda n: n / 1000),
    st.tuples(st.integers(-(10**6), 10**6), st.integers(0, 12)).map(lambda p: (p[0] + 0.5) / 10 ** p[1]),
    st.tuples(st.integers(-(10**5), 10**5), st.integers(0, 12)).map(lambda p: (p[0] + 0.5) / 2 ** p[1]),
)


@settings(max_examples=400, deadline=None)
@given(st.lists(DECIMALS, min_size=1, max_size=20), st.integers(-30, 40) | st.integers(-400, 400))
def test_rounding_agrees_with_its_twin(values: list[float], digits: int) -> None:
    x, n = floats(values), np.array([digits], np.int64)
    assert applied(elementary.round_to, x, n) == applied(twin.round_to, x, n)
    assert (
        applied(elementary.round_to, x[:1], np.full(3, digits), rows=3)
        == applied(elementary.round_to, x[:1], n) * 3
    )


@settings(max_examples=200, deadline=None)
@given(DECIMALS, st.integers(-20, 20))
def test_rounding_is_by_the_value(value: float, digits: int) -> None:
    if not math.isfinite(value):
        return
    places = Decimal(10) ** digits
    exact = float(Decimal(int((Fraction(abs(value)) * Fraction(places) * 2 + 1) // 2)).scaleb(-digits))
    (found,) = applied(elementary.round_to, floats([value]), np.array([digits]))
    assert found == bits([math.copysign(exact, value)])[0]


@pytest.mark.parametrize("module", [elementary, twin])
def test_rounding_of_well_known_values(module: Any) -> None:
    cases = [(0.045, 2, 0.04), (2.675, 2, 2.67), (3859.895, 2, 3859.89), (0.125, 2, 0.13), (-0.125, 2, -0.13), (1.005, 2, 1.0),
             (2.5, 0, 3.0), (-2.5, 0, -3.0), (0.49999999999999994, 0, 0.0),
             (4503599627370497.5, 0, 4503599627370498.0), (1.15, 1, 1.1), (-0.3, 0, -0.0),
             (123456.789, -2, 123500.0), (150.0, -2, 200.0), (149.99999999999997, -2, 100.0), (-5.0, -1, -10.0), (4.9, -1, 0.0),
             (1e22, -22, 1e22), (5e22, -23, 0.0), (6e22, -23, 1e23), (1e308, -309, 0.0), (1.5e-30, 30, 1e-30), (1.6e-30, 30, 2e-30),
             (5e-324, 323, 0.0), (5e-324, 324, 5e-324), (0.1, 400, 0.1), (1e300, 5, 1e300),
             (1.7976931348623157e308, -308, 1.7976931348623157e308),
             (INF, -2, INF), (NAN, 2, NAN), (-0.0, 3, -0.0)]  # fmt: skip
    for value, digits, expected in cases:
        assert applied(module.round_to, floats([value]), np.array([digits])) == bits([expected]), (
            value,
            digits,
        )


# -- the table, and misuse -------------------------------------------------------------------------------------------


def test_the_header_is_what_its_module_prints() -> None:
    path = Path(kernels.__file__).with_name("elementary") / "tables.h"
    assert path.read_text() == tables.header()


def test_arrays_of_different_lengths_are_refused() -> None:
    out = np.empty(3)
    for call in (lambda: elementary.exp(np.ones(2), out), lambda: elementary.power(np.ones(2), np.ones(3), out),
                 lambda: elementary.round_to(np.ones(3), np.ones(2, np.int64), out)):  # fmt: skip
        with pytest.raises(ValueError, match="length"):
            call()


def test_no_bits_hang_on_the_arguments_sign_or_order() -> None:
    values = struct.unpack("<64d", bytes(random.Random(1).randbytes(512)))
    x = floats([abs(v) for v in values if math.isfinite(v)])
    assert applied(elementary.ln, x[::-1].copy()) == applied(elementary.ln, x)[::-1]
