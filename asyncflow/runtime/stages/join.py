"""Stages over two inputs of different columns: joins.

In which order the two inputs are read (``readers``) decides only how much has to wait, never what comes out: a lookup reads the right
input to its end, then the left one; two bounded inputs are read in step with event time; inputs that may never end are taken as they come.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from asyncflow.model.batch import END_OF_TIME, NO_TIME, Batch
from asyncflow.model.messages import Barrier, Watermark
from asyncflow.model.snapshot import Frozen, Saved, nested
from asyncflow.operators.contract import FirstHalf, Output, SecondHalf, TwoInputOperator
from asyncflow.runtime.base.beside import Beside
from asyncflow.runtime.base.clock import Clock
from asyncflow.runtime.base.memory import Memory
from asyncflow.runtime.base.snapshots import Collect
from asyncflow.runtime.base.workers import Offload
from asyncflow.runtime.edges.channel import Reader
from asyncflow.runtime.stages.stage import Stage

LEFT, RIGHT = 0, 1
SECONDS = 2
"""How many second halves are open at most.  Calls come in turn of which one has the longer first half and the other the longer second
half, so with one second half open each would wait for the other."""


class TwoInputStage(Stage):
    """``reader``: gives the end of each input.  The watermark of the results is the operator's; rows of side outputs leave as they come,
    so they have the watermark of the inputs."""

    holds = "rows that wait for a match"

    def __init__(
        self,
        name: str,
        reader: Reader,
        operator: TwoInputOperator,
        kept: tuple[str, ...],
        *,
        clock: Clock,
        memory: Memory,
        offload: Offload | None = None,
        collect: Collect | None = None,
    ) -> None:
        self._operator = operator
        super().__init__(name, reader, kept, clock=clock, memory=memory, offload=offload, collect=collect)
        self.counts.ways = operator.counts
        self._inputs = Watermark(NO_TIME)
        self._seconds = Beside(SECONDS)
        """Make and send what comes of the last first halves."""

    @property
    def operator(self) -> TwoInputOperator:
        return self._operator

    @property
    def reached_ns(self) -> int:
        return self._inputs.time_ns

    async def _process(self, port: int, batch: Batch) -> None:
        self.counts.rows_in += batch.num_rows
        self._fresh_bytes += batch.nbytes
        if self._in_halves(batch.nbytes):
            first = FirstHalf((), lambda: (self._operator.process_first(port, batch), False))
            await self._work_in_halves([first])
        else:
            await self._seconds.settle()
            await self._work(partial(self._operator.process, port, batch), batch.nbytes)

    async def _advance(self, watermark: Watermark) -> None:
        if watermark.time_ns > self._inputs.time_ns:
            self.moved_ns = self._clock.now_ns()
        self._inputs = watermark
        fresh_bytes, self._fresh_bytes = self._fresh_bytes, 0
        of_side = watermark if watermark.time_ns < END_OF_TIME else None
        if self._in_halves(fresh_bytes):
            await self._work_in_halves(self._operator.advance_first(watermark.time_ns), of_side)
        else:
            await self._seconds.settle()
            size_bytes = self._operator.advance_bytes(watermark.time_ns, fresh_bytes)
            await self._work(partial(self._operator.advance, watermark.time_ns), size_bytes)
            await self._send_to_sides(of_side)

    async def _send_to_sides(self, watermark: Watermark | None) -> None:
        if watermark is not None:
            for side in self.side.values():
                await side.send(watermark)

    async def _finish(self, port: int) -> None:
        await self._seconds.settle()
        await self._work(partial(self._operator.finish, port), self.state_bytes)

    def _news(self) -> Watermark | None:
        reached_ns, idle = self._operator.watermark, self._inputs.idle
        if reached_ns >= END_OF_TIME or (reached_ns <= self.counts.watermark and idle == self._idle):
            return None
        self.counts.watermark, self._idle = reached_ns, idle
        return Watermark(reached_ns, idle)

    # -- in halves -------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        async with self._seconds:
            await super().run()

    async def _on_barrier(self, barrier: Barrier) -> None:
        await self._seconds.settle()
        await super()._on_barrier(barrier)

    def _in_halves(self, size_bytes: int) -> bool:
        return self._operator.in_halves and self._offload.takes(size_bytes)

    async def _work_in_halves(
        self, first_halves: Iterable[FirstHalf], of_side: Watermark | None = None
    ) -> None:
        """Has workers do the first halves of a call, beside the second halves of the calls before it; leaves the last second half at work.

        ``of_side``: what the side outputs are told afterwards."""
        self._before = self._operator.standing()
        more = True
        for first in first_halves:
            if len(first.tasks) > 1:
                await self._together(first.tasks)
                first = FirstHalf((), first.joined)
            ((second, more),) = await self._together([partial(_one_after_other, first)])
            last = (None, None) if more else (self._news(), of_side)
            await self._seconds.start(partial(self._finish_half, second, *last))
        if more:  # there was nothing to do
            await self._seconds.start(partial(self._finish_half, list, self._news(), of_side))
        self._before = None
        self._account.resize(self._operator.state_bytes)

    async def _finish_half(
        self, second: SecondHalf, news: Watermark | None, of_side: Watermark | None
    ) -> None:
        try:
            outputs: list[Output] = await self._offload.run(second)
        except Exception as error:
            self._fail(error)
        await self._send_all(outputs)
        if news is not None:
            await self.outlet.send(news)
        await self._send_to_sides(of_side)

    # -- state -----------------------------------------------------------------------------------------------------------

    def _freeze(self) -> Frozen:
        fields = {"inputs_ns": self._inputs.time_ns, "inputs_idle": self._inputs.idle}
        return nested(fields, {"operator": self._operator.freeze()})

    def _restore(self, saved: Saved) -> None:
        self._inputs = Watermark(saved.integer("inputs_ns"), saved.flag("inputs_idle"))
        self._operator.restore(saved.within("operator"))
        self.counts.ways = self._operator.counts


def _one_after_other(first: FirstHalf) -> tuple[SecondHalf, bool]:
    for task in first.tasks:
        task()
    return first.joined()
