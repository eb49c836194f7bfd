"""Time as a run sees it: the wall clock, or one that a test moves by hand.

Whatever in a run reads the time or waits for it asks its clock, so on virtual time nothing waits for real.
"""

from __future__ import annotations

import asyncio
import heapq
import time
from itertools import count


class Clock:
    """The wall clock in ns since the epoch, UTC, read so that it never goes back during a run."""

    def __init__(self) -> None:
        self._offset_ns = time.time_ns() - time.monotonic_ns()

    def now_ns(self) -> int:
        return self._offset_ns + time.monotonic_ns()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


WALL_CLOCK = Clock()


class VirtualClock(Clock):
    """Stands at ``start_ns`` until it is moved; who sleeps wakes when it is moved that far."""

    def __init__(self, start_ns: int = 0) -> None:
        self._now_ns = start_ns
        self._sleepers: list[tuple[int, int, asyncio.Future[None]]] = []
        self._numbers = count()

    def now_ns(self) -> int:
        return self._now_ns

    async def sleep(self, seconds: float) -> None:
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        due_ns = self._now_ns + max(0, round(seconds * 1e9))
        heapq.heappush(self._sleepers, (due_ns, next(self._numbers), woken))
        self._wake()
        await woken

    def move_to(self, time_ns: int) -> None:
        """The clock shows ``time_ns``, if that is later; those whose time has come are woken, in order."""
        self._now_ns = max(self._now_ns, time_ns)
        self._wake()

    def advance(self, seconds: float) -> None:
        self.move_to(self._now_ns + round(seconds * 1e9))

    def _wake(self) -> None:
        while self._sleepers and self._sleepers[0][0] <= self._now_ns:
            woken = heapq.heappop(self._sleepers)[2]
            if not woken.done():
                woken.set_result(None)
