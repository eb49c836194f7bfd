"""Times each kernel alone, in nanoseconds a row.

``python bench/kernels.py [WORD...]`` runs the cases whose name holds one of the words (all cases without a word).  Cases come from
the files ``kernel_*.py`` beside this one: each has ``cases()``, a list of (name, function to call, rows of one call).  Compare
minima: the least of many samples is the kernel with its data in the cache and no other process on the core.  The median shows how
quiet the machine was.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

SAMPLES = 15
SAMPLE_S = 0.02

Case = tuple[str, Callable[[], object], int]


def collect(words: list[str]) -> list[Case]:
    """The cases of every ``kernel_*.py``, in file order; a file that cannot be imported is named and left out."""
    here = Path(__file__).resolve().parent
    sys.path[:0] = [str(here), str(here.parent)]
    found: list[Case] = []
    for path in sorted(here.glob("kernel_*.py")):
        try:
            cases: list[Case] = importlib.import_module(path.stem).cases()
        except ImportError as error:
            print(f"{path.name}: left out: {error}", file=sys.stderr)
            continue
        found += [case for case in cases if not words or any(word in case[0] for word in words)]
    return found


def sample(function: Callable[[], object], samples: int, sample_s: float) -> list[float]:
    """Seconds a call, of each sample; a sample calls as often as fills ``sample_s``."""
    clock = time.perf_counter
    begin = clock()
    function()
    calls = max(1, int(sample_s / max(clock() - begin, 1e-9)))
    taken = []
    for _ in range(samples):
        begin = clock()
        for _ in range(calls):
            function()
        taken.append((clock() - begin) / calls)
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("words", nargs="*", help="only cases whose name holds one of these")
    parser.add_argument("--quick", action="store_true", help="one short sample each: shows that they run")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keeps the figures")
    arguments = parser.parse_args()
    samples, sample_s = (1, 0.0) if arguments.quick else (SAMPLES, SAMPLE_S)
    report = {}
    cases = collect(arguments.words)
    if not cases:
        known = "\n".join(f"  {name}" for name, _, _ in collect([]))
        parser.error(
            f"no case has {' or '.join(map(repr, arguments.words))} in its name; the cases:\n{known}"
        )
    print(f"{'kernel':<60} {'rows':>9} {'min ns/row':>11} {'median':>9}")
    for name, function, rows in cases:
        taken = sample(function, samples, sample_s)
        least_ns, median_ns = min(taken) / rows * 1e9, median(taken) / rows * 1e9
        report[name] = {"rows": rows, "min_ns_per_row": least_ns, "median_ns_per_row": median_ns}
        print(f"{name:<60} {rows:>9,} {least_ns:>11.2f} {median_ns:>9.2f}", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
