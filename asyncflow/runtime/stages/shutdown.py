"""How a run ends when it is asked to stop: what was read flows out, within ``stop_timeout`` for the whole run.

After the stop every sink goes on until its rows are taken or ``stop_timeout`` has passed; then the run fails and says what was not
delivered.  A sink that ``may_wait`` for a peer (``model.capabilities``) and has delivered all its rows ends well after
``PATIENCE_SECONDS`` without progress.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

from asyncflow.errors import ConnectorError
from asyncflow.model.durations import format_duration
from asyncflow.runtime.stages.sink import SinkStage

PATIENCE_SECONDS = 5.0
"""How long nothing may move before a stopped run is checked for what still can."""


async def opened(sink: SinkStage, stopping: asyncio.Event, needed: Callable[[], bool]) -> bool:
    """Opens the sink.  False where the run was stopped before it was open; where it is ``needed`` then, because there are rows for it, it
    is still waited for, until the run's ``stop_timeout`` cancels this."""
    opening = asyncio.create_task(sink.connector.open())
    try:
        await _first_of(opening, stopping)
        if opening.done() or needed():
            await opening
            return True
    finally:
        await _ended(opening)
    return False


async def run_to_end(sink: SinkStage, stopping: asyncio.Event) -> None:
    """Runs a sink that may wait for ever; after the stop only for as long as the sink has rows or makes progress."""
    running = asyncio.create_task(sink.run())
    try:
        await _first_of(running, stopping)
        while not running.done():
            before = _progress(sink)
            await asyncio.wait((running,), timeout=PATIENCE_SECONDS)
            delivered = sink.taken_all and sink.taken_rows == sink.counts.rows
            if not running.done() and delivered and _progress(sink) == before:
                return
        await running
    finally:
        await _ended(running)


def not_delivered(
    waiting: Iterable[tuple[str, int]], stop_timeout_ns: int, under_way: Iterable[str]
) -> ConnectorError:
    """Why a stopped run failed: ``waiting`` rows of each sink, and the other tables that had not ended: what they hold is lost, too."""
    limit = f"stop_timeout ({format_duration(stop_timeout_ns)})"
    lost = {name: f"{rows:,} row{'s' * (rows != 1)} for {name}" for name, rows in waiting if rows}
    others = [name for name in under_way if name not in lost]
    told = f"; lost: {', '.join(lost.values())}" if lost else ""
    told += f"; not ended: {', '.join(others)}" if others else ""
    return ConnectorError(f"stopped, and {limit} was too short for what was read to flow out{told}")


def _progress(sink: SinkStage) -> tuple[int | None, ...]:
    return sink.counts.rows, sink.counts.bytes, sink.connector.taken_bytes


async def _first_of(task: asyncio.Task[Any], stopping: asyncio.Event) -> None:
    stop = asyncio.create_task(stopping.wait())
    try:
        await asyncio.wait((task, stop), return_when=asyncio.FIRST_COMPLETED)
    finally:
        await _ended(stop)


async def _ended(task: asyncio.Task[Any]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
