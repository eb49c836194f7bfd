"""Closed standard streams (``<&-``, ``>&-``, ``2>&-``): no effect where they are not needed, one clear error line where they are."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

FILE = """[sources.s]
type = "file"
path = "in.csv"
format = "csv"
schema = { v = "int64" }
[sinks.o]
type = "file"
path = "out"
mode = "replace"
format = "json"
"""
CLOSED = [" ".join(each) for n in (1, 2, 3) for each in itertools.combinations(("<&-", ">&-", "2>&-"), n)]


@pytest.fixture
def shell(tmp_path: Path) -> Any:
    (tmp_path / "in.csv").write_text("v\n1\n2\n")
    (tmp_path / "p.toml").write_text(FILE)

    def run(arguments: str, streams: str = "", text: str = "") -> subprocess.CompletedProcess[str]:
        if text:
            (tmp_path / "p.toml").write_text(text)
        command = ["bash", "-c", f'ulimit -c 0; exec "$0" -m asyncflow {arguments} {streams}', sys.executable]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)

    return run


@pytest.mark.parametrize("streams", CLOSED)
def test_a_run_that_does_not_need_them_works(shell: Any, tmp_path: Path, streams: str) -> None:
    done = shell("run p.toml --stats stats -v", streams)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out").read_text() == '{"v":1}\n{"v":2}\n'
    assert (tmp_path / "stats").read_text().startswith("{")
    assert done.stdout == ""


@pytest.mark.parametrize("streams", CLOSED)
def test_a_failure_has_its_exit_code_and_says_nothing_elsewhere(
    shell: Any, tmp_path: Path, streams: str
) -> None:
    done = shell("run p.toml --set sources.s.path=none.csv", streams)
    assert (done.returncode, done.stdout) == (1, "")
    assert ("none.csv: no such file" in done.stderr) == ("2>&-" not in streams)
    assert shell("check nothing.toml", streams).returncode == 2


@pytest.mark.parametrize(
    ("arguments", "streams", "text", "message"),
    [
        ("agg", "<&-", "", "stdin cannot be read: it is closed"),
        ("agg --input in.csv", ">&-", "", "stdout cannot be written: it is closed"),
        ("run p.toml", ">&-", FILE.replace('"out"', '"/dev/stdout"'), "descriptor 1 is not open for writing"),
        ("run p.toml", "<&-", FILE.replace('"in.csv"', '"/dev/stdin"'), "/dev/stdin: is closed"),
        ("list", ">&-", "", "standard output cannot be written: bad file descriptor"),
        ("explain p.toml", ">&-", "", "standard output cannot be written: bad file descriptor"),
        ("list", ">/dev/full", "", "standard output cannot be written: no space left on device"),
    ],
)
def test_a_stream_that_is_needed_is_told_in_one_line(
    shell: Any, arguments: str, streams: str, text: str, message: str
) -> None:
    done = shell(arguments, streams, text)
    assert done.returncode == 1
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_script_with_closed_streams(tmp_path: Path) -> None:
    """No data file gets the number of one, and no loop aborts."""
    script = (
        "import asyncflow as af, os\n"
        "af.run(af.source([{'v': 1}]).to('file', path='out', format='json'))\n"
        "open('fds', 'w').write(' '.join(os.readlink(f'/proc/self/fd/{fd}') for fd in range(3)))"
    )
    command = ["bash", "-c", 'ulimit -c 0; exec "$0" -c "$1" <&- >&- 2>&-', sys.executable, script]
    assert subprocess.run(command, cwd=tmp_path, timeout=60).returncode == 0
    assert (tmp_path / "fds").read_text() == "/dev/null /dev/null /dev/null"
    assert (tmp_path / "out").read_text() == '{"v":1}\n'
