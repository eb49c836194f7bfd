"""Variances, covariances and correlations are rounded once, as fractions say, and the same bits in any order and for any tree of merges."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncflow._kernels.window import compiled
from asyncflow._kernels.window import reference as twin
from tests.kernels.test_exact_sums import KERNELS, anything, finite, packed, results, rounded, slots
from tests.kernels.test_window_saved import content, frozen, loaded

VARIANCES = [(name, (0,), ("float64",), None) for name in ("var", "stddev", "var_pop", "stddev_pop")]
PAIRED = [(name, (0, 1), ("float64", "float64"), None) for name in ("covar", "corr")]
ALL = [*VARIANCES, *PAIRED, ("sum", (1,), ("float64",), None)]
near = st.builds(lambda base, part: base + part, st.sampled_from([0.0, 1e9, -1e15, 1.0]), st.floats(-1, 1))
values = st.one_of(st.lists(finite, min_size=1, max_size=30), st.lists(near, min_size=1, max_size=30))


def moment(xs, ys):
    """The sum of the products of the distances from the means."""
    x, y = [Fraction(v) for v in xs], [Fraction(v) for v in ys]
    return sum((a * b for a, b in zip(x, y, strict=True)), Fraction()) - sum(x) * sum(y) / len(x)


def is_root(found: float, square: Fraction) -> bool:
    """Whether no float64 is nearer to the root of a square."""
    if square == 0:
        return found == 0.0
    if found == math.inf:
        return square >= (Fraction(2) ** 1024 - Fraction(2) ** 970) ** 2
    below, above = Fraction(math.nextafter(found, 0.0)), Fraction(math.nextafter(found, math.inf))
    return ((below + Fraction(found)) / 2) ** 2 <= square <= ((Fraction(found) + above) / 2) ** 2


@KERNELS
@given(values)
@settings(max_examples=200, deadline=None)
def test_variances_are_the_fractions_rounded_once(kernel, xs):
    sample, deviation, population, its_root = results(slots(kernel, VARIANCES, xs))
    spread = moment(xs, xs)
    assert population == rounded(spread / len(xs))
    assert is_root(its_root, spread / len(xs))
    if len(xs) < 2:
        assert sample is None and deviation is None
    else:
        assert sample == rounded(spread / (len(xs) - 1))
        assert is_root(deviation, spread / (len(xs) - 1))


@KERNELS
@given(values, st.data())
@settings(max_examples=200, deadline=None)
def test_covariances_and_correlations_are_the_fractions_rounded_once(kernel, xs, data):
    ys = data.draw(st.lists(st.one_of(finite, near), min_size=len(xs), max_size=len(xs)))
    covariance, correlation = results(slots(kernel, PAIRED, xs, ys))
    product, both = moment(xs, ys), moment(xs, xs) * moment(ys, ys)
    assert covariance == (rounded(product / (len(xs) - 1)) if len(xs) > 1 else None)
    if both == 0:
        assert math.isnan(correlation)
    else:
        assert is_root(abs(correlation), product**2 / both)
        assert (correlation < 0) == (product < 0) or correlation == 0.0


@given(st.lists(st.tuples(anything, anything), min_size=1, max_size=60), st.randoms(use_true_random=False))
@settings(max_examples=200, deadline=None)
def test_equal_rows_are_equal_bytes_in_any_order_and_tree(rows, rng):
    rank = np.zeros(1, np.int32)
    whole = slots(compiled, ALL, *zip(*rows, strict=True))
    saved, result = content(frozen(whole, rank)), results(whole)
    rows = rng.sample(rows, len(rows))
    parts = rng.randint(1, 8)
    columns = list(zip(*rows, strict=True))
    state = slots(compiled, ALL, *columns, groups=[rng.randrange(parts) for _ in rows])
    plain = slots(twin, ALL, *columns)
    names = rng.sample(range(parts), parts)
    while len(names) > 1:
        into, source = names.pop(), names.pop()
        state.merge(np.array([into], np.int32), np.array([source], np.int32))
        names.insert(rng.randrange(len(names) + 1), into)
    ranks = np.full(200, -1, np.int32)
    ranks[names[0]] = 0
    for other in (state, loaded(compiled, (None, 1, 0), ALL, frozen(plain, rank))):
        slot = names[0] if other is state else 0
        assert _bits(results(other, slot)) == _bits(result)
        assert content(frozen(other, ranks if other is state else rank)) == saved
    assert content(frozen(plain, rank)) == saved
    assert content(frozen(loaded(twin, (None, 1, 0), ALL, frozen(whole, rank)), rank)) == saved


@pytest.mark.parametrize("unusual", [False, True])
@pytest.mark.parametrize("keys", [2, 3, 40, 199])
def test_blocks_of_several_cells_add_up_as_the_twin_says(keys: int, unusual: bool) -> None:
    """Rows two by two in different cells or in one, with and without sums that no pair holds."""
    rng = np.random.default_rng(keys)
    count = 3 * 64 + 41
    groups = rng.integers(0, keys, count)
    values = np.where(
        rng.random(count) < 0.9, rng.normal(50, 10, count), rng.choice([1e150, 1e-140, -0.0, 0.0, 3.0], count)
    )
    if unusual:
        values[::50] = np.resize([1e300, math.inf, 5e-324, math.nan], len(values[::50]))
    ranks = np.where(np.isin(np.arange(200), groups), 0, -1).astype(np.int32)
    first, second = (slots(kernel, VARIANCES, values, groups=groups) for kernel in (compiled, twin))
    for group in np.unique(groups):
        assert _bits(results(first, int(group))) == _bits(results(second, int(group)))
    ranks[ranks >= 0] = np.arange((ranks >= 0).sum())
    assert content(frozen(first, ranks)) == content(frozen(second, ranks))


def _bits(row):
    return [value if value is None else packed([value])[0] for value in row]


@KERNELS
@pytest.mark.parametrize("shift", [0.0, 1e9, 1e15, -1e9])
def test_a_large_mean_costs_no_digit(kernel, shift):
    xs = [shift + part for part in (4.0, 7.0, 13.0, 16.0)]
    assert results(slots(kernel, VARIANCES, xs)) == [30.0, math.sqrt(30.0), 22.5, math.sqrt(22.5)]


@KERNELS
def test_squares_beyond_float64_do_not_show(kernel):
    for scale in (1e200, 1e-200, 1e160, 2.0**-480, 2.0**500, 5e-324):
        xs, ys = [1 * scale, 2 * scale, 4 * scale], [3.0, 1.0, 2.0]
        _, deviation, _, _ = results(slots(kernel, VARIANCES, xs))
        assert is_root(deviation, moment(xs, xs) / 2)
        assert results(slots(kernel, PAIRED, xs, ys))[0] == rounded(moment(xs, ys) / 2)
        assert results(slots(kernel, PAIRED, xs, xs))[1] == 1.0
        assert results(slots(kernel, PAIRED, xs, [-x for x in xs]))[1] == -1.0
    assert results(slots(kernel, VARIANCES, [1e308, 1e308, 1e308])) == [0.0] * 4
    assert results(slots(kernel, VARIANCES, [1e200, -1e200]))[0] == math.inf


@KERNELS
def test_what_is_not_finite_makes_a_variance_nan(kernel):
    for odd in (math.inf, -math.inf, math.nan):
        for xs in itertools.permutations([1.0, odd, 3.0]):
            assert all(map(math.isnan, results(slots(kernel, VARIANCES, xs))))
            assert all(map(math.isnan, results(slots(kernel, PAIRED, xs, [1.0, 2.0, 4.0]))))
            assert all(map(math.isnan, results(slots(kernel, PAIRED, [1.0, 2.0, 4.0], xs))))


@KERNELS
def test_ties_are_rounded_to_even(kernel):
    """Variances in the middle of two float64, and roots and correlations that are float64: only whole numbers decide."""
    for odd in (2**53 + 1, 2**53 + 3, 2**53 + 5, 2**54 - 1):
        root = math.isqrt(2 * odd)
        parts = [float(root)]  # whose squares come to two times `odd`
        rest = 2 * odd - root**2
        while rest:
            parts.append(float(math.isqrt(rest)))
            rest -= math.isqrt(rest) ** 2
        xs = [*parts, *(-part for part in parts)]
        xs += [0.0] * (2 ** (len(xs) - 1).bit_length() - len(xs))
        exact = Fraction(4 * odd, len(xs))
        assert exact == moment(xs, xs) / len(xs)
        assert results(slots(kernel, VARIANCES, xs))[2] == rounded(exact) != exact
    assert results(slots(kernel, VARIANCES, [3.0, -3.0]))[2:] == [9.0, 3.0]
    assert results(slots(kernel, PAIRED, [1.0, 2.0, 3.0, 4.0], [2.0, 1.0, 4.0, 3.0])) == [1.0, 0.6]


@KERNELS
def test_moments_that_are_not_saved_so_are_refused(kernel):
    rank = np.zeros(1, np.int32)
    fields, parts = frozen(slots(compiled, VARIANCES, [1.0, 2.0, 4.0]), rank)
    for count in (-1, 4):
        cells = parts["cells"].copy()
        cells["0_moments_count"] = count
        with pytest.raises(ValueError):
            loaded(kernel, (None, 1, 0), VARIANCES, (fields, {**parts, "cells": cells}))
    blocks = parts["blocks"].copy()
    blocks["kind"] = 1  # that of the sum, which needs none
    with pytest.raises(ValueError):
        loaded(kernel, (None, 1, 0), VARIANCES, (fields, {**parts, "blocks": blocks}))
    fewer = {**parts, "blocks": parts["blocks"][:0], "block_bytes": parts["block_bytes"][:0]}
    tampered = loaded(kernel, (None, 1, 0), VARIANCES, (fields, fewer))
    assert all(map(math.isnan, results(tampered)))  # squares of a sum below those of the mean
