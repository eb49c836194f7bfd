"""What is checked of saved sessions and count windows, for the kernel and its twin."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asyncflow._kernels.base import saved

NO_TIME, END_OF_TIME = -(2**63), 2**63 - 1
Columns = tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]


def sessions(fields: Mapping[str, Any], parts: Mapping[str, Any], gap: int) -> tuple[Any, Any, Any]:
    """Groups, first and last times of saved sessions, or ValueError."""
    saved.same(fields, gap_ns=gap)
    _counted(fields)
    mixed = saved.flag(fields, "mixed")
    greatest = saved.number(fields, "greatest_watermark_ns", NO_TIME, END_OF_TIME)
    advanced = saved.number(fields, "watermark_ns", NO_TIME, END_OF_TIME)
    groups = saved.numbers(parts, "group", None, saved.number(fields, "groups", 0, saved.MOST_NUMBERED))
    first, last = (saved.array(parts, name, np.int64, len(groups)) for name in ("first", "last"))
    saved.nothing_else(parts, ("group", "first", "last"))
    if (first > last).any():
        raise ValueError("first: a session that ends before it begins")
    if _passed(last, gap, advanced).any():
        raise ValueError("last: a session that the watermark has passed")
    by_end = np.lexsort((last, groups))
    if not saved.rising(groups, first, last) or not saved.rising(groups[by_end], last[by_end]):
        raise ValueError("group: sessions that are not in order, each once")
    if not mixed and _near(groups[by_end], first[by_end], last[by_end], gap, greatest):
        raise ValueError("mixed: open sessions of a group that reach each other")
    return groups, first, last


def _passed(last: NDArray[np.int64], gap: int, watermark: int) -> NDArray[np.bool_]:
    """Which sessions end by a watermark: a gap after their last row, or at the end of time."""
    if watermark == END_OF_TIME or watermark < NO_TIME + gap:
        return np.full(len(last), watermark == END_OF_TIME)
    return last <= watermark - gap


def _near(groups: Any, first: Any, last: Any, gap: int, watermark: int) -> bool:
    """Whether there are two sessions of a group, by last rows, at most a gap apart, of which the first is open for this watermark."""
    apart = first[1:].view(np.uint64) - last[:-1].view(np.uint64)
    far = (first[1:] > last[:-1]) & (apart > gap)
    return bool(((groups[1:] == groups[:-1]) & ~far & ~_passed(last[:-1], gap, watermark)).any())


def windows(fields: Mapping[str, Any], parts: Mapping[str, Any], size: int) -> Columns:
    """Groups, rows, first and last times of saved count windows, or ValueError."""
    saved.same(fields, size=size)
    _counted(fields)
    groups = saved.numbers(parts, "group", None, saved.number(fields, "groups", 0, saved.MOST_NUMBERED))
    rows, first, last = (
        saved.array(parts, name, np.int64, len(groups)) for name in ("rows", "first", "last")
    )
    saved.nothing_else(parts, ("group", "rows", "first", "last"))
    if not saved.rising(groups):
        raise ValueError("group: windows that are not in order, one of each group")
    if len(rows) and not 0 < int(rows.min()) <= int(rows.max()) < size:
        raise ValueError("rows: a window that is empty or full")
    return groups, rows, first, last


def _counted(fields: Mapping[str, Any]) -> None:
    saved.number(fields, "windows_closed", 0, saved.MOST_COUNTED)
