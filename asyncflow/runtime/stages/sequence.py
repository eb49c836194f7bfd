"""The stage of a sequence: reads the past to its end, then what is live, which has waited in a channel of its own since before.

The live side is opened before anything of the past is read (``Run`` sees to that), so nothing falls into the gap.  What it sends in the
meantime waits here, up to ``LIVE_BUFFER_BYTES``; beyond that it is held back, and that reaches its socket.  Where the overlap is told by
keys the past is taken once the live side has said something (or has ended): its first row says where the overlap begins.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable

from asyncflow.model.batch import NO_TIME, Batch
from asyncflow.model.instants import format_timestamp
from asyncflow.model.messages import End, Message, Watermark
from asyncflow.model.schema import Schema
from asyncflow.operators.contract import Operator, Port
from asyncflow.operators.sequence import SequenceOperator
from asyncflow.plan.stages.sequence import Sequence
from asyncflow.runtime.edges.channel import Channel
from asyncflow.runtime.edges.fan_out import end
from asyncflow.runtime.stages.stage import Stage

LIVE_BUFFER_BYTES = 32 << 20
PAST, LIVE = 0, 1

_log = logging.getLogger("asyncflow.sequence")


class SequenceStage(Stage):
    """``past`` and ``live``: channels of one port each."""

    operator: SequenceOperator | None

    def __init__(self, table: Sequence, past: Channel, live: Channel, schema: Schema | None) -> None:
        def make(schema: Schema) -> Operator:
            return SequenceOperator(schema, table.unique)

        super().__init__(table.name, _nothing(), make, schema, table.ways)
        self._past, self._live = past, live
        self._by_keys = bool(table.unique)
        self._idle = False
        self._past_ended = False
        self.wanted = LIVE if self._by_keys else PAST
        """The side that is read now."""

    @property
    def ports(self) -> list[Port]:
        """How far each side has come: of the past, then of what is live."""
        read = Port(self.counts.watermark, self._idle, self.outlet.ended)
        return [Port(NO_TIME, ended=True), read] if self._past_ended else [read, Port(NO_TIME)]

    async def run(self) -> None:
        first: Message | None = None
        if self._by_keys:
            while isinstance(first := await _next(self._live), Watermark):
                await self._say(NO_TIME, idle=first.idle)
            if isinstance(first, Batch):
                self._ready(first.schema).begin(_first_watermark(first))
        self.wanted = PAST
        await self._read(lambda: _next(self._past))
        self.wanted, self._past_ended = LIVE, True
        if self.operator is not None:
            self.operator.hand_over()
            self._tell_seam()
        await self._say(self.counts.watermark, idle=False)
        waiting = [first] if first is not None else []
        await self._read(lambda: _given(waiting.pop()) if waiting else _next(self._live))
        if self.operator is not None and self.operator.overlapping:
            self._tell_overlap()
        await end((self.outlet, *self.side.values()))

    async def _read(self, following: Callable[[], Awaitable[Message]]) -> None:
        """One side, to its end."""
        while not isinstance(message := await following(), End):
            if isinstance(message, Batch):
                operator = self._ready(message.schema)
                self.counts.rows_in += message.num_rows
                await self._hand_on(await self._guarded(operator, message))
            elif isinstance(message, Watermark):
                await self._advance(message)

    async def _advance(self, watermark: Watermark) -> None:
        operator = self.operator
        if operator is None:
            await self._say(NO_TIME, idle=watermark.idle)
            return
        overlapping = operator.overlapping
        operator.advance(watermark.time_ns)
        await self._say(operator.watermark, idle=watermark.idle)
        if overlapping and not operator.overlapping:
            self._tell_overlap()

    async def _say(self, watermark_ns: int, *, idle: bool) -> None:
        """The table's watermark, and whether the side that is read is quiet, where that is news."""
        if watermark_ns > self.counts.watermark or idle != self._idle:
            self._idle = idle
            if watermark_ns > self.counts.watermark:
                self._rise(watermark_ns)
            for outlet in (self.outlet, *self.side.values()):
                await outlet.send(Watermark(watermark_ns, idle))

    def _ready(self, schema: Schema) -> SequenceOperator:
        if self.operator is None:
            self._build(schema)
        assert self.operator is not None
        return self.operator

    def _tell_seam(self) -> None:
        rows, last = self.counts.ways["history_rows"], self.counts.ways.get("history_last")
        where = "" if last is None else f", the last at {format_timestamp(last)}"
        _log.info("%s: the past has ended after %s rows%s: live from here", self.name, f"{rows:,}", where)

    def _tell_overlap(self) -> None:
        ways, first = self.counts.ways, self.counts.ways.get("live_first")
        where = "" if first is None else f"live began at {format_timestamp(first)}; "
        dropped = f"{ways['duplicate']:,} rows were there already, {ways['late']:,} were late"
        _log.info("%s: the overlap is over: %s%s", self.name, where, dropped)


async def _nothing() -> AsyncIterator[Message]:
    return
    yield  # a generator


async def _next(channel: Channel) -> Message:
    return (await channel.receive())[1]


async def _given(message: Message) -> Message:
    return message


def _first_watermark(batch: Batch) -> int:
    """The live side's watermark after its first row."""
    assert batch.time is not None
    return max(int(batch.row_watermarks()[0]), int(batch.time[0]) - batch.delay_ns, NO_TIME)
