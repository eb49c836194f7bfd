"""What a user's (async) iterable gives, drawn in a task of its own and taken in natural batches.

Only that task ever runs the iterable's code, from the first item to the close.  So a time-out or a cancel scope around a ``yield`` cancels
nothing of the run: it cancels this task while the iterable stands at the ``yield``, and the cancellation is thrown in there, where the
scope makes of it what it would in a plain loop (a TimeoutError, an ExceptionGroup, an end).  A cancellation that the iterable does not
take up, or that comes out of it unasked, is its failure.

What has come is bounded, by items and by bytes.  Items are taken down as they are when they are given: whoever fills one dict or one
array again and again gives a new row each time.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Generator, Iterable, Mapping
from functools import partial
from typing import Any

from asyncflow.errors import AsyncflowError, PipelineError, StageError
from asyncflow.runtime.base.failures import FROM_INSIDE

MAX_ITEMS = 4096
MAX_BYTES = 256 << 10
"""Of items that are arrays or tables: more of them at once would be one batch, and all that its rows need is held at once."""
ASKED_AGAIN_SECONDS = 1.0
"""An iterable that goes on though it was cancelled is asked again after so long."""


def as_async(iterable: Any) -> AsyncIterator[Any]:
    """An async iterator over any iterable; TypeError when it is none."""
    if hasattr(iterable, "__aiter__"):
        iterator: AsyncIterator[Any] = iterable.__aiter__()
        return iterator
    if isinstance(iterable, Iterable) and not isinstance(iterable, str | bytes | Mapping):
        return _from_plain(iterable)
    raise TypeError(
        f"a source in Python is an (async) iterable of dicts, batches or bytes, not {type(iterable).__name__}"
    )


async def _from_plain(iterable: Iterable[Any]) -> AsyncIterator[Any]:
    iterator = iter(iterable)
    try:
        for number, item in enumerate(iterator):
            if number % 1024 == 1023:
                await asyncio.sleep(0)
            yield item
    finally:
        if isinstance(iterator, Generator):
            iterator.close()


def read_before(iterable: Any) -> bool:
    """A generator that has come to its end: it gives nothing any more."""
    return any(getattr(iterable, frame, iterable) is None for frame in ("ag_frame", "gi_frame"))


class Pull:
    """``iterable``: drawn once, from the first ``taken`` on.  ``take_down``: an item as it is now, and its bytes where those are many."""

    def __init__(self, iterable: Any, take_down: Callable[[Any], tuple[Any, int]]) -> None:
        self._iterable = iterable
        self._take_down = take_down
        self._items: list[Any] = []
        self._bytes = 0
        self._news, self._room = asyncio.Event(), asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._ending = self._told = False

    async def taken(self) -> tuple[Any, ...]:
        """What has come since the last time, at least one item; nothing at the end.  Raises StageError with what the iterable raised."""
        if self._task is None:
            if self._ending:
                return ()
            self._task = asyncio.create_task(self._draw())
            self._task.add_done_callback(lambda _: self._news.set())
        while not self._items and not self._task.done():
            self._news.clear()
            await self._news.wait()
        if self._items:
            taken, self._items, self._bytes = tuple(self._items), [], 0
            self._room.set()
            return taken
        self._tell(self._task)
        return ()

    def stop(self) -> None:
        """Draws nothing more; what has come can still be taken."""
        self._ending = True
        if self._task is not None:
            self._task.cancel()

    async def aclose(self) -> None:
        """Ends the iterable, however it takes that; what it raises then goes to the loop's exception handler."""
        self.stop()
        task = self._task
        if task is None:
            return
        while not task.done():
            await asyncio.wait((task,), timeout=ASKED_AGAIN_SECONDS)
            task.cancel()
        if not task.cancelled() and (error := task.exception()) is not None and not self._told:
            message = "asyncflow: a source's own code failed while it was closed"
            asyncio.get_running_loop().call_exception_handler({"message": message, "exception": error})
        self._told = True

    def _tell(self, task: asyncio.Task[None]) -> None:
        """Raises what ended the task, where that was neither its end nor our stop."""
        self._told = True
        try:
            task.result()
        except asyncio.CancelledError as error:
            if not self._ending:
                raise StageError.of(error, doing=FROM_INSIDE) from error
        except (AsyncflowError, KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:
            raise StageError.of(error) from error

    async def _draw(self) -> None:
        if read_before(self._iterable):
            raise PipelineError(READ_BEFORE)
        iterator = as_async(self._iterable)
        step: Callable[[], Any] = iterator.__anext__
        try:
            while not self._ending:
                try:
                    item, size_bytes = self._take_down(await step())
                except StopAsyncIteration:
                    return
                self._items.append(item)
                self._bytes += size_bytes
                self._news.set()
                step = iterator.__anext__
                try:
                    await self._wait_for_room()
                except asyncio.CancelledError as error:
                    throw = getattr(iterator, "athrow", None)
                    if self._ending or throw is None:
                        raise
                    step = partial(throw, error)
        finally:
            aclose = getattr(iterator, "aclose", None)
            if aclose is not None:
                await aclose()

    async def _wait_for_room(self) -> None:
        while (len(self._items) >= MAX_ITEMS or self._bytes >= MAX_BYTES) and not self._ending:
            self._room.clear()
            await self._room.wait()


READ_BEFORE = "this generator was read before, and can be read once only: give a list, or an object that iterates anew each time"
