"""New times for rows: of a ``derive`` that replaces the time column, and of the rows that a user's function returns.

A row's time is what its time columns say (``plan.times``).  A function that leaves the times of its rows alone also leaves the watermarks
before them, and those of its table, as they were; so it may repeat rows or leave them out.  From the first row on that has another time
than the row it was made from, and for a ``derive`` from the start, the table has a watermark of its own: the greatest of the new times so
far less the delay, row by row.  Before a function has returned a row nothing is known, and nothing is said.

What comes out depends on the rows and their order alone, not on the batches they come in; so does what comes from a function that works
row by row.  Where calls that are under way together may go on in any order (``ordered`` False) they all go by the watermark before the
first of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeAlias

import numpy as np
from msgspec.structs import replace

from asyncflow.errors import safe_repr
from asyncflow.model.batch import NO_TIME, Batch
from asyncflow.model.columns import BoolArray, FixedColumn, Int64Array
from asyncflow.operators.contract import Operator, Output
from asyncflow.operators.derive import DeriveOperator
from asyncflow.plan.times import TIMES, TimeColumns
from asyncflow.runtime.rejected import KEPT_CHARACTERS, rejected_batch

Times: TypeAlias = tuple[Int64Array, BoolArray | None]
"""Times, and which of them are not null; None: all."""
NULL = "null event time"
AHEAD = "its time is further ahead of the clock than max_future"


class Retiming:
    """``columns``: the time columns; ``latest``: the greatest time that a row may have now.

    ``moved``: rows have times of their own; None: no row has come yet.  ``watermark``: that of the rows handed on, where they have.
    """

    def __init__(
        self,
        columns: TimeColumns,
        delay_ns: int,
        latest: Callable[[], int],
        *,
        ordered: bool = True,
        moved: bool | None = None,
    ) -> None:
        self.columns = columns
        self.moved = moved
        self.watermark = NO_TIME
        self._delay_ns = delay_ns
        self._latest = latest
        self._ordered = ordered
        self._ahead = NO_TIME

    def times(self, rows: Batch) -> Times | None:
        """The times that rows say; None where a time column is missing."""
        times: Int64Array | None = None
        known: BoolArray | None = None
        for name, before_ns in self.columns:
            if name not in rows.schema or rows.schema[name].type not in TIMES:
                return None
            column = rows.column(name)
            assert isinstance(column, FixedColumn)
            values, valid = column.values - before_ns if before_ns else column.values, column.valid
            if times is None:
                times, known = values, valid
                continue
            left = times if known is None else np.where(known, times, NO_TIME)
            right = values if valid is None else np.where(valid, values, NO_TIME)
            times = np.maximum(left, right)
            known = None if known is None or valid is None else known | valid
        return None if times is None else (times, known)

    def refused(self, times: Int64Array, known: BoolArray | None) -> dict[int, str]:
        """The places of rows that cannot have such a time, and why."""
        reasons = {}
        if known is not None:
            reasons = dict.fromkeys(np.flatnonzero(~known).tolist(), f"{self.columns[0].name}: {NULL}")
        latest = self._latest()
        if len(times) and int(times.max()) > latest:
            ahead = times > latest if known is None else (times > latest) & known
            reasons |= dict.fromkeys(np.flatnonzero(ahead).tolist(), f"{self.columns[0].name}: {AHEAD}")
        return reasons

    def follow(
        self, before: Batch, rows: Batch, times: Int64Array, *, row_for_row: bool = True
    ) -> Iterator[Batch]:
        """``rows`` with these times, made from ``before``, row for row or all together.  Those made together that have no time but those
        of rows they were made from were repeated or left out."""
        count = rows.num_rows
        if not count:
            return
        if self.moved or before.time is None:
            yield self._move(rows, times, before)
            return
        marks = before.row_watermarks()
        same = times == before.time if count == before.num_rows else np.zeros(1, np.bool_)
        kept = count if same.all() else int(np.argmin(same))
        if kept < count and not (row_for_row or self._same_rows(before, rows)):
            order = np.argsort(before.time, kind="stable")
            place = np.minimum(np.searchsorted(before.time[order], times), len(order) - 1)
            if (before.time[order[place]] == times).all():
                kept, marks = count, marks[order[place]]
        if kept:
            self.moved = False
            part = rows if kept == count else rows.slice(0, kept)
            yield _timed(part, times[:kept], marks[:kept], before)
        if kept < count:
            if self.moved is False:
                self.watermark = max(self.watermark, int(marks[kept]))
            self.moved = True
            yield self._move(rows.slice(kept, count) if kept else rows, times[kept:], before)

    def _same_rows(self, before: Batch, rows: Batch) -> bool:
        """As many rows, which have in all columns but those of time what the rows before had: they stand for these, row for row."""
        if rows.num_rows != before.num_rows:
            return False
        times = {column.name for column in self.columns}
        shared = [name for name in rows.schema.names if name in before.schema and name not in times]
        lists = ((each.select(shared)).to_pylist() for each in (before, rows))
        return all(repr(one) == repr(other) for one, other in zip(*lists, strict=True))

    def settle(self) -> None:
        """All rows before a watermark of the input have been handed on."""
        self.watermark = max(self.watermark, self._ahead)

    def _move(self, rows: Batch, times: Int64Array, before: Batch) -> Batch:
        reached = max(int(times.max()), NO_TIME + self._delay_ns) - self._delay_ns
        if self._ordered:
            timed = replace(rows, time=times, watermarks=None, watermark_before=self.watermark)
            self.watermark = max(self.watermark, reached)
        else:
            timed = replace(rows, time=times, watermarks=np.full(rows.num_rows, self.watermark))
            self._ahead = max(self._ahead, reached)
        return replace(timed, delay_ns=self._delay_ns, origin=before.origin)


def unambiguous(batch: Batch) -> Iterator[range]:
    """The batch in runs of rows in which no late row has the time of one before it that had another watermark: of what is made from such a
    run, a time tells the watermark."""
    if batch.time is None or batch.num_rows < 2:
        yield range(batch.num_rows)
        return
    times, marks = batch.time, batch.row_watermarks()
    start = 0
    if (marks > times).any():
        order = np.argsort(times, kind="stable")
        same = (np.diff(times[order]) == 0) & (np.diff(marks[order]) != 0)
        pairs = np.flatnonzero(same & (marks[order[1:]] > times[order[1:]]))
        found = zip(order[pairs + 1].tolist(), order[pairs].tolist(), strict=True)
        for second, first in sorted(found):
            if first >= start:
                yield range(start, second)
                start = second
    yield range(start, batch.num_rows)


class RetimedDerive(Operator):
    """A derive that replaces a time column.  ``counts``: also rows ``rejected``, without a time that they could have."""

    def __init__(self, derive: DeriveOperator, retiming: Retiming) -> None:
        super().__init__()
        self.output = derive.output
        self.counts = derive.counts
        self.counts["rejected"] = 0
        self._derive, self._retiming = derive, retiming
        self._taken = 0

    def process(self, batch: Batch) -> list[Output]:
        outputs = []
        for output in self._derive.process(batch):
            rows = output.batch
            given = self._retiming.times(rows)
            assert given is not None
            times, known = given
            if reasons := self._retiming.refused(times, known):
                self.counts["rejected"] += len(reasons)
                gone = batch.take(np.array(list(reasons), np.intp))
                places = [f"row {self._taken + place + 1}" for place in reasons]
                outputs.append(Output(refusals(gone, reasons.values(), places), "rejected"))
                kept = np.setdiff1d(np.arange(len(times)), list(reasons))
                rows, times = rows.take(kept), times[kept]
            outputs += [Output(each) for each in self._retiming.follow(batch, rows, times)]
        self._taken += batch.num_rows
        return outputs


def refusals(rows: Batch, reasons: Iterable[str], places: Iterable[str]) -> Batch:
    """Rows that are rejected for these reasons, and where each stands."""
    told = [
        (safe_repr(row)[:KEPT_CHARACTERS].encode("utf-8", "replace"), reason, place)
        for row, reason, place in zip(rows.to_pylist(), reasons, places, strict=True)
    ]
    return rejected_batch(told, rows.time, rows.watermarks, rows.delay_ns)


def _timed(rows: Batch, times: Int64Array, marks: Int64Array, before: Batch) -> Batch:
    return replace(rows, time=times, watermarks=marks, delay_ns=before.delay_ns, origin=before.origin)
