"""Windows that follow their rows: sessions, and windows of a number of rows of a key.

The operators take the place of ``window``.  ``process`` gives each row its group (``groups`` kernel) and each row of a group the
slot of its window (``sessions`` kernel), and folds rows into slots (``window`` kernel).  A window that is over is read out of its
slot, and the slot is given to another window.

Invariants: every window comes out exactly once; rows are folded, and sessions merged, in the order of rows, so results do not
depend on where batches are cut; memory is bounded by the open windows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from asyncflow._kernels import groups as groups_kernel
from asyncflow._kernels import sessions as sessions_kernel
from asyncflow.model.batch import END_OF_TIME, NO_TIME, Batch
from asyncflow.model.columns import BoolArray, FixedColumn, IndexArray, Int32Array, Int64Array
from asyncflow.model.schema import Schema
from asyncflow.model.snapshot import Frozen, Plain, Saved, nested
from asyncflow.operators.aggregates.state import window_state
from asyncflow.operators.aggregates.table import AggregateSpec
from asyncflow.operators.contract import Output, counted, restore_counts
from asyncflow.operators.kernel_state import frozen_by_group, frozen_keys, load_kernel
from asyncflow.operators.parts.part import KeyedPart, Origin, Prepare, Prepared, Told
from asyncflow.operators.parts.state import frozen_sessions, sessions_of_part
from asyncflow.operators.pieces import MAX_OUTPUT_BYTES, MAX_OUTPUT_ROWS, key_pieces
from asyncflow.operators.raw import column_of_raw, raw_column, rows_of_raw
from asyncflow.operators.windows.grouped import BOUNDS, FEW_GROUPS, GroupedWindow, result_schema


class _SlotWindow(GroupedWindow):
    """What both kinds share.  ``windows`` gives each row the slot of its window."""

    def __init__(
        self,
        windows: sessions_kernel.Sessions | sessions_kernel.CountWindows,
        *,
        keys: Schema,
        aggregates: Sequence[AggregateSpec],
        names: Sequence[str],
        prepare: Prepare,
    ) -> None:
        output = result_schema(BOUNDS, keys, aggregates, names)
        super().__init__(output, keys, window_state(aggregates), prepare)
        self._windows: sessions_kernel.Sessions | sessions_kernel.CountWindows = windows

    def freeze(self) -> Frozen:
        """The open windows by key and bounds, and what each holds; keys and slots without an open window are dropped first."""
        self.forget()
        keys = self._groups.ranks()
        windows = frozen_by_group(self._windows, keys)
        cells = frozen_by_group(self._state, self._windows.slot_ranks(keys))
        return nested(self.fields(), {"keys": frozen_keys(self._groups), "windows": windows, "cells": cells})

    def restore(self, saved: Saved) -> None:
        restore_counts(self.counts, saved)
        load_kernel(self._groups, saved, "keys")
        load_kernel(self._windows, saved, "windows", groups=self._groups.size)
        load_kernel(self._state, saved, "cells")
        self._count_windows()

    def fields(self) -> dict[str, Plain]:
        return {**counted(self.counts)}

    @property
    def state_bytes(self) -> int:
        return super().state_bytes + int(self._windows.nbytes)

    @property
    def open_windows(self) -> int:
        """Windows that hold a row and have not come out."""
        return int(self._windows.open_windows)

    def _fold(
        self,
        batch: Batch,
        prepared: Prepared,
        slots: Int32Array,
        merges: sessions_kernel.Merges | None = None,
    ) -> None:
        inputs = [raw_column(column) for column in prepared.inputs]
        self._state.add(
            slots, self._windows.slot_count, batch.time, None, NO_TIME, 0, inputs, prepared.masks, merges
        )

    def _rows(
        self,
        slots: Int32Array,
        groups: Int32Array,
        starts: Int64Array,
        ends: Int64Array,
        time: Int64Array | None,
        watermarks: Int64Array | None = None,
        valid: BoolArray | None = None,
    ) -> Iterator[Output]:
        """The rows of windows that are over, in batches; their slots are empty then.  ``valid``: where bounds have values."""
        begin = 0
        while begin < len(slots):
            some = slots[begin : begin + MAX_OUTPUT_ROWS]
            results, overflows = self._state.peek(some, MAX_OUTPUT_BYTES)
            self.counts["overflow"] += overflows
            count = rows_of_raw(results[0]) if results else len(some)
            values = [column_of_raw(raw) for raw in results]
            for within, keys in key_pieces(self._groups, groups[begin : begin + count]):
                part = slice(begin + within.start, begin + within.stop)
                bounds = (
                    FixedColumn(each[part], None if valid is None else valid[part]) for each in (starts, ends)
                )
                results_part = (column.slice(within.start, within.stop) for column in values)
                yield Output(
                    Batch(
                        self.output,
                        (*bounds, *keys, *results_part),
                        len(slots[part]),
                        None if time is None else time[part],
                        None if watermarks is None else watermarks[part],
                    )
                )
            begin += count
        self._state.clear(slots)

    def _forget(self) -> None:
        """Drops groups, and slots, that no open window has once they are the greater part."""
        self._forget_groups()
        if self._windows.slot_count > max(FEW_GROUPS, 4 * self._windows.open_windows):
            self._state.keep(self._windows.keep_slots())

    def _live_groups(self) -> Int32Array:
        return self._windows.live_groups(self._groups.size)

    def _keep(self, live: Int32Array) -> None:
        self._groups.keep(live)
        self._windows.keep(live)

    def _count_windows(self) -> None:
        self.counts["windows_closed"] = closed = self._windows.windows_closed
        self.counts["windows_opened"] = closed + self._windows.open_windows


class SessionOperator(_SlotWindow, KeyedPart):
    """Grouped aggregation over sessions: rows of a key of which no two neighbours are more than ``gap_ns`` apart.

    ``window_start`` is the first row's time, ``window_end`` the last one's plus the gap; a session closes when the watermark reaches it.
    A row joins every open session of its key that it reaches (``|dt| <= gap_ns``), which makes them one.  It is late, an output of that
    kind, when the session that it would form or join has been closed by the watermark before it: its own ``[t, t + gap_ns)`` is over, and
    no open session reaches it.  A row near a closed session, but not late by itself, begins a new one: with a delay of 0 also a row at
    just the gap, where a row of another key has brought the watermark there before it.  Rows come out by window end, window start, then
    keys, nulls last.  ``counts``: as WindowOperator's; a session that was merged into another does not count.
    """

    _windows: sessions_kernel.Sessions

    def __init__(self, *, gap_ns: int, **common: Any) -> None:
        super().__init__(sessions_kernel.Sessions(gap_ns), **common)

    def process(self, batch: Batch) -> list[Output]:
        if not batch.num_rows:
            return []
        late = self.take(batch, self._prepared(batch))
        return [Output(batch.take(late), "late")] if len(late) else []

    def take(self, batch: Batch, prepared: Prepared, origin: Origin | None = None) -> IndexArray:
        if batch.time is None:
            raise ValueError("windows of event time need rows that have one")
        groups = self._groups_of(prepared, batch.num_rows, origin)
        slots, late, merges = self._windows.assign(
            groups, self._groups.size, batch.time, batch.watermarks, batch.watermark_before, batch.delay_ns
        )
        self._fold(batch, prepared, slots, merges)
        self.counts["aggregated"] += batch.num_rows - len(late)
        if len(late):
            self._state.clear(np.zeros(1, np.int32))  # where the late rows went
            self.counts["late"] += len(late)
        self._count_windows()
        return late

    def watermarks_matter(self, batch: Batch) -> bool:
        return True

    @staticmethod
    def frozen_as_one(
        parts: Sequence[SessionOperator], ranks: Sequence[Int32Array], told: Told
    ) -> dict[str, Frozen]:
        pairs = list(zip(parts, ranks, strict=True))
        slots = [part._windows.slot_ranks(rank) for part, rank in pairs]
        sessions = [frozen_by_group(part._windows, rank) for part, rank in pairs]
        cells = [frozen_by_group(part._state, rank) for part, rank in zip(parts, slots, strict=True)]
        return frozen_sessions(sessions, cells, told)

    @staticmethod
    def told(saved: Saved) -> Told:
        return Told(
            saved.within("cells").integer("arrivals"), saved.within("windows").integer("windows_closed")
        )

    @staticmethod
    def split(whole: Saved, new: Int64Array, *, first: bool) -> dict[str, Saved]:
        return sessions_of_part(whole.within("windows"), whole.within("cells"), new, first=first)

    def advance(self, watermark_ns: int) -> Iterator[Output]:
        slots, groups, starts, ends = self._windows.close(watermark_ns)
        if len(slots):
            order = self._order(groups, starts, ends)
            slots, groups, starts, ends = slots[order], groups[order], starts[order], ends[order]
            yield from self._rows(slots, groups, starts, ends, ends - 1)
            self._count_windows()
        self._forget()

    def finish(self) -> Iterator[Output]:
        return self.advance(END_OF_TIME)

    @property
    def next_due_ns(self) -> int | None:
        return self._windows.next_end

    def _order(self, groups: Int32Array, starts: Int64Array, ends: Int64Array) -> IndexArray:
        """Puts sessions of the same bounds, which come by bounds, into the order of their keys.

        Only those keys are compared: an order of all keys would cost too much where keys come and go.
        """
        order = np.arange(len(groups))
        same = (ends[1:] == ends[:-1]) & (starts[1:] == starts[:-1])
        tied = np.flatnonzero(np.append(same, False) | np.insert(same, 0, False))
        if len(tied):
            table = groups_kernel.GroupTable(self._kinds)
            names = table.assign(self._groups.columns(groups[tied]), len(tied))
            ranks = np.empty(table.size, np.intp)
            ranks[table.order()] = np.arange(table.size)
            order[tied] = tied[np.lexsort((ranks[names], starts[tied], ends[tied]))]
        return order


class CountWindowOperator(_SlotWindow):
    """Grouped aggregation over every ``size`` rows of a key, by arrival; no row is ever late.

    A window comes out when it is full, in the order in which they fill; at the end of input the others come with what they hold, by key,
    nulls last.  ``window_start`` and ``window_end`` are the event times of its first and last row by arrival (so the end may be before
    the start), null where rows have none.  A key's rows are held until their window is full.
    """

    _windows: sessions_kernel.CountWindows

    def __init__(self, *, size: int, **common: Any) -> None:
        super().__init__(sessions_kernel.CountWindows(size), **common)
        self._timed = True

    def process(self, batch: Batch) -> list[Output]:
        if not batch.num_rows:
            return []
        prepared = self._prepared(batch)
        groups = self._groups_of(prepared, batch.num_rows)
        slots, filled = self._windows.assign(groups, self._groups.size, batch.time)
        self._fold(batch, prepared, slots)
        self.counts["aggregated"] += batch.num_rows
        self._timed = batch.time is not None
        # A window's row stands at the place of the row that filled it, with the watermark before that one.
        rows = filled[-1]
        outputs = self._out(filled, batch.row_watermarks()[rows] if self._timed and len(rows) else None)
        self._forget()
        self._count_windows()
        return outputs

    def finish(self) -> list[Output]:
        rest = self._windows.rest()
        ranks = np.empty(self._groups.size, np.intp)
        ranks[self._groups.order()] = np.arange(self._groups.size)
        order = np.argsort(ranks[rest[1]])
        # They stand by key, not by time: none of them is late by those before it.
        outputs = self._out([part[order] for part in rest], np.full(len(order), NO_TIME, np.int64))
        self._count_windows()
        return outputs

    def restore(self, saved: Saved) -> None:
        super().restore(saved)
        self._timed = saved.flag("timed")

    def fields(self) -> dict[str, Plain]:
        return {**super().fields(), "timed": self._timed}

    def _out(self, windows: Sequence[Any], watermarks: Int64Array | None) -> list[Output]:
        slots, groups, firsts, lasts, _ = windows
        if self._timed:
            return list(self._rows(slots, groups, firsts, lasts, lasts, watermarks))
        return list(self._rows(slots, groups, firsts, lasts, None, valid=np.zeros(len(slots), np.bool_)))
