"""How sinks end when a run is asked to stop: what was read flows out, but nobody is waited for without end.

A sink that listens, or connects again and again, waits for somebody to take its rows, and one that writes to a pipe for its reader.
After the stop it goes on as long as it gets rows away; where nothing moves for ``PATIENCE_SECONDS`` they are lost, and the run fails and
says so.  Where none are left it ends well.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any

from asyncflow.connectors.contract import SinkConnector
from asyncflow.errors import ConnectorError
from asyncflow.model.batch import Batch
from asyncflow.model.messages import Message
from asyncflow.plan.tables import Component
from asyncflow.runtime.sink import SinkStage

PATIENCE_SECONDS = 5.0


def waits_for_peers(component: Component, connector: SinkConnector) -> bool:
    """Whether a sink may wait for ever for somebody who is not there, or does not read."""
    options = component.options
    waits = getattr(options, "listen", None) or getattr(options, "reconnect", False)
    return bool(waits) or connector.taken_bytes is not None


class Handed(AsyncIterator[Message]):
    """A sink's messages on their way to it.  ``rows``: of those it was given; ``working``: it has not asked for more since the last."""

    def __init__(self, messages: AsyncIterator[Message]) -> None:
        self.rows = 0
        self.count = 0
        self.working = False
        self.ended = False
        self._messages = messages

    async def __anext__(self) -> Message:
        self.working = False
        try:
            message = await anext(self._messages)
        except StopAsyncIteration:
            self.ended = True
            raise
        finally:
            self.working = True
        self.count += 1
        if isinstance(message, Batch):
            self.rows += message.num_rows
        return message

    async def aclose(self) -> None:
        if isinstance(self._messages, AsyncGenerator):
            await self._messages.aclose()


async def opened(sink: SinkStage, stopping: asyncio.Event, needed: Callable[[], bool]) -> bool:
    """Opens the sink.  False where the run was stopped before it was open; ConnectorError where it is ``needed`` then: there are rows for
    it."""
    opening = asyncio.create_task(sink.connector.open())
    try:
        await _first_of(opening, stopping)
        if needed():
            await asyncio.wait((opening,), timeout=PATIENCE_SECONDS)
        if opening.done():
            await opening
            return True
    finally:
        await _ended(opening)
    if needed():
        raise ConnectorError("stopped before it could be opened: what was read is lost")
    return False


async def run_to_end(sink: SinkStage, handed: Handed, stopping: asyncio.Event) -> None:
    """Runs a sink that may wait for ever: after the stop only as long as it gets something away."""
    running = asyncio.create_task(sink.run())
    try:
        await _first_of(running, stopping)
        while not running.done():
            before = _progress(sink, handed)
            await asyncio.wait((running,), timeout=PATIENCE_SECONDS)
            if not running.done() and handed.working and _progress(sink, handed) == before:
                break
        if running.done():
            await running
            return
    finally:
        await _ended(running)
    if not (handed.ended and handed.rows == sink.counts.rows):
        raise ConnectorError("stopped while its rows waited for somebody to take them: they are lost")


def _progress(sink: SinkStage, handed: Handed) -> tuple[int | None, ...]:
    return handed.count, sink.counts.rows, sink.counts.bytes, sink.connector.taken_bytes


async def _first_of(task: asyncio.Task[Any], stopping: asyncio.Event) -> None:
    stop = asyncio.create_task(stopping.wait())
    try:
        await asyncio.wait((task, stop), return_when=asyncio.FIRST_COMPLETED)
    finally:
        await _ended(stop)


async def _ended(task: asyncio.Task[Any]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
