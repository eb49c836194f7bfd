"""The messages that tell a source's format and schema: those of the shape that most records have, of the first that come.

Senders cannot be told apart by where they send from (many take another port for each message), so a strange one is told by what it sends.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import TypeAlias

import numpy as np

from asyncflow.connectors.contract import Datagram
from asyncflow.formats.contract import Block
from asyncflow.runtime.ingest import peek
from asyncflow.runtime.ingest.peek import FEW_RECORDS, NOTHING, CountRecords, Head, content

Shape: TypeAlias = Callable[[Block], tuple[Hashable, bool]]
"""What messages of one kind have in common (the format and the names of the columns), and whether several can be read as one."""


async def first_messages(
    receive: Callable[[], Awaitable[Sequence[Datagram]]],
    received: list[Datagram],
    count: CountRecords,
    shape: Shape,
    enough_bytes: int,
) -> Head:
    """The messages of one shape and their data records; all that were taken are added to ``received``.

    A line end stands between them; where they cannot be read as one, it is the first.  Waits for the first data record, and then until
    ``FEW_RECORDS`` have one shape, for ``FEW_SECONDS`` at most.  Where none comes: the first message that says something.
    """
    kinds: dict[Hashable, tuple[list[bytes], int]] = {}
    most, size, until, said = 0, 0, None, NOTHING
    while most < FEW_RECORDS and size < enough_bytes:
        try:
            async with asyncio.timeout_at(until):
                messages = await receive()
        except TimeoutError:
            break
        if not messages:
            break
        received += messages
        for message in messages:
            data = np.frombuffer(message.data, np.uint8)
            if not (records := count(data, True)):
                said = said if len(said.data) or not content(message.data) else Head(data, True, 0)
                continue
            if most < FEW_RECORDS and size < enough_bytes:
                kind, joined = shape(data)
                texts, known = kinds.get(kind, ([], 0))
                kinds[kind] = ([*texts, message.data] if joined or not texts else texts, known + records)
                most, size = max(most, known + records), size + len(data)
        if kinds and until is None:
            until = asyncio.get_running_loop().time() + peek.FEW_SECONDS
    if not kinds:
        return said
    texts, records = max(kinds.values(), key=lambda kind: kind[1])
    return Head(np.frombuffer(b"\n".join(texts), np.uint8), True, records)
