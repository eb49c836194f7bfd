"""Windows of event time by number: which windows a row is in, which have ended, and where they start and end.

:class:`WindowBounds` is what operators ask of a window shape: this is the only window arithmetic in Python.  (The ``window`` kernel has its
own, in C; see its ``panes.h``.)

The ends of a shape's windows lie on a lattice, ``phase + k * every_ns``.  No two windows end at the same time, so the number ``k`` names a
window, and a row's windows are those from a first to a last ``k``.  Bounds are clamped to int64; the numbers fit into int64 where
``every_ns`` is more than a nanosecond.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from asyncflow.model.batch import END_OF_TIME, NO_TIME
from asyncflow.model.columns import Int64Array


class WindowBounds(Protocol):
    """The windows of one shape, by numbers that rise with their ends."""

    @property
    def most(self) -> int:
        """How many windows a row can be in."""

    @property
    def growing(self) -> bool:
        """Several windows begin at one time and end one after the other."""

    def of(self, times: Int64Array) -> tuple[Int64Array, Int64Array]:
        """The first and the last window of each row."""

    def ended(self, watermarks: Int64Array, lateness_ns: int = 0) -> Int64Array:
        """The last window that ended at least ``lateness_ns`` before each watermark."""

    def last(self, number: int) -> int:
        """The last window that begins together with this one."""

    def end(self, number: int) -> int:
        """The end of a window, ns; not clamped."""

    def number(self, start: int, end: int) -> int:
        """The window with these bounds, of which one may be clamped; not of growing windows."""

    def bounds(self, numbers: Int64Array) -> tuple[Int64Array, Int64Array]:
        """Start and end of each of these windows, ns, clamped to int64."""


class WindowLattice:
    """Windows of ``size_ns``, one ending every ``every_ns`` (at most ``size_ns``), aligned to ``offset_ns``.

    ``growing``: windows begin only every ``size_ns`` (a multiple of ``every_ns``) and reach to each end until the next begins.
    """

    def __init__(self, size_ns: int, every_ns: int, offset_ns: int = 0, *, growing: bool = False) -> None:
        if not 0 < every_ns <= size_ns < 2**63:
            raise ValueError("windows need 0 < every_ns <= size_ns < 2**63")
        if growing and size_ns % every_ns:
            raise ValueError("growing windows need a size_ns that is a multiple of every_ns")
        self.size_ns, self.every_ns, self.growing = size_ns, every_ns, growing
        self._start = offset_ns % (size_ns if growing else every_ns)
        self._steps = size_ns // every_ns
        if growing:
            self._shift, self._phase = divmod(self._start, every_ns)
        else:
            self._shift, self._phase = divmod(self._start + size_ns, every_ns)
        self.most = -(-size_ns // every_ns)

    def of(self, times: Int64Array) -> tuple[Int64Array, Int64Array]:
        first = _steps(times, self._phase, self.every_ns) + 1
        if self.growing:
            return first, (_steps(times, self._start, self.size_ns) + 1) * self._steps + self._shift
        if self.every_ns == self.size_ns:
            return first, first
        return first, _steps(times, self._start, self.every_ns) + self._shift

    def ended(self, watermarks: Int64Array, lateness_ns: int = 0) -> Int64Array:
        if lateness_ns:
            watermarks = np.maximum(watermarks, NO_TIME + lateness_ns) - lateness_ns
        return _steps(watermarks, self._phase, self.every_ns)

    def last(self, number: int) -> int:
        if not self.growing:
            return number
        return ((number - 1 - self._shift) // self._steps + 1) * self._steps + self._shift

    def end(self, number: int) -> int:
        return self._phase + number * self.every_ns

    def number(self, start: int, end: int) -> int:
        if end == END_OF_TIME and start != NO_TIME:
            end = start + self.size_ns
        return (end - self._phase) // self.every_ns

    def bounds(self, numbers: Int64Array) -> tuple[Int64Array, Int64Array]:
        ends = self._times(numbers)
        if self.growing:
            first = (numbers - 1 - self._shift) // self._steps * self._steps + self._shift
            return self._times(first), ends
        return np.maximum(ends, NO_TIME + self.size_ns) - self.size_ns, ends

    def _times(self, numbers: Int64Array) -> Int64Array:
        highest, lowest = (
            (END_OF_TIME - self._phase) // self.every_ns,
            -((self._phase - NO_TIME) // self.every_ns),
        )
        if len(numbers) and lowest <= int(numbers.min()) and int(numbers.max()) <= highest:
            return numbers * self.every_ns + self._phase
        times = np.clip(numbers, lowest, highest) * self.every_ns + self._phase
        times[numbers > highest] = END_OF_TIME
        times[numbers < lowest] = NO_TIME
        return times


def _steps(times: Int64Array, phase: int, every: int) -> Int64Array:
    """How many whole steps of ``every`` lie between ``phase`` and each time, rounded down."""
    if len(times) and int(times.min()) < NO_TIME + phase:
        steps, rest = np.divmod(times, every)
        return np.asarray(steps - (rest < phase), np.int64)
    return np.asarray((times - phase) // every, np.int64)
