"""Worker threads: decoding, encoding and the work of operators beside the event loop.

The loop's own thread reads, keeps the order and hands work on; the kernels let the GIL go, so the workers keep all processors busy.  With
one worker there are no threads and all work is done inline, on the loop's own.  With more, work on fewer than ``INLINE_BYTES`` is still
done inline: a thread hop costs tens of microseconds, which no small or live batch may pay.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Literal, TypeAlias, TypeVar

from asyncflow.runtime.base import cgroup
from asyncflow.runtime.base.threads import Threads

Workers: TypeAlias = int | Literal["auto"]
"""How many threads work; ``"auto"``: as many as the process may use processors."""
MOST_WORKERS = 256
INLINE_BYTES = 1 << 17
T = TypeVar("T")


def worker_count(workers: Workers) -> int:
    """The number of workers.  ValueError where it is none."""
    if workers == "auto":
        return processors()
    if isinstance(workers, bool) or not isinstance(workers, int) or not 1 <= workers <= MOST_WORKERS:
        raise ValueError(f'workers is a number from 1 to {MOST_WORKERS}, or "auto", not {workers!r}')
    return workers


def processors(root: str = cgroup.ROOT, own: str = cgroup.OWN) -> int:
    """How many processors the process may use, 1 at least: those that it may run on, or the share of time that its cgroups leave it,
    rounded up, where that is less.
    """
    try:
        usable = len(os.sched_getaffinity(0))
    except AttributeError:  # not on this system
        usable = os.cpu_count() or 1
    shares = [_share(version, folder) for version, folder in cgroup.folders("cpu", root, own)]
    return max(min([usable, MOST_WORKERS, *(share for share in shares if share is not None)]), 1)


def _share(version: int, folder: str) -> int | None:
    """The processors' worth of time that a group may take in a period; None: no limit."""
    names = ("cpu.max",) if version == 2 else ("cpu.cfs_quota_us", "cpu.cfs_period_us")
    try:
        quota, period = map(int, " ".join(cgroup.text_of(folder, name) for name in names).split())
        return -(-quota // period) if quota > 0 else None
    except (ValueError, ZeroDivisionError):  # there is none, or "max"
        return None


MOST_PARTS = 64
PARTS_VARIABLE = "ASYNCFLOW_PARTS"
"""The environment variable that says into how many parts every stage is cut that can be: to see that the number makes no difference."""


def parts_for(workers: int, least: int = 3) -> int:
    """Into how many parts, a power of two, the state of a stage is cut for so many workers; with fewer than ``least`` it is not.

    With two workers most stages are not: one decodes while the other does the stage's work, and cutting would add a third to that work.
    ValueError where the environment names a number that is no power of two.
    """
    if forced := os.environ.get(PARTS_VARIABLE):
        if not forced.isdecimal() or not 1 <= int(forced) <= MOST_PARTS or int(forced) & (int(forced) - 1):
            raise ValueError(f"{PARTS_VARIABLE}={forced}: a power of two from 1 to {MOST_PARTS} is wanted")
        return int(forced)
    return 1 if workers < least else min(1 << (workers - 1).bit_length(), MOST_PARTS)


class Offload:
    """A run's worker threads: as many as ``workers``, or none where that is one."""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._threads = Threads(workers) if workers > 1 else None

    def takes(self, size_bytes: int) -> bool:
        """Work on so many bytes is done by a worker."""
        return self._threads is not None and size_bytes >= INLINE_BYTES

    def run(self, function: Callable[[], T]) -> asyncio.Future[T]:
        """Runs ``function`` on a worker; there are several.  Of work that can go on, the oldest goes first."""
        assert self._threads is not None
        return self._threads.run(function)

    def start(self, function: Callable[[], T], size_bytes: int) -> asyncio.Future[T] | T:
        """Runs ``function`` inline and gives its result, or starts it on a worker and gives a future."""
        return self.run(function) if self.takes(size_bytes) else function()

    def close(self) -> None:
        """Waits for work under way (the decode of a block takes milliseconds) and ends the threads."""
        if self._threads is not None:
            self._threads.close()
