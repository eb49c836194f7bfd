"""Any text as a pipeline file gives a plan, or problems with a path."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from asyncflow.doors.pipeline_file.document import read_document
from asyncflow.doors.pipeline_file.json_schema import json_schema
from asyncflow.doors.pipeline_file.toml import load
from asyncflow.errors import PipelineError
from asyncflow.plan.explain import explain
from asyncflow.plan.schemas import read_columns, table_schemas

WORDS = [
    "a", "b", "c", "a.late", "a.rejected", "file", "stdin", "udp", "csv", "json", "raw", "filter", "window", "x > 1", "count(*)", "sum(",
    "all", "message", "5s", "-5s", "1KiB", "int64", "timestamp[ms]", "<f8", "${HOME:-x}", "", "é", "\x00", "*.csv",
]  # fmt: skip
KEYS = [
    "type", "path", "format", "schema", "time", "watermark_delay", "inputs", "where", "columns", "window", "by", "aggregates", "tumbling",
    "hopping", "every", "offset", "listen", "dtype", "reply", "emit", "max_record_bytes", "delimiter", "session", "idle_timeout", "a", "x",
]  # fmt: skip
values = st.recursive(
    st.sampled_from(WORDS) | st.integers(-(2**63), 2**63 - 1) | st.booleans() | st.floats() | st.dates(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=6,
)
types = st.sampled_from(
    [
        "file",
        "stdin",
        "udp",
        "generate",
        "tcp",
        "filter",
        "derive",
        "window",
        "stdout",
        "null",
        "join",
        "kafka",
    ]
)
tables = st.dictionaries(st.sampled_from(KEYS), values, max_size=6) | st.builds(
    lambda type_, table: {**table, "type": type_},
    types,
    st.dictionaries(st.sampled_from(KEYS), values, max_size=6),
)
rooms = st.dictionaries(st.sampled_from(["a", "b", "c", "d", "a b", ""]), tables | values, max_size=3)
documents = st.fixed_dictionaries(
    {}, optional={"sources": rooms | values, "stages": rooms, "sinks": rooms, "name": values, "extra": values}
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(documents)
@example({"sources": {"a": {"type": "stdin", "format": "lines", "schema": {}}}})
@example({"sources": {"a": {"type": "stdin"}}, "stages": {"b": {"type": "window", "window": {}}}})
@example(
    {
        "sources": {"a": {"type": "stdin", "schema": [1], "format": []}},
        "sinks": {"b": {"type": "null", "inputs": "a"}},
    }
)
def test_a_plan_or_problems(document: dict[str, Any]) -> None:
    try:
        plan = read_document(document)
    except PipelineError as error:
        assert error.problems
        assert all(problem.path and problem.message for problem in error.problems)
        return
    read_columns(plan, table_schemas(plan))
    for form in ("tree", "mermaid", "json"):
        assert explain(plan, form)


@settings(max_examples=100, deadline=None)
@given(st.text() | st.binary().map(lambda raw: raw.decode("latin-1")))
@example("a = " + "[" * 5000)
@example("a = " + "{a=" * 5000)
@example("a." * 3000 + "a = 1")
def test_any_text(text: str) -> None:
    with pytest.raises(PipelineError):
        load(text + "\n")


def test_the_schema_of_the_file_is_json() -> None:
    assert json.loads(json.dumps(json_schema()))["required"] == ["sources"]
