"""``asyncflow why`` and SIGUSR1, on real processes."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest

import asyncflow as af
from asyncflow.cli import run_command
from asyncflow.errors import ConnectorError
from asyncflow.runtime.base.status import RunStatus
from asyncflow.runtime.inspect import control

PIPELINE = """
name = "visits"

[sources.a]
type = "stdin"
format = "json"
schema = { ts = "timestamp", host = "string" }
time = "ts"

[sources.b]
type = "unix"
listen = "b.socket"
format = "json"
schema = { ts = "timestamp", host = "string" }
time = "ts"

[stages.per_minute]
type = "window"
inputs = ["a", "b"]
window = { tumbling = "1m" }
by = ["host"]
aggregates = { n = "count(*)" }

[sinks.out]
type = "stdout"
"""
ROWS = b"".join(b'{"ts": "2024-01-01T12:0%d:30Z", "host": "x"}\n' % minute for minute in range(3))


class Processes:
    """Processes of the command line that end with the test, at the latest."""

    def __init__(self, tmp_path: Path) -> None:
        self.tmp_path = tmp_path
        self.started: list[subprocess.Popen[bytes]] = []

    def start(self, *args: str, **options: Any) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "asyncflow", *args]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        process = subprocess.Popen(command, bufsize=0, **pipes, **options)
        self.started.append(process)
        return process

    def run(self, *options: str, text: str = PIPELINE, name: str = "p.toml") -> subprocess.Popen[bytes]:
        """One run of a pipeline file, in a directory of its own."""
        path = self.tmp_path / name
        path.write_text(text)
        place = self.tmp_path / f"cwd{len(self.started)}"
        place.mkdir()
        return self.start("run", str(path), *options, cwd=place)


@pytest.fixture
def processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Processes]:
    (tmp_path / "run").mkdir()
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    made = Processes(tmp_path)
    yield made
    for process in made.started:
        process.kill()
        process.communicate(timeout=60)


def ended(process: subprocess.Popen[bytes]) -> tuple[str, str]:
    """Its stdout and stderr, once it has ended as it should."""
    process.terminate()
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    return out.decode(), err.decode()


def answer(
    process: subprocess.Popen[bytes],
    condition: Callable[[RunStatus], bool] = lambda found: found.phase == "running",
) -> RunStatus:
    """What a process says once it is so."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        for each in control.found():
            if each.pid == process.pid:
                with suppress(ConnectorError):
                    found = msgspec.json.decode(control.ask(each), type=RunStatus)
                    if condition(found):
                        return found
        time.sleep(0.01)
    raise AssertionError(f"it never came true; exit code {process.poll()}")


def with_rows(process: subprocess.Popen[bytes]) -> RunStatus:
    """A run of ``PIPELINE`` that has taken ``ROWS`` and waits for its other input."""
    assert process.stdin is not None
    process.stdin.write(ROWS)
    return answer(process, lambda found: bool(found.stages) and found.stages[0].open_windows == 3)


def said(capfd: pytest.CaptureFixture[str], *args: str, code: int = 0) -> tuple[str, str]:
    assert run_command(["why", *args]) == code
    return capfd.readouterr()


