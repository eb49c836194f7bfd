"""A stage that has several calls of the user's function under way at once: lookups in a database, requests to a service.

A call takes a slot from before it starts until what it came to was handed on, so at most ``concurrency`` are under way, and a slow reader
further on, or a slow first call, holds the input back.  What goes on does so in the order of the input; with ``ordered`` False as calls are
done, but no row ever crosses a watermark, in either direction.  Cancelling the stage cancels every call under way and waits for it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import TypeAlias

from asyncflow.model.batch import Batch
from asyncflow.model.messages import End, Message, Watermark
from asyncflow.model.schema import Schema
from asyncflow.plan.stages.map import MapBatches
from asyncflow.runtime.base.closing import closing
from asyncflow.runtime.base.failures import Group
from asyncflow.runtime.edges.fan_out import end
from asyncflow.runtime.stages.map import Call, MapOperator
from asyncflow.runtime.stages.stage import Stage

_Entry: TypeAlias = Call | Watermark | End


class MapStage(Stage):
    """See the module.  ``make``: builds a :class:`MapOperator`."""

    def __init__(
        self,
        table: MapBatches,
        messages: AsyncIterator[Message],
        make: Callable[[Schema], MapOperator],
        schema: Schema | None,
        kept: tuple[str, ...] | None,
    ) -> None:
        super().__init__(table.name, messages, make, schema, kept)
        self._ordered = table.ordered
        self._slots = asyncio.Semaphore(table.concurrency)
        self._entries: deque[_Entry] = deque()
        self._news = asyncio.Event()

    async def run(self) -> None:
        async with closing(self._messages) as messages, Group() as calls:
            calls.create_task(self._emit(), self.name)
            async for message in messages:
                if isinstance(message, Batch):
                    await self._start(message, calls)
                else:
                    self._append(message)
        await end((self.outlet, *self.side.values()))

    async def _start(self, batch: Batch, calls: Group) -> None:
        if self.operator is None:
            self._build(batch.schema)
        assert isinstance(self.operator, MapOperator)
        self.counts.rows_in += batch.num_rows
        for call in self.operator.calls(batch):
            await self._slots.acquire()
            self._entries.append(call)
            calls.create_task(self._call(self.operator, call), self.name)

    async def _call(self, operator: MapOperator, call: Call) -> None:
        await operator.run(call)
        self._news.set()

    def _append(self, message: Watermark | End) -> None:
        # Of watermarks between the same rows the last one says it all, so they do not pile up behind a slow call.
        if isinstance(message, Watermark) and self._entries and isinstance(self._entries[-1], Watermark):
            self._entries.pop()
        self._entries.append(message)
        self._news.set()

    async def _emit(self) -> None:
        """Hands on what is ready, as far as the order allows, to the end."""
        while True:
            await self._news.wait()
            self._news.clear()
            while self._entries:
                head = self._entries[0]
                if isinstance(head, End):
                    return
                if isinstance(head, Watermark):
                    self._entries.popleft()
                    await self._advance(head)
                    continue
                if not (ready := self._take_ready()):
                    break
                assert isinstance(self.operator, MapOperator)
                await self._hand_on(self.operator.outputs(ready))
                for _ in ready:
                    self._slots.release()

    def _take_ready(self) -> list[Call]:
        """Takes the calls that are done and may go on now: the first ones, or where order is free all before the next watermark."""
        ready: list[Call] = []
        waiting: list[Call] = []
        while self._entries and isinstance(entry := self._entries[0], Call):
            if entry.done:
                ready.append(entry)
            elif self._ordered:
                break
            else:
                waiting.append(entry)
            self._entries.popleft()
        self._entries.extendleft(reversed(waiting))
        return ready
