"""Lookup: the right side is read whole first, then each left row looks up its matches.

Results come at once: in the order of the left rows, for each in the order of its right rows, with the left row's time, because the
right side is a table and no stream.  Without key columns each left row is paired with each right row.  In ``right`` and ``full``
joins the right rows without a partner come at the end, and the watermark of the results waits for them.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from msgspec.structs import replace

from asyncflow.errors import StageError
from asyncflow.model.batch import END_OF_TIME, NO_TIME, Batch
from asyncflow.model.columns import IndexArray, Int64Array
from asyncflow.model.durations import format_size
from asyncflow.model.snapshot import Frozen, Saved, nested
from asyncflow.operators.contract import Output, TwoInputOperator, counted, restore_counts
from asyncflow.operators.joins.lookup_table import LookupTable
from asyncflow.operators.joins.results import taker
from asyncflow.operators.joins.rows import Rows, masked
from asyncflow.operators.joins.timed import LEFT, RIGHT, JoinSpec
from asyncflow.operators.pieces import MAX_OUTPUT_ROWS


class LookupJoin(TwoInputOperator):
    """``counts``: rows ``matched`` and ``unmatched`` of each side.  The runtime gives all of the right input first.

    The right side may be read again: ``read_again`` begins a table beside the one in use, ``hold`` fills it, and ``take_over`` puts it in
    the other's place, or ``give_up`` drops it.  ``max_state`` bounds both together.
    """

    state_version = 1

    def __init__(self, spec: JoinSpec) -> None:
        super().__init__()
        self.spec = spec
        self.output = spec.shape.schema
        self.counts = dict.fromkeys(("left_matched", "left_unmatched", "right_matched", "right_unmatched"), 0)
        self._table = LookupTable(spec)
        self._next: LookupTable | None = None
        self._watermark = NO_TIME
        self._timed = True

    def process(self, port: int, batch: Batch) -> Iterator[Output]:
        if not batch.num_rows:
            return
        if port == RIGHT:
            self._hold(self._table, batch)
        else:
            yield from self._looked_up(batch)

    def advance(self, watermark_ns: int) -> list[Output]:
        self._watermark = (
            watermark_ns  # The right side has ended before the left one is read: it does not count.
        )
        return []

    def finish(self, port: int) -> Iterator[Output]:
        if port == RIGHT:
            self._table.index()
            return
        right = self._counted()
        if self.spec.right_alone:
            alone = np.flatnonzero(~right.matched)
            alone = alone[np.argsort(right.arrivals[alone])]
            for start in range(0, len(alone), MAX_OUTPUT_ROWS):
                rows = alone[start : start + MAX_OUTPUT_ROWS]
                columns = self.spec.shape.columns(None, taker(right.columns, rows), len(rows))
                made = Batch(self.output, columns, len(rows))
                if self._timed:
                    made = replace(made, time=right.times[rows], watermarks=np.full(len(rows), NO_TIME))
                yield Output(made)
        self._watermark = END_OF_TIME

    def freeze(self) -> Frozen:
        """The table in use; a table that is being read again is not part of the state."""
        fields = {**counted(self.counts), "watermark_ns": self._watermark, "timed": self._timed}
        return nested(fields, {"table": self._table.freeze()})

    def restore(self, saved: Saved) -> None:
        restore_counts(self.counts, saved)
        self._watermark = saved.integer("watermark_ns", NO_TIME, END_OF_TIME)
        self._timed = saved.flag("timed")
        self._table.restore(saved.within("table"))

    @property
    def watermark(self) -> int:
        waits = self.spec.right_alone and self._watermark < END_OF_TIME
        return NO_TIME if waits else self._watermark

    @property
    def waiting_rows(self) -> tuple[int, int]:
        return 0, len(self._table)

    @property
    def state_bytes(self) -> int:
        return self._table.nbytes + (0 if self._next is None else self._next.nbytes)

    # -- the right side --------------------------------------------------------------------------------------------------

    def read_again(self) -> None:
        """Begins a new table; the one in use stays so."""
        self._next = LookupTable(self.spec)

    def hold(self, batch: Batch) -> None:
        """Takes a batch of the new table.  StageError where both together take more than ``max_state``."""
        assert self._next is not None
        if batch.num_rows:
            self._hold(self._next, batch)

    def give_up(self) -> None:
        """Drops the new table."""
        self._next = None

    def take_over(self) -> None:
        """The new table is whole: left rows from here on look up there."""
        assert self._next is not None
        self._next.index()
        self._counted()
        self._table, self._next = self._next, None

    def _hold(self, table: LookupTable, batch: Batch) -> None:
        table.hold(batch)
        if (size := self.state_bytes) > self.spec.max_state_bytes:
            beside = "" if table is self._table else f" with the {format_size(self._table.nbytes)} in use"
            raise StageError(
                f"its right side, {table.keys.table.size} keys so far, takes {format_size(size)}{beside}, "
                f"more than max_state = {format_size(self.spec.max_state_bytes)}"
            )

    def _counted(self) -> Rows:
        """The rows of the table in use, counted by whether they met a left one."""
        rows = self._table.rows
        assert rows is not None
        found = int(np.count_nonzero(rows.matched))
        self.counts["right_matched"] += found
        self.counts["right_unmatched"] += len(rows) - found
        return rows

    # -- the left side ---------------------------------------------------------------------------------------------------

    def _looked_up(self, batch: Batch) -> Iterator[Output]:
        right = self._table.rows
        assert right is not None
        self._timed = batch.time is not None
        first, count = self._table.find(batch)
        matched = int(np.count_nonzero(count))
        self.counts["left_matched"] += matched
        self.counts["left_unmatched"] += batch.num_rows - matched
        if not self.spec.pairs:
            chosen = np.flatnonzero(count > 0 if self.spec.kind == "semi" else count == 0)
            self._mark(right, first, count)
            if len(chosen):
                yield Output(self._rows(batch, chosen, None, None))
            return
        rows = np.maximum(count, 1) if self.spec.left_alone else count
        ends = np.cumsum(rows)
        for start in range(0, int(ends[-1]), MAX_OUTPUT_ROWS):
            numbers = np.arange(start, min(start + MAX_OUTPUT_ROWS, int(ends[-1])))
            owner = np.searchsorted(ends, numbers, "right")
            found = numbers - (ends - rows)[owner] + first[owner]
            yield Output(self._pairs(batch, owner, right, found, count[owner] > 0))

    def _pairs(
        self,
        batch: Batch,
        owner: IndexArray,
        right: Rows,
        found: IndexArray,
        met: np.ndarray[tuple[int], np.dtype[np.bool_]],
    ) -> Batch:
        if not met.any():
            return self._rows(batch, owner, None, None)
        right.matched[found[met]] = True
        if met.all():
            return self._rows(batch, owner, right, found)
        # Places of rows without a partner may be anything; their values are taken for null.
        made = self._rows(batch, owner, right, np.where(met, found, found[met][0]))
        first_right = len(self.spec.shape.left)
        nulled = tuple(
            column if place < first_right else masked(column, met)
            for place, column in enumerate(made.columns)
        )
        return made.with_columns(self.output, nulled)

    def _rows(self, batch: Batch, owner: IndexArray, right: Rows | None, found: IndexArray | None) -> Batch:
        left = tuple(batch.columns[position] for position in self.spec.columns[LEFT])
        met = None if right is None or found is None else taker(right.columns, found)
        columns = self.spec.shape.columns(taker(left, owner), met, len(owner))
        rows = replace(batch, schema=self.output, columns=(), num_rows=batch.num_rows).take(owner)
        if self.spec.right_alone and rows.time is not None:
            rows = replace(rows, watermarks=np.full(len(owner), NO_TIME))
        return replace(rows, columns=columns)

    def _mark(self, right: Rows, first: Int64Array, count: Int64Array) -> None:
        """The rows of the ranges as matched: one more range begins, one ends."""
        met = np.flatnonzero(count)
        open_ranges = np.zeros(len(right) + 1, np.int64)
        np.add.at(open_ranges, first[met], 1)
        np.add.at(open_ranges, first[met] + count[met], -1)
        right.matched[np.cumsum(open_ranges)[:-1] > 0] = True
