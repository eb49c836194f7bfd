"""Stages over two inputs of different columns: joins.

In which order the two inputs are read (``readers``) decides only how much has to wait, never what comes out: a lookup reads the right
input to its end, then the left one; two bounded inputs are read in step with event time; inputs that may never end are taken as they come.
"""

from __future__ import annotations

from functools import partial

from asyncflow.model.batch import END_OF_TIME, NO_TIME, Batch
from asyncflow.model.messages import Watermark
from asyncflow.model.snapshot import Frozen, Saved, nested
from asyncflow.operators.contract import TwoInputOperator
from asyncflow.runtime.base.clock import Clock
from asyncflow.runtime.base.memory import Memory
from asyncflow.runtime.base.snapshots import Collect
from asyncflow.runtime.base.workers import Offload
from asyncflow.runtime.edges.channel import Reader
from asyncflow.runtime.stages.stage import Stage

LEFT, RIGHT = 0, 1


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

    @property
    def operator(self) -> TwoInputOperator:
        return self._operator

    @property
    def reached_ns(self) -> int:
        return self._inputs.time_ns

    async def _process(self, port: int, batch: Batch) -> None:
        self.counts.rows_in += batch.num_rows
        self._fresh_bytes += batch.nbytes
        await self._work(partial(self._operator.process, port, batch), batch.nbytes)

    async def _advance(self, watermark: Watermark) -> None:
        if watermark.time_ns > self._inputs.time_ns:
            self.moved_ns = self._clock.now_ns()
        self._inputs = watermark
        fresh_bytes, self._fresh_bytes = self._fresh_bytes, 0
        await self._work(partial(self._operator.advance, watermark.time_ns), fresh_bytes)
        if watermark.time_ns < END_OF_TIME:
            for side in self.side.values():
                await side.send(watermark)

    async def _finish(self, port: int) -> None:
        await self._work(partial(self._operator.finish, port), self.state_bytes)

    def _news(self) -> Watermark | None:
        reached_ns, idle = self._operator.watermark, self._inputs.idle
        if reached_ns >= END_OF_TIME or (reached_ns <= self.counts.watermark and idle == self._idle):
            return None
        self.counts.watermark, self._idle = reached_ns, idle
        return Watermark(reached_ns, idle)

    # -- state -----------------------------------------------------------------------------------------------------------

    def _freeze(self) -> Frozen:
        fields = {"inputs_ns": self._inputs.time_ns, "inputs_idle": self._inputs.idle}
        return nested(fields, {"operator": self._operator.freeze()})

    def _restore(self, saved: Saved) -> None:
        self._inputs = Watermark(saved.integer("inputs_ns"), saved.flag("inputs_idle"))
        self._operator.restore(saved.within("operator"))
        self.counts.ways = self._operator.counts
