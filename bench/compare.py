"""Compares asyncflow with its peers: the same file, the same query, whole processes in turn.

``python bench/compare.py`` makes the data and runs every engine on every case, with one and two threads (A B C, A B C, ...).  It
checks that all results agree, and that asyncflow's results are the same bytes for any number of threads.  It prints a table per
case: medians, minima, rates, peak memory, and the ratio of asyncflow's rate to each peer's.  Rates and ratios are those of the
minima, because machines are shared and noise only adds time.  The input is read once before every run, so that all engines find it
in memory.  ``--quick`` checks in a minute that everything works; its figures mean nothing.  Engines that are not installed are
reported as absent.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import json
import os
import platform
import sys
from datetime import date
from pathlib import Path
from typing import Any

from cases import CASES as SINGLE
from cases import OURS
from dedups import DEDUPS
from joins import JOINS
from rounds import Settings, run_case
from running import compile_package
from tables import floors, table
from tops import TOPS

CASES = SINGLE | JOINS | TOPS | DEDUPS
ROUNDS = 5
QUICK_SCALE = 0.01
SPECIAL = ("memory", "latency", "updates")


def versions() -> dict[str, str | None]:
    """Of asyncflow and the peers; None for one that is not installed."""
    found: dict[str, str | None] = {}
    for engine in (OURS, *sorted({peer for case in CASES.values() for peer in case.peers})):
        try:
            found[engine] = importlib.metadata.version(engine)
        except importlib.metadata.PackageNotFoundError:
            found[engine] = "checkout" if engine == OURS else None
    return found


def machine() -> str:
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [
            line.partition(":")[2].strip()
            for line in cpuinfo.read_text().splitlines()
            if line.startswith("model name")
        ]
        model = names[0] if names else model
    return f"{model}, {len(os.sched_getaffinity(0))} CPUs, {platform.system()}, CPython {platform.python_version()}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    names = (*CASES, *SPECIAL)
    parser.add_argument(
        "--case",
        action="append",
        choices=names,
        metavar="NAME",
        help=f"one of: {' '.join(names)}; may be given again",
    )
    parser.add_argument("--rows", type=int, help="rows of every input (default: the full size of each)")
    parser.add_argument("--scale", type=float, default=1.0, help="a share of the full size")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--threads", default="1,2", help="numbers of threads, with commas between")
    parser.add_argument(
        "--peers", help="only these, with commas between (asyncflow always runs); 'none' for none"
    )
    parser.add_argument("--quick", action="store_true", help="one round on small inputs")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keeps everything measured")
    arguments = parser.parse_args()

    settings = Settings(
        rounds=1 if arguments.quick else arguments.rounds,
        rows=arguments.rows,
        scale=QUICK_SCALE if arguments.quick else arguments.scale,
        peers=None if arguments.peers is None else frozenset(arguments.peers.split(",")),
        threads=frozenset(map(int, arguments.threads.split(","))),
    )
    compile_package()
    present = versions()
    report: dict[str, Any] = {
        "date": date.today().isoformat(),
        "machine": machine(),
        "versions": present,
        "cases": {},
    }
    print(f"{report['date']}, {report['machine']}")
    print(", ".join(f"{engine} {version or 'absent'}" for engine, version in present.items()), flush=True)
    verdicts: list[str] = []
    wrong = False
    for name in arguments.case or names:
        print(flush=True)
        if name in SPECIAL:
            special = importlib.import_module(name)
            report["cases"][name] = special.measure(settings.scale, quick=arguments.quick)
            print(special.table(report["cases"][name]), flush=True)
            verdicts += special.floors(report["cases"][name])
            continue
        entries = run_case(CASES[name], settings, present)
        print(table(CASES[name], entries), flush=True)
        verdicts += floors(CASES[name], entries)
        wrong |= any(entry.check.startswith(("WRONG", "failed")) for entry in entries)
        report["cases"][name] = [entry.to_dict() for entry in entries]
    wrong |= any(": WRONG" in verdict or ": failed" in verdict for verdict in verdicts)
    print("\n" + "\n".join(verdicts))
    report["floors"] = verdicts
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=1) + "\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
