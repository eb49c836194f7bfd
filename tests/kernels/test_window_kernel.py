"""The window kernel against its twin, bit by bit, on inputs of hypothesis."""

import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncflow._kernels.accumulators.table import result_kind
from asyncflow._kernels.groups import reference as raw
from asyncflow._kernels.window import compiled
from asyncflow._kernels.window import reference as twin
from tests.kernels.window_rows import aggregate, anywhen, batch_of, shapes, shown


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
        raw.values_of(result_kind(f, types), column)[0]
        for (f, _, types, _), column in zip(aggregates, results, strict=True)
    ], overflows


def spec(*functions, kind="float64"):
    return [(function, (0,), (kind,), None) for function in functions]


def test_sums_are_exact():
    assert one(spec("sum", "mean"), [1.0, 1e100, 1.0, -1e100])[0] == [2.0, 0.5]
    assert one(spec("sum"), [0.1] * 1_000_000)[0][0] == 100_000.0


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
