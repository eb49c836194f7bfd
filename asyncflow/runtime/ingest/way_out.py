"""The way out of a source: rows get their event time and leave, in one order, with the watermark, rejected records and barriers.

Event time.  The watermark of a source is the greatest event time seen so far minus its delay; rows from the future do not move the
watermark and go to a side output.  The watermark is a function of the rows and their order alone, never of where the input was cut.

Several peers of one source (clients of a listening socket, senders of datagrams) move one watermark, so a peer whose clock is wrong could
make the rows of all others late.  From the second peer on, rows that are ahead of the wall clock move the watermark beyond the wall
clock only as far as every peer of the last minute has come (``PeerTimes``): where all of them are ahead, as in a wrong time zone, windows
still close.

Without a time column rows have the time at which they were taken, each later than the one before it: such times, too, tell the order of
rows.  A rejected record has no time of its own: it gets that to which its source had come before it, or the epoch where there was none.

Order.  One lock (the gate) is held for one whole item: its counts, its rejected records, its rows, its watermark and the position after
it.  So several streams of one source interleave by whole items, every reader sees the items in the order in which the watermark saw them,
and a barrier never falls inside an item.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from asyncflow.errors import DataError
from asyncflow.formats.contract import Decoded, LinePosition
from asyncflow.model.batch import END_OF_TIME, NO_TIME, Batch, watermarks_of
from asyncflow.model.columns import Column, FixedColumn, IndexArray, Int64Array
from asyncflow.model.messages import Barrier, Watermark
from asyncflow.model.schema import Schema
from asyncflow.model.snapshot import Copied, Frozen, Plain, Saved, nested
from asyncflow.operators.contract import Operator, made_ahead
from asyncflow.plan.tables import Source
from asyncflow.runtime.base.clock import ArrivalClock, Clock
from asyncflow.runtime.base.ledger import SourceCounts
from asyncflow.runtime.base.rejected import Rejected, rejected_batch
from asyncflow.runtime.edges.channel import FanOut, end
from asyncflow.runtime.ingest.positions import START, Item, saved_position

KEPT_REASONS = 5
"""How many rejected records a run keeps to show at its end."""
CUT_BY_STOP = "cut short: stopped"
"""Why the last record of a stream was rejected that a stop ended."""
NO_COLUMNS = Schema(())
RECENT_NS = 60_000_000_000
"""A peer that has been silent for longer is not waited for."""
PEERS_KEPT = 1024
"""How many peers are told apart; beyond, the one that has been silent longest is forgotten."""


class Timed(Struct, frozen=True, eq=False):
    """``rows`` go on; ``future`` (or None) go to the side output.  ``marks``: the watermark before each rejected record among them."""

    rows: Batch
    future: Batch | None
    marks: Int64Array


class Foreseen(Struct, frozen=True, eq=False):
    """What was made of a block's rows before their turn.  ``columns``: as decoded; ``rows``: those that go on, with what the only reader of
    the table makes of them as ``ahead``; ``first_ns``, ``last_ns``: the bounds of the event times, where a column
    has them."""

    columns: tuple[Column, ...]
    rows: Batch
    first_ns: int
    last_ns: int


class PeerTimes:
    """How far each peer of a source has come in event time."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._several = False
        self._heard: dict[
            str, tuple[int, int]
        ] = {}  # the greatest time and when something came last, the longest silent first

    def limit(self, peer: str, latest_ns: int, now_ns: int) -> int | None:
        """How far rows of ``peer`` up to the time ``latest_ns`` may move the watermark; None: as far as their own times."""
        elapsed = self._clock.elapsed_ns()
        known, _ = self._heard.pop(peer, (NO_TIME, 0))
        self._heard[peer] = (max(known, latest_ns), elapsed)
        if len(self._heard) > PEERS_KEPT:
            del self._heard[next(iter(self._heard))]
        self._several = self._several or len(self._heard) > 1
        if not self._several or latest_ns <= now_ns:
            return None
        recent = [reached for reached, heard in self._heard.values() if elapsed - heard <= RECENT_NS]
        return max(now_ns, min(recent)) if len(recent) > 1 else now_ns


