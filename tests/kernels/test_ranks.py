"""Quantiles by rank: exact to 4,096 values, then within 1 % of rank for any values, order and tree of merges."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest

from asyncflow._kernels.window import compiled
from asyncflow._kernels.window import reference as twin

NO_TIME, END = -(2**63), 2**63 - 1
KERNELS = pytest.mark.parametrize("kernel", [compiled, twin], ids=["compiled", "twin"])
SHARES = [0.0, 0.01, 0.25, 0.5, 0.9, 0.99, 1.0]


def aggregates(shares, kind="float64", function="quantile"):
    return [(function, (0,), (kind,), None, share) for share in shares]


def put(state, values, slot=0, slots=1):
    state.add(np.full(len(values), slot, np.int32), slots, None, None, NO_TIME, 0, [(values, None)], [])


def read(state, slot=0):
    columns, _ = state.peek(np.array([slot], np.int32))
    return [values[0].item() for values, _ in columns]


def over_all(specs, values, kernel=compiled):
    state = kernel.WindowState(None, 1, 0, specs)
    put(state, values)
    return read(state)


def rank_error(values, found, share) -> float:
    """How far the ranks of the value are from those at the share, as a part of all; ``values`` in order."""
    place = share * (len(values) - 1)
    low, high = np.searchsorted(values, found, "left"), np.searchsorted(values, found, "right") - 1
    return max(low - place, place - high, 0) / len(values)


# -- exact --------------------------------------------------------------------------------------------------------------


@KERNELS
@pytest.mark.parametrize("count", [1, 2, 16, 17, 128, 129, 1000, 4096])
def test_up_to_4096_values_are_exact(kernel, count: int) -> None:
    rng = np.random.default_rng(count)
    for values in (
        rng.normal(0, 1e3, count),
        rng.integers(-50, 50, count),
        np.exp(rng.uniform(-700, 700, count)),
    ):
        kind = str(values.dtype)
        shares = [*SHARES, *rng.uniform(0, 1, 4)]
        assert over_all(aggregates(shares, kind), values, kernel) == np.quantile(values, shares).tolist()
        picked = over_all(aggregates(shares, kind, "quantile_disc"), values, kernel)
        assert picked == np.quantile(values, shares, method="inverted_cdf").tolist()
        assert all(type(value) is type(values[0].item()) for value in picked)


def test_every_number_of_values_is_put_in_order() -> None:
    """Few values are sorted at once, in ways that go by how many they are; more are spread first."""
    rng = np.random.default_rng(3)
    ends = np.array([-(2**63), -(2**63) + 1, -1, 0, 1, 2**63 - 1])
    for count in [*range(1, 140), 1000, 4095, 4096]:
        for values in (
            rng.integers(-(2**63), 2**63 - 1, count, endpoint=True),
            rng.integers(0, 3, count),
            rng.choice(ends, count),
            1 << rng.integers(0, 63, count),
            np.arange(count)[::-1].copy(),
        ):
            shares = ((np.arange(count) + 0.5) / count).tolist() if count < 140 else SHARES
            found = over_all(aggregates(shares, "int64", "quantile_disc"), values)
            if count < 140:
                assert found == sorted(values.tolist())
            else:
                assert found == np.quantile(values, shares, method="inverted_cdf").tolist()


def test_a_quantile_picked_of_int64_is_no_float() -> None:
    values = np.array([2**62 + 1, 2**62 + 3, -(2**63)])
    assert over_all(aggregates([0.0, 0.5, 1.0], "int64", "quantile_disc"), values) == [
        -(2**63),
        2**62 + 1,
        2**62 + 3,
    ]


@KERNELS
@pytest.mark.parametrize("times", [1, 1000], ids=["exact", "sketch"])
@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [
        ([-math.inf, 5.0], 0.25, -math.inf),
        ([5.0, math.inf], 0.75, math.inf),
        ([math.nan, math.inf, 5.0, -math.inf], 1.0, math.nan),
        ([math.nan, math.nan, 5.0], 0.9, math.nan),
        ([math.nan, 5.0, 5.0, 5.0], 0.5, 5.0),
        ([-0.0, 0.0], 0.5, 0.0),
        ([-1e308, 1e308, 0.0], 0.5, 0.0),
        ([5e-324, 5e-324, 1.0], 0.0, 5e-324),
    ],
)
def test_infinities_nan_and_zeros_have_their_place(kernel, values, share, expected, times) -> None:
    """NaN is the greatest, as in DuckDB."""
    (found,) = over_all(
        aggregates([share]), np.array(values * (times * 4 // len(values) + 1))[: len(values) * times], kernel
    )
    assert found == pytest.approx(expected, nan_ok=True)


# -- within 1 % of rank -------------------------------------------------------------------------------------------------


def zoomed(count):
    """Each value between those before it: the order in which halvings err most."""
    low, high, values = -(2**62), 2**62, []
    for number in range(count):
        middle = (low + high) // 2
        values.append(middle)
        low, high = (middle, high) if number % 2 else (low, middle)
        if high - low < 4:
            low, high = -(2**62) + number, 2**62 - number
    return np.array(values, np.int64)


def waves(count):
    """Falling runs as long as a level is wide."""
    return (np.arange(count) % 4096 * -1000 + np.arange(count) // 4096).astype(np.int64)


ORDERS = {
    "random": lambda rng, count: rng.permutation(count),
    "rising": lambda rng, count: np.arange(count),
    "falling": lambda rng, count: -np.arange(count),
    "equal": lambda rng, count: np.full(count, 7),
    "two": lambda rng, count: rng.integers(0, 2, count),
    "zoomed": lambda rng, count: zoomed(count),
    "waves": lambda rng, count: waves(count),
    "organ": lambda rng, count: np.abs(np.arange(count) - count // 2),
    "inwards": lambda rng, count: np.where(np.arange(count) % 2, 1, -1) * (count - np.arange(count)),
    "skewed": lambda rng, count: rng.zipf(1.3, count) % 10**6,
}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("count", [4097, 30_000, 1_000_000])
def test_ranks_are_within_one_percent_in_any_order(order: str, count: int) -> None:
    values = ORDERS[order](np.random.default_rng(count), count).astype(np.int64)
    shares = np.linspace(0, 1, 101).tolist()
    found = over_all(aggregates(shares, "int64", "quantile_disc"), values)
    known = np.sort(values)
    assert max(rank_error(known, value, share) for value, share in zip(found, shares, strict=True)) <= 0.0035
    assert (found[0], found[-1]) == (known[0], known[-1])
    assert found == sorted(found)


@pytest.mark.parametrize("tree", ["left", "right", "balanced", "random"])
@pytest.mark.parametrize("order", ["random", "rising", "waves", "zoomed"])
@pytest.mark.parametrize("parts", [7, 300])
def test_ranks_are_within_one_percent_for_any_tree_of_merges(tree: str, order: str, parts: int) -> None:
    rng = random.Random(parts)
    values = ORDERS[order](np.random.default_rng(parts), 600_000).astype(np.int64)
    shares = np.linspace(0, 1, 51).tolist()
    state = compiled.WindowState(None, 1, 0, aggregates(shares, "int64", "quantile_disc"))
    cuts = sorted(rng.sample(range(1, len(values)), parts - 1))
    for slot, part in enumerate(np.split(values, cuts)):
        put(state, part, slot, parts)
    left = list(range(parts))
    while len(left) > 1:
        at = {"left": 0, "right": len(left) - 2, "random": rng.randrange(len(left) - 1)}.get(tree)
        for i in [at] if at is not None else range(len(left) // 2):
            state.merge(np.array([left[i]], np.int32), np.array([left.pop(i + 1)], np.int32))
    found, known = read(state, left[0]), np.sort(values)
    assert max(rank_error(known, value, share) for value, share in zip(found, shares, strict=True)) <= 0.005
    assert (found[0], found[-1]) == (known[0], known[-1])


def test_close_values_are_told_apart() -> None:
    """Pressures and epoch times: all within a hundredth of each other's size."""
    rng = np.random.default_rng(3)
    for values in (rng.uniform(1010, 1016, 50_000), 1.7e9 + rng.uniform(0, 86_400, 50_000)):
        found, known = over_all(aggregates(SHARES), values), np.sort(values)
        assert (
            max(rank_error(known, value, share) for value, share in zip(found, SHARES, strict=True)) < 0.002
        )


