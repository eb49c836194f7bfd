"""Byte streams of a source to decoded blocks of whole records, in order: reads, cuts, carries the unfinished record over, decodes.

Blocks are decoded on worker threads where there are some; results come in the order of the blocks, whichever thread was faster.

The decoder says where records end (``Decoder.cut``); here the bytes are moved as little as possible.  A read that brought little is
copied out of its large block, so that a small batch that waits somewhere never keeps a large block from being used again.  A stream that
waits for others holds no block at all, only what it has of the unfinished record: there may be a thousand clients.

A stream that ends by itself may leave out its last newline.  One that was broken off ends with a part of a record, which may well
read like a whole one (``12`` of ``1234``), so it is never decoded.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import TypeAlias

import numpy as np

from asyncflow.connectors.contract import ByteStream
from asyncflow.errors import ConnectorError, DataError, StageError
from asyncflow.formats.contract import RECORD_KEPT_BYTES, Block, Cut, Decoded, Decoder, Reject
from asyncflow.model.schema import Schema
from asyncflow.runtime.base.closing import closing
from asyncflow.runtime.base.failures import FROM_INSIDE, cancellations
from asyncflow.runtime.base.memory import Account
from asyncflow.runtime.base.workers import Offload
from asyncflow.runtime.ingest.buffers import BlockPool, InputBlock
from asyncflow.runtime.ingest.idleness import Idleness, WatchedStream
from asyncflow.runtime.ingest.in_flight import InFlight
from asyncflow.runtime.ingest.positions import (
    START,
    Dropped,
    Item,
    Position,
    ReadAgain,
    Records,
    after,
    size_bytes,
)
from asyncflow.runtime.ingest.way_out import NO_COLUMNS, Foreseen, WayOut

SMALL_BYTES = 1 << 16
NEWLINE = 10


class StreamReader:
    """Reads byte streams of one source to their ends, each item by the way out.

    ``on_input``: awaited before anything is done with what has come; ``most_bytes``: by one read, None: what is there; ``in_flight``:
    what several peers have sent and nobody has taken yet; ``decoded_ahead``: has the rows that wait for their turn.
    """

    def __init__(
        self,
        way: WayOut,
        pool: BlockPool,
        offload: Offload,
        idleness: Idleness,
        in_flight: InFlight | None,
        decoded_ahead: Account,
        on_input: Callable[[], Awaitable[None]],
        most_bytes: Callable[[], int | None],
    ) -> None:
        self._decoded_ahead = decoded_ahead
        self._way, self._pool, self._offload = way, pool, offload
        self._idleness, self._in_flight = idleness, in_flight
        self._on_input, self._most_bytes = on_input, most_bytes

    async def read(
        self,
        stream: ByteStream,
        decoder: Decoder,
        begin: Position = START,
        number: int | None = None,
        peer: str | None = None,
    ) -> str:
        """Reads one stream from ``begin`` on and closes it; gives why it ended before its own end, or nothing.

        ``number``: of the stream, where streams are read one after another; ``peer``: its sender, where a source has several.
        """
        lines, in_flight = begin.lines, self._in_flight
        again = ReadAgain(stream, begin.offset) if begin.offset else stream
        read = blocks(WatchedStream(again, self._on_input, self._most_bytes, in_flight), decoder, self._pool)
        if begin.offset:
            read = after(read, begin.offset)
        try:
            async with (
                closing(self._idleness.counted(in_flight.counted(read) if in_flight else read)) as items,
                closing(
                    decoded(items, decoder, self._offload, self._decoded_ahead, self._way.foresee)
                ) as results,
            ):
                async for item, result, foreseen in results:
                    if isinstance(item, Dropped):
                        schema, end, offset = (
                            NO_COLUMNS,
                            lines + item.cut.lines,
                            item.offset + item.cut.resume,
                        )
                        rejects = item.cut.rejects
                        found = Decoded((), 0, 0, len(rejects), rejects)
                    else:
                        assert result is not None
                        schema, end, offset = (
                            decoder.output,
                            lines + result.lines,
                            item.offset + len(item.data),
                        )
                        found = result
                    position = None if number is None else Position(number, offset, end)
                    counted = Item(found.num_rows + found.rejected, size_bytes(item), position)
                    await self._way.hand_on_decoded(
                        counted, schema, found, stream.name, lines, item.offset, peer, foreseen=foreseen
                    )
                    lines = end
                    self._idleness.done()
                    if in_flight is not None:
                        in_flight.done(item)
                    del item, result, found, foreseen  # nothing of it is kept while the next is awaited
            return f"{stream.name}: {stream.error}" if stream.error else ""
        finally:
            await stream.aclose()


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
    import mmap

    copied = np.frombuffer(mmap.mmap(-1, len(rest)), np.uint8)
    copied[:] = rest
    return copied


def _compact(block: InputBlock, count: int) -> Block:
    data = block.filled(count)
    return data.copy() if len(data) < SMALL_BYTES else data


_Worked: TypeAlias = tuple[Decoded | None, Foreseen | None]
_Entry: TypeAlias = tuple[Records | Dropped, "asyncio.Future[_Worked] | _Worked"]
_NOTHING: _Worked = (None, None)


async def decoded(
    items: AsyncIterator[Records | Dropped],
    decoder: Decoder,
    offload: Offload,
    ahead: Account,
    foresee: Callable[[Schema, Decoded], Foreseen | None] = lambda _schema, _decoded: None,
) -> AsyncIterator[tuple[Records | Dropped, Decoded | None, Foreseen | None]]:
    """Each item of ``items`` in order, with what its records decode to (None for dropped bytes), and what a worker made of the rows besides
    (``foresee``).  Nothing of one is kept while the next is awaited: there may be a thousand clients.

    ``ahead``: has the rows of blocks that workers have, about as large as the blocks; at the bound on memory there is one such block.
    """
    if offload.workers == 1:
        async for item in items:
            yield item, decoder.decode(item.data) if isinstance(item, Records) else None, None
            del item
        return

    def work(data: Block) -> _Worked:
        result = decoder.decode(data)
        return result, foresee(decoder.output, result)

    # Reading goes on while earlier blocks are being decoded; the queue's bound is what may be under way.
    queue: asyncio.Queue[_Entry | Exception | None] = asyncio.Queue(offload.workers)
    counted = 0

    async def read_on() -> None:
        nonlocal counted
        try:
            async for item in items:
                result: asyncio.Future[_Worked] | _Worked = _NOTHING
                if isinstance(item, Records):
                    size = len(item.data)
                    if offload.takes(size):
                        if ahead.full:
                            await queue.join()
                        ahead.add(size)
                        counted += size
                        result = offload.run(partial(work, item.data))
                    else:
                        result = decoder.decode(item.data), None
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
            aside = size_bytes(item) if isinstance(result, asyncio.Future) else 0
            found, foreseen = await result if isinstance(result, asyncio.Future) else result
            yield item, found, foreseen
            del entry, item, result, found, foreseen
            ahead.release(aside)
            counted -= aside
            queue.task_done()
    finally:
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)
        ahead.release(counted)
