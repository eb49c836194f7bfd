"""The window kernel against its twin, bit by bit, on whatever hypothesis can think of."""

import math
import random
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncflow._kernels.groups import reference as raw
from asyncflow._kernels.window import compiled
from asyncflow._kernels.window import reference as twin

ODD_FLOATS = [0.0, -0.0, 1.0, 0.1, 1e16, -1e16, 1e308, math.inf, -math.inf, math.nan, 5e-324]
VALUES = {
    "int64": lambda rng: rng.choice([rng.randint(-5, 5), rng.randint(-(2**63), 2**63 - 1), 2**63 - 1]),
    "timestamp": lambda rng: rng.choice([rng.randint(0, 3), rng.randint(-(2**63), 2**63 - 1)]),
    "float64": lambda rng: rng.choice([rng.choice(ODD_FLOATS), rng.uniform(-9, 9), rng.gauss(0, 1e10)]),
    "bool": lambda rng: rng.random() < 0.5,
    "string": lambda rng: rng.choice([b"", b"a\0", b"x" * 40, b"x" * 41, b"%d" % rng.randint(0, 30)]),
}
KINDS = ["int64", "float64", "float64", "string", "bool", "timestamp"]  # of the inputs by position
TAKES = {
    "count": KINDS, "count_distinct": KINDS, "min": KINDS, "max": KINDS, "first": KINDS, "last": KINDS,
    "any_value": KINDS, "sum": ["int64", "float64"], "mean": ["int64", "float64"], "var": ["int64", "float64"],
    "stddev": ["int64", "float64"], "var_pop": ["int64", "float64"], "stddev_pop": ["int64", "float64"],
    "bool_and": ["bool"], "bool_or": ["bool"], "approx_count_distinct": KINDS, "quantile": ["int64", "float64"], "approx_top_k": KINDS,
    "quantile_disc": ["int64", "float64", "timestamp"], "approx_quantile": ["int64", "float64"],
}  # fmt: skip
SHARES = st.one_of(st.sampled_from([0.0, 0.5, 1.0]), st.floats(0.0, 1.0))
CONSTANTS = {
    **dict.fromkeys(("quantile", "quantile_disc", "approx_quantile"), SHARES),
    "approx_top_k": st.integers(1, 12),
}


@st.composite
def aggregate(draw):
    function = draw(st.sampled_from([*TAKES, "count(*)", "covar", "corr", "arg_min", "arg_max"]))
    mask = draw(st.sampled_from([None, None, 0, 1]))
    if function == "count(*)":
        return "count", (), (), mask
    if function in ("covar", "corr"):
        inputs = tuple(draw(st.sampled_from([0, 1, 2])) for _ in range(2))
    elif function in ("arg_min", "arg_max"):
        inputs = tuple(draw(st.integers(0, len(KINDS) - 1)) for _ in range(2))
    else:
        inputs = (draw(st.sampled_from([i for i, kind in enumerate(KINDS) if kind in TAKES[function]])),)
    constants = (draw(CONSTANTS[function]),) if function in CONSTANTS else ()
    return function, inputs, tuple(KINDS[i] for i in inputs), mask, *constants


