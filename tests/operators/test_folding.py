"""Blocks added up before their turn: the same rows, counts and saved states as of rows that are taken one by one."""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from asyncflow.model.batch import NO_TIME, Batch
from asyncflow.model.columns import column_from_values
from asyncflow.model.schema import DataType
from asyncflow.model.snapshot import saved
from asyncflow.operators.aggregates.table import AggregateSpec
from asyncflow.operators.parts.part import Prepared
from asyncflow.operators.parts.parted import Parted, Summed
from asyncflow.operators.raw import raw_column
from asyncflow.operators.windows import folding
from asyncflow.operators.windows.folding import Folded, Folding
from asyncflow.operators.windows.window import WindowOperator
from tests.operators.state_cases import SCHEMA, one_input, outputs_of

KEYS = ("k", "b", "v")
APART = (
    AggregateSpec("count", (), ()),
    AggregateSpec("sum", (0,), (DataType.INT64,), 0),
    AggregateSpec("sum", (1,), (DataType.FLOAT64,)),
    AggregateSpec("stddev", (1,), (DataType.FLOAT64,)),
    AggregateSpec("first", (2,), (DataType.STRING,), 0),
    AggregateSpec("last", (1,), (DataType.FLOAT64,)),
    AggregateSpec("arg_max", (2, 1), (DataType.STRING, DataType.FLOAT64)),
    AggregateSpec("approx_count_distinct", (2,), (DataType.STRING,)),
    AggregateSpec("approx_quantile", (1,), (DataType.FLOAT64,), None, 0.5),
)
SHAPES: dict[str, dict[str, Any]] = {
    "tumbling": {"size_ns": 10},
    "hopping": {"size_ns": 10, "every_ns": 4, "offset_ns": 3},
    "all": {"size_ns": None},
}


def prepare(batch: Batch, losses: dict[str, int], keys: int) -> Prepared:
    losses["overflow"] = losses.get("overflow", 0) + batch.num_rows
    mask = np.ones(batch.num_rows, np.bool_) if batch.column("b").valid is None else batch.column("b").valid
    assert mask is not None
    columns = tuple(batch.column(name) for name in ("n", "v", "x"))
    return Prepared(tuple(batch.column(name) for name in KEYS[:keys]), columns, (mask,))


def operator(shape: str, keys: int, aggregates: tuple[AggregateSpec, ...] = APART, parts: int = 1) -> Any:
    names = SCHEMA.select(KEYS[:keys])
    prepared = partial(prepare, keys=keys)
    make = partial(
        WindowOperator,
        keys=names,
        aggregates=aggregates,
        names=[f"a{place}" for place in range(len(aggregates))],
        prepare=prepared,
        **SHAPES[shape],
    )
    if parts == 1:
        return make()
    kinds = [field.type.value for field in names]
    return Parted(
        make,
        parts,
        prepare=prepared,
        key_kinds=kinds,
        kinds=["timestamp", "timestamp", *kinds],
        order=lambda batch: [raw_column(batch.columns[place]) for place in (1, 0, *range(2, 2 + keys))],
    )


def stands(each: Any, *, whole: bool = True) -> Any:
    """How it stands; ``whole``: with its saved state, before which keys are forgotten."""
    due = each.next_due_ns, each.open_windows, each.waiting_rows, dict(each.counts)
    if not whole:
        return due
    frozen = saved(each.freeze())
    parts = {name: (part.dtype.str, part.tobytes()) for name, part in frozen.parts.items()}
    return due, frozen.fields, parts


