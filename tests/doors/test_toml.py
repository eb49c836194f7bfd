"""The pipeline file to a plan: defaults, variables, overrides, side outputs."""

from __future__ import annotations

from pathlib import Path

import pytest

from asyncflow.doors.pipeline_file.toml import load
from asyncflow.errors import PipelineError
from asyncflow.model.schema import DataType, Field
from asyncflow.plan.expressions.nodes import ColumnRef
from asyncflow.plan.stages.derive import Derive
from asyncflow.plan.stages.filter import Filter
from asyncflow.plan.stages.window import Window
from asyncflow.plan.tables import DAY_NS
from asyncflow.plan.windows import AllRows, Count, Hopping, PerMessage, Session, Tumbling

SECOND_NS = 1_000_000_000

PIPELINE = """
[sources.sales]
type = "file"
path = "data/sales-*.csv.gz"
schema = { ts = "timestamp[ms]", store = "string", qty = "int64" }
time = "ts"
watermark_delay = "1m30s"
max_record_bytes = "64KiB"

[stages.sold]
type = "filter"
where = "qty > 0"

[stages.twice]
type = "derive"
columns = { twice = "qty * 2" }

[stages.per_minute]
type = "window"
window = { hopping = "5m", every = "1m", offset = "10s" }
by = ["store"]
aggregates = { n = "count(*)" }

[sinks.out]
type = "stdout"

[sinks.bad]
type = "file"
path = "bad.csv"
inputs = ["sales.rejected"]
"""


def test_what_is_left_out_is_filled_in() -> None:
    plan = load(PIPELINE)
    (sales,) = plan.sources
    sold, twice, per_minute = plan.stages
    out, bad = plan.sinks
    assert sales.format is not None and sales.format.type == "csv"
    assert sales.schema is not None and sales.schema["ts"] == Field("ts", DataType.TIMESTAMP, "ms")
    assert sales.watermark_delay_ns == 90 * SECOND_NS and sales.max_future_ns == DAY_NS
    assert sales.max_record_bytes == 65536 and sales.on_error == "reject" and sales.idle_timeout_ns is None
    assert isinstance(sold, Filter) and sold.inputs == ("sales",)
    assert isinstance(twice, Derive) and twice.inputs == ("sold",)
    assert isinstance(per_minute, Window) and per_minute.inputs == ("twice",)
    assert per_minute.shape == Hopping(300 * SECOND_NS, 60 * SECOND_NS, 10 * SECOND_NS)
    assert per_minute.by == (("store", ColumnRef("store")),)
    assert out.inputs == ("per_minute",) and out.format is not None and out.format.type == "json"
    assert bad.inputs == ("sales.rejected",) and bad.format is not None and bad.format.type == "csv"


def test_a_plan_has_the_name_of_its_file(tmp_path: Path) -> None:
    path = tmp_path / "per-minute.toml"
    path.write_text(PIPELINE)
    assert load(path).name == load(str(path)).name == "per-minute"
    path.write_text('name = "other"\n' + PIPELINE)
    assert load(path).name == "other"


def test_the_first_stage_and_a_sink_without_stages_read_all_sources() -> None:
    sources = '[sources.a]\ntype="stdin"\nformat="lines"\n[sources.b]\ntype="file"\npath="b.log"\n'
    plan = load(sources + '[stages.f]\ntype="filter"\nwhere="line <> \'\'"\n')
    assert plan.stages[0].inputs == ("a", "b")
    plan = load(sources + '[sinks.o]\ntype="null"\n')
    assert plan.sinks[0].inputs == ("a", "b") and plan.sinks[0].format is None


def test_a_stage_may_read_one_that_is_written_after_it() -> None:
    text = """
    [sources.a]
    type = "stdin"
    format = "lines"
    [stages.second]
    type = "filter"
    inputs = ["first"]
    where = "n > 1"
    [stages.first]
    type = "derive"
    inputs = ["a"]
    columns = { n = "length(line)" }
    """
    assert [stage.name for stage in load(text).stages] == ["first", "second"]


@pytest.mark.parametrize(
    ("written", "shape"),
    [
        ('{ tumbling = "10s" }', Tumbling(10 * SECOND_NS)),
        ('{ session = "30s" }', Session(30 * SECOND_NS)),
        ("{ count = 100 }", Count(100)),
        ('{ tumbling = "10s", offset = "2s" }', Tumbling(10 * SECOND_NS, 2 * SECOND_NS)),
        ('{ hopping = "10s", every = "4s" }', Hopping(10 * SECOND_NS, 4 * SECOND_NS)),
        ('"all"', AllRows()),
    ],
)
def test_window_shapes(written: str, shape: object) -> None:
    text = '[sources.a]\ntype="stdin"\nformat="lines"\n[stages.w]\ntype="window"\naggregates={n="count(*)"}\n'
    stage = load(f"{text}window = {written}\n").stages[0]
    assert isinstance(stage, Window) and stage.shape == shape


