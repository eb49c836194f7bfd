"""dedup, top and sequence at the doors: plans, errors, explain and the JSON schema."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import asyncflow as af
from asyncflow.doors.pipeline_file import catalog, json_schema
from asyncflow.errors import PipelineError
from asyncflow.plan.explain import describe
from tests.broken_pipelines import assert_refused, check

GOOD = """
name = "orders"

[sources.history]
type = "file"
path = "history.csv"
schema = { ts = "timestamp", id = "int64", store = "string", price = "float64" }
time = "ts"

[sources.live]
type = "tcp"
connect = "localhost:9"
format = "json"
schema = { ts = "timestamp", id = "int64", store = "string", price = "float64" }
time = "ts"
watermark_delay = "5s"

[sources.orders]
type = "sequence"
of = ["history", "live"]
unique = ["id"]

[stages.once]
type = "dedup"
by = ["id"]
within = "1h"

[stages.dearest]
type = "top"
n = 3
order = ["price DESC NULLS FIRST", "lower(store)"]
by = { shop = "upper(store)" }
window = { tumbling = "1m" }

[stages.plain]
type = "derive"
inputs = ["once"]
columns = { x = "1" }

[stages.first]
type = "top"
n = 1
order = ["price"]

[sinks.out]
type = "stdout"
inputs = ["first"]
"""
AGAIN = """
[stages.second]
type = "top"
n = 1
order = ["price"]