# -- what decides -------------------------------------------------------------------------------------------------------


@KERNELS
def test_neither_batches_nor_reading_change_a_result(kernel) -> None:
    count = 30_000 if kernel is compiled else 9_000
    values = np.random.default_rng(1).normal(size=count)
    specs = aggregates([*SHARES, 0.123])
    whole, pieces = (kernel.WindowState(None, 1, 0, specs) for _ in range(2))
    put(whole, values)
    rng, begin = random.Random(2), 0
    while begin < count:
        step = rng.choice([1, 7, 500, 3000])
        put(pieces, values[begin : begin + step])
        begin += step
        read(pieces)
    assert read(whole) == read(pieces)


@KERNELS
def test_left_and_right_of_a_merge_change_places(kernel) -> None:
    rng = np.random.default_rng(4)
    parts = [
        rng.normal(size=count)
        for count in ((9_000, 3_500, 4_096, 1) if kernel is compiled else (4_500, 1_000))
    ]
    for left in parts:
        for right in parts[:2]:
            found = []
            for into, source in ((0, 1), (1, 0)):
                state = kernel.WindowState(None, 1, 0, aggregates(SHARES))
                put(state, left, 0, 2)
                put(state, right, 1, 2)
                state.merge(np.array([into], np.int32), np.array([source], np.int32))
                put(state, np.arange(3000.0), into, 2)
                found.append(read(state, into))
            assert found[0] == found[1]