@st.composite
def shapes(draw):
    if draw(st.integers(0, 5)) == 0:
        return None, 1, 0
    size = draw(st.one_of(st.integers(1, 30), st.sampled_from([10**9, 2**62, 2**63 - 1])))
    every = draw(st.one_of(st.just(size), st.integers(max(1, size // 7), size)))
    return size, every, draw(st.integers(-50, 50))


def batch_of(rng, sized):
    """Some rows: mostly near each other in time, some anywhere."""
    rows = rng.choice([0, 1, 5, 64, 65, 150])
    base, spread = rng.randint(-100, 100), rng.choice([1, 30, 200])

    def moment():
        near = base + rng.randint(-spread, spread)
        return near if rng.random() < 0.9 else anywhen(rng)

    timed = sized or rng.random() < 0.5
    explicit = timed and rng.random() < 0.5
    columns = []
    for kind in KINDS:
        nulls = rng.choice([0.0, 0.0, 0.2, 1.0])
        columns.append(
            raw.column_of(kind, [None if rng.random() < nulls else VALUES[kind](rng) for _ in range(rows)])
        )
    groups = rng.choice([[0], [0, 1, 2], [0, 63, 64, 199]])
    return {
        "groups": np.array([rng.choice(groups) for _ in range(rows)], np.int32),
        "group_count": 200,
        "time": np.array([moment() for _ in range(rows)], np.int64) if timed else None,
        "watermarks": np.array([max(moment() - 20, -(2**63)) for _ in range(rows)], np.int64)
        if explicit
        else None,
        "watermark_before": rng.choice([-(2**63), base, anywhen(rng)]),
        "delay_ns": rng.choice([0, 5, 100, 10**12]),
        "inputs": columns,
        "masks": [np.array([rng.random() < p for _ in range(rows)], np.bool_) for p in (0.5, 0.9)],
    }


def anywhen(rng):
    return rng.choice(
        [rng.randint(-40, 40), rng.randint(-(10**12), 10**12), -(2**63), -(2**63) + 1, 2**63 - 2, 2**63 - 1]
    )


def bits(kind, column):
    """Values that are equal only where every bit is (all NaN are one)."""
    return [
        ("nan" if math.isnan(v) else struct.pack("<d", v)) if isinstance(v, float) else v
        for v in raw.values_of(kind, column)
    ]


def shown(aggregates, closed):
    if closed is None:
        return None
    starts, ends, groups, results, overflows = closed
    kinds = [twin.result_kind(function, types) for function, _, types, *_ in aggregates]
    columns = [bits(kind, column) for kind, column in zip(kinds, results, strict=True)]
    return starts.tolist(), ends.tolist(), groups.tolist(), columns, overflows


def close_both(fast, plain, watermark, order, aggregates, max_rows):
    assert fast.ready(watermark) == plain.ready(watermark)
    while True:
        got = shown(aggregates, fast.close(watermark, order, max_rows))
        assert got == shown(aggregates, plain.close(watermark, order, max_rows))
        if got is None:
            return


@given(shapes(), st.lists(aggregate(), max_size=6), st.integers(0, 2**32))
@settings(max_examples=300, deadline=None)
def test_twin_law(shape, aggregates, seed):
    rng = random.Random(seed)
    size, every, offset = shape
    fast = compiled.WindowState(size, every, offset, aggregates)
    plain = twin.WindowState(size, every, offset, aggregates)
    order = np.array(rng.sample(range(200), 200), np.int32)
    for _ in range(rng.randint(1, 5)):
        batch = batch_of(rng, size is not None)
        late, partly = fast.add(**batch)
        expected, expected_partly = plain.add(**batch)
        assert (late.tolist(), partly) == (expected.tolist(), expected_partly)
        assert fast.open_windows == plain.open_windows
        assert fast.live_groups(200).tolist() == plain.live_groups(200).tolist()
        close_both(fast, plain, anywhen(rng), order, aggregates, rng.choice([1, 3, 1000]))
        if rng.random() < 0.3:
            some = {*plain.live_groups(200).tolist(), *rng.sample(range(200), 5)}
            keep = np.array(sorted(some), np.int32)
            fast.keep(keep)
            plain.keep(keep)
            fast.keep(back := np.arange(len(keep), dtype=np.int32))
            plain.keep(back)
    close_both(fast, plain, 2**63 - 1, order, aggregates, 7)
    assert fast.windows_closed == plain.windows_closed
    assert fast.open_windows == plain.open_windows == 0


def one(aggregates, values, kind="float64", size=10):
    state = compiled.WindowState(size, size or 1, 0, aggregates)
    n = len(values)
    state.add(
        np.zeros(n, np.int32), 1, np.zeros(n, np.int64), None, -(2**63), 0, [raw.column_of(kind, values)], []
    )
    *_, results, overflows = state.close(2**63 - 1, np.zeros(1, np.int32), 10)
    return [
        raw.values_of(twin.result_kind(f, types), column)[0]
        for (f, _, types, _), column in zip(aggregates, results, strict=True)
    ], overflows


def spec(*functions, kind="float64"):
    return [(function, (0,), (kind,), None) for function in functions]


def test_sums_are_compensated():
    assert one(spec("sum", "mean"), [1.0, 1e100, 1.0, -1e100])[0] == [2.0, 0.5]
    assert one(spec("sum"), [0.1] * 1_000_000)[0][0] == pytest.approx(100_000.0, rel=1e-15)


def test_infinities_and_nan_flow_through_sums():
    assert one(spec("sum", "min", "max"), [1.0, math.inf, 2.0])[0] == [math.inf, 1.0, math.inf]
    total, least, greatest = one(spec("sum", "min", "max"), [math.inf, -math.inf, math.nan])[0]
    assert math.isnan(total) and least == -math.inf and math.isnan(greatest)
    assert math.isnan(one(spec("min"), [math.nan, math.nan])[0][0])


def test_sums_of_int64_are_exact_or_null():
    top = 2**63 - 1
    assert one(spec("sum", "mean", kind="int64"), [top, top, -top], "int64") == ([top, float(top) / 3], 0)
    assert one(spec("sum", "mean", kind="int64"), [top, 1], "int64") == ([None, 2.0**62], 1)
    assert one(spec("sum", kind="int64"), [-top, -1], "int64") == ([-top - 1], 0)


def test_nothing_but_nulls():
    functions = ("count", "sum", "min", "var", "stddev_pop", "first", "any_value", "count_distinct")
    assert one(spec(*functions), [None, None])[0] == [0, None, None, None, None, None, None, 0]


def test_a_hopping_window_is_found_across_a_huge_gap():
    state = compiled.WindowState(60, 1, 0, [("count", (), (), None)])
    time = np.array([-(2**62), 0, 2**62], np.int64)
    state.add(np.zeros(3, np.int32), 1, time, None, -(2**63), 2**63 - 1, [], [])
    assert state.open_windows == 180
    starts, *_ = state.close(2**63 - 1, np.zeros(1, np.int32), 1000)
    assert sorted(set(starts.tolist())) == [t - 59 + i for t in time.tolist() for i in range(60)]


def test_the_arena_gives_memory_back():
    state = compiled.WindowState(10, 10, 0, spec("sum", "min", "max"))
    order = np.arange(300_000, dtype=np.int32)
    values = [(np.ones(300_000), None)]
    state.add(order, 300_000, np.zeros(300_000, np.int64), None, -(2**63), 0, values, [])
    while (
        state.close(10, order, 1 << 15) is not None
    ):  # in pieces, as the operator does: results take room too
        pass
    full = state.nbytes
    few = np.zeros(1, np.int32)
    for window in range(1, 100):
        state.add(few, 300_000, np.array([window * 10]), None, -(2**63), 0, [(np.ones(1), None)], [])
        while state.close(window * 10 + 10, order, 10) is not None:
            pass
    assert state.nbytes < full / 2


def test_rows_while_a_window_is_given_out_are_refused():
    state = compiled.WindowState(10, 10, 0, [])
    batch = (np.arange(3, dtype=np.int32), 3, np.zeros(3, np.int64), None, -(2**63), 0, [], [])
    state.add(*batch)
    state.close(10, np.arange(3, dtype=np.int32), 1)
    with pytest.raises(RuntimeError):
        state.add(*batch)
