"""Window shapes.  All lengths in ns; windows are ``[start, end)``, aligned to the Unix epoch in UTC plus ``offset_ns``."""

from __future__ import annotations

from typing import TypeAlias

from msgspec import Struct

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


def too_many(size_ns: int, every_ns: int) -> tuple[str, str] | None:
    """What is wrong with windows of this size that start (or end) so often, and what to do; None where a row is in few enough."""
    if every_ns <= 0 or size_ns <= MOST_WINDOWS * every_ns:
        return None
    windows = f"{size_ns // every_ns:,} windows, one every {format_duration(every_ns)}"
    return (
        f"a row would be in {windows}: more than {MOST_WINDOWS:,}",
        "write a longer every, or a shorter window",
    )
