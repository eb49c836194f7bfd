"""A partial result is never published as the whole: a stop before the end of bounded input, and a run whose records were all rejected."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import asyncflow as af
from asyncflow.errors import StoppedError
from asyncflow.runtime.run.run import Run

RUN = [sys.executable, "-m", "asyncflow", "run"]
LINES = b"n\n" + b"".join(b"%d\n" % n for n in range(3_000_000))


def pipeline(source: str, mode: str = "replace") -> str:
    return f"""[sources.s]
{source}
format = "csv"
schema = {{ n = "int64" }}
[sinks.seen]
type = "stdout"
format = "csv"
[sinks.out]
type = "file"
path = "out"
mode = "{mode}"
format = "json"
"""


def stopped(folder: Path, source: str, stdin: Any = None) -> subprocess.CompletedProcess[bytes]:
    """Runs it until its standard output is full, stops it, then takes all that it has."""
    (folder / "p.toml").write_text(pipeline(source))
    process = subprocess.Popen(
        [*RUN, "p.toml", "--stats", "stats"],
        cwd=folder,
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    first = os.read(process.stdout.fileno(), 100)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    return subprocess.CompletedProcess([], process.returncode, first + out, err)


@pytest.mark.parametrize("kind", ["file", "gz", "files", "stdin", "two"])
def test_a_stop_before_the_end_of_its_input_keeps_what_was_to_be_replaced(tmp_path: Path, kind: str) -> None:
    (tmp_path / "out").write_text("old\n")
    (tmp_path / "in.csv").write_bytes(LINES)
    source = {"files": 'type = "file"\npath = ["in.csv", "none/../in.csv"]'}.get(
        kind, 'type = "file"\npath = "in.csv"'
    )
    if kind == "files":
        (tmp_path / "none").mkdir()
    if kind == "gz":
        (tmp_path / "in.csv.gz").write_bytes(gzip.compress(LINES, 1))
        source = 'type = "file"\npath = "in.csv.gz"'
    if kind == "two":
        (tmp_path / "short.csv").write_text("n\n1\n")
        source = 'type = "file"\npath = ["in.csv", "short.csv"]'
    if kind == "stdin":
        source = 'type = "stdin"'
    with (tmp_path / "in.csv").open("rb") as stdin:
        done = stopped(tmp_path, source, stdin if kind == "stdin" else None)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == b"error: s: stopped before the end of its input"
    assert (tmp_path / "out").read_text() == "old\n"
    assert not [name for name in os.listdir(tmp_path) if name.endswith(".tmp")]
    stats = json.loads((tmp_path / "stats").read_text())
    assert 0 < stats["sinks"]["seen"]["rows"] < 3_000_000
    assert len(done.stdout.splitlines()) == stats["sinks"]["seen"]["rows"] + 1


@pytest.mark.parametrize("kind", ["pipe", "follow", "/dev/stdin"])
def test_a_stop_is_the_end_of_input_without_an_end(tmp_path: Path, kind: str) -> None:
    (tmp_path / "out").write_text("old\n")
    (tmp_path / "in.csv").write_text("n\n1\n")
    source = 'type = "stdin"' if kind == "pipe" else 'type = "file"\npath = "in.csv"\nfollow = true'
    read, write = os.pipe()
    with os.fdopen(read, "rb") as ours, os.fdopen(write, "wb", buffering=0) as theirs:
        theirs.write(b"n\n1\n")
        if kind == "/dev/stdin":
            source = 'type = "file"\npath = "/dev/stdin"'
        done = stopped(tmp_path, source, ours)
    assert (done.returncode, done.stderr) == (0, b"")
    assert (tmp_path / "out").read_text() == '{"n":1}\n'


async def test_a_stop_when_all_was_read_is_no_part(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("n\n1\n2")
    flow = af.source("file", path=str(tmp_path / "in.csv"), schema={"n": "int64"})
    run = Run(flow.to("file", path=str(tmp_path / "out"), mode="replace", format="json").checked())
    task = asyncio.create_task(run.execute())
    while not run.ledger.sources or next(iter(run.ledger.sources.values())).rows < 2:  # noqa: ASYNC110 - no event tells of it
        await asyncio.sleep(0)
    run.stop()
    ledger = await task
    assert ledger.to_dict()["sinks"]["sink_1"]["rows"] == 2
    assert (tmp_path / "out").read_text() == '{"n":1}\n{"n":2}\n'


async def test_python_is_told_of_a_stop_too(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_bytes(LINES)
    flow = af.source("file", path=str(tmp_path / "in.csv"), schema={"n": "int64"})
    run = Run(flow.to("file", path=str(tmp_path / "out"), mode="replace", format="json").checked())
    task = asyncio.create_task(run.execute())
    run.stop()
    with pytest.raises(StoppedError, match="source_1: stopped before the end of its input"):
        await task
    assert os.listdir(tmp_path) == ["in.csv"]


@pytest.mark.parametrize(("data", "code"), [("n\nx\ny\n", 1), ("n\nx\n1\n", 0), ("n\n", 0), ("", 0)])
def test_a_run_whose_records_were_all_rejected_has_failed(tmp_path: Path, data: str, code: int) -> None:
    (tmp_path / "out").write_text("old\n")
    (tmp_path / "in.csv").write_text(data)
    (tmp_path / "p.toml").write_text(pipeline('type = "file"\npath = "in.csv"'))
    done = subprocess.run([*RUN, "p.toml"], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == code
    assert ("error: every record was rejected" in done.stderr) == bool(code)
    assert ("n: not an int64: 'x'" in done.stderr) == ("x" in data)
    assert ((tmp_path / "out").read_text() == "old\n") == bool(code)


def test_a_run_that_is_to_read_rejected_records_has_not_failed(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("n\nx\ny\n")
    (tmp_path / "p.toml").write_text(
        '[sources.s]\ntype = "file"\npath = "in.csv"\nformat = "csv"\nschema = { n = "int64" }\n'
        '[sinks.bad]\ntype = "stdout"\nformat = "json"\ninputs = ["s.rejected"]\n'
    )
    done = subprocess.run([*RUN, "p.toml"], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    assert [json.loads(line)["record"] for line in done.stdout.splitlines()] == ["x", "y"]
