"""Float sums are exact and rounded once: the same bits whatever order rows come in, however parts are merged, and as fractions say."""

import itertools
import math
import random
import struct
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncflow._kernels.groups import reference as raw
from asyncflow._kernels.window import compiled
from asyncflow._kernels.window import reference as twin
from tests.kernels.test_window_saved import content, frozen, loaded

KERNELS = pytest.mark.parametrize("kernel", [compiled, twin], ids=["compiled", "twin"])
SUMS = [("sum", (0,), ("float64",), None), ("mean", (0,), ("float64",), None)]
EXTREME = [0.0, -0.0, 5e-324, 2.0**-1022, 1e308, 1.7976931348623157e308, 2.0**53, 1.0, 2.0**-53, 0.1]
finite = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([*EXTREME, *(-value for value in EXTREME)]),
    st.integers(-(2**60), 2**60).map(float),
    st.builds(math.ldexp, st.integers(-(2**53), 2**53), st.integers(-1074, 970)),
)
anything = st.one_of(finite, finite, finite, st.sampled_from([math.inf, -math.inf, math.nan]))


def packed(values):
    return ["nan" if math.isnan(value) else struct.pack("<d", value) for value in values]


def rounded(number: Fraction) -> float:
    try:
        return number.numerator / number.denominator
    except OverflowError:
        return math.inf if number > 0 else -math.inf


def expected(values):
    """Sum and mean by fractions; what is not finite as addition gives it."""
    special = sum(value for value in values if not math.isfinite(value))
    if special:
        return [special, special]
    total = sum(map(Fraction, values), Fraction())
    return [rounded(total), rounded(total / len(values))]


def slots(kernel, aggregates, *columns, groups=None, count=200):
    """A state of slots after rows of these groups (all one where there are none given)."""
    state = kernel.WindowState(None, 1, 0, aggregates)
    rows = len(columns[0])
    ids = np.zeros(rows, np.int32) if groups is None else np.array(groups, np.int32)
    inputs = [raw.column_of("float64", list(column)) for column in columns]
    state.add(ids, count, None, None, -(2**63), 0, inputs, [])
    return state


def results(state, slot=0):
    columns, _ = state.peek(np.array([slot], np.int32))
    return [raw.values_of("float64", column)[0] for column in columns]


@KERNELS
@given(st.lists(anything, min_size=1, max_size=200))
@settings(max_examples=200, deadline=None)
def test_sum_and_mean_are_the_fractions_rounded_once(kernel, values):
    assert packed(results(slots(kernel, SUMS, values))) == packed(expected(values))


@given(
    st.lists(st.one_of(st.floats(-100, 100), st.integers(-9, 9).map(float)), min_size=1, max_size=200),
    st.dictionaries(st.integers(0, 199), anything, max_size=3),
    st.integers(1, 200),
    st.booleans(),
    st.randoms(use_true_random=False),
)
@settings(max_examples=200, deadline=None)
def test_rows_of_many_cells_are_added_as_the_twin_adds_them(values, odd, cells, extremes, rng):
    """Usual values, in few or many cells, and some that no pair of float64 takes among them."""
    values = [odd.get(i, value) for i, value in enumerate(values)]
    groups = [rng.randrange(cells) for _ in values]
    between = [(name, (0,), ("float64",), None) for name in ("min", "max")] if extremes else []
    states = [slots(kernel, [*SUMS, *between], values, groups=groups) for kernel in (compiled, twin)]
    for cell in set(groups):
        first, second = (packed(results(state, cell)) for state in states)
        assert first == second


@given(st.lists(finite, min_size=1, max_size=50))
@settings(max_examples=200, deadline=None)
def test_sums_are_those_of_fsum(values):
    try:
        total = math.fsum(values)
    except OverflowError:  # on the way or at the end
        return
    assert results(slots(compiled, SUMS, values))[0] == total


@given(st.lists(anything, min_size=1, max_size=120), st.randoms(use_true_random=False))
@settings(max_examples=200, deadline=None)
def test_equal_sums_are_equal_bytes_in_any_order_and_tree(values, rng):
    """Rows shuffled into cells, the cells merged in any tree, saved and loaded on the way: one state, one result."""
    order, rank = np.arange(1, dtype=np.int32), np.arange(200, dtype=np.int32)
    whole = slots(compiled, SUMS, values)
    saved, result = content(frozen(whole, order)), packed(results(whole))
    shuffled = rng.sample(values, len(values))
    parts = rng.randint(1, 12)
    state = slots(compiled, SUMS, shuffled, groups=[rng.randrange(parts) for _ in shuffled])
    names = list(range(parts))
    rng.shuffle(names)
    while len(names) > 1:
        into, source = names.pop(), names.pop()
        state.merge(np.array([into], np.int32), np.array([source], np.int32))
        names.insert(rng.randrange(len(names) + 1), into)
        if rng.random() < 0.2:
            renamed = np.full(200, -1, np.int32)
            live = state.live_groups(200)
            renamed[live] = np.arange(len(live))
            state = loaded(rng.choice([compiled, twin]), (None, 1, 0), SUMS, frozen(state, renamed))
            names = [int(renamed[name]) for name in names if renamed[name] >= 0] or [0]
    assert packed(results(state, names[0])) == result
    (at,) = state.live_groups(200)
    rank[at] = 0
    assert content(frozen(state, rank[: at + 1])) == saved
    assert content(frozen(slots(twin, SUMS, shuffled), order)) == saved


