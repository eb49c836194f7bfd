"""What is checked of a saved interval join, for the kernel and its twin.

Rows stand by arrival.  Fields: ``kind``, ``lower_ns`` and ``upper_ns``, which a state that loads them must have; ``clock_ns``, that of the
last sweep; ``arrived``, how many rows each side has taken in; ``ways``; ``numbered``, whether keys are numbers; ``groups``, how many keys
have a place.  Parts, for ``left`` and ``right``: ``left.key`` (int32, the place; -1: null) or ``left.number`` (int64) with ``left.keyed``;
``left.time``; ``left.seen``, the watermark before a row where that is later than its time, else -2**63; ``left.arrival``;
``left.matched``; ``left.ahead``, whether no sweep has met the row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asyncflow._kernels.base import saved

SIDES = ("left", "right")
FIRST_TIME, LAST_TIME, END = -(2**63) + 1, 2**63 - 2, 2**63 - 1
IN_TIME = -(2**63)
MOST_ROWS = 1 << 29


def shifted(times: Any, by: int) -> Any:
    """Times shifted; what would not fit is the first or last instant there is."""
    if by >= 0:
        return np.maximum(np.minimum(times, max(LAST_TIME - by, IN_TIME)) + by, FIRST_TIME)
    return np.maximum(times, FIRST_TIME - by) + by


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of a side, by arrival.  ``keys``: places of keys, or the numbers that keys are; -1 or 0 where the row is not ``keyed``."""

    keys: NDArray[Any]
    keyed: NDArray[np.bool_]
    time: NDArray[np.int64]
    seen: NDArray[np.int64]
    arrival: NDArray[np.int64]
    matched: NDArray[np.bool_]
    ahead: NDArray[np.bool_]

    def taken(self, order: NDArray[np.intp]) -> Rows:
        return Rows(*(getattr(self, name)[order] for name in self.__dataclass_fields__))

    def named(self, rank: Any) -> Rows:
        """The keys, so far names, as places.  ``rank``: of each key its place; ValueError where one has none."""
        rank = np.asarray(rank, np.int32)
        names, places = self.keys[self.keyed], np.full(len(self.keys), -1, np.int32)
        if len(names) and (int(names.max()) >= len(rank) or int(rank[names].min()) < 0):
            raise ValueError("rank: a key that holds rows has no place")
        places[self.keyed] = rank[names]
        others = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "keys"}
        return Rows(keys=places, **others)

    def parts(self, side: str, numbered: bool) -> dict[str, NDArray[Any]]:
        keys = {"number": self.keys, "keyed": self.keyed} if numbered else {"key": self.keys}
        others = {name: getattr(self, name) for name in ("time", "seen", "arrival", "matched", "ahead")}
        return {f"{side}.{name}": column for name, column in (keys | others).items()}


def comes(rows: Rows, delay: int) -> NDArray[np.int64]:
    """When each row comes (sweep.h)."""
    time: NDArray[np.int64] = np.maximum(shifted(rows.time, delay), rows.seen)
    return time


def loaded(
    fields: Mapping[str, Any],
    parts: Mapping[str, Any],
    shape: Mapping[str, Any],
    delays: tuple[int, int],
    reaches: tuple[int, int],
) -> tuple[Rows, Rows]:
    """The rows of both sides, or ValueError.  ``shape``: fields that must be as given; ``delays``: how long after its time a row of each
    side comes; ``reaches``: how long after its time it expires."""
    saved.same(fields, **shape)
    clock = saved.number(fields, "clock_ns", IN_TIME, END)
    arrived = saved.counts(fields, "arrived", 2)
    saved.counts(fields, "ways", 4)
    numbered = saved.flag(fields, "numbered")
    groups = saved.number(fields, "groups", 0, saved.MOST_NUMBERED)
    sides, names = [], list[str]()
    for port, side in enumerate(SIDES):
        rows = _rows(side, parts, numbered, groups)
        names += rows.parts(side, numbered)
        if len(rows.time) > MOST_ROWS // 2 or not saved.rising(rows.arrival):
            raise ValueError(f"{side}.arrival: rows that are not in order, each once")
        if len(rows.time) and not 0 <= int(rows.arrival[0]) <= int(rows.arrival[-1]) < arrived[port]:
            raise ValueError(f"{side}.arrival: not one of the {arrived[port]} rows that arrived")
        if bool(((rows.seen != IN_TIME) & (rows.seen <= rows.time)).any()):
            raise ValueError(f"{side}.seen: a watermark that is not beyond its row")
        last = min(reaches[port] - delays[1 - port] + reaches[1 - port], LAST_TIME)
        if bool((rows.seen > shifted(rows.time, last)).any()):
            raise ValueError(f"{side}.seen: a row that was late for all others")
        if clock != END and bool((comes(rows, delays[port])[~rows.ahead] >= clock).any()):
            raise ValueError(f"{side}.ahead: a row that the clock has not passed")
        if bool((comes(rows, delays[port])[rows.ahead] < clock).any()):
            raise ValueError(f"{side}.ahead: a row that the clock has passed")
        if bool((np.maximum(shifted(rows.time, reaches[port]), rows.seen) < clock).any()):
            raise ValueError(f"{side}.time: a row that was to leave")
        if bool((rows.matched & rows.ahead).any()):
            raise ValueError(f"{side}.matched: a row that no sweep has met")
        sides.append(rows)
    saved.nothing_else(parts, names)
    return sides[0], sides[1]


def _rows(side: str, parts: Mapping[str, Any], numbered: bool, groups: int) -> Rows:
    time = saved.array(parts, f"{side}.time", np.int64)
    count = len(time)
    if numbered:
        keys = saved.array(parts, f"{side}.number", np.int64, count)
        keyed = saved.array(parts, f"{side}.keyed", np.bool_, count)
        if bool(keys[~keyed].any()):
            raise ValueError(f"{side}.number: the number of a row without a key")
    else:
        keys = saved.array(parts, f"{side}.key", np.int32, count)
        keyed = keys != -1
        if count and not -1 <= int(keys.min()) <= int(keys.max()) < groups:
            raise ValueError(f"{side}.key: a number outside of -1..{groups - 1}")
    seen, arrival = (saved.array(parts, f"{side}.{name}", np.int64, count) for name in ("seen", "arrival"))
    matched, ahead = (saved.array(parts, f"{side}.{name}", np.bool_, count) for name in ("matched", "ahead"))
    return Rows(keys, keyed, time, seen, arrival, matched, ahead)
