"""Plans with windows that are emitted again: schemas, explain, which stages may read them, and the doors."""

from __future__ import annotations

import pytest

import asyncflow as af
from asyncflow.doors.pipeline_file.toml import load
from asyncflow.errors import PipelineError
from asyncflow.plan.explain import explain
from asyncflow.plan.schemas import table_schemas
from asyncflow.plan.stages.window import Window
from asyncflow.plan.tables import Plan
from asyncflow.plan.windows import Cumulate

SECOND_NS = 1_000_000_000
HEAD = """
[sources.s]
type = "stdin"
format = "csv"
schema = { ts = "timestamp", k = "string", v = "int64" }
time = "ts"
[stages.w]
type = "window"
window = { tumbling = "1m" }
by = ["k"]
aggregates = { n = "count(*)" }
allowed_lateness = "30s"
emit = "updates"
"""
OVER = """
[stages.over]
type = "window"
window = { tumbling = "1h" }
aggregates = { n = "sum(n)" }
"""


def window_of(plan: Plan, name: str = "w") -> Window:
    stage = plan.table(name)
    assert isinstance(stage, Window)
    return stage


def between(where: str) -> str:
    return f'{HEAD}[stages.f]\ntype = "filter"\nwhere = "{where}"\n[stages.d]\ntype = "derive"\ncolumns = {{ m = "n" }}\n{OVER}'


def test_revision_and_final_stand_last() -> None:
    schema = table_schemas(load(HEAD))["w"]
    assert schema is not None
    assert schema.names == ("window_start", "window_end", "k", "n", "revision", "final")
    plain = table_schemas(load(HEAD.replace("updates", "final").replace("30s", "0s")))["w"]
    assert plain is not None and plain.names == ("window_start", "window_end", "k", "n")


@pytest.mark.parametrize(
    ("window", "emit", "every"),
    [
        ('{ tumbling = "1m" }', '"updates"', SECOND_NS),
        ('{ tumbling = "100ms" }', '"updates"', SECOND_NS // 10),
        ('{ hopping = "10s", every = "200ms" }', '"updates"', SECOND_NS // 5),
        ('{ cumulate = "1d", every = "1h" }', '"updates"', SECOND_NS),
        ('{ tumbling = "1m" }', '{ every = "2m" }', 120 * SECOND_NS),
        ('{ tumbling = "1m" }', '"final"', None),
    ],
)
def test_how_often_windows_are_sent(window: str, emit: str, every: int | None) -> None:
    text = HEAD.replace('{ tumbling = "1m" }', window).replace('"updates"', emit)
    assert window_of(load(text)).emit_every_ns == every


def test_python_says_the_same_as_the_file() -> None:
    flow = af.source(
        "stdin", name="s", format="csv", schema={"ts": "timestamp", "k": "string", "v": "int64"}, time="ts"
    )
    made = flow.window(
        af.tumbling("1m"), by=["k"], n="count(*)", allowed_lateness="30s", emit="updates"
    ).named("w")
    assert window_of(made.plan) == window_of(load(HEAD))
    grown = flow.window(af.cumulate("1d", "1h", "2h"), n="count(*)", emit={"every": "5s"}).named("w")
    assert window_of(grown.plan).shape == Cumulate(86400 * SECOND_NS, 3600 * SECOND_NS, 7200 * SECOND_NS)
    assert window_of(grown.plan).emit_every_ns == 5 * SECOND_NS
    with pytest.raises(PipelineError, match="updates"):
        flow.window(af.tumbling("1m"), n="count(*)", emit="update")


@pytest.mark.parametrize(
    "where", ["final", "final = TRUE", "n > 3 AND final", "TRUE = final AND n > 3 AND k <> ''"]
)
def test_a_window_may_read_final_rows(where: str) -> None:
    load(between(where))


@pytest.mark.parametrize("where", ["final OR n > 3", "NOT final", "revision = 0", "final = FALSE"])
def test_a_window_may_not_read_revisions(where: str) -> None:
    with pytest.raises(PipelineError) as caught:
        load(between(where))
    assert [problem.path for problem in caught.value.problems] == ["stages.over.inputs"]


def test_late_rows_are_no_revisions() -> None:
    load(HEAD + OVER.replace('"window"', '"window"\ninputs = ["w.late"]').replace("sum(n)", "sum(v)"))


def test_a_function_is_taken_to_know() -> None:
    flow = af.load(HEAD).map(lambda batch: batch, schema={"n": "int64"}).window(af.tumbling("1h"), n="sum(n)")
    flow.checked()


def test_explain_says_when_windows_are_sent_and_for_how_long_they_are_kept() -> None:
    text = explain(load(HEAD))
    assert "allowed_lateness 30s" in text and "emit every 1s" in text
    assert "until the watermark reaches the window's end and 30s more" in text
    grown = HEAD.replace('{ tumbling = "1m" }', '{ cumulate = "1d", every = "1h", offset = "2h" }')
    assert "window cumulate 1d every 1h offset 2h" in explain(load(grown))
    assert "up to 24 over any moment" in explain(load(grown))
    assert "carried on until" in explain(load(grown.replace('"updates"', '"final"').replace("30s", "0s")))


@pytest.mark.parametrize(("where", "problems"), [("final", []), ("n > 3", ["stages.best.inputs"])])
def test_the_first_rows_are_picked_from_final_ones(where: str, problems: list[str]) -> None:
    best = '[stages.best]\ntype = "top"\nn = 3\norder = ["n DESC"]\n'
    text = between(where).replace(OVER, best)
    if not problems:
        load(text)
        return
    with pytest.raises(PipelineError) as caught:
        load(text)
    assert [problem.path for problem in caught.value.problems] == problems
