"""Worker threads: decoding, encoding and the work of operators beside the event loop.

The loop's own thread reads, keeps the order and hands work on; the kernels let the GIL go, so the workers keep all processors busy.  With
one worker there are no threads and all work is done inline, on the loop's own.  With more, work on fewer than ``INLINE_BYTES`` is still
done inline: a thread hop costs tens of microseconds, which no small or live batch may pay.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

INLINE_BYTES = 1 << 17
T = TypeVar("T")


class Offload:
    """A run's worker threads: as many as ``workers``, or none where that is one."""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._executor = ThreadPoolExecutor(workers, "asyncflow-worker") if workers > 1 else None

    def takes(self, size_bytes: int) -> bool:
        """Work on so many bytes is done by a worker."""
        return self._executor is not None and size_bytes >= INLINE_BYTES

    def run(self, function: Callable[[], T]) -> asyncio.Future[T]:
        """Runs ``function`` on a worker.  Of work that can go on, the oldest goes first."""
        return asyncio.get_running_loop().run_in_executor(self._executor, function)

    def start(self, function: Callable[[], T], size_bytes: int) -> asyncio.Future[T] | T:
        """Runs ``function`` inline and gives its result, or starts it on a worker and gives a future."""
        return self.run(function) if self.takes(size_bytes) else function()

    def close(self) -> None:
        """Waits for work under way (the decode of a block takes milliseconds) and ends the threads."""
        if self._executor is not None:
            self._executor.shutdown(wait=True, cancel_futures=True)
