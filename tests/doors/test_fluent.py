"""The Python door: immutable, and the same plan as the other doors."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

import asyncflow as af
from asyncflow.doors.oneliner import AggOptions, plan_of
from asyncflow.doors.pipeline_file.toml import load
from asyncflow.plan.explain import explain
from asyncflow.plan.tables import Plan

PIPELINE = """
name = "flow"

[sources.source_1]
type = "file"
path = "sales.csv"
schema = { ts = "timestamp[ms]", store = "string", qty = "int64", price = "float64" }
time = "ts"
watermark_delay = "5s"

[stages.stage_1]
type = "filter"
where = "qty > 0"

[stages.stage_2]
type = "derive"
columns = { revenue = "qty * price" }

[stages.stage_3]
type = "window"
window = { tumbling = "1m" }
by = ["store"]
aggregates = { orders = "count(*)", revenue = "sum(revenue)" }

[sinks.sink_1]
type = "stdout"
format = "csv"
"""


def sales() -> af.Flow:
    schema = {"ts": "timestamp[ms]", "store": "string", "qty": "int64", "price": "float64"}
    return af.source("file", path=Path("sales.csv"), schema=schema, time="ts", watermark_delay="5s")


def test_the_same_plan_as_from_a_file() -> None:
    flow = (
        sales()
        .filter("qty > 0")
        .derive(revenue="qty * price")
        .window(af.tumbling("1m"), by=["store"], orders="count(*)", revenue="sum(revenue)")
        .to("stdout", format="csv")
    )
    assert flow.plan == load(PIPELINE)
    for form in ("tree", "mermaid", "json"):
        assert flow.explain(form) == explain(load(PIPELINE), form)


def _renamed(plan: Plan, names: dict[str, str]) -> Plan:
    def fresh(table: Any) -> Any:
        inputs = {"inputs": tuple(names[i] for i in table.inputs)} if hasattr(table, "inputs") else {}
        return replace(table, name=names[table.name], **inputs)

    return Plan(
        "flow",
        tuple(fresh(table) for table in plan.sources),
        tuple(fresh(table) for table in plan.stages),
        tuple(fresh(table) for table in plan.sinks),
    )


def test_the_same_plan_as_from_one_line() -> None:
    options = AggOptions(
        ("n=count(*)", "most=max(qty)"),
        "store",
        "5m",
        "1m",
        None,
        "ts",
        "5s",
        "qty > 0",
        ("sales.csv",),
        None,
        "csv",
    )
    flow = (
        af.source("file", path="sales.csv", time="ts", watermark_delay="5s")
        .filter("qty > 0")
        .window(af.hopping("5m", "1m"), by="store", n="count(*)", most="max(qty)")
        .to("stdout", format="csv")
    )
    names = {"input": "source_1", "where": "stage_1", "agg": "stage_2", "output": "sink_1"}
    assert _renamed(plan_of(options), names) == flow.plan


def test_flows_are_values() -> None:
    start = sales()
    kept = start.filter("qty > 0")
    start.derive(x="qty + 1")
    kept.to("null")
    assert len(start.plan.stages) == 0 and len(kept.plan.stages) == 1 and kept.plan.sinks == ()


def test_a_union_shares_what_is_shared_and_renames_what_clashes() -> None:
    start = sales()
    both = af.union(
        start.filter("qty > 0"),
        start.filter("qty < 0"),
        af.source("file", path="other.csv", schema={"a": "string"}),
    )
    assert [table.name for table in both.plan.sources] == ["source_1", "source_2"]
    assert both.head == ("stage_1", "stage_2", "source_2")
    assert [stage.inputs for stage in both.plan.stages] == [("source_1",), ("source_1",)]
    with pytest.raises(af.PipelineError, match="union needs the same columns"):
        both.window(n="count(*)").checked()
    flow = af.union(start.filter("qty > 0"), start.filter("qty < 0")).window(n="count(*)")
    assert flow.checked().stages[-1].inputs == ("stage_1", "stage_2")


def rows(flow: af.Flow) -> list[dict[str, Any]]:
    return asyncio.run(flow.collect()).to_pylist()


def numbers(*values: int) -> af.Flow:
    return af.source([{"a": value} for value in values], schema={"a": "int64"})


def test_a_table_renamed_by_a_union_is_still_shared() -> None:
    """Of two flows over one stage, one is joined with a source whose generated name is that of the stage's source."""
    small = numbers(1, 2, 3).filter("a < 3").named("small")
    one = af.union(numbers(2), small).filter("a > 1")
    for flows in (one, small.filter("a < 2")), (small.filter("a < 2"), one):
        both = af.union(*flows)
        plan = both.checked(rows=True)
        assert len(plan.sources) == 2 and len(plan.stages) == 4
        assert sorted(row["a"] for row in rows(both)) == [1, 2, 2]


def test_tables_without_names_are_shared_too() -> None:
    """Each of them is read once; its name is that of the first flow."""
    start = numbers(1, 2)
    left, right = (af.union(numbers(0), start).filter("a > 0"), start.derive(a="a + 10"))
    both = af.union(left, right, af.union(numbers(5), numbers(6), start))
    assert both.head == ("stage_1", "stage_2", "source_4", "source_5", "source_2")
    assert [source.name for source in both.plan.sources] == ["source_1", "source_2", "source_4", "source_5"]
    assert [stage.inputs for stage in both.plan.stages] == [("source_1", "source_2"), ("source_2",)]
    assert sorted(row["a"] for row in rows(both)) == [1, 1, 2, 2, 5, 6, 11, 12]