class EventTime:
    """One source's event time.  ``watermark`` is its watermark now, ns; NO_TIME before the first row."""

    def __init__(self, source: Source, clock: Clock, counts: SourceCounts) -> None:
        self._time_column = source.time
        self._delay_ns = source.watermark_delay_ns
        self._max_future_ns = source.max_future_ns
        self._clock = clock
        self._arrival = ArrivalClock(clock)
        self._counts = counts
        self._peers = PeerTimes(clock)
        self._arrived = NO_TIME
        self.watermark = NO_TIME

    def assign(
        self,
        schema: Schema,
        columns: tuple[Column, ...],
        num_rows: int,
        origin: object = None,
        *,
        peer: str | None = None,
        rejected_after: Sequence[int] = (),
        foreseen: Foreseen | None = None,
    ) -> Timed:
        """Rows in source order, decoded; their time column, if there is one, has no nulls.

        ``peer``: who sent them, where a source has several.  ``rejected_after``: how many of these rows stand before each record that
        was rejected among them, ascending."""
        after = np.array(rejected_after, np.int64)
        if num_rows == 0:
            times = np.empty(0, np.int64)
            none = Batch(schema, columns, 0, times, None, self.watermark, self._delay_ns, origin)
            return Timed(none, None, np.full(len(after), self.watermark, np.int64))
        now = self._clock.now_ns()
        if self._time_column is None:
            first = max(self._arrival.now_ns(), self._arrived + 1)
            self._arrived = first + num_rows - 1
            times = np.arange(first, first + num_rows)
        else:
            column = columns[schema.index(self._time_column)]
            assert isinstance(column, FixedColumn)
            times = column.values
        batch = Batch(schema, columns, num_rows, times, None, self.watermark, self._delay_ns, origin)
        future = None
        if self._time_column is None:
            latest = self._arrived
        elif foreseen is not None:
            latest = foreseen.last_ns
        else:
            latest = int(times.max())
        limit = min(now + self._max_future_ns, END_OF_TIME)
        if self._time_column is not None and latest > limit:
            ahead = times > limit
            future = batch.take(np.flatnonzero(ahead))
            kept = np.flatnonzero(~ahead)
            batch = self._without(batch, kept)
            after = np.searchsorted(kept, after)
            self._counts.future += future.num_rows
            if batch.num_rows == 0:
                return Timed(batch, future, np.full(len(after), self.watermark, np.int64))
            assert batch.time is not None
            latest = int(batch.time.max())
        if self._time_column is not None and peer is not None:
            reach = self._peers.limit(peer, latest, now)
            if reach is not None and latest > reach:
                batch, latest = self._not_ahead(batch, reach), reach
        self._count(batch, latest, foreseen)
        marks = np.append(batch.row_watermarks(), self.watermark)[after] if len(after) else after
        return Timed(batch, future, marks)

    def rejected(self, marks: Int64Array) -> Int64Array:
        """The times of rejected records with these watermarks before them."""
        unknown = self._arrival.now_ns() if self._time_column is None else 0
        reached = np.minimum(marks, END_OF_TIME - self._delay_ns) + self._delay_ns
        return np.where(marks == NO_TIME, unknown, reached)

    def tick(self) -> int:
        """Arrival time only: the clock moves the watermark also when nothing comes."""
        return self.raise_to(self._arrival.now_ns() - self._delay_ns)

    def raise_to(self, watermark_ns: int) -> int:
        """The watermark is now at least this."""
        self.watermark = max(self.watermark, watermark_ns)
        self._counts.watermark = self.watermark
        return self.watermark

    def freeze(self) -> Frozen:
        """How far each peer has come is not part of the state: input of several peers cannot be read again."""
        return Copied(
            {"watermark": self.watermark, "arrived": self._arrived, "now_ns": self._arrival.now_ns()}
        )

    def restore(self, saved: Saved) -> None:
        """Raises ValueError."""
        self.watermark = saved.integer("watermark", NO_TIME, END_OF_TIME)
        self._arrived = saved.integer("arrived", NO_TIME, END_OF_TIME)
        self._arrival.not_before(saved.integer("now_ns", NO_TIME, END_OF_TIME))

    def _not_ahead(self, batch: Batch, reach_ns: int) -> Batch:
        """The rows with watermarks as if none of them were later than ``reach_ns``."""
        assert batch.time is not None
        marks = watermarks_of(np.minimum(batch.time, reach_ns), self.watermark, self._delay_ns)
        return replace(batch, watermarks=marks)

    def _without(self, batch: Batch, rows: IndexArray) -> Batch:
        """The rows left once those from the future are gone, with watermarks as if these had never been there."""
        kept = batch.take(rows)
        return replace(kept, watermarks=None, watermark_before=self.watermark)

    def _count(self, batch: Batch, latest: int, foreseen: Foreseen | None) -> None:
        counts = self._counts
        assert batch.time is not None
        if self._time_column is None:  # times of arrival rise by one
            earliest = latest - batch.num_rows + 1
        elif foreseen is not None and batch.columns is foreseen.columns:
            earliest = foreseen.first_ns
        else:
            earliest = int(batch.time.min())
        last = latest if batch.watermarks is None else int(batch.time.max())
        counts.first_time = earliest if counts.first_time is None else min(counts.first_time, earliest)
        counts.last_time = last if counts.last_time is None else max(counts.last_time, last)
        counts.rows_out += batch.num_rows
        self.watermark = max(self.watermark, max(latest - self._delay_ns, NO_TIME))
        counts.watermark = self.watermark


