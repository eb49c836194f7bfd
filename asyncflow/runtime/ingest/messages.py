"""Messages (datagrams) to items: each holds whole records and is decoded by itself, so a strange one harms no other."""

from __future__ import annotations

import numpy as np

from asyncflow.connectors.contract import Datagram
from asyncflow.errors import DataError
from asyncflow.formats.contract import RECORD_KEPT_BYTES, Block, Decoded, Decoder, Reject
from asyncflow.runtime.ingest.positions import Item
from asyncflow.runtime.ingest.streams import NEWLINE
from asyncflow.runtime.ingest.way_out import NO_COLUMNS, WayOut


async def take_message(way: WayOut, decoder: Decoder, message: Datagram) -> None:
    """One message: whole records, decoded by themselves."""
    rest: Block = np.frombuffer(bytearray(message.data), np.uint8)
    name, origin = str(message.origin), message.origin
    line = 1
    offset = skipped = 0
    if len(rest):
        try:
            offset = skipped = decoder.prepare(rest, True) or 0
        except DataError as error:
            head = rest[:RECORD_KEPT_BYTES].tobytes()
            refused = Decoded((), 0, 0, 1, (Reject(0, 0, 0, error.message, head),))
            await way.hand_on_decoded(Item(1, len(rest), None), NO_COLUMNS, refused, name, line, 0, name)
            return
        line += int(np.count_nonzero(rest[:offset] == NEWLINE))
        rest = rest[offset:]
    while len(rest):
        cut = decoder.cut(rest, True)
        if cut.end:
            result = decoder.decode(rest[: cut.end])
            item = Item(result.num_rows + result.rejected, cut.end + skipped, None)
            await way.hand_on_decoded(item, decoder.output, result, name, line, offset, name, origin)
            line, skipped = line + result.lines, 0
        dropped = Decoded((), 0, 0, len(cut.rejects), cut.rejects)
        item = Item(len(cut.rejects), cut.resume - cut.end + skipped, None)
        await way.hand_on_decoded(item, NO_COLUMNS, dropped, name, line, offset, name)
        line, skipped = line + cut.lines, 0
        rest, offset = rest[cut.resume :], offset + cut.resume
        if cut.resume == 0:
            break
    if left := skipped + len(rest):
        await way.hand_on_decoded(Item(0, left, None), NO_COLUMNS, Decoded((), 0), name, line, offset, name)