@KERNELS
@pytest.mark.parametrize("values", list(itertools.permutations([1e308, 1e308, -1e308, 1.0])))
def test_what_overflows_on_the_way_does_not_overflow(kernel, values):
    assert results(slots(kernel, SUMS, values)) == [1e308, 2.5e307]


@KERNELS
def test_special_sums(kernel):
    def of(*values):
        return packed(results(slots(kernel, SUMS, values)))

    assert of(-0.0) == of(0.0, -0.0) == packed([0.0, 0.0])
    assert of(1e308, 1e308) == packed([math.inf, 1e308])
    assert of(5e-324, -5e-324) == packed([0.0, 0.0])
    assert of(5e-324, 0.0) == packed([5e-324, 0.0])
    assert of(-5e-324, 0.0) == packed([-5e-324, -0.0])
    assert of(1e300, math.inf, -1e-300) == packed([math.inf] * 2)
    assert of(math.inf, 1.0, -math.inf) == of(math.nan) == packed([math.nan] * 2)
    odd_nan = struct.unpack("<d", struct.pack("<Q", 0x7FFB5C0DE5C0DE5C))[0]
    assert of(odd_nan) == of(1e300, 1e-300, odd_nan) == packed([math.nan] * 2)


@KERNELS
@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=20))
@settings(max_examples=100, deadline=None)
def test_means_of_integers_are_rounded_once(kernel, values):
    state = kernel.WindowState(None, 1, 0, [("mean", (0,), ("int64",), None)])
    column = raw.column_of("int64", values)
    state.add(np.zeros(len(values), np.int32), 1, None, None, -(2**63), 0, [column], [])
    assert results(state) == [sum(values) / len(values)]


WIDE = [
    random.Random(4).choice([-1, 1]) * math.ldexp(random.Random(seed).random(), seed * 7 % 2000 - 1050)
    for seed in range(1500)
]


@pytest.mark.parametrize("cut", [1, 7, 63, 64, 65, 1000])
@pytest.mark.parametrize("groups", [1, 3])
def test_batches_and_blocks_do_not_show(cut, groups):
    """One cell (eight pairs at once) or several, whatever the batches; fixed-point numbers and pairs alike."""
    for scale in (0, 1):
        values = [value if scale else math.frexp(value)[0] for value in WIDE]
        ids = [row * 7 % groups for row in range(len(values))]
        state = compiled.WindowState(None, 1, 0, SUMS)
        for begin in range(0, len(values), cut):
            part = values[begin : begin + cut]
            some = np.array(ids[begin : begin + cut], np.int32)
            state.add(some, 3, None, None, -(2**63), 0, [(np.array(part), None)], [])
        for group in range(groups):
            own = [value for value, name in zip(values, ids, strict=True) if name == group]
            assert results(state, group) == expected(own)


def test_cells_give_their_memory_back():
    state = slots(compiled, SUMS, WIDE, groups=[row % 50 for row in range(len(WIDE))])
    held = state.nbytes
    everything = np.arange(50, dtype=np.int32)
    state.clear(everything)
    assert state.nbytes < held
    empty = slots(compiled, SUMS, [1.0] * 50, groups=range(50))
    empty.clear(everything)
    assert state.nbytes == empty.nbytes


def changed(saved, **words):
    fields, parts = saved
    cells = parts["cells"].copy()
    for name, value in words.items():
        cells[f"0_number_{name}"] = value
    return fields, {**parts, "cells": cells}


@KERNELS
def test_sums_that_are_not_saved_so_are_refused(kernel):
    rank = np.zeros(1, np.int32)
    paired = frozen(slots(compiled, SUMS, [1.0, 2.0**-80]), rank)
    wide = frozen(slots(compiled, SUMS, [1.0, 2.0**-80, 2.0**-300]), rank)
    for saved in (paired, wide):
        assert content(frozen(loaded(kernel, (None, 1, 0), SUMS, saved), rank)) == content(saved)
    odd_nan = struct.unpack("<d", struct.pack("<Q", 0x7FFB5C0DE5C0DE5C))[0]
    for high, rest in (
        (2.0**-80, 1.0), (-0.0, 0.0), (0.0, -0.0), (1.0, 1.0), (odd_nan, 0.0), (odd_nan, 1e-320), (math.inf, 1.0), (math.nan, math.inf),
        (1.0, math.inf), (1.0, math.nan), (0.0, odd_nan), (1.7976931348623157e308, 1e300),
    ):  # fmt: skip
        with pytest.raises(ValueError):
            loaded(kernel, (None, 1, 0), SUMS, changed(paired, sum=high, rest=rest))
        with pytest.raises(ValueError):
            loaded(kernel, (None, 1, 0), SUMS, changed(wide, sum=high, rest=rest))
    fields, parts = wide
    for first, *limbs in (
        (0, 1),
        (-1, 1),
        (68, 1),
        (67, 1, 0),
        (3,),
        (3, 0),
        (3, 0, 1),
        (3, 1, 0),
        (3, -1, -1),
        (2**62, 1),
        (40, 5),
    ):
        block = parts["blocks"].copy()
        block["bytes"] = 8 * (1 + len(limbs))
        data = np.frombuffer(struct.pack(f"<{1 + len(limbs)}q", first, *limbs), np.uint8)
        fits = first == 0 and limbs == [1]
        try:
            loaded(kernel, (None, 1, 0), SUMS, (fields, {**parts, "blocks": block, "block_bytes": data}))
        except ValueError:
            assert not fits
        else:
            assert fits
