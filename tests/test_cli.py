"""The command line: what goes to stdout and stderr, exit codes, signals, a reader that goes away."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import signal
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest

import asyncflow
from asyncflow.cli import run_command
from asyncflow.doors import stages
from asyncflow.doors.pipeline_file.json_schema import json_schema
from asyncflow.doors.pipeline_file.toml import load

ROWS = [
    {"ts": "2024-01-01T00:00:01Z", "host": "a", "ms": 5},
    {"ts": "2024-01-01T00:00:12Z", "host": "b", "ms": 7},
    {"ts": "2024-01-01T00:00:13Z", "host": "b", "ms": 9},
]
PIPELINE = """
[sources.hits]
type = "file"
path = "{path}"
time = "ts"
schema = {{ ts = "timestamp", host = "string", ms = "int64" }}

[stages.windows]
type = "window"
window = {{ tumbling = "10s" }}
by = ["host"]
aggregates = {{ n = "count(*)", slowest = "max(ms)" }}

[sinks.out]
type = "stdout"
"""


@pytest.fixture
def hits(tmp_path: Path) -> Path:
    path = tmp_path / "hits.ndjson"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


@pytest.fixture
def pipeline(tmp_path: Path, hits: Path) -> Path:
    path = tmp_path / "hits.toml"
    path.write_text(PIPELINE.format(path=hits))
    return path


def output(capfd: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capfd.readouterr().out.splitlines()]


def process(*args: str, **options: Any) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "asyncflow", *args]
    # Unbuffered: what is read here line by line must not take more than the line.
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0, **options)


# -- run ---------------------------------------------------------------------------------------------------------------


def test_run_writes_data_to_stdout_and_nothing_to_stderr(
    pipeline: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["run", str(pipeline)]) == 0
    out, err = capfd.readouterr()
    assert [json.loads(line) for line in out.splitlines()] == [
        {
            "window_start": "2024-01-01T00:00:00Z",
            "window_end": "2024-01-01T00:00:10Z",
            "host": "a",
            "n": 1,
            "slowest": 5,
        },
        {
            "window_start": "2024-01-01T00:00:10Z",
            "window_end": "2024-01-01T00:00:20Z",
            "host": "b",
            "n": 2,
            "slowest": 9,
        },
    ]
    assert err == ""


def test_set_overrides_one_value(pipeline: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run_command(["run", str(pipeline), "--set", "stages.windows.window.tumbling=1h"]) == 0
    assert [row["n"] for row in output(capfd)] == [1, 2]


def test_stats(pipeline: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    stats = tmp_path / "stats.json"
    assert run_command(["run", str(pipeline), "--stats", str(stats), "--workers", "2"]) == 0
    ledger = json.loads(stats.read_text())
    assert ledger["name"] == "hits"
    assert ledger["sources"]["hits"]["rows"] == 3 and ledger["stages"]["windows"]["rows_out"] == 2
    capfd.readouterr()
    assert run_command(["run", str(pipeline), "--stats", "-"]) == 0
    out, err = capfd.readouterr()
    assert json.loads(err)["sinks"]["out"] == {"rows": 2, "bytes": len(out)}


def test_stats_that_cannot_be_written(
    pipeline: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """How the run ended decides the exit code, and is told."""
    command = ["run", str(pipeline), "--stats", str(tmp_path / "no" / "stats.json")]
    assert run_command(command) == 0
    out, err = capfd.readouterr()
    assert len(out.splitlines()) == 2
    assert err.startswith("warning: --stats") and "Traceback" not in err
    assert run_command([*command, "--set", "sources.hits.path=not-there.ndjson"]) == 1
    warning, error = capfd.readouterr().err.splitlines()
    assert warning.startswith("warning: --stats") and error.startswith("error: hits: ")


def test_stats_do_not_wait_for_a_reader(
    pipeline: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    os.mkfifo(pipe := tmp_path / "pipe")
    assert run_command(["run", str(pipeline), "--stats", str(pipe)]) == 0
    assert capfd.readouterr().err == f"warning: --stats {pipe}: cannot be written: nobody reads the pipe\n"
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        assert run_command(["run", str(pipeline), "--stats", str(pipe)]) == 0
        assert json.loads(os.read(reader, 65536))["name"] == "hits"
    finally:
        os.close(reader)


def test_what_left_by_a_side_output_that_nobody_reads_is_told(
    pipeline: Path, hits: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    hits.write_text(hits.read_text() + "nonsense\n" + json.dumps(ROWS[0]) + "\n")
    assert run_command(["run", str(pipeline)]) == 0
    err = capfd.readouterr().err
    assert "hits: 1 rejected" in err and "windows: 1 late" in err and "hits.ndjson:4" in err
    assert run_command(["run", str(pipeline), "--quiet"]) == 0
    assert capfd.readouterr().err == ""


def test_a_run_that_fails_exits_1_in_one_line(pipeline: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run_command(["run", str(pipeline), "--set", "sources.hits.path=not-there.ndjson"]) == 1
    out, err = capfd.readouterr()
    assert out == "" and len(err.splitlines()) == 1 and "not-there.ndjson" in err
    assert run_command(["run", str(pipeline), "--set", "sources.hits.path=not-there.ndjson", "-v"]) == 1
    assert "Traceback" in capfd.readouterr().err


def test_on_error_fail_stops_the_run(pipeline: Path, hits: Path, capfd: pytest.CaptureFixture[str]) -> None:
    hits.write_text("nonsense\n" + hits.read_text())
    assert run_command(["run", str(pipeline), "--set", "sources.hits.on_error=fail"]) == 1
    assert "hits" in capfd.readouterr().err


@pytest.mark.parametrize(
    "args", [["rn"], ["run"], ["run", "x", "--workers", "0"], ["run", "x", "--no-such"], ["list", "all"]]
)
def test_usage_errors_exit_2(args: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    assert run_command(args) == 2
    out, err = capfd.readouterr()
    assert out == "" and "Error" in err and "Traceback" not in err


def test_help_and_version(capfd: pytest.CaptureFixture[str]) -> None:
    assert run_command(["--help"]) == 0
    out = capfd.readouterr().out
    for command in ("run", "check", "explain", "agg", "infer", "list", "schema", "demo"):
        assert f"\n  {command} " in out
        assert run_command([command, "--help"]) == 0
    capfd.readouterr()
    assert run_command(["--version"]) == 0
    assert asyncflow.__version__ in capfd.readouterr().out


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; from asyncflow.cli import run_command; run_command(['--help']);"
        "print(sorted({'numpy', 'sqlglot', 'rich', 'asyncio'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"


UNUSED = (
    "asyncflow.cli.commands",
    "asyncflow.connectors._compression",
    "asyncflow.connectors.udp",
    "asyncflow.doors.expressions.sql_text",
    "asyncflow.doors.expressions.sql_tree",
    "asyncflow.doors.pipeline_file.trials",
    "asyncflow.doors.stages.join",
    "asyncflow.doors.stages.sequence",
    "asyncflow.formats._infer",
    "asyncflow.formats.csv",
    "asyncflow.model.patterns",
    "asyncflow.model.saved_batches",
    "asyncflow.operators.aggregates.python_aggregates",
    "asyncflow.operators.aggregates.python_cells",
    "asyncflow.operators.dedup",
    "asyncflow.operators.functions.named",
    "asyncflow.operators.joins",
    "asyncflow.operators.merge",
    "asyncflow.operators.parts.state",
    "asyncflow.operators.top",
    "asyncflow.operators.windows.revised",
    "asyncflow.operators.windows.slot_window",
    "asyncflow.plan.stages.map",
    "asyncflow.plan.trials",
    "asyncflow.runtime.base.status",
    "asyncflow.runtime.checkpoint.coordinator",
    "asyncflow.runtime.ingest.first_messages",
    "asyncflow.runtime.ingest.foreign_streams",
    "asyncflow.runtime.ingest.messages",
    "asyncflow.runtime.ingest.python.sources",
    "asyncflow.runtime.ingest.python.table_objects",
    "asyncflow.runtime.inspect.why",
    "asyncflow.runtime.stages.readers",
    "asyncflow.runtime.stages.refresh",
    "asyncflow.runtime.stages.retiming",
    "asyncflow.runtime.stages.saved_messages",
    "click",
    "fnmatch",
    "mmap",
    "pathlib",
    "pkgutil",
    "termios",
)
"""Modules that a run of ``PIPELINE`` has no use for: most of the processor time of a small run is imports."""


def test_a_run_loads_only_what_its_pipeline_uses(pipeline: Path) -> None:
    assert all(importlib.util.find_spec(name) for name in UNUSED)
    code = (
        # What the environment itself loads (the finder of an editable installation does) is not the run's.
        "import sys; before = set(sys.modules);"
        f"from asyncflow.cli import run_command; run_command(['run', {str(pipeline)!r}]);"
        f"print([name for name in {UNUSED!r} if name in sys.modules and name not in before])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    *rows, loaded = done.stdout.splitlines()
    assert len(rows) == 2 and loaded == "[]"


# -- signals and readers -----------------------------------------------------------------------------------------------


def live(tmp_path: Path) -> Path:
    path = tmp_path / "live.toml"
    path.write_text(
        '[sources.rows]\ntype = "generate"\nrate = 1000\n[sinks.out]\ntype = "stdout"\n'
        '[stages.all]\ntype = "window"\ninputs = ["rows"]\naggregates = { n = "count(*)" }\n'
        '[sinks.total]\ntype = "file"\npath = "%s"\ninputs = ["all"]\n' % (tmp_path / "total.json")
    )
    text = path.read_text().replace(
        '[sinks.out]\ntype = "stdout"\n', '[sinks.out]\ntype = "stdout"\ninputs = ["rows"]\n'
    )
    path.write_text(text)
    return path


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_lets_what_was_read_flow_out(number: int, tmp_path: Path) -> None:
    with process("run", str(live(tmp_path))) as running:
        assert running.stdout is not None and running.stderr is not None
        running.stdout.readline()
        running.send_signal(number)
        out, err = running.communicate(timeout=60)
    assert running.returncode == 0, err
    assert err == b""
    total = json.loads((tmp_path / "total.json").read_text())["n"]
    assert total == 1 + len(out.splitlines())


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_second_signal_ends_at_once(number: int, code: int, tmp_path: Path) -> None:
    """Nobody reads stdout any more, so what was read cannot flow out; the second signal does not wait for it."""
    path = live(tmp_path)
    path.write_text(path.read_text().replace("rate = 1000", "rate = 0"))
    with process("run", str(path)) as running:
        assert running.stdout is not None and running.stderr is not None
        running.stdout.readline()
        running.send_signal(number)
        with pytest.raises(subprocess.TimeoutExpired):
            running.wait(timeout=0.5)
        running.send_signal(number)
        assert running.wait(timeout=60) == code
        assert b"Traceback" not in running.stderr.read()


def test_a_reader_that_goes_away_ends_it_quietly(tmp_path: Path) -> None:
    with process("run", str(live(tmp_path))) as running:
        assert running.stdout is not None and running.stderr is not None
        running.stdout.readline()
        running.stdout.close()
        assert running.wait(timeout=60) == 141
        assert running.stderr.read() == b""


def test_a_reader_of_the_list_that_goes_away(tmp_path: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb") as gone:
        done = subprocess.run(
            [sys.executable, "-m", "asyncflow", "schema"],
            stdout=gone,
            stderr=subprocess.PIPE,
            timeout=60,
            check=False,
        )
    assert (done.returncode, done.stderr) == (141, b"")


# -- check, explain, infer, list, schema -------------------------------------------------------------------------------


def test_check_opens_nothing(pipeline: Path, hits: Path, capfd: pytest.CaptureFixture[str]) -> None:
    hits.unlink()
    assert run_command(["check", str(pipeline)]) == 0
    out, err = capfd.readouterr()
    assert out == "" and "ok" in err


@pytest.mark.parametrize("form", ["tree", "mermaid", "json"])
def test_explain(form: str, pipeline: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run_command(["explain", str(pipeline), "--as", form]) == 0
    out, err = capfd.readouterr()
    assert "hits" in out and "windows" in out and err == ""


def test_explain_reads_the_columns_of_a_file_that_is_there(
    pipeline: Path, hits: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    pipeline.write_text(
        "\n".join(line for line in pipeline.read_text().splitlines() if not line.startswith("schema"))
    )
    assert run_command(["explain", str(pipeline)]) == 0
    assert "columns ts timestamp, host string, ms int64" in capfd.readouterr().out
    assert run_command(["explain", str(pipeline), "--set", 'stages.windows.by=["hst"]']) == 2
    assert "'host'" in capfd.readouterr().err
    hits.unlink()
    assert run_command(["explain", str(pipeline)]) == 0
    assert "columns not known before it runs" in capfd.readouterr().out


def test_infer_prints_a_pipeline_that_runs(
    hits: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["infer", str(hits)]) == 0
    text = capfd.readouterr().out
    assert load(text).sources[0].time == "ts"
    path = tmp_path / "inferred.toml"
    path.write_text(text)
    assert run_command(["run", str(path)]) == 0
    assert [(row["host"], row["rows"], row["mean_ms"]) for row in output(capfd)] == [
        ("a", 1, 5.0),
        ("b", 2, 8.0),
    ]


@pytest.mark.parametrize(
    ("value", "unit"),
    [
        (1704067201, "s"),
        (1704067201000, "ms"),
        (1704067201000000, "us"),
        (1704067201000000000, "ns"),
        (1704067201.5, "s"),
    ],
)
def test_infer_tells_the_unit_of_an_epoch(
    value: float, unit: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / 'odd "name".json'
    path.write_text(json.dumps({"odd key": 1, "when": value, "né": None}) + "\n")
    assert run_command(["infer", str(path)]) == 0
    document = tomllib.loads(capfd.readouterr().out)
    source = document["sources"]["input"]
    assert source["time"] == "when" and source["schema"]["when"] == f"timestamp[{unit}]"
    assert source["path"] == str(path) and "odd key" in source["schema"]


def test_infer_of_what_cannot_be_read(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run_command(["infer", str(tmp_path / "missing.csv")]) == 1
    assert run_command(["infer", str(tmp_path / "missing.csv"), "--format", "cvs"]) == 2
    out, err = capfd.readouterr()
    assert out == "" and "missing.csv" in err and "'csv'" in err and "Traceback" not in err


def test_list(capfd: pytest.CaptureFixture[str]) -> None:
    assert run_command(["list"]) == 0
    out = capfd.readouterr().out
    for name in (
        "sources",
        "sinks",
        "formats",
        "aggregates",
        "functions",
        "stdin",
        "delimiter",
        "arg_max",
        "date_trunc",
        "follow",
    ):
        assert name in out
    assert run_command(["list", "sinks"]) == 0
    assert "delimiter" not in capfd.readouterr().out


def test_list_has_every_key_of_a_pipeline_file(capfd: pytest.CaptureFixture[str]) -> None:
    assert run_command(["list", "stages"]) == 0
    out = capfd.readouterr().out
    for struct in (stages.find(name).Table for name in stages.names()):
        for field in msgspec.structs.fields(struct):
            assert field.name == "type" or f"    {field.encode_name} (" in out
    assert run_command(["list", "pipeline"]) == 0
    assert "memory (integer or text): What a run may hold" in capfd.readouterr().out
    assert run_command(["list", "sources"]) == 0
    assert "    idle_timeout (text): A source with nothing to read" in capfd.readouterr().out


def test_schema(capfd: pytest.CaptureFixture[str]) -> None:
    assert run_command(["schema"]) == 0
    schema = json.loads(capfd.readouterr().out)
    assert schema == json_schema()
    sources = {each["title"]: each for each in schema["$defs"]["source"]["oneOf"]}
    assert sources["file"]["properties"]["type"] == {"const": "file"} and sources["file"]["required"] == [
        "type",
        "path",
    ]
    assert {"path", "follow", "time", "schema", "watermark_delay"} <= set(sources["file"]["properties"])
    assert not sources["file"]["additionalProperties"]
    kinds = [each["properties"]["type"]["enum"] for each in schema["$defs"]["stage"]["oneOf"]]
    assert kinds == [[name] for name in stages.names()]
    assert {"filter", "derive", "window", "join", "dedup", "top"} == set(stages.names())
    assert "$ref" not in json.dumps(
        {key: each for key, each in schema["$defs"].items() if key in ("reading", "stage")}
    )


# -- agg and demo ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("from_stdin", [True, False])
def test_agg(from_stdin: bool, hits: Path) -> None:
    args = ["agg", "--by", "host", "--window", "10s", "--time", "ts", "n=count(*)", "max(ms)"]
    with process(*args, *([] if from_stdin else ["--input", str(hits)]), stdin=subprocess.PIPE) as running:
        out, err = running.communicate(hits.read_bytes() if from_stdin else None, timeout=60)
    assert running.returncode == 0 and err == b""
    assert [(row["host"], row["n"], row["max_ms"]) for row in map(json.loads, out.splitlines())] == [
        ("a", 1, 5),
        ("b", 2, 9),
    ]


def test_agg_reads_epochs_by_their_unit(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "epochs.csv"
    path.write_text("ts,x\n1704067201000,1\n1704067261000,2\n")
    args = ["agg", "--input", str(path), "--window", "1m", "sum(x)"]
    assert run_command([*args, "--time", "ts:ms"]) == 0
    assert [row["window_start"] for row in output(capfd)] == ["2024-01-01T00:00:00Z", "2024-01-01T00:01:00Z"]
    assert run_command([*args, "--time", "ts"]) == 2
    err = capfd.readouterr().err
    assert "--time" in err and "COL:ms" in err


def test_agg_tells_the_format_and_the_mistake(hits: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run_command(["agg", "--input", str(hits), "--where", "mss > 1"]) == 2
    assert "--where: there is no column 'mss' (did you mean 'ms'?)" in capfd.readouterr().err
    assert run_command(["agg", "--input", str(hits), "--by", "host", "--output", "csv"]) == 0
    assert capfd.readouterr().out.splitlines() == ["host,count", "a,1", "b,2"]


def test_demo_runs_a_few_seconds_on_a_pipe(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("asyncflow.cli.runs.DEMO_SECONDS", 1.5)
    assert run_command(["demo"]) == 0
    out, err = capfd.readouterr()
    header, *rows = out.splitlines()
    assert header.split() == ["window_start", "window_end", "sensor", "rows", "lowest", "mean", "highest"]
    assert len(rows) >= 5 and err == ""


def test_no_terminal_no_progress(
    pipeline: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("asyncflow.runtime.process.process.PROGRESS_AFTER_SECONDS", 0.0)
    assert run_command(["run", str(pipeline)]) == 0
    assert capfd.readouterr().err == ""


def test_stdout_in_text_does_not_matter(
    pipeline: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Rows go to the descriptor, not through Python's stdout."""
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    assert run_command(["run", str(pipeline)]) == 0
    assert len(capfd.readouterr().out.splitlines()) == 2