def test_a_stalled_run_is_asked_by_process_and_by_file(
    processes: Processes, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    process = processes.run()
    with_rows(process)
    path = processes.tmp_path / "p.toml"
    directory = processes.tmp_path / "run" / "asyncflow"
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert stat.S_IMODE((directory / f"{process.pid}.sock").stat().st_mode) == 0o600

    by_process, err = said(capfd, str(process.pid))
    assert err == ""
    head, stage, sources, sinks = by_process.split("\n\n")
    assert head.startswith(f"visits (pid {process.pid}, {path}), running for ")
    assert "held by     b: " in stage and "; it has not said anything yet" in stage
    assert "3 open windows with 3 rows, 1 key; the next goes out at 2024-01-01T12:01:00Z" in stage
    assert "released by a row of b at or after 2024-01-01T12:01:00Z\n" in stage
    assert "or b ending\n" in stage and "idle_timeout on sources.b" in stage
    assert sources.splitlines()[1].split()[-3:] == ["3", "0", "0"]
    assert sinks.splitlines()[1].split() == ["out", "waits", "for", "rows", "0", "0"]

    monkeypatch.chdir(processes.tmp_path)
    (processes.tmp_path / "link.toml").symlink_to(path)
    for name in ("p.toml", str(path), "link.toml"):
        by_file, _ = said(capfd, name)
        assert by_file.startswith(f"visits (pid {process.pid}, {path})")

    as_json, _ = said(capfd, "--json", "p.toml")
    document = json.loads(as_json)
    assert document["stages"][0]["holders"][0]["source"] == "b"
    assert document["file"] == str(path)

    out, err = ended(process)
    assert [json.loads(line)["n"] for line in out.splitlines()] == [1, 1, 1]
    assert list(directory.iterdir()) == []


def test_two_runs_of_one_file_both_answer(processes: Processes, capfd: pytest.CaptureFixture[str]) -> None:
    first, second, other = processes.run(), processes.run(), processes.run(name="other.toml")
    for process in (first, second, other):
        answer(process)
    path = str(processes.tmp_path / "p.toml")
    as_json, _ = said(capfd, path, "--json")
    assert {json.loads(line)["pid"] for line in as_json.splitlines()} == {first.pid, second.pid}
    told, _ = said(capfd, path)
    assert told.count("visits (pid ") == 2
    ended(first)
    told, _ = said(capfd, path)
    assert told.startswith(f"visits (pid {second.pid}")


def test_what_a_killed_run_left_is_taken_away(
    processes: Processes, capfd: pytest.CaptureFixture[str]
) -> None:
    process = processes.run()
    answer(process)
    process.kill()
    process.wait(60)
    left = processes.tmp_path / "run" / "asyncflow" / f"{process.pid}.sock"
    assert left.is_socket()
    path = str(processes.tmp_path / "p.toml")
    _, err = said(capfd, path, code=1)
    assert err == f"error: no run of {path} is under way (start one: asyncflow run {path})\n"
    assert not left.exists()
    _, err = said(capfd, str(process.pid), code=1)
    assert err == f"error: there is no process {process.pid}\n"


def test_the_signal_tells_the_same_on_stderr(processes: Processes) -> None:
    process = processes.run("--progress", "off")
    with_rows(process)
    process.send_signal(signal.SIGUSR1)
    process.send_signal(signal.SIGUSR1)
    answer(process)  # it has handled the signal before
    out, err = ended(process)
    assert [json.loads(line)["n"] for line in out.splitlines()] == [1, 1, 1]
    assert f"visits (pid {process.pid}" in err
    assert "held by     b: " in err and "it has not said anything yet" in err


def test_a_run_that_waits_for_its_first_record_can_be_asked(
    processes: Processes, capfd: pytest.CaptureFixture[str]
) -> None:
    process = processes.start("agg", "n=count(*)")
    answer(process, lambda found: found.phase == "head" and found.phase_table != "")
    told, _ = said(capfd, str(process.pid))
    assert "it has not begun: it waits for the first records of " in told
    process.send_signal(signal.SIGUSR1)
    assert process.stdin is not None
    out, err = process.communicate(b'{"a": 1}\n', timeout=60)
    assert json.loads(out) == {"n": 1}
    assert "it waits for the first records of " in err.decode()


def test_the_sink_that_does_not_take_rows_is_named(processes: Processes) -> None:
    text = '[sources.a]\ntype = "generate"\nrate = 1000000\n[sinks.out]\ntype = "stdout"\n'
    process = processes.run(text=text)
    held = answer(process, lambda found: any(source.state == "held" for source in found.sources))
    found = answer(process, lambda found: found.sources[0].waits_for == ("out",))
    assert held.sinks[0].name == "out"
    assert found.sinks[0].state == "writes"
    assert found.sinks[0].waiting_rows > 0


@pytest.mark.parametrize(
    ("target", "told"),
    [
        ("0", "there is no process 0"),
        ("9" * 30, f"there is no process {'9' * 30}"),
        ("9" * 5000, f"{'9' * 5000}: there is no such file, and no run of it"),
        ("nowhere.toml", "nowhere.toml: there is no such file, and no run of it"),
    ],
)
def test_what_cannot_be_asked_is_one_line(
    processes: Processes, capfd: pytest.CaptureFixture[str], target: str, told: str
) -> None:
    assert said(capfd, target, code=1) == ("", f"error: {told}\n")


def test_a_process_that_is_no_run_is_told(processes: Processes, capfd: pytest.CaptureFixture[str]) -> None:
    _, err = said(capfd, str(os.getpid()), code=1)
    assert err.startswith(f"error: process {os.getpid()} is no asyncflow run of yours that can be asked (no ")
    assert err.count("\n") == 1


def test_usage(processes: Processes, capfd: pytest.CaptureFixture[str]) -> None:
    assert run_command(["why"]) == 2
    assert "Missing argument 'FILE|PID'" in capfd.readouterr().err


def test_no_directory_is_no_reason_not_to_run(processes: Processes) -> None:
    for name in ("run", "tmp"):
        path = processes.tmp_path / name
        path.rmdir()
        path.write_text("")
    text = '[sources.a]\ntype = "generate"\nrate = 5\nrows = 3\n[sinks.out]\ntype = "stdout"\n'
    for options in ((), ("-v",)):
        out, err = processes.run(*options, text=text).communicate(timeout=60)
        assert out.count(b"\n") == 3
        assert (b"warning: asyncflow why cannot ask this run: " in err) == bool(options)


async def test_a_flow_inside_an_application_opens_nothing_and_leaves_the_signal_alone(
    processes: Processes,
) -> None:
    before = signal.getsignal(signal.SIGUSR1)
    seen: list[list[control.Found]] = []

    def look(batch: Any) -> Any:
        seen.append(control.found())
        assert signal.getsignal(signal.SIGUSR1) is before
        return batch

    flow = af.source([{"x": 1}]).map(look)
    assert [row async for batch in flow for row in batch.to_pylist()] == [{"x": 1}]
    assert seen == [[]]


def test_who_asks_before_there_is_a_run_or_after_it_ends_nothing() -> None:
    script = (
        "import os, signal, asyncflow.cli as cli\n"
        "cli.run_command = lambda args: os.kill(os.getpid(), signal.SIGUSR1) or 3\n"
        "cli.main([])"
    )
    assert subprocess.run([sys.executable, "-c", script], timeout=60).returncode == 3
