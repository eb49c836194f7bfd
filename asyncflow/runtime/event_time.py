"""Event time at the source: gives each row its time, sends rows from the future aside, and moves the source's watermark.

The watermark of a source is the greatest event time seen so far minus its delay; rows from the future do not move it.  It is a function
of the rows and their order alone, never of where the input was cut.
"""

from __future__ import annotations

import numpy as np
from msgspec import Struct

from asyncflow.model.batch import END_OF_TIME, NO_TIME, Batch
from asyncflow.model.columns import Column, FixedColumn, Int64Array
from asyncflow.model.schema import Schema
from asyncflow.plan.tables import Source
from asyncflow.runtime.clock import Clock
from asyncflow.runtime.ledger import SourceCounts


class Timed(Struct, frozen=True, eq=False):
    """``rows`` go on; ``future`` (or None) go to the side output."""

    rows: Batch
    future: Batch | None


class EventTime:
    """One source's event time.  ``watermark`` is its watermark now, ns; NO_TIME before the first row."""

    def __init__(self, source: Source, clock: Clock, counts: SourceCounts) -> None:
        self._time_column = source.time
        self._delay_ns = source.watermark_delay_ns
        self._max_future_ns = source.max_future_ns
        self._clock = clock
        self._counts = counts
        self.watermark = NO_TIME

    def assign(
        self, schema: Schema, columns: tuple[Column, ...], num_rows: int, origin: object = None
    ) -> Timed:
        """Rows in source order, decoded; their time column, if there is one, has no nulls."""
        if self._time_column is None:
            times: Int64Array = np.full(num_rows, self._clock.now_ns(), np.int64)
        else:
            column = columns[schema.index(self._time_column)]
            assert isinstance(column, FixedColumn)
            times = column.values
        batch = Batch(schema, columns, num_rows, times, None, self.watermark, self._delay_ns, origin)
        if num_rows == 0:
            return Timed(batch, None)
        future = None
        latest = int(times.max())
        limit = min(self._clock.now_ns() + self._max_future_ns, END_OF_TIME)
        if self._time_column is not None and latest > limit:
            ahead = times > limit
            future = batch.take(np.flatnonzero(ahead))
            batch = self._without(batch, np.flatnonzero(~ahead))
            self._counts.future += future.num_rows
            if batch.num_rows == 0:
                return Timed(batch, future)
            assert batch.time is not None
            latest = int(batch.time.max())
        self._count(batch, latest)
        return Timed(batch, future)

    def tick(self) -> int:
        """Arrival time only: the clock moves the watermark also when nothing comes."""
        return self.raise_to(self._clock.now_ns() - self._delay_ns)

    def raise_to(self, watermark_ns: int) -> int:
        """The watermark is now at least this."""
        self.watermark = max(self.watermark, watermark_ns)
        self._counts.watermark = self.watermark
        return self.watermark

    def _without(self, batch: Batch, rows: np.ndarray[tuple[int], np.dtype[np.intp]]) -> Batch:
        """The rows left once those from the future are gone, with watermarks as if these had never been there."""
        kept = batch.take(rows)
        return Batch(
            kept.schema,
            kept.columns,
            kept.num_rows,
            kept.time,
            None,
            self.watermark,
            self._delay_ns,
            kept.origin,
        )

    def _count(self, batch: Batch, latest: int) -> None:
        counts = self._counts
        assert batch.time is not None
        earliest = int(batch.time.min())
        counts.first_time = earliest if counts.first_time is None else min(counts.first_time, earliest)
        counts.last_time = latest if counts.last_time is None else max(counts.last_time, latest)
        counts.rows_out += batch.num_rows
        self.watermark = max(self.watermark, max(latest - self._delay_ns, NO_TIME))
        counts.watermark = self.watermark
