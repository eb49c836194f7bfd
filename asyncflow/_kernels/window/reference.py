"""Window state, plain: rows into panes, panes into windows.  The twin of ``window.pyx`` and the definition of its results.

Windows ``[offset + k every, offset + k every + size)`` are cut into panes so that every window is a whole number of them: one pane
for each ``every`` where ``every`` divides ``size``, else two.  With E panes to a step and S to a window, window k is the panes
``k E .. k E + S - 1``.  A row goes into its pane; a row that came too late for some of its windows goes into a sub-pane
``(pane, first window it may count in)``.

What a window holds is merged from cells (one per pane and group) in an order that depends on the data alone.  Panes are in blocks
of S by their absolute number; a window is the end of one block and the beginning of the next::

    window k = (p1 + (p2 + (p3 + ...)))  +  (((q1 + q2) + q3) + ...)  +  its sub-panes, by pane, then by first window

A merge with a missing cell changes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from functools import reduce
from itertools import islice, pairwise
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from asyncflow._kernels.accumulators.reference import Cell, Overflow, lists_column
from asyncflow._kernels.accumulators.saved import Loading, check
from asyncflow._kernels.accumulators.table import BLOCK, PANE, Aggregate, cell_dtype, laid_out
from asyncflow._kernels.base.saved import Array, Parts
from asyncflow._kernels.columns.raw import RawColumn
from asyncflow._kernels.groups.reference import column_of, values_of
from asyncflow._kernels.window.saved import (
    MOST_ROWS,
    Fields,
    Plain,
    checked_parts,
    fields_of,
    pane_record,
    wide,
)

NO_TIME, END_OF_TIME = -(2**63), 2**63 - 1
Merges: TypeAlias = tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.int32]]
Closed: TypeAlias = tuple[Any, Any, Any, list[RawColumn], int]
Rows: TypeAlias = tuple[Any, Any, Any, list[RawColumn], int]


Groups: TypeAlias = dict[int, Cell]


def mark(flags: NDArray[np.bool_], places: NDArray[np.int32]) -> None:
    """Sets the flags at these places."""
    flags[places] = True


def marked(flags: NDArray[np.bool_], count: int) -> NDArray[np.int32]:
    """The places below ``count`` whose flags are set, ascending."""
    return np.flatnonzero(flags[:count]).astype(np.int32)


class WindowState:
    """Open windows and what they hold.  ``size_ns`` None: one window over everything that came since the last ``close``
    at the end of time; no row is ever late for it, and its groups may be used as slots: read with ``peek``, folded together with
    ``merge``, emptied with ``clear``."""

    def __init__(
        self, size_ns: int | None, every_ns: int, offset_ns: int, aggregates: Sequence[Aggregate]
    ) -> None:
        self._aggregates = tuple(aggregates)
        self._accumulators, self._outputs = laid_out(self._aggregates)
        self._sized = size_ns is not None
        self._size, self._every = size_ns or 1, every_ns if size_ns else 1
        self._offset = offset_ns % self._every
        self._tail = self._size % self._every
        self._step = 2 if self._tail else 1
        self._span = self._size // self._every * self._step + (1 if self._tail else 0)
        self._panes: dict[int, Groups] = {}
        self._sub_panes: dict[tuple[int, int], Groups] = {}
        self._advanced = NO_TIME
        self._arrivals = 0
        self._places: list[int] | None = None
        self._pending: list[tuple[int, int, Cell]] = []
        self._last: int | None = None
        self._flipped: int | None = None
        self._frozen: Parts | None = None
        self._sent: tuple[list[tuple[int, int, int]], list[list[Any]], int] | None = None
        self.windows_closed = 0

    # -- rows in -----------------------------------------------------------------------------------------------------

    def add(
        self,
        groups: NDArray[np.int32],
        group_count: int,
        time: NDArray[np.int64] | None,
        watermarks: NDArray[np.int64] | None,
        watermark_before: int,
        delay_ns: int,
        inputs: Sequence[RawColumn],
        masks: Sequence[NDArray[np.bool_]],
        merges: Merges | None = None,
    ) -> tuple[NDArray[np.intp], int]:
        """Takes rows in order.  Gives back the positions of those late for all their windows, and how many were late for some.

        ``merges``, of slots: ``(rows, into, source)``, before row ``rows[i]`` (ascending) ``source[i]`` is folded into ``into[i]``."""
        kinds = {
            i: kind for _, ins, types, *_ in self._aggregates for i, kind in zip(ins, types, strict=True)
        }
        columns = {i: values_of(kind, inputs[i]) for i, kind in kinds.items()}
        selected = [mask.tolist() for mask in masks]
        times = [0] * len(groups) if time is None else time.tolist()
        pairs = [] if merges is None else list(zip(*(part.tolist() for part in merges), strict=True))[::-1]
        running, late, partly = watermark_before, [], 0
        before, places, self._places = self._arrivals, self._places, None
        self._arrivals += len(groups)
        for row, (group, t) in enumerate(zip(groups.tolist(), times, strict=True)):
            while pairs and pairs[-1][0] <= row:
                self._merge_slots(*pairs.pop()[1:])
            watermark = running if watermarks is None else int(watermarks[row])
            running = max(running, t - delay_ns)
            pane = self._pane_of(t)
            first, last = self._windows_of(pane)
            open_from = self._first_open(max(watermark, self._advanced)) if self._sized else -math.inf
            first_open = max(first, open_from)
            arrival = before + (row if places is None else places[row])
            if first_open > last:
                late.append(row)
                continue
            if first_open > first:
                partly += 1
                home = self._sub_panes.setdefault((pane, int(first_open)), {})
            else:
                home = self._panes.setdefault(pane, {})
            cell = home.get(group) or home.setdefault(group, Cell(self._accumulators))
            cell.rows += 1
            for part, what in zip(cell.parts, self._accumulators, strict=True):
                values = tuple(columns[i][row] for i in (what.input, what.second) if i >= 0)
                if None not in values and (what.mask < 0 or selected[what.mask][row]):
                    part.add(values, t, arrival)
        while pairs:
            self._merge_slots(*pairs.pop()[1:])
        return np.array(late, np.intp), partly

    def number(self, before: int, places: NDArray[np.int32]) -> None:
        """The rows of the next ``add`` stand at these places (int32) of a batch before which so many rows came: of equal rows the order in
        which they came decides, and in saved states they have these numbers.  For states that share the rows of a stage."""
        self._arrivals, self._places = before, places.tolist()

    def absorb(
        self, other: Any, groups: NDArray[np.int32], group_count: int, watermark_before: int
    ) -> int | None:
        """Takes the rows of ``other``, a state of the same shape and aggregates, as if they came now, and gives how many.  Its group g is
        ``groups[g]`` here; where that is below 0, those rows are left out.  None: a row of ``other`` is late for one of its windows, where
        ``watermark_before`` is before the first row, and nothing has changed.  ValueError where rows cannot be added up apart, or windows
        were given out."""
        alike = self._shape == other._shape and self._accumulators == other._accumulators
        if other is self or not alike or not all(what.apart for what in self._accumulators):
            raise ValueError("a state of another shape, or of aggregates that are not added up apart")
        if other.windows_closed or self._pending:
            raise ValueError("a state that gives windows out")
        open_from = self._first_open(max(watermark_before, self._advanced)) if self._sized else -math.inf
        if other._sub_panes or any(self._windows_of(pane)[0] < open_from for pane in other._panes):
            return None
        names, self._places, taken = groups.tolist(), None, 0
        for pane, cells in other._panes.items():
            for group, cell in cells.items():
                if names[group] >= 0:
                    shifted = _copy(cell)
                    shifted.came_after(self._arrivals)
                    home = self._panes.setdefault(pane, {})
                    home.setdefault(names[group], Cell(self._accumulators)).merge(shifted)
                    taken += cell.rows
        self._arrivals += other._arrivals
        return taken

    def _pane_of(self, time: int) -> int:
        if not self._sized:
            return 0
        step, within = divmod(time - self._offset, self._every)
        return step * self._step + (1 if self._tail and within >= self._tail else 0)

    def _windows_of(self, pane: int) -> tuple[int, int]:
        return -((self._span - 1 - pane) // self._step), pane // self._step

    def _first_open(self, watermark: int) -> float:
        """The first window that this watermark leaves open."""
        if watermark == END_OF_TIME:
            return math.inf
        if not self._sized:
            return -math.inf
        return (watermark - self._offset - self._size) // self._every + 1

    # -- windows out -------------------------------------------------------------------------------------------------

    def ready(self, watermark_ns: int) -> bool:
        """Takes note of the watermark; whether ``close`` has anything to give for it."""
        following, open_after = self._next_window(), self._open_after(watermark_ns)
        return bool(self._pending) or (following is not None and following < open_after)

    def _open_after(self, watermark_ns: int) -> float:
        if not self._sized:
            return self._first_open(watermark_ns)
        self._advanced = max(self._advanced, watermark_ns)
        return self._first_open(self._advanced)

    def close(
        self, watermark_ns: int, order: NDArray[np.int32], max_rows: int, max_bytes: int = END_OF_TIME
    ) -> Closed | None:
        """The next rows, at most ``max_rows``, of windows that end at or before the watermark: ``(starts, ends, groups, results,
        overflows)``, or None when there are no more.  ``order``: all group ids by key.  Bounds are clamped to int64.  There are no more
        rows after one with which the results' texts come to ``max_bytes`` (a list: six times those of its texts, and 40 an item)."""
        if self._sent is not None:
            raise RuntimeError("a window given out while rows that were sent are not taken")
        while len(self._pending) < max_rows and self.ready(watermark_ns):
            window = self._next_window()
            if window is None or window >= self._open_after(watermark_ns):
                break
            merged = self._window(window)
            self._pending += [(window, group, merged[group]) for group in order.tolist() if group in merged]
            self.windows_closed += 1
            self._last = window if self._sized else None
            self._panes = {p: cells for p, cells in self._panes.items() if p // self._step > window}
            self._sub_panes = {
                (p, f): cells for (p, f), cells in self._sub_panes.items() if p // self._step > window
            }
        if not self._pending:
            return None
        most = min(max_rows, self._within([cell for _, _, cell in self._pending[:max_rows]], max_bytes))
        rows, self._pending = self._pending[:most], self._pending[most:]
        starts = [self._offset + window * self._every for window, _, _ in rows]
        results, overflows = self._results([cell for _, _, cell in rows])
        return (
            np.array([_clamp(start) for start in starts], np.int64),
            np.array([_clamp(start + self._size) for start in starts], np.int64),
            np.array([group for _, group, _ in rows], np.int32),
            results,
            overflows,
        )

    def _within(self, cells: Sequence[Cell], max_bytes: int) -> int:
        """How many of these there are up to one with which their texts come to so many bytes."""
        total = 0
        for count, cell in enumerate(cells, 1):
            for output in self._outputs:
                lists = output.result == "MOST_FREQUENT"
                if lists or output.kind == "string":
                    total += _text_bytes(cell.result(output), lists=lists)
            if total >= max_bytes:
                return count
        return len(cells)

    def _results(self, cells: Sequence[Cell]) -> tuple[list[RawColumn], int]:
        values, overflows = self._values(cells)
        return self._columns(values), overflows

    def _values(self, cells: Sequence[Cell]) -> tuple[list[list[Any]], int]:
        """Each aggregate's results."""
        overflows = 0
        results: list[list[Any]] = [[] for _ in self._outputs]
        for output, values in zip(self._outputs, results, strict=True):
            for cell in cells:
                try:
                    values.append(cell.result(output))
                except Overflow:
                    values.append(None)
                    overflows += 1
        return results, overflows

    def _columns(self, results: Sequence[list[Any]]) -> list[RawColumn]:
        return [
            lists_column(output.kind, values)
            if output.result == "MOST_FREQUENT"
            else column_of(output.kind, values)
            for output, values in zip(self._outputs, results, strict=True)
        ]

    def _spans(self) -> list[tuple[int, int]]:
        """First and last window of every pane and sub-pane that are still to come."""
        spans = [self._windows_of(pane) for pane in self._panes]
        spans += [(first, pane // self._step) for pane, first in self._sub_panes]
        least = None if self._last is None else self._last + 1
        return sorted((a if least is None else max(a, least), b) for a, b in spans)

    def _next_window(self) -> int | None:
        spans = self._spans()
        return spans[0][0] if spans else None

    def _window(self, window: int) -> Groups:
        begin = window * self._step
        end = begin + self._span
        cut = self._cut(window)
        if (
            self._flipped != cut
        ):  # from now on each pane of the block holds all that come after it in the block, too
            self._flip([p for p in sorted(self._panes) if begin <= p < cut])
            self._flipped = cut
        base = {p: cells for p, cells in sorted(self._panes.items()) if begin <= p < end}
        tail = [cells for p, cells in base.items() if p < cut][:1]
        head = self._fold([cells for p, cells in base.items() if p >= cut])
        late = [
            cells for (p, f), cells in sorted(self._sub_panes.items()) if begin <= p < end and f <= window
        ]
        return self._fold([*tail, head, *late])

    def _cut(self, window: int) -> int:
        """Where the block of the window's first pane ends."""
        return (window * self._step // self._span + 1) * self._span

    def _flip(self, panes: Sequence[int]) -> None:
        for pane, after in reversed(list(pairwise(panes))):
            self._panes[pane] = _merge(self._panes[pane], self._panes[after])

    def _fold(self, panes: Iterable[Groups]) -> Groups:
        return reduce(_merge, panes, {})

    # -- slots -------------------------------------------------------------------------------------------------------

    def peek(self, slots: NDArray[np.int32], max_bytes: int = END_OF_TIME) -> tuple[list[RawColumn], int]:
        """What these slots hold, in the order given: ``(results, overflows)``; nothing changes.  An empty slot holds no rows.  Of the first
        slots only, up to one with which the results' texts come to ``max_bytes``, as for ``close``."""
        if self._sent is not None:
            raise RuntimeError("slots read while rows that were sent are not taken")
        cells = self._cells(slots)
        return self._results(cells[: self._within(cells, max_bytes)])

    def _cells(self, slots: NDArray[np.int32]) -> list[Cell]:
        held = self._panes.get(0, {})
        return [held.get(slot) or Cell(self._accumulators) for slot in slots.tolist()]

    def send(
        self,
        slots: NDArray[np.int32],
        windows: NDArray[np.int64],
        keys: NDArray[np.int32],
        revisions: NDArray[np.int64],
        changed: NDArray[np.bool_],
    ) -> None:
        """Takes down a row of each of these slots, in the order given, for ``sent``.  By slot: its window, its key, how often it was
        sent, which counts on, and whether it changed since then, which is no longer so."""
        if self._sent is None:
            self._sent = [], [[] for _ in self._aggregates], 0
        rows, results, overflows = self._sent
        values, more = self._values(self._cells(slots))
        for result, some in zip(results, values, strict=True):
            result += some
        self._sent = rows, results, overflows + more
        for slot in slots.tolist():
            rows.append((int(windows[slot]), int(keys[slot]), int(revisions[slot])))
            revisions[slot] += 1
            changed[slot] = False

    def sent(self) -> Rows:
        """The rows taken down since the last call: ``(windows, keys, revisions, results, overflows)``."""
        rows, results, overflows = self._sent or ([], [[] for _ in self._aggregates], 0)
        self._sent = None
        windows, keys, revisions = (np.array([row[i] for row in rows], np.int64) for i in range(3))
        return windows, keys.astype(np.int32), revisions, self._columns(results), overflows

    def merge(self, into: NDArray[np.int32], source: NDArray[np.int32]) -> None:
        """Folds slot ``source[i]`` into slot ``into[i]``, pair after pair; the source is empty then.  Into itself: nothing changes."""
        for target, slot in zip(into.tolist(), source.tolist(), strict=True):
            self._merge_slots(target, slot)

    def _merge_slots(self, into: int, source: int) -> None:
        held = self._panes.get(0, {})
        if into != source and source in held:
            cell = held.pop(source)
            if into in held:
                held[into].merge(cell)
            else:
                held[into] = cell

    def clear(self, slots: NDArray[np.int32]) -> None:
        """Empties slots: their ids can be used again."""
        for slot in slots.tolist():
            self._panes.get(0, {}).pop(slot, None)

    # -- saved -------------------------------------------------------------------------------------------------------

    def freeze(self, rank: NDArray[np.int32]) -> dict[str, Plain]:
        """Copies what is held for ``pieces``, and gives the fields.  ``rank``: of each group its place among the saved ones, below 0 for
        one without rows.  ValueError where a group with rows has none."""
        if self._pending or self._sent is not None:
            raise RuntimeError("a state is not frozen while rows of it are given out")
        ranks = dict(enumerate(rank.tolist()))
        homes = {(pane, self._windows_of(pane)[0]): cells for pane, cells in self._panes.items()}
        panes: list[tuple[int, ...]] = []
        cells: list[tuple[Any, ...]] = []
        blocks: list[tuple[int, int, int, int]] = []
        data = b""
        for (number, first), held in sorted({**homes, **self._sub_panes}.items()):
            if any(ranks.get(group, -1) < 0 for group in held):
                raise ValueError("rank: a group that holds rows has no place")
            if held:
                panes.append(pane_record(number, first, len(held)))
            for group in sorted(held, key=ranks.__getitem__):
                words, its_blocks = held[group].save(ranks[group])
                blocks += [(len(cells), position, kind, len(some)) for position, kind, some in its_blocks]
                data += b"".join(some for *_, some in its_blocks)
                cells.append(words)
        self._frozen = Parts(
            {
                "panes": np.array(panes, PANE),
                "cells": np.array(cells, cell_dtype(self._accumulators)),
                "blocks": np.array(blocks, BLOCK),
                "block_bytes": np.frombuffer(data, np.uint8),
            }
        )
        return fields_of(
            self._shape,
            self._accumulators,
            advanced=self._advanced,
            arrivals=self._arrivals,
            windows_closed=self.windows_closed,
            closed=self._last,
        )

    @property
    def _shape(self) -> list[int]:
        return [self._size, self._every, self._offset] if self._sized else [0, 1, 0]

    def pieces(self, budget: int) -> list[tuple[str, Array]] | None:
        """The next pieces of what was frozen, about ``budget`` bytes; None: all were given."""
        return None if self._frozen is None else self._frozen.pieces(budget)

    def drop(self) -> None:
        """What was frozen is not asked for any more."""
        self._frozen = None

    def load(self, fields: Mapping[str, Plain], parts: Mapping[str, Array]) -> None:
        """Takes what a state of the same shape and aggregates saved; groups are called by their places.  ValueError: it does not fit, and
        the state is as before; it must be empty."""
        if self._arrivals or self._panes or self._sub_panes:
            raise RuntimeError("a state is loaded before its first row")
        said = Fields(fields, self._shape, self._accumulators)
        panes, cells, blocks, data = checked_parts(parts, self._accumulators)
        check(said.closed is None or self._possible_window(said.closed), "closed: no window")
        loading = Loading(blocks.tolist(), data.tobytes(), said.arrivals)
        records = iter(cells.tolist())
        homes: dict[tuple[int, int], Groups] = {}
        check(sum(pane[-1] for pane in panes.tolist()) == len(cells), "cells: not those of the panes")
        for number_high, number_low, first_high, first_low, count in panes.tolist():
            number, first = wide(number_high, number_low), wide(first_high, first_low)
            check(self._possible_pane(number) and count >= 1, "panes: no pane of any time")
            low, high = self._windows_of(number)
            check(
                low <= first <= high and (said.closed is None or high > said.closed),
                "panes: no window needs one",
            )
            check(not homes or (number, first) > max(homes), "panes: not in order")
            home = homes[number, first] = {}
            for group, loading.rows, *words in islice(records, count):
                check(max(home, default=-1) < group < 2**31 - 1, "cells: groups that are not in order")
                check(1 <= loading.rows <= MOST_ROWS, "cells: a number of rows")
                loading.words = iter(words)
                cell = home[group] = Cell(self._accumulators)
                cell.load(loading)
                loading.cell += 1
        loading.finish()
        for (number, first), home in homes.items():
            if first == self._windows_of(number)[0]:
                self._panes[number] = home
            else:
                self._sub_panes[number, first] = home
        self._advanced, self._arrivals = said.advanced, said.arrivals
        self._last, self.windows_closed = said.closed, said.windows_closed
        self._flipped = None if said.closed is None else self._cut(said.closed)

    def _possible_pane(self, number: int) -> bool:
        """Whether it is the pane of some time."""
        least, most = self._pane_of(NO_TIME), self._pane_of(END_OF_TIME)
        return least // self._step * self._step <= number <= most // self._step * self._step + self._step - 1

    def _possible_window(self, window: int) -> bool:
        least, most = self._pane_of(NO_TIME), self._pane_of(END_OF_TIME)
        return self._sized and self._windows_of(least)[0] - 1 <= window <= self._windows_of(most)[1] + 1

    # -- what is held ------------------------------------------------------------------------------------------------

    @property
    def open_windows(self) -> int:
        """How many windows hold a row and are not closed."""
        count, upto = 0, -math.inf
        for first, last in self._spans():
            count += int(max(0, last - max(first - 1, upto)))
            upto = max(upto, last)
        return count

    def open_spans(self) -> list[tuple[int, int]]:
        """The windows that hold a row and are not closed, by number, as spans from a first to a last one, ascending."""
        spans: list[tuple[int, int]] = []
        for first, last in self._spans():
            if spans and first <= spans[-1][1] + 1:
                spans[-1] = spans[-1][0], max(last, spans[-1][1])
            elif first <= last:
                spans.append((first, last))
        return spans

    @property
    def closed_window(self) -> int | None:
        """The last window that was closed, by number; None for none."""
        return self._last

    def pass_window(self, window: int) -> None:
        """The windows up to this one, by number, are closed; ValueError where one of them holds a row.  For states that share the groups
        of a stage: the windows that one of them closes are closed for all, and they are saved as one state."""
        spans = self.open_spans()
        if self._pending or not self._sized or (spans and spans[0][0] <= window):
            raise ValueError("a window that holds a row is not passed")
        if spans and (self._last is None or self._last < window):
            begin, cut = window * self._step, self._cut(window)
            if self._flipped != cut:
                self._flip([pane for pane in sorted(self._panes) if begin <= pane < cut])
                self._flipped = cut
            self._last = window

    @property
    def next_end(self) -> int | None:
        """When the next window that holds a row ends, clamped to int64; None where there is none, or windows have no bounds."""
        window = self._next_window()
        if not self._sized or window is None:
            return None
        return _clamp(self._offset + window * self._every + self._size)

    @property
    def held_rows(self) -> int | None:
        """Rows of the open windows; None where windows overlap."""
        if self._sized and self._span != 1:
            return None
        return sum(cell.rows for cells in self._homes() for cell in cells.values())

    @property
    def cell_count(self) -> int:
        """How many cells (a group's rows in a pane) are held."""
        return sum(map(len, self._homes()))

    @property
    def nbytes(self) -> int:
        return sum(64 * len(self._aggregates) * len(cells) for cells in self._homes())

    def _homes(self) -> list[Groups]:
        return [*self._panes.values(), *self._sub_panes.values()]

    def live_groups(self, group_count: int) -> NDArray[np.int32]:
        """The groups (ascending) that some open window holds."""
        live = {group for cells in self._homes() for group in cells}
        return np.array(sorted(live | {group for _, group, _ in self._pending}), np.int32)

    def keep(self, groups: NDArray[np.int32]) -> None:
        """Renames groups: ``groups[i]`` becomes i.  Every live group is among them (ascending)."""
        new = {group: i for i, group in enumerate(groups.tolist())}
        self._panes = {p: {new[g]: cell for g, cell in cells.items()} for p, cells in self._panes.items()}
        self._sub_panes = {k: {new[g]: c for g, c in cells.items()} for k, cells in self._sub_panes.items()}
        self._pending = [(window, new[group], cell) for window, group, cell in self._pending]


def _merge(left: Groups, right: Groups) -> Groups:
    """The cells of both; the operands stay as they are."""
    merged = dict(left)
    for group, cell in right.items():
        if group in merged:
            merged[group] = _copy(merged[group])
            merged[group].merge(cell)
        else:
            merged[group] = cell
    return merged


def _copy(cell: Cell) -> Cell:
    copied = Cell(())
    copied.rows = cell.rows
    for part in cell.parts:
        twin = object.__new__(type(part))
        twin.__dict__.update({name: copy(value) for name, value in part.__dict__.items()})
        copied.parts.append(twin)
    return copied


def _text_bytes(result: Any, *, lists: bool) -> int:
    if result is None:
        return 0
    if not lists:
        return len(result)
    return sum(40 + (6 * len(value) if isinstance(value, bytes) else 0) for value, _ in result)


def _clamp(time: int) -> int:
    return min(max(time, NO_TIME), END_OF_TIME)