@pytest.mark.parametrize("span", [1, 6])
@pytest.mark.parametrize("kind", ["float64", "int64"])
def test_twin_law_past_what_is_exact(kind: str, span: int) -> None:
    """Panes that are exact and panes that are not, merged; NaN and infinities among the values."""
    rng = np.random.default_rng(span)
    specs = [*aggregates([0.3, 0.5, 0.999, 1.0], kind), *aggregates([0.0, 0.77], kind, "quantile_disc")]
    states = [kernel.WindowState(60, 60 // span, 0, specs) for kernel in (compiled, twin)]
    for _ in range(3):
        count = 6000
        values = rng.normal(0, 1e6, count).astype(kind)
        if kind == "float64":
            values[rng.random(count) < 0.02] = rng.choice([math.nan, math.inf, -0.0, 0.0])
        groups = np.where(rng.random(count) < 0.9, 0, 7).astype(np.int32)
        time = np.minimum(rng.integers(0, 60, count), rng.integers(0, 60, count))
        for state in states:
            state.add(groups, 8, time, None, NO_TIME, 2**62, [(values, None)], [])
    order = np.arange(8, dtype=np.int32)
    got, expected = (repr([state.close(END, order, 1000) for _ in range(2)]) for state in states)
    assert got == expected


@pytest.mark.parametrize("count", [10, 10_000, 300_000])
def test_what_a_group_holds_is_known(count: int) -> None:
    """8 bytes a value with room for twice as many, then 32 KiB and at most 8 KiB for each doubling."""
    state = compiled.WindowState(None, 1, 0, aggregates([0.5]))
    put(state, np.arange(1.0))
    empty = state.nbytes
    put(state, np.random.default_rng(0).normal(size=count))
    levels = max(0, math.ceil(math.log2(count / 1024)))
    assert state.nbytes - empty <= (1024 if count < 64 else 32_768 + levels * 8_192 + 1024)
    state.clear(np.zeros(1, np.int32))
    assert state.nbytes <= empty


def test_windows_one_after_another_hold_no_more_than_two() -> None:
    """What a closed window held is kept for the next one, within bounds, and given back with the last."""
    rng = np.random.default_rng(1)
    keys, count = 5_000, 30
    groups = np.tile(np.arange(keys, dtype=np.int32), count)
    state = compiled.WindowState(
        10, 10, 0, [*aggregates([0.5]), ("approx_quantile", (0,), ("float64",), None, 0.5)]
    )
    most, empty = [], state.nbytes
    for window in range(6):
        values = rng.normal(size=len(groups))
        state.add(groups, keys, np.full(len(groups), 10 * window), None, NO_TIME, 0, [(values, None)], [])
        most.append(state.nbytes - empty)
        taken = 0
        while (rows := state.close(10 * window + 10, np.arange(keys, dtype=np.int32), 1000)) is not None:
            taken += len(rows[0])
        assert taken == keys
    assert max(most) < 1.5 * most[0] + (4 << 20)
    assert state.nbytes - empty < most[0] / 4
