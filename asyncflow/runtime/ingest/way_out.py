"""The way out of a source: rows get their event time and leave, in one order, with the watermark, the rejected records and the barriers.

Order is the law here.  One lock (``gate``) is held for one whole item: its counts, its rejected records, its rows, its watermark and the
position after it.  So several streams of one source (the clients of a listening socket) interleave by whole items, every reader sees the
items in the order in which the watermark saw them, and a barrier never falls inside an item.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from asyncflow.errors import DataError
from asyncflow.formats.contract import Decoded, LinePosition
from asyncflow.model.columns import Int64Array
from asyncflow.model.messages import Barrier, Watermark
from asyncflow.model.schema import Schema
from asyncflow.model.snapshot import Frozen, Plain, Saved, nested
from asyncflow.plan.tables import Source
from asyncflow.runtime.base.clock import Clock
from asyncflow.runtime.base.ledger import SourceCounts
from asyncflow.runtime.base.rejected import Rejected, rejected_batch
from asyncflow.runtime.edges.channel import FanOut, end
from asyncflow.runtime.ingest.event_time import EventTime
from asyncflow.runtime.ingest.positions import START, Item, saved_position

KEPT_REASONS = 5
"""How many rejected records a run keeps to show at its end."""
CUT_BY_STOP = "cut short: stopped"
"""Why the last record of a stream was rejected that a stop ended."""


NO_COLUMNS = Schema(())


class WayOut:
    """``outlet``, ``rejected`` and ``future``: for rows, rejected records, and rows whose time lies too far ahead of the clock.

    ``columns``: those of the rows that come; ``passed``: those of them that the table's readers get (``future`` has all).
    ``position``: after the last item; ``idle``: the source holds no watermark back; ``stopped``: a stop has ended the input.
    """

    def __init__(self, source: Source, clock: Clock, counts: SourceCounts) -> None:
        self.outlet, self.rejected, self.future = FanOut(), FanOut(several=True), FanOut()
        self.counts = counts
        self.reasons: list[str] = []
        self.columns: tuple[str, ...] = ()
        self.passed: tuple[str, ...] = ()
        self.position = START
        self.idle = False
        self.stopped = False
        self._source = source
        self._time = EventTime(source, clock, counts)
        self._gate = asyncio.Lock()
        self._outlets = (self.outlet, self.rejected, self.future)

    def add_reasons(self, reasons: Sequence[str]) -> None:
        """Keeps them, as far as they are among the first."""
        self.reasons += reasons[: KEPT_REASONS - len(self.reasons)]

    async def hand_on(
        self,
        item: Item,
        schema: Schema,
        columns: tuple[Any, ...],
        num_rows: int,
        rejects: Sequence[Rejected] = (),
        rejected: int = 0,
        origin: Any = None,
        peer: str | None = None,
    ) -> None:
        """One item: its rows, and of ``rejected`` records those that are kept."""
        if num_rows == 0 and not rejected:
            self._count(item)
            return
        async with self._gate:
            self._count(item)
            before = self._time.watermark
            after = [reject.after_row for reject in rejects]
            timed = self._time.assign(schema, columns, num_rows, origin, peer=peer, rejected_after=after)
            if rejected:
                await self._reject(rejects, rejected, timed.marks)
            if timed.future is not None:
                await self.future.send(timed.future)
            if timed.rows.num_rows:
                rows = timed.rows
                await self.outlet.send(rows if self.passed == self.columns else rows.select(self.passed))
            if self._time.watermark > before:
                await self._send_watermark(self._time.watermark, idle=False)

    async def hand_on_decoded(
        self,
        item: Item,
        schema: Schema,
        result: Decoded,
        name: str,
        lines: int,
        offset: int,
        peer: str | None,
        origin: Any = None,
    ) -> None:
        """One item of the stream or message ``name``, which begins at this line and byte of it."""
        rejects = _in_stream(result, name, lines, offset)
        await self.hand_on(
            item, schema, result.columns, result.num_rows, rejects, result.rejected, origin, peer
        )

    async def raise_watermark(self, time_ns: int) -> None:
        """Event time has come at least so far, whatever the rows say."""
        async with self._gate:
            await self._send_watermark(self._time.raise_to(time_ns), idle=self.idle)

    async def tick(self) -> None:
        """By arrival time: the clock moves the watermark."""
        async with self._gate:
            await self._send_watermark(self._time.tick(), idle=False)

    async def fall_idle(self, still: Callable[[], bool]) -> None:
        """The source holds no watermark back from here on, where nothing has come meanwhile (``still``)."""
        async with self._gate:
            if still():
                self.idle = True
                await self._send_watermark(self._time.watermark, idle=True)

    async def resume(self) -> None:
        """Input has come: the source is idle no longer."""
        async with self._gate:
            if self.idle:
                self.idle = False
                await self._send_watermark(self._time.watermark, idle=False)

    def _count(self, item: Item) -> None:
        self.counts.rows += item.rows
        self.counts.bytes += item.bytes
        if item.after is not None:
            self.position = item.after

    async def _send_watermark(self, watermark_ns: int, *, idle: bool) -> None:
        """To all that reads the table or its side outputs."""
        for outlet in self._outlets:
            await outlet.send(Watermark(watermark_ns, idle))

    async def _reject(self, rejects: Sequence[Rejected], count: int, marks: Int64Array) -> None:
        """``count`` records, of which these are kept, with the watermark before each."""
        self.counts.rejected += count
        rows = [(reject.record, reject.reason, reject.position) for reject in rejects]
        _, reason, position = rows[0]
        # A record that was cut short by our own stop is no error of the data.
        if self._source.on_error == "fail" and not (self.stopped and reason == CUT_BY_STOP):
            raise DataError(f"{position}: {reason}", table=self._source.name)
        self.add_reasons([f"{position}: {reason}" for _, reason, position in rows[:KEPT_REASONS]])
        if self.rejected.used:
            times = self._time.rejected(marks)
            await self.rejected.send(rejected_batch(rows, times, marks, self._source.watermark_delay_ns))

    # -- barriers --------------------------------------------------------------------------------------------------------

    async def barrier(self, barrier: Barrier, collect: Callable[[], None]) -> bool:
        """Has the state collected between two items and sends the barrier; False where the source has ended."""
        async with self._gate:
            if self.outlet.ended:
                return False
            collect()
            for outlet in self._outlets:
                await outlet.send(barrier)
        return True

    async def end(self, collect: Callable[[], None]) -> None:
        """Nothing more comes; has the last state collected."""
        async with self._gate:
            collect()
            await end(self._outlets)

    def freeze(self) -> Frozen:
        fields: dict[str, Plain] = {
            "idle": self.idle,
            "position": self.position.fields(),
            "reasons": [*self.reasons],
        }
        return nested(fields, {"counts": self.counts.freeze(), "time": self._time.freeze()})

    def restore(self, saved: Saved, *, ended: bool) -> None:
        """Raises ValueError."""
        self.idle = saved.flag("idle")
        self.position = saved_position(saved.within("position"))
        reasons = saved.fields.get("reasons")
        self.reasons = (
            [each for each in reasons if isinstance(each, str)] if isinstance(reasons, list) else []
        )
        self.counts.restore(saved.within("counts"))
        self._time.restore(saved.within("time"))
        for outlet in self._outlets:
            outlet.ended = ended


def _in_stream(result: Decoded, name: str, line: int, offset: int) -> list[Rejected]:
    """Records of a block that begins at this line and byte of its stream."""
    return [
        Rejected(
            reject.record,
            reject.reason,
            str(LinePosition(name, line + reject.line, offset + reject.offset)),
            min(reject.after_row, result.num_rows),
        )
        for reject in result.rejects
    ]
