"""Which rows are the first of their key, plain.  The twin of ``compiled.pyx``.

A row of time u, with the watermark w before it, is a duplicate where an earlier row of its group passed at a time t with
``|u - t| <= within_ns``, and t is still remembered.  Every other row passes, and its time is remembered while ``w <= t + within_ns``,
where w is the watermark before each later row.  The time of a duplicate is not remembered.

For a row that is not late (``u >= w``) forgetting changes nothing, for what is forgotten is further away than ``within_ns``; a late row
whose key was forgotten counts as new.

A snapshot has the times that the stage's watermark has not passed by ``within_ns``, by (place of the group, time).  Fields: ``within_ns``;
``watermark_ns``, the greatest of the stage's that was given; ``groups``, how many have a place.  Parts: ``group`` (int32, the place) and
``time`` (int64).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asyncflow._kernels.base.saved import Parts, by_place
from asyncflow._kernels.dedup import saved


class DedupState:
    """The remembered times.  ``within_ns``: how far a row may be from one that went on and still be its duplicate."""

    def __init__(self, within_ns: int) -> None:
        if not 0 <= within_ns < 1 << 63:
            raise ValueError("within_ns must be in 0 .. 2**63 - 1")
        self._within = within_ns
        self._times: list[list[int]] = []
        self._watermark = saved.NO_TIME
        self._frozen = Parts()

    @property
    def entries(self) -> int:
        """How many times are remembered."""
        return sum(map(len, self._times))

    @property
    def nbytes(self) -> int:
        return 12 * self.entries + 4 * len(self._times)

    def add(
        self,
        groups: NDArray[np.int32],
        group_count: int,
        time: NDArray[np.int64],
        watermarks: NDArray[np.int64] | None,
        watermark_ns: int,
        watermark_before: int = saved.NO_TIME,
        delay_ns: int = 0,
    ) -> NDArray[np.bool_]:
        """Takes rows in order; whether each of them goes on.

        ``watermarks``: the watermark before each row; None: it is ``watermark_before`` before the first row, and follows the greatest time
        of the rows by ``delay_ns``.  ``watermark_ns``: the stage's, at most that before any row that is still to come: what it has
        passed need not be kept.  Results do not depend on it.
        """
        if len(groups) != len(time) or (watermarks is not None and len(watermarks) != len(time)):
            raise ValueError("the arrays differ in length")
        if delay_ns < 0:
            raise ValueError("delay_ns is below 0")
        marks = _watermarks(time, watermark_before, delay_ns) if watermarks is None else watermarks.tolist()
        if len(groups) and not 0 <= groups.min() <= groups.max() < group_count:
            raise IndexError(f"a group outside of 0..{group_count - 1}")
        self._times += [[] for _ in range(group_count - len(self._times))]
        self._watermark = max(self._watermark, watermark_ns)
        fresh = []
        for group, u, w in zip(groups.tolist(), time.tolist(), marks, strict=True):
            within = self._within
            fresh.append(not any(abs(u - t) <= within and w <= t + within for t in self._times[group]))
            if fresh[-1] and watermark_ns <= u + within:
                self._times[group].append(u)
        return np.array(fresh, np.bool_)

    def live_groups(self, watermark_ns: int) -> NDArray[np.int32]:
        """Forgets what this watermark has passed; the groups (int32, ascending) that still remember anything."""
        self._watermark = max(self._watermark, watermark_ns)
        self._times = [[t for t in times if watermark_ns <= t + self._within] for times in self._times]
        return np.array([group for group, times in enumerate(self._times) if times], np.int32)

    def keep(self, groups: NDArray[np.int32]) -> None:
        """Renames groups: ``groups[i]`` becomes i.  Every group that remembers anything is among them (ascending)."""
        self._times = [self._times[group] for group in groups.tolist()]

    def freeze(self, rank: NDArray[np.int32]) -> dict[str, Any]:
        """The fields of a snapshot, whose parts ``pieces`` gives from now on: see above.  ``rank``: of each group its place."""
        held = [
            (group, t)
            for group, times in enumerate(self._times)
            for t in times
            if self._watermark <= t + self._within
        ]
        groups = np.array([group for group, _ in held], np.int32)
        times = np.array([t for _, t in held], np.int64)
        order, places = by_place(rank, groups, times)
        self._frozen = Parts({"group": places, "time": times[order]})
        return {"within_ns": self._within, "watermark_ns": self._watermark, "groups": len(rank)}

    def pieces(self, budget: int) -> list[tuple[str, NDArray[Any]]] | None:
        """The next parts of the snapshot, of about ``budget`` bytes: ``[(name, array), ...]``; None: all were given."""
        return self._frozen.pieces(budget)

    def drop(self) -> None:
        """The snapshot is given up."""
        self._frozen.drop()

    def load(self, fields: Mapping[str, Any], parts: Mapping[str, NDArray[Any]]) -> None:
        """Takes a snapshot into a state that had no row.  ValueError says what does not fit."""
        if self._times or self._watermark != saved.NO_TIME:
            raise ValueError("a snapshot is loaded into a state that had rows")
        groups, times = saved.entries(fields, parts, self._within)
        self._times = [[] for _ in range(int(groups[-1]) + 1 if len(groups) else 0)]
        for group, t in zip(groups.tolist(), times.tolist(), strict=True):
            self._times[group].append(t)
        self._watermark = fields["watermark_ns"]


def _watermarks(time: NDArray[np.int64], watermark_before: int, delay_ns: int) -> list[int]:
    """The watermark before each row of a source."""
    marks = [watermark_before]
    for t in time.tolist():
        marks.append(max(marks[-1], t - delay_ns))
    return marks[:-1]
