"""Runs an engine as a whole process on chosen CPUs, measures it, and feeds it where the input is live."""

from __future__ import annotations

import compileall
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cases import BENCH, OURS, Case

TIMEOUT_S = 1800.0


@dataclass(frozen=True)
class Run:
    """One process from start to end: seconds on the wall, seconds of CPU in it, greatest resident size."""

    wall_s: float
    cpu_s: float
    peak_bytes: int


class RunError(Exception):
    """The process failed; the message is the end of what it said."""


def cpus_for(threads: int) -> tuple[set[int], set[int]]:
    """CPUs for the engine, and for whoever feeds it: others where there are others."""
    every = sorted(os.sched_getaffinity(0))
    mine, rest = every[:threads], every[threads:]
    return set(mine), set(rest or every)


def compile_package() -> None:
    """Bytecode for the checkout, as an installed package has it; else every run would pay for compiling it."""
    for folder in (BENCH.parent / "asyncflow", BENCH / "peers"):
        compileall.compile_dir(folder, quiet=2)


def installed_environment() -> dict[str, str]:
    """This process's, less what would make Python compile its modules anew at every start."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def run(
    command: list[str], cpus: set[int], stdin: int | None = None, environment: dict[str, str] | None = None
) -> Run:
    """Runs to the end.  RunError where the exit status is not 0."""
    with tempfile.TemporaryFile() as said:
        begin = time.perf_counter()
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL if stdin is None else stdin,
            stdout=subprocess.DEVNULL,
            stderr=said,
            env=installed_environment() | (environment or {}),
            preexec_fn=lambda: os.sched_setaffinity(0, cpus),
        )
        watchdog = threading.Timer(TIMEOUT_S, process.kill)
        watchdog.start()
        _pid, status, usage = os.wait4(process.pid, 0)
        wall_s = time.perf_counter() - begin
        watchdog.cancel()
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            said.seek(0)
            lines = said.read().decode(errors="replace").strip().splitlines()
            raise RunError(f"exit {process.returncode}: {' / '.join(lines[-3:])}")
    return Run(wall_s, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)


@contextmanager
def feeding(kind: str, data: Path, cpus: set[int]) -> Iterator[tuple[str, int | None]]:
    """Gives the input as an engine is told of it: a path, ``-`` with a pipe to read from, or ``tcp:PORT`` that sends the file once."""
    if kind == "file":
        yield str(data), None
        return
    command = ["cat", str(data)] if kind == "pipe" else [sys.executable, str(BENCH / "live.py"), str(data)]
    feeder = subprocess.Popen(
        command, stdout=subprocess.PIPE, preexec_fn=lambda: os.sched_setaffinity(0, cpus)
    )
    assert feeder.stdout is not None
    try:
        if kind == "pipe":
            yield "-", feeder.stdout.fileno()
        else:
            yield f"tcp:{int(feeder.stdout.readline())}", None
    finally:
        feeder.stdout.close()
        feeder.kill()
        feeder.wait()


def run_engine(engine: str, case: Case, data: Path, out: Path, threads: int) -> Run:
    """One run of one engine on one case; the result stands in ``out``."""
    cpus, feeder_cpus = cpus_for(threads)
    with feeding(case.input, data, feeder_cpus) as (path, stdin), tempfile.TemporaryDirectory() as directory:
        if engine == OURS:
            file = Path(directory, "pipeline.toml")
            file.write_text(case.pipeline(path, out))
            return run_asyncflow(file, threads, cpus, stdin)
        script = BENCH / "peers" / case.script(engine)
        return run([sys.executable, str(script), case.query(path, out, threads).to_json()], cpus, stdin)


def run_asyncflow(file: Path, threads: int, cpus: set[int], stdin: int | None = None) -> Run:
    command = [sys.executable, "-m", "asyncflow", "run", str(file), "--workers", str(threads), "--quiet"]
    return run(command, cpus, stdin, installed_path())


def installed_path() -> dict[str, str]:
    """From a checkout the package need not be installed: where Python finds it."""
    return {
        "PYTHONPATH": os.pathsep.join(filter(None, [str(BENCH.parent), os.environ.get("PYTHONPATH", "")]))
    }
