"""Window shapes: their lengths, what can be wrong with them, their text.

All lengths are in ns; windows are ``[start, end)``, aligned to the Unix epoch in UTC plus ``offset_ns``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

from msgspec import Struct

from asyncflow.errors import Problem
from asyncflow.model.durations import format_duration

MOST_WINDOWS = 100_000
"""That one row may be in."""


class Tumbling(Struct, frozen=True):
    size_ns: int
    offset_ns: int = 0


class Hopping(Struct, frozen=True):
    """Windows of ``size_ns``, one starting every ``every_ns`` (at most ``size_ns``, which it need not divide)."""

    size_ns: int
    every_ns: int
    offset_ns: int = 0


class Cumulate(Struct, frozen=True):
    """Growing windows: ``[start, start + k every_ns)`` for ``k`` from 1, until ``size_ns`` (a multiple of ``every_ns``) is full."""

    size_ns: int
    every_ns: int
    offset_ns: int = 0


class AllRows(Struct, frozen=True):
    """One window over everything, closed at end of input; its rows have no bounds columns."""


class PerMessage(Struct, frozen=True):
    """One window per message of a message source, closed at once; its rows have no bounds columns."""


class Session(Struct, frozen=True):
    """Per key: rows of which no two neighbours are more than ``gap_ns`` apart; ends that much after the last one."""

    gap_ns: int


class Count(Struct, frozen=True):
    """Per key: every ``size`` rows by arrival, bounded by the event times of the first and last of them."""

    size: int


WindowShape: TypeAlias = Tumbling | Hopping | Cumulate | Session | Count | AllRows | PerMessage
TimeWindow: TypeAlias = Tumbling | Hopping | Cumulate
"""Windows whose bounds are known from the clock alone."""

BOUNDED = (Tumbling, Hopping, Cumulate, Session, Count)
"""Shapes whose rows have bounds columns."""


BOUNDS = ("window_start", "window_end")
"""Columns that stand first in the rows of such a window."""


def shape_problems(shape: WindowShape, path: str) -> Iterable[Problem]:
    """What is wrong with the lengths; ``path``: of the key that has the shape."""
    match shape:
        case Tumbling(size_ns=size):
            if size <= 0:
                yield Problem(f"{path}.tumbling", "a window must be longer than 0s")
        case Hopping(size_ns=size, every_ns=every):
            if size <= 0:
                yield Problem(f"{path}.hopping", "a window must be longer than 0s")
            yield from _apart(size, every, path)
            if every > size > 0:
                yield Problem(
                    f"{path}.every",
                    f"every ({format_duration(every)}) is longer than the window ({format_duration(size)}): rows would fall between",
                )
        case Session(gap_ns=gap):
            if gap <= 0:
                yield Problem(f"{path}.session", "the gap between sessions must be longer than 0s")
        case Count(size=size):
            if size < 1:
                yield Problem(f"{path}.count", "a window must have at least 1 row")
        case Cumulate(size_ns=size, every_ns=every):
            if size <= 0:
                yield Problem(f"{path}.cumulate", "a window must be longer than 0s")
            yield from _apart(size, every, path)
            if 0 < every < size <= MOST_WINDOWS * every and size % every:
                yield Problem(
                    f"{path}.every",
                    f"the window ({format_duration(size)}) is not a multiple of every ({format_duration(every)})",
                )
        case AllRows() | PerMessage():
            pass


def _apart(size_ns: int, every_ns: int, path: str) -> Iterable[Problem]:
    if every_ns <= 0:
        yield Problem(f"{path}.every", "it must be longer than 0s")
    elif size_ns > MOST_WINDOWS * every_ns:
        windows = f"{size_ns // every_ns:,} windows, one every {format_duration(every_ns)}"
        yield Problem(
            f"{path}.every",
            f"a row would be in {windows}: more than {MOST_WINDOWS:,}",
            "write a longer every, or a shorter window",
        )


def window_text(shape: WindowShape) -> str:
    """``tumbling 1m``, ``hopping 5m every 1m``, ``cumulate 1d every 1h``, ``session 30s``, ``count 100``, ``all``, ``message``."""
    match shape:
        case Tumbling(size_ns=size, offset_ns=offset):
            text = f"tumbling {format_duration(size)}"
        case Hopping(size_ns=size, every_ns=every, offset_ns=offset):
            text = f"hopping {format_duration(size)} every {format_duration(every)}"
        case Session(gap_ns=gap):
            return f"session {format_duration(gap)}"
        case Count(size=rows):
            return f"count {rows}"
        case Cumulate(size_ns=size, every_ns=every, offset_ns=offset):
            text = f"cumulate {format_duration(size)} every {format_duration(every)}"
        case AllRows():
            return "all"
        case PerMessage():
            return "message"
    return f"{text} offset {format_duration(offset)}" if offset else text
