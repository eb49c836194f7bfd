"""Operators of every kind with inputs to drive them by: the cases of the law of saved states."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from asyncflow.doors.expressions.expression_text import parse_expression
from asyncflow.model.batch import NO_TIME, Batch
from asyncflow.model.columns import Column, FixedColumn, StringColumn, column_from_values
from asyncflow.model.schema import DataType, Field, Schema
from asyncflow.operators.aggregates.table import AggregateSpec
from asyncflow.operators.bounds import WindowLattice
from asyncflow.operators.contract import Operator, Output, TwoInputOperator
from asyncflow.operators.dedup import DedupOperator
from asyncflow.operators.derive import DeriveOperator
from asyncflow.operators.filter import FilterOperator
from asyncflow.operators.merge import InStepMerge
from asyncflow.operators.ordering import Direction
from asyncflow.operators.parts.part import Part, Prepared
from asyncflow.operators.parts.parted import Parted
from asyncflow.operators.parts.tops import PartedTop
from asyncflow.operators.raw import raw_column
from asyncflow.operators.sequence import SequenceOperator
from asyncflow.operators.top import SortColumns, TopOperator
from asyncflow.operators.windows.revised import RevisedWindowOperator
from asyncflow.operators.windows.slot_window import CountWindowOperator, SessionOperator
from asyncflow.operators.windows.window import WindowOperator
from asyncflow.plan.stages.dedup import Dedup
from asyncflow.plan.stages.join import Join
from asyncflow.plan.stages.map import MapBatches
from asyncflow.plan.stages.window import Window
from asyncflow.plan.tables import TimeColumn
from asyncflow.plan.windows import Hopping, Tumbling
from asyncflow.runtime.stages.map import MapOperator
from asyncflow.runtime.stages.retiming import RetimedDerive, Retiming
from asyncflow.runtime.wiring.builders import dedup as dedup_builder
from asyncflow.runtime.wiring.builders import join as join_builder
from asyncflow.runtime.wiring.builders import window as window_builder
from tests.own_aggregates import Sum, Trace

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
    if inspect.iscoroutine(found):
        found = asyncio.run(found)
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
    values = column.values
    if values.dtype == np.float64:  # by their bits; NaN is one value, whatever its sign
        values = np.where(np.isnan(values), np.nan, values).view(np.int64)
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


def _positive(batch: Batch, _: dict[str, int]) -> Any:
    column = batch.column("n")
    assert not isinstance(column, StringColumn)
    valid = np.ones(len(column), np.bool_) if column.valid is None else column.valid
    return (column.values > 0) & valid


def make_derive() -> DeriveOperator:
    def evaluate(batch: Batch, losses: dict[str, int]) -> tuple[Column, ...]:
        losses["made"] = losses.get("made", 0) + batch.num_rows
        return (batch.column("k"),)

    return DeriveOperator(SCHEMA.select(["k"]), evaluate)


def make_top(parts: int = 1, keys: Sequence[str] = ("k",), **more: Any) -> Operator:
    bounds = (
        [Field(name, DataType.TIMESTAMP) for name in ("window_start", "window_end")]
        if "size_ns" in more
        else []
    )
    output = Schema((*bounds, *SCHEMA.fields, Field("rank", DataType.INT64)))

    def prepare(batch: Batch) -> SortColumns:
        return SortColumns(keys_of(batch), (batch.column("v"), batch.column("x")))

    def keys_of(batch: Batch) -> tuple[Column, ...]:
        return tuple(batch.column(name) for name in keys)

    directions = [Direction(descending=True), Direction(nulls_first=True)]
    kinds = [SCHEMA[name].type for name in keys]
    make = partial(
        TopOperator, n=3, output=output, kinds=kinds, directions=directions, prepare=prepare, **more
    )
    if parts == 1:
        return make()
    return PartedTop(make, parts, key_kinds=[kind.value for kind in kinds], keys=keys_of)


def make_dedup(keys: Sequence[str]) -> DedupOperator:
    kinds = tuple(SCHEMA[name].type for name in keys)
    return DedupOperator(SCHEMA, kinds, lambda batch: tuple(batch.column(name) for name in keys), 15, {})


def make_parted_dedup() -> Operator:
    stage = Dedup("d", ("in",), (("k", parse_expression("k")), ("n", parse_expression("n"))), 15)
    return dedup_builder.operator(stage, SCHEMA, parts=4)


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


# windows

NUMBERS_OF: Sequence[tuple[str, tuple[str, ...]]] = (
    ("count", ()),
    ("count", ("x",)),
    ("sum", ("n",)),
    ("sum", ("v",)),
    ("mean", ("v",)),
    ("stddev", ("n",)),
    ("min", ("v",)),
    ("max", ("ts",)),
    ("corr", ("n", "v")),
    ("bool_and", ("b",)),
)
PICKS: Sequence[tuple[str, tuple[str, ...]]] = (
    ("first", ("x",)),
    ("last", ("v",)),
    ("any_value", ("b",)),
    ("min", ("x",)),
    ("max", ("k",)),
    ("arg_min", ("x", "v")),
    ("arg_max", ("n", "ts")),
)
SETS: Sequence[tuple[str, tuple[str, ...]]] = (
    ("count_distinct", ("x",)),
    ("count_distinct", ("n",)),
    ("count_distinct", ("v",)),
)
SKETCHES: Sequence[tuple[str, tuple[str, ...]]] = (
    ("approx_count_distinct", ("x",)),
    ("approx_count_distinct", ("v",)),
    ("quantile", ("v",)),
    ("quantile_disc", ("ts",)),
    ("approx_quantile", ("n",)),
    ("approx_top_k", ("x",)),
    ("approx_top_k", ("n",)),
)
CONSTANTS = {"quantile": 0.5, "quantile_disc": 0.25, "approx_quantile": 0.9, "approx_top_k": 2}
INPUTS = ("x", "n", "v", "b", "k", "ts")


def specs(aggregates: Sequence[tuple[str, tuple[str, ...]]]) -> list[AggregateSpec]:
    return [
        AggregateSpec(
            function,
            tuple(INPUTS.index(name) for name in names),
            tuple(SCHEMA[name].type for name in names),
            mask=0 if place % 3 == 2 else None,
            constant=CONSTANTS.get(function),
        )
        for place, (function, names) in enumerate(aggregates)
    ]


AGGREGATES = {
    "numbers": specs(NUMBERS_OF),
    "picks": specs(PICKS),
    "sets": specs(SETS),
    "sketches": specs(SKETCHES),
    "python": [
        AggregateSpec("mine", (1,), (DataType.INT64,), python=Sum, returns=DataType.INT64),
        AggregateSpec("count", (), ()),
        AggregateSpec(
            "other", (1, 0), (DataType.INT64, DataType.STRING), 0, python=Trace, returns=DataType.STRING
        ),
    ],
}


def windowed(make: Callable[..., Operator], keys: Sequence[str], aggregates: str, **more: Any) -> Operator:
    """A window operator over these keys with a set of aggregates."""

    found = AGGREGATES[aggregates]
    names = [f"a{place}" for place in range(len(found))]
    prepare = partial(prepared_of, keys=keys)
    return make(keys=SCHEMA.select(keys), aggregates=found, names=names, prepare=prepare, **more)


def prepared_of(batch: Batch, losses: dict[str, int], keys: Sequence[str]) -> Prepared:
    return Prepared(
        tuple(batch.column(name) for name in keys),
        tuple(batch.column(name) for name in INPUTS),
        (_positive(batch, losses),),
    )


WINDOWS: dict[str, Callable[..., Operator]] = {
    "tumbling": partial(WindowOperator, size_ns=10),
    "hopping": partial(WindowOperator, size_ns=10, every_ns=4, offset_ns=3),
    "all": partial(WindowOperator, size_ns=None),
    "per message": partial(WindowOperator, size_ns=None, per_message=True),
    "sessions": partial(SessionOperator, gap_ns=4),
    "counts": partial(CountWindowOperator, size=3),
    "revised": partial(RevisedWindowOperator, lattice=WindowLattice(10, 10), lateness_ns=8),
    "revised hopping": partial(
        RevisedWindowOperator, lattice=WindowLattice(10, 4, 1), lateness_ns=6, emit_every_ns=3
    ),
    "revised by the stage": partial(
        RevisedWindowOperator, lattice=WindowLattice(8, 4), lateness_ns=8, by_rows=False
    ),
    "emitted early": partial(RevisedWindowOperator, lattice=WindowLattice(12, 12), emit_every_ns=5),
    "growing": partial(RevisedWindowOperator, lattice=WindowLattice(12, 4, growing=True), revisions=False),
    "growing revised": partial(
        RevisedWindowOperator, lattice=WindowLattice(12, 4, growing=True), lateness_ns=5
    ),
}


def window_cases() -> list[Case]:
    return [
        Case(f"{name} {keys} {aggregates}", partial(windowed, make, [*keys], aggregates))
        for name, make in WINDOWS.items()
        for place, aggregates in enumerate(AGGREGATES)
        for keys in (("k", "kn")[place % 2], *([""] if aggregates == "numbers" else []))
    ]


PARTED = ("tumbling", "hopping", "sessions")


def in_parts(make: Callable[..., Operator], keys: Sequence[str], aggregates: str, parts: int = 4) -> Parted:
    """The same in parts."""
    places = (1, 0, *range(2, 2 + len(keys)))
    kinds = [SCHEMA[name].type.value for name in keys]

    def part() -> Part:
        made = windowed(make, keys, aggregates)
        assert isinstance(made, Part)
        return made

    return Parted(
        part,
        parts,
        prepare=partial(prepared_of, keys=keys),
        key_kinds=kinds,
        kinds=["timestamp", "timestamp", *kinds],
        order=lambda batch: [raw_column(batch.columns[place]) for place in places],
    )


def parted_cases() -> list[Case]:
    return [
        Case(f"parts of {name} {keys} {aggregates}", partial(in_parts, WINDOWS[name], [*keys], aggregates))
        for name in PARTED
        for place, aggregates in enumerate(AGGREGATES)
        for keys in (("k", "kn")[place % 2],)
        if aggregates != "python"
    ]


def make_projected(**more: Any) -> Operator:
    """Arithmetic over the aggregates of a window, as a plan has it."""
    aggregates = (("d", parse_expression("sum(n) - count(*)")), ("m", parse_expression("max(v) / 2")))
    stage = Window("w", ("in",), Tumbling(10), (("k", parse_expression("k")),), aggregates)
    return window_builder.operator(stage, SCHEMA, **more)


def make_retimed() -> Operator:
    """Other times, without any where ``b`` is null."""

    def evaluate(batch: Batch, _: dict[str, int]) -> tuple[Column, ...]:
        assert batch.time is not None
        times = FixedColumn(batch.time + 2, batch.column("b").valid)
        return (times, *batch.columns[1:])

    retiming = Retiming((TimeColumn("ts", 0),), 3, lambda: 100, moved=True)
    return RetimedDerive(DeriveOperator(SCHEMA, evaluate), retiming)


MAPPED = Schema.of([("rows", DataType.INT64), ("text", DataType.STRING)])


def make_map(**more: Any) -> MapOperator:
    """A function of the user's that fails for some batches and makes columns of its own."""

    async def function(batch: Batch) -> dict[str, Any] | None:
        if batch.num_rows == 3:
            raise ValueError("three")
        return {"rows": batch["ts"].astype(np.int64), "text": batch["x"]}

    stage = MapBatches("m", ("in",), function, on_error="reject", **more)
    return MapOperator(stage, None, False, SCHEMA)