def block_of(times: np.ndarray[Any, Any], keys: list[str | None]) -> Batch:
    """Rows of these times and keys, and some values, that come by a delay that makes none of them late."""
    chance, rows = np.random.default_rng(len(times)), len(times)
    made = [times.tolist(), keys, [1] * rows, chance.normal(size=rows).tolist(), [True] * rows, ["x"] * rows]
    columns = tuple(column_from_values(field.type, some) for field, some in zip(SCHEMA, made, strict=True))
    return Batch(SCHEMA, columns, rows, times, None, NO_TIME, 10**9)


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every block is folded that may be."""
    monkeypatch.setattr(folding, "FEWEST_ROWS", 1)
    monkeypatch.setattr(folding, "ROWS_A_CELL", 1)
    monkeypatch.setattr(folding, "TRIED_AGAIN", 0)


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("keys", [0, 1, 3])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("parts", [1, 4])
def test_what_comes_of_folded_blocks(shape: str, keys: int, parts: int) -> None:
    if parts > 1 and (shape == "all" or not keys):
        return  # such windows are not cut
    ways: Counter[str] = Counter()
    for seed in range(60):
        plain, folds = operator(shape, keys), operator(shape, keys, parts=parts)
        for step in one_input(np.random.default_rng(seed)):
            made, late = step, lost(folds)
            if step[0] == "process":
                made = step[0], ahead_of(folds, step[1], timed=shape != "all" or seed % 2 == 0)
            assert outputs_of(folds, made) == outputs_of(plain, step)
            assert stands(folds, whole=seed % 3 == 0) == stands(plain, whole=seed % 3 == 0)
            if step[0] == "process":
                folded = isinstance(made[1].ahead.made, Folded | Summed)
                ways["late" if lost(folds) > late else "folded" if folded else "rows"] += 1
        assert stands(folds) == stands(plain)
    assert ways["folded"] > 30
    assert shape == "all" or ways["late"] > 30


def ahead_of(each: Any, batch: Batch, *, timed: bool) -> Batch:
    """The batch with what is made of it by one who knows neither the watermark before it nor, perhaps, its times."""
    unknown = replace(batch, watermark_before=NO_TIME, time=batch.time if timed else None)
    return replace(batch, ahead=each.ahead(unknown).settled(batch.watermark_before))


def lost(each: Any) -> int:
    return each.counts["late"] + each.counts["late_partly"]


@pytest.mark.usefixtures("eager")
def test_one_hot_key_and_late_rows_among_many() -> None:
    """Blocks as they are in a run, of which every tenth has a late row: those are taken row by row, all others as they were added up."""
    chance = np.random.default_rng(3)
    plain, folds = operator("hopping", 1), operator("hopping", 1)
    taken: list[bool] = []
    absorbs = folds.absorbs
    folds.absorbs = lambda *arguments: taken.append(absorbs(*arguments)) or taken[-1]
    watermark = NO_TIME
    for block in range(60):
        times = np.sort(chance.integers(block * 4, block * 4 + 6, 3000))
        if block % 10 == 9:
            times[1500] = 0
        batch = block_of(times, ["hot"] * 2990 + [None] * 5 + ["cold"] * 5)
        batch = replace(batch, delay_ns=6, watermark_before=watermark)
        ahead = folds.ahead(replace(batch, watermark_before=NO_TIME))
        assert isinstance(ahead.made, Folded) == (block % 10 != 9)
        step = ("process", replace(batch, ahead=ahead))
        assert outputs_of(folds, step) == outputs_of(plain, ("process", batch))
        watermark = max(watermark, int(times.max()) - 6)
        assert outputs_of(folds, ("advance", watermark)) == outputs_of(plain, ("advance", watermark))
        assert stands(folds) == stands(plain)
    assert taken == [True] * 54
    assert folds.counts["late"] == 6


def test_folding_is_left_alone_where_it_is_of_no_use() -> None:
    """Many keys, few rows, a time that is not known, aggregates that mind the order, a block of many cells, and for a while after that."""

    def block(keys: int, rows: int = 4096) -> Batch:
        return block_of(np.arange(rows), [f"key{number % keys}" for number in range(rows)])

    def folded(each: Any, batch: Batch) -> bool:
        return isinstance(each.ahead(batch).made, Folded)

    assert folded(operator("all", 1), block(200))
    assert not folded(operator("all", 1), block(300))
    assert not folded(operator("all", 1), block(2, 500))
    assert not folded(operator("all", 1), replace(block(2), time=None))
    assert folded(operator("all", 1, APART[:4]), replace(block(2), time=None))
    assert not Folding.possible((AggregateSpec("quantile", (1,), (DataType.FLOAT64,), None, 0.5),))
    held = operator("all", 1)
    held.process(block(300))
    assert not folded(held, block(2))
    tumbling = operator("tumbling", 1)
    assert not folded(tumbling, block(2))  # 800 cells
    assert [folded(tumbling, replace(block(2), time=np.zeros(4096, np.int64))) for _ in range(34)] == [False] * 32 + [True] * 2  # fmt: skip