def test_flows_joined_on_either_side_share_their_tables() -> None:
    start = numbers(1, 2).filter("a > 0").named("start")
    other = numbers(2, 3)
    both = af.union(start.join(other, on=["a"]), numbers(2).join(start, on=["a"]))
    plan = both.checked(rows=True)
    assert [source.name for source in plan.sources] == ["source_1", "source_2", "source_3"]
    assert rows(both) == [{"a": 2}, {"a": 2}]


def test_a_name_given_after_a_union_makes_another_table() -> None:
    start = numbers(1, 2)
    union = af.union(numbers(0), start)
    again = af.union(union["source_2"].named("again").filter("a > 1"), start)
    assert [source.name for source in again.plan.sources] == ["source_1", "again", "source_2"]
    assert [stage.inputs for stage in again.plan.stages] == [("again",)]


def test_two_python_sources_stay_two() -> None:
    both = af.union(af.source([{"a": 1}]), af.source([{"a": 2}]))
    assert [source.connector.object for source in both.plan.sources] == [[{"a": 1}], [{"a": 2}]]


def test_names_given_must_be_unique_in_a_union() -> None:
    one, other = (af.source("file", path=f"{n}.csv", name="sales", schema={"a": "string"}) for n in "ab")
    with pytest.raises(af.PipelineError, match=r"sources\.sales: the name 'sales' is taken"):
        af.union(one, other).checked()


def test_side_outputs_are_tables() -> None:
    flow = sales().named("sales").window(af.tumbling("1m"), by=["store"], n="count(*)").named("per_minute")
    flow = (
        flow.to("null")["per_minute.late"]
        .to("stdout")["sales.rejected"]
        .to("file", path="bad.csv", name="bad")
    )
    plan = flow.checked()
    assert [sink.inputs for sink in plan.sinks] == [
        ("per_minute",),
        ("per_minute.late",),
        ("sales.rejected",),
    ]
    assert plan.sinks[2].name == "bad" and plan.stages[0].inputs == ("sales",)
    with pytest.raises(af.PipelineError, match=r"per_minute\.late"):
        flow["per_minute.lte"]


def test_taking_the_rows_of_a_union_gives_it_a_stage() -> None:
    start = sales()
    both = af.union(start.filter("qty > 0"), start.filter("qty < 0"))
    assert both.checked(rows=True).stages[-1].inputs == ("stage_1", "stage_2")
    assert start.checked(rows=True).stages == ()


@pytest.mark.parametrize(
    ("build", "told"),
    [
        (lambda: af.source("fiel"), "unknown source 'fiel' .*'file'"),
        (lambda: af.source("file", pth="x"), r"source_1\.pth.*'path'"),
        (lambda: af.source([], tme="x"), r"source_1\.tme.*'time'"),
        (lambda: af.source([], schema={"a": "int"}), r"schema\.a"),
        (lambda: sales().filter("qty >"), r"stage_1\.where"),
        (lambda: sales().derive(x=3), r"stage_1\.columns\.x: expected text"),
        (lambda: sales().derive(), "columns"),
        (lambda: sales().window(af.tumbling("1 hour")), "1 hour"),
        (lambda: sales().window({"tumblin": "1h"}), "tumbling"),
        (lambda: sales().window(n="count(", by=["store"]), r"aggregates\.n"),
        (lambda: sales().to("stdut"), "stdout"),
        (lambda: sales().filter("qyt > 0").checked(), r"stage_1\.where.*'qty'"),
        (lambda: sales().window(af.per_message(), n="count(*)").checked(), "messages"),
        (
            lambda: sales().window(af.tumbling("1h"), n=af.Aggregate),
            r"n is a class: write aggregate\(Aggregate, ",
        ),
        (lambda: sales().join("sales", on=["store"]), "joined with another flow, not with 'sales'"),
        (lambda: sales().map(len, schema={"a": "text"}), "unknown type 'text'"),
    ],
)
def test_mistakes(build: Any, told: str) -> None:
    with pytest.raises(af.PipelineError, match=told):
        build()


def test_names_that_are_no_keywords() -> None:
    flow = (
        sales()
        .derive({"net price": "price * 0.8"})
        .window(by={"a b": "store"}, aggregates={"by": "count(*)"})
    )
    plan = flow.checked()
    assert plan.stages[0].columns[0][0] == "net price"  # type: ignore[union-attr]
    assert plan.stages[1].by[0][0] == "a b"  # type: ignore[union-attr]


def test_functions_are_stages() -> None:
    def double(batch: af.Batch) -> af.Batch:
        return batch

    flow = sales().map(double, schema={"a": "int64"}).filter("a > 1").map_rows(dict)
    assert "test_functions_are_stages" in flow.explain()
    flow.checked()
    with pytest.raises(af.PipelineError, match="'b'"):
        flow["stage_1"].filter("b > 1").checked()
    sales().map(double).filter("whatever > 1").checked()
