"""Event time at the source: gives each row its time, sends rows from the future aside, and moves the source's watermark.

The watermark of a source is the greatest event time seen so far minus its delay; rows from the future do not move it.  It is a function
of the rows and their order alone, never of where the input was cut.

Several peers of one source (clients of a listening socket, senders of datagrams) move one watermark, so a peer whose clock is wrong could
make the rows of all others late.  From the second peer on, rows that are ahead of the wall clock move the watermark beyond the wall
clock only as far as every peer of the last minute has come (``PeerTimes``): where all of them are ahead, as in a wrong time zone, windows
still close.

Without a time column rows have the time at which they were taken, each later than the one before it: such times, too, tell the order of
rows.  A rejected record has no time of its own: it gets that to which its source had come before it, or the epoch where there was none.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from asyncflow.model.batch import END_OF_TIME, NO_TIME, Batch, watermarks_of
from asyncflow.model.columns import Column, FixedColumn, IndexArray, Int64Array
from asyncflow.model.schema import Schema
from asyncflow.model.snapshot import Copied, Frozen, Saved
from asyncflow.plan.tables import Source
from asyncflow.runtime.base.clock import ArrivalClock, Clock
from asyncflow.runtime.base.ledger import SourceCounts

RECENT_NS = 60_000_000_000
"""A peer that has been silent for longer is not waited for."""
PEERS_KEPT = 1024
"""How many peers are told apart; beyond, the one that has been silent longest is forgotten."""


class Timed(Struct, frozen=True, eq=False):
    """``rows`` go on; ``future`` (or None) go to the side output.  ``marks``: the watermark before each rejected record among them."""

    rows: Batch
    future: Batch | None
    marks: Int64Array


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
        self._count(batch, latest)
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

    def _count(self, batch: Batch, latest: int) -> None:
        counts = self._counts
        assert batch.time is not None
        earliest = int(batch.time.min())
        last = latest if batch.watermarks is None else int(batch.time.max())
        counts.first_time = earliest if counts.first_time is None else min(counts.first_time, earliest)
        counts.last_time = last if counts.last_time is None else max(counts.last_time, last)
        counts.rows_out += batch.num_rows
        self.watermark = max(self.watermark, max(latest - self._delay_ns, NO_TIME))
        counts.watermark = self.watermark
