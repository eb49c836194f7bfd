"""States of window stages with aggregates in Python: saved and loaded between any two batches, they go on as if they had not been."""

import random
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import asyncflow as af
from asyncflow.errors import StageError
from asyncflow.model.schema import DataType
from asyncflow.operators.aggregates import python_cells
from asyncflow.operators.aggregates.saved_objects import loaded_object, saved_object
from asyncflow.operators.aggregates.state import window_state
from asyncflow.operators.aggregates.table import AggregateSpec
from asyncflow.testing import check_aggregate
from tests.kernels.window_rows import KINDS, anywhen, batch_of, bits, shapes
from tests.own_aggregates import Least, Rows, Sum, Trace

GROUPS = 200
TYPES = [DataType(kind) for kind in KINDS]


class Words(af.Aggregate):
    """What save and load are for: a Counter is no plain value."""

    takes, returns = "string", "int64"

    def __init__(self):
        self.seen = Counter()

    def update(self, words):
        self.seen.update(words.tolist())

    def merge(self, other):
        self.seen.update(other.seen)

    def finish(self):
        return max(self.seen.values(), default=None)

    def save(self):
        return dict(self.seen)

    @classmethod
    def load(cls, saved):
        words = cls()
        words.seen.update(saved)
        return words


def spec(cls, *inputs, mask=None, returns=None):
    types = tuple(TYPES[position] for position in inputs)
    returns = DataType(returns or cls.returns)
    return AggregateSpec(cls.__name__.lower(), inputs, types, mask, None, cls, returns)


SPECS = [
    spec(Trace, 0, 3), spec(Trace, 5, 4, mask=1), spec(Least, 1, returns="float64"), spec(Sum, 0, mask=0), spec(Rows, 3),
    spec(Words, 3), AggregateSpec("sum", (1,), (DataType.FLOAT64,)), AggregateSpec("count", (), ()),
]  # fmt: skip


def frozen(state, rank):
    fields, parts = state.freeze(rank), {}
    while (pieces := state.pieces(1000)) is not None:
        for name, piece in pieces:
            parts.setdefault(name, []).append(piece)
    return fields, {name: np.concatenate(some) for name, some in parts.items()}


def content(saved):
    fields, parts = saved
    return fields, {name: (part.dtype, part.tobytes()) for name, part in parts.items()}


def shown(specs, closed):
    if closed is None:
        return None
    starts, ends, groups, results, overflows = closed
    columns = [bits(each.result_type.value, column) for each, column in zip(specs, results, strict=True)]
    return starts.tolist(), ends.tolist(), groups.tolist(), columns, overflows


