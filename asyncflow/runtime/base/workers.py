"""Worker threads: decoding and encoding beside the event loop.

The loop's own thread is one of the workers: it groups and aggregates, in order, while the others decode and encode.  With one worker
all work is done inline: a thread hop costs tens of microseconds and gains nothing.  With more, work on fewer than ``INLINE_BYTES`` is
still done inline.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

INLINE_BYTES = 1 << 17
T = TypeVar("T")


class Offload:
    """A run's worker threads besides the loop's own."""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._executor = ThreadPoolExecutor(workers - 1, "asyncflow-worker") if workers > 1 else None

    def start(self, function: Callable[[], T], size_bytes: int) -> asyncio.Future[T] | T:
        """Runs ``function`` inline and gives its result, or starts it on a worker and gives a future."""
        if self._executor is None or size_bytes < INLINE_BYTES:
            return function()
        return asyncio.get_running_loop().run_in_executor(self._executor, function)

    def close(self) -> None:
        """Waits for work under way (the decode of a block takes milliseconds) and ends the threads."""
        if self._executor is not None:
            self._executor.shutdown(wait=True, cancel_futures=True)
