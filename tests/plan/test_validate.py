"""Rules of the plan itself; how they are told at the doors is in test_cli_broken."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from asyncflow.connectors.stdin import SourceOptions
from asyncflow.doors.expressions.expression_text import parse_expression
from asyncflow.model.schema import DataType, Schema
from asyncflow.plan.stages.derive import Derive
from asyncflow.plan.stages.filter import Filter
from asyncflow.plan.stages.join import Join
from asyncflow.plan.stages.top import Top
from asyncflow.plan.stages.window import Window
from asyncflow.plan.tables import Component, Plan, Sink, Source, Stage
from asyncflow.plan.validate import validate
from asyncflow.plan.windows import Cumulate, Hopping, Tumbling

COLUMNS = Schema.of([("ts", DataType.TIMESTAMP), ("key", DataType.STRING), ("x", DataType.INT64)])
A = Source("a", Component("stdin"), Component("csv"), COLUMNS, "ts")
B = Source("b", Component("file"), Component("csv"), COLUMNS, "ts")
KEEP = Filter("keep", ("a",), parse_expression("x > 0"))
COUNT = Window(
    "count",
    ("keep",),
    Tumbling(60),
    (("key", parse_expression("key")),),
    (("n", parse_expression("count(*)")),),
)
OUT = Sink("out", ("count",), Component("stdout"))
GOOD = Plan("p", (A, B), (KEEP, COUNT), (OUT,))


def told(plan: Plan, **options: object) -> list[str]:
    return [f"{problem.path}: {problem.message}" for problem in validate(plan, **options)]  # type: ignore[arg-type]


def test_a_good_plan_has_no_problems() -> None:
    assert told(GOOD) == []
    assert told(Plan("p", (A,))) == []


@pytest.mark.parametrize(
    ("stages", "path", "message"),
    [
        ((replace(KEEP, inputs=()),), "stages.keep.inputs", "no input"),
        ((replace(KEEP, inputs=("a", "a")),), "stages.keep.inputs", "twice"),
        ((replace(KEEP, inputs=("a.late",)),), "stages.keep.inputs", "no side output"),
        ((replace(KEEP, inputs=("keep",)),), "stages.keep.inputs", "reads itself"),
        (
            (replace(KEEP, inputs=("count.late",)), COUNT),
            "stages.keep.inputs",
            "reads itself, through count.late",
        ),
        ((KEEP, replace(COUNT, shape=Hopping(60, 0))), "stages.count.window.every", "longer than 0s"),
        ((KEEP, replace(COUNT, shape=Hopping(-60, 1))), "stages.count.window.hopping", "longer than 0s"),
        (
            (KEEP, replace(COUNT, shape=Hopping(100_001, 1))),
            "stages.count.window.every",
            "100,001 windows, one every 1ns",
        ),
        ((KEEP, replace(COUNT, shape=Cumulate(10**9, 1))), "stages.count.window.every", "more than 100,000"),
        ((Top("t", ("a",), 1, (), (), Hopping(10**9, 1)),), "stages.t.window.every", "more than 100,000"),
        (
            (Join("j", ("a", "b"), (("key", "key"),), window=Hopping(10**9, 1)),),
            "stages.j.window.every",
            "more than 100,000",
        ),
        ((KEEP, replace(COUNT, by=(), aggregates=())), "stages.count.aggregates", "nothing to compute"),
        ((KEEP, replace(COUNT, by=COUNT.by * 2)), "stages.count.by.key", "taken"),
        ((replace(KEEP, where=parse_expression("sum(x) > 1")),), "stages.keep.where", ""),
        ((Derive("d", ("a", "a.rejected"), (("y", parse_expression("x")),)),), "stages.d.inputs", "union"),
    ],
)
def test_rules(stages: tuple[Stage, ...], path: str, message: str) -> None:
    found = told(replace(GOOD, stages=stages, sinks=()))
    assert any(line.startswith(f"{path}: ") and message in line for line in found), found


def test_only_the_tables_in_a_cycle_are_blamed_for_it() -> None:
    loop = replace(KEEP, inputs=("count",))
    after = Filter("after", ("count",), parse_expression("n > 1"))
    found = told(Plan("p", (A,), (loop, COUNT, after), (replace(OUT, inputs=("after",)),)))
    assert [line.partition(":")[0] for line in found] == ["stages.keep.inputs", "stages.count.inputs"]


def test_standard_input_is_read_once() -> None:
    stdin = Component("stdin", SourceOptions())
    assert "standard input" in told(Plan("p", (replace(A, connector=stdin), replace(B, connector=stdin))))[0]


def test_types_of_a_union_are_compared_but_not_how_they_were_written() -> None:
    other = replace(
        B, schema=Schema.of([("ts", DataType.TIMESTAMP), ("key", DataType.STRING), ("x", DataType.FLOAT64)])
    )
    union = replace(KEEP, inputs=("a", "b"))
    assert told(Plan("p", (A, B), (union,))) == []
    assert "union" in told(Plan("p", (A, other), (union,)))[0]


def test_functions_are_checked_before_the_columns_are_known() -> None:
    left_out = replace(A, schema=None)
    plan = Plan("p", (left_out,), (replace(KEEP, where=parse_expression("rond(zzz) > 1")),))
    assert "rond" in told(plan)[0]
    plan = Plan("p", (left_out,), (replace(KEEP, where=parse_expression("zzz > 1")), COUNT))
    assert told(plan) == []
    assert "zzz" in told(plan, inferred={"a": COLUMNS})[0]


def test_time_is_judged_once_the_columns_are_known() -> None:
    plan = Plan("p", (replace(A, schema=None, time="x"),))
    assert told(plan) == []
    assert "not timestamp" in told(plan, inferred={"a": COLUMNS})[0]
    plan = Plan("p", (replace(A, schema=None, time="x", time_unit="s"),))
    assert told(plan, inferred={"a": COLUMNS}) == []


@pytest.mark.parametrize("name", ["", "a.b", "1a", "a b", "é", "a\n"])
def test_table_names(name: str) -> None:
    assert any("not a table name" in line for line in told(Plan("p", (replace(A, name=name),))))
