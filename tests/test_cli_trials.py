"""`asyncflow test`: a pipeline's own tests on virtual time; what passes, what a failure shows, what is broken."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from asyncflow.cli import run_command
from asyncflow.doors.pipeline_file.json_schema import json_schema
from asyncflow.doors.pipeline_file.toml import load

PIPELINE = """
[sources.sales]
type = "file"
path = "not-there.csv"
schema = { ts = "timestamp[ms]", store = "string", qty = "int64", price = "float64" }
time = "ts"
watermark_delay = "5s"

[sources.visits]
type = "tcp"
listen = "127.0.0.1:1"
format = "json"
schema = { ts = "timestamp", store = "string" }
time = "ts"
idle_timeout = "30s"

[stages.kept]
type = "filter"
inputs = ["sales"]
where = "qty > 0"

[stages.per_minute]
type = "window"
window = { tumbling = "1m" }
by = ["store"]
aggregates = { orders = "count(*)", revenue = "sum(qty * price)", dearest = "max(price)" }

[stages.visitors]
type = "window"
inputs = ["visits"]
window = { tumbling = "1m" }
aggregates = { n = "count(*)" }

[sinks.out]
type = "file"
path = "/not/there/out.ndjson"
inputs = ["per_minute"]
"""
ROW = '{ ts = 1000, store = "a", qty = 2, price = 1.5 }'
LATER = '{ ts = 61000, store = "a", qty = 1, price = 4 }'


def tried(tmp_path: Path, tests: str) -> int:
    path = tmp_path / "pipeline.toml"
    path.write_text(PIPELINE + tests)
    return run_command(["test", str(path)])


def case(feed: str, expect: str, name: str = "case") -> str:
    return f'[[tests]]\nname = "{name}"\nfeed = [{feed}]\nexpect = [{expect}]\n'


def rows(table: str, *written: str) -> str:
    return f'{{ table = "{table}", rows = [{", ".join(written)}] }}, '


def advance(by: str) -> str:
    return f'{{ advance = "{by}" }}, '


PASSING = {
    "columns left out are not compared": case(rows("sales", ROW), rows("per_minute", "{ orders = 1 }")),
    "a sink stands for what it reads": case(rows("sales", ROW), rows("out", "{ revenue = 3 }")),
    "a source itself": case(rows("sales", ROW), rows("sales", ROW) + rows("kept", ROW)),
    "nothing came": case(rows("sales"), rows("per_minute") + rows("sales.rejected")),
    "nothing fed": case("", rows("per_minute")),
    "a null": case(
        rows("sales", '{ ts = 0, store = "a", qty = 1 }'),
        rows("per_minute", "{ orders = 1, revenue = { null = true } }"),
    ),
    "a late row, and the same row in time": case(
        rows("sales", ROW) + advance("1m") + rows("sales", ROW),
        rows("per_minute", "{ orders = 1 }") + rows("per_minute.late", ROW),
    )
    + case(rows("sales", ROW) + advance("58s") + rows("sales", ROW), rows("per_minute", "{ orders = 2 }")),
    "advances add up from the greatest time": case(
        rows("sales", ROW, LATER) + advance("58s") + advance("1s") + rows("sales", LATER),
        rows("per_minute", "{ orders = 1 }", "{ orders = 1 }") + rows("per_minute.late", LATER),
    ),
    "an advance moves every source": case(
        rows("sales", LATER) + advance("1ms") + rows("visits", '{ ts = 1970-01-01T00:00:59Z, store = "a" }'),
        rows("visitors") + rows("visitors.late", '{ ts = "1970-01-01T00:00:59Z" }'),
    ),
    "rows from beyond the clock go to the future": case(
        rows("sales", ROW, ROW.replace("1000", "90000000")), rows("sales.future", "{ ts = 90000000 }")
    ),
    "the clock moves with time": case(
        rows("sales", ROW) + advance("2h") + rows("sales", ROW.replace("1000", "90000000")),
        rows("sales.future") + rows("per_minute", "{ }", "{ }"),
    ),
    "a value that does not fit is a rejected row": case(
        rows("sales", '{ ts = 0, store = 7, qty = "two" }', ROW),
        rows("sales.rejected", "{ reason = 'qty: not an int64: \"two\"', position = \"row 1\" }") + rows("kept", ROW),
    ),
    "timestamps as text, datetime, number": case(
        rows("sales", *(f'{{ ts = {at}, store = "a", qty = 1 }}' for at in (1000, '"1970-01-01T00:00:01Z"', "1970-01-01T00:00:01Z"))),
        rows("kept", "{ ts = 1970-01-01T00:00:01Z }", "{ ts = 1000 }", '{ ts = "1970-01-01T00:00:01Z" }'),
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", PASSING)
def test_it_passes_without_waiting(what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    begun = time.thread_time()
    assert tried(tmp_path, PASSING[what]) == 0, capsys.readouterr().out
    out, err = capsys.readouterr()
    assert out == "ok    case\n" * PASSING[what].count("[[tests]]")
    assert err.endswith(f"pipeline.toml: {PASSING[what].count('[[tests]]')} passed, 0 failed\n")
    assert time.thread_time() - begun < 10
    assert [path.name for path in tmp_path.iterdir()] == ["pipeline.toml"]


FAILING = {
    "another value": (
        rows("per_minute", '{ store = "a", revenue = 4 }'),
        """tests[0].expect[0] per_minute: rows[0] differs
    - { store = "a", revenue = 4 }
    + { store = "a", revenue = 3.0 }""",
    ),
    "a row too few": (
        rows("kept"),
        """tests[0].expect[0] kept: 0 rows expected, 1 came
    + { ts = 1970-01-01 00:00:01, store = "a", qty = 2, price = 1.5 }""",
    ),
    "a row too many": (
        rows("per_minute", "{ orders = 1 }", "{ orders = 2 }"),
        """tests[0].expect[0] per_minute: 2 rows expected, 1 came
      { orders = 1 }
    - { orders = 2 }""",
    ),
    "the second table": (
        rows("per_minute", "{ orders = 1 }") + rows("kept", "{ ts = 2000 }"),
        """tests[0].expect[1] kept: rows[0] differs
    - { ts = 1970-01-01 00:00:02 }
    + { ts = 1970-01-01 00:00:01 }""",
    ),
    "a null that is none": (
        rows("kept", "{ qty = { null = true } }"),
        "tests[0].expect[0] kept: rows[0] differs\n    - { qty = null }\n    + { qty = 2 }",
    ),
    "true is not 1": (
        rows("per_minute", "{ orders = true }"),
        "tests[0].expect[0] per_minute: rows[0] differs\n    - { orders = true }\n    + { orders = 1 }",
    ),
}


@pytest.mark.parametrize("what", FAILING)
def test_a_failure_shows_what_differs_and_where(
    what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    expected, shown = FAILING[what]
    assert tried(tmp_path, case(rows("sales", ROW), expected) + case("", "", "another")) == 1
    out, err = capsys.readouterr()
    indented = "".join(f"      {line}\n" for line in shown.splitlines())
    assert out == f"FAIL  case\n{indented}ok    another\n"
    assert err.endswith(": 1 passed, 1 failed\n")


def test_a_failure_tells_of_rows_that_left_by_another_way(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    feed = rows("sales", ROW) + advance("1m") + rows("sales", ROW, "{ qty = 1 }")
    assert tried(tmp_path, case(feed, rows("per_minute", "{ orders = 2 }"))) == 1
    out = capsys.readouterr().out
    assert "warning: per_minute: 1 late (the table per_minute.late would hold them)" in out
    assert "ts: null" in out


@pytest.mark.parametrize(
    ("tests", "told"),
    [
        ("tests = 3\n", "tests: expected tables"),
        ("[[tests]]\nfeeds = []\n", "tests[0].feeds: unknown key 'feeds' (did you mean 'feed'?)"),
        ("[[tests]]\nfeed = 3\n", "tests[0].feed: expected a list"),
        ("[[tests]]\nname = 3\n", "tests[0].name: expected text"),
        (case("{ advance = 3 }", ""), "tests[0].feed[0].advance: expected text"),
        (case(advance("soon"), ""), "tests[0].feed[0].advance: not a duration: 'soon'"),
        (case(advance("-1s"), ""), "tests[0].feed[0].advance: time does not go back"),
        (case('{ table = "sales", row = [] }', ""), "tests[0].feed[0].row: unknown key 'row' (did you mean 'rows'?)"),
        (case('{ table = "sales" }', ""), "tests[0].feed[0].rows: 'rows' is missing"),
        (case('{ table = "sales", rows = 3 }', ""), "tests[0].feed[0].rows: expected a list"),
        (case("{ }", ""), "tests[0].feed[0]: expected rows or an advance"),
        (case(rows("sale"), ""), "tests[0].feed[0].table: unknown source 'sale' (did you mean 'sales'?)"),
        (case(rows("kept"), ""), "tests[0].feed[0].table: unknown source 'kept'"),
        (case(rows("sales", "{ stor = 1 }"), ""), "tests[0].feed[0].rows[0].stor: unknown column 'stor' (did you mean 'store'?)"),
        (case("", rows("per_minut")), "tests[0].expect[0].table: unknown table 'per_minut' (did you mean 'per_minute'?)"),
        (case("", rows("per_minute.lat")), "tests[0].expect[0].table: unknown table 'per_minute.lat'"),
        (case("", rows("out", "{ order = 1 }")), "tests[0].expect[0].rows[0].order: unknown column 'order' (did you mean 'orders'?)"),
    ],
)  # fmt: skip
def test_a_broken_test_is_told_by_check_and_test(
    tests: str, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = tests + PIPELINE if tests.startswith("tests") else PIPELINE + tests
    path = tmp_path / "pipeline.toml"
    path.write_text(text)
    for command in ("check", "test"):
        assert run_command([command, str(path)]) == 2
        out, err = capsys.readouterr()
        assert out == "" and "Traceback" not in err
        assert told in err
        assert len(err.splitlines()) <= 2


def test_a_file_without_tests_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert tried(tmp_path, "") == 0
    assert capsys.readouterr().err.endswith("it has no [[tests]]\n")


def test_columns_that_nobody_declared_are_told_from_the_rows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "pipeline.toml"
    path.write_text("""
