"""Top: the first n rows of each window and key, with their rank, when the watermark reaches the window's end.

The order is total: the order of the stage, then arrival.  The first n of a set are the first n of the first n of its parts, so a
row that cannot be among them is dropped at any time without a trace.  The operator holds at most n rows of each open window and
key, twice as many while rows come in, with copies of their texts.

Rows come out by window end, window start, key ascending (nulls last), rank.  A row that is late for all of its windows goes to
``late``.  Where windows come with the input (``end_column``), they are identified by their end alone; a null end is a window that
closes at the end of input.

Invariant: results do not depend on where batches are cut.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from msgspec import Struct
from msgspec.structs import replace
from numpy.typing import NDArray

from asyncflow.model.batch import END_OF_TIME, NO_TIME, Batch, concat_batches, iter_slices
from asyncflow.model.columns import BoolArray, Column, FixedColumn, IndexArray, Int64Array
from asyncflow.model.saved_batches import frozen_batches, restored_batches
from asyncflow.model.schema import DataType, Schema
from asyncflow.model.snapshot import Copied, Frozen, Saved, nested
from asyncflow.operators.bounds import WindowBounds, WindowLattice
from asyncflow.operators.contract import Operator, Output, counted, restore_counts
from asyncflow.operators.ordering import (
    Direction,
    first_of_runs,
    group_ranks,
    order_keys,
    places_within,
    sorting,
)
from asyncflow.operators.pieces import MAX_OUTPUT_ROWS

FEW_ROWS = 1 << 13
"""Up to this many, new rows are not merged with those that are held."""


class SortColumns(Struct, frozen=True, eq=False):
    """What a top stage reads of a batch: its key columns and those that it goes by."""

    keys: tuple[Column, ...]
    order: tuple[Column, ...]


class _Rows(Struct, frozen=True, eq=False):
    """Rows with their windows.  ``arrivals``: numbers that only grow."""

    batch: Batch
    starts: Int64Array
    ends: Int64Array
    arrivals: Int64Array

    def take(self, rows: IndexArray) -> _Rows:
        return _Rows(self.batch.take(rows), self.starts[rows], self.ends[rows], self.arrivals[rows])

    def compact(self) -> _Rows:
        return replace(self, batch=self.batch.compact())

    @property
    def nbytes(self) -> int:
        return self.batch.nbytes + 24 * self.batch.num_rows


class TopOperator(Operator):
    """``size_ns``, ``every_ns``, ``offset_ns``: windows of its own; ``end_column``: those that this column of the input ends;
    neither: one window over everything.  ``prepare``: computes keys (of types ``kinds``) and order of a batch.

    ``counts``: rows ``ranked`` (taken into a ranking), ``late`` (also given as output of that kind), of the ranked ones ``late_partly``;
    ``windows_opened``, ``windows_closed``.
    """

    state_version = 1
    output: Schema

    def __init__(
        self,
        *,
        n: int,
        output: Schema,
        kinds: Sequence[DataType],
        directions: Sequence[Direction],
        prepare: Callable[[Batch], SortColumns],
        size_ns: int | None = None,
        every_ns: int | None = None,
        offset_ns: int = 0,
        end_column: str | None = None,
    ) -> None:
        super().__init__()
        self.output = output
        self.counts = dict.fromkeys(("ranked", "late", "late_partly", "windows_opened", "windows_closed"), 0)
        self._n, self._kinds, self._directions, self._prepare = n, kinds, directions, prepare
        self._bounds: WindowBounds | None = None
        if size_ns is not None:
            self._bounds = WindowLattice(size_ns, every_ns or size_ns, offset_ns)
        self._end_column = end_column
        self._watermark_ns = NO_TIME
        self._greatest_time: int | None = None
        self._arrivals = 0
        self._held: _Rows | None = None
        self._new: list[_Rows] = []
        self._new_rows = 0
        self._open: set[tuple[int, int]] = set()

    def process(self, batch: Batch) -> list[Output]:
        if not batch.num_rows:
            return []
        timed = self.timed
        if timed and batch.time is None:
            raise ValueError("windows of event time need rows that have one")
        if batch.time is not None:
            greatest = int(batch.time.max())
            known = self._greatest_time
            self._greatest_time = greatest if known is None else max(known, greatest)
        arrivals = np.arange(self._arrivals, self._arrivals + batch.num_rows)
        self._arrivals += batch.num_rows
        untimed = replace(batch, time=None, watermarks=None, origin=None)
        watermarks = np.maximum(batch.row_watermarks(), self._watermark_ns) if timed else None
        taken = np.zeros(batch.num_rows, np.bool_)
        late = np.zeros(batch.num_rows, np.bool_)
        for inside, starts, ends in self._windows(batch):
            closed = ends <= watermarks if watermarks is not None else np.zeros(batch.num_rows, np.bool_)
            late |= inside & closed
            rows = np.flatnonzero(inside & ~closed)
            taken[rows] = True
            self._add(_Rows(untimed.take(rows), starts[rows], ends[rows], arrivals[rows]))
        self.counts["ranked"] += int(np.count_nonzero(taken))
        self.counts["late_partly"] += int(np.count_nonzero(taken & late))
        self._count_windows()
        if taken.all():
            return []
        gone = np.flatnonzero(~taken)
        self.counts["late"] += len(gone)
        return [Output(batch.take(gone), "late")]

    def advance(self, watermark_ns: int) -> list[Output]:
        self._watermark_ns = max(self._watermark_ns, watermark_ns)
        if not self.timed:
            return []
        return [Output(rows) for rows in self._close(self._watermark_ns)]

    def finish(self) -> list[Output]:
        return [Output(rows) for rows in self._close(END_OF_TIME)]

    @property
    def state_bytes(self) -> int:
        parts = self._new if self._held is None else [self._held, *self._new]
        return sum(part.nbytes for part in parts)

    @property
    def timed(self) -> bool:
        return self._bounds is not None or self._end_column is not None

    @property
    def next_due_ns(self) -> int | None:
        return min((end for end, _ in self._open), default=None) if self.timed else None

    @property
    def waiting_rows(self) -> int:
        parts = self._new if self._held is None else [self._held, *self._new]
        return sum(part.batch.num_rows for part in parts)

    @property
    def open_windows(self) -> int:
        return len(self._open)

    def freeze(self) -> Frozen:
        """The held rows by window end, start, key, rank; without any that cannot be among the n first."""
        self._merge()
        rows = None if self._held is None else self._held.take(self._ranked(self._held)[0])
        none = np.empty(0, np.int64)
        fields = {
            **counted(self.counts),
            "watermark_ns": self._watermark_ns,
            "greatest_time": self._greatest_time,
            "arrivals": self._arrivals,
        }
        windows = {
            "starts": none if rows is None else rows.starts,
            "ends": none if rows is None else rows.ends,
            "arrivals": none if rows is None else rows.arrivals,
        }
        held = frozen_batches([] if rows is None else [rows.batch])
        return nested(fields, {"rows": held, "windows": Copied({}, windows)})

    def restore(self, saved: Saved) -> None:
        restore_counts(self.counts, saved)
        self._watermark_ns = saved.integer("watermark_ns", NO_TIME, END_OF_TIME)
        self._greatest_time = saved.optional_integer("greatest_time", NO_TIME, END_OF_TIME)
        self._arrivals = saved.integer("arrivals", 0, END_OF_TIME)
        batches = restored_batches(saved.within("rows"))
        if not batches:
            return
        (batch,) = batches
        kept = self.output.fields[2 if self._bounds is not None else 0 : -1]
        if [(f.name, f.type) for f in batch.schema] != [(f.name, f.type) for f in kept]:
            raise ValueError(
                f"rows.columns: {batch.schema.names} were saved, {[f.name for f in kept]} are wanted"
            )
        windows = saved.within("windows")
        starts, ends, arrivals = (
            windows.array(name, np.int64, batch.num_rows) for name in ("starts", "ends", "arrivals")
        )
        self._held = _Rows(replace(batch, schema=Schema(kept)), starts, ends, arrivals)
        self._open = set(zip(ends.tolist(), starts.tolist(), strict=True))

    # -- rows in -----------------------------------------------------------------------------------------------------

    def _windows(self, batch: Batch) -> Iterator[tuple[BoolArray, Int64Array, Int64Array]]:
        """For the first, second, ... window of each row: whether there is one, its start and its end (clamped to int64)."""
        everywhere = np.ones(batch.num_rows, np.bool_)
        none = np.full(batch.num_rows, NO_TIME, np.int64)
        if self._bounds is None:
            ends = np.full(batch.num_rows, END_OF_TIME, np.int64)
            if self._end_column is not None:
                column = batch.column(self._end_column)
                ends = column.values if column.valid is None else np.where(column.valid, column.values, ends)  # type: ignore[union-attr]
            yield everywhere, none, ends
            return
        assert batch.time is not None
        first, last = self._bounds.of(batch.time)
        for step in range(self._bounds.most):
            yield first + step <= last, *self._bounds.bounds(first + step)

    def _add(self, rows: _Rows) -> None:
        if not rows.batch.num_rows:
            return
        rows = self._first(rows).compact()
        self._new.append(rows)
        self._new_rows += rows.batch.num_rows
        first = np.flatnonzero(first_of_runs([rows.ends, rows.starts]))
        self._open.update(zip(rows.ends[first].tolist(), rows.starts[first].tolist(), strict=True))
        held = 0 if self._held is None else self._held.batch.num_rows
        if self._new_rows > max(FEW_ROWS, held):
            self._merge()

    def _merge(self) -> None:
        parts = self._new if self._held is None else [self._held, *self._new]
        if self._new:
            self._held = self._first(_joined(parts)).compact()
            self._new, self._new_rows = [], 0

    def _first(self, rows: _Rows) -> _Rows:
        """Those that are among the n first of their window and key."""
        if rows.batch.num_rows <= self._n:
            return rows
        order, places = self._ranked(rows)
        return rows.take(order[places < self._n])

    def _ranked(self, rows: _Rows) -> tuple[NDArray[np.intp], Int64Array]:
        """The rows by window end, start, key and order, and the place of each within window and key."""
        prepared = self._prepare(rows.batch)
        keys = group_ranks(prepared.keys, self._kinds, rows.batch.num_rows)
        by = [
            key
            for column, direction in zip(prepared.order, self._directions, strict=True)
            for key in order_keys(column, direction)
        ]
        groups = [rows.ends, rows.starts, keys]
        order = sorting([*groups, *by, rows.arrivals])
        return order, places_within([values[order] for values in groups])

    # -- windows out -------------------------------------------------------------------------------------------------

    def _close(self, watermark_ns: int) -> Iterator[Batch]:
        if not any(end <= watermark_ns for end, _ in self._open):
            return
        self._merge()
        assert self._held is not None
        closing = self._held.ends <= watermark_ns
        closed = self._held.take(np.flatnonzero(closing))
        rest = np.flatnonzero(~closing)
        self._held = self._held.take(rest).compact() if len(rest) else None
        still = {window for window in self._open if window[0] > watermark_ns}
        self.counts["windows_closed"] += len(self._open) - len(still)
        self._open = still
        self._count_windows()
        order, places = self._ranked(closed)
        yield from iter_slices(self._batch(closed.take(order), places + 1), MAX_OUTPUT_ROWS)

    def _batch(self, rows: _Rows, ranks: Int64Array) -> Batch:
        columns = (*rows.batch.columns, FixedColumn(ranks))
        if self._bounds is not None:
            columns = (FixedColumn(rows.starts), FixedColumn(rows.ends), *columns)
        time = rows.ends - 1
        if self._greatest_time is not None and self._bounds is None:
            time = np.where(rows.ends == END_OF_TIME, self._greatest_time, time)
        # Windows close in the order of their ends: nothing older than a row follows it.
        watermarks = None if self._bounds is None and self._end_column is None else time
        return Batch(self.output, columns, len(ranks), time, watermarks)

    def _count_windows(self) -> None:
        self.counts["windows_opened"] = self.counts["windows_closed"] + len(self._open)


def _joined(parts: Sequence[_Rows]) -> _Rows:
    return _Rows(
        concat_batches([part.batch for part in parts]),
        np.concatenate([part.starts for part in parts]),
        np.concatenate([part.ends for part in parts]),
        np.concatenate([part.arrivals for part in parts]),
    )
