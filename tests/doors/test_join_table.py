"""A join in the pipeline file and in Python: errors with path and nearest name, explain, and the same plan at both doors."""

from __future__ import annotations

from pathlib import Path

import pytest

import asyncflow as af
from asyncflow.doors.pipeline_file.json_schema import json_schema
from asyncflow.doors.pipeline_file.toml import load
from asyncflow.plan.explain import describe, explain
from asyncflow.plan.stages.join import Join
from asyncflow.plan.windows import Hopping
from tests.broken_pipelines import assert_refused, check

GOOD = """
[sources.orders]
type = "file"
path = "orders.csv"
schema = { ts = "timestamp[ms]", order_id = "int64", note = "string" }
time = "ts"

[sources.payments]
type = "file"
path = "payments.csv"
schema = { ts = "timestamp[ms]", ref = "int64", amount = "float64", note_right = "string" }
time = "ts"

[stages.paid]
type = "join"
left = "orders"
right = "payments"
on = { order_id = "ref" }
kind = "inner"
within = "10m"

[sinks.out]
type = "stdout"
format = "json"
"""

# what is replaced, by what, and what the error must name
BROKEN: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "no-left": ('left = "orders"\n', "", ("stages.paid.left", "missing")),
    "no-on": ('on = { order_id = "ref" }\n', "", ("stages.paid.on", "missing")),
    "unknown-key": ("within =", "withn =", ("stages.paid.withn", "'within'")),
    "unknown-left": ('left = "orders"', 'left = "order"', ("stages.paid.left", "'order'", "'orders'")),
    "unknown-right": ('right = "payments"', 'right = "paymnts"', ("stages.paid.right", "'payments'")),
    "inputs": ('left = "orders"', 'left = "orders"\ninputs = ["orders"]', ("stages.paid.inputs", "unknown key")),
    "unknown-left-column": ("{ order_id =", "{ order_di =", ("stages.paid.on.order_di", "'orders'", "'order_id'")),
    "unknown-right-column": ('"ref" }', '"rfe" }', ("stages.paid.on.order_id", "'payments'", "'ref'")),
    "types-differ": ('"ref" }', '"amount" }', ("stages.paid.on.order_id", "int64", "float64", "CAST")),
    "unknown-kind": ('"inner"', '"innr"', ("stages.paid.kind", "unknown value 'innr'", "did you mean 'inner'?")),
    "far-kind": ('"inner"', '"both"', ("stages.paid.kind", "there is inner, left, right, full, semi, anti")),
    "unknown-direction": ('within = "10m"', 'as_of = "backwards"', ("stages.paid.as_of", "did you mean 'backward'?")),
    "bad-duration": ('"10m"', '"10 min"', ("stages.paid.within", "10 min", "1m30s")),
    "negative": ('"10m"', '"-10m"', ("stages.paid.within", "negative")),
    "three-ends": ('"10m"', '["1m", "2m", "3m"]', ("stages.paid.within", "two in a list")),
    "ends-turned": ('"10m"', '["10m", "-1m"]', ("stages.paid.within", "10m", "-1m")),
    "two-ways": ('within = "10m"', 'within = "10m"\nas_of = "backward"', ("stages.paid.as_of", "within")),
    "tolerance-of-nothing": ('within = "10m"', 'within = "10m"\ntolerance = "1s"', ("stages.paid.tolerance", "as_of")),
    "forward-for-ever": ('within = "10m"', 'as_of = "forward"', ("stages.paid.tolerance", "forward", "for ever")),
    "right-for-ever": ('kind = "inner"\nwithin = "10m"', 'kind = "right"\nas_of = "backward"', ("stages.paid.tolerance", "right")),
    "window-of-all": ('within = "10m"', 'window = "all"', ("stages.paid.window", "tumbling")),
    "window-of-nothing": ('within = "10m"', 'window = { tumbling = "0s" }', ("stages.paid.window.tumbling", "0s")),
    "window-with-gaps": ('within = "10m"', 'window = { hopping = "1m", every = "2m" }', ("stages.paid.window.every", "2m")),
    "unknown-window": ('within = "10m"', 'window = { tumblin = "1m" }', ("stages.paid.window.tumblin", "'tumbling'")),
    "refresh-beside": ('within = "10m"', 'within = "10m"\nrefresh = "5m"', ("stages.paid.refresh", "cannot be given with within")),
    "refresh-of-nothing": ('within = "10m"', 'refresh = "0s"', ("stages.paid.refresh", "longer than 0s")),
    "refresh-of-what": ('within = "10m"', 'refresh = "often"', ("stages.paid.refresh", "often", "1m30s")),
    "refresh-of-what-ends": ('within = "10m"', 'refresh = "5m"', ("stages.paid.refresh", "'orders', ends by itself")),
    "bad-size": ('within = "10m"', 'within = "10m"\nmax_state = "1 giga"', ("stages.paid.max_state", "1 giga")),
    "names-clash": ("note = ", "note_right = ", ("stages.paid.suffix", "'ts'")),
    "endless-lookup": (
        'type = "file"\npath = "payments.csv"',
        'type = "tcp"\nformat = "csv"\nlisten = "127.0.0.1:0"', ("stages.paid.right", "'payments'", "tcp", "never end")),
    "rows-without-time": ('left = "orders"', 'left = "orders.rejected"', ("stages.paid.left", "event time")),
    "reads-itself": ('left = "orders"', 'left = "paid"', ("stages.paid.inputs", "cycle")),
}  # fmt: skip


