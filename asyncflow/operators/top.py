"""Top: the first n rows of each window and key, with their rank, when the watermark reaches the window's end.

The order is total: the order of the stage, then arrival.  The first n of a set are the first n of the first n of its parts, so a
row that cannot be among them is dropped as it comes.  The ``top`` kernel holds the other rows: at most n of each open window and key, each
in the memory of the row that it replaced.

Rows come out by window end, window start, key ascending (nulls last), rank.  A row that is late for all of its windows goes to
``late``.  Where windows come with the input (``end_column``), they are identified by their end alone; a null end is a window that
closes at the end of input.

Invariant: results do not depend on where batches are cut.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from asyncflow._kernels import groups as groups_kernel
from asyncflow._kernels import top as top_kernel
from asyncflow._kernels.columns.raw import RawColumn
from asyncflow.model.batch import END_OF_TIME, NO_TIME, Batch
from asyncflow.model.columns import (
    MAX_TEXT_BYTES,
    BoolArray,
    Column,
    FixedColumn,
    IndexArray,
    Int64Array,
    StringColumn,
    column_from_values,
)
from asyncflow.model.saved_batches import frozen_batches, restored_batches
from asyncflow.model.schema import DataType, Field, Schema
from asyncflow.model.snapshot import Copied, Frozen, Plain, Saved, nested
from asyncflow.operators.bounds import WindowBounds, WindowLattice, left_open
from asyncflow.operators.contract import Ahead, Output, counted, restore_counts
from asyncflow.operators.ordering import Direction
from asyncflow.operators.parts.part import Origin, Part, Prepared, Told
from asyncflow.operators.pieces import MAX_OUTPUT_BYTES, MAX_OUTPUT_ROWS
from asyncflow.operators.raw import column_of_raw, raw_column

FEW_ROWS = 1 << 16
"""Keys that are forgotten, and memory that no row needs, are looked for only where there are more than this."""


NUMBERS = (Field("window", DataType.INT64), Field("arrival", DataType.INT64))
"""The columns before those that are kept, in :meth:`TopOperator.held`."""


class SortColumns(Struct, frozen=True, eq=False):
    """What a top stage reads of a batch: its key columns and those that it goes by."""

    keys: tuple[Column, ...]
    order: tuple[Column, ...]


class TopOperator(Part):
    """``size_ns``, ``every_ns``, ``offset_ns``: windows of its own; ``end_column``: those that this column of the input ends;
    neither: one window over everything.  ``output``: bounds of windows of its own, the columns of the input that are kept, and the rank.
    ``prepare``: computes keys (of types ``kinds``) and order of a batch of the columns that are kept.

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
        self._prepare = prepare
        self._bounds: WindowBounds | None = None
        if size_ns is not None:
            self._bounds = WindowLattice(size_ns, every_ns or size_ns, offset_ns)
        self._end_column = end_column
        self._kept = Schema(output.fields[2 if self._bounds is not None else 0 : -1])
        self._groups = groups_kernel.GroupTable([kind.value for kind in kinds])
        order = [
            (_kind(column), direction.descending, direction.nulls_first)
            for column, direction in zip(prepare(_nulls(self._kept)).order, directions, strict=True)
        ]
        kept = [field.type.value for field in self._kept]
        self._state = top_kernel.TopState(n, kept, order, self.timed)
        self._watermark_ns = NO_TIME
        self._greatest_time: int | None = None
        self._arrivals = 0
        self._collect_above = FEW_ROWS

    def prepared(self, batch: Batch) -> Prepared:
        """The columns that are kept, and then those that rows are ordered by."""
        kept = self._narrowed(batch)
        made = self._prepare(kept)
        return Prepared(made.keys, (*kept.columns, *made.order), ())

    def ahead(self, batch: Batch) -> Ahead:
        made = self.prepared(batch)
        columns = (*made.keys, *made.inputs[len(self._kept) :])
        return Ahead(self, batch.columns, made, {}, sum(column.nbytes for column in columns))

    def process(self, batch: Batch) -> list[Output]:
        if not batch.num_rows:
            return []
        late = self.take(batch, self._done_ahead(batch) or self.prepared(batch))
        return [Output(batch.take(late), "late")] if len(late) else []

    def take(self, batch: Batch, prepared: Prepared, origin: Origin | None = None) -> IndexArray:
        if self.timed and batch.time is None:
            raise ValueError("windows of event time need rows that have one")
        if batch.time is not None:
            self.reach(int(batch.time.max()))
        if origin is None:
            arrivals = np.arange(self._arrivals, self._arrivals + batch.num_rows)
            self._arrivals += batch.num_rows
        else:
            arrivals = origin.before + origin.places.astype(np.int64)
        kept = batch.with_columns(self._kept, prepared.inputs[: len(self._kept)])
        windows, late = self._windows(kept) if self.timed else (None, None)
        self._add(prepared, windows, arrivals, None if origin is None else origin.hashes)
        self._count_windows()
        if windows is None or late is None:
            self.counts["ranked"] += batch.num_rows
            return np.empty(0, np.intp)
        gone = windows[0] > windows[1]
        lost = int(np.count_nonzero(gone))
        self.counts["ranked"] += batch.num_rows - lost
        self.counts["late_partly"] += int(np.count_nonzero(late & ~gone))
        self.counts["late"] += lost
        return np.flatnonzero(gone)

    def watermarks_matter(self, batch: Batch) -> bool:
        if not self.timed or batch.time is None:
            return False
        first = (
            self._all_windows(batch)[0]
            if self._bounds is None
            else self._bounds.of(batch.time.min()[None])[0]
        )
        return self._ended(_greatest_watermark(batch)) >= int(first.min())

    @property
    def greatest_time(self) -> int | None:
        return self._greatest_time

    def reach(self, time_ns: int) -> None:
        """A row has that time."""
        known = self._greatest_time
        self._greatest_time = time_ns if known is None else max(known, time_ns)

    def advance(self, watermark_ns: int) -> Iterable[Output]:
        self._watermark_ns = max(self._watermark_ns, watermark_ns)
        return self._close(self._ended(self._watermark_ns)) if self.timed else []

    def finish(self) -> Iterable[Output]:
        return self._close(END_OF_TIME)

    def advance_bytes(self, watermark_ns: int, fresh_bytes: int) -> int:
        """The windows that end close for all keys at once."""
        first = self._state.first_window
        closes = (
            self.timed and first is not None and first <= self._ended(max(self._watermark_ns, watermark_ns))
        )
        return self.state_bytes if closes else 0

    @property
    def state_bytes(self) -> int:
        return self._groups.nbytes + self._state.nbytes

    @property
    def timed(self) -> bool:
        return self._bounds is not None or self._end_column is not None

    @property
    def next_due_ns(self) -> int | None:
        first = self._state.first_window
        if not self.timed or first is None:
            return None
        return first if self._bounds is None else min(self._bounds.end(first), END_OF_TIME)

    @property
    def waiting_rows(self) -> int:
        return self._state.held_rows

    @property
    def open_windows(self) -> int:
        return self._state.open_windows

    @property
    def open_spans(self) -> list[tuple[int, int]]:
        numbers = self._state.windows
        ends = np.flatnonzero(np.diff(numbers) != 1)
        firsts, lasts = np.append(numbers[:1], numbers[ends + 1]), np.append(numbers[ends], numbers[-1:])
        return list(zip(firsts.tolist(), lasts.tolist(), strict=True))

    # -- state -------------------------------------------------------------------------------------------------------

    def freeze(self) -> Frozen:
        """The held rows by window end, start, key, rank."""
        return self.frozen(self.fields(), list(self.held()))

    def fields(self) -> dict[str, Plain]:
        return {
            **counted(self.counts),
            "watermark_ns": self._watermark_ns,
            "greatest_time": self._greatest_time,
            "arrivals": self._arrivals,
        }

    def held(self) -> Iterator[Batch]:
        """The held rows by window, key, rank, in pieces: before the columns that are kept, the number of the window and that of arrival."""
        numbers, _, arrivals = self._state.ranking(END_OF_TIME, self._groups.ranks())
        for part, columns in self._pieces(len(numbers)):
            columns = (FixedColumn(numbers[part]), FixedColumn(arrivals[part]), *columns)
            yield Batch(Schema((*NUMBERS, *self._kept.fields)), columns, part.stop - part.start)

    def frozen(self, fields: Mapping[str, Plain], held: Sequence[Batch]) -> Frozen:
        """The state of which these rows are held."""
        numbers, arrivals = (
            np.concatenate([np.empty(0, np.int64), *(batch.columns[place].values for batch in held)])  # type: ignore[union-attr]
            for place in range(len(NUMBERS))
        )
        starts, ends = self._times(numbers)
        rows = [batch.with_columns(self._kept, batch.columns[len(NUMBERS) :]) for batch in held]
        windows = Copied({}, {"starts": starts, "ends": ends, "arrivals": arrivals})
        return nested(fields, {"rows": frozen_batches(rows), "windows": windows})

    @staticmethod
    def told(saved: Saved) -> Told:
        return Told(saved.integer("arrivals"), saved.within("counts").integer("windows_closed"))

    def restore(self, saved: Saved) -> None:
        self.restore_some(saved, lambda keys, num_rows: np.ones(num_rows, np.bool_))

    def restore_some(self, saved: Saved, chosen: Callable[[Sequence[RawColumn], int], BoolArray]) -> None:
        """Takes over a state, of its rows those that are chosen by their keys."""
        restore_counts(self.counts, saved)
        self._watermark_ns = saved.integer("watermark_ns", NO_TIME, END_OF_TIME)
        self._greatest_time = saved.optional_integer("greatest_time", NO_TIME, END_OF_TIME)
        self._arrivals = saved.integer("arrivals", 0, END_OF_TIME)
        batches = restored_batches(saved.within("rows"))
        rows = sum(batch.num_rows for batch in batches)
        starts, ends, arrivals = (
            saved.within("windows").array(name, np.int64, rows) for name in ("starts", "ends", "arrivals")
        )
        numbers = self._numbers(starts, ends)
        done = 0
        for batch in batches:
            if [(f.name, f.type) for f in batch.schema] != [(f.name, f.type) for f in self._kept]:
                raise ValueError(
                    f"rows.columns: {batch.schema.names} were saved, {self._kept.names} are wanted"
                )
            keys = [raw_column(column) for column in self._prepare(batch).keys]
            taken = np.flatnonzero(chosen(keys, batch.num_rows))
            of_rows = numbers[done:][taken]
            windows = (of_rows, of_rows) if self.timed else None
            self._add(self.prepared(batch.take(taken)), windows, arrivals[done:][taken])
            done += batch.num_rows

    # -- of rows that came out ---------------------------------------------------------------------------------------

    @property
    def window_kinds(self) -> list[str]:
        """The types of the columns that :meth:`windows_of` gives."""
        return [DataType.TIMESTAMP.value] * (2 if self._bounds is not None else 1 if self.timed else 0)

    def windows_of(self, batch: Batch) -> list[Column]:
        """The columns that order the windows of rows that came out, ascending."""
        if self._bounds is not None:
            return [batch.columns[1], batch.columns[0]]
        return [FixedColumn(self._all_windows(batch)[0])] if self.timed else []

    def kept_of(self, batch: Batch) -> Batch:
        """The columns that were kept of rows that came out."""
        return batch.select(self._kept.names)

    def _narrowed(self, batch: Batch) -> Batch:
        """The rows with the columns that are kept of them."""
        names = self._kept.names
        return batch if batch.schema.names == names else batch.select(names)

    # -- rows in -----------------------------------------------------------------------------------------------------

    def _add(
        self,
        prepared: Prepared,
        windows: tuple[Int64Array, Int64Array] | None,
        arrivals: Int64Array,
        hashes: NDArray[np.uint64] | None = None,
    ) -> None:
        keys = [raw_column(column) for column in prepared.keys]
        inputs = [raw_column(column) for column in prepared.inputs]
        kept = len(self._kept)
        groups = self._groups.assign(keys, len(arrivals), hashes)
        self._state.add(groups, self._groups.size, windows, inputs[:kept], inputs[kept:], arrivals)

    def _windows(self, batch: Batch) -> tuple[tuple[Int64Array, Int64Array], BoolArray | None]:
        """The first and the last window of each row that are open for it, none where the first is after the last; and which rows are
        late for a window, None where none is."""
        first, last = self._all_windows(batch)
        watermark_ns = max(self._watermark_ns, _greatest_watermark(batch))
        if self._ended(watermark_ns) < int(first.min()):
            return (first, last), None
        watermarks = np.maximum(batch.row_watermarks(), self._watermark_ns)
        if self._bounds is None:
            late = first <= watermarks
            return (np.where(late, 1, first), np.where(late, 0, first)), late
        first_open, last_open = left_open(first, last, self._bounds.ended(watermarks))
        return (first_open, last_open), (first_open != first) | (last_open != last)

    def _all_windows(self, batch: Batch) -> tuple[Int64Array, Int64Array]:
        """The first and the last window of each row, by numbers that rise with their ends: of the lattice, else the ends themselves."""
        if self._bounds is None:
            assert self._end_column is not None
            column = batch.column(self._end_column)
            assert isinstance(column, FixedColumn)
            ends = column.values
            if column.valid is not None:
                ends = np.where(column.valid, ends, END_OF_TIME)
            return ends, ends
        assert batch.time is not None
        if self._bounds.most == 1:
            edges, _ = self._bounds.of(np.array([batch.time.min(), batch.time.max()]))
            if edges[0] == edges[1]:
                numbers = np.full(batch.num_rows, edges[0])
                return numbers, numbers
        return self._bounds.of(batch.time)

    def _ended(self, watermark_ns: int) -> int:
        """The number of the last window that ends by the watermark."""
        if self._bounds is None:
            return watermark_ns
        return int(self._bounds.ended(np.array([watermark_ns]))[0])

    def _times(self, numbers: Int64Array) -> tuple[Int64Array, Int64Array]:
        """Starts and ends of these windows, clamped to int64."""
        if self._bounds is not None:
            return self._bounds.bounds(numbers)
        ends = numbers if self.timed else np.full(len(numbers), END_OF_TIME, np.int64)
        return np.full(len(numbers), NO_TIME, np.int64), ends

    def _numbers(self, starts: Int64Array, ends: Int64Array) -> Int64Array:
        """The windows with these starts and ends; ValueError where there is none."""
        numbers = ends
        if self._bounds is not None:
            pairs, which = np.unique(np.stack([starts, ends]), axis=1, return_inverse=True)
            found = [self._bounds.number(start, end) for start, end in pairs.T.tolist()]
            if any(not NO_TIME <= number <= END_OF_TIME for number in found):
                raise ValueError("starts: a window that is none of this stage's")
            numbers = np.array(found, np.int64)[which.reshape(-1)]
        if not all(map(np.array_equal, self._times(numbers), (starts, ends))):
            raise ValueError("starts: a window that is none of this stage's")
        return numbers

    # -- windows out -------------------------------------------------------------------------------------------------

    def _close(self, limit: int) -> Iterator[Output]:
        """The rows of the windows up to number ``limit``, which are then forgotten."""
        first = self._state.first_window
        if first is not None and first <= limit:
            numbers, ranks, _ = self._state.ranking(limit, self._groups.ranks())
            starts, ends = self._times(numbers)
            for part, columns in self._pieces(len(numbers)):
                yield Output(self._batch(starts[part], ends[part], columns, ranks[part]))
            self.counts["windows_closed"] += self._state.release(limit)
            self._count_windows()
        self._forget()

    def _pieces(self, count: int) -> Iterator[tuple[slice, tuple[Column, ...]]]:
        """The columns of the last ranking's ``count`` rows, in pieces: which rows, and their columns."""
        starts = range(0, count, MAX_OUTPUT_ROWS)
        pending = [slice(start, min(start + MAX_OUTPUT_ROWS, count)) for start in reversed(starts)]
        while pending:
            part = pending.pop()
            rows = part.stop - part.start
            try:
                found = self._state.columns(
                    part.start, part.stop, MAX_OUTPUT_BYTES if rows > 1 else MAX_TEXT_BYTES
                )
            except OverflowError:
                middle = part.start + rows // 2
                pending += [slice(middle, part.stop), slice(part.start, middle)]
            else:
                yield part, tuple(column_of_raw(raw) for raw in found)

    def _batch(
        self, starts: Int64Array, ends: Int64Array, columns: tuple[Column, ...], ranks: Int64Array
    ) -> Batch:
        columns = (*columns, FixedColumn(ranks))
        if self._bounds is not None:
            columns = (FixedColumn(starts), FixedColumn(ends), *columns)
        time = ends - 1
        if self._greatest_time is not None and self._bounds is None:
            time = np.where(ends == END_OF_TIME, self._greatest_time, time)
        # Windows close in the order of their ends: nothing older than a row follows it.
        watermarks = time if self.timed else None
        return Batch(self.output, columns, len(ranks), time, watermarks)

    def _count_windows(self) -> None:
        self.counts["windows_opened"] = self.counts["windows_closed"] + self._state.open_windows

    def _forget(self) -> None:
        """Drops keys and memory of windows that were closed, once there is much; looks again when there is twice as much."""
        if not self.timed or max(self._groups.size, self._state.places) <= self._collect_above:
            return
        live = self._state.live_groups(self._groups.size)
        self._groups.keep(live)
        self._state.keep(live)
        self._collect_above = max(FEW_ROWS, 2 * max(len(live), self._state.held_rows))


def _greatest_watermark(batch: Batch) -> int:
    """At least the watermark before each row."""
    if batch.watermarks is not None:
        return int(batch.watermarks.max())
    assert batch.time is not None
    return max(batch.watermark_before, int(batch.time.max()) - batch.delay_ns)


def _nulls(schema: Schema) -> Batch:
    """One row of nothing but nulls."""
    return Batch(schema, tuple(column_from_values(field.type, [None]) for field in schema), 1)


def _kind(column: Column) -> str:
    """The kernel's name of the type of a column."""
    if isinstance(column, StringColumn):
        return DataType.STRING.value
    return str(column.values.dtype)
