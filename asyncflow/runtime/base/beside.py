"""Work that goes on beside a coroutine: pieces that are done one after another."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any


class Beside:
    """At most ``most`` pieces of work, each begun when the one before is done, beside the coroutine that has entered this as its context.

    A piece that fails ends the context at once, whatever the coroutine waits for: the failure is raised where the piece is waited for,
    or where the context is left.  A context that is left in any other way cancels the pieces and waits for their end.
    """

    def __init__(self, most: int = 1) -> None:
        self._most = most
        self._owner: asyncio.Task[Any] | None = None
        self._pieces: deque[asyncio.Task[None]] = deque()

    async def __aenter__(self) -> Beside:
        self._owner = asyncio.current_task()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._owner = None
        pieces = list(self._pieces)
        self._pieces.clear()
        failed = [piece for piece in pieces if piece.done()]
        for piece in pieces:
            piece.cancel()
        if pieces:
            await asyncio.wait(pieces)
        if error is None or isinstance(error, asyncio.CancelledError):
            for piece in failed:
                piece.result()  # where one failed, that is why

    async def start(self, piece: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Makes ``piece`` the next one; waits while there are as many as there may be."""
        await self.settle(self._most - 1)
        task = asyncio.create_task(_after(self._pieces[-1] if self._pieces else None, piece))
        task.add_done_callback(self._done)
        self._pieces.append(task)

    async def settle(self, left: int = 0) -> None:
        """Returns when all pieces are done but for so many."""
        while len(self._pieces) > left:
            await self._pieces[0]
            self._pieces.popleft()

    def _done(self, piece: asyncio.Task[None]) -> None:
        if not piece.cancelled() and piece.exception() is not None and self._owner is not None:
            self._owner.cancel()


async def _after(before: asyncio.Task[None] | None, piece: Callable[[], Coroutine[Any, Any, None]]) -> None:
    if before is not None:
        await before
    await piece()