def map_steps(chance: np.random.Generator) -> list[Step]:
    source = Source(chance)
    return [("process_async", source.batch()) for _ in range(10)]


# joins

RIGHT = Schema.of(
    [("k", DataType.STRING), ("ts", DataType.TIMESTAMP), ("b", DataType.BOOL), ("x", DataType.STRING)]
)
BY_NUMBER = Schema.of([("n", DataType.INT64), ("ts", DataType.TIMESTAMP), ("x", DataType.STRING)])
JOINS: dict[str, dict[str, Any]] = {
    "interval": {"within_ns": (-6, 4)},
    "interval in parts": {"within_ns": (-6, 4), "parts": 4},
    "as of backward": {"as_of": "backward", "tolerance_ns": 9},
    "as of forward": {"as_of": "forward", "tolerance_ns": 9},
    "as of nearest": {"as_of": "nearest", "tolerance_ns": 7},
    "as of without limit": {"as_of": "backward"},
    "window": {"window": Tumbling(10)},
    "window hopping": {"window": Hopping(10, 4)},
    "lookup": {},
}
KINDS = ("inner", "left", "right", "full", "semi", "anti")


def make_join(kind: str, on: Sequence[str], right: Schema, parts: int = 1, **more: Any) -> TwoInputOperator:
    stage = Join("j", ("l", "r"), kind=kind, on=tuple((name, name) for name in on), **more)
    return join_builder.operator(stage, SCHEMA, right, parts=parts)


