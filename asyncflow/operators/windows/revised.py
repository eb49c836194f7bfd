"""Window with corrections: a window's rows are sent before the window ends, and again when late rows change them.

The operator takes the place of ``window`` and keeps what ``window`` drops when a window closes.  A *slot* is a (window, key) with its own
accumulators.  Each row is folded into the slot of each of its windows, so that a slot can be read any number of times.

The rows and the watermark before each row decide what is sent; where batches are cut has no effect.  The watermark passes
*instants*.  At each instant, in their order, due slots are sent once, by window end, window start, then keys, nulls last:

- at a window's end: its slots that changed since they were last sent;
- at a multiple of ``emit_every_ns`` in event time: all slots that changed since they were last sent;
- at a window's end plus ``lateness_ns``: all of its slots, for the last time (``final``); then the slots are dropped.

Between instants rows are folded many at a time.  A row of a window that has ended and is not final yet sends its slot at once: one
revision per such row, in row order, and for one row by window end.  At the end of input every remaining slot is sent as final.

Growing windows that are sent once are carried on: a row is folded into the first of its windows that is open, and when a window
ends, its content goes into the next window of the same start.

Cost: a row is folded once per window that it is in (once where windows are carried on); an instant at which slots are due costs
some array calls and a sort of its rows.  Several late rows of one slot between two instants are folded and read one after the
other.
"""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heappop, heappush

import numpy as np

from asyncflow.model.batch import END_OF_TIME, NO_TIME, Batch, iter_slices
from asyncflow.model.columns import (
    BoolArray,
    Column,
    FixedColumn,
    IndexArray,
    Int32Array,
    Int64Array,
)
from asyncflow.model.schema import DataType, Field, Schema
from asyncflow.model.snapshot import Copied, Frozen, Saved, nested
from asyncflow.operators.aggregates.state import window_state
from asyncflow.operators.aggregates.table import AggregateSpec
from asyncflow.operators.bounds import WindowBounds, left_open
from asyncflow.operators.contract import Ahead, Operator, Output, counted, restore_counts
from asyncflow.operators.parts.part import Prepare, Prepared
from asyncflow.operators.pieces import MAX_OUTPUT_ROWS
from asyncflow.operators.raw import column_of_raw, raw_column
from asyncflow.operators.windows.grouped import BOUNDS, COUNTS, prepared_ahead, result_schema
from asyncflow.operators.windows.revisions import Entries, SentRows, turns_of
from asyncflow.operators.windows.slots import SlotTable

REVISIONS = (Field("revision", DataType.INT64), Field("final", DataType.BOOL))
"""Columns of a row that may be sent again: which sending of its (window, key) it is, from 0, and whether it is the last."""
_NEVER = 1 << 70
MAX_ENTRIES = 1 << 18
"""Up to about this many (row, window) pairs are folded at once."""


