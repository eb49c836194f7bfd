"""What is checked of a saved as-of join, for the kernel and its twin."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asyncflow._kernels.base import saved

SIDES = ("left", "right")
END = 2**63 - 1
FIRST_TIME, LAST_TIME = -END, END - 1
OTHERS = ("time", "moment", "arrival", "matched", "ahead")
"""The columns of a row beside its key."""


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of a side.  ``keys``: -1 for null; the moment of a row that is not ``ahead`` of the clock is its time."""

    keys: NDArray[np.int32]
    time: NDArray[np.int64]
    moment: NDArray[np.int64]
    arrival: NDArray[np.int64]
    matched: NDArray[np.bool_]
    ahead: NDArray[np.bool_]

    def in_order(self, rank: Any) -> tuple[NDArray[np.intp], Rows]:
        """Their order by (place of the key, time, arrival), null keys first; and the rows so, with places for keys."""
        keyed = self.keys >= 0
        keys = np.full(len(keyed), -1, np.int32)
        by_key, places = saved.by_place(rank, self.keys[keyed])
        placed = np.empty(len(places), np.int32)
        placed[by_key] = places
        keys[keyed] = placed
        order = np.lexsort((self.arrival, self.time, keys))
        return order, Rows(keys[order], *(getattr(self, name)[order] for name in OTHERS))

    def parts(self, port: int) -> dict[str, NDArray[Any]]:
        """Left rows are all ahead of the clock, at the moment of their time, and have met nobody."""
        names = OTHERS if port else ("time", "arrival")
        return {f"{SIDES[port]}.{name}": getattr(self, name) for name in names} | {
            f"{SIDES[port]}.key": self.keys
        }


def loaded(
    fields: Mapping[str, Any],
    parts: Mapping[str, Any],
    shape: Mapping[str, Any],
    uses: tuple[int, int | None],
    one_each: bool,
) -> tuple[Rows, Rows]:
    """The rows of both sides, or ValueError.  ``shape``: fields that must be as given; ``uses``: how long after its time a row of each
    side may be of use (None: for ever); ``one_each``: one known row of a key is kept."""
    saved.same(fields, **shape)
    clock = saved.number(fields, "clock_ns", -(2**63), END)
    arrived = saved.counts(fields, "arrived", 2)
    saved.counts(fields, "ways", 4)
    groups = saved.number(fields, "groups", 0, saved.MOST_NUMBERED)
    sides, names = [], list[str]()
    for port, side in enumerate(SIDES):
        rows = _rows(port, parts, groups)
        names += rows.parts(port)
        if len(rows.time) > saved.MOST_NUMBERED or not saved.rising(rows.keys, rows.time, rows.arrival):
            raise ValueError(f"{side}: rows that are not in order, each once")
        if len(rows.time) and not 0 <= int(rows.arrival.min()) <= int(rows.arrival.max()) < arrived[port]:
            raise ValueError(f"{side}.arrival: not one of the {arrived[port]} rows that arrived")
        if len(np.unique(rows.arrival)) < len(rows.arrival):
            raise ValueError(f"{side}.arrival: a row that arrived twice")
        sides.append(rows)
    saved.nothing_else(parts, names)
    left, right = sides
    if bool((_used_up(left.time, uses[0]) < clock).any()):
        raise ValueError("left.time: a row that the clock has passed")
    if uses[1] is not None and bool(
        (right.moment > np.maximum(_used_up(right.time, uses[1]), right.time)).any()
    ):
        raise ValueError("right.moment: a late row")
    _check_right(right, clock, shape["kind"] in ("right", "full"), one_each)
    return left, right


def _used_up(times: NDArray[np.int64], use: int) -> NDArray[np.int64]:
    """``use`` after these times; what would not fit is the first or last instant."""
    found: NDArray[np.int64] = np.maximum(np.minimum(times, LAST_TIME - use) + use, FIRST_TIME)
    return found


def _check_right(rows: Rows, clock: int, alone: bool, one_each: bool) -> None:
    known = ~rows.ahead
    if bool((rows.moment < rows.time).any()) or bool((rows.moment[known] != rows.time[known]).any()):
        raise ValueError("right.moment: not the moment of the row")
    if bool((rows.moment[rows.ahead] < clock).any()):
        raise ValueError("right.ahead: a row that the clock has passed")
    if clock != END and bool((rows.time[known] >= clock).any()):
        raise ValueError("right.ahead: a row that the clock has not passed")
    if bool(rows.matched[rows.ahead].any()):
        raise ValueError("right.matched: a row ahead of the clock")
    keys = rows.keys[known]
    if not alone and bool((keys < 0).any()):
        raise ValueError("right.key: a row without a key does not stay")
    if one_each and bool((keys[1:] == keys[:-1]).any()):
        raise ValueError("right.key: of a key one row stays")


def _rows(port: int, parts: Mapping[str, Any], groups: int) -> Rows:
    side = SIDES[port]
    time = saved.array(parts, f"{side}.time", np.int64)
    count = len(time)
    keys = saved.array(parts, f"{side}.key", np.int32, count)
    if count and not -1 <= int(keys.min()) <= int(keys.max()) < groups:
        raise ValueError(f"{side}.key: a number outside of -1..{groups - 1}")
    arrival = saved.array(parts, f"{side}.arrival", np.int64, count)
    if port == 0:
        return Rows(keys, time, time, arrival, np.zeros(count, np.bool_), np.ones(count, np.bool_))
    moment = saved.array(parts, f"{side}.moment", np.int64, count)
    matched, ahead = (saved.array(parts, f"{side}.{name}", np.bool_, count) for name in ("matched", "ahead"))
    return Rows(keys, time, moment, arrival, matched, ahead)
