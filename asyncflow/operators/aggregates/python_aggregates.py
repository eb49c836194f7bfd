"""Aggregates written in Python beside those of the window kernel, behind the interface of the kernel's state.

A stage without any has the kernel's ``WindowState`` itself.  With some, :class:`PythonWindowState` hands every call on to the kernel, which
keeps deciding what is late, which windows are open and what comes out, and keeps a *cell* for each group and span of windows: the
user's object, and the rows that it was not given yet.  A span is the windows from ``low`` to ``high`` in which a row counts, less
those that the watermark before the row had closed; a window's result is merged of the cells whose spans it lies in, in the order of
spans.  Where there is one window, and for slots, the span is always 0 to 0.

Invariants: an object gets its rows in the order of arrival, always ``ROWS_AT_ONCE`` at a time and the rest when it is read or merged, so
what it holds does not depend on where batches are cut; cells leave with their windows.

Cost: per batch and aggregate a sort of the rows by group, per cell in the batch about a microsecond; per window and group as many
merges as there are spans over it (none for tumbling windows).
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, NoReturn, TypeAlias

import numpy as np
from numpy.typing import NDArray

from asyncflow._kernels import window as window_kernel
from asyncflow.errors import StageError
from asyncflow.model.aggregate import ROWS_AT_ONCE, declared, qualified
from asyncflow.model.batch import END_OF_TIME, NO_TIME, watermarks_of
from asyncflow.model.columns import BoolArray, IndexArray, Int32Array, Int64Array, column_from_values
from asyncflow.operators.aggregates.python_values import array_of, checked_value
from asyncflow.operators.aggregates.table import AggregateSpec
from asyncflow.operators.bounds import WindowLattice
from asyncflow.operators.raw import raw_column, rows_of_raw

Span: TypeAlias = tuple[int, int]
Raw: TypeAlias = tuple[Any, ...]

ONE: Span = (0, 0)
CELL_BYTES = 512
"""What a cell and its object take, about: how much a user's object really holds is not known."""


State: TypeAlias = "window_kernel.WindowState | PythonWindowState"
"""The state of a window stage."""


def window_state(
    aggregates: Sequence[AggregateSpec], size_ns: int | None = None, every_ns: int = 1, offset_ns: int = 0
) -> State:
    """The state of a window stage: the kernel's, with what its Python aggregates need where there are any."""
    raw = [spec.raw for spec in aggregates if spec.python is None]
    state = window_kernel.WindowState(size_ns, every_ns, offset_ns, raw)
    if len(raw) == len(aggregates):
        return state
    lattice = None if size_ns is None else WindowLattice(size_ns, every_ns, offset_ns)
    return PythonWindowState(state, aggregates, lattice)


