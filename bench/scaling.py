"""What a machine with more processors would make of a case: the CPU of the event loop's thread, and of all else, per row.

``python bench/scaling.py --case csv-10k`` runs the case with two workers, on the full input and on a small one; the difference is what rows
cost, the rest is start-up.  The event loop's thread is the part of a run that cannot be shared, so it bounds every machine:

    time per row on n processors = max(S, 1.1 (A + S) / n)

with S the CPU of the loop's thread, A that of all other threads, and a tenth for shares that are not even.  CPU time hardly minds busy
neighbours, so two processors foretell many.  Printed, too, is what it costs to keep a stage's state in two parts instead of one.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cases import BENCH, Case
from cases import CASES as SINGLE
from joins import JOINS
from rounds import data_file, scratch, warm
from running import compile_package, cpus_for, installed_path, run

CASES = {name: case for name, case in (SINGLE | JOINS).items() if case.input == "file"}
WORKERS = 2
PROCESSORS = (4, 8, 16, 32)
UNEVEN = 1.1
FEW_ROWS = 1000
PARTS = "ASYNCFLOW_PARTS"
"""The environment variable that forces the number of parts of a stage's state."""


@dataclass(frozen=True)
class Cost:
    """CPU seconds of the event loop's thread, and of all other threads."""

    loop_s: float
    rest_s: float

    @property
    def process_s(self) -> float:
        return self.loop_s + self.rest_s

    def least(self, other: Cost) -> Cost:
        return Cost(min(self.loop_s, other.loop_s), min(self.rest_s, other.rest_s))

    def per_row(self, start: Cost, rows: int) -> Cost:
        """Less the start-up, in seconds a row."""
        return Cost(max(self.loop_s - start.loop_s, 0.0) / rows, max(self.rest_s - start.rest_s, 0.0) / rows)


def seconds_per_row(cost: Cost, processors: int) -> float:
    """The predicted time of a row, of ``cost`` a row, start-up apart."""
    return max(cost.loop_s, UNEVEN * cost.process_s / processors)


def measured(case: Case, data: Path, environment: dict[str, str]) -> Cost:
    """One run, its results written to a file."""
    for file in case.files(data):
        warm(file)
    with tempfile.TemporaryDirectory(dir=scratch()) as directory:
        pipeline, report = Path(directory, "pipeline.toml"), Path(directory, "report.json")
        pipeline.write_text(case.pipeline(str(data), Path(directory, "out.csv")))
        command = [sys.executable, str(BENCH / "thread_times.py"), str(report)]
        command += ["run", str(pipeline), "--workers", str(WORKERS), "--quiet"]
        run(command, cpus_for(WORKERS)[0], environment=installed_path() | environment)
        times = json.loads(report.read_text())
    return Cost(times["loop_s"], times["process_s"] - times["loop_s"])


def made(case: Case, rows: int | None) -> tuple[Path, int]:
    """The case's data, and the rows of all its inputs."""
    files = [data_file(name, rows, 1.0) for name in case.datasets]
    return files[0][0], sum(count for _path, count in files)


def has_parts() -> bool:
    """Whether the product knows the variable: else both runs would be the same, and their ratio would mean nothing."""
    return any(PARTS in file.read_text() for file in (BENCH.parent / "asyncflow").rglob("*.py"))


def report(case: Case, rows: int | None, rounds: int) -> str:
    data, count = made(case, rows)
    small, _ = made(case, FEW_ROWS)
    environments: list[dict[str, str]] = [{}]
    if has_parts():
        environments += [{PARTS: "1"}, {PARTS: "2"}]
    start = measured(case, small, {})
    costs = [measured(case, data, each) for each in environments]
    for _ in range(rounds - 1):
        start = start.least(measured(case, small, {}))
        costs = [
            cost.least(measured(case, data, each)) for cost, each in zip(costs, environments, strict=True)
        ]
    own, *parts = (cost.per_row(start, count) for cost in costs)
    ratio = "n/a"
    if parts:
        one, two = parts
        ratio = f"{two.process_s / one.process_s:.2f} x" if one.process_s else "n/a"
    head = ["case", "rows", "loop ns/row", "other threads ns/row", "2 parts over 1", "start-up CPU s"]
    cells = [case.name, f"{count:,}", f"{own.loop_s * 1e9:.1f}", f"{own.rest_s * 1e9:.1f}", ratio]
    cells.append(f"{start.process_s:.3f}")
    for processors in PROCESSORS:
        per_row = seconds_per_row(own, processors)
        head.append(f"{processors} processors")
        cells.append(f"{per_row * 1e9:.1f} ns/row, {start.process_s + per_row * count:.2f} s")
    return "\n".join(map(_line, (head, ["---", *["--:"] * (len(head) - 1)], cells)))


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument(
        "--case",
        action="append",
        choices=CASES,
        metavar="NAME",
        help=f"one of: {' '.join(CASES)}; may be given again",
    )
    parser.add_argument("--rows", type=int, help="rows of every input (default: the full size of each)")
    parser.add_argument("--rounds", type=int, default=4)
    arguments = parser.parse_args()
    compile_package()
    for name in arguments.case or CASES:
        print(report(CASES[name], arguments.rows, arguments.rounds) + "\n", flush=True)


if __name__ == "__main__":
    main()
