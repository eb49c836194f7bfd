"""The output of a comparison: a table per case, and each floor with the figure reached."""

from __future__ import annotations

from statistics import median

from cases import OURS, Case
from rounds import Entry


def ratio_to(entries: list[Entry], peer: Entry) -> float | None:
    """asyncflow's rate over this one's, on as many threads."""
    for entry in entries:
        if entry.engine == OURS and entry.threads == peer.threads and entry.runs and peer.runs:
            return entry.rows_per_s / peer.rows_per_s
    return None


def table(case: Case, entries: list[Entry]) -> str:
    lines = [
        f"### {case.name}: {case.title} ({entries[0].rows:,} rows, {entries[0].size_bytes / 1e6:,.0f} MB)",
        "",
        "| engine | threads | median s | min s | Mrows/s | MB/s | CPU s | peak MB | asyncflow is | result |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|---|",
    ]
    for entry in entries:
        if not entry.runs:
            lines.append(f"| {entry.engine} | {entry.threads} | | | | | | | | {entry.check} |")
            continue
        ratio = None if entry.engine == OURS else ratio_to(entries, entry)
        cells = (
            entry.engine,
            str(entry.threads),
            f"{entry.median_s:.3f}",
            f"{entry.least_s:.3f}",
            f"{entry.rows_per_s / 1e6:.2f}",
            f"{entry.size_bytes / entry.least_s / 1e6:,.0f}",
            f"{median(run.cpu_s for run in entry.runs):.3f}",
            f"{entry.peak_bytes / 1e6:,.0f}",
            "" if ratio is None else f"{ratio:.2f} x",
            entry.check,
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def floors(case: Case, entries: list[Entry]) -> list[str]:
    """Each floor of the case with its figure."""
    lines = []
    for floor in case.floors:
        ratios = {
            entry.engine: ratio
            for entry in entries
            if entry.engine != OURS
            and entry.threads == floor.threads
            and (ratio := ratio_to(entries, entry)) is not None
        }
        if floor.peer != "best":
            ratios = {engine: ratio for engine, ratio in ratios.items() if engine == floor.peer}
        if not ratios:
            continue
        peer, ratio = min(ratios.items(), key=lambda item: item[1])
        verdict = "reached" if ratio >= floor.ratio else f"NOT reached, {ratio / floor.ratio:.0%} of it"
        threads = f"{floor.threads} thread{'s' * (floor.threads > 1)}"
        lines.append(f"{case.name}, {threads}: {ratio:.2f} x {peer}, floor {floor.ratio} x: {verdict}")
    rates = {entry.threads: entry.rows_per_s for entry in entries if entry.engine == OURS and entry.runs}
    if 1 in rates and 2 in rates:
        lines.append(f"{case.name}: two threads are {rates[2] / rates[1]:.2f} x one")
    return lines
