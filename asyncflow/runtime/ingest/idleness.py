"""Idleness of a source: no input for its idle timeout, while the engine was ready to take some.

The time in which input is being decoded, or waits for room further on, does not count: a source behind a slow sink is never idle.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from asyncflow.connectors.contract import ByteStream
from asyncflow.runtime.base.clock import Clock
from asyncflow.runtime.base.closing import closing
from asyncflow.runtime.ingest.in_flight import InFlight
from asyncflow.runtime.ingest.positions import WrappedStream

T = TypeVar("T")


class Idleness:
    """How long one source has had no input; no setting of the wall clock makes that longer or shorter.  ``timeout_ns`` None: the source is
    never idle.  ``input_ns``: when input came last, by the wall clock."""

    def __init__(self, timeout_ns: int | None, clock: Clock) -> None:
        self.timeout_ns = timeout_ns
        self._clock = clock
        self.input_ns: int | None = None
        self._since_ns = clock.elapsed_ns()
        self._under_way = 0
        self._free = asyncio.Event()
        self._free.set()
        self._resumed = asyncio.Event()

    @property
    def reached(self) -> bool:
        """The source is idle now."""
        if self.timeout_ns is None or self._under_way:
            return False
        return self._clock.elapsed_ns() - self._since_ns >= self.timeout_ns

    @property
    def length_ns(self) -> int | None:
        """For how long no input has come that the engine was ready to take; None while some is under way."""
        return None if self._under_way else self._clock.elapsed_ns() - self._since_ns

    def on_input(self) -> None:
        """Input has come."""
        self._since_ns, self.input_ns = self._clock.elapsed_ns(), self._clock.now_ns()
        self._resumed.set()

    def begin(self) -> None:
        """Something that came is under way from here on, until ``done``."""
        self._under_way += 1
        self._free.clear()

    def done(self) -> None:
        self._under_way -= 1
        self._since_ns = self._clock.elapsed_ns()
        if not self._under_way:
            self._free.set()

    @contextmanager
    def work(self) -> Iterator[None]:
        self.begin()
        try:
            yield
        finally:
            self.done()

    async def wait(self) -> None:
        """Returns when the source is idle."""
        assert self.timeout_ns is not None
        while not self.reached:
            await self._free.wait()
            await self._clock.sleep((self._since_ns + self.timeout_ns - self._clock.elapsed_ns()) / 1e9)
            await asyncio.sleep(0)  # where the loop itself was late, what lies there is read first
        self._resumed.clear()

    async def wait_for_input(self) -> None:
        """Returns when input has come since ``wait`` returned."""
        await self._resumed.wait()

    async def counted(self, items: AsyncIterator[T]) -> AsyncIterator[T]:
        """The same items, each under way from here on; whoever has handled one calls ``done``."""
        async with closing(items):
            async for item in items:
                self.begin()
                yield item
                del item  # nothing of it is kept while the next is awaited


class WatchedStream(WrappedStream):
    """The same stream; ``on_input`` is awaited whenever bytes have come.  ``most_bytes``: says how many one read may give, None: as
    many as asked; ``in_flight``: that of the source's streams, where there are several at a time."""

    def __init__(
        self,
        stream: ByteStream,
        on_input: Callable[[], Awaitable[None]],
        most_bytes: Callable[[], int | None] = lambda: None,
        in_flight: InFlight | None = None,
    ) -> None:
        super().__init__(stream)
        self._on_input = on_input
        self._in_flight = in_flight
        self._most_bytes = most_bytes

    async def wait(self, held_bytes: int = 0, offset: int = 0) -> None:
        with contextlib.nullcontext() if self._in_flight is None else self._in_flight.held(held_bytes):
            await self._stream.wait(held_bytes, offset)

    async def read_into(self, buffer: memoryview) -> int:
        if self._in_flight is not None:
            await self._in_flight.room()
        count = await self._stream.read_into(buffer[: self._most_bytes()])
        if count:
            await self._on_input()
        return count