class PythonWindowState:
    """``WindowState`` with aggregates written in Python: the same methods with the same meaning.  ``lattice`` None: of no size."""

    def __init__(
        self,
        state: window_kernel.WindowState,
        aggregates: Sequence[AggregateSpec],
        lattice: WindowLattice | None,
    ) -> None:
        self._state = state
        self._lattice = lattice
        self._hosted = [PythonAggregate(spec) for spec in aggregates if spec.python is not None]
        self._is_python = [spec.python is not None for spec in aggregates]
        self._advanced = NO_TIME
        self._window: int | None = None
        self._sent: list[list[Any]] = [[] for _ in self._hosted]

    def add(
        self,
        groups: Int32Array,
        group_count: int,
        time: Int64Array | None,
        watermarks: Int64Array | None,
        watermark_before: int,
        delay_ns: int,
        inputs: Sequence[Raw],
        masks: Sequence[BoolArray],
        merges: tuple[Int64Array, Int32Array, Int32Array] | None = None,
    ) -> tuple[IndexArray, int]:
        late, partly = self._state.add(
            groups, group_count, time, watermarks, watermark_before, delay_ns, inputs, masks, merges
        )
        spans = None
        if self._lattice is not None and time is not None:
            clock = watermarks_of(time, watermark_before, delay_ns) if watermarks is None else watermarks
            first, last = self._lattice.of(time)
            spans = np.maximum(first, self._lattice.ended(np.maximum(clock, self._advanced)) + 1), last
        for hosted in self._hosted:
            hosted.add(groups, spans, inputs, masks, merges)
        return late, partly

    def ready(self, watermark_ns: int) -> bool:
        self._advanced = max(self._advanced, watermark_ns)
        return self._state.ready(watermark_ns)

    def close(
        self, watermark_ns: int, order: Int32Array, max_rows: int, max_bytes: int = END_OF_TIME
    ) -> window_kernel.Closed | None:
        closed = self._state.close(watermark_ns, order, max_rows, max_bytes)
        if closed is None:
            for hosted in self._hosted:
                hosted.drop(self._window)
            return None
        starts, ends, groups, results, overflows = closed
        values: list[list[Any]] = [[] for _ in self._hosted]
        for number, window_groups in self._windows(starts, ends, groups):
            for hosted, found in zip(self._hosted, values, strict=True):
                if self._window is not None and self._window < number:
                    hosted.drop(number - 1)
                found += hosted.window(number, window_groups)
            self._window = number
        return starts, ends, groups, self._joined(results, values), overflows

    def _windows(
        self, starts: Int64Array, ends: Int64Array, groups: Int32Array
    ) -> Iterator[tuple[int, list[int]]]:
        """The number of each window in these rows, and its groups."""
        if self._lattice is None:
            yield 0, groups.tolist()
            return
        changes = np.flatnonzero((starts[1:] != starts[:-1]) | (ends[1:] != ends[:-1])) + 1
        for begin, stop in pairwise((0, *changes.tolist(), len(groups))):
            yield self._lattice.number(int(starts[begin]), int(ends[begin])), groups[begin:stop].tolist()

    def _joined(self, results: Sequence[Raw], values: Sequence[list[Any]]) -> list[Raw]:
        """The kernel's results and ours in the order of the aggregates."""
        native = iter(results)
        ours = (hosted.column(found) for hosted, found in zip(self._hosted, values, strict=True))
        return [next(ours) if is_python else next(native) for is_python in self._is_python]

    # -- slots -------------------------------------------------------------------------------------------------------

    def peek(self, slots: Int32Array, max_bytes: int = END_OF_TIME) -> tuple[list[Raw], int]:
        results, overflows = self._state.peek(slots, max_bytes)
        slots = slots[: rows_of_raw(results[0])] if results else slots
        values = [hosted.window(0, slots.tolist()) for hosted in self._hosted]
        return self._joined(results, values), overflows

    def send(
        self,
        slots: Int32Array,
        windows: Int64Array,
        keys: Int32Array,
        revisions: Int64Array,
        changed: BoolArray,
    ) -> None:
        self._state.send(slots, windows, keys, revisions, changed)
        for hosted, values in zip(self._hosted, self._sent, strict=True):
            values += hosted.window(0, slots.tolist())

    def sent(self) -> window_kernel.Rows:
        windows, keys, revisions, results, overflows = self._state.sent()
        values, self._sent = self._sent, [[] for _ in self._hosted]
        return windows, keys, revisions, self._joined(results, values), overflows

    def merge(self, into: Int32Array, source: Int32Array) -> None:
        self._state.merge(into, source)
        for target, slot in zip(into.tolist(), source.tolist(), strict=True):
            for hosted in self._hosted:
                hosted.merge(target, slot)

    def clear(self, slots: Int32Array) -> None:
        self._state.clear(slots)
        for hosted in self._hosted:
            hosted.clear(slots.tolist())

    # -- what is held ------------------------------------------------------------------------------------------------

    def live_groups(self, group_count: int) -> Int32Array:
        return self._state.live_groups(group_count)

    def keep(self, groups: Int32Array) -> None:
        self._state.keep(groups)
        names = {group: name for name, group in enumerate(groups.tolist())}
        for hosted in self._hosted:
            hosted.rename(names)

    @property
    def windows_closed(self) -> int:
        return self._state.windows_closed

    @property
    def open_windows(self) -> int:
        return self._state.open_windows

    @property
    def next_end(self) -> int | None:
        return self._state.next_end

    @property
    def held_rows(self) -> int | None:
        return self._state.held_rows

    @property
    def nbytes(self) -> int:
        return int(self._state.nbytes) + sum(hosted.nbytes for hosted in self._hosted)


