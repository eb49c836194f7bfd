"""What is checked of a saved join, for the kernel and its twin."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asyncflow._kernels.base import saved

SIDES = ("left", "right")
OTHERS = ("time", "seen", "arrival", "matched", "ahead")
"""The columns of a row beside its key."""
END = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of a side.  ``keys``: places of keys, or the numbers that keys are; -1 or 0 where the row is not ``keyed``."""

    keys: NDArray[Any]
    keyed: NDArray[np.bool_]
    time: NDArray[np.int64]
    seen: NDArray[np.int64]
    arrival: NDArray[np.int64]
    matched: NDArray[np.bool_]
    ahead: NDArray[np.bool_]

    def in_order(self, rank: Any) -> tuple[NDArray[np.intp], Rows]:
        """Places and rows by (key, time, arrival), those without a key first.  ``rank``: of each key its place; None: keys are numbers."""
        keys = self.keys
        if rank is not None:
            keys = np.full(len(keys), -1, np.int32)
            keyed = self.keys[self.keyed]
            by_key, places = saved.by_place(rank, keyed)
            placed = np.empty(len(keyed), np.int32)
            placed[by_key] = places
            keys[self.keyed] = placed
        order = np.lexsort((self.arrival, self.time, keys, self.keyed))
        others = {name: getattr(self, name)[order] for name in ("keyed", *OTHERS)}
        return order, Rows(keys=keys[order], **others)

    def parts(self, side: str, numbered: bool) -> dict[str, NDArray[Any]]:
        keys = {"number": self.keys, "keyed": self.keyed} if numbered else {"key": self.keys}
        others = {name: getattr(self, name) for name in OTHERS}
        return {f"{side}.{name}": column for name, column in (keys | others).items()}


def loaded(
    fields: Mapping[str, Any],
    parts: Mapping[str, Any],
    shape: Mapping[str, Any],
    reach: tuple[int, int | None],
) -> tuple[Rows, Rows]:
    """The rows of both sides, or ValueError.  ``shape``: fields that must be as given."""
    saved.same(fields, **shape)
    interval = shape["mode"] == "interval"
    clock = saved.number(fields, "clock_ns", -(2**63), END)
    arrived = saved.counts(fields, "arrived", 2)
    saved.counts(fields, "ways", 4)
    numbered = saved.flag(fields, "numbered")
    groups = saved.number(fields, "groups", 0, saved.MOST_NUMBERED)
    if numbered and not interval:
        raise ValueError("numbered: the keys of this join have names")
    sides, names = [], list[str]()
    for port, side in enumerate(SIDES):
        rows = _rows(side, parts, numbered, groups)
        names += rows.parts(side, numbered)
        come = ~rows.ahead
        if len(rows.time) > saved.MOST_NUMBERED or not saved.rising(
            rows.keyed, rows.keys, rows.time, rows.arrival
        ):
            raise ValueError(f"{side}: rows that are not in order, each once")
        if len(rows.time) and not 0 <= int(rows.arrival.min()) <= int(rows.arrival.max()) < arrived[port]:
            raise ValueError(f"{side}.arrival: not one of the {arrived[port]} rows that arrived")
        if len(np.unique(rows.arrival)) < len(rows.arrival):
            raise ValueError(f"{side}.arrival: a row that arrived twice")
        if clock != END and bool((rows.time[come] >= clock).any()):
            raise ValueError(f"{side}.ahead: a row that the clock has not passed")
        stays = rows.keyed if reach[port] is None else np.full(len(come), interval or port == 1)
        if bool((come & ~stays).any()):
            raise ValueError(f"{side}.ahead: a row that does not stay")
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