def join_steps(right_schema: Schema, chance: np.random.Generator) -> list[Step]:
    left, right = Source(chance), Source(chance, right_schema)
    sources, told = (left, right), NO_TIME
    steps: list[Step] = []
    for _ in range(16):
        if chance.random() < 0.7:
            port = int(chance.integers(0, 2))
            steps.append(("process", port, sources[port].batch()))
        elif (reached := min(left.watermark, right.watermark)) > told:
            told = reached
            steps.append(("advance", told))
    return [*steps, *(("finish", port) for port in chance.permutation(2).tolist())]


def lookup_steps(right_schema: Schema, chance: np.random.Generator) -> list[Step]:
    left, right = Source(chance), Source(chance, right_schema)
    steps: list[Step] = [("process", 1, right.batch()) for _ in range(4)]
    steps.append(("finish", 1))
    for _ in range(8):
        steps.append(("process", 0, left.batch()))
        if chance.random() < 0.4:
            steps.append(("advance", left.watermark))
    return [*steps, ("finish", 0)]


def join_cases() -> list[Case]:
    cases = []
    for name, more in JOINS.items():
        for kind in KINDS:
            if name == "as of without limit" and kind in ("right", "full"):
                continue
            steps = lookup_steps if name == "lookup" else join_steps
            for on, right in ((("k",), RIGHT), (("n",), BY_NUMBER), (("k", "b"), RIGHT)):
                if len(on) == 1 or kind == "full":
                    make = partial(make_join, kind, on, right, **more)
                    cases.append(Case(f"{name} {kind} {on}", make, partial(steps, right)))
    return cases


