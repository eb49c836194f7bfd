"""The cells of one aggregate written in Python: the objects of a user's class, by span of windows and group, and all calls of it.

A *cell* is an object and the rows that it was not given yet.  A span is the windows from ``low`` to ``high`` in which a row counts, less
those that the watermark before the row had closed; a window's result is merged of the cells whose spans it lies in, in the order of spans.

Invariants: an object gets its rows in the order of arrival, always ``ROWS_AT_ONCE`` at a time and the rest when it is read or merged, so
what it holds does not depend on where batches are cut, or on when it was saved; cells leave with their windows.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, NoReturn, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from asyncflow._kernels.columns.raw import RawColumn
from asyncflow.errors import StageError
from asyncflow.model.aggregate import ROWS_AT_ONCE, declared, qualified
from asyncflow.model.columns import BoolArray, Int32Array, Int64Array, column_from_values
from asyncflow.model.schema import DataType
from asyncflow.model.snapshot import Array
from asyncflow.operators.aggregates.python_values import array_of, checked_value
from asyncflow.operators.aggregates.saved_objects import loaded_object, saved_object
from asyncflow.operators.aggregates.table import AggregateSpec
from asyncflow.operators.raw import raw_column

Span: TypeAlias = tuple[int, int]

ONE: Span = (0, 0)
CELL_BYTES = 512
"""What a cell and its object take, about: how much a user's object really holds is not known."""

_SAVED = np.dtype([("low", "<i8"), ("high", "<i8"), ("group", "<i8"), ("waiting", "<i8"), ("object", "<i8")])
"""A saved cell: its span, its group's place among the saved groups, how many rows wait, and the bytes of its object (-1: it has none)."""


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
        inputs: Sequence[RawColumn],
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

    def column(self, values: Sequence[Any]) -> RawColumn:
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

    # -- saved -------------------------------------------------------------------------------------------------------

    def freeze(self, ranks: Int32Array) -> dict[str, Array]:
        """The cells, by span and rank of their group, their objects, and the columns of the rows that wait."""
        self._saved(self._new())  # a class that cannot be saved is found before its first row
        cells, objects = [], []
        waiting: list[list[NDArray[Any]]] = [[] for _ in self._dtypes()]
        for low, high in self._order:
            held = self._spans[low, high]
            for group in sorted(held, key=ranks.__getitem__):
                cell = held[group]
                data = None if cell.state is None else self._saved(cell.state)
                cells.append((low, high, ranks[group], cell.count, -1 if data is None else len(data)))
                objects.append(data or b"")
                for column, held_column in zip(waiting, cell.waiting, strict=False):
                    column.append(held_column[: cell.count])
        parts: dict[str, Array] = {"cells": np.array(cells, _SAVED), "objects": _bytes(b"".join(objects))}
        for position, (dtype, columns) in enumerate(zip(self._dtypes(), waiting, strict=True)):
            whole = np.concatenate([np.empty(0, dtype), *columns])
            parts[f"waiting{position}"] = (
                _bytes(msgspec.msgpack.encode(whole.tolist())) if dtype.kind == "O" else _storable(whole)
            )
        return parts

    def load(self, parts: Mapping[str, Array]) -> None:
        """Takes over what an aggregate of the same arguments froze.  ValueError: it does not fit."""
        cells = _part(parts, "cells", _SAVED)
        objects = _part(parts, "objects", np.dtype(np.uint8)).tobytes()
        rows = int(cells["waiting"].sum())
        columns = [
            self._column(parts, position, dtype, rows) for position, dtype in enumerate(self._dtypes())
        ]
        begin = row = 0
        before: tuple[int, ...] = ()
        for low, high, group, count, size in cells.tolist():
            if low > high or not 0 <= group < 2**31 or (low, high, group) <= before:
                raise ValueError("cells: not in order")
            if not 0 <= count < ROWS_AT_ONCE or size < -1 or begin + size > len(objects):
                raise ValueError("cells: a number of rows or bytes")
            cell = self._cells((low, high))[group] = _Cell()
            if size >= 0:
                cell.state = loaded_object(self._class, objects[begin : begin + size], self._label)
            if count:
                cell.wait([column[row : row + count] for column in columns])
            self.nbytes += cell.nbytes
            begin, row, before = begin + max(size, 0), row + count, (low, high, group)
        if begin != len(objects):
            raise ValueError("objects: more than the cells have")

    @property
    def described(self) -> str:
        """What it takes and gives, as a saved state says it, with the version of the objects."""
        assert self._spec.returns is not None
        types = ", ".join(type_.value for type_ in self._spec.types)
        version = getattr(self._class, "state_version", 0)
        return f"{self._spec.function}({types}) -> {self._spec.returns.value}, version {version}, nulls {self._nulls}"

    def _dtypes(self) -> list[np.dtype[Any]]:
        """Of the columns that an object is given."""
        columns = [_DTYPES[type_] for type_ in self._spec.types]
        return columns + [np.dtype(np.bool_)] * (len(columns) if self._nulls else 0)

    def _column(
        self, parts: Mapping[str, Array], position: int, dtype: np.dtype[Any], rows: int
    ) -> NDArray[Any]:
        name = f"waiting{position}"
        if dtype.kind != "O":
            values = _part(parts, name, dtype if dtype.kind != "M" else np.dtype(np.int64)).view(dtype)
        else:
            try:
                texts = msgspec.msgpack.decode(
                    _part(parts, name, np.dtype(np.uint8)).tobytes() or b"\x90", type=list[str | None]
                )
            except (msgspec.DecodeError, UnicodeDecodeError):
                raise ValueError(f"{name}: no texts") from None
            values = np.array([*texts, None], object)[:-1]
        if len(values) != rows:
            raise ValueError(f"{name}: {len(values)} values of {rows}")
        return values

    def _saved(self, state: Any) -> bytes:
        return saved_object(state, self._label)

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


_DTYPES: dict[DataType, np.dtype[Any]] = {
    DataType.BOOL: np.dtype(np.bool_),
    DataType.INT64: np.dtype(np.int64),
    DataType.FLOAT64: np.dtype(np.float64),
    DataType.TIMESTAMP: np.dtype("datetime64[ns]"),
    DataType.STRING: np.dtype(object),
}


def _bytes(data: bytes) -> Array:
    return np.frombuffer(data, np.uint8)


def _storable(column: NDArray[Any]) -> Array:
    return column.view(np.int64) if column.dtype.kind == "M" else column


def _part(parts: Mapping[str, Array], name: str, dtype: np.dtype[Any]) -> Array:
    """A part, which may be missing where it has no rows."""
    part = parts.get(name, np.empty(0, dtype))
    if part.dtype != dtype or part.ndim != 1:
        raise ValueError(f"{name}: an array of {dtype}, not of {part.dtype}")
    return part
