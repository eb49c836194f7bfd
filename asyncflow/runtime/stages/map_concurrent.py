"""A stage that has several calls of the user's function under way at once: lookups in a database, requests to a service.

A call takes a slot from before it starts until its result was handed on, so at most ``concurrency`` are under way, and a slow reader
further on, or a slow first call, holds the input back.  Results are handed on in the order of the input; with ``ordered`` False as calls
are done, but no row ever crosses a watermark, in either direction.  Cancelling the stage cancels every call under way and waits for it.

A barrier waits in the queue like a watermark.  By then later rows have been taken, so what is known of the input is noted when the barrier
is put into the queue.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from asyncflow.model.batch import Batch
from asyncflow.model.messages import Barrier, End, Message, Watermark
from asyncflow.model.schema import Schema
from asyncflow.model.snapshot import Frozen, Saved, nested
from asyncflow.plan.stages.map import MapBatches
from asyncflow.runtime.base.clock import Clock
from asyncflow.runtime.base.closing import closing
from asyncflow.runtime.base.failures import Group
from asyncflow.runtime.base.memory import Memory
from asyncflow.runtime.base.snapshots import Collect
from asyncflow.runtime.base.workers import Offload
from asyncflow.runtime.edges.channel import ALL, Reader
from asyncflow.runtime.stages.map import Call, MakeMap, MapOperator
from asyncflow.runtime.stages.retiming import Retiming
from asyncflow.runtime.stages.stage import Made, OneInputStage


class _Noted(Struct, frozen=True, eq=False):
    """A barrier in the queue, with what was known of the input before it."""

    barrier: Barrier
    reader: Frozen
    rows_in: int
    taken: int


_Entry: TypeAlias = Call | Watermark | _Noted | End


class MapStage(OneInputStage):
    """See the module.  ``make``: builds a :class:`MapOperator`."""

    keeps_rows_under_way = True

    def __init__(
        self,
        table: MapBatches,
        reader: Reader,
        make: MakeMap,
        schema: Schema | None,
        kept: tuple[str, ...] | None,
        *,
        clock: Clock,
        memory: Memory,
        offload: Offload | None = None,
        retiming: Retiming | None = None,
        collect: Collect | None = None,
    ) -> None:
        super().__init__(
            table.name,
            reader,
            make,
            schema,
            kept,
            clock=clock,
            memory=memory,
            offload=offload,
            retiming=retiming,
            collect=collect,
        )
        self._ordered = table.ordered
        self._slots = asyncio.Semaphore(table.concurrency)
        self._entries: deque[_Entry] = deque()
        self._arrived = asyncio.Event()
        self._noted: _Noted | None = None

    async def run(self) -> None:
        if self.outlet.ended:
            return
        async with Group() as calls:
            calls.create_task(self._read(calls), self.name)
            await super().run()

    async def _read(self, calls: Group) -> None:
        """Starts the calls, to the end of the input."""
        async with closing(self.reader.messages()) as messages:
            async for _, message in messages:
                if isinstance(message, Batch):
                    await self._start(message, calls)
                else:
                    self._append(message)

    async def _start(self, batch: Batch, calls: Group) -> None:
        operator = self._map(batch.schema)
        self.counts.rows_in += batch.num_rows
        for call in operator.calls(batch):
            await self._slots.acquire()
            self._entries.append(call)
            calls.create_task(self._call(operator, call), self.name)

    async def _call(self, operator: MapOperator, call: Call) -> None:
        await operator.run(call)
        self._arrived.set()

    def _append(self, message: Watermark | Barrier | End) -> None:
        if isinstance(message, Barrier):
            taken = self._operator.taken if isinstance(self._operator, MapOperator) else 0
            self._entries.append(_Noted(message, self.reader.freeze(), self.counts.rows_in, taken))
        else:
            # Of watermarks between the same rows the last one counts, so they do not pile up behind a slow call.
            if isinstance(message, Watermark) and self._entries and isinstance(self._entries[-1], Watermark):
                self._entries.pop()
            self._entries.append(message)
        self._arrived.set()

    async def _messages(self) -> AsyncIterator[tuple[int, Message | Made]]:
        """What is ready, as far as the order allows, to the end."""
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            while self._entries:
                head = self._entries[0]
                if isinstance(head, Call):
                    if not (ready := self._take_ready()):
                        break
                    assert isinstance(self._operator, MapOperator)
                    yield ALL, Made(self._operator.outputs(ready))
                    for _ in ready:
                        self._slots.release()
                    continue
                self._entries.popleft()
                if isinstance(head, _Noted):
                    self._noted = head
                    yield ALL, head.barrier
                    self._noted = None
                    continue
                yield ALL, head
                if isinstance(head, End):
                    return

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

    def _map(self, schema: Schema) -> MapOperator:
        operator = self._built(schema)
        assert isinstance(operator, MapOperator)
        return operator

    # -- state -----------------------------------------------------------------------------------------------------------

    def _freeze_counts(self) -> Frozen:
        assert self._noted is not None
        return replace(self.counts, rows_in=self._noted.rows_in).freeze()

    def _freeze_reader(self) -> Frozen:
        assert self._noted is not None
        return self._noted.reader

    def _freeze(self) -> Frozen:
        assert self._noted is not None
        return nested({"taken": self._noted.taken}, {"map": super()._freeze()})

    def _restore(self, saved: Saved) -> None:
        super()._restore(saved.within("map"))
        if isinstance(self._operator, MapOperator):
            self._operator.taken = saved.integer("taken")
