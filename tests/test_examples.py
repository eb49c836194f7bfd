"""Every example runs as its head says and gives the output kept beside it."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"


def load_script(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def example(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A copy of the example's folder, to run in."""
    return Path(shutil.copytree(EXAMPLES / request.param, tmp_path / request.param))


def asyncflow(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "asyncflow", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(
    ("example", "made", "expected"),
    [
        ("sum-per-key", ["sums.txt"], ["expected.txt"]),
        ("mean-per-category", ["means.csv"], ["expected.csv"]),
        (
            "event-time-windows",
            ["minutes.ndjson", "sliding.ndjson", "late.ndjson"],
            ["expected-minutes.ndjson", "expected-sliding.ndjson", "expected-late.ndjson"],
        ),
        ("history-and-live", ["best.csv", "both.csv"], ["expected-best.csv", "expected-both.csv"]),
        ("stream-with-table", ["sums.csv"], ["expected.csv"]),
        ("late-payments", ["paid.csv"], ["expected.csv"]),
    ],
    indirect=["example"],
)
def test_files(example: Path, made: list[str], expected: list[str]) -> None:
    check = asyncflow("check", "pipeline.toml", cwd=example)
    assert check.returncode == 0, check.stderr
    run = asyncflow("run", "pipeline.toml", cwd=example)
    assert run.returncode == 0, run.stderr
    assert run.stdout == ""
    for made_name, expected_name in zip(made, expected, strict=True):
        assert (example / made_name).read_text() == (example / expected_name).read_text()


PIPELINES = sorted(path.parent.name for path in EXAMPLES.glob("*/pipeline.toml"))


@pytest.mark.parametrize("example", PIPELINES, indirect=True)
def test_its_own_tests_pass_and_open_nothing(example: Path) -> None:
    for path in example.iterdir():
        if path.name != "pipeline.toml":
            path.unlink()
    tested = asyncflow("test", "pipeline.toml", cwd=example)
    assert tested.returncode == 0, tested.stdout + tested.stderr
    assert tested.stdout.startswith("ok ")
    assert [path.name for path in example.iterdir()] == ["pipeline.toml"]


@pytest.mark.parametrize("example", ["event-time-windows"], indirect=True)
def test_explain_shows_where_state_lives(example: Path) -> None:
    explained = asyncflow("explain", "pipeline.toml", cwd=example)
    assert explained.returncode == 0, explained.stderr
    assert "state" in explained.stdout
    assert "per_minute" in explained.stdout


@pytest.mark.parametrize("example", ["history-and-live"], indirect=True)
def test_the_hand_over_is_told(example: Path) -> None:
    run = asyncflow("run", "pipeline.toml", "--stats", "stats.json", cwd=example)
    assert "orders: the past has ended after 9 rows, the last at 2024-03-01 23:59:50" in run.stderr
    assert "2 rows were there already" in run.stderr
    counts = json.loads((example / "stats.json").read_text())["stages"]["orders"]
    assert (counts["history_rows"], counts["duplicate"], counts["late"], counts["rows_out"]) == (9, 2, 0, 13)
    assert asyncflow("run", "pipeline.toml", "--quiet", cwd=example).stderr == ""


@pytest.mark.parametrize("example", ["line-server"], indirect=True)
def test_line_server(example: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "server.py", "127.0.0.1:0", "1.5"], cwd=example, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        port = server.stdout.readline().strip().rpartition(":")[2]
        try:
            run = asyncflow(
                "run", "pipeline.toml", "--set", f"sources.lines.connect=127.0.0.1:{port}", cwd=example
            )
        finally:
            server.terminate()
    assert run.returncode == 0, run.stderr
    header, *rows = run.stdout.splitlines()
    assert header.split() == ["window_start", "window_end", "key", "total", "lines"]
    assert sum(int(row.split()[-2]) for row in rows) == sum(range(30))
    assert sum(int(row.split()[-1]) for row in rows) == 30


@pytest.mark.parametrize("example", ["udp-mean"], indirect=True)
def test_udp_mean(example: Path) -> None:
    ask = load_script(example / "ask.py").ask
    port = 30_000 + os.getpid() % 20_000
    command = [sys.executable, "-m", "asyncflow", "run", "pipeline.toml", "--set"]
    command.append(f"sources.asked.listen=127.0.0.1:{port}")
    with subprocess.Popen(command, cwd=example, stderr=subprocess.PIPE, text=True) as server:
        try:
            for _ in range(100):
                try:
                    assert ask([1.5, 2.5, 6.5], port=port, seconds=0.3) == 3.5
                    break
                except (ConnectionRefusedError, TimeoutError):
                    time.sleep(0.1)  # it does not listen yet
            assert ask([-0.5], port=port) == -0.5
        finally:
            server.terminate()
            assert server.wait(20) == 0


@pytest.mark.parametrize("workers", [1, 2, 7])
def test_sum_of_batches(workers: int) -> None:
    total = load_script(EXAMPLES / "sum-of-batches" / "sum_of_batches.py").total
    for pieces in (1, 10, 333):
        assert asyncio.run(total(np.arange(1000), pieces, workers)) == 499_500


def test_every_example_is_tested() -> None:
    tested = set(re.findall(r'"([a-z]+(?:-[a-z]+)+)"', Path(__file__).read_text()))
    folders = {path.name for path in EXAMPLES.iterdir() if path.is_dir()}
    assert folders <= tested
