"""A listening socket as a source: every peer is a stream, read side by side, within the limits of ``_peers``.

The stream of a peer that is cut off ends with an ``error``: its unfinished record is rejected with that reason.  Time counts against a peer
only while its bytes are waited for, so backpressure from a slow sink cuts nobody off.
"""

from __future__ import annotations

import asyncio
import select
import socket
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping

from asyncflow.connectors._addresses import Endpoint
from asyncflow.connectors._descriptors import DescriptorStream
from asyncflow.connectors._peers import Limits, PeerCounts, Sweep
from asyncflow.connectors._sockets import Listener
from asyncflow.connectors.contract import ByteSource, ByteStream
from asyncflow.model.durations import format_duration, format_size


class PeerStream(DescriptorStream):
    """The bytes of one peer.  ``held_bytes``: of an unfinished record; ``waits_since``: when waiting for the peer began, None while nobody
    waits."""

    def __init__(
        self, peer: socket.socket, name: str, release: Callable[[], None], source: ListenSource
    ) -> None:
        super().__init__(peer.fileno(), name, release)
        self.held_bytes = 0
        self.waits_since: float | None = None
        self._source = source
        self._record_offset = 0
        self._record_waited = 0.0
        self._poll = select.poll()
        self._poll.register(peer.fileno(), select.POLLIN)

    def ready(self) -> bool:
        return self.at_hand or bool(self._poll.poll(0))

    async def wait(self, held_bytes: int = 0, offset: int = 0) -> None:
        if offset != self._record_offset or not held_bytes:
            self._record_offset, self._record_waited = offset, 0.0
        loop = asyncio.get_running_loop()
        self.held_bytes, self.waits_since = held_bytes, loop.time()
        try:
            self._source.waits(self)
            while not self.ready():
                await self.readable()
        finally:
            self._record_waited += loop.time() - self.waits_since
            self._source.waits_no_more(self)
            self.held_bytes, self.waits_since = 0, None

    def excuse(self, seconds: float) -> None:
        """Takes a delay of the loop off the time that the peer was waited for."""
        if self.waits_since is not None:
            self.waits_since += seconds

    def waited(self, now: float) -> tuple[float, float]:
        """Seconds without a byte, and seconds of waiting for the end of the record."""
        since = 0.0 if self.waits_since is None else now - self.waits_since
        return since, self._record_waited + since if self.held_bytes else 0.0


class ListenSource(ByteSource):
    """Every peer that connects is a stream, side by side, until ``stop``.

    ``addresses``: where the source listens, after ``started``; ``peers``: the streams that are open; ``held_bytes``: of their unfinished
    records.
    """

    concurrent = True
    bounded = False

    def __init__(self, endpoint: Endpoint, limits: Limits) -> None:
        self._listener = Listener(endpoint, self._on_peer)
        self._limits = limits
        self._counts = PeerCounts(endpoint.text, "idle", "record", "memory")
        self.peers: set[PeerStream] = set()
        self._arrived: deque[PeerStream] = deque()
        self._arrival = asyncio.Event()
        self._stopped = False
        self._closed_bytes = 0
        self.held_bytes = 0
        self._sweep = Sweep(limits.sweep_seconds, self._look)

    @property
    def addresses(self) -> tuple[str, ...]:
        return self._listener.addresses

    @property
    def position_bytes(self) -> int:  # type: ignore[override]
        return self._closed_bytes + sum(stream.position_bytes for stream in self.peers)

    def counted(self) -> Mapping[str, int]:
        return self._counts.counts

    async def started(self) -> tuple[str, ...]:
        """Listens, if it does not yet; the addresses, with the real port where 0 was asked for."""
        await self._listener.open()
        return self.addresses

    async def streams(self) -> AsyncIterator[ByteStream]:
        if not self._stopped:
            await self.started()
        while True:
            while self._arrived:
                yield self._arrived.popleft()
            if self._stopped:
                return
            self._arrival.clear()
            await self._arrival.wait()

    async def stop(self) -> None:
        if not self._stopped:
            self._listener.accept_pending()  # a peer that has connected may have sent already
            self._listener.close()
            self._stopped = True
            for stream in self.peers:
                stream.finish()
            self._arrival.set()

    async def aclose(self) -> None:
        self._stopped = True
        self._listener.close()
        for stream in list(self.peers):
            stream.close()
        self._sweep.close()
        self._counts.close()
        self._arrived.clear()
        self._arrival.set()

    # -- peers and their limits ----------------------------------------------------------------------------------------

    def waits(self, stream: PeerStream) -> None:
        """The stream's reader begins to wait for the peer."""
        self.held_bytes += stream.held_bytes
        if self.held_bytes > self._limits.max_bytes:
            self._make_room()
        if self._timed(stream):
            self._sweep.begin()

    def waits_no_more(self, stream: PeerStream) -> None:
        self.held_bytes -= stream.held_bytes

    def _on_peer(self, peer: socket.socket, name: str) -> None:
        if not self._counts.admits(len(self.peers), name, self._limits):
            peer.close()
            return
        stream = PeerStream(peer, name, lambda: self._released(stream, peer), self)
        self.peers.add(stream)
        self._arrived.append(stream)
        self._arrival.set()

    def _released(self, stream: PeerStream, peer: socket.socket) -> None:
        self._closed_bytes += stream.position_bytes
        self.peers.discard(stream)
        peer.close()

    def _cut_off(self, stream: PeerStream, way: str, why: str) -> None:
        self._counts.cut_off(way, stream.name, why)
        self.held_bytes -= stream.held_bytes
        stream.held_bytes = 0
        stream.break_off(why)

    def _make_room(self) -> None:
        """Cuts off peers whose unfinished record is larger than an equal share, the longest awaited first.  A single peer may hold a record
        of any allowed size."""
        now = asyncio.get_running_loop().time()
        why = f"the unfinished records of all peers hold more than {format_size(self._limits.max_bytes)}"
        holding = sorted(
            (stream for stream in self.peers if stream.held_bytes),
            key=lambda stream: stream.waited(now)[1],
        )
        while self.held_bytes > self._limits.max_bytes and len(holding) > 1:
            share = self._limits.max_bytes / len(holding)
            longest = max(
                (position for position, stream in enumerate(holding) if stream.held_bytes > share), default=-1
            )
            self._cut_off(holding.pop(longest), "memory", why)

    def _timed(self, stream: PeerStream) -> bool:
        """Whether the stream is waited for and has a time limit."""
        if stream.waits_since is None:
            return False
        return bool(self._limits.idle_seconds or (self._limits.record_seconds and stream.held_bytes))

    def _look(self, late: float) -> bool:
        """Cuts off peers that are beyond a time limit.  True while a peer with a time limit is waited for."""
        limits, now = self._limits, asyncio.get_running_loop().time()
        waiting = [stream for stream in self.peers if self._timed(stream)]
        for stream in waiting:
            stream.excuse(late)
            quiet, unfinished = stream.waited(now)
            if limits.record_seconds and unfinished > limits.record_seconds:
                self._cut_off(stream, "record", f"no end of its record within {_text(limits.record_seconds)}")
            elif limits.idle_seconds and quiet > limits.idle_seconds:
                self._cut_off(stream, "idle", f"nothing came for {_text(limits.idle_seconds)}")
        return bool(waiting)


def _text(seconds: float) -> str:
    return format_duration(int(seconds * 1e9))
