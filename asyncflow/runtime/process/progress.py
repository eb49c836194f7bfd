"""Progress of a run on a terminal: a bar for input that ends, one live line for input that does not.  It goes to stderr.

A callable gives a :class:`Snapshot` for each drawing, so this file is independent of the engine.  rich is imported at the first drawing.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from msgspec import Struct

REFRESH_SECONDS = 0.2
RATE_SECONDS = 3.0
"""Rates are averages over this time."""


class Snapshot(Struct, frozen=True):
    """A run at one moment.  ``total_bytes`` None: not known.  ``watermark_ns``: the lowest of all sources; None before the first."""

    rows: int
    position_bytes: int = 0
    total_bytes: int | None = None
    bounded: bool = False
    watermark_ns: int | None = None
    open_windows: int = 0
    rejected: int = 0


class Rate:
    """Rows per second over the last few seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._marks: deque[tuple[float, int]] = deque([(clock(), 0)])

    def update(self, rows: int) -> float:
        now = self._clock()
        while len(self._marks) > 1 and now - self._marks[1][0] > RATE_SECONDS:
            self._marks.popleft()
        self._marks.append((now, rows))
        since, before = self._marks[0]
        return (rows - before) / (now - since) if now > since else 0.0


def line(snapshot: Snapshot, rows_per_second: float, now_ns: int) -> str:
    """The live line: ``1,204 rows/s · 55,310 rows · watermark 12:30:05 · lag 1.2 s · 3 open windows``."""
    parts = [f"{rows_per_second:,.0f} rows/s", f"{snapshot.rows:,} rows"]
    if snapshot.watermark_ns is not None:
        parts += [
            f"watermark {_clock_text(snapshot.watermark_ns)}",
            f"lag {_length_text(now_ns - snapshot.watermark_ns)}",
        ]
    parts.append(f"{snapshot.open_windows:,} open window{'' if snapshot.open_windows == 1 else 's'}")
    if snapshot.rejected:
        parts.append(f"{snapshot.rejected:,} rejected")
    return " · ".join(parts)


def _clock_text(ns: int) -> str:
    try:
        moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=ns // 1000)
    except OverflowError:
        return "at the end of time"
    today = abs(time.time() - ns / 1e9) < 86_400
    return f"{moment:%H:%M:%S}" if today else f"{moment:%Y-%m-%d %H:%M:%S}"


def _length_text(ns: int) -> str:
    seconds = ns / 1e9
    if abs(seconds) < 120:
        return f"{seconds:.1f} s"
    if abs(seconds) < 172_800:
        return f"{int(seconds) // 3600}h{int(seconds) % 3600 // 60:02d}m"
    return f"{seconds / 86_400:,.0f} d"


async def show(snapshot: Callable[[], Snapshot], *, console: Any = None) -> None:
    """Draws until cancelled; the last state stays on the screen.  ``console``: a rich Console, by default on stderr."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    console = console or Console(stderr=True)
    rate = Rate()
    first = snapshot()
    if first.bounded and first.total_bytes:
        columns: list[Any] = [
            BarColumn(),
            DownloadColumn(binary_units=True),
            TextColumn("{task.fields[text]}"),
            TimeRemainingColumn(),
        ]
    else:
        columns = [TextColumn("{task.fields[text]}")]
    with Progress(*columns, console=console, auto_refresh=False, transient=False) as progress:
        task = progress.add_task("", total=first.total_bytes, text="")

        def draw() -> None:
            now = snapshot()
            speed = rate.update(now.rows)
            bar = now.bounded and now.total_bytes
            text = f"{speed:,.0f} rows/s" if bar else line(now, speed, time.time_ns())
            progress.update(
                task, completed=now.position_bytes, total=now.total_bytes, text=text, refresh=True
            )

        try:
            while True:
                draw()
                await asyncio.sleep(REFRESH_SECONDS)
        finally:
            draw()
