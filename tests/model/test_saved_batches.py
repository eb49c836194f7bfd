"""Batches and columns inside a state: what is restored equals what was saved, and what does not fit is named."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from asyncflow.errors import TooLargeError
from asyncflow.model import columns as model_columns
from asyncflow.model import saved_batches
from asyncflow.model.batch import NO_TIME, Batch
from asyncflow.model.columns import FixedColumn, StringColumn, column_from_values
from asyncflow.model.saved_batches import column_parts, frozen_batches, restored_batches, restored_columns
from asyncflow.model.schema import DataType, Field, Schema
from asyncflow.model.snapshot import Saved, saved

VALUES: dict[DataType, st.SearchStrategy[Any]] = {
    DataType.BOOL: st.booleans(),
    DataType.INT64: st.integers(-(2**63), 2**63 - 1),
    DataType.FLOAT64: st.floats(),
    DataType.STRING: st.text(max_size=8),
    DataType.TIMESTAMP: st.integers(-(2**63), 2**63 - 1),
}
SCHEMA = Schema((*(Field(type_.value, type_) for type_ in DataType), Field("at", DataType.TIMESTAMP, "ms")))


@st.composite
def batches(draw: st.DrawFn) -> list[Batch]:
    """Batches of one table; cut out of a greater one, so that texts are views of bytes that others view too."""
    rows = draw(st.integers(0, 12))
    timed = draw(st.booleans())
    columns = []
    for field in SCHEMA:
        values = VALUES[field.type]
        column = st.lists(
            st.one_of(st.none(), values) if draw(st.booleans()) else values, min_size=rows, max_size=rows
        )
        columns.append(column_from_values(field.type, draw(column)))
    times = draw(st.lists(st.integers(-50, 50), min_size=rows, max_size=rows))
    whole = Batch(SCHEMA, tuple(columns), rows, np.array(times, np.int64) if timed else None)
    places = draw(st.lists(st.integers(0, max(rows - 1, 0)), max_size=20)) if rows else []
    whole = replace(
        whole.take(np.array(places, np.intp)), watermark_before=draw(st.integers(-9, 9)), delay_ns=3
    )
    cuts = sorted({0, len(places), *draw(st.lists(st.integers(0, len(places)), max_size=3))})
    return [whole.slice(*cut) for cut in pairwise(cuts)]


def bits(batch: Batch) -> list[Any]:
    """All of a batch, floats by their bits; of a null only that it is one."""
    columns = [
        (field.name, field.type) for field in batch.schema
    ]  # a unit is the source's: times are ns here
    found: list[Any] = [columns, batch.num_rows, batch.watermark_before, batch.delay_ns]
    found.append(None if batch.time is None else (batch.time.tolist(), batch.row_watermarks().tolist()))
    for column in batch.columns:
        if isinstance(column, StringColumn):
            found.append(column.to_list())
            continue
        words = column.values if column.values.dtype == np.bool_ else column.values.view(np.int64)
        valid = np.ones(len(words), np.bool_) if column.valid is None else column.valid
        found.append([word if ok else None for word, ok in zip(words.tolist(), valid.tolist(), strict=True)])
    return found


def same(one: Saved, other: Saved) -> bool:
    return one.fields == other.fields and {
        name: (part.dtype, part.tobytes()) for name, part in one.parts.items()
    } == {name: (part.dtype, part.tobytes()) for name, part in other.parts.items()}


@settings(deadline=None)
@given(batches())
def test_batches_come_back(given_: list[Batch]) -> None:
    state = saved(frozen_batches(given_))
    found = restored_batches(state)
    assert [bits(batch) for batch in found] == [bits(batch) for batch in given_]
    for batch in found:
        batch.check()
    assert same(saved(frozen_batches(found)), state)


def test_equal_batches_have_equal_parts_whatever_lies_under_a_null() -> None:
    schema = Schema.of([("n", DataType.FLOAT64), ("s", DataType.STRING)])
    valid = np.array([True, False])

    def batch(under: float, text: str) -> Batch:
        strings = StringColumn.from_values(["a", text])
        columns = (
            FixedColumn(np.array([math.nan, under]), valid),
            StringColumn(strings.data, strings.starts, strings.lengths, valid),
        )
        return Batch(schema, columns, 2)

    assert same(saved(frozen_batches([batch(1.5, "b")])), saved(frozen_batches([batch(-7.0, "xyz")])))
    all_valid = Batch(
        schema, (FixedColumn(np.zeros(1), np.ones(1, np.bool_)), StringColumn.from_values(["a"])), 1
    )
    without = replace(all_valid, columns=(FixedColumn(np.zeros(1)), all_valid.columns[1]))
    assert same(saved(frozen_batches([all_valid])), saved(frozen_batches([without])))


def test_a_later_write_does_not_show() -> None:
    values = np.array([1, 2])
    state = saved(
        frozen_batches([Batch(Schema.of([("n", DataType.INT64)]), (FixedColumn(values),), 2, values)])
    )
    values[:] = 9
    assert restored_batches(state)[0].to_pylist() == [{"n": 1}, {"n": 2}]
    assert restored_batches(state)[0].time is not None
    assert restored_batches(state)[0].row_watermarks().tolist() == [NO_TIME, 1]


def test_no_batches() -> None:
    assert restored_batches(saved(frozen_batches([]))) == []


def test_texts_beyond_the_limit_of_a_column(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that view the same text may have more of it together than a column holds."""
    monkeypatch.setattr(model_columns, "MAX_TEXT_BYTES", 64)
    monkeypatch.setattr(saved_batches, "MAX_TEXT_BYTES", 64)
    text = StringColumn.from_values(["ä" * 15, "b" * 20, None]).take(np.array([0, 1, 2, 0, 1, 0]))
    state = Saved({}, column_parts([text]))
    assert len(state.parts["0.bytes"]) == 3 * 30 + 2 * 20
    (found,) = restored_columns(state, [DataType.STRING], 6)
    assert isinstance(found, StringColumn)
    assert len(found.data) == 50
    assert found.to_list() == text.to_list()
    many = Saved(
        {},
        {"0.bytes": np.arange(65, 65 + 60, dtype=np.uint8).repeat(2), "0.lengths": np.full(60, 2, np.int32)},
    )
    with pytest.raises(TooLargeError):
        restored_columns(many, [DataType.STRING], 60)


