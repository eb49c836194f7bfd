"""The options of `asyncflow agg` to a plan."""

from __future__ import annotations

import pytest

from asyncflow.doors.oneliner import AggOptions, plan_of
from asyncflow.errors import PipelineError
from asyncflow.plan.expressions.nodes import Aggregate, ColumnRef
from asyncflow.plan.stages.filter import Filter
from asyncflow.plan.stages.window import Window
from asyncflow.plan.windows import AllRows, Hopping, Session, Tumbling


def window(options: AggOptions) -> Window:
    stage = plan_of(options).stages[-1]
    assert isinstance(stage, Window)
    return stage


def test_nothing_given_counts_stdin() -> None:
    plan = plan_of(AggOptions())
    (source,), (stage,), (sink,) = plan.sources, plan.stages, plan.sinks
    assert (source.connector.type, source.format, source.schema, source.time) == ("stdin", None, None, None)
    assert isinstance(stage, Window) and stage.shape == AllRows()
    assert stage.aggregates == (("count", Aggregate("count")),)
    assert sink.connector.type == "stdout" and sink.format is not None and sink.format.type == "json"


def test_everything_given() -> None:
    plan = plan_of(
        AggOptions(
            ("n=count(*)", "max(ms)"),
            "host, level",
            "10s",
            "2s",
            None,
            "ts:ms",
            "5s",
            "ms > 0",
            ("a.csv", "b.csv"),
            "csv",
            "table",
        )
    )
    (source,) = plan.sources
    assert source.connector.options.path == ["a.csv", "b.csv"]
    assert (source.time, source.time_unit, source.watermark_delay_ns) == ("ts", "ms", 5_000_000_000)
    where, agg = plan.stages
    assert isinstance(where, Filter) and isinstance(agg, Window)
    assert agg.shape == Hopping(10_000_000_000, 2_000_000_000)
    assert [name for name, _ in agg.by] == ["host", "level"]
    assert [name for name, _ in agg.aggregates] == ["n", "max_ms"]


def test_time_with_and_without_a_unit() -> None:
    for text, time, unit in (("ts", "ts", ""), ("ts:s", "ts", "s"), ("a:b:ns", "a:b", "ns")):
        (source,) = plan_of(AggOptions(time=text)).sources
        assert (source.time, source.time_unit) == (time, unit)


def test_keys_may_be_expressions() -> None:
    by = window(AggOptions(by='host, first=substring(path, 1, 2), "odd name"')).by
    assert [name for name, _ in by] == ["host", "first", '"odd name"']
    assert by[0][1] == ColumnRef("host")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("count(*)", "count"),
        ("sum(x)", "sum_x"),
        ("n = count(*)", "n"),
        ("sum(a * b) / sum(b)", "sum_a_b_sum_b"),
        ("count(*) FILTER (WHERE x = 1)", "count_filter_where_x_1"),
        ("bool_or(x = 1)", "bool_or_x_1"),
    ],
)
def test_names_of_aggregates(text: str, name: str) -> None:
    assert window(AggOptions((text,))).aggregates[0][0] == name


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (AggOptions(("summ(x)",)), "AGG summ_x: .*sum"),
        (AggOptions(("n=count(",)), "AGG n: "),
        (AggOptions(("sum(x)", "sum(x)")), "AGG: two aggregates"),
        (AggOptions(window="5 min"), "--window: not a duration"),
        (AggOptions(window="5m", hop="10m"), "--hop: "),
        (AggOptions(hop="10m"), "--hop: there is no window"),
        (AggOptions(session="ten"), "--session: .*ten"),
        (AggOptions(session="10m", window="1m"), "--window: .*together with --session"),
        (AggOptions(session="10m", window="1m", hop="10s"), "--hop: .*together with --session"),
        (AggOptions(time="ts:sec"), "--time: unknown unit 'sec'"),
        (AggOptions(delay="soon", time="ts"), "--delay: "),
        (AggOptions(where="x >"), "--where: "),
        (AggOptions(format="jsn"), "--format: unknown format 'jsn'"),
        (AggOptions(output="jsn"), "--output: unknown format 'jsn'"),
    ],
)
def test_mistakes_name_the_option(options: AggOptions, told: str) -> None:
    with pytest.raises(PipelineError, match=told):
        plan_of(options)


def test_sessions() -> None:
    assert window(AggOptions(session="1m30s")).shape == Session(90_000_000_000)


def test_tumbling() -> None:
    assert window(AggOptions(window="1m30s")).shape == Tumbling(90_000_000_000)
