"""The shortest text of a double, against Python's ``repr``: random bits and every place where printers go wrong."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from asyncflow._kernels.encode import compiled as encode


def assert_reprs(values: NDArray[np.float64]) -> None:
    values = values[np.isfinite(values)]
    written = bytes(encode.csv_rows(len(values), [("float64", values, None, None, None)], b",", b'"', b"", 0))
    assert written.decode().split("\n")[:-1] == [repr(value) for value in values.tolist()]


def bits(patterns: NDArray[np.uint64]) -> NDArray[np.float64]:
    return patterns.view(np.float64)


def around(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.concatenate([values, np.nextafter(values, 0), np.nextafter(values, np.inf), -values])


def test_random_bit_patterns() -> None:
    rng = np.random.default_rng(11)
    assert_reprs(bits(rng.integers(0, 2**64, 150_000, dtype=np.uint64)))


def test_subnormals() -> None:
    rng = np.random.default_rng(12)
    assert_reprs(bits(rng.integers(0, 2**52, 20_000, dtype=np.uint64)))
    assert_reprs(bits(np.arange(2_000, dtype=np.uint64)))


def test_powers_of_two_and_ten_and_their_neighbours() -> None:
    assert_reprs(around(np.array([2.0**power for power in range(-1074, 1024)])))
    assert_reprs(
        around(np.array([float(f"{digit}e{power}") for power in range(-323, 308) for digit in (1, 5, 9)]))
    )


def test_every_exponent_with_edge_mantissas() -> None:
    exponents = np.arange(2047, dtype=np.uint64) << np.uint64(52)
    for mantissa in (0, 1, 2, 3, 2**51 - 1, 2**51, 2**52 - 2, 2**52 - 1, 0x5555555555555):
        assert_reprs(bits(exponents | np.uint64(mantissa)))


def test_whole_numbers_and_short_decimals() -> None:
    rng = np.random.default_rng(13)
    assert_reprs(rng.integers(-(2**63), 2**63 - 1, 20_000).astype(np.float64))
    assert_reprs(rng.integers(-(2**54), 2**54, 20_000).astype(np.float64))
    for places in range(12):
        assert_reprs(rng.integers(-(10**9), 10**9, 5_000) / 10.0**places)


def test_borders_of_the_short_ways() -> None:
    near = np.arange(-300, 300, dtype=np.float64)
    for m in (0, 10**4, 10**8, 10**12, 10**15, 2**52):
        for power in (10**3, 10**4, 10**5):
            assert_reprs(around((m + near) / power))


def test_any_number_of_rows() -> None:
    values = np.random.default_rng(14).integers(-(10**7), 10**7, 300) / 10.0 ** np.arange(300)[::-1].clip(
        max=6
    )
    for count in (*range(140), 300):
        assert_reprs(values[:count])


def test_doubles_halfway_between_short_decimals() -> None:
    # Whole numbers past 2**53 are ties between decimals of one digit less; so are odd multiples of small powers of two.
    odd = np.arange(1, 4_000, 2, dtype=np.float64)
    for power in (*range(-60, -40), *range(12)):
        assert_reprs((2.0**53 + odd) * 2.0**power)
        assert_reprs(odd * 2.0**power)


def test_where_plain_spelling_ends() -> None:
    edges = np.array(
        [
            0.0,
            -0.0,
            1e16,
            9999999999999998.0,
            1e15,
            1e-4,
            9.999e-5,
            1e-5,
            123456789012345680.0,
            1e22,
            1e23,
            5e-324,
        ]
    )
    assert_reprs(around(edges))
    assert_reprs(np.array([1.7976931348623157e308, 2.2250738585072014e-308, 0.1, 0.3, 2 / 3, 20.0, 100.5]))


@pytest.mark.parametrize("decimals", range(8))
def test_numbers_of_few_decimals_and_their_neighbours(decimals: int) -> None:
    rng = np.random.default_rng(decimals)
    digits = np.concatenate([rng.integers(-(10**power), 10**power, 2000) for power in range(1, 18)])
    values = digits / 10.0**decimals
    assert_reprs(around(values))
