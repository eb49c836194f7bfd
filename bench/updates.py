"""The cost of windows that are sent while they grow: ``emit = "updates"`` (each second of event time) beside ``"final"``, on the same rows.

Over a third of the 10k keys change in a second: nearly one row goes out per row that comes in, over twenty per row of ``final``.  Runs take
turns: with rows counted and dropped (the cost of the windows), and with rows written as CSV (the cost of the text besides).  The last
revision of each window must be the row that ``final`` writes, byte for byte.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from statistics import median
from typing import Any

from cases import BENCH, CASES, pipeline
from rounds import scratch, warm
from running import RunError, cpus_for, run_asyncflow

CASE = CASES["csv-10k"]
ROWS = 16_000_000
ROUNDS = 3
MODES = ("final", "updates")
MOST_RATIO = 3.0


def last_revisions(path: Path) -> Iterator[bytes]:
    """The rows with ``final`` true, without ``revision`` and ``final``."""
    with path.open("rb") as file:
        yield next(file).rstrip().removesuffix(b",revision,final")
        for line in file:
            if line.endswith(b",true\n"):
                yield line.rsplit(b",", 2)[0]


def check(final: Path, updates: Path) -> str:
    with final.open("rb") as file:
        for expected, found in zip_longest(file, last_revisions(updates)):
            if expected is None or expected.rstrip() != found:
                return "WRONG: the last revisions are other rows"
    return "ok"


def measure(scale: float, quick: bool) -> list[dict[str, Any]]:
    made = [sys.executable, str(BENCH / "data.py"), CASE.dataset, f"--rows={max(1, int(ROWS * scale))}"]
    data = subprocess.run(made, check=True, capture_output=True, text=True).stdout.split("  ")[0]
    report = []
    for threads in (1, 2):
        for sink in ("dropped", "written"):
            entry: dict[str, Any] = {"threads": threads, "sink": sink, "runs": {mode: [] for mode in MODES}}
            with tempfile.TemporaryDirectory(dir=scratch()) as directory:
                outs = {mode: Path(directory, f"{mode}.csv") for mode in MODES}
                try:
                    for turn in range(1 if quick else ROUNDS):
                        for mode in MODES:
                            warm(Path(data))
                            out = outs[mode] if sink == "written" else None
                            entry["runs"][mode].append(_run(directory, mode, data, out, threads))
                        if sink == "written" and turn == 0:
                            entry["check"] = check(*outs.values())
                            entry["bytes"] = {mode: outs[mode].stat().st_size for mode in MODES}
                        for out in outs.values():
                            out.unlink(missing_ok=True)
                except RunError as error:
                    entry["check"] = f"failed: {error}"
            report.append(entry)
    return report


def _run(directory: str, mode: str, data: str, out: Path | None, threads: int) -> float:
    file = Path(directory, "pipeline.toml")
    file.write_text(pipeline(CASE, data, out, emit=None if mode == "final" else mode))
    return run_asyncflow(file, threads, cpus_for(threads)[0]).wall_s


def _ratio(entry: dict[str, Any]) -> float | None:
    least = [min(entry["runs"][mode], default=None) for mode in MODES]
    return None if None in least else least[1] / least[0]


def table(report: list[dict[str, Any]]) -> str:
    lines = [
        "### updates: windows sent every second beside windows sent at their end",
        "",
        "| threads | rows are | final median s | min s | updates median s | min s | times final | output MB | result |",
        "|--:|---|--:|--:|--:|--:|--:|--:|---|",
    ]
    for entry in report:
        ratio = _ratio(entry)
        if ratio is None:
            lines.append(f"| {entry['threads']} | {entry['sink']} | | | | | | | {entry['check']} |")
            continue
        times = (f"{median(entry['runs'][mode]):.3f} | {min(entry['runs'][mode]):.3f}" for mode in MODES)
        sizes = entry.get("bytes")
        size = f"{sizes['final'] / 1e6:,.0f}, {sizes['updates'] / 1e6:,.0f}" if sizes else ""
        cells = (str(entry["threads"]), entry["sink"], *times, f"{ratio:.2f}", size, entry.get("check", ""))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def floors(report: list[dict[str, Any]]) -> list[str]:
    lines = []
    for entry in report:
        ratio = _ratio(entry)
        what = f"updates, {entry['threads']} thread{'s' * (entry['threads'] > 1)}, rows {entry['sink']}"
        if entry.get("check", "ok") != "ok":
            lines.append(f"{what}: {entry['check']}")
        elif ratio is not None:
            verdict = "reached" if ratio <= MOST_RATIO else "NOT reached"
            lines.append(f"{what}: {ratio:.2f} x final, at most {MOST_RATIO} x: {verdict}")
    return lines
