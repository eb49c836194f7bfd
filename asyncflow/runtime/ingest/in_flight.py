"""What the clients of one source have sent and its readers have not yet taken: bounded over all of them.

Behind a slow sink every client would else be read once, and its rows wait for their turn: a thousand clients, a thousand blocks.

Invariant: while there is room, the oldest that waits for it has been woken; nobody overtakes one that waits.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

from asyncflow.runtime.base.closing import closing
from asyncflow.runtime.base.memory import Account
from asyncflow.runtime.ingest.positions import Dropped, Records, size_bytes


class InFlight:
    """``max_bytes``: one read may exceed it.  ``unfinished``: has the records of which the clients owe the rest."""

    def __init__(self, max_bytes: int, unfinished: Account) -> None:
        self.bytes = 0
        self._unfinished = unfinished
        self._max_bytes = max_bytes
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def room(self) -> None:
        """Returns when something may be read, behind those that wait already."""
        if not self._waiting and self.bytes < self._max_bytes:
            return
        waiter = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        try:
            await waiter
        finally:
            self._waiting.remove(waiter)
            # The next goes on once this one has read: then it is known how much is left.
            asyncio.get_running_loop().call_soon(self._wake)

    @contextmanager
    def held(self, count_bytes: int) -> Iterator[None]:
        """So much of an unfinished record is held within the block."""
        self._unfinished.reserve(count_bytes)
        try:
            yield
        finally:
            self._unfinished.release(count_bytes)

    async def counted(self, items: AsyncIterator[Records | Dropped]) -> AsyncIterator[Records | Dropped]:
        """The same items, each under way from here on; whoever has handled one calls ``done``."""
        async with closing(items):
            async for item in items:
                self.bytes += size_bytes(item)
                yield item
                del item  # nothing of it is kept while the next is awaited

    def done(self, item: Records | Dropped) -> None:
        self.bytes -= size_bytes(item)
        self._wake()

    def _wake(self) -> None:
        if self._waiting and self.bytes < self._max_bytes and not self._waiting[0].done():
            self._waiting[0].set_result(None)
