"""The rounds of one case: every engine in turn, each result held against an independent one."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from cases import BENCH, LIVE_PEER_ROWS, LIVE_PEERS, OURS, Case
from running import Run, RunError, run_engine


@dataclass(frozen=True)
class Settings:
    """``rows`` None: ``scale`` of each data set's full size.  ``peers`` None: all of the case's."""

    rounds: int
    rows: int | None
    scale: float
    peers: frozenset[str] | None
    threads: frozenset[int]


@dataclass
class Entry:
    """One engine on one case with one number of threads."""

    engine: str
    threads: int
    data: Path
    rows: int
    size_bytes: int
    runs: list[Run] = field(default_factory=list)
    check: str = ""  # "ok", "reference" (the one compared with), or what is wrong
    digests: set[str] = field(default_factory=set)

    @property
    def median_s(self) -> float:
        return median(run.wall_s for run in self.runs)

    @property
    def least_s(self) -> float:
        return min(run.wall_s for run in self.runs)

    @property
    def rows_per_s(self) -> float:
        return self.rows / self.least_s

    @property
    def peak_bytes(self) -> int:
        return max(run.peak_bytes for run in self.runs)

    @property
    def out_of_the_race(self) -> bool:
        return self.check.startswith(("absent", "failed"))

    def to_dict(self) -> dict[str, Any]:
        entry: dict[str, Any] = {
            "engine": self.engine,
            "threads": self.threads,
            "rows": self.rows,
            "check": self.check,
        }
        if self.runs:
            entry |= {
                "size_bytes": self.size_bytes,
                "median_s": self.median_s,
                "min_s": self.least_s,
                "rows_per_s": self.rows_per_s,
                "peak_bytes": self.peak_bytes,
                "runs": [asdict(run) for run in self.runs],
            }
        return entry


def data_file(dataset: str, rows: int | None, scale: float) -> tuple[Path, int]:
    """Makes the file, in a process of its own: what this one ever held would count as the memory of those it starts."""
    size = f"--scale={scale}" if rows is None else f"--rows={rows}"
    made = subprocess.run(
        [sys.executable, str(BENCH / "data.py"), dataset, size], check=True, capture_output=True, text=True
    )
    path, count, *_ = made.stdout.split("  ")
    return Path(path), int(count.split()[0].replace(",", ""))


def entries_of(case: Case, settings: Settings, present: dict[str, str | None]) -> list[Entry]:
    made = [data_file(name, settings.rows, settings.scale) for name in case.datasets]
    data, rows = made[0][0], sum(count for _path, count in made)
    few, few_rows = data, rows
    if set(case.peers) & set(LIVE_PEERS) and rows > LIVE_PEER_ROWS:
        few, few_rows = data_file(case.dataset, LIVE_PEER_ROWS, settings.scale)
    entries = []
    for threads in sorted(settings.threads & set(case.threads)):
        for engine in (OURS, *case.peers):
            if engine != OURS and settings.peers is not None and engine not in settings.peers:
                continue
            path, count = (few, few_rows) if engine in LIVE_PEERS else (data, rows)
            check = "" if present[engine] else "absent"
            size_bytes = sum(file.stat().st_size for file in case.files(path))
            entries.append(Entry(engine, threads, path, count, size_bytes, check=check))
    return entries


def run_case(case: Case, settings: Settings, present: dict[str, str | None]) -> list[Entry]:
    """All rounds of one case.  A failing engine is noted and left out of further rounds."""
    entries = entries_of(case, settings, present)
    ours = [entry for entry in entries if entry.engine == OURS]
    # Peers on fewer rows need a result of ours on as few: run once, for the check alone.
    few = {entry.data: entry for entry in entries if entry.data != entries[0].data}
    unlisted = [Entry(OURS, entry.threads, data, entry.rows, 0) for data, entry in few.items()]
    with tempfile.TemporaryDirectory(dir=scratch()) as directory:
        for turn in range(settings.rounds):
            results: dict[Path, Entry] = {}
            for entry in [*entries, *unlisted] if turn == 0 else entries:
                if entry.out_of_the_race:
                    continue
                for file_read in case.files(entry.data):
                    warm(file_read)
                out = Path(directory, f"{entry.engine}-{entry.threads}-{entry.rows}.csv")
                try:
                    entry.runs.append(run_engine(entry.engine, case, entry.data, out, entry.threads))
                except RunError as error:
                    entry.check = f"failed: {error}"
                    continue
                if entry in ours:
                    with out.open("rb") as file:
                        entry.digests.add(hashlib.file_digest(file, "sha256").hexdigest())
                results[out] = entry
            if turn == 0:
                compare(results)
            for out in results:
                out.unlink()
    if len(set().union(*(entry.digests for entry in ours))) > 1:
        for entry in ours:
            entry.check = "WRONG: not the same bytes in every run"
    for entry in unlisted:
        if entry.check.startswith(("failed", "WRONG")):
            ours[0].check = f"{entry.check} (on {entry.rows:,} rows)"
    return entries


def warm(data: Path) -> None:
    """Reads the file once, so that no engine pays for memory that the machine took away from the page cache since the run before."""
    with data.open("rb", buffering=0) as file:
        space = bytearray(1 << 20)
        while file.readinto(space):
            pass


def scratch() -> str | None:
    """Results go to memory where they can, so that no disk is measured."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def compare(results: dict[Path, Entry]) -> None:
    """Holds every result against a peer's on as many rows."""
    for rows in {entry.rows for entry in results.values()}:
        group = [(out, entry) for out, entry in results.items() if entry.rows == rows]
        group.sort(key=lambda item: item[1].engine == OURS)
        (_reference, first), *others = group
        first.check = "reference"
        checked = subprocess.run(
            [sys.executable, str(BENCH / "results.py"), *(str(out) for out, _entry in group)],
            capture_output=True,
            text=True,
        )
        said = checked.stdout.splitlines()
        for position, (_out, entry) in enumerate(others):
            verdict = said[position] if position < len(said) else checked.stderr.strip().rpartition("\n")[2]
            entry.check = verdict if verdict == "ok" else f"WRONG: {verdict}"
