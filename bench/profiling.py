"""Where a case spends its time: one run under py-spy, Python and C together, without root.

``python bench/profiling.py --case csv-10k`` makes the data, runs the case's pipeline with the sampler beside it, and prints the functions
with the most samples of their own.  All stacks are kept in ``build/profile-CASE.txt``, one folded stack a line: speedscope.app and
flamegraph.pl draw them.  py-spy is part of the ``bench`` extra.  It leaves out the time for which the process waits.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from cases import BENCH
from cases import CASES as SINGLE
from dedups import DEDUPS
from joins import JOINS
from rounds import data_file, scratch, warm
from running import compile_package
from tops import TOPS

CASES = {name: case for name, case in (SINGLE | JOINS | TOPS | DEDUPS).items() if case.input == "file"}
RATE_PER_S = 250
SHOWN = 25


def hottest(stacks: str) -> Counter[str]:
    """Samples by function, of folded stacks: each counts for the innermost function alone."""
    found: Counter[str] = Counter()
    for line in stacks.splitlines():
        stack, _, samples = line.rpartition(" ")
        found[stack.rpartition(";")[2]] += int(samples)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--case", choices=CASES, default="csv-10k", metavar="NAME", help=" ".join(CASES))
    parser.add_argument("--rows", type=int, help="rows of the input (default: the full size)")
    parser.add_argument("--workers", type=int, default=1)
    arguments = parser.parse_args()
    case = CASES[arguments.case]
    data, *_ = [data_file(name, arguments.rows, 1.0)[0] for name in case.datasets]
    compile_package()
    for file in case.files(data):
        warm(file)
    kept = BENCH.parent / "build" / f"profile-{case.name}.txt"
    kept.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=scratch()) as directory:
        pipeline = Path(directory, "pipeline.toml")
        pipeline.write_text(case.pipeline(str(data), Path(directory, "out.csv")))
        run = ["asyncflow", "run", str(pipeline), "--workers", str(arguments.workers), "--quiet"]
        sampler = ["py-spy", "record", "--native", "--rate", str(RATE_PER_S), "--format", "raw"]
        command = [*sampler, "--output", str(kept), "--", sys.executable, "-m", *run]
        try:
            done = subprocess.run(command, cwd=BENCH.parent, capture_output=True, text=True)
        except FileNotFoundError:
            print("py-spy is not installed: pip install -e '.[bench]'", file=sys.stderr)
            return 1
    if done.returncode:
        print(done.stdout + done.stderr, file=sys.stderr)
        return done.returncode
    found = hottest(kept.read_text())
    for function, samples in found.most_common(SHOWN):
        print(f"{samples / found.total():>6.1%}  {function}")
    print(f"{found.total():,} samples, {RATE_PER_S} a second; all stacks: {kept.relative_to(BENCH.parent)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
