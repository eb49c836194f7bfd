"""From a byte stream to blocks of whole records, in order: reads, cuts, and carries the unfinished record over.

The decoder says where records end (``Decoder.cut``); here the bytes are moved as little as possible.  A read that brought little is
copied out of its large block, so that a small batch that waits somewhere never keeps a large block from being used again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

import numpy as np

from asyncflow.connectors.contract import ByteStream
from asyncflow.formats.contract import Block, Cut, Decoder
from asyncflow.runtime.buffers import BlockPool, InputBlock

SMALL_BYTES = 1 << 16
NEWLINE = 10


@dataclass(frozen=True, slots=True, eq=False)
class Records:
    """A block of whole records.  ``offset``: bytes of the stream before it."""

    data: Block
    offset: int


@dataclass(frozen=True, slots=True, eq=False)
class Dropped:
    """Bytes that hold no records: a header, or records that cannot be read (``cut.rejects``)."""

    cut: Cut
    offset: int


async def blocks(stream: ByteStream, decoder: Decoder, pool: BlockPool) -> AsyncIterator[Records | Dropped]:
    """The stream's records in blocks, to its end."""
    offset = 0
    rest: Block = np.empty(0, np.uint8)
    prepared = False
    final = False
    while not final:
        block = pool.take()
        block.carry(rest)
        count = await stream.read_into(block.space)
        final = count == 0
        data = _compact(block, count)
        if not prepared:
            skip = decoder.prepare(data, final)
            if skip is None:
                rest = data
                continue
            prepared = True
            if skip:
                lines = int(np.count_nonzero(data[:skip] == NEWLINE))
                yield Dropped(Cut(0, skip, lines=lines), offset)
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


def _compact(block: InputBlock, count: int) -> Block:
    data = block.filled(count)
    return data.copy() if len(data) < SMALL_BYTES else data
