"""Window states, saved and loaded: equal bytes of kernel and twin, equal results after, and errors for what does not fit."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncflow._kernels.window import compiled
from asyncflow._kernels.window import reference as twin
from tests.kernels.window_rows import aggregate, anywhen, batch_of, shapes, shown

GROUPS = 200


def frozen(state, rank, budget=1 << 20):
    """The fields, and the parts put together of their pieces."""
    fields, parts = state.freeze(rank), {}
    while (pieces := state.pieces(budget)) is not None:
        for name, piece in pieces:
            parts.setdefault(name, []).append(piece)
    return fields, {name: np.concatenate(some) for name, some in parts.items()}


def content(saved):
    fields, parts = saved
    return fields, {name: (part.dtype, part.tobytes()) for name, part in parts.items()}


def loaded(kernel, shape, aggregates, saved):
    state = kernel.WindowState(*shape, aggregates)
    state.load(*saved)
    return state


class Renamed:
    """A state whose groups were called anew when it was loaded: rows go in, and come out, under their first names."""

    def __init__(self, state):
        self.state, self.names = state, np.arange(GROUPS, dtype=np.int32)

    def reloaded(self, rng, kernels, shape, aggregates):
        """Itself, saved and loaded into a fresh one of any of the kernels."""
        rank = np.array(rng.sample(range(GROUPS), GROUPS), np.int32)
        saved = frozen(self.state, rank, rng.choice([1, 100, 1 << 20]))
        self.state = loaded(rng.choice(kernels), shape, aggregates, saved)
        assert content(frozen(self.state, np.arange(GROUPS, dtype=np.int32))) == content(saved)
        self.names = rank[self.names]

    def add(self, batch):
        late, partly = self.state.add(**{**batch, "groups": self.names[batch["groups"]]})
        return late.tolist(), partly

    def close(self, watermark, order, max_rows, aggregates):
        if not self.state.ready(watermark):
            return None
        back = np.argsort(self.names).astype(np.int32)
        closed = self.state.close(watermark, self.names[order], max_rows)
        return shown(aggregates, closed and (*closed[:2], back[closed[2]], *closed[3:]))


@given(shapes(), st.lists(aggregate(), max_size=6), st.integers(0, 2**32))
@settings(max_examples=300, deadline=None)
def test_a_state_goes_on_as_if_it_had_never_been_saved(shape, aggregates, seed):
    rng = random.Random(seed)
    whole = compiled.WindowState(*shape, aggregates)
    plain = twin.WindowState(*shape, aggregates)
    other = Renamed(rng.choice([compiled, twin]).WindowState(*shape, aggregates))
    order = np.array(rng.sample(range(GROUPS), GROUPS), np.int32)
    for _ in range(rng.randint(1, 6)):
        batch = batch_of(rng, shape[0] is not None)
        late, partly = whole.add(**batch)
        plain.add(**batch)
        assert other.add(batch) == (late.tolist(), partly)
        if rng.random() < 0.5:
            other.reloaded(rng, [compiled, twin], shape, aggregates)
        watermark, max_rows = anywhen(rng), rng.choice([1, 3, 1000])
        whole.ready(watermark), plain.ready(watermark)
        while True:
            plain.close(watermark, order, max_rows)
            expected = shown(aggregates, whole.close(watermark, order, max_rows))
            assert other.close(watermark, order, max_rows, aggregates) == expected
            if expected is None:
                break
        assert other.state.open_windows == whole.open_windows
        rank = np.array(rng.sample(range(GROUPS), GROUPS), np.int32)
        assert content(frozen(whole, rank)) == content(frozen(plain, rank))
        other.reloaded(rng, [compiled, twin], shape, aggregates)
        assert (other.state.next_end, other.state.held_rows) == (whole.next_end, whole.held_rows)
        assert other.state.windows_closed == whole.windows_closed


@given(st.lists(aggregate(), min_size=1, max_size=5), st.integers(0, 2**32))
@settings(max_examples=200, deadline=None)
def test_slots_go_on_as_if_they_had_never_been_saved(aggregates, seed):
    rng = random.Random(seed)
    shape = (None, 1, 0)
    whole = compiled.WindowState(*shape, aggregates)
    other = Renamed(rng.choice([compiled, twin]).WindowState(*shape, aggregates))
    for _ in range(rng.randint(1, 5)):
        batch = batch_of(rng, sized=False)
        whole.add(**batch)
        other.add(batch)
        into, source = (np.array(rng.sample(range(GROUPS), 20), np.int32) for _ in range(2))
        whole.merge(into, source)
        other.state.merge(other.names[into], other.names[source])
        gone = np.array(rng.sample(range(GROUPS), 50), np.int32)
        whole.clear(gone)
        other.state.clear(other.names[gone])
        other.reloaded(rng, [compiled, twin], shape, aggregates)
        slots = np.array(rng.sample(range(GROUPS), GROUPS), np.int32)
        got, expected = other.state.peek(other.names[slots]), whole.peek(slots)
        assert _peeked(aggregates, got) == _peeked(aggregates, expected)


def _peeked(aggregates, peeked):
    none = np.zeros(0, np.int64)
    return shown(aggregates, (none, none, none, *peeked))


SKETCHED = [
    ("quantile", (1,), ("float64",), None, 0.3),
    ("quantile_disc", (0,), ("int64",), None, 0.9),
    ("approx_quantile", (1,), ("float64",), None, 0.7),
    ("approx_count_distinct", (0,), ("int64",), None),
    ("approx_count_distinct", (2,), ("string",), None),
    ("approx_top_k", (0,), ("int64",), None, 3),
    ("approx_top_k", (2,), ("string",), None, 2),
    ("count_distinct", (2,), ("string",), None),
    ("count_distinct", (1,), ("float64",), None),
]


def many(rng, count, groups=2):
    values = np.exp(rng.uniform(-300, 300, count)) * rng.choice([-1, 1], count)
    values[rng.random(count) < 0.01] = rng.choice([np.nan, np.inf, -np.inf, 0.0])
    texts = twin.column_of("string", [b"%d" % number for number in rng.integers(0, 400, count)])
    return {
        "groups": rng.integers(0, groups, count).astype(np.int32),
        "group_count": groups,
        "time": rng.integers(0, 40, count),
        "watermarks": None,
        "watermark_before": -(2**63),
        "delay_ns": 100,
        "inputs": [(rng.integers(0, 5000, count), None), (values, None), texts],
        "masks": [],
    }


@pytest.mark.parametrize("shape", [(None, 1, 0), (10, 10, 0), (10, 5, 0), (10, 4, 0)])
def test_sketches_of_many_values(shape):
    """Past the sizes at which they stop to be exact."""
    rng = np.random.default_rng(7)
    whole, plain = (kernel.WindowState(*shape, SKETCHED) for kernel in (compiled, twin))
    rank, order = np.array([1, 0], np.int32), np.arange(2, dtype=np.int32)
    other = loaded(compiled, shape, SKETCHED, frozen(whole, order))
    for count in (100, 9_000, 20_000):
        batch = many(rng, count)
        for state in (whole, plain, other):
            state.add(**batch)
        saved = frozen(whole, rank)
        assert content(saved) == content(frozen(plain, rank))
        plain = loaded(twin, shape, SKETCHED, frozen(plain, order))
        other = loaded(compiled, shape, SKETCHED, frozen(other, order))
        assert content(frozen(loaded(twin, shape, SKETCHED, saved), order)) == content(saved)
        assert content(frozen(other, rank)) == content(saved)
        assert content(frozen(plain, rank)) == content(saved)
    watermark = 2**63 - 1
    assert whole.ready(watermark) and other.ready(watermark) and plain.ready(watermark)
    while (closed := shown(SKETCHED, whole.close(watermark, order, 1000))) is not None:
        assert shown(SKETCHED, other.close(watermark, order, 1000)) == closed
        assert shown(SKETCHED, plain.close(watermark, order, 1000)) == closed


# -- what does not fit --------------------------------------------------------------------------------------------------

ALL = [
    ("count", (), (), None),
    ("sum", (0,), ("int64",), None), ("mean", (1,), ("float64",), 0), ("min", (1,), ("float64",), 0),
    ("stddev", (1,), ("float64",), None), ("corr", (1, 0), ("float64", "int64"), None),
    ("first", (2,), ("string",), None), ("arg_max", (1, 2), ("float64", "string"), None), ("max", (2,), ("string",), None),
    *SKETCHED,
]  # fmt: skip


def example(shape, count=2_000):
    rng = np.random.default_rng(3)
    state = compiled.WindowState(*shape, ALL)
    batch = many(rng, count)
    state.add(**{**batch, "masks": [rng.random(count) < 0.5]})
    state.ready(12)
    while state.close(12, np.arange(2, dtype=np.int32), 1000) is not None:
        pass
    return frozen(state, np.arange(2, dtype=np.int32))


@pytest.mark.parametrize("kernel", [compiled, twin], ids=["compiled", "twin"])
@pytest.mark.parametrize("shape", [(None, 1, 0), (10, 4, 0)])
def test_what_does_not_fit_is_refused_and_changes_nothing(kernel, shape):
    fields, parts = saved = example(shape)
    state = kernel.WindowState(*shape, ALL)

    def refused(fields, parts):
        with pytest.raises(ValueError):
            state.load(fields, parts)

    for name in fields:
        refused({key: value for key, value in fields.items() if key != name}, parts)
        for wrong in ("x", -1, 2**70, [], [1, 2, 3], [2**70, 0], 1.5):
            if name != "advanced" or wrong != -1:  # -1 is a time
                refused({**fields, name: wrong}, parts)
    refused({**fields, "arrivals": 1}, parts)
    for name, part in parts.items():
        refused(fields, {key: some for key, some in parts.items() if key != name})
        refused(fields, {**parts, name: part[:-1]})
        refused(fields, {**parts, name: np.concatenate([part, part[-1:]])})
        refused(fields, {**parts, name: part.tobytes()})
        refused(fields, {**parts, name: np.zeros(len(part), "<i2")})
        refused(fields, {**parts, name: part.reshape(1, -1)})
    refused(fields, {**parts, "more": parts["panes"]})
    refused(fields, {**parts, "cells": parts["cells"][::-1]})
    refused(*frozen_elsewhere(shape))
    state.load(*saved)
    assert content(frozen(state, np.arange(2, dtype=np.int32))) == content(saved)
    with pytest.raises(RuntimeError):
        state.load(*saved)


def frozen_elsewhere(shape):
    """Of a stage with an aggregate less."""
    return frozen(compiled.WindowState(*shape, ALL[:-1]), np.arange(2, dtype=np.int32))


@pytest.mark.parametrize("shape", [(None, 1, 0), (10, 4, 0), (10, 10, 0)])
def test_flipped_bits_never_crash(shape):
    """Wherever a bit is flipped: ValueError, or a state of the same form that goes on."""
    fields, parts = example(shape, 600)
    rng = random.Random(5)
    order = np.arange(2, dtype=np.int32)
    refused = 0
    for _ in range(1_500):
        name = rng.choice(list(parts))
        damaged = bytearray(parts[name].tobytes())
        for _ in range(rng.choice([1, 1, 3])):
            damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
        state = compiled.WindowState(*shape, ALL)
        now = {**parts, name: np.frombuffer(bytes(damaged), parts[name].dtype)}
        try:
            state.load(fields, now)
        except (ValueError, MemoryError):
            refused += 1
            continue
        if now["cells"]["group"].max() < 2:
            state.add(**{**many(np.random.default_rng(1), 50), "masks": [np.ones(50, np.bool_)]})
            while state.close(2**63 - 1, order, 1000) is not None:
                pass
    assert 100 < refused < 1_500


def test_a_state_is_not_frozen_while_rows_are_given_out():
    for kernel in (compiled, twin):
        state = kernel.WindowState(10, 10, 0, [("count", (), (), None)])
        groups = np.arange(3, dtype=np.int32)
        state.add(groups, 3, np.zeros(3, np.int64), None, -(2**63), 0, [], [])
        with pytest.raises(ValueError):
            state.freeze(np.array([0, -1, 1], np.int32))
        state.ready(10)
        state.close(10, groups, 1)
        with pytest.raises(RuntimeError):
            state.freeze(groups)
