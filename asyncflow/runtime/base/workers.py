"""Decoding and encoding beside the event loop: blocks go to worker threads, results come back in the order of the blocks.

The loop's own thread is one of the workers: it groups and aggregates, in order, while the others decode and encode.  With one worker
everything is done inline: a thread hop costs tens of microseconds and gains nothing.  With more, what is below ``INLINE_BYTES`` is still
done inline.  The order of results never depends on which thread was faster.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeAlias, TypeVar

from asyncflow.errors import StageError
from asyncflow.formats.contract import Decoded, Decoder
from asyncflow.runtime.base.failures import FROM_INSIDE, cancellations
from asyncflow.runtime.ingest.blocks import Dropped, Records

INLINE_BYTES = 1 << 17
T = TypeVar("T")
_Entry: TypeAlias = tuple[Records | Dropped, "asyncio.Future[Decoded] | Decoded | None"]


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
        """Waits for what is under way (a decode of one block, milliseconds) and ends the threads."""
        if self._executor is not None:
            self._executor.shutdown(wait=True, cancel_futures=True)


async def decoded(
    items: AsyncIterator[Records | Dropped], decoder: Decoder, offload: Offload
) -> AsyncIterator[tuple[Records | Dropped, Decoded | None]]:
    """Each item of ``items`` in order, with what its records decode to (None for dropped bytes).  Nothing of one is kept while the next is
    awaited: there may be a thousand clients."""
    if offload.workers == 1:
        async for item in items:
            yield item, decoder.decode(item.data) if isinstance(item, Records) else None
            del item
        return
    # Reading goes on while earlier blocks are being decoded; the queue's bound is what may be under way.
    queue: asyncio.Queue[_Entry | Exception | None] = asyncio.Queue(offload.workers + 1)

    async def read_on() -> None:
        try:
            async for item in items:
                result: asyncio.Future[Decoded] | Decoded | None = None
                if isinstance(item, Records):
                    result = offload.start(partial(decoder.decode, item.data), len(item.data))
                await queue.put((item, result))
                del item, result
        except asyncio.CancelledError as error:
            if cancellations(asyncio.current_task()):
                raise
            await queue.put(StageError.of(error, doing=FROM_INSIDE))
        except Exception as error:
            await queue.put(error)
        else:
            await queue.put(None)

    reader = asyncio.create_task(read_on())
    try:
        while (entry := await queue.get()) is not None:
            if isinstance(entry, Exception):
                raise entry
            item, result = entry
            yield item, (await result if isinstance(result, asyncio.Future) else result)
            del entry, item, result
    finally:
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)
