"""The clock of a run: the wall clock, or a virtual clock that a test moves.

All code of a run reads the time from its clock and sleeps on its clock, so that a run on virtual time never waits for real time.
"""

from __future__ import annotations

import asyncio
import heapq
import time
from itertools import count


class Clock:
    """``now_ns``: the wall clock, ns since the epoch, UTC; it may be set, forward or back, during a run.  ``elapsed_ns``: goes evenly and
    never back; for lengths of time."""

    def now_ns(self) -> int:
        return time.time_ns()

    def elapsed_ns(self) -> int:
        return time.monotonic_ns()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class ArrivalClock:
    """The wall clock for rows whose time is that of their arrival: it never goes back.  Where the wall clock is set back it goes at half
    the speed until that has caught up, so windows go on closing."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._now_ns, self._read_ns = clock.now_ns(), clock.elapsed_ns()

    def now_ns(self) -> int:
        wall_ns, elapsed_ns = self._clock.now_ns(), self._clock.elapsed_ns()
        slowed_ns = (elapsed_ns - self._read_ns) // 2
        self._now_ns += slowed_ns
        self._read_ns += 2 * slowed_ns
        if wall_ns >= self._now_ns:
            self._now_ns, self._read_ns = wall_ns, elapsed_ns
        return self._now_ns

    def not_before(self, time_ns: int) -> None:
        """A run before this one has come so far."""
        self._now_ns = max(self._now_ns, time_ns)


class VirtualClock(Clock):
    """Stands at ``start_ns`` until it is moved; who sleeps wakes when it is moved that far.  ``set``: as if somebody set the wall
    clock."""

    def __init__(self, start_ns: int = 0) -> None:
        self._now_ns = start_ns
        self._set_by_ns = 0
        self._sleepers: list[tuple[int, int, asyncio.Future[None]]] = []
        self._numbers = count()

    def now_ns(self) -> int:
        return self._now_ns + self._set_by_ns

    def elapsed_ns(self) -> int:
        return self._now_ns

    def set(self, seconds: float) -> None:
        """The wall clock is set forward by this, or back; no time passes."""
        self._set_by_ns += round(seconds * 1e9)

    async def sleep(self, seconds: float) -> None:
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        due_ns = self._now_ns + max(0, round(seconds * 1e9))
        heapq.heappush(self._sleepers, (due_ns, next(self._numbers), woken))
        self._wake()
        await woken

    def move_to(self, time_ns: int) -> None:
        """The clock shows ``time_ns``, if that is later; those whose time has come are woken, in order."""
        self._now_ns = max(self._now_ns, time_ns - self._set_by_ns)
        self._wake()

    def advance(self, seconds: float) -> None:
        self.move_to(self.now_ns() + round(seconds * 1e9))

    def _wake(self) -> None:
        while self._sleepers and self._sleepers[0][0] <= self._now_ns:
            woken = heapq.heappop(self._sleepers)[2]
            if not woken.done():
                woken.set_result(None)
