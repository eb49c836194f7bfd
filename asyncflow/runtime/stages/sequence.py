"""The stage of a sequence: reads the past to its end, then the live side, which has waited in a channel of its own since before.

The live side is opened before anything of the past is read (``Run`` sees to that), so nothing falls into the gap.  Its messages wait in the
channel, up to ``LIVE_BUFFER_BYTES``; beyond that the live side is held back, and the backpressure reaches its socket.  A sequence that
finds the overlap by keys reads the past once the live side has sent its first row (or has ended): that row says where the overlap begins.

A barrier passes by the side that is read: by the past until the past has ended, then by the live side.  Before that the live side has no
state: after a restart it is read again from its start.
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial

from asyncflow.model.batch import NO_TIME, Batch
from asyncflow.model.instants import format_timestamp
from asyncflow.model.messages import End, Message, Watermark
from asyncflow.model.schema import Schema
from asyncflow.model.snapshot import Copied, Frozen, Saved
from asyncflow.operators.contract import Port
from asyncflow.operators.sequence import SequenceOperator
from asyncflow.plan.stages.sequence import Sequence
from asyncflow.runtime.base.clock import Clock
from asyncflow.runtime.base.memory import Memory
from asyncflow.runtime.base.snapshots import Collect
from asyncflow.runtime.base.workers import Offload
from asyncflow.runtime.edges.channel import Channel, Messages, Reader
from asyncflow.runtime.stages.stage import OneInputStage, Seam

LIVE_BUFFER_BYTES = 32 << 20
PAST, LIVE = 0, 1

_log = logging.getLogger("asyncflow.sequence")


class PastThenLive(Reader):
    """``past`` and ``live``: channels of one port each.  ``live_first``: the live side's first row is given before the past is read, and
    again in its turn.

    ``seam``: set once the past has ended; ``wanted``: the side that is read now.
    """

    def __init__(self, past: Channel, live: Channel, *, live_first: bool) -> None:
        self.past_ended = False
        self.seam = asyncio.Event()
        self.wanted = LIVE if live_first else PAST
        self._past, self._live = past, live

    @property
    def ready(self) -> bool:  # type: ignore[override]
        return self.wanted == PAST or self.past_ended

    async def messages(self) -> Messages:
        first: Message | None = None
        if not self.ready:
            first = (await self._live.receive())[1]
            while isinstance(first, Watermark):
                yield LIVE, first
                first = (await self._live.receive())[1]
            if isinstance(first, Batch):
                yield LIVE, first
            self.wanted = PAST
        if not self.past_ended:
            port, message = await self._past.receive()
            while not isinstance(message, End):
                yield port, message
                port, message = await self._past.receive()
            self._pass_seam()
            yield PAST, message
        if isinstance(first, Batch):
            yield LIVE, first
        port, message = (LIVE, first) if isinstance(first, End) else await self._live.receive()
        while not isinstance(message, End):
            yield (port if port < 0 else LIVE), message
            port, message = await self._live.receive()
        yield LIVE, message

    def freeze(self) -> Frozen:
        return Copied({"past_ended": self.past_ended})

    def restore(self, saved: Saved) -> None:
        self.wanted = PAST
        if saved.flag("past_ended"):
            self._past.close_port(0)
            self._pass_seam()

    def _pass_seam(self) -> None:
        self.wanted, self.past_ended = LIVE, True
        self.seam.set()


class SequenceStage(OneInputStage):
    """``schema``: of both sides where it is known."""

    reader: PastThenLive

    def __init__(
        self,
        table: Sequence,
        reader: PastThenLive,
        schema: Schema | None,
        *,
        clock: Clock,
        memory: Memory,
        offload: Offload | None = None,
        collect: Collect | None = None,
    ) -> None:
        make = partial(SequenceOperator, unique=table.unique)
        super().__init__(
            table.name,
            reader,
            make,
            schema,
            table.ways,
            clock=clock,
            memory=memory,
            offload=offload,
            collect=collect,
        )
        self._table = table

    @property
    def operator(self) -> SequenceOperator | None:
        operator = super().operator
        assert operator is None or isinstance(operator, SequenceOperator)
        return operator

    @property
    def wanted(self) -> int:
        """The side that is read now."""
        return self.reader.wanted

    @property
    def seam(self) -> Seam:
        return Seam(self._table.inputs[PAST], self._table.inputs[LIVE], self.reader.seam)

    @property
    def capped_until_end_of(self) -> int | None:
        return PAST if self.wanted == PAST else None

    @property
    def ports(self) -> list[Port]:
        """How far each side has come: of the past, then of the live side."""
        read = Port(self.counts.watermark, self._idle, self.outlet.ended)
        if self.reader.past_ended:
            return [Port(NO_TIME, ended=True), read]
        return [read, Port(NO_TIME)]

    async def _process(self, port: int, batch: Batch) -> None:
        if self.reader.ready:
            await super()._process(port, batch)
            return
        self._built(batch.schema)
        assert self.operator is not None
        self.operator.begin(_first_watermark(batch))

    async def _advance(self, watermark: Watermark) -> None:
        operator = self.operator
        if operator is None or not self.reader.ready:
            await self._send(NO_TIME, idle=watermark.idle)
            return
        overlapping = operator.overlapping
        operator.advance(watermark.time_ns)
        await self._send(operator.watermark, idle=watermark.idle)
        if overlapping and not operator.overlapping:
            self._tell_overlap()

    async def _finish(self, port: int) -> None:
        if port == LIVE:
            if self.operator is not None and self.operator.overlapping:
                self._tell_overlap()
            return
        if self.operator is not None:
            self.operator.hand_over()
            self._tell_seam()
        await self._send(self.counts.watermark, idle=False)

    async def _send(self, watermark_ns: int, *, idle: bool) -> None:
        """The table's watermark, and whether the side that is read is idle, where that is news."""
        if watermark_ns > self.counts.watermark or idle != self._idle:
            self._idle = idle
            if watermark_ns > self.counts.watermark:
                self._rise(watermark_ns)
            for outlet in self._outlets:
                await outlet.send(Watermark(watermark_ns, idle))

    # -- words -----------------------------------------------------------------------------------------------------------

    def _tell_seam(self) -> None:
        rows, last = self.counts.ways["history_rows"], self.counts.ways.get("history_last")
        where = "" if last is None else f", the last at {format_timestamp(last)}"
        _log.info("%s: the past has ended after %s rows%s: live from here", self.name, f"{rows:,}", where)

    def _tell_overlap(self) -> None:
        ways, first = self.counts.ways, self.counts.ways.get("live_first")
        where = "" if first is None else f"live began at {format_timestamp(first)}; "
        dropped = f"{ways['duplicate']:,} rows were there already, {ways['late']:,} were late"
        _log.info("%s: the overlap is over: %s%s", self.name, where, dropped)


def _first_watermark(batch: Batch) -> int:
    """The live side's watermark after its first row."""
    assert batch.time is not None
    return max(int(batch.row_watermarks()[0]), int(batch.time[0]) - batch.delay_ns, NO_TIME)
