"""The sketches of the window kernel: their bounds on seeded data, their twins on many values, what they hold, and that order does not
matter where it must not."""

from __future__ import annotations

import json
import math
import random

import numpy as np
import pytest

from asyncflow._kernels.accumulators.lists import json_lists
from asyncflow._kernels.encode import compiled as compiled_encode
from asyncflow._kernels.encode import reference as twin_encode
from asyncflow._kernels.groups import reference as raw
from asyncflow._kernels.sketches import reference as sketches
from asyncflow._kernels.window import compiled
from asyncflow._kernels.window import reference as twin

END = 2**63 - 1
DISTINCT = [("approx_count_distinct", (0,), ("int64",), None)]
WIDE = ("float64",)


def rows(state, values, groups=None, time=None, group_count=1):
    """Puts raw values (a column as the kernels take it) into a state."""
    count = len(values[-2])
    groups = np.zeros(count, np.int32) if groups is None else groups
    state.add(groups, group_count, time, None, -(2**63), 2**62, [values], [])


def results(state, group_count=1):
    """Every result row: its aggregates as Python values, lists as pairs."""
    found = []
    order = np.arange(group_count, dtype=np.int32)
    while (closed := state.close(END, order, 1000)) is not None:
        columns = [raw.values_of("string" if len(column) == 4 else "int64", column) for column in closed[3]]
        found += zip(closed[0].tolist(), closed[2].tolist(), *columns, strict=True)
    return found


def pairs(text):
    """The list that approx_top_k wrote."""
    return [(item["value"], item["count"]) for item in json.loads(text)]


def over_all(aggregates, values, kernel=compiled):
    state = kernel.WindowState(None, 1, 0, aggregates)
    rows(state, values)
    ((_, _, *found),) = results(state)
    return found


def quantiles(shares, kind="float64"):
    return [("approx_quantile", (0,), (kind,), None, q) for q in shares]


# -- bounds -------------------------------------------------------------------------------------------------------------


def test_different_values_are_within_the_bound() -> None:
    """1,000 seeded runs of 1,600 to 300,000 different values, each given once or twice."""
    errors = []
    for seed in range(1000):
        rng = np.random.default_rng(seed)
        count = int(np.exp(rng.uniform(np.log(1600), np.log(30_000 if seed % 20 else 300_000))))
        values = rng.integers(-(2**62), 2**62) + np.arange(count) * int(rng.integers(1, 1000))
        (found,) = over_all(DISTINCT, (np.concatenate([values, values[::3]]), None))
        errors.append(abs(found - count) / count)
    assert sum(error <= 0.016 for error in errors) >= 950
    assert max(errors) < 0.03
    assert np.sqrt(np.mean(np.square(errors))) < 0.008


@pytest.mark.parametrize("count", [0, 1, 12, 1535, 1536])
def test_few_different_values_are_counted_exactly(count: int) -> None:
    values = np.tile(np.arange(max(count, 1)), 3)
    valid = np.full(len(values), count > 0)
    assert over_all(DISTINCT, (values, valid)) == [count]


def drawn(rng, count):
    kind = rng.integers(0, 6)
    if kind == 0:
        return rng.lognormal(3, 2, count)
    if kind == 1:
        return rng.exponential(1e-3, count)
    if kind == 2:
        return -rng.pareto(1.0, count) - 1e-9
    if kind == 3:
        return rng.integers(1, 50, count).astype(float)
    if kind == 4:
        return np.exp(rng.uniform(-20, 20, count))
    return rng.uniform(1, 2, count) * 1e300


def test_quantiles_are_within_the_bound() -> None:
    """1,000 seeded runs: every quantile within 1 % of the value, numpy's, which is a point between true order statistics."""
    for seed in range(1000):
        rng = np.random.default_rng(seed)
        values = drawn(rng, int(rng.choice([129, 500, 3000, 20_000])))
        shares = [0.0, 1.0, 0.5, 0.999, *rng.uniform(0, 1, 3)]
        found = np.array(over_all(quantiles(shares), (values, None)))
        expected = np.quantile(values, shares)
        assert np.all(np.abs(found - expected) <= 0.01 * np.abs(expected)), (seed, shares)
        assert found[0] == values.min() and found[1] == values.max()


