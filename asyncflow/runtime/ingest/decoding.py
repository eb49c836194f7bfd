"""Blocks to columns on worker threads; results come back in the order of the blocks, whichever thread was faster."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from typing import TypeAlias

from asyncflow.errors import StageError
from asyncflow.formats.contract import Decoded, Decoder
from asyncflow.runtime.base.failures import FROM_INSIDE, cancellations
from asyncflow.runtime.base.workers import Offload
from asyncflow.runtime.ingest.blocks import Dropped, Records

_Entry: TypeAlias = tuple[Records | Dropped, "asyncio.Future[Decoded] | Decoded | None"]


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
