"""Threads that work for one event loop.

What an executor of the standard library does, with less than half of its work on the loop's thread: calls and futures go to the threads as
they are, and one wake-up of the loop tells of all that is done by then.

Invariants.  A call that was taken tells its future, unless that was cancelled or the loop is closed.  A thread that waits for work
holds nothing of the work before.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any, TypeAlias, TypeVar

T = TypeVar("T")
_Call: TypeAlias = tuple["asyncio.Future[Any]", Callable[[], Any]]
_Done: TypeAlias = tuple["asyncio.Future[Any]", Any, BaseException | None]


class Threads:
    """``count`` threads, which begin with the first call.  ``run`` and ``close`` are called on the loop's thread."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._threads: list[threading.Thread] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()  # None: a thread ends
        self._done: deque[_Done] = deque()
        self._told = False  # the loop is going to look at what is done

    def run(self, call: Callable[[], T]) -> asyncio.Future[T]:
        """Has a thread make the call; the oldest goes first."""
        loop = self._loop or self._start()
        future: asyncio.Future[T] = loop.create_future()
        self._calls.put((future, call))
        return future

    def close(self) -> None:
        """Waits for calls under way and ends the threads; calls that wait are cancelled."""
        with contextlib.suppress(Empty):
            while (waiting := self._calls.get_nowait()) is not None:
                waiting[0].cancel()
        for _ in self._threads:
            self._calls.put(None)
        for thread in self._threads:
            thread.join()
        self._threads.clear()

    def _start(self) -> asyncio.AbstractEventLoop:
        self._loop = asyncio.get_running_loop()
        for number in range(self._count):
            thread = threading.Thread(target=self._work, name=f"asyncflow-worker_{number}", daemon=True)
            thread.start()
            self._threads.append(thread)
        return self._loop

    def _work(self) -> None:
        while (taken := self._calls.get()) is not None:
            future, call = taken
            if not future.cancelled():
                try:
                    self._done.append((future, call(), None))
                except BaseException as error:
                    self._done.append((future, None, error))
                self._tell()
            del taken, future, call

    def _tell(self) -> None:
        """Wakes the loop.  ``_told`` is taken back before the loop looks, so whoever finds it set has been seen, or will be."""
        if not self._told:
            self._told = True
            assert self._loop is not None
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                self._loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        self._told = False
        while self._done:
            future, result, error = self._done.popleft()
            if future.cancelled():
                continue
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)
