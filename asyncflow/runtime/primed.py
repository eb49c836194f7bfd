"""A byte stream whose first bytes were looked at before it is read: to tell its format and its schema."""

from __future__ import annotations

import asyncio

import numpy as np

from asyncflow.connectors.contract import ByteStream
from asyncflow.formats.contract import Block

PAUSE_SECONDS = 0.3
"""A live input that pauses for so long after its first bytes is judged by what it has sent."""


class PrimedStream(ByteStream):
    """Gives the same bytes as ``stream``, the head among them."""

    def __init__(self, stream: ByteStream) -> None:
        self.name = stream.name
        self._stream = stream
        self._head = bytearray()
        self._ended = False
        self._space = bytearray(1 << 16)
        self._reading: asyncio.Task[int] | None = None

    @property
    def error(self) -> str:  # type: ignore[override]
        return self._stream.error

    async def head(self, enough_bytes: int) -> tuple[Block, bool]:
        """The first ``enough_bytes``; less where the stream ends or pauses before.  And whether that was the end."""
        while len(self._head) < enough_bytes and not self._ended:
            if self._reading is None:
                self._reading = asyncio.ensure_future(self._stream.read_into(memoryview(self._space)))
            # The head must hold a whole line at least; after that a pause is enough.
            pause = PAUSE_SECONDS if b"\n" in self._head else None
            done, _ = await asyncio.wait((self._reading,), timeout=pause)
            if not done:
                break
            await self._take()
        return np.frombuffer(bytes(self._head), np.uint8), self._ended

    async def read_into(self, buffer: memoryview) -> int:
        if not self._head and self._reading is not None:
            await self._take()
        if self._head:
            count = min(len(buffer), len(self._head))
            buffer[:count] = self._head[:count]
            del self._head[:count]
            return count
        return 0 if self._ended else await self._stream.read_into(buffer)

    async def aclose(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
            self._reading = None
        await self._stream.aclose()

    async def _take(self) -> None:
        assert self._reading is not None
        count = await asyncio.shield(self._reading)
        self._reading = None
        self._head += self._space[:count]
        self._ended = count == 0