class WayOut:
    """``outlet``, ``rejected`` and ``future``: for rows, rejected records, and rows whose time lies too far ahead of the clock.

    ``columns``: those of the rows that come; ``passed``: those of them that the table's readers get (``future`` has all).
    ``next_operators``: those that are the only ones to take the rows, one after the other; all but the last are
    :class:`~asyncflow.operators.contract.Stateless`.  ``position``: after the last item; ``idle``: the source holds no watermark
    back; ``stopped``: a stop has ended the input.
    """

    def __init__(self, source: Source, clock: Clock, counts: SourceCounts) -> None:
        self.outlet, self.rejected, self.future = FanOut(), FanOut(several=True), FanOut()
        self.counts = counts
        self.reasons: list[str] = []
        self.columns: tuple[str, ...] = ()
        self.passed: tuple[str, ...] = ()
        self.next_operators: tuple[Operator, ...] = ()
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
        foreseen: Foreseen | None = None,
    ) -> None:
        """One item: its rows, and of ``rejected`` records those that are kept."""
        if num_rows == 0 and not rejected:
            self._count(item)
            return
        async with self._gate:
            self._count(item)
            before = self._time.watermark
            after = [reject.after_row for reject in rejects]
            timed = self._time.assign(
                schema, columns, num_rows, origin, peer=peer, rejected_after=after, foreseen=foreseen
            )
            if rejected:
                await self._reject(rejects, rejected, timed.marks)
            if timed.future is not None:
                await self.future.send(timed.future)
            if timed.rows.num_rows:
                rows = timed.rows
                if foreseen is not None and rows.columns is foreseen.columns and rows.watermarks is None:
                    rows = replace(foreseen.rows.settled(rows.watermark_before), time=rows.time)
                elif self.passed != self.columns:
                    rows = rows.select(self.passed)
                await self.outlet.send(rows)
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
        foreseen: Foreseen | None = None,
    ) -> None:
        """One item of the stream or message ``name``, which begins at this line and byte of it."""
        rejects = _in_stream(result, name, lines, offset)
        await self.hand_on(
            item, schema, result.columns, result.num_rows, rejects, result.rejected, origin, peer, foreseen
        )

    def foresee(self, schema: Schema, result: Decoded) -> Foreseen | None:
        """Makes of a block's rows what needs no other block: called by any thread, for several blocks at once.  None: where rows get their
        times as they leave, and the next operator cannot do without."""
        time, times = self._source.time, None
        if not result.num_rows:
            return None
        if time is not None:
            column = result.columns[schema.index(time)]
            assert isinstance(column, FixedColumn)
            times = column.values
        elif not self.next_operators or not self.next_operators[0].ahead_untimed:
            return None
        delay_ns = self._source.watermark_delay_ns
        rows = Batch(schema, result.columns, result.num_rows, times, None, NO_TIME, delay_ns)
        if self.passed != self.columns:
            rows = rows.select(self.passed)
        rows = rows.counted()
        if self.next_operators:
            rows = made_ahead(rows, self.next_operators)
        bounds = (0, 0) if times is None else (int(times.min()), int(times.max()))
        return Foreseen(result.columns, rows, *bounds)

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