@pytest.mark.parametrize("count", [1, 2, 127, 128])
def test_quantiles_of_few_values_are_numpys(count: int) -> None:
    rng = np.random.default_rng(count)
    values, shares = rng.normal(0, 1e3, count), [0.0, 1.0, *rng.uniform(0, 1, 20)]
    assert over_all(quantiles(shares), (values, None)) == np.quantile(values, shares).tolist()
    whole = rng.integers(-1000, 1000, count)
    assert over_all(quantiles(shares, "int64"), (whole, None)) == np.quantile(whole, shares).tolist()


@pytest.mark.parametrize("times", [1, 100], ids=["values", "buckets"])
@pytest.mark.parametrize(
    ("values", "q", "expected"),
    [
        ([-math.inf, 5.0], 0.25, -math.inf),
        ([5.0, math.inf], 0.75, math.inf),
        ([math.inf, 5.0, -math.inf], 0.0, -math.inf),
        ([math.nan, math.inf, 5.0, -math.inf], 1.0, math.nan),
        ([math.nan, math.nan, 5.0], 0.9, math.nan),
        ([math.nan, 5.0, 5.0, 5.0], 0.5, 5.0),
        ([-0.0, 0.0], 0.5, 0.0),
        ([-1e308, 1e308, 0.0], 0.5, 0.0),
        ([1.7976931348623157e308, math.inf], 0.0, 1.7976931348623157e308),
        ([5e-324, 5e-324, 1.0], 0.0, 5e-324),
    ],
)
def test_infinities_nan_and_zeros_have_their_place(values, q, expected, times) -> None:
    (found,) = over_all(quantiles([q]), (np.array(values * times), None))
    assert found == pytest.approx(expected, rel=0.01, nan_ok=True)


def test_the_most_frequent_are_exact_while_there_are_counters() -> None:
    values = np.repeat(np.arange(100), np.arange(100))
    (found,) = over_all([("approx_top_k", (0,), ("int64",), None, 4)], (values, None))
    assert pairs(found) == [(99, 99), (98, 98), (97, 97), (96, 96)]
    (tied,) = over_all([("approx_top_k", (0,), ("int64",), None, 3)], (np.array([5, -7, 3, -7, 5]), None))
    assert pairs(tied) == [(-7, 2), (5, 2), (3, 1)]


def test_the_most_frequent_are_within_the_bound() -> None:
    for seed in range(50):
        rng = np.random.default_rng(seed)
        values = rng.zipf(1.2, 5000) % 4000
        (found,) = over_all([("approx_top_k", (0,), ("int64",), None, 10)], (values, None))
        found = pairs(found)
        known = dict(zip(*(part.tolist() for part in np.unique(values, return_counts=True)), strict=True))
        slack = len(values) / 100
        assert all(known[value] <= count <= known[value] + slack for value, count in found)
        assert {value for value, count in known.items() if count > slack + found[-1][1]} <= {
            v for v, _ in found
        }
        assert [count for _, count in found] == sorted((count for _, count in found), reverse=True)


LISTS = {
    "string": [[(b'say "hi"\n', 3), ("päron,]".encode(), 1)], None, [(b"", 7)]],
    "float64": [None, [(0.1, 9), (math.nan, 2), (-math.inf, 1)], [(1e300, 1)]],
    "int64": [[(-(2**63), 1)], [(5, 2**40)], None, None],
    "bool": [[(True, 2), (False, 1)]],
    "timestamp": [[(1_700_000_000_500_000_000, 1)], None],
    "none": [None, None],
}


@pytest.mark.parametrize("encode", [compiled_encode, twin_encode], ids=["compiled", "twin"])
@pytest.mark.parametrize("kind", LISTS)
def test_lists_are_json(kind: str, encode) -> None:
    lists = LISTS[kind]
    kind = "int64" if kind == "none" else kind
    items = [item for listed in lists for item in listed or ()]
    column = raw.column_of(kind, [value for value, _ in items])
    counts = np.array([count for _, count in items], np.int64)
    lengths = np.array([len(listed or ()) for listed in lists], np.int64)
    written = raw.values_of("string", json_lists(encode.json_rows, kind, column, counts, lengths))
    said = {
        math.inf: "Infinity",
        -math.inf: "-Infinity",
        1_700_000_000_500_000_000: "2023-11-14T22:13:20.500Z",
    }
    for text, listed in zip(written, lists, strict=True):
        assert (text is None) == (listed is None)
        if listed is not None:
            values = [
                v.decode() if isinstance(v, bytes) else "NaN" if v != v else said.get(v, v) for v, _ in listed
            ]
            assert b" " not in text.replace(b"say ", b"")
            assert json.loads(text) == [
                {"value": v, "count": n} for v, (_, n) in zip(values, listed, strict=True)
            ]


