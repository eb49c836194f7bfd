"""Peak memory of asyncflow as its input grows: with 10k keys that recur, and with keys that come once.

Both must stay flat, because state is what is open, not what was read.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from cases import BENCH, CASES, EVENTS, Case, pipeline
from running import RunError, cpus_for, run_asyncflow

ROWS = (4_000_000, 16_000_000, 48_000_000)
MOST_BYTES = 120_000_000
MOST_GROWTH = 1.15
TELLING_ROWS = 1_000_000  # smaller inputs do not fill the buffers that every run has

FRESH = Case(
    "fresh-keys", "ever-new keys in windows of 1 s", "fresh-keys", EVENTS, window_ms=1000, every_ms=1000
)


def measure(scale: float, quick: bool) -> list[dict[str, Any]]:
    """One run per case, number of threads and size; results are counted and dropped."""
    report = []
    for case in (replace(CASES["csv-10k"], title="10k keys in windows of 60 s"), FRESH):
        for threads in (1, 2):
            for full_rows in ROWS[:2] if quick else ROWS:
                rows = int(full_rows * scale)
                made = [sys.executable, str(BENCH / "data.py"), case.dataset, f"--rows={rows}"]
                data = subprocess.run(made, check=True, capture_output=True, text=True).stdout.split("  ")[0]
                entry: dict[str, Any] = {"case": case.title, "threads": threads, "rows": rows}
                entry["size_bytes"] = Path(data).stat().st_size
                with tempfile.TemporaryDirectory() as directory:
                    file = Path(directory, "pipeline.toml")
                    file.write_text(pipeline(case, data, None))
                    try:
                        done = run_asyncflow(file, threads, cpus_for(threads)[0])
                        entry |= {"peak_bytes": done.peak_bytes, "wall_s": done.wall_s}
                    except RunError as error:
                        entry["failed"] = str(error)
                report.append(entry)
    return report


def table(report: list[dict[str, Any]]) -> str:
    lines = [
        "### memory: peak as the input grows",
        "",
        "| case | threads | rows | MB | peak MB | Mrows/s |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for entry in report:
        size = f"{entry['rows']:,} | {entry['size_bytes'] / 1e6:,.0f}"
        result = entry.get("failed", "")
        if not result:
            result = f"{entry['peak_bytes'] / 1e6:,.0f} | {entry['rows'] / entry['wall_s'] / 1e6:.2f}"
        lines.append(f"| {entry['case']} | {entry['threads']} | {size} | {result} |")
    return "\n".join(lines)


def floors(report: list[dict[str, Any]]) -> list[str]:
    lines = []
    for case in dict.fromkeys(entry["case"] for entry in report):
        for threads in (1, 2):
            peaks = [
                entry["peak_bytes"]
                for entry in report
                if entry["case"] == case and entry["threads"] == threads and "peak_bytes" in entry
            ]
            if not peaks or report[0]["rows"] < TELLING_ROWS:
                continue
            flat = max(peaks) <= MOST_GROWTH * min(peaks)
            small = case == FRESH.title or max(peaks) <= MOST_BYTES
            verdict = "reached" if flat and small else "NOT reached"
            lines.append(
                f"memory, {case}, {threads} threads: {min(peaks) / 1e6:,.0f} to {max(peaks) / 1e6:,.0f} MB,"
                f" floor flat{'' if case == FRESH.title else ' and at most 120 MB'}: {verdict}"
            )
    return lines