GOOD = saved(
    frozen_batches(
        [
            Batch(
                Schema.of([("n", DataType.INT64), ("s", DataType.STRING), ("b", DataType.BOOL)]),
                (
                    FixedColumn(np.arange(2)),
                    StringColumn.from_values(["ü", None]),
                    FixedColumn(np.zeros(2, np.bool_)),
                ),
                2,
                np.arange(2),
            )
        ]
    )
)


@pytest.mark.parametrize(
    ("part", "data"),
    [
        ("0.values", None),
        ("0.values", np.arange(3)),
        ("0.values", np.zeros(2)),
        ("0.valid", np.zeros(3, np.bool_)),
        ("1.bytes", np.frombuffer(b"\xff\xff", np.uint8)),
        ("1.lengths", np.array([1, 0], np.int32)),
        ("1.lengths", np.array([3, -1], np.int32)),
        ("1.bytes", None),
        ("2.values", np.array([0, 2], np.uint8).view(np.bool_)),
        ("3.values", np.arange(2)),
        ("batch.rows", np.array([-1])),
        ("batch.rows", np.array([3])),
        ("batch.delay_ns", np.array([1, 1])),
        ("time", np.arange(1)),
        ("watermarks", None),
    ],
)
def test_a_part_that_does_not_fit_is_named(part: str, data: Any) -> None:
    parts = {name: array for name, array in GOOD.parts.items() if name != part}
    if data is not None:
        parts[part] = data
    with pytest.raises(ValueError, match=r"\d\.\w+|batch\.\w+|time|watermarks") as caught:
        restored_batches(Saved(GOOD.fields, parts))
    if part != "batch.rows":
        assert str(caught.value).startswith(part.split(".")[0])


@pytest.mark.parametrize(
    "fields",
    [{}, {"columns": 1}, {"columns": [["n"]]}, {"columns": [["n", "int65"]]}, {**GOOD.fields, "timed": 1}],
)
def test_a_field_that_does_not_fit_is_named(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"^columns: |^timed: "):
        restored_batches(Saved(fields, GOOD.parts))


def test_a_text_that_begins_within_a_character() -> None:
    """The bytes are UTF-8 all together, the texts are not."""
    parts = {**GOOD.parts, "1.lengths": np.array([1, 1], np.int32)}
    with pytest.raises(ValueError, match=r"1\.bytes"):
        restored_batches(Saved(GOOD.fields, parts))
