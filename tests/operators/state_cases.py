"""Operators of every kind with inputs to drive them by: the cases of the law of saved states."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from asyncflow.model.batch import NO_TIME, Batch
from asyncflow.model.columns import Column, StringColumn, column_from_values
from asyncflow.model.schema import DataType, Field, Schema
from asyncflow.operators.contract import Output, TwoInputOperator
from asyncflow.operators.dedup import DedupOperator
from asyncflow.operators.derive import DeriveOperator
from asyncflow.operators.filter import FilterOperator
from asyncflow.operators.merge import InStepMerge
from asyncflow.operators.ordering import Direction
from asyncflow.operators.sequence import SequenceOperator
from asyncflow.operators.top import SortColumns, TopOperator

Step: TypeAlias = tuple[str, Any, ...]
"""A method of the operator and its arguments."""

SCHEMA = Schema.of(
    [
        ("ts", DataType.TIMESTAMP),
        ("k", DataType.STRING),
        ("n", DataType.INT64),
        ("v", DataType.FLOAT64),
        ("b", DataType.BOOL),
        ("x", DataType.STRING),
    ]
)
KEYS: Sequence[Any] = ("a", "b", "", "ä" * 12, "a key longer than a bucket of the group table holds", None)
NUMBERS: Sequence[Any] = (0, 1, -1, 7, 2**63 - 1, -(2**63), None)
FLOATS: Sequence[Any] = (0.0, -0.0, 1.5, -2.25, 1e300, float("nan"), float("inf"), None)
TEXTS: Sequence[Any] = ("", "x", "some text", "ü" * 40, None)


def batch_of(
    chance: np.random.Generator, times: Sequence[int], watermark: int, delay: int, schema: Schema = SCHEMA
) -> Batch:
    """A batch with these times; sometimes with an explicit watermark before each row, and cut out of a greater one."""

    def some(values: Sequence[Any]) -> list[Any]:
        return [values[place] for place in chance.integers(0, len(values), len(times)).tolist()]

    found: dict[str, Callable[[], list[Any]]] = {
        "ts": lambda: list(times),
        "k": lambda: some(KEYS),
        "n": lambda: some(NUMBERS),
        "v": lambda: some(FLOATS),
        "b": lambda: some((True, False, None)),
        "x": lambda: some(TEXTS),
    }
    columns = tuple(column_from_values(field.type, found[field.name]()) for field in schema)
    batch = Batch(schema, columns, len(times), np.array(times, np.int64), None, watermark, delay)
    if chance.random() < 0.4:
        batch = batch.take(np.flatnonzero(chance.random(len(times)) < 0.8))
    return batch


class Source:
    """Rows whose times rise in the main, under a watermark ``delay`` behind the greatest."""

    def __init__(self, chance: np.random.Generator, schema: Schema = SCHEMA) -> None:
        self._chance, self._schema = chance, schema
        self._delay = int(chance.integers(0, 12))
        self._now = int(chance.integers(-30, 30))
        self.watermark = NO_TIME

    def batch(self) -> Batch:
        self._now += int(self._chance.integers(0, 8))
        rows = int(self._chance.integers(1, 9))
        times = (self._now + self._chance.integers(-9, 9, rows)).tolist()
        batch = batch_of(self._chance, times, self.watermark, self._delay, self._schema)
        self.watermark = max(self.watermark, max(times) - self._delay)
        return batch


def one_input(chance: np.random.Generator, count: int = 14) -> list[Step]:
    """Batches, and now and then the stage's watermark, which may lag behind that of the rows; then the end."""
    source, told, steps = Source(chance), NO_TIME, []
    for _ in range(count):
        if chance.random() < 0.65:
            batch = source.batch()
            if batch.num_rows:
                steps.append(("process", batch))
        elif source.watermark > told:
            told = source.watermark
            steps.append(("advance", told))
    return [*steps, ("finish",)]


class Case(NamedTuple):
    """``make``: a new operator, always the same; ``steps``: the calls that drive it."""

    name: str
    make: Callable[[], Any]
    steps: Callable[[np.random.Generator], list[Step]] = one_input


# -- what is the same for every operator ---------------------------------------------------------------------------------


def outputs_of(operator: Any, step: Step) -> list[Any]:
    """What a call returns, to the bit; ``step`` may also name a method that returns nothing."""
    method, *arguments = step
    found = getattr(operator, method)(*arguments)
    return [] if found is None else [_bits(output) for output in _taken(found)]


def _taken(found: Iterable[Any]) -> list[Output]:
    return [output if isinstance(output, Output) else Output(output) for output in found]