# -- order and merges ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", [compiled, twin], ids=["compiled", "twin"])
def test_neither_order_nor_merges_change_what_values_alone_decide(kernel) -> None:
    """Windows of one pane and of seven, rows in any order; enough buckets that some collapse."""
    rng = np.random.default_rng(3)
    count = 2200 if kernel is twin else 10_000
    values = np.exp(rng.uniform(-700, 700, count)) * rng.choice([-1, 1], count, p=[0.01, 0.99])
    aggregates = [("approx_count_distinct", (0,), WIDE, None), *quantiles([0.01, 0.3, 0.5, 0.77, 0.99])]
    seen = set()
    for _ in range(3):
        order = rng.permutation(len(values))
        for every in (70, 10):
            state = kernel.WindowState(70, every, 0, aggregates)
            rows(state, (values[order], None), time=rng.integers(0, 70, len(values)))
            seen |= {tuple(found) for start, _, *found in results(state) if start == 0}
    assert len(seen) == 1


@pytest.mark.parametrize("span", [1, 6])
@pytest.mark.parametrize("seed", range(2))
def test_twin_law_on_many_values(seed: int, span: int) -> None:
    """Past every threshold: registers, buckets that collapse, counters that are taken over; groups renamed in between."""
    rng = random.Random(seed)
    aggregates = [
        ("approx_count_distinct", (0,), WIDE, None),
        *quantiles([rng.random(), 0.5]),
        ("approx_top_k", (0,), WIDE, None, 3),
        ("approx_top_k", (0,), WIDE, None, 11),
    ]
    states = [kernel.WindowState(60, 60 // span, 0, aggregates) for kernel in (compiled, twin)]
    for _ in range(3):
        count = 1500
        values = np.array([draw(rng) for _ in range(count)])
        groups = np.array([rng.choice([0, 0, 0, 7]) for _ in range(count)], np.int32)
        time = np.array([rng.randrange(60) for _ in range(count)])
        for state in states:
            rows(state, (values, None), groups, time, 70)
            state.keep(np.arange(70, dtype=np.int32))
    got, expected = (results(state, 70) for state in states)
    assert len(got) == (2 * (2 * span - 1))
    assert repr(got) == repr(expected)


def draw(rng):
    kind = rng.random()
    if kind < 0.1:
        return float(rng.randrange(200))
    return (
        rng.choice([-1, 1]) * math.exp(rng.uniform(-700, 700))
        if kind < 0.98
        else rng.choice([math.nan, -math.inf, 0.0, -0.0])
    )


def near(rng):
    """Values of a few decades, from the middle outwards, in both directions."""
    return rng.choice([-1, 1]) * math.exp(rng.uniform(-1, 1) * rng.choice([1, 5, 12]))


@pytest.mark.parametrize(
    ("odd", "share"),
    [
        ([], 0.0),
        ([0.0, -0.0], 0.1),
        ([math.inf], 0.001),
        ([math.nan, -math.inf], 0.002),
        ([1e200, -1e-200], 0.002),
    ],
    ids=["near", "zeros", "infinities", "nan", "far"],
)
@pytest.mark.parametrize("span", [1, 4])
def test_twin_law_on_buckets_side_by_side_and_apart(odd: list[float], share: float, span: int) -> None:
    """Counts in windows that widen, that become arrays of buckets, and both merged with each other."""
    rng = random.Random(span)
    aggregates = quantiles([0.0, 0.03, 0.5, 0.9, 1.0])
    states = [kernel.WindowState(60, 60 // span, 0, aggregates) for kernel in (compiled, twin)]
    for _ in range(4):
        values = np.array([rng.choice(odd) if rng.random() < share else near(rng) for _ in range(1000)])
        groups = np.array([rng.choice([0, 0, 0, 7]) for _ in values], np.int32)
        time = np.array([rng.randrange(60) for _ in values])
        for state in states:
            rows(state, (values, None), groups, time, 8)
    got, expected = (results(state, 8) for state in states)
    assert len(got) == (2 * (2 * span - 1))
    assert repr(got) == repr(expected)


def test_twin_law_on_the_edges_of_buckets() -> None:
    """A value on the edge of two buckets, and those beside it: each group has one of them 130 times between 0 and infinity."""
    rng = random.Random(5)
    edges = []
    for _ in range(150):
        bound = sketches.bound_of(rng.randrange(sketches.OCTAVE) / sketches.OCTAVE)
        edges.append(math.ldexp(bound, rng.randrange(-1000, 1000)))
    edges += [2.2250738585072014e-308, 1e-310, 5e-324, 1.0, 2.0, 1.7976931348623157e308]
    values = []
    for edge in edges:
        values += [math.nextafter(edge, 0.0) or edge, edge, math.nextafter(edge, 1.7e308)]
    column = np.concatenate([[0.0, math.inf] + [value] * 130 for value in values])
    groups = np.repeat(np.arange(len(values), dtype=np.int32), 132)
    found = []
    for kernel in (compiled, twin):
        state = kernel.WindowState(None, 1, 0, quantiles([0.5]))
        rows(state, (column, None), groups, group_count=len(values))
        found.append(results(state, len(values)))
    assert len(found[0]) == len(values)
    assert repr(found[0]) == repr(found[1])


@pytest.mark.parametrize("span", [1, 5])
def test_twin_law_on_many_texts(span: int) -> None:
    rng = random.Random(span)
    aggregates = [
        ("approx_top_k", (0,), ("string",), None, 5),
        ("approx_count_distinct", (0,), ("string",), None),
    ]
    texts = [b"x" * rng.randrange(20) + b"%d" % int(rng.paretovariate(0.7)) for _ in range(4000)]
    time = np.array([rng.randrange(60) for _ in texts])
    found = []
    for kernel in (compiled, twin):
        state = kernel.WindowState(60, 60 // span, 0, aggregates)
        rows(state, raw.column_of("string", texts), time=time)
        found.append(results(state))
    assert found[0] == found[1]
    assert max(row[3] for row in found[0]) > 100


def test_the_hash_is_fixed() -> None:
    """A different hash would change results from one version to the next."""
    assert sketches.hash_of(1) == 0x910A2DEC89025CC1
    assert sketches.hash_of(-0.0) == sketches.hash_of(0.0) == sketches.hash_of(0)
    assert (
        len(
            {
                sketches.hash_of(value)
                for value in (1.0, -1.0, math.nan, b"", b"a", b"a\0", b"12345678", b"123456789")
            }
        )
        == 8
    )
    values = np.array([0.0, -0.0, math.nan, -math.nan, 1.0] * 5)
    assert over_all([("approx_count_distinct", (0,), WIDE, None)], (values, None)) == [3]


# -- memory -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("aggregate", "least", "most"),
    [
        (("approx_count_distinct", (0,), WIDE, None), 16_384, 16_384 + 64),
        (("approx_quantile", (0,), WIDE, None, 0.5), 16_384, 65_536 + 512),
        (("quantile", (0,), WIDE, None, 0.5), 32_768, 32_768 + 5 * 8_192 + 512),
        (("approx_top_k", (0,), WIDE, None, 10), 4_096, 16_384),
    ],
)
def test_a_group_holds_no_more_however_many_rows_come(aggregate, least: int, most: int) -> None:
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(8, dtype=np.int32), 4000)
    state = compiled.WindowState(10, 10, 0, [aggregate])
    empty = state.nbytes
    for number in range(12):
        values = np.exp(rng.uniform(-700, 700, len(groups))) * rng.choice([-1, 1], len(groups))
        rows(state, (values, None), groups, np.zeros(len(groups), np.int64), 8)
        if number == 0:
            assert state.nbytes - empty > 8 * least
    assert state.nbytes - empty < 8 * most + 70_000
    assert len(results(state, 8)) == 8
    assert state.nbytes - empty < 80_000


def test_a_group_of_few_values_holds_little() -> None:
    aggregates = [*DISTINCT, *quantiles([0.5], "int64"), ("approx_top_k", (0,), ("int64",), None, 10)]
    state = compiled.WindowState(10, 10, 0, aggregates)
    count = 10_000
    rows(state, (np.arange(count), None), np.arange(count, dtype=np.int32), np.zeros(count, np.int64), count)
    assert state.nbytes < 1000 * count