@given(shapes(), st.lists(st.sampled_from(SPECS), min_size=1, max_size=3), st.integers(0, 2**32))
@settings(max_examples=150, deadline=None)
def test_a_state_goes_on_as_if_it_had_never_been_saved(shape, specs, seed):
    rng = random.Random(seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(python_cells, "ROWS_AT_ONCE", 16)
        whole, other = window_state(specs, *shape), window_state(specs, *shape)
        names = np.arange(GROUPS, dtype=np.int32)
        order = np.array(rng.sample(range(GROUPS), GROUPS), np.int32)
        for _ in range(rng.randint(1, 5)):
            batch = batch_of(rng, shape[0] is not None)
            if (
                batch["time"] is not None
            ):  # windows whose bounds are beyond the range of time are not told apart by them
                batch["time"] = batch["time"] // 4
            late, partly = whole.add(**batch)
            other_late, other_partly = other.add(**{**batch, "groups": names[batch["groups"]]})
            assert (other_late.tolist(), other_partly) == (late.tolist(), partly)
            watermark, max_rows = anywhen(rng), rng.choice([1, 1000])
            assert whole.ready(watermark) == other.ready(watermark)
            back = np.argsort(names).astype(np.int32)
            while True:
                expected = shown(specs, whole.close(watermark, order, max_rows))
                got = other.close(watermark, names[order], max_rows)
                assert shown(specs, got and (*got[:2], back[got[2]], *got[3:])) == expected
                if expected is None:
                    break
            rank = np.array(rng.sample(range(GROUPS), GROUPS), np.int32)
            saved = frozen(other, rank)
            names = rank[names]
            other = window_state(specs, *shape)
            other.load(*saved)
            assert content(frozen(other, np.arange(GROUPS, dtype=np.int32))) == content(saved)
            assert content(frozen(whole, names)) == content(saved)
            assert other.open_windows == whole.open_windows


class Unsaved(af.Aggregate):
    takes, returns = "int64", "int64"

    def __init__(self):
        self.seen = set()

    def update(self, x):
        self.seen.update(x.tolist())

    def merge(self, other):
        self.seen |= other.seen

    def finish(self):
        return len(self.seen)


def test_an_attribute_that_is_not_plain_is_named_before_the_first_row():
    state = window_state([spec(Unsaved, 0)])
    with pytest.raises(
        StageError, match=r"unsaved \(.*Unsaved\): the attribute 'seen' is a set: give the class .*save"
    ):
        state.freeze(np.arange(1, dtype=np.int32))
    check_aggregate(Unsaved, [1, 2, 2], saved=False)
    with pytest.raises(AssertionError, match="'seen' is a set"):
        check_aggregate(Unsaved, [1, 2, 2])


def test_check_aggregate_finds_what_is_lost_in_saving():
    class Forgetful(Words):
        def save(self):
            return dict.fromkeys(self.seen, 1)

    check_aggregate(Words, ["a", "b", "a"])
    with pytest.raises(AssertionError, match="saved and loaded after"):
        check_aggregate(Forgetful, ["a", "b", "a"])


def test_one_of_save_and_load_is_refused():
    class Half(Sum):
        def save(self):
            return None

    with pytest.raises(StageError, match="one of save and load"):
        saved_object(Half(), "the aggregate half")


class Holder:
    pass


VALUES = [
    None, True, 0, 2**63, -(2**80), 1.5, float("inf"), "text", b"bytes", [1, [2.0]], (1, ("a",)), {"a": {"tuple": [1]}, "b": (2,)},
    np.arange(3), np.zeros((2, 0)), np.array(["2024-01-01"], "datetime64[ns]"), np.float64(2.5), np.int32(7), np.array([True]),
]  # fmt: skip


def test_plain_values_come_back_as_they_are():
    obj = Holder()
    obj.values, obj.last = VALUES, (VALUES, {"deep": VALUES})
    found = loaded_object(Holder, saved_object(obj, "x"), "x")
    assert repr(vars(found)) == repr(vars(obj))
    assert [type(value) for value in found.values] == [type(value) for value in VALUES]
    found.values[12][0] = 5  # an array of its own
    assert VALUES[12][0] == 0


@pytest.mark.parametrize("value", [object(), {1: 2}, Counter(), {1}, np.array([None]), lambda: 0, 1j])
def test_other_values_are_refused(value):
    obj = Holder()
    obj.deep = [value]
    with pytest.raises(StageError, match="'deep'"):
        saved_object(obj, "x")


def test_what_does_not_fit_is_refused():
    rng = random.Random(1)
    specs = [spec(Trace, 0, 3), spec(Words, 3), spec(Rows, 5)]
    state = window_state(specs)
    batch = batch_of(rng, sized=False)
    while not len(batch["groups"]):
        batch = batch_of(rng, sized=False)
    state.add(**batch)
    state.peek(np.arange(2, dtype=np.int32))
    state.add(**batch)
    fields, parts = frozen(state, np.arange(GROUPS, dtype=np.int32))
    for name, part in parts.items():
        if not name.startswith("python") or len(part) == 1:
            continue
        for wrong in (part[:-1], part.astype("<i2") if part.dtype.names is None else part["low"]):
            with pytest.raises(ValueError, match="python"):
                window_state(specs).load(fields, {**parts, name: wrong})
    with pytest.raises(ValueError, match="aggregates"):
        window_state(specs[:2]).load(fields, parts)
    refused = 0
    for _ in range(300):
        name = rng.choice([name for name in parts if name.startswith("python")])
        damaged = bytearray(parts[name].tobytes())
        damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
        try:
            window_state(specs).load(
                fields, {**parts, name: np.frombuffer(bytes(damaged), parts[name].dtype)}
            )
        except (ValueError, StageError):
            refused += 1
    assert refused
