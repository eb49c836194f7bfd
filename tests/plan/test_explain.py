"""What explain shows, and expressions back to text."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncflow.doors.expressions.expression_text import parse_expression
from asyncflow.doors.pipeline_file.toml import load
from asyncflow.plan.explain import describe, explain
from asyncflow.plan.expressions.expression_print import expression_text
from asyncflow.plan.expressions.nodes import ColumnRef
from asyncflow.plan.stages.window import Window
from asyncflow.plan.windows import Count, Session, WindowShape, window_text

SECOND_NS = 1_000_000_000

PIPELINE = """
name = "sales"

[sources.sales]
type = "file"
path = "sales.csv"
format = { type = "csv", delimiter = ";" }
schema = { ts = "timestamp[ms]", store = "string", qty = "int64", note = "string" }
time = "ts"
watermark_delay = "5s"

[stages.sold]
type = "filter"
where = "qty > 0"

[stages.per_minute]
type = "window"
window = { hopping = "1m", every = "20s" }
by = ["store"]
aggregates = { n = "count(*)" }

[sinks.out]
type = "stdout"

[sinks.late]
type = "stdout"
inputs = ["per_minute.late", "sales.future"]
"""


def test_the_tree() -> None:
    plan = load(PIPELINE.split("[sinks.late]")[0])
    assert explain(plan).splitlines() == [
        "sales",
        "└─ sales: file",
        '   │    path = "sales.csv"',
        '   │    format csv (delimiter = ";")',
        "   │    columns ts timestamp[ms], store string, qty int64, note string",
        "   │    reads 3 of 4 columns: ts, store, qty",
        "   │    time ts, watermark 5s behind the greatest seen",
        "   └─ sold: filter",
        "      │    where qty > 0",
        "      │    columns ts timestamp, store string, qty int64, note string",
        "      └─ per_minute: window",
        "         │    window hopping 1m every 20s",
        "         │    by store",
        "         │    aggregate n = count(*)",
        "         │    columns window_start timestamp, window_end timestamp, store string, n int64",
        "         │    state one group per key in each open window (3 over any moment), until the watermark reaches the window's end",
        "         └─ out: stdout",
        "                 format json",
    ]


def test_side_outputs_and_tables_with_two_inputs() -> None:
    tree = explain(load(PIPELINE))
    assert "late: stdout ← per_minute.late" in tree and "late: stdout ← sales.future (above)" in tree
    description = describe(load(PIPELINE))
    assert description["sources"][0]["side_outputs"] == {"sales.rejected": "counted", "sales.future": "read"}
    assert description["stages"][1]["side_outputs"] == {"per_minute.late": "read"}


def test_json_says_the_same() -> None:
    description = json.loads(explain(load(PIPELINE), "json"))
    (source,), (sold, window), (out, _) = description["sources"], description["stages"], description["sinks"]
    assert source["columns"] == {"ts": "timestamp[ms]", "store": "string", "qty": "int64", "note": "string"}
    assert source["format"] == {"type": "csv", "delimiter": ";"} and source["watermark_delay"] == "5s"
    assert sold["state"] is None and window["state"].startswith("one group per key")
    assert window["inputs"] == ["sold"] and out["format"] == {"type": "json"}


def test_mermaid() -> None:
    lines = explain(load(PIPELINE), "mermaid").splitlines()
    assert lines[0] == "flowchart LR"
    assert '  t_sold["<b>sold</b> filter<br/>qty &gt; 0"]' in lines
    assert "  t_per_minute -->|late| t_late" in lines and "  t_sales --> t_sold" in lines


def test_columns_that_are_not_known_yet() -> None:
    text = '[sources.a]\ntype = "stdin"\nformat = "csv"\n[stages.f]\ntype = "filter"\nwhere = "a > 1"\n'
    plan = load(text)
    assert "columns not known before it runs" in explain(plan)
    assert describe(plan)["sources"][0]["columns"] is None


@pytest.mark.parametrize(
    "text",
    [
        "a - (b - c)", "a - b - c", "(a + b) * c", "a + b * c", "-(a + b)", "-a", "a / b // c % d",
        "a AND (b OR NOT c)", "NOT (a AND b)", "a OR b OR c", "a = 1 AND b <> 'it''s'", "(a = b) = c",
        "a IS NULL", "a IS NOT NULL", "(a + b) IS NULL", "a IN (1, 2.5, NULL)", "NOT a IN (1)", "a LIKE 'x%'",
        "CASE WHEN a > 1 THEN 'x' ELSE NULL END", "CAST(a AS timestamp)", "a || 'b' || c",
        '"odd name" + "a""b"', "TIMESTAMP '2024-02-29 12:00:00.5'", "ts + INTERVAL '1' DAY", "TRUE", "1e300", "round(a, 2)",
        "coalesce(a, b)", "count(*)", "count(DISTINCT a) FILTER (WHERE b > 1)", "sum(a * b) / sum(b)", "extract(hour FROM ts)",
    ],
)  # fmt: skip
def test_the_text_of_an_expression_reads_back_the_same(text: str) -> None:
    tree = parse_expression(text)
    assert parse_expression(expression_text(tree)) == tree


_ATOMS = st.sampled_from(["a", "b", "1", "'t'", "(c)"])
_TEXTS = st.recursive(
    _ATOMS,
    lambda inner: st.one_of(
        st.tuples(
            inner,
            st.sampled_from(["+", "-", "*", "/", "//", "%", "=", "<", ">=", "AND", "OR", "||", "LIKE"]),
            inner,
        ).map(lambda t: f"({t[0]}) {t[1]} ({t[2]})"),
        inner.map(lambda t: f"NOT ({t})"),
        inner.map(lambda t: f"-({t})"),
        inner.map(lambda t: f"({t}) IS NOT NULL"),
        st.tuples(inner, inner).map(lambda t: f"({t[0]}) IN ({t[1]}, 3)"),
    ),
    max_leaves=6,
)


@settings(max_examples=100, deadline=None)
@given(_TEXTS)
def test_any_expression_reads_back_the_same(text: str) -> None:
    tree = parse_expression(text)
    assert parse_expression(expression_text(tree)) == tree


@pytest.mark.parametrize(
    ("shape", "by", "shown", "state"),
    [
        (Session(30 * SECOND_NS), (), "session 30s", "one group per session, until the watermark reaches its end"),
        (Session(1), (("k", ColumnRef("k")),), "session 1ns", "one group per session of a key, until the watermark reaches its end"),
        (Count(100), (("k", ColumnRef("k")),), "count 100", "one group per key, until it has 100 rows"),
    ],
)  # fmt: skip
def test_windows_that_follow_their_rows(shape: WindowShape, by: Any, shown: str, state: str) -> None:
    assert window_text(shape) == shown
    assert Window("w", ("rows",), shape, by).state_text() == state


@pytest.mark.parametrize("text", ["(a) AND ((a) AND (a))", "(a OR a) OR (a OR a)", "a AND (a OR (a OR a))"])
def test_chains_are_one_call_however_they_are_bracketed(text: str) -> None:
    tree = parse_expression(text)
    assert parse_expression(expression_text(tree)) == tree
