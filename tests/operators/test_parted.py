"""The law of parts: whatever their number, a stage gives the same rows in the same order, by every way, and counts the same."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from asyncflow.doors.expressions.expression_text import parse_expression
from asyncflow.model.batch import NO_TIME, Batch, concat_batches
from asyncflow.model.schema import DataType
from asyncflow.model.snapshot import saved
from asyncflow.operators.aggregates.table import AggregateSpec
from asyncflow.operators.parts.part import Prepared
from asyncflow.operators.parts.parted import Parted
from asyncflow.operators.raw import raw_column
from asyncflow.operators.windows.slot_window import SessionOperator
from asyncflow.operators.windows.window import WindowOperator
from asyncflow.plan.stages.dedup import Dedup
from asyncflow.runtime.wiring.builders import dedup as dedup_builder
from tests.operators.state_cases import SCHEMA, Source, make_top, outputs_of

KEYS = ("k", "b", "v")
AGGREGATES = (
    AggregateSpec("count", (), ()),
    AggregateSpec("sum", (0,), (DataType.INT64,)),
    AggregateSpec("sum", (1,), (DataType.FLOAT64,)),
    AggregateSpec("first", (2,), (DataType.STRING,), 0),
    AggregateSpec("last", (1,), (DataType.FLOAT64,)),
    AggregateSpec("quantile", (1,), (DataType.FLOAT64,), None, 0.5),
    AggregateSpec("count_distinct", (2,), (DataType.STRING,)),
)
PARTS = (1, 2, 8, 64)


def prepare(batch: Batch, losses: dict[str, int], keys: int) -> Prepared:
    number = batch.column("n")
    if number.valid is not None and not number.valid.all():
        losses["overflow"] = losses.get("overflow", 0) + int(np.count_nonzero(~number.valid))
    mask = np.ones(batch.num_rows, np.bool_) if batch.column("b").valid is None else batch.column("b").valid
    return Prepared(
        tuple(batch.column(name) for name in KEYS[:keys]),
        tuple(batch.column(name) for name in ("n", "v", "x")),
        (mask,),
    )


def windows(parts: int | None, keys: int, shape: Callable[..., Any]) -> Any:
    """The operator in parts; None: as it is without."""
    prepared = partial(prepare, keys=keys)
    common: dict[str, Any] = {
        "keys": SCHEMA.select(KEYS[:keys]),
        "aggregates": AGGREGATES,
        "names": [f"a{place}" for place in range(len(AGGREGATES))],
    }
    if parts is None:
        return shape(prepare=prepared, **common)
    return Parted(
        lambda: shape(prepare=None, **common),
        parts,
        prepare=prepared,
        key_kinds=[field.type.value for field in common["keys"]],
        kinds=["timestamp", "timestamp", *(field.type.value for field in common["keys"])],
        order=lambda batch: [raw_column(batch.columns[place]) for place in (1, 0, *range(2, 2 + keys))],
    )


def deduped(parts: int | None, keys: int) -> Any:
    stage = Dedup("d", ("in",), tuple((name, parse_expression(name)) for name in KEYS[:keys]), 6)
    return dedup_builder.operator(stage, SCHEMA, parts=parts or 1)


def make(kind: str, parts: int | None, keys: int) -> Any:
    if kind == "dedup":
        return deduped(parts, keys)
    if kind in TOPS:
        return make_top(parts or 1, KEYS[:keys], **TOPS[kind])
    return windows(parts, keys, SHAPES[kind])


TOPS: dict[str, dict[str, Any]] = {
    "top": {"size_ns": 10},
    "top hopping": {"size_ns": 7, "every_ns": 3, "offset_ns": 1},
    "top over all": {},
    "top of given windows": {"end_column": "ts"},
    "top of any windows": {"end_column": "n"},
}


SHAPES: dict[str, Callable[..., Any]] = {
    "tumbling": lambda **common: WindowOperator(size_ns=10, offset_ns=3, **common),
    "hopping": lambda **common: WindowOperator(size_ns=8, every_ns=4, **common),
    "uneven": lambda **common: WindowOperator(size_ns=7, every_ns=3, offset_ns=1, **common),
    "session": lambda **common: SessionOperator(gap_ns=4, **common),
}


def steps_of(chance: np.random.Generator, count: int) -> list[tuple[Any, ...]]:
    """Batches, and now and then the watermark."""
    source, told = Source(chance), NO_TIME
    steps: list[tuple[Any, ...]] = []
    for _ in range(count):
        if chance.random() < 0.7:
            batches = [batch for _ in range(int(chance.integers(1, 5))) if (batch := source.batch()).num_rows]
            if batches:
                steps.append(("process", concat_batches(batches)))
        elif source.watermark > told:
            told = source.watermark
            steps.append(("advance", told))
    return [*steps, ("finish",)]


def cut(chance: np.random.Generator, steps: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """The same with other batches."""
    pieces: list[tuple[Any, ...]] = []
    for step in steps:
        if step[0] == "process":
            batch = step[1]
            places = sorted({0, batch.num_rows, *chance.integers(0, batch.num_rows + 1, 2).tolist()})
            pieces += [("process", batch.slice(a, b)) for a, b in pairwise(places)]
        else:
            pieces.append(step)
    return pieces


def told(operator: Any) -> Any:
    """What an operator says of itself."""
    return (
        dict(operator.counts),
        operator.open_windows,
        operator.next_due_ns,
        operator.waiting_rows,
        operator.timed,
        operator.held_ns,
    )


def rows_of(outputs: list[Any]) -> dict[str, list[Any]]:
    """Rows by every way, one after the other, whatever batches they came in."""
    found: dict[str, list[Any]] = {}
    for kind, names, count, times, columns in outputs:
        rows = found.setdefault(kind, [])
        at = [None] * count if times is None else list(zip(*times, strict=True))
        rows += [(names, at[row], [column[row] for column in columns]) for row in range(count)]
    return found


@pytest.mark.parametrize("shape", [*SHAPES, *TOPS, "dedup"])
@pytest.mark.parametrize("keys", [1, 3])
def test_parts_do_not_show(shape: str, keys: int) -> None:
    ways = set()
    for seed in range(8):
        chance = np.random.default_rng(seed)
        steps = steps_of(chance, 30)
        plain = make(shape, None, keys)
        wanted = [(rows_of(outputs_of(plain, step)), told(plain)) for step in steps]
        ways |= {kind for rows, _ in wanted for kind in rows}
        for parts in PARTS:
            operator = make(shape, parts, keys)
            for step, (rows, state) in zip(steps, wanted, strict=True):
                assert rows_of(outputs_of(operator, step)) == rows
                assert told(operator) == state
    assert ways == {
        "",
        *({"late"} if shape not in ("dedup", "top over all") else ()),
        *(["duplicate"] if shape == "dedup" else ()),
    }


@pytest.mark.parametrize("shape", [*SHAPES, *TOPS, "dedup"])
@pytest.mark.parametrize("keys", [1, 3])
def test_a_state_is_taken_by_any_number_of_parts(shape: str, keys: int) -> None:
    for seed in range(3):
        chance = np.random.default_rng(seed)
        steps = steps_of(chance, 24)
        plain = make(shape, None, keys)
        wanted, states = [], []
        for step in steps:
            wanted.append((rows_of(outputs_of(plain, step)), told(plain)))
            states.append(saved(plain.freeze()))
        for before, after in ((8, 2), (2, None), (None, 64)):
            operator = make(shape, before, keys)
            for place, step in enumerate(steps):
                assert rows_of(outputs_of(operator, step)) == wanted[place][0]
                assert told(operator) == wanted[place][1]
                state = saved(operator.freeze())
                assert state.fields == states[place].fields
                assert {name: part.tobytes() for name, part in state.parts.items()} == {
                    name: part.tobytes() for name, part in states[place].parts.items()
                }
                if place % 3 == 0:
                    continued = make(shape, after, keys)
                    continued.restore(state)
                    assert told(continued) == wanted[place][1]
                    for later in range(place + 1, min(place + 6, len(steps))):
                        assert rows_of(outputs_of(continued, steps[later])) == wanted[later][0]
                        assert told(continued) == wanted[later][1]


@pytest.mark.parametrize("parts", [None, 8])
def test_duplicates_that_nobody_reads_are_counted_and_not_given(parts: int | None) -> None:
    for seed in range(4):
        steps = steps_of(np.random.default_rng(seed), 20)
        plain, unread = deduped(None, 1), deduped(parts, 1)
        unread.unread = frozenset({"duplicate"})
        for step in steps:
            wanted = rows_of(outputs_of(plain, step))
            wanted.pop("duplicate", None)
            assert rows_of(outputs_of(unread, step)) == wanted
            assert unread.counts == plain.counts