@pytest.mark.parametrize(
    "left_out", ['left = "orders"\n', 'right = "payments"\n', 'left = "orders"\nright = "payments"\n']
)
def test_a_join_without_a_side_is_not_taken_for_a_union(
    left_out: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert left_out in GOOD
    assert check(GOOD.replace(left_out, ""), tmp_path) == 2
    err = capsys.readouterr().err
    assert "is missing" in err and "union" not in err


def test_the_pipeline_they_are_made_from_is_good(tmp_path: Path) -> None:
    assert check(GOOD, tmp_path) == 0


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_join_is_told(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old, new, told = BROKEN[kind]
    assert old in GOOD
    text = GOOD.replace(old, new, 1)
    if kind == "endless-lookup":
        text = text.replace('within = "10m"\n', "")
    if kind == "names-clash":
        text = text.replace("amount =", "ts_right =")
    assert_refused(text, told, tmp_path, capsys)


def test_a_lookup_in_a_table_of_the_same_source_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = GOOD.replace(
        'right = "payments"\non = { order_id = "ref" }', 'right = "orders"\non = ["order_id"]'
    )
    assert check(text, tmp_path) == 0
    assert check(text.replace('within = "10m"\n', ""), tmp_path) == 2
    assert "stages.paid.right: both sides come from 'orders'" in capsys.readouterr().err


LIVE = GOOD.replace(
    'type = "file"\npath = "orders.csv"', 'type = "tcp"\nlisten = "127.0.0.1:0"\nformat = "csv"'
)
REFRESHED = LIVE.replace('within = "10m"', 'refresh = "5m"')
SUMS = """
[stages.sums]
type = "window"
inputs = ["payments"]
by = ["ref"]
aggregates = { amount = "sum(amount)" }
"""
CHAINED = REFRESHED.replace('right = "payments"', 'right = "sums"').replace(
    "[stages.paid]", SUMS + "[stages.paid]"
)
COPY = '[sinks.copy]\ntype = "null"\ninputs = ["%s"]\nformat = "json"\n'


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (REFRESHED.replace('"inner"', '"full"'), ["stages.paid.refresh: kind = 'full' gives right rows"]),
        (REFRESHED + COPY % "payments", ["stages.paid.refresh: 'payments' is read again", "'copy' reads it"]),
        (
            REFRESHED + COPY % "payments.rejected",
            ["'payments.rejected' is read again", "a source of its own"],
        ),
        (
            CHAINED + COPY % "payments",
            ["stages.paid.refresh: 'payments' is read again for this join alone, and 'copy' reads it too"],
        ),
        (
            REFRESHED.replace('path = "payments.csv"', 'path = "payments.csv"\nfollow = true'),
            ["stages.paid.right", "may never end"],
        ),
        (
            LIVE.replace('within = "10m"', 'window = { tumbling = "1m" }\nrefresh = "5m"'),
            ["stages.paid.refresh: it cannot be given with window"],
        ),
    ],
)
def test_what_cannot_be_refreshed_is_told(
    text: str, told: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check(text, tmp_path) == 2
    err = capsys.readouterr().err
    for part in told:
        assert part in err


def test_a_refreshed_join_is_good_and_explained(tmp_path: Path) -> None:
    for text in (REFRESHED, CHAINED, REFRESHED.replace('"inner"', '"anti"'), REFRESHED + COPY % "orders"):
        assert check(text, tmp_path) == 0
    [stage] = load(REFRESHED).stages
    assert isinstance(stage, Join)
    assert stage.refresh_ns == 300 * 10**9
    told = explain(load(REFRESHED))
    assert "lookup payments is read whole first, and again every 5m" in told
    assert "all rows of payments by key, old and new while they are read again; at most 1GiB" in told
    left, right = load(REFRESHED).sources
    orders = af.source(
        "tcp", name="orders", listen="127.0.0.1:0", format="csv", schema=left.schema, time="ts"
    )
    payments = af.source("file", name="payments", path="payments.csv", schema=right.schema, time="ts")
    made = orders.join(payments, on={"order_id": "ref"}, refresh="5m").named("paid").plan
    assert (made.sources, made.stages) == (load(REFRESHED).sources, load(REFRESHED).stages)


def test_a_sequence_and_a_join_of_their_own_are_not_refreshed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    schema = {"ts": "timestamp[s]", "k": "int64"}

    def table(name: str) -> af.Flow:
        return af.source("file", name=name, path="x.csv", schema=schema, time="ts")

    live = af.source("tcp", name="live", listen="127.0.0.1:0", format="csv", schema=schema, time="ts")
    both = af.sequence(table("a"), table("b"), name="both")
    with pytest.raises(
        af.PipelineError, match=r"stages\.stage_1\.refresh: 'both' comes from 'both', a sequence"
    ):
        live.join(both, on=["k"], refresh="5m").checked()
    nested = table("a").join(table("b"), on=["k"], refresh="5m", suffix="_b").named("ab")
    with pytest.raises(af.PipelineError, match=r"'ab' comes from 'ab', which has a refresh of its own"):
        live.join(nested, on=["k"], refresh="5m").checked()


def test_what_a_table_reads_and_gives() -> None:
    described = describe(load(GOOD.replace("note_right =", "note =")))
    assert list(described["stages"][0]["columns"]) == [
        "ts",
        "order_id",
        "note",
        "ts_right",
        "ref",
        "amount",
        "note_right",
    ]
    counted = (
        '[stages.n]\ntype = "window"\nby = ["note_right"]\naggregates = { n = "count(*)" }\n\n[sinks.out]'
    )
    described = describe(load(GOOD.replace("note_right =", "note =").replace("[sinks.out]", counted)))
    # The left note is read too: without it the right one would not be called note_right.
    assert [source["reads"] for source in described["sources"]] == [
        ["ts", "order_id", "note"],
        ["ts", "ref", "note"],
    ]
    semi = describe(load(GOOD.replace('"inner"', '"semi"')))
    assert [source["reads"] for source in semi["sources"]] == [["ts", "order_id", "note"], ["ts", "ref"]]


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ('within = ["-1m", "10m"]', "passed them by 10m (orders) or 1m (payments); at most 1GiB"),
        ('as_of = "nearest"\ntolerance = "5s"', "passed them by 5s (orders) or 10s (payments)"),
        ('as_of = "backward"', "the last row of each key of payments for ever"),
        ('window = { hopping = "5m", every = "1m" }', "the end of their last window"),
        ("", "all rows of payments by key, to the end"),
    ],
)
def test_explain_says_what_is_held_and_until_when(how: str, told: str) -> None:
    plan = load(GOOD.replace('within = "10m"', how))
    assert told in explain(plan)
    assert "on order_id = ref" in explain(plan)
    assert "[[" in explain(plan, "mermaid")


