"""Which rows are the first of their key, plain.  The twin of ``dedup.pyx``.

A row of time u, with watermark w before it, goes on unless a row of its group that went on before, at a time t, is remembered and at
most ``within_ns`` away: ``|u - t| <= within_ns``.  The time t is remembered until the watermark passes it by ``within_ns``:
while ``w <= t + within_ns``, judged by each row's own watermark.  A row that does not go on is not remembered.

For a row that is not late (``u >= w``) forgetting changes nothing, for what is forgotten is further away than ``within_ns``; a late row
whose key was forgotten counts as new.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class DedupState:
    """The remembered times.  ``within_ns``: how far a row may be from one that went on and still be its duplicate."""

    def __init__(self, within_ns: int) -> None:
        if not 0 <= within_ns < 1 << 63:
            raise ValueError("within_ns must be in 0 .. 2**63 - 1")
        self._within = within_ns
        self._times: list[list[int]] = []

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
        watermarks: NDArray[np.int64],
        watermark_ns: int,
    ) -> NDArray[np.bool_]:
        """Takes rows in order; whether each of them goes on.

        ``watermarks``: the watermark before each row.  ``watermark_ns``: the stage's, at most that before any row that is still to come:
        what it has passed need not be kept.  Results do not depend on it.
        """
        if not len(groups) == len(time) == len(watermarks):
            raise ValueError("the arrays differ in length")
        if len(groups) and not 0 <= groups.min() <= groups.max() < group_count:
            raise IndexError(f"a group outside of 0..{group_count - 1}")
        self._times += [[] for _ in range(group_count - len(self._times))]
        fresh = []
        for group, u, w in zip(groups.tolist(), time.tolist(), watermarks.tolist(), strict=True):
            within = self._within
            fresh.append(not any(abs(u - t) <= within and w <= t + within for t in self._times[group]))
            if fresh[-1] and watermark_ns <= u + within:
                self._times[group].append(u)
        return np.array(fresh, np.bool_)

    def live_groups(self, watermark_ns: int) -> NDArray[np.int32]:
        """Forgets what this watermark has passed; the groups (int32, ascending) that still remember anything."""
        self._times = [[t for t in times if watermark_ns <= t + self._within] for times in self._times]
        return np.array([group for group, times in enumerate(self._times) if times], np.int32)

    def keep(self, groups: NDArray[np.int32]) -> None:
        """Renames groups: ``groups[i]`` becomes i.  Every group that remembers anything is among them (ascending)."""
        self._times = [self._times[group] for group in groups.tolist()]
