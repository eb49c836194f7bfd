"""Stages to operators: rows, watermarks, counts and schemas; what is computed once; how windows are taken apart."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from asyncflow.doors.expressions.expression_text import parse_expression
from asyncflow.model.batch import Batch
from asyncflow.model.columns import Column, FixedColumn, StringColumn, column_from_values
from asyncflow.model.schema import DataType, Schema
from asyncflow.operators.filter import FilterOperator
from asyncflow.operators.functions.named import FUNCTIONS
from asyncflow.operators.windows.window import WindowOperator
from asyncflow.plan.expressions.problems import ExpressionError
from asyncflow.plan.stages.derive import Derive
from asyncflow.plan.stages.filter import Filter
from asyncflow.plan.stages.unreadable import Unreadable
from asyncflow.plan.stages.window import Window
from asyncflow.plan.windows import AllRows, Hopping, PerMessage, Tumbling, WindowShape
from asyncflow.runtime.wiring.builders import builder_of
from asyncflow.runtime.wiring.builders.window import ProjectedWindow
from asyncflow.runtime.wiring.compile_expressions import compile_expression, compile_predicate
from tests.operators_of import operator_of

INT64, FLOAT64, STRING, BOOL = DataType.INT64, DataType.FLOAT64, DataType.STRING, DataType.BOOL
SCHEMA = Schema.of([("i", INT64), ("f", FLOAT64), ("s", STRING), ("b", BOOL)])
GREATEST = 2**63 - 1


def batch_of(*rows: tuple[Any, ...], time: list[int] | None = None) -> Batch:
    columns = tuple(
        column_from_values(field.type, [row[k] for row in rows]) for k, field in enumerate(SCHEMA)
    )
    return Batch(SCHEMA, columns, len(rows), None if time is None else np.array(time), delay_ns=5)


ROWS = [(1, 0.5, "x", True), (2, None, None, None), (None, 2.0, "y", False), (4, -1.0, "x", True)]


def compute(text: str, batch: Batch, losses: dict[str, int] | None = None) -> Column:
    return compile_expression(parse_expression(text), batch.schema, losses)(batch)


def listed(column: Column) -> list[Any]:
    if isinstance(column, StringColumn):
        return column.to_list()
    valid = np.ones(len(column), np.bool_) if column.valid is None else column.valid
    return [value if ok else None for value, ok in zip(column.values.tolist(), valid, strict=True)]


# -- expressions -----------------------------------------------------------------------------------------------------


def test_a_plain_column_is_not_copied() -> None:
    batch = batch_of(*ROWS)
    assert compute("s", batch) is batch.columns[2]
    assert compute("i", batch) is batch.columns[0]


@pytest.mark.parametrize("rows", [0, 1, 3])
def test_constants_are_spread_over_the_rows(rows: int) -> None:
    batch = batch_of(*ROWS[:rows])
    assert listed(compute("1 + 1", batch)) == [2] * rows
    assert listed(compute("'a' || 'b'", batch)) == ["ab"] * rows
    assert listed(compute("CAST(NULL AS string)", batch)) == [None] * rows
    assert listed(compute("CASE WHEN TRUE THEN upper('a') END", batch)) == ["A"] * rows
    assert compile_predicate(parse_expression("1 < 2"), SCHEMA)(batch, {}).tolist() == [True] * rows


def test_columns_keep_their_invariants() -> None:
    """What leaves is contiguous, has ``valid`` only where a row is null, and null texts of length 0."""
    batch = batch_of(*ROWS)
    for text in (
        "i + 1",
        "CASE WHEN b THEN s ELSE 'z' END",
        "coalesce(s, 'none')",
        "nullif(s, 'x')",
        "s || i",
        "1",
        "b AND TRUE",
    ):
        column = compute(text, batch)
        if column.valid is not None:
            assert not column.valid.all(), text
            assert column.valid.flags.c_contiguous
        if isinstance(column, StringColumn):
            assert column.starts.flags.c_contiguous
            assert column.lengths.flags.c_contiguous
            assert column.starts.dtype == column.lengths.dtype == np.int32
            if column.valid is not None:
                assert not column.lengths[~column.valid].any()
        else:
            assert column.values.flags.c_contiguous


def test_inputs_are_never_written_to() -> None:
    batch = batch_of(*ROWS)
    for column in batch.columns:
        for array in (column.values,) if isinstance(column, FixedColumn) else (column.starts, column.lengths):
            array.flags.writeable = False
    for text in (
        "i * 2 + i % 3",
        "round(f, 1)",
        "greatest(i, 3)",
        "coalesce(f, 0) / i",
        "upper(s) || lower(s)",
        "NOT b OR i > 1",
    ):
        compute(text, batch)
    assert batch.to_pylist()[0] == {"i": 1, "f": 0.5, "s": "x", "b": True}


def test_common_parts_are_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    original = FUNCTIONS["upper"]
    monkeypatch.setitem(FUNCTIONS, "upper", lambda column: (calls.append(1), original(column))[1])
    stage = Derive(
        "d",
        ("t",),
        (("u", parse_expression("upper(s) || upper(s)")), ("v", parse_expression("length(upper(s))"))),
    )
    (output,) = operator_of(stage, SCHEMA).process(batch_of(*ROWS))
    assert len(calls) == 1
    assert [row["u"] for row in output.batch.to_pylist()] == ["XX", None, "YY", "XX"]


def test_constant_calls_are_computed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    original = FUNCTIONS["upper"]
    monkeypatch.setitem(FUNCTIONS, "upper", lambda column: (calls.append(1), original(column))[1])
    compiled = compile_expression(parse_expression("s = upper('x')"), SCHEMA)
    for _ in range(3):
        compiled(batch_of(*ROWS))
    assert len(calls) == 1


def test_overflow_is_null_and_counted_for_every_row() -> None:
    losses: dict[str, int] = {}
    batch = batch_of((GREATEST, None, None, True), (1, None, None, True), (None, None, None, True))
    assert listed(compute("i + 1", batch, losses)) == [None, 2, None]
    assert losses == {"overflow": 1}
    assert listed(compute(f"{GREATEST} + 1", batch, losses)) == [None] * 3
    assert losses == {"overflow": 4}
    assert listed(compute("CAST('x' AS int64)", batch, losses)) == [None] * 3
    assert losses == {"overflow": 4, "invalid_cast": 3}


def test_what_a_branch_not_taken_loses_is_not_counted() -> None:
    losses: dict[str, int] = {}
    batch = batch_of((GREATEST, None, "7", True), (1, None, "x", False), (None, None, None, None))
    assert listed(compute("CASE WHEN i < 10 THEN i + 1 ELSE 0 END", batch, losses)) == [0, 2, 0]
    assert listed(compute("CASE WHEN b THEN CAST(s AS int64) WHEN i + 1 > 0 THEN 5 END", batch, losses)) == [
        7,
        5,
        None,
    ]
    assert losses == {}
    assert listed(compute("CASE WHEN b THEN i + 1 END", batch, losses)) == [None, None, None]
    assert losses == {"overflow": 1}
    assert listed(compute("CASE WHEN TRUE THEN i + 1 ELSE i - 1 END", batch_of(), losses)) == []


def test_a_wide_or_is_fine() -> None:
    text = " OR ".join(f"i = {n}" for n in range(500))
    assert listed(compute(text, batch_of(*ROWS))) == [True, True, None, True]


def test_null_is_not_true() -> None:
    predicate = compile_predicate(parse_expression("f > 0 OR b"), SCHEMA)
    assert predicate(batch_of(*ROWS), {}).tolist() == [True, False, True, True]
    with pytest.raises(TypeError, match="a condition is a bool, not int64"):
        compile_predicate(parse_expression("i"), SCHEMA)


# -- filter and derive -----------------------------------------------------------------------------------------------


def test_filter_keeps_each_rows_watermark() -> None:
    operator = operator_of(Filter("f", ("t",), parse_expression("b")), SCHEMA)
    assert isinstance(operator, FilterOperator)
    assert operator.output == SCHEMA
    batch = batch_of(*ROWS, time=[10, 100, 20, 30])
    (output,) = operator.process(batch)
    assert [row["i"] for row in output.batch.to_pylist()] == [1, 4]
    assert output.batch.row_watermarks().tolist() == [batch.row_watermarks()[0], 95]
    assert operator.counts == {"filtered": 2}


def test_filter_of_all_or_nothing() -> None:
    operator = operator_of(Filter("f", ("t",), parse_expression("i > 0")), SCHEMA)
    batch = batch_of(ROWS[0], ROWS[1])
    (output,) = operator.process(batch)
    assert output.batch is batch
    assert operator.process(batch_of(ROWS[2])) == []
    assert operator.process(batch_of()) == []
    assert operator.counts == {"filtered": 1}


def test_filter_counts_overflow_beside() -> None:
    operator = operator_of(Filter("f", ("t",), parse_expression("i * 2 > 0")), SCHEMA)
    operator.process(batch_of((GREATEST, None, None, None), ROWS[0]))
    assert operator.counts == {"filtered": 1, "overflow": 1}


def test_derive_replaces_in_place_and_sees_the_input_only() -> None:
    columns = (
        ("s", parse_expression("upper(s)")),
        ("t", parse_expression("s || i")),
        ("i", parse_expression("i / 2")),
    )
    stage = Derive("d", ("t",), columns)
    operator = operator_of(stage, SCHEMA)
    assert operator.output == stage.output((SCHEMA,))  # type: ignore[attr-defined]
    batch = batch_of(*ROWS, time=[1, 2, 3, 4])
    (output,) = operator.process(batch)
    assert output.batch.schema.names == ("i", "f", "s", "b", "t")
    assert output.batch.to_pylist()[0] == {"i": 0.5, "f": 0.5, "s": "X", "b": True, "t": "x1"}
    assert output.batch.columns[1] is batch.columns[1]
    assert output.batch.time is batch.time
    assert operator.process(batch_of()) == []


def test_stages_that_do_not_check_are_errors() -> None:
    with pytest.raises(ExpressionError, match="there is no column 'k'"):
        operator_of(Filter("f", ("t",), parse_expression("k > 1")), SCHEMA)
    with pytest.raises(TypeError, match="'unreadable' cannot be built: a door could not read"):
        builder_of(Unreadable("m", ("t",)).type)


# -- windows ---------------------------------------------------------------------------------------------------------


def window(shape: WindowShape, by: dict[str, str], aggregates: dict[str, str]) -> Window:
    return Window(
        "w",
        ("t",),
        shape,
        tuple((name, parse_expression(text)) for name, text in by.items()),
        tuple((name, parse_expression(text)) for name, text in aggregates.items()),
    )


def run(stage: Window, *batches: Batch) -> tuple[list[dict[str, Any]], Any]:
    operator = operator_of(stage, SCHEMA)
    outputs = [output for batch in batches for output in operator.process(batch)] + [*operator.finish()]
    for output in outputs:
        if not output.kind:
            assert output.batch.schema == operator.output  # type: ignore[attr-defined]
    assert operator.output == stage.output((SCHEMA,))  # type: ignore[attr-defined]
    return [row for output in outputs if not output.kind for row in output.batch.to_pylist()], operator


def test_plain_aggregates_need_no_projection() -> None:
    rows, operator = run(
        window(Tumbling(10), {"s": "s"}, {"n": "count(*)", "total": "sum(f)"}),
        batch_of(*ROWS, time=[1, 2, 3, 4]),
    )
    assert isinstance(operator, WindowOperator)
    bounds = {"window_start": 0, "window_end": 10}
    assert rows == [
        {**bounds, "s": "x", "n": 2, "total": -0.5},
        {**bounds, "s": "y", "n": 1, "total": 2.0},
        {**bounds, "s": None, "n": 1, "total": None},
    ]


def test_arithmetic_over_aggregates() -> None:
    rows, operator = run(
        window(
            Tumbling(10),
            {"key": "coalesce(upper(s), '-')"},
            {
                "weighted": "sum(i * f) / sum(f)",
                "n": "count(*)",
                "big": "count(*) FILTER (WHERE i > 1)",
                "share": "count(*) FILTER (WHERE i > 1) / count(*)",
                "kinds": "count(DISTINCT b)",
                "label": "'n=' || count(*)",
                "one": "1",
            },
        ),
        batch_of(*ROWS, time=[1, 2, 3, 4]),
    )
    assert isinstance(operator, ProjectedWindow)
    bounds = {"window_start": 0, "window_end": 10}
    assert rows == [
        {
            **bounds,
            "key": "-",
            "weighted": None,
            "n": 1,
            "big": 1,
            "share": 1.0,
            "kinds": 0,
            "label": "n=1",
            "one": 1,
        },
        {
            **bounds,
            "key": "X",
            "weighted": 7.0,
            "n": 2,
            "big": 1,
            "share": 0.5,
            "kinds": 1,
            "label": "n=2",
            "one": 1,
        },
        {
            **bounds,
            "key": "Y",
            "weighted": None,
            "n": 1,
            "big": 0,
            "share": 0.0,
            "kinds": 1,
            "label": "n=1",
            "one": 1,
        },
    ]
    assert operator.open_windows == 0
    assert operator.state_bytes > 0


def test_equal_aggregates_and_arguments_are_held_once() -> None:
    stage = window(
        AllRows(),
        {"s": "s"},
        {
            "a": "sum(i + 1)",
            "b": "max(i + 1)",
            "c": "sum(i + 1) + 0",
            "d": "min(s)",
            "e": "sum(f) FILTER (WHERE b)",
        },
    )
    operator = operator_of(stage, SCHEMA)
    assert isinstance(operator, ProjectedWindow)
    prepared = operator._window._prepare(batch := batch_of(*ROWS), {})
    assert [len(part) for part in (prepared.keys, prepared.inputs, prepared.masks)] == [1, 3, 1]
    assert prepared.keys[0] is batch.columns[2]
    assert prepared.inputs[1] is batch.columns[2]
    assert prepared.masks[0].tolist() == [True, False, False, True]
    assert len(operator._window.output) == 1 + 4


@pytest.mark.parametrize("shape", [Tumbling(10, 3), Hopping(10, 4), AllRows(), PerMessage()])
def test_every_shape(shape: WindowShape) -> None:
    rows, _ = run(
        window(shape, {}, {"n": "count(*)", "m": "max(i) + 1"}), batch_of(*ROWS, time=[1, 2, 3, 14])
    )
    assert sum(row["n"] for row in rows) >= 4
    assert ("window_start" in rows[0]) == isinstance(shape, Tumbling | Hopping)
    assert max(row["m"] or 0 for row in rows) == 5


def test_late_rows_pass_with_the_columns_of_the_input() -> None:
    operator = operator_of(window(Tumbling(10), {}, {"m": "max(i) * 2"}), SCHEMA)
    outputs = operator.process(batch_of(*ROWS, time=[1, 100, 2, 101]))
    late = [output for output in outputs if output.kind == "late"]
    assert [output.batch.to_pylist() for output in late] == [[{"i": None, "f": 2.0, "s": "y", "b": False}]]
    assert operator.counts["late"] == 1


def test_losses_before_and_after_the_windows_are_counted() -> None:
    rows, operator = run(
        window(AllRows(), {}, {"n": "count(i + 1)", "m": "max(i) + 1"}),
        batch_of((GREATEST, None, None, None), ROWS[0]),
    )
    assert rows == [{"n": 1, "m": None}]
    assert operator.counts["overflow"] == 2
