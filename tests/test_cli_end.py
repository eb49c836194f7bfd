"""The end of the command's process: the exit code, all output written, and nobody cut short who still works or watches."""

from __future__ import annotations

import subprocess
import sys

import pytest

AS_COMMAND = "sys.argv[1:] = {args!r}; main()"
FROM_PYTHON = "main({args!r})"
WAYS = pytest.mark.parametrize("way", [AS_COMMAND, FROM_PYTHON])


def ended(code: str, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *options, "-c", f"import sys; from asyncflow.cli import main\n{code}"],
        input="", capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


@WAYS
@pytest.mark.parametrize(("args", "code"), [(["--version"], 0), (["check", "/nowhere/p.toml"], 2)])
def test_the_code_and_all_that_was_written_come_out(way: str, args: list[str], code: int) -> None:
    done = ended(
        "import atexit; atexit.register(sys.stdout.write, 'registered')\n"
        f"sys.stdout.write('before '); {way.format(args=args)}"
    )
    assert done.returncode == code
    assert done.stdout.startswith("before ") and done.stdout.endswith("registered")
    assert ("nowhere" in done.stderr) == (code == 2)


LAST = (
    "import os\nclass Last:\n    def __del__(self, write=os.write): write(1, b'taken apart')\nlast = Last()\n"
)


def test_the_command_leaves_without_taking_the_interpreter_apart() -> None:
    done = ended(LAST + AS_COMMAND.format(args=["--version"]))
    assert done.returncode == 0 and "taken apart" not in done.stdout


@pytest.mark.parametrize(
    ("before", "way", "options"),
    [
        ("", FROM_PYTHON, []),
        (
            "import importlib.metadata",
            AS_COMMAND,
            [],
        ),  # as where a component of another distribution was looked for
        ("sys.settrace(lambda *_: None)", AS_COMMAND, []),
        ("sys.setprofile(lambda *_: None)", AS_COMMAND, []),
        ("", AS_COMMAND, ["-i"]),
    ],
)
def test_code_that_is_not_ours_sees_the_end_of_the_interpreter(
    before: str, way: str, options: list[str]
) -> None:
    done = ended(f"{LAST}{before}\n{way.format(args=['--version'])}", *options)
    assert "taken apart" in done.stdout


@WAYS
def test_a_thread_that_still_works_is_waited_for(way: str) -> None:
    done = ended(
        "import threading\n"
        "def work():\n"
        "    threading.main_thread().join(30); print('worked')\n"
        f"threading.Thread(target=work).start(); {way.format(args=['--version'])}"
    )
    assert done.returncode == 0 and done.stdout.endswith("worked\n")


@WAYS
def test_a_profiler_still_tells(way: str) -> None:
    done = ended(f"import cProfile\ncProfile.run({way.format(args=['--version'])!r})")
    assert done.returncode == 0 and "function calls" in done.stdout


def test_standard_output_may_be_closed() -> None:
    code = "sys.stdout = None; from asyncflow.cli import _flush; _flush(); sys.exit(3)"
    assert ended(code).returncode == 3


def test_standard_output_may_be_closed_while_the_command_runs() -> None:
    done = ended(
        "import os; os.close(1); os.close(2); " + AS_COMMAND.format(args=["check", "/nowhere/p.toml"])
    )
    assert done.returncode == 2