[stages.plain]
"""

BROKEN: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "unknown member": ('of = ["history", "live"]', 'of = ["histry", "live"]', ("sources.orders.of", "'history'")),
    "a stage as member": ('of = ["history", "live"]', 'of = ["history", "once"]', ("sources.orders.of", "not a source")),
    "one member": ('of = ["history", "live"]', 'of = ["live"]', ("sources.orders.of", "two sources")),
    "no member": ('of = ["history", "live"]\n', "", ("sources.orders.of", "missing")),
    "a member twice": ('of = ["history", "live"]', 'of = ["live", "live"]', ("sources.orders.of", "twice")),
    "unknown unique": ('unique = ["id"]', 'unique = ["idd"]', ("sources.orders.unique", "'idd'", "id")),
    "unknown key of a sequence": ('unique = ["id"]', 'uniqe = ["id"]', ("sources.orders.uniqe", "'unique'")),
    "no time": ('time = "ts"\n\n[sources.live]', "[sources.live]", ("sources.history.time", "'orders'")),
    "other columns": ('int64", store', 'string", store', ("sources.orders.of", "union")),
    "sequence misspelt": ('type = "sequence"', 'type = "sequense"', ("sources.orders.type", "'sequence'")),
    "unknown key of dedup": ("within =", "withn =", ("stages.once.withn", "'within'")),
    "no within": ('within = "1h"\n', "", ("stages.once.within", "missing")),
    "bad within": ('within = "1h"', 'within = "soon"', ("stages.once.within", "soon")),
    "negative within": ('within = "1h"', 'within = "-1h"', ("stages.once.within", "negative")),
    "no key": ('by = ["id"]\n', "by = []\n", ("stages.once.by", "no key")),
    "unknown key column": ('by = ["id"]\n', 'by = ["ida"]\n', ("stages.once.by.ida", "id")),
    "unknown stage": ('type = "dedup"', 'type = "dedupe"', ("stages.once.type", "'dedup'")),
    "no n": ("n = 3\n", "", ("stages.dearest.n", "missing")),
    "n of nothing": ("n = 3\n", "n = 0\n", ("stages.dearest.n", "1")),
    "no order": ('order = ["price"]', "order = []", ("stages.first.order", "nothing to sort by")),
    "unknown order column": ('order = ["price"]', 'order = ["prize DESC"]', ("stages.first.order.0", "'prize'", "price")),
    "order that is none": ('order = ["price"]', 'order = ["price DSC"]', ("stages.first.order.0",)),
    "order as text": ('order = ["price"]', 'order = "price"', ("stages.first.order", "list")),
    "window per message": ('{ tumbling = "1m" }', '"message"', ("stages.dearest.window", "tumbling")),
    "unknown window": ('{ tumbling = "1m" }', '{ tumblin = "1m" }', ("stages.dearest.window.tumblin", "'tumbling'")),
    "rank is taken": ("[stages.plain]", AGAIN.replace("price", "rank"), ("stages.second", "'rank'")),
    "bounds are taken": ("[stages.plain]", AGAIN.replace("n = 1", 'n = 1\nwindow = { tumbling = "1h" }'),
                         ("stages.second", "'window_start'", "leave window out")),
    "unknown side output": ('inputs = ["first"]', 'inputs = ["once.duplicates"]', ("sinks.out.inputs", "'once.duplicate'")),
}  # fmt: skip


def test_what_they_are_made_from_is_good(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(GOOD, tmp_path) == 0, capsys.readouterr().err


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_pipeline_is_told(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old, new, told = BROKEN[kind]
    assert old in GOOD
    assert_refused(GOOD.replace(old, new, 1), told, tmp_path, capsys)


@pytest.mark.parametrize(
    "kind", ["no member", "no within", "bad within", "unknown order column", "rank is taken"]
)
def test_one_mistake_is_told_once(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old, new, _ = BROKEN[kind]
    assert check(GOOD.replace(old, new, 1), tmp_path) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_the_first_stage_reads_the_sequence_and_not_its_members() -> None:
    plan = af.load(GOOD).plan
    assert plan.table("once").inputs == ("orders",)  # type: ignore[union-attr]
    no_stage = GOOD[: GOOD.index("[stages.once]")] + '[sinks.out]\ntype = "stdout"\n'
    assert af.load(no_stage).plan.sinks[0].inputs == ("orders",)
    assert af.load(no_stage).head == ("orders",)


def test_what_explain_shows() -> None:
    flow = af.load(GOOD)
    stages = {stage["name"]: stage for stage in describe(flow.plan)["stages"]}
    assert stages["orders"]["type"] == "sequence"
    assert stages["orders"]["overlap"] == "unique id"
    assert "until the live side has passed it" in stages["orders"]["state"]
    assert stages["once"]["within"] == "1h"
    assert stages["once"]["side_outputs"] == {"once.duplicate": "counted"}
    assert "1h past them" in stages["once"]["state"]
    assert stages["dearest"]["order"] == ["price DESC NULLS FIRST", "lower(store)"]
    assert list(stages["dearest"]["columns"]) == [
        "window_start",
        "window_end",
        "ts",
        "id",
        "store",
        "price",
        "rank",
    ]
    assert stages["dearest"]["window"] == "tumbling 1m"
    assert "at most 3 rows per key in each open window" in stages["dearest"]["state"]
    assert stages["first"]["window"] == "all"
    tree = flow.explain()
    assert "first 3 by price DESC NULLS FIRST, lower(store)" in tree
    assert "t_live --> t_orders" in flow.explain("mermaid")


def test_only_the_columns_that_are_read_are_read() -> None:
    text = GOOD.replace('inputs = ["first"]', 'inputs = ["n"]')
    text = text.replace(
        "[sinks.out]",
        '[stages.n]\ntype = "window"\ninputs = ["once"]\naggregates = { n = "count(*)" }\n\n[sinks.out]',
    )
    text = text[: text.index("[stages.dearest]")] + text[text.index("[stages.n]") :]
    sources = {source["name"]: source["reads"] for source in describe(af.load(text).plan)["sources"]}
    assert sources == {"history": ["ts", "id"], "live": ["ts", "id"]}
    read = text.replace('inputs = ["n"]', 'inputs = ["once.duplicate"]')
    sources = {source["name"]: source["reads"] for source in describe(af.load(read).plan)["sources"]}
    assert sources["live"] == ["ts", "id", "store", "price"]


def test_the_python_door_says_the_same() -> None:
    schema = {"ts": "timestamp", "id": "int64", "store": "string", "price": "float64"}
    history = af.source("file", path="history.csv", schema=schema, time="ts", name="history")
    live = af.source(
        "tcp",
        connect="localhost:9",
        format="json",
        schema=schema,
        time="ts",
        watermark_delay="5s",
        name="live",
    )
    flow = (
        af.sequence(history, live, unique=["id"], name="orders").dedup(by=["id"], within="1h").named("once")
    )
    flow = flow.top(
        3,
        order=["price DESC NULLS FIRST", "lower(store)"],
        by={"shop": "upper(store)"},
        window=af.tumbling("1m"),
    ).named("dearest")
    text = GOOD[: GOOD.index("[stages.plain]")] + '[sinks.out]\ntype = "stdout"\n'
    plan = af.load(text).plan
    assert flow.plan.sources == plan.sources
    assert flow.plan.stages == plan.stages
    with pytest.raises(PipelineError, match="'soon'"):
        flow.dedup(by="id", within="soon")
    with pytest.raises(PipelineError, match=r"order\.0"):
        flow.top(1, order="pri ce")


def test_they_are_in_the_list_and_in_the_schema() -> None:
    entry = next(entry for entry in catalog.entries("sources") if entry.name == "sequence")
    assert [option.name for option in entry.options] == ["of", "unique"]
    text = json.dumps(json_schema.json_schema())
    for name in ("dedup", "top", "sequence"):
        assert f'"enum": ["{name}"]' in text or f'"const": "{name}"' in text
