"""The end of the command's process: the exit code, and all output written."""

from __future__ import annotations

import subprocess
import sys

import pytest


def ended(code: str, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *options, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize(("args", "code"), [(["--version"], 0), (["check", "/nowhere/p.toml"], 2)])
def test_the_code_and_all_that_was_written_come_out(args: list[str], code: int) -> None:
    done = ended(
        "import atexit, sys; from asyncflow.cli import main\n"
        "atexit.register(sys.stdout.write, 'registered')\n"
        f"sys.stdout.write('before '); main({args!r})"
    )
    assert done.returncode == code
    assert done.stdout.startswith("before ") and done.stdout.endswith("registered")
    assert ("nowhere" in done.stderr) == (code == 2)


def test_a_thread_that_still_works_is_waited_for() -> None:
    done = ended(
        "import threading; from asyncflow.cli import main\n"
        "def work():\n"
        "    threading.main_thread().join(30); print('worked')\n"
        "threading.Thread(target=work).start(); main(['--version'])"
    )
    assert done.returncode == 0 and done.stdout.endswith("worked\n")


def test_a_profiler_still_tells() -> None:
    done = ended(
        "import cProfile; from asyncflow.cli import main\n"
        "cProfile.run(\"main(['--version'])\")"
    )  # fmt: skip
    assert done.returncode == 0 and "function calls" in done.stdout


def test_standard_output_may_be_closed() -> None:
    code = "import sys; sys.stdout = None; from asyncflow.cli import _flush; _flush(); sys.exit(3)"
    assert ended(code).returncode == 3