class _Cell:
    """One group's object in one span (None before it was given rows), and ``count`` rows that wait for it."""

    __slots__ = ("count", "state", "waiting")

    def __init__(self) -> None:
        self.state: Any = None
        self.waiting: list[NDArray[Any]] = []
        self.count = 0

    @property
    def nbytes(self) -> int:
        return CELL_BYTES + sum(column.nbytes for column in self.waiting)

    def wait(self, columns: Sequence[NDArray[Any]]) -> None:
        """Puts rows, fewer than make it full, behind those that wait."""
        upto = self.count + len(columns[0])
        room = len(self.waiting[0]) if self.waiting else 0
        if upto > room:
            room = min(max(upto, 2 * room), ROWS_AT_ONCE)
            longer = [np.empty(room, column.dtype) for column in columns]
            for new, old in zip(longer, self.waiting, strict=False):
                new[: self.count] = old[: self.count]
            self.waiting = longer
        for held, column in zip(self.waiting, columns, strict=True):
            held[self.count : upto] = column
        self.count = upto


class PythonAggregate:
    """One aggregate of a stage: its cells by span and group, and all calls of the user's class.  What that raises is a StageError."""

    def __init__(self, spec: AggregateSpec) -> None:
        assert spec.python is not None
        self._spec, self._class = spec, spec.python
        self._nulls = declared(spec.python).nulls
        self._spans: dict[Span, dict[int, _Cell]] = {}
        self._order: list[Span] = []  # the spans, ascending
        self.nbytes = 0

    # -- rows in -----------------------------------------------------------------------------------------------------

    def add(
        self,
        groups: Int32Array,
        spans: tuple[Int64Array, Int64Array] | None,
        inputs: Sequence[Raw],
        masks: Sequence[BoolArray],
        merges: tuple[Int64Array, Int32Array, Int32Array] | None,
    ) -> None:
        """Takes the rows of a batch that are not late; ``spans``: from which window to which each counts."""
        raws = [inputs[position] for position in self._spec.inputs]
        taken = np.ones(len(groups), np.bool_) if spans is None else spans[0] <= spans[1]
        if self._spec.mask is not None:
            taken &= masks[self._spec.mask]
        for valid in (raw[-1] for raw in raws if raw[-1] is not None and not self._nulls):
            taken &= valid
        rows = np.flatnonzero(taken)
        columns = [array_of(raw, type_, rows) for raw, type_ in zip(raws, self._spec.types, strict=True)]
        if self._nulls:  # a mask beside each array
            columns += [np.zeros(len(rows), np.bool_) if raw[-1] is None else ~raw[-1][rows] for raw in raws]
        groups = groups[rows]
        lows, highs = (None, None) if spans is None else (spans[0][rows], spans[1][rows])
        begin = 0
        for at, into, source in () if merges is None else zip(*(p.tolist() for p in merges), strict=True):
            stop = int(np.searchsorted(rows, at))
            self._feed(groups[begin:stop], None, None, [column[begin:stop] for column in columns])
            self.merge(into, source)
            begin = stop
        self._feed(groups[begin:], lows, highs, [column[begin:] for column in columns])

    def _feed(
        self,
        groups: Int32Array,
        lows: Int64Array | None,
        highs: Int64Array | None,
        columns: Sequence[NDArray[Any]],
    ) -> None:
        """Gives rows, in order, to the cells of their groups and spans."""
        if not len(groups):
            return
        if lows is None or highs is None:
            order = np.argsort(groups, kind="stable")
            groups = groups[order]
            changes = groups[1:] != groups[:-1]
        else:
            order = np.lexsort((groups, highs, lows))
            groups, lows, highs = groups[order], lows[order], highs[order]
            changes = (groups[1:] != groups[:-1]) | (lows[1:] != lows[:-1]) | (highs[1:] != highs[:-1])
        columns = [column[order] for column in columns]
        cuts = [0, *(np.flatnonzero(changes) + 1).tolist(), len(groups)]
        for begin, stop in pairwise(cuts):
            span = ONE if lows is None or highs is None else (int(lows[begin]), int(highs[begin]))
            cells, group = self._cells(span), int(groups[begin])
            cell = cells.get(group)
            if cell is None:
                cell = cells[group] = _Cell()
                self.nbytes += cell.nbytes
            while cell.count + stop - begin >= ROWS_AT_ONCE:
                cut = begin + ROWS_AT_ONCE - cell.count
                self._fill(cell, [column[begin:cut] for column in columns])
                begin = cut
            if begin < stop:
                self._wait(cell, [column[begin:stop] for column in columns])

    def _fill(self, cell: _Cell, columns: Sequence[NDArray[Any]]) -> None:
        """Gives the object the rows that wait and these, which make it full."""
        if not cell.count:
            self._update(cell, columns)
        else:
            self._wait(cell, columns)
            self._settle(cell)

    def _wait(self, cell: _Cell, columns: Sequence[NDArray[Any]]) -> None:
        before = cell.nbytes
        cell.wait(columns)
        self.nbytes += cell.nbytes - before

    def _settle(self, cell: _Cell) -> Any:
        """The cell's object, given all of its rows."""
        if cell.count:
            columns = [column[: cell.count] for column in cell.waiting]
            self.nbytes -= cell.nbytes - CELL_BYTES
            cell.waiting, cell.count = [], 0
            self._update(cell, columns)
        return cell.state

    # -- windows out -------------------------------------------------------------------------------------------------

    def window(self, number: int, groups: Sequence[int]) -> list[Any]:
        """The results of these groups in a window; of one without rows, an empty object's."""
        spans = [self._spans[span] for span in self._begun(number) if number <= span[1]]
        results = []
        for group in groups:
            parts = [self._settle(cells[group]) for cells in spans if group in cells]
            state = parts[0] if len(parts) == 1 else self._new()
            for part in parts if len(parts) > 1 else ():
                self._merge(state, part)
            results.append(self._finish(state))
        return results

    def column(self, values: Sequence[Any]) -> Raw:
        assert self._spec.returns is not None
        return raw_column(column_from_values(self._spec.returns, values))

    def drop(self, number: int | None) -> None:
        """Forgets what counts in no window after this one."""
        if number is None:
            return
        begun = self._begun(number)
        kept = [span for span in begun if span[1] > number]
        for span in begun:
            if span[1] <= number:
                self._lose(self._spans.pop(span).values())
        if len(kept) < len(begun):
            self._order[: len(begun)] = kept

    def _begun(self, number: int) -> list[Span]:
        """The spans that begin at this window or before."""
        return self._order[: bisect_left(self._order, (number + 1,))]

    def _cells(self, span: Span) -> dict[int, _Cell]:
        cells = self._spans.get(span)
        if cells is None:
            cells = self._spans[span] = {}
            insort(self._order, span)
        return cells

    def merge(self, into: int, source: int) -> None:
        cells = self._cells(ONE)
        if into == source or (gone := cells.pop(source, None)) is None:
            return
        cell = cells.setdefault(into, gone)
        if cell is not gone:
            self._merge(self._settle(cell), self._settle(gone))
            self._lose([gone])

    def clear(self, slots: Sequence[int]) -> None:
        cells = self._cells(ONE)
        self._lose([cells.pop(slot) for slot in slots if slot in cells])

    def rename(self, names: Mapping[int, int]) -> None:
        for span, cells in self._spans.items():
            self._lose(cell for group, cell in cells.items() if group not in names)
            self._spans[span] = {names[group]: cell for group, cell in cells.items() if group in names}

    def _lose(self, cells: Iterable[_Cell]) -> None:
        """These are held no longer."""
        self.nbytes -= sum(cell.nbytes for cell in cells)

    # -- the user's class --------------------------------------------------------------------------------------------

    def _new(self) -> Any:
        try:
            return self._class()
        except BaseException as error:
            self._blame("__init__", error)

    def _update(self, cell: _Cell, columns: Sequence[NDArray[Any]]) -> None:
        if cell.state is None:
            cell.state = self._new()
        if self._nulls:
            half = len(columns) // 2
            columns = [
                np.ma.masked_array(values, mask)
                for values, mask in zip(columns[:half], columns[half:], strict=True)
            ]
        try:
            cell.state.update(*columns)
        except BaseException as error:
            self._blame("update", error)

    def _merge(self, state: Any, other: Any) -> None:
        try:
            state.merge(other)
        except BaseException as error:
            self._blame("merge", error)

    def _finish(self, state: Any) -> Any:
        try:
            value = state.finish()
        except BaseException as error:
            self._blame("finish", error)
        assert self._spec.returns is not None
        try:
            return checked_value(value, self._spec.returns)
        except ValueError as error:
            raise StageError(f"{self._label}: finish gave {error}") from None

    @property
    def _label(self) -> str:
        return f"the aggregate {self._spec.function} ({qualified(self._class)})"

    def _blame(self, method: str, error: BaseException) -> NoReturn:
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise error
        raise StageError.of(error, doing=f"{self._label}: {method} raised ") from error
