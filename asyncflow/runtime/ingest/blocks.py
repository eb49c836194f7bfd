"""From a byte stream to decoded blocks of whole records, in order: reads, cuts, carries the unfinished record over, and decodes.

Blocks are decoded on worker threads where there are some; results come in the order of the blocks, whichever thread was faster.

The decoder says where records end (``Decoder.cut``); here the bytes are moved as little as possible.  A read that brought little is
copied out of its large block, so that a small batch that waits somewhere never keeps a large block from being used again.  A stream that
waits for others holds no block at all, only what it has of the unfinished record: there may be a thousand clients.

A stream that ends by itself may leave out its last newline.  One that was broken off ends with a part of a record, which may well
read like a whole one (``12`` of ``1234``), so it is never decoded.
"""

from __future__ import annotations

import asyncio
import mmap
from collections.abc import AsyncIterator
from functools import partial
from typing import TypeAlias

import numpy as np
from msgspec import Struct

from asyncflow.connectors.contract import ByteStream
from asyncflow.errors import ConnectorError, DataError, StageError
from asyncflow.formats.contract import RECORD_KEPT_BYTES, Block, Cut, Decoded, Decoder, Reject
from asyncflow.runtime.base.failures import FROM_INSIDE, cancellations
from asyncflow.runtime.base.workers import Offload
from asyncflow.runtime.ingest.buffers import BlockPool, InputBlock

SMALL_BYTES = 1 << 16
NEWLINE = 10


class Records(Struct, frozen=True, eq=False):
    """A block of whole records.  ``offset``: bytes of the stream before it."""

    data: Block
    offset: int


class Dropped(Struct, frozen=True, eq=False):
    """Bytes that hold no records: a header, or records that cannot be read (``cut.rejects``)."""

    cut: Cut
    offset: int


def size_bytes(item: Records | Dropped) -> int:
    """How much of the stream it is."""
    return len(item.data) if isinstance(item, Records) else item.cut.resume - item.cut.end


async def blocks(stream: ByteStream, decoder: Decoder, pool: BlockPool) -> AsyncIterator[Records | Dropped]:
    """The stream's records in blocks, to its end.

    Where it was broken off (``ByteStream.error``, or a ConnectorError, which is raised after all that came before it), the unfinished
    record is dropped with one reject, ``cut short: `` and why.  DataError, with the stream's name, where its head cannot be read.
    """
    offset = 0
    rest: Block = np.empty(0, np.uint8)
    prepared = False
    final = False
    while not final:
        if not stream.ready():
            rest = _alone(rest)
            block = data = None  # nothing of what was read before is kept meanwhile
            await stream.wait(len(rest), offset)
        block = pool.take()
        block.carry(rest)
        fault: ConnectorError | None = None
        try:
            count = await stream.read_into(block.space)
        except ConnectorError as error:
            count, fault = 0, error
        final = count == 0
        data = _compact(block, count)
        if final and (fault is not None or stream.error):
            if len(data):
                yield Dropped(_cut_short(data, stream.error if fault is None else fault.message), offset)
            if fault is not None:
                raise fault
            return
        if not prepared:
            try:
                skip = decoder.prepare(data, final)
            except DataError as error:
                raise DataError(f"{stream.name}: {error.message}") from error
            if skip is None:
                rest = data
                continue
            prepared = True
            if skip:
                yield Dropped(Cut(0, skip, lines=_newlines(data[:skip])), offset)
                data, offset = data[skip:], offset + skip
        while len(data):
            cut = decoder.cut(data, final)
            if cut.end:
                yield Records(data[: cut.end], offset)
            if cut.resume > cut.end:
                yield Dropped(cut, offset)
            data, offset = data[cut.resume :], offset + cut.resume
            if cut.resume == 0:
                break
        rest = data


def _cut_short(data: Block, why: str) -> Cut:
    reject = Reject(0, 0, 0, f"cut short: {why}", data[:RECORD_KEPT_BYTES].tobytes())
    return Cut(0, len(data), (reject,), _newlines(data))


def _newlines(data: Block) -> int:
    return int(np.count_nonzero(data == NEWLINE))


def _alone(rest: Block) -> Block:
    """A copy of an unfinished record that is to be held for long.  A large one has pages of its own, which the system has back as soon as
    it goes, whatever the allocator keeps."""
    if len(rest) < SMALL_BYTES:
        return rest.copy()
    copied = np.frombuffer(mmap.mmap(-1, len(rest)), np.uint8)
    copied[:] = rest
    return copied


def _compact(block: InputBlock, count: int) -> Block:
    data = block.filled(count)
    return data.copy() if len(data) < SMALL_BYTES else data


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