CASES = [
    *window_cases(),
    *parted_cases(),
    *join_cases(),
    Case("map", make_map, map_steps),
    Case("map with a schema", partial(make_map, schema=MAPPED), map_steps),
    Case("projected", make_projected),
    Case("projected parts", partial(make_projected, parts=8)),
    Case("retimed", make_retimed),
    Case("filter", lambda: FilterOperator(_positive, SCHEMA)),
    Case("derive", make_derive),
    Case("top", partial(make_top, size_ns=10)),
    Case("top hopping", partial(make_top, size_ns=10, every_ns=4, offset_ns=3)),
    Case("top over all", make_top),
    Case("top of given windows", partial(make_top, end_column="ts")),
    Case("parts of top", partial(make_top, 4, size_ns=10)),
    Case("parts of top hopping", partial(make_top, 2, ("k", "n"), size_ns=10, every_ns=4, offset_ns=3)),
    Case("parts of top over all", partial(make_top, 4)),
    Case("parts of top of given windows", partial(make_top, 8, end_column="ts")),
    Case("dedup", partial(make_dedup, ["k"])),
    Case("parts of dedup", make_parted_dedup),
    Case("dedup by several", partial(make_dedup, ["n", "k", "v"])),
    Case("dedup by nothing", partial(make_dedup, [])),
    Case("sequence", lambda: SequenceOperator(SCHEMA, ["k", "n"]), sequence_steps),
    Case("sequence by time", lambda: SequenceOperator(SCHEMA), sequence_steps),
    Case("merge", lambda: InStepMerge(3, 5, {0, 2}), merge_steps),
]
