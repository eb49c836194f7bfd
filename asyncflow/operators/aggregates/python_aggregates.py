"""Aggregates written in Python beside those of the window kernel, behind the interface of the kernel's state.

A stage without Python aggregates has the kernel's ``WindowState`` itself.  With some, :class:`PythonWindowState` passes every call
on to the kernel, which decides what is late, which windows are open and what comes out.  The users' objects are in
``python_cells``, by group and span of windows.  Where there is one window, and for slots, the span is always 0 to 0.

Cost: per batch and aggregate a sort of the rows by group, and about a microsecond per cell in the batch; per window and group as
many merges as there are spans over the window (none for tumbling windows).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, Protocol, TypeAlias

import numpy as np

from asyncflow._kernels import window as window_kernel
from asyncflow._kernels.columns.raw import RawColumn
from asyncflow.model.batch import END_OF_TIME, NO_TIME, watermarks_of
from asyncflow.model.columns import BoolArray, IndexArray, Int32Array, Int64Array
from asyncflow.model.snapshot import Array, Plain, Saved
from asyncflow.operators.aggregates.table import AggregateSpec
from asyncflow.operators.bounds import WindowBounds, left_open
from asyncflow.operators.raw import rows_of_raw

Merges: TypeAlias = tuple[Int64Array, Int32Array, Int32Array]


class State(Protocol):
    """The state of a window stage: the kernel's (compiled or twin), or one with aggregates written in Python.

    Groups are numbers that the owner gives; a state of no size may be used by slots (``peek``, ``send``, ``merge``, ``clear``).
    What each method does is said at the kernel's twin, ``asyncflow/_kernels/window/reference.py``.
    """

    def add(
        self,
        groups: Int32Array,
        group_count: int,
        time: Int64Array | None,
        watermarks: Int64Array | None,
        watermark_before: int,
        delay_ns: int,
        inputs: Sequence[RawColumn],
        masks: Sequence[BoolArray],
        merges: Merges | None = None,
    ) -> tuple[IndexArray, int]: ...
    def number(self, before: int, places: Int32Array) -> None: ...
    def ready(self, watermark_ns: int) -> bool: ...
    def close(
        self, watermark_ns: int, order: Int32Array, max_rows: int, max_bytes: int = ...
    ) -> window_kernel.Closed | None: ...
    def peek(self, slots: Int32Array, max_bytes: int = ...) -> tuple[list[RawColumn], int]: ...
    def send(
        self,
        slots: Int32Array,
        windows: Int64Array,
        keys: Int32Array,
        revisions: Int64Array,
        changed: BoolArray,
    ) -> None: ...
    def sent(self) -> window_kernel.Rows: ...
    def merge(self, into: Int32Array, source: Int32Array) -> None: ...
    def clear(self, slots: Int32Array) -> None: ...
    def open_spans(self) -> list[tuple[int, int]]: ...
    def live_groups(self, group_count: int) -> Int32Array: ...
    def keep(self, groups: Int32Array) -> None: ...
    def freeze(self, rank: Int32Array) -> dict[str, Plain]: ...
    def pieces(self, budget: int) -> list[tuple[str, Array]] | None: ...
    def drop(self) -> None: ...
    def load(self, fields: Mapping[str, Any], parts: Mapping[str, Array]) -> None: ...
    @property
    def windows_closed(self) -> int: ...
    @property
    def open_windows(self) -> int: ...
    @property
    def next_end(self) -> int | None: ...
    @property
    def held_rows(self) -> int | None: ...
    @property
    def nbytes(self) -> int: ...


class PythonWindowState:
    """``WindowState`` with aggregates written in Python: the same methods with the same meaning.  ``lattice`` None: of no size."""

    def __init__(
        self,
        state: window_kernel.WindowState,
        aggregates: Sequence[AggregateSpec],
        lattice: WindowBounds | None,
    ) -> None:
        from asyncflow.operators.aggregates.python_cells import PythonAggregate  # most stages have none

        self._state = state
        self._lattice = lattice
        self._hosted = [PythonAggregate(spec) for spec in aggregates if spec.python is not None]
        self._is_python = [spec.python is not None for spec in aggregates]
        self._advanced = NO_TIME
        self._window: int | None = None
        self._sent: list[list[Any]] = [[] for _ in self._hosted]
        self._frozen: list[tuple[str, Array]] = []

    def add(
        self,
        groups: Int32Array,
        group_count: int,
        time: Int64Array | None,
        watermarks: Int64Array | None,
        watermark_before: int,
        delay_ns: int,
        inputs: Sequence[RawColumn],
        masks: Sequence[BoolArray],
        merges: Merges | None = None,
    ) -> tuple[IndexArray, int]:
        late, partly = self._state.add(
            groups, group_count, time, watermarks, watermark_before, delay_ns, inputs, masks, merges
        )
        spans = None
        if self._lattice is not None and time is not None:
            clock = watermarks_of(time, watermark_before, delay_ns) if watermarks is None else watermarks
            ended = self._lattice.ended(np.maximum(clock, self._advanced))
            spans = left_open(*self._lattice.of(time), ended)
        for hosted in self._hosted:
            hosted.add(groups, spans, inputs, masks, merges)
        return late, partly

    def number(self, before: int, places: Int32Array) -> None:
        self._state.number(before, places)

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
            self._window = None
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

    def _joined(self, results: Sequence[RawColumn], values: Sequence[list[Any]]) -> list[RawColumn]:
        """The kernel's results and ours in the order of the aggregates."""
        native = iter(results)
        ours = (hosted.column(found) for hosted, found in zip(self._hosted, values, strict=True))
        return [next(ours) if is_python else next(native) for is_python in self._is_python]

    # -- slots -------------------------------------------------------------------------------------------------------

    def peek(self, slots: Int32Array, max_bytes: int = END_OF_TIME) -> tuple[list[RawColumn], int]:
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

    # -- saved -------------------------------------------------------------------------------------------------------

    def freeze(self, rank: Int32Array) -> dict[str, Plain]:
        """As the kernel's.  StageError names the class and the attribute of an object that cannot be saved."""
        fields: dict[str, Plain] = {"kernel": self._state.freeze(rank), **self._own_fields()}
        self._frozen = [
            (f"python{position}.{name}", part)
            for position, hosted in enumerate(self._hosted)
            for name, part in hosted.freeze(rank).items()
            if len(part)
        ]
        return {**fields, "advanced": self._advanced}

    def _own_fields(self) -> dict[str, Plain]:
        return {"aggregates": [hosted.described for hosted in self._hosted]}

    def pieces(self, budget: int) -> list[tuple[str, Array]] | None:
        given = self._state.pieces(budget)
        if given is not None:
            return [(f"kernel.{name}", part) for name, part in given]
        return [self._frozen.pop(0)] if self._frozen else None

    def drop(self) -> None:
        self._state.drop()
        self._frozen = []

    def load(self, fields: Mapping[str, Any], parts: Mapping[str, Array]) -> None:
        saved = Saved(fields, parts)
        if fields.get("aggregates") != self._own_fields()["aggregates"]:
            raise ValueError(f"aggregates: the saved state is of {fields.get('aggregates')!r}")
        self._advanced = saved.integer("advanced", NO_TIME, END_OF_TIME)
        of_kernel = saved.within("kernel")
        self._state.load(of_kernel.fields, of_kernel.parts)
        for position, hosted in enumerate(self._hosted):
            begin = f"python{position}."
            of_hosted = {
                name.removeprefix(begin): part for name, part in parts.items() if name.startswith(begin)
            }
            try:
                hosted.load(of_hosted)
            except ValueError as error:
                raise ValueError(f"{begin}{error}") from None

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

    def open_spans(self) -> list[tuple[int, int]]:
        return self._state.open_spans()

    @property
    def next_end(self) -> int | None:
        return self._state.next_end

    @property
    def held_rows(self) -> int | None:
        return self._state.held_rows

    @property
    def nbytes(self) -> int:
        return int(self._state.nbytes) + sum(hosted.nbytes for hosted in self._hosted)
