"""New times for rows: of a ``derive`` that replaces the time column, and of the rows that a user's function returns.

A row's time is what its time columns say (``plan.times``).  A function that leaves the times of its rows alone also leaves the watermarks
before them, and those of its table, as they were; so it may repeat rows or leave them out.  From the first row on that has another time
than the row it was made from, and for a ``derive`` from the start, the table has a watermark of its own: the greatest of the new times so
far less the delay, row by row.  Before a function has returned a row nothing is known, and nothing is said.

What comes out depends on the rows and their order alone, not on the batches they come in.  So does the result of a function of batches
that works row by row, leaves the values of the other columns that it returns as they were, and returns equally many rows for rows that
are alike in these: its result tells which row each row was made from (``made_from``).  The result of any other function is compared
with its rows by time: rows that it leaves out or repeats are found, but a row with a new time that is also the time of another row of
the batch, alike in the other columns, is taken for that row.

Where calls that are under way together may go on in any order (``ordered`` False) they all go by the watermark before the
first of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from msgspec.structs import replace

from asyncflow._kernels import groups as groups_kernel
from asyncflow.errors import safe_repr
from asyncflow.model.batch import END_OF_TIME, NO_TIME, Batch
from asyncflow.model.columns import BoolArray, FixedColumn, IndexArray, Int32Array, Int64Array
from asyncflow.model.schema import DataType, Schema
from asyncflow.model.snapshot import Copied, Frozen, Plain, Saved
from asyncflow.operators.contract import Operator, Output, counted, restore_counts
from asyncflow.operators.raw import raw_column
from asyncflow.plan.stages.map import TIMES
from asyncflow.plan.tables import TimeColumns
from asyncflow.runtime.base.rejected import KEPT_CHARACTERS, rejected_batch

if TYPE_CHECKING:
    from asyncflow.operators.derive import DeriveOperator

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

    @property
    def fields(self) -> dict[str, Plain]:
        """The state, as fields of the operator that uses it."""
        return {"moved": self.moved, "watermark_ns": self.watermark, "ahead_ns": self._ahead}

    def restore(self, saved: Saved) -> None:
        """Takes over saved fields.  ValueError names the field that does not fit."""
        nothing_yet = "moved" in saved.fields and saved.fields["moved"] is None
        self.moved = None if nothing_yet else saved.flag("moved")
        self.watermark = saved.integer("watermark_ns", NO_TIME, END_OF_TIME)
        self._ahead = saved.integer("ahead_ns", NO_TIME, END_OF_TIME)

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

    def made_from(self, before: Batch, rows: Batch, times: Int64Array) -> Batch | None:
        """For each of ``rows`` the row of ``before`` that it was made from, by time and watermark alone; None where the rows do not tell.

        They tell where every row of ``before`` stands for as many of ``rows``, in order, as each row alike: alike in the columns that
        both have, but for those of time.
        """
        if before.time is None or not rows.num_rows:
            return None
        if rows.num_rows == before.num_rows and np.array_equal(times, before.time):
            return before
        there, here = _alike(before, rows, self._shared(before, rows))
        size = int(max(there.max(), here.max())) + 1
        have, want = np.bincount(there, minlength=size), np.bincount(here, minlength=size)
        place = np.repeat(np.arange(before.num_rows), (want // np.maximum(have, 1))[there])
        if not np.array_equal(there[place], here):
            return None
        return replace(before, schema=Schema(()), columns=()).take(place)

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
        if kept < count and not row_for_row:
            kept, marks = self._by_time(before, rows, times, marks)
        if kept:
            self.moved = False
            part = rows if kept == count else rows.slice(0, kept)
            yield _timed(part, times[:kept], marks[:kept], before)
        if kept < count:
            if self.moved is False:
                self.watermark = max(self.watermark, int(marks[kept]))
            self.moved = True
            yield self._move(rows.slice(kept, count) if kept else rows, times[kept:], before)

    def _shared(self, before: Batch, rows: Batch) -> list[str]:
        times = {column.name for column in self.columns}
        return [
            field.name
            for field in rows.schema
            if field.name not in times
            and field.name in before.schema
            and before.schema[field.name].type is field.type
        ]

    def _by_time(
        self, before: Batch, rows: Batch, times: Int64Array, marks: Int64Array
    ) -> tuple[int, Int64Array]:
        """How many rows, from the first on, were repeated or left in, and the watermarks before the rows they stand for; behind them that
        before the row that was given another time.

        A row stands for one of its time, of several for the one that also has its other columns; of such as are alike, each for as many
        as the next.  Where it has the other columns of a row, but the time of none of these, it was given its time.
        """
        assert before.time is not None
        count, shared = len(times), self._shared(before, rows)
        order = np.argsort(before.time, kind="stable")
        in_order = before.time[order]
        first = np.minimum(np.searchsorted(in_order, times), len(order) - 1)
        known = in_order[first] == times
        same = _places(*_alike(before, rows, shared, times))
        place = np.where(same < 0, order[first], same)
        there, here = _alike(before, rows, shared)
        other = same < 0  # these are no rows from before
        if known.all():
            other &= (_places(there, here) >= 0) if shared else False
            if not other.any():
                return count, marks[place]
        kept = int(np.argmax(other))
        least = int(place[kept - 1]) if kept else 0
        place[kept] = least + max(0, int(np.argmax(there[least:] == here[kept])))
        return kept, marks[place]

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


def _alike(
    before: Batch, rows: Batch, names: list[str], times: Int64Array | None = None
) -> tuple[Int32Array, Int32Array]:
    """A number for each row, the same for rows that are alike in these columns, and where ``times`` of ``rows`` are given in time."""
    kinds = [rows.schema[name].type.value for name in names]
    sides = [[raw_column(batch.column(name)) for name in names] for batch in (before, rows)]
    if times is not None:
        assert before.time is not None
        kinds.append(DataType.INT64.value)
        sides[0].append((before.time, None))
        sides[1].append((np.ascontiguousarray(times), None))
    if not kinds:
        return np.zeros(before.num_rows, np.int32), np.zeros(rows.num_rows, np.int32)
    table = groups_kernel.GroupTable(kinds)
    there, here = (
        table.assign(columns, batch.num_rows) for columns, batch in zip(sides, (before, rows), strict=True)
    )
    return there, here


def _places(there: Int32Array, here: Int32Array) -> IndexArray:
    """For each number here its place there, -1 for none; numbers that are there several times are shared out in order."""
    size = int(max(there.max(), here.max())) + 1
    have, want = np.bincount(there, minlength=size), np.bincount(here, minlength=size)
    order, wanting = np.argsort(there, kind="stable"), np.argsort(here, kind="stable")
    nth = np.empty(len(here), np.intp)
    nth[wanting] = np.arange(len(here)) - np.repeat(np.cumsum(want) - want, want)
    of_each = np.maximum(want[here] // np.maximum(have[here], 1), 1)
    nth = np.minimum(nth // of_each, np.maximum(have[here] - 1, 0))
    found = order[np.minimum((np.cumsum(have) - have)[here] + nth, len(there) - 1)]
    return np.where(have[here] > 0, found, -1)


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

    state_version = 1

    def __init__(self, derive: DeriveOperator, retiming: Retiming) -> None:
        super().__init__()
        self.output = derive.output
        self.counts = derive.counts
        self.counts["rejected"] = 0
        self._derive, self._retiming = derive, retiming
        self._taken = 0

    def freeze(self) -> Frozen:
        return Copied({**counted(self.counts), "rows_taken": self._taken, "retiming": self._retiming.fields})

    def restore(self, saved: Saved) -> None:
        restore_counts(self.counts, saved)
        self._taken = saved.integer("rows_taken", 0)
        self._retiming.restore(saved.within("retiming"))

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
