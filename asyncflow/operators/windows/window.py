"""Window: rows into groups and windows; rows of closed windows out when the watermark reaches a window's end.

Rows end here: ``process`` gives each row its group (``groups`` kernel) and folds the row into its windows (``window`` kernel);
``advance`` and ``finish`` give closed windows out as rows.  Shapes: tumbling and hopping windows of event time, one window over
everything, one window per message.

Invariants: every window that had a row comes out exactly once; rows come out by window end, window start, then keys, nulls last;
results do not depend on where batches are cut; memory is bounded by the open windows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
from msgspec.structs import replace

from asyncflow._kernels.window import WindowState
from asyncflow.model.batch import END_OF_TIME, NO_TIME, Batch
from asyncflow.model.columns import Column, FixedColumn, IndexArray, Int32Array, Int64Array
from asyncflow.model.schema import Schema
from asyncflow.model.snapshot import Frozen, Plain, Saved, nested
from asyncflow.operators.aggregates.state import window_state
from asyncflow.operators.aggregates.table import AggregateSpec
from asyncflow.operators.contract import Ahead, Output, counted, restore_counts
from asyncflow.operators.kernel_state import frozen_by_group, frozen_keys, load_kernel
from asyncflow.operators.parts.part import KeyedPart, Origin, Prepare, Prepared, Share, Told
from asyncflow.operators.pieces import MAX_OUTPUT_BYTES, MAX_OUTPUT_ROWS, key_pieces
from asyncflow.operators.raw import column_of_raw, raw_column
from asyncflow.operators.windows.folding import Folded, Folding
from asyncflow.operators.windows.grouped import BOUNDS, GroupedWindow, result_schema

__all__ = ["AggregateSpec", "Prepared", "WindowOperator"]


class WindowOperator(GroupedWindow, KeyedPart):
    """Grouped aggregation over windows ``[start, start + size_ns)``, one starting every ``every_ns``, aligned to ``offset_ns``.

    ``every_ns`` None: tumbling.  ``size_ns`` None: one window over everything, or with ``per_message`` one for each batch, which
    ``process`` gives back at once.  ``prepare`` computes keys, inputs and masks of a batch.
    """

    folds = True
    """What is made of a batch ahead has its rows added up, where they are of few keys."""

    def __init__(
        self,
        *,
        size_ns: int | None,
        every_ns: int | None = None,
        offset_ns: int = 0,
        per_message: bool = False,
        keys: Schema,
        aggregates: Sequence[AggregateSpec],
        names: Sequence[str],
        prepare: Prepare,
    ) -> None:
        every_ns = size_ns if every_ns is None else every_ns
        if size_ns is not None and not (every_ns is not None and 0 < every_ns <= size_ns < 2**63):
            raise ValueError("a window needs 0 < every_ns <= size_ns < 2**63")
        if per_message and size_ns is not None:
            raise ValueError("a window per message has no size")
        self._sized = size_ns is not None
        self._shape = size_ns or 1, every_ns or 1, offset_ns
        output = result_schema(BOUNDS if self._sized else (), keys, aggregates, names)
        state = window_state(aggregates, size_ns, every_ns or 1, offset_ns)
        super().__init__(output, keys, state, prepare)
        self.ahead_untimed = size_ns is None
        self._folding: Folding | None = None
        if not per_message and Folding.possible(aggregates):
            make = partial(WindowState, size_ns, every_ns or 1, offset_ns, [spec.raw for spec in aggregates])
            self._folding = Folding(self._kinds, make, aggregates)
        self._per_message = per_message
        self._greatest_time: int | None = None

    def freeze(self) -> Frozen:
        """The cells of open windows by key; keys that no open window holds are dropped first."""
        self.forget()
        return nested(
            self.fields(),
            {
                "keys": frozen_keys(self._groups),
                "windows": frozen_by_group(self._state, self._groups.ranks()),
            },
        )

    def restore(self, saved: Saved) -> None:
        restore_counts(self.counts, saved)
        self._greatest_time = saved.optional_integer("greatest_time", NO_TIME, END_OF_TIME)
        load_kernel(self._groups, saved, "keys")
        load_kernel(self._state, saved, "windows")
        self._count_windows()

    def fields(self) -> dict[str, Plain]:
        return {**counted(self.counts), "greatest_time": self._greatest_time}

    @staticmethod
    def frozen_as_one(
        parts: Sequence[WindowOperator], ranks: Sequence[Int32Array], told: Told
    ) -> dict[str, Frozen]:
        from asyncflow.operators.parts.state import frozen_cells

        kernels = [part._state for part in parts]
        passed = [
            window
            for kernel in kernels
            if isinstance(kernel, WindowState) and (window := kernel.closed_window) is not None
        ]
        for kernel in kernels:
            if passed and isinstance(kernel, WindowState):
                kernel.pass_window(max(passed))
        states = [frozen_by_group(kernel, rank) for kernel, rank in zip(kernels, ranks, strict=True)]
        return {"windows": frozen_cells(states, told)}

    @staticmethod
    def told(saved: Saved) -> Told:
        windows = saved.within("windows")
        return Told(windows.integer("arrivals"), windows.integer("windows_closed"))

    @staticmethod
    def split(whole: Saved, new: Int64Array, *, first: bool) -> dict[str, Saved]:
        from asyncflow.operators.parts.state import cells_of_part

        return {"windows": cells_of_part(whole.within("windows"), new)}

    def ahead(self, batch: Batch) -> Ahead:
        """Adds the rows up, too, where they are of few keys."""
        ahead = super().ahead(batch)
        folded = self.folded(batch, ahead.made)
        if folded is None:
            return ahead
        return replace(ahead, made=folded, nbytes=ahead.nbytes + folded.nbytes, left_bytes=folded.nbytes)

    def folded(self, batch: Batch, prepared: Prepared) -> Folded | None:
        return self._folding.fold(batch, prepared) if self._folding is not None and self.folds else None

    def process(self, batch: Batch) -> list[Output]:
        if not batch.num_rows:
            return []
        made = self._done_ahead(batch)
        if isinstance(made, Folded):
            if self.absorbs(batch, made):
                return []
            made = made.prepared
        late = self.take(batch, self._prepare(batch, self.counts) if made is None else made)
        outputs = [Output(batch.take(late), "late")] if len(late) else []
        if self._per_message:
            outputs += [Output(rows) for rows in self._close(END_OF_TIME, batch.origin)]
            self._greatest_time = None
            self._count_windows()
        return outputs

    def take(self, batch: Batch, prepared: Prepared, origin: Origin | None = None) -> IndexArray:
        if self._sized and batch.time is None:
            raise ValueError("windows of event time need rows that have one")
        late, partly = self._state.add(
            self._groups_of(prepared, batch.num_rows, origin),
            self._groups.size,
            batch.time,
            batch.watermarks if self._sized else None,
            batch.watermark_before if self._sized else NO_TIME,
            batch.delay_ns,
            [raw_column(column) for column in prepared.inputs],
            prepared.masks,
        )
        self._count_taken(batch, batch.num_rows - len(late), len(late), partly)
        return late

    def absorbs(self, batch: Batch, folded: Folded, share: Share | None = None) -> bool:
        assert self._folding is not None
        assert isinstance(self._state, WindowState)
        if share is None:
            groups = self._groups.assign(folded.keys, folded.key_count)
        else:
            self._state.number(share.before, share.keys)
            places = share.keys.astype(np.intp)
            taken = [raw_column(column_of_raw(column).take(places)) for column in folded.keys]
            groups = np.full(folded.key_count, -1, np.int32)
            groups[places] = self._groups.assign(taken, len(places), share.hashes)
        before = batch.watermark_before if self._sized else NO_TIME
        rows = self._state.absorb(folded.state, groups, self._groups.size, before)
        if rows is None:
            self._folding.in_vain()
            return False
        self._count_taken(batch, rows, 0, 0)
        return True

    def _count_taken(self, batch: Batch, aggregated: int, late: int, partly: int) -> None:
        self.counts["aggregated"] += aggregated
        self.counts["late_partly"] += partly
        self.counts["late"] += late
        if self._folding is not None:
            self._folding.keys_held = self._groups.size
        if batch.time is not None and not self._sized:
            greatest = int(batch.time.max())
            known = self._greatest_time
            self._greatest_time = greatest if known is None else max(known, greatest)
        self._count_windows()

    def watermarks_matter(self, batch: Batch) -> bool:
        if not self._sized or batch.time is None:
            return False
        if batch.watermarks is not None:
            greatest = int(batch.watermarks.max())
        else:
            greatest = max(batch.watermark_before, int(batch.time.max()) - batch.delay_ns)
        return greatest >= self._first_end(int(batch.time.min()))

    def _first_end(self, time_ns: int) -> int:
        """The end of the first window that a time is in."""
        size, every, offset = self._shape
        return ((time_ns - offset - size) // every + 1) * every + offset + size

    def advance(self, watermark_ns: int) -> Iterable[Output]:
        due = self._sized and (self._state.ready(watermark_ns) or self._groups.size > self._collect_above)
        return self._given_up(watermark_ns) if due else ()

    def advance_bytes(self, watermark_ns: int, fresh_bytes: int) -> int:
        """Windows of all keys close at once."""
        return self.state_bytes if self._sized and self._state.ready(watermark_ns) else 0

    def finish(self) -> Iterable[Output]:
        return self._given_up(END_OF_TIME)

    def _given_up(self, watermark_ns: int) -> Iterator[Output]:
        for rows in self._close(watermark_ns):
            yield Output(rows)
        self._count_windows()

    @property
    def timed(self) -> bool:
        return self._sized

    @property
    def open_windows(self) -> int:
        return self._state.open_windows

    @property
    def open_spans(self) -> list[tuple[int, int]]:
        return self._state.open_spans()

    @property
    def next_due_ns(self) -> int | None:
        return self._state.next_end

    # -- windows out -------------------------------------------------------------------------------------------------

    def _close(self, watermark_ns: int, origin: Any = None) -> Iterator[Batch]:
        """All rows of the windows that end by the watermark, in batches."""
        if self._state.ready(watermark_ns):
            order = self._groups.order()
            while (
                closed := self._state.close(watermark_ns, order, MAX_OUTPUT_ROWS, MAX_OUTPUT_BYTES)
            ) is not None:
                starts, ends, groups, results, overflows = closed
                self.counts["overflow"] += overflows
                values = [column_of_raw(raw) for raw in results]
                for part, keys in key_pieces(self._groups, groups):
                    columns = [*keys, *(column.slice(part.start, part.stop) for column in values)]
                    yield self._batch(starts[part], ends[part], columns, origin)
        self._forget_groups()

    def _batch(self, starts: Int64Array, ends: Int64Array, columns: list[Column], origin: Any) -> Batch:
        time: Int64Array | None = None
        if self._sized:
            columns = [FixedColumn(starts), FixedColumn(ends), *columns]
            time = ends - 1
        elif self._greatest_time is not None:
            time = np.full(len(starts), self._greatest_time, np.int64)
        # Windows close in the order of their ends: nothing older than a row follows it.
        watermarks = time if self._sized else None
        return Batch(self.output, tuple(columns), len(starts), time, watermarks, NO_TIME, origin=origin)

    def _live_groups(self) -> Int32Array:
        return self._state.live_groups(self._groups.size)

    def _keep(self, live: Int32Array) -> None:
        self._groups.keep(live)
        self._state.keep(live)

    def _count_windows(self) -> None:
        self.counts["windows_closed"] = closed = self._state.windows_closed
        self.counts["windows_opened"] = closed + self._state.open_windows