def _bits(output: Output) -> Any:
    batch = output.batch
    times = None if batch.time is None else (batch.time.tolist(), batch.row_watermarks().tolist())
    return output.kind, batch.schema.names, batch.num_rows, times, [_column_bits(c) for c in batch.columns]


def _column_bits(column: Column) -> list[Any]:
    if isinstance(column, StringColumn):
        return column.to_list()
    values = column.values.view(np.int64) if column.values.dtype == np.float64 else column.values
    valid = np.ones(len(column), np.bool_) if column.valid is None else column.valid
    return [value if ok else None for value, ok in zip(values.tolist(), valid.tolist(), strict=True)]


def standing(operator: Any) -> list[Any]:
    """What an operator says of itself that must be the same after it was restored."""
    if isinstance(operator, InStepMerge):
        ports = operator.ports
        return [operator.wanted, operator.watermark, list(ports)]
    found: list[Any] = [dict(operator.counts), operator.next_due_ns, operator.held_ns, operator.open_windows]
    found += [operator.timed, operator.output]
    if not isinstance(operator, TopOperator):  # which also counts rows that it has not dropped yet
        found.append(operator.waiting_rows)
    return [*found, operator.watermark] if isinstance(operator, TwoInputOperator) else found


# -- the cases -----------------------------------------------------------------------------------------------------------


def _positive(batch: Batch) -> Any:
    column = batch.column("n")
    assert not isinstance(column, StringColumn)
    valid = np.ones(len(column), np.bool_) if column.valid is None else column.valid
    return (column.values > 0) & valid


def make_derive() -> DeriveOperator:
    losses: dict[str, int] = {}

    def evaluate(batch: Batch) -> tuple[Column, ...]:
        losses["made"] = losses.get("made", 0) + batch.num_rows
        return (batch.column("k"),)

    return DeriveOperator(SCHEMA.select(["k"]), evaluate, losses)


def make_top(**more: Any) -> TopOperator:
    bounds = (
        [Field(name, DataType.TIMESTAMP) for name in ("window_start", "window_end")]
        if "size_ns" in more
        else []
    )
    output = Schema((*bounds, *SCHEMA.fields, Field("rank", DataType.INT64)))

    def prepare(batch: Batch) -> SortColumns:
        return SortColumns((batch.column("k"),), (batch.column("v"), batch.column("x")))

    directions = [Direction(descending=True), Direction(nulls_first=True)]
    return TopOperator(
        n=3, output=output, kinds=[DataType.STRING], directions=directions, prepare=prepare, **more
    )


def make_dedup(keys: Sequence[str]) -> DedupOperator:
    kinds = tuple(SCHEMA[name].type for name in keys)
    return DedupOperator(SCHEMA, kinds, lambda batch: tuple(batch.column(name) for name in keys), 15, {})


def sequence_steps(chance: np.random.Generator) -> list[Step]:
    past, live = Source(chance), Source(chance)
    first = live.batch()
    steps: list[Step] = [("begin", live.watermark)]
    for _ in range(5):
        steps.append(("process", past.batch()))
        if chance.random() < 0.5:
            steps.append(("advance", past.watermark))
    steps += [("hand_over",), ("process", first)]
    for _ in range(6):
        steps.append(("process", live.batch()))
        if chance.random() < 0.5:
            steps.append(("advance", live.watermark))
    return [*steps, ("finish",)]


def merge_steps(chance: np.random.Generator) -> list[Step]:
    sources = [Source(chance) for _ in range(3)]
    steps: list[Step] = []
    for _ in range(14):
        number = int(chance.integers(0, 3))
        if chance.random() < 0.75:
            steps.append(("feed_batch", number, sources[number].batch()))
        else:
            steps.append(("feed_watermark", number, sources[number].watermark))
    return [*steps, *(("feed_end", number) for number in chance.permutation(3).tolist())]


CASES = [
    Case("filter", lambda: FilterOperator(_positive, SCHEMA)),
    Case("derive", make_derive),
    Case("top", partial(make_top, size_ns=10)),
    Case("top hopping", partial(make_top, size_ns=10, every_ns=4, offset_ns=3)),
    Case("top over all", make_top),
    Case("top of given windows", partial(make_top, end_column="ts")),
    Case("sequence by time", lambda: SequenceOperator(SCHEMA), sequence_steps),
    Case("merge", lambda: InStepMerge(3, 5, {0, 2}), merge_steps),
]

NOT_YET = [
    Case("dedup", partial(make_dedup, ["k"])),
    Case("dedup by several", partial(make_dedup, ["n", "k", "v"])),
    Case("dedup by nothing", partial(make_dedup, [])),
    Case("sequence", lambda: SequenceOperator(SCHEMA, ["k", "n"]), sequence_steps),
]
"""Operators with a kernel that cannot be frozen yet."""