def test_a_message_window_reads_a_message_source() -> None:
    text = '[sources.a]\ntype="udp"\nlisten="127.0.0.1:0"\nformat="lines"\n[stages.w]\ntype="window"\nwindow="message"\n'
    stage = load(text + 'aggregates={n="count(*)"}\n[sinks.o]\ntype="udp"\nreply="a"\n').stages[0]
    assert isinstance(stage, Window) and stage.shape == PerMessage()
    with pytest.raises(PipelineError, match=r"sinks.o.reply: unknown source 'b'"):
        load(text + 'aggregates={n="count(*)"}\n[sinks.o]\ntype="udp"\nreply="b"\n')


def test_a_window_left_out_is_all_and_by_may_be_a_table() -> None:
    text = '[sources.a]\ntype="stdin"\nformat="lines"\n[stages.w]\ntype="window"\nby = { first = "substring(line, 1, 1)" }\n'
    stage = load(text).stages[0]
    assert isinstance(stage, Window) and stage.shape == AllRows() and stage.by[0][0] == "first"


def test_variables_come_from_the_environment_after_parsing() -> None:
    text = '[sources.a]\ntype = "file"\npath = "${DIR:-data}/${NAME}.csv"\nmax_record_bytes = "${SIZE}"\n'
    environ = {"NAME": 'x"y', "SIZE": "100", "EMPTY": ""}
    plan = load(text, environ=environ)
    assert plan.sources[0].connector.options.path == 'data/x"y.csv'
    assert plan.sources[0].max_record_bytes == 100
    assert load(text, environ={**environ, "DIR": "/d"}).sources[0].connector.options.path == '/d/x"y.csv'
    with pytest.raises(PipelineError) as caught:
        load(text, environ={"NAMES": "x", "SIZE": "1"})
    (problem,) = caught.value.problems
    assert problem.path == "sources.a.path" and "NAME" in problem.message and "NAMES" in problem.hint


def test_a_variable_may_stand_for_a_truth_value() -> None:
    text = '[sources.a]\ntype = "file"\npath = "a.csv"\nfollow = "${FOLLOW}"\n'
    assert load(text, environ={"FOLLOW": "true"}).sources[0].connector.options.follow is True
    with pytest.raises(PipelineError, match=r"sources\.a\.follow"):
        load(text, environ={"FOLLOW": "maybe"})
    with pytest.raises(PipelineError, match=r"sources\.a\.follow"):
        load(text.replace("${FOLLOW}", "true"))


def test_overrides() -> None:
    plan = load(
        PIPELINE,
        overrides=[
            "sources.sales.path=x.csv",
            "sources.sales.max_record_bytes=5",
            "name=other",
            'stages.per_minute.by=["qty"]',
            'stages.per_minute.window={ tumbling = "5s" }',
            "stages.sold.where=qty = 3",
        ],
    )
    assert plan.name == "other" and plan.sources[0].connector.options.path == "x.csv"
    assert plan.sources[0].max_record_bytes == 5
    assert isinstance(plan.stages[2], Window) and plan.stages[2].shape == Tumbling(5 * SECOND_NS)
    assert plan.stages[2].by[0][0] == "qty"


@pytest.mark.parametrize("override", ["nothing", "=x", "a..b=1", "name.x=1", "sources.sales.pth=x"])
def test_overrides_that_do_not_fit(override: str) -> None:
    with pytest.raises(PipelineError):
        load(PIPELINE, overrides=[override])


def test_keys_of_later_may_stand_with_what_happens_without_them() -> None:
    load(PIPELINE.replace('by = ["store"]', 'by = ["store"]\nemit = "final"\nallowed_lateness = "0s"'))


def test_problems_have_their_order_and_hints() -> None:
    with pytest.raises(PipelineError) as caught:
        load(PIPELINE.replace("store = ", "stre = ").replace('"qty > 0"', '"qyt > 0"'))
    assert [(p.path, p.hint) for p in caught.value.problems] == [
        ("stages.sold.where", "did you mean 'qty'?"),
        ("stages.per_minute.by.store", "did you mean 'stre'?"),
    ]
