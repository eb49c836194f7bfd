"""Windows of event time by number: which windows a row is in, which have ended, and where they start and end.

:class:`WindowBounds` is what operators ask of a window shape: this is the only window arithmetic in Python.  (The ``window`` kernel has its
own, in C; see its ``panes.h``.)

Windows of a shape begin at ``begin + j * B``, where ``B`` is ``every_ns``, or ``size_ns`` of growing windows, and end on the lattice
``phase + (k + shift) * every_ns``.  No two windows end at the same time, so the number ``k`` names a window, and a row's windows are
those from a first to a last ``k``.  Where windows do not grow, ``k`` is ``j``, the number of the beginning: so the windows of every
instant up to the last one have numbers of int64.  Bounds are clamped to int64.

Limit: with ``every_ns = 1`` there are more windows than numbers of int64.  Those that begin before the first instant have
none, nor have growing windows that begin less than ``size_ns`` after the first instant.
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
        """The last window that ended at least ``lateness_ns`` before each watermark; at ``END_OF_TIME`` all windows have."""

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
        self._begin_every = size_ns if growing else every_ns
        self._steps = self._begin_every // every_ns
        self._begin = offset_ns % self._begin_every
        self._shift, self._phase = divmod(self._begin + size_ns, every_ns)
        self._last = (END_OF_TIME - self._begin) // self._begin_every * self._steps  # of the last instant
        self.most = -(-size_ns // every_ns)

    def of(self, times: Int64Array) -> tuple[Int64Array, Int64Array]:
        begun = _steps(times, self._begin, self._begin_every)
        if self.every_ns == self.size_ns:
            return begun, begun
        last = begun * self._steps
        if self.growing and len(begun) and int(begun.min()) * self._steps < NO_TIME:
            last[begun < -(-NO_TIME // self._steps)] = NO_TIME
        return self._passed(times) + 1, last

    def ended(self, watermarks: Int64Array, lateness_ns: int = 0) -> Int64Array:
        over = None
        if len(watermarks) and int(watermarks.max()) == END_OF_TIME:
            over = watermarks == END_OF_TIME
        if lateness_ns:
            watermarks = np.maximum(watermarks, NO_TIME + lateness_ns) - lateness_ns
        numbers = self._passed(watermarks)
        if over is not None:
            numbers[over] = self._last
        return numbers

    def _passed(self, times: Int64Array) -> Int64Array:
        """The last window whose end is at each time or before."""
        steps = _steps(times, self._phase, self.every_ns)
        if self.every_ns == 1:
            steps = np.maximum(steps, NO_TIME + self._shift)
        return steps - self._shift

    def last(self, number: int) -> int:
        return -(-number // self._steps) * self._steps

    def end(self, number: int) -> int:
        return self._phase + (number + self._shift) * self.every_ns

    def number(self, start: int, end: int) -> int:
        begin = end - self.size_ns if start == NO_TIME else start
        return (begin - self._begin) // self.every_ns

    def bounds(self, numbers: Int64Array) -> tuple[Int64Array, Int64Array]:
        begins = numbers
        if self._steps > 1:
            begins = numbers // self._steps + (numbers % self._steps != 0)
        starts = _times(begins, 0, self._begin, self._begin_every)
        return starts, _times(numbers, self._shift, self._phase, self.every_ns)


def left_open(first: Int64Array, last: Int64Array, ended: Int64Array) -> tuple[Int64Array, Int64Array]:
    """Of the windows from ``first`` to ``last`` those after ``ended``; where none is left, the first is after the last."""
    if len(ended) and int(ended.max()) == END_OF_TIME:  # a number of no window after it
        all_ended = ended == END_OF_TIME
        last = np.where(all_ended, END_OF_TIME - 1, last)
        ended = np.where(all_ended, END_OF_TIME - 1, ended)
    return np.maximum(first, ended + 1), last


def _times(numbers: Int64Array, shift: int, phase: int, every: int) -> Int64Array:
    """``phase + (numbers + shift) * every``, clamped to int64."""
    highest = (END_OF_TIME - phase) // every - shift
    lowest = max(-((phase - NO_TIME) // every) - shift, NO_TIME)
    if len(numbers) and lowest <= int(numbers.min()) and int(numbers.max()) <= highest:
        return (numbers + shift) * every + phase
    times = (np.clip(numbers, lowest, highest) + shift) * every + phase
    times[numbers > highest] = END_OF_TIME
    times[numbers < lowest] = NO_TIME
    return times


def _steps(times: Int64Array, phase: int, every: int) -> Int64Array:
    """How many whole steps of ``every`` lie between ``phase`` and each time, rounded down."""
    if len(times) and int(times.min()) < NO_TIME + phase:
        steps, rest = np.divmod(times, every)
        return np.asarray(steps - (rest < phase), np.int64)
    return np.asarray((times - phase) // every, np.int64)