class RevisedWindowOperator(Operator):
    """Grouped aggregation over the windows of ``lattice`` that are sent when they end, again for rows up to ``lateness_ns`` later, and
    with ``emit_every_ns`` also before.

    ``revisions``: whether rows carry :data:`REVISIONS`; without, there must be nothing that sends a row twice.  ``by_rows``: the
    rows' own watermarks are the stage's; else (inputs that are taken as they come) only ``advance`` moves it.  ``prepare``,
    ``counts``: as of ``WindowOperator``; ``corrections``: rows that changed a window after its end; ``overflow`` counts in every
    row sent.
    """

    state_version = 1
    output: Schema

    def __init__(
        self,
        *,
        lattice: WindowBounds,
        lateness_ns: int = 0,
        emit_every_ns: int | None = None,
        revisions: bool = True,
        by_rows: bool = True,
        keys: Schema,
        aggregates: Sequence[AggregateSpec],
        names: Sequence[str],
        prepare: Prepare,
    ) -> None:
        super().__init__()
        if not revisions and (lateness_ns or emit_every_ns):
            raise ValueError("rows that are sent more than once say so")
        self._lattice, self._lateness, self._every = lattice, lateness_ns, emit_every_ns
        self._by_rows, self._prepare, self._revisions = by_rows, prepare, revisions
        self.output = result_schema(BOUNDS, keys, aggregates, names, REVISIONS if revisions else ())
        self._state = window_state(aggregates)
        self._carries = lattice.growing and not revisions
        self._slots = SlotTable([field.type.value for field in keys], self._state)
        self._clock = NO_TIME
        self._ending: list[int] = []
        self._finishing: list[int] = []
        self._next_emit: int | None = None
        self._sent = SentRows()
        self.counts = dict.fromkeys((*COUNTS[:3], "corrections", *COUNTS[3:]), 0)

    def freeze(self) -> Frozen:
        fields = {**counted(self.counts), "watermark_ns": self._clock, "next_emit_ns": self._next_emit}
        ending = np.array(sorted(self._ending), np.int64)
        return nested(fields, {"slots": self._slots.freeze(), "windows": Copied({}, {"ending": ending})})

    def restore(self, saved: Saved) -> None:
        restore_counts(self.counts, saved)
        self._clock = saved.integer("watermark_ns", NO_TIME, END_OF_TIME)
        self._next_emit = saved.optional_integer("next_emit_ns")
        if self._next_emit is not None and self._every is None:
            raise ValueError("next_emit_ns: it was saved by a window that is sent before its end too")
        self._slots.restore(saved.within("slots"))
        self._finishing = sorted(self._slots.open)
        ending = saved.within("windows").array("ending", np.int64).tolist()
        if ending != sorted(set(ending) & set(self._finishing)) or (ending and not self._lateness):
            raise ValueError("windows.ending: windows that are not open")
        self._ending = ending

    def ahead(self, batch: Batch) -> Ahead:
        return prepared_ahead(self, self._prepare, batch)

    def process(self, batch: Batch) -> list[Output]:
        if not batch.num_rows:
            return []
        if batch.time is None:
            raise ValueError("windows of event time need rows that have one")
        prepared: Prepared | None = self._done_ahead(batch)
        if prepared is None:
            prepared = self._prepare(batch, self.counts)
        keys = self._slots.keys.assign([raw_column(column) for column in prepared.keys], batch.num_rows)
        rows = Entries(batch.time, self._clocks(batch), keys, prepared)
        late = []
        step = max(1, MAX_ENTRIES // self._lattice.most)
        for start in range(0, batch.num_rows, step):
            part = rows if step >= batch.num_rows else rows.part(start, start + step)
            late.append(self._fold(part, batch.delay_ns) + start)
        self._clock = int(rows.clock[-1])
        dropped = np.concatenate(late)
        self.counts["late"] += len(dropped)
        self.counts["aggregated"] += batch.num_rows - len(dropped)
        return [*([Output(batch.take(dropped), "late")] if len(dropped) else []), *self._outputs()]

    def advance(self, watermark_ns: int) -> list[Output]:
        self._pass(watermark_ns)
        self._clock = max(self._clock, watermark_ns)
        return self._outputs()

    def finish(self) -> list[Output]:
        if self._carries:
            self._pass(_NEVER)
        slots = self._slots.in_order(self._slots.live())
        ends = self._lattice.bounds(self._slots.windows[slots])[1]
        self._send(slots, ends - 1, True)
        self.counts["windows_closed"] += len(self._slots.open)
        outputs = self._outputs(keep=False)
        for number in list(self._slots.open):
            self._slots.drop(number)
        self._ending, self._finishing, self._next_emit = [], [], None
        return outputs

    @property
    def held_ns(self) -> int:
        return self._lateness

    @property
    def state_bytes(self) -> int:
        return int(self._slots.nbytes + self._state.nbytes)

    @property
    def open_windows(self) -> int:
        """Windows that hold a row and may still be sent."""
        return len(self._slots.open)

    @property
    def next_due_ns(self) -> int | None:
        return self._due()

    @property
    def waiting_rows(self) -> int | None:
        once = self._lattice.most == 1 or self._carries
        rows: int | None = self._state.held_rows if once else None
        return rows

    @property
    def open_keys(self) -> int:
        return int(self._slots.keys.size)

    # -- rows in -----------------------------------------------------------------------------------------------------

    def _clocks(self, batch: Batch) -> Int64Array:
        """The stage's watermark before each row."""
        if not self._by_rows:
            return np.full(batch.num_rows, self._clock, np.int64)
        clock = batch.row_watermarks()
        if batch.watermarks is not None:  # of several inputs: each row has its own input's
            clock = np.maximum.accumulate(clock)
        return clock if int(clock[0]) >= self._clock else np.maximum(clock, self._clock)

    def _fold(self, rows: Entries, delay_ns: int) -> IndexArray:
        """Takes rows in order and sends what becomes due on the way; gives the positions of those late for all of their windows."""
        ended = self._lattice.ended(rows.clock)
        over = self._lattice.ended(rows.clock, self._lateness) if self._lateness else ended
        first, last = self._lattice.of(rows.time)
        if first is last and bool((first > ended).all()):  # none is late, none a correction
            self._fold_entries(rows, rows, first, None, None, self._cuts(rows, ended, over, delay_ns))
            return np.empty(0, np.intp)
        first_open, last = left_open(first, last, over)
        counts = np.maximum(last - first_open + 1, 0)
        self.counts["late_partly"] += int(np.count_nonzero((first_open > first) & (counts > 0)))
        if self._carries:
            counts = np.minimum(counts, 1)
        cuts = self._cuts(rows, ended, over, delay_ns)
        begins = np.zeros(len(counts) + 1, np.intp)
        np.cumsum(counts, out=begins[1:])
        entries, windows, closed = rows, first_open, first_open <= ended
        if not (counts == 1).all():
            of_row = np.repeat(np.arange(len(counts)), counts)
            windows = first_open[of_row] + (np.arange(len(of_row)) - begins[of_row])
            closed = windows <= ended[of_row]
            entries = rows.take(of_row)
            self.counts["corrections"] += len(np.unique(of_row[closed])) if closed.any() else 0
        else:
            self.counts["corrections"] += int(np.count_nonzero(closed))
        self._fold_entries(rows, entries, windows, closed, begins, cuts)
        return np.flatnonzero(counts == 0)

    def _fold_entries(
        self,
        rows: Entries,
        entries: Entries,
        windows: Int64Array,
        closed: BoolArray | None,
        begins: IndexArray | None,
        cuts: list[tuple[int, int | None]],
    ) -> None:
        """Takes the rows' entries, ``begins[i]`` the first of row i (None: each row is one), and sends what is due at the cuts
        between."""
        slots, opened = self._slots.assign(windows, entries.keys)
        self._open(opened)
        begin = 0
        for cut, emit_at in cuts:
            watermark = int(rows.clock[cut])
            if (due := self._due()) is not None and due <= watermark:
                at = cut if begins is None else int(begins[cut])
                self._add(entries, slots, closed, begin, at)
                self._pass(watermark)
                begin = at
            if self._next_emit is None:
                self._next_emit = emit_at
        self._add(entries, slots, closed, begin, len(slots))

    def _cuts(
        self, rows: Entries, ended: Int64Array, over: Int64Array, delay_ns: int
    ) -> list[tuple[int, int | None]]:
        """The rows before which an instant may have been passed, the first row among them, and when what changes from there on is sent.

        Where the watermark is not known before a row (the very first), what it is after that row stands for it.
        """
        if ended[0] == ended[-1] and over[0] == over[-1]:
            passed = np.zeros(len(ended) - 1, np.bool_)
        else:
            passed = (ended[1:] != ended[:-1]) | (over[1:] != over[:-1])
        if self._every is None:
            return [(0, None), *((cut, None) for cut in (np.flatnonzero(passed) + 1).tolist())]
        clock = rows.clock
        known = int(clock[0]) != NO_TIME
        if not known:
            after = np.maximum(rows.time, NO_TIME + delay_ns) - delay_ns
            clock = np.where(clock == NO_TIME, after, clock)
        earliest, latest = int(clock[0]) // self._every, int(clock[-1]) // self._every
        if known and latest - earliest < len(clock) // 16:  # far fewer instants than rows: each is looked for
            turns = np.arange(earliest + 1, latest + 1) * self._every
            positions = np.union1d(np.searchsorted(clock, turns), np.flatnonzero(passed) + 1)
        else:
            emits = clock // self._every
            positions = np.flatnonzero(passed | (emits[1:] != emits[:-1])) + 1
        cuts = [0, *positions.tolist()]
        return [
            (cut, (watermark // self._every + 1) * self._every)
            for cut, watermark in zip(cuts, clock[cuts].tolist(), strict=True)
        ]

    def _add(
        self, entries: Entries, slots: Int32Array, closed: BoolArray | None, start: int, stop: int
    ) -> None:
        """Folds these entries into their slots; those of windows that have ended send their slot at once."""
        if start == stop:
            return
        entries, slots = entries.part(start, stop), slots[start:stop]
        corrections = np.flatnonzero(closed[start:stop]) if closed is not None else ()
        if closed is None or not len(corrections):
            self._accumulate(entries, slots)
            self._slots.touch(slots)
            return
        turns = turns_of(slots[corrections])
        rounds, sent = int(turns.max()) + 1, self._sent.size
        for turn in range(rounds):
            part = corrections[turns == turn]
            if rounds == 1:
                self._accumulate(entries, slots)
            else:
                taken = part if turn else np.sort(np.concatenate((np.flatnonzero(~closed[start:stop]), part)))
                self._accumulate(entries.take(taken), slots[taken])
            if turn == 0:
                self._slots.touch(slots[~closed[start:stop]])
            watermarks = entries.clock[part] - self._lateness
            self._send(slots[part], watermarks, False)
        if rounds > 1:
            places = np.concatenate([corrections[turns == turn] for turn in range(rounds)])
            self._sent.reorder(sent, np.argsort(places))

    def _accumulate(self, entries: Entries, slots: Int32Array) -> None:
        inputs = [raw_column(column) for column in entries.prepared.inputs]
        size = self._slots.size
        self._state.add(slots, size, entries.time, None, NO_TIME, 0, inputs, entries.prepared.masks)

    def _open(self, numbers: list[int]) -> None:
        for number in numbers:
            heappush(self._finishing, number)
            if self._lateness:
                heappush(self._ending, number)
        self.counts["windows_opened"] += len(numbers)

    def _close(self, number: int) -> None:
        self.counts["windows_closed"] += 1
        if self._carries and number < self._lattice.last(number):
            self._open(self._slots.carry(number))
        else:
            self._slots.drop(number)

    # -- rows out ----------------------------------------------------------------------------------------------------

    def _due(self) -> int | None:
        """The next instant at which something may be due."""
        instants = [self._next_emit] if self._next_emit is not None else []
        if self._ending:
            instants.append(self._lattice.end(self._ending[0]))
        if self._finishing:
            instants.append(self._lattice.end(self._finishing[0]) + self._lateness)
        return min(instants, default=None)

    def _pass(self, watermark_ns: int) -> None:
        """Sends what is due at every instant up to the watermark."""
        while (instant := self._due()) is not None and instant <= watermark_ns:
            due, over = [np.empty(0, np.int32)], None
            if self._finishing and self._lattice.end(self._finishing[0]) + self._lateness == instant:
                over = heappop(self._finishing)
                due.append(self._slots.of(over))
            if self._ending and self._lattice.end(self._ending[0]) == instant:
                slots = self._slots.of(heappop(self._ending))
                due.append(slots[self._slots.changed[slots]])
            slots = np.concatenate(due)
            if self._next_emit == instant:
                self._next_emit = None
                self._slots.touch(slots)
                slots = self._slots.touched()
            slots = self._slots.in_order(slots)
            final = over is not None and self._slots.windows[slots] == over
            self._send(slots, _clamped(instant - self._lateness - 1), final)
            if over is not None:
                self._close(over)

    def _send(self, slots: Int32Array, watermarks: Int64Array | int, final: BoolArray | bool) -> None:
        """Takes down what these slots hold now: a row of each, in this order."""
        self._slots.send(slots)
        self._sent.add(len(slots), watermarks, final)

    def _outputs(self, *, keep: bool = True) -> list[Output]:
        """What was sent since, as batches; then slots that are gone may be forgotten."""
        outputs: list[Output] = []
        if self._sent.size:
            windows, keys, revisions, results, overflows = self._state.sent()
            self.counts["overflow"] += overflows
            watermarks, final, order = self._sent.take()
            starts, ends = self._lattice.bounds(windows)
            columns: list[Column] = [FixedColumn(starts), FixedColumn(ends)]
            columns += self._slots.key_columns(keys)
            columns += [column_of_raw(raw) for raw in results]
            if self._revisions:
                columns += [FixedColumn(revisions), FixedColumn(final)]
            rows = Batch(self.output, tuple(columns), len(starts), ends - 1, watermarks)
            if order is not None:
                rows = rows.take(order)
            outputs = [Output(piece) for piece in iter_slices(rows, MAX_OUTPUT_ROWS)]
        if keep:
            self._slots.collect()
        return outputs


def _clamped(time_ns: int) -> int:
    return min(max(time_ns, NO_TIME), END_OF_TIME)
