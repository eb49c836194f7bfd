"""The progress display: what it says, on a terminal that is a string."""

from __future__ import annotations

import asyncio
import io

from rich.console import Console

from asyncflow.runtime.process.progress import Rate, Snapshot, line, show


def test_the_rate_is_over_the_last_seconds() -> None:
    moments = iter([0.0, 1.0, 2.0, 10.0, 10.5])
    rate = Rate(clock=lambda: next(moments))
    assert rate.update(100) == 100.0
    assert rate.update(300) == 150.0
    assert rate.update(700) == 50.0
    assert rate.update(1000) > 50.0


def test_the_live_line() -> None:
    snapshot = Snapshot(rows=55_310, watermark_ns=1_704_067_201_000_000_000, open_windows=1, rejected=2)
    text = line(snapshot, 1204.4, 1_704_067_202_200_000_000)
    assert (
        text
        == "1,204 rows/s · 55,310 rows · watermark 2024-01-01 00:00:01 · lag 1.2 s · 1 open window · 2 rejected"
    )
    assert line(Snapshot(rows=0), 0.0, 0) == "0 rows/s · 0 rows · 0 open windows"
    assert "lag 3 d" in line(Snapshot(rows=1, watermark_ns=0), 0.0, 3 * 86_400_000_000_000)


async def drawn(snapshot: Snapshot) -> str:
    target = io.StringIO()
    console = Console(file=target, force_terminal=True, width=120)
    task = asyncio.create_task(show(lambda: snapshot, console=console))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return target.getvalue()


async def test_a_bar_where_the_end_is_known() -> None:
    text = await drawn(Snapshot(rows=10, position_bytes=512, total_bytes=1024, bounded=True))
    assert "0.5/1.0 KiB" in text and "rows/s" in text


async def test_a_line_where_it_is_not() -> None:
    assert "3 open windows" in await drawn(Snapshot(rows=10, open_windows=3))