[sources.lines]
type = "file"
path = "a.ndjson"
time = "at"
[stages.w]
type = "window"
window = { tumbling = "1m" }
aggregates = { total = "sum(value)" }
[[tests]]
feed = [{ table = "lines", rows = [{ at = "2024-01-01T00:00:10Z", value = 1 }, { at = "2024-01-01T00:00:20Z", value = 0.5 }] }]
expect = [{ table = "w", rows = [{ window_start = "2024-01-01", total = 1.5 }] }]
[[tests]]
feed = [{ table = "lines", rows = [{ at = "2024-01-01T00:00:10Z", val = 1 }] }]
""")
    assert run_command(["test", str(path)]) == 1
    out = capsys.readouterr().out
    assert out.startswith("ok    test 1\nFAIL  test 2\n")
    assert "tests[1]: stages.w.aggregates.total" in out


def test_the_editors_know_them() -> None:
    tests = json_schema()["properties"]["tests"]
    assert set(tests["items"]["properties"]) == {"name", "feed", "expect"}
    assert "$ref" not in json.dumps(tests)


def test_tests_stay_out_of_the_run(tmp_path: Path) -> None:
    path = tmp_path / "pipeline.toml"
    path.write_text(PIPELINE + case(rows("sales", ROW), ""))
    plan = load(path)
    assert [trial.name for trial in plan.trials] == ["case"]
    assert len(plan.sinks) == 1
