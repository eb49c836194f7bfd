"""A pipeline file with a refreshed lookup, as a whole process: the table is replaced, and a missing table is a warning."""

from __future__ import annotations

import json
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import IO

import pytest

from asyncflow.cli import run_command

PIPELINE = """
[sources.orders]
type = "stdin"
format = "csv"
schema = { who = "string" }

[sources.rates]
type = "file"
path = "{path}"
schema = { who = "string", rate = "int64" }

[stages.priced]
type = "join"
left = "orders"
right = "rates"
on = ["who"]
kind = "left"
refresh = "20ms"

[sinks.out]
type = "stdout"
format = "json"
"""
PATIENCE_SECONDS = 30


TRIAL = """
[[tests]]
name = "each order with its rate, which is read before the first order"
feed = [
  { table = "orders", rows = [ { who = "a" }, { who = "b" } ] },
  { table = "rates", rows = [ { who = "a", rate = 7 } ] },
  { advance = "1h" },
]
expect = [ { table = "priced", rows = [ { who = "a", rate = 7 }, { who = "b", rate = { null = true } } ] } ]
"""


def test_its_own_tests_read_the_table_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pipeline = tmp_path / "p.toml"
    pipeline.write_text((PIPELINE + TRIAL).replace("{path}", str(tmp_path / "rates.csv")))
    assert run_command(["test", str(pipeline)]) == 0, capsys.readouterr()


def test_the_table_is_replaced_under_a_running_process(tmp_path: Path) -> None:
    rates, pipeline, stats = tmp_path / "rates.csv", tmp_path / "p.toml", tmp_path / "stats.json"
    rates.write_text("who,rate\na,1\n")
    pipeline.write_text(PIPELINE.replace("{path}", str(rates)))
    command = [sys.executable, "-m", "asyncflow", "run", str(pipeline), "--stats", str(stats)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    stdin, stdout, stderr = process.stdin, process.stdout, process.stderr
    assert stdin is not None
    assert stdout is not None
    assert stderr is not None

    def line(stream: IO[bytes]) -> str:
        """The next one; there is never more than one under way."""
        assert select.select([stream], [], [], PATIENCE_SECONDS)[0]
        return stream.readline().decode()

    def rate() -> int:
        """What a row sees now."""
        stdin.write(b"a\n")
        stdin.flush()
        found: int = json.loads(line(stdout))["rate"]
        return found

    try:
        stdin.write(b"who\n")
        assert rate() == 1
        fresh = tmp_path / "fresh.csv"
        fresh.write_text("who,rate\na,2\n")
        fresh.rename(rates)
        until = time.monotonic() + PATIENCE_SECONDS
        while rate() != 2:
            assert time.monotonic() < until
            time.sleep(0.01)
        rates.unlink()
        warning = line(stderr)
        assert rate() == 2
        stdin.close()
        assert process.wait(PATIENCE_SECONDS) == 0
        told = stderr.read().decode()
    finally:
        process.kill()
        process.wait()
        for stream in (stdin, stdout, stderr):
            stream.close()
    assert warning.startswith("warning: priced: rates could not be read again, the table stays as it was")
    assert str(rates) in warning
    assert "could not be read again" not in told, "one, however often it failed"
    counts = json.loads(stats.read_text())["stages"]["priced"]
    assert counts["refreshed"] >= 1
    assert counts["refresh_failed"] >= 1