def test_the_same_plan_from_python() -> None:
    left, right = load(GOOD).sources
    orders = af.source("file", name="orders", path="orders.csv", schema=left.schema, time="ts")
    payments = af.source("file", name="payments", path="payments.csv", schema=right.schema, time="ts")
    flow = orders.join(payments, on={"order_id": "ref"}, within="10m").named("paid")
    made = flow.to("stdout", format="json", name="out").plan
    from_file = load(GOOD)
    assert (made.sources, made.stages, made.sinks) == (from_file.sources, from_file.stages, from_file.sinks)
    hopping = orders.join(payments, on={"order_id": "ref"}, window=af.hopping("5m", "1m"), max_state="2MiB")
    stage = hopping.plan.stages[0]
    assert isinstance(stage, Join)
    assert stage.window == Hopping(300 * 10**9, 60 * 10**9)
    assert stage.max_state_bytes == 2 << 20
    both = af.union(orders, orders.filter("order_id > 3")).join(payments, on={"order_id": "ref"}, within="1s")
    assert [type(stage).__name__ for stage in both.plan.stages] == ["Filter", "Derive", "Join"]


def test_the_schema_for_editors_knows_it() -> None:
    stages = json_schema()["$defs"]["stage"]["oneOf"]
    (join,) = (stage for stage in stages if stage["properties"]["type"].get("enum") == ["join"])
    assert set(join["required"]) == {"type", "left", "right", "on"}
    assert join["additionalProperties"] is False
