"""A listening socket as a sink: every connected peer gets every row, from the batch after it connected.

A write returns once one peer has taken the whole batch; slower peers take the batch later from a kept copy (``Limits.max_bytes`` over all).
Where the kept bytes reach the limit the fast peers wait for the slow ones.  A peer is cut off that

- takes less than ``PACE_BYTES`` of its backlog for ``Limits.slow_seconds``, or
- has held the others up for ``Limits.slow_seconds`` since its backlog was last empty.

Rows wait while no peer is connected, and so does a batch whose peers all left before one had taken it whole.  A peer that ends its side of
the connection has left, whether or not anything is being sent: its descriptor is closed at once.  Bytes that peers send are dropped.

A peer that left, or was cut off, has not read the bytes that its system had not acknowledged: rows of batches that no other peer took are
counted as ``lost``.  Acknowledged bytes that the peer did not read cannot be counted.

Invariant: a batch's ``pending`` is the number of queues that hold it; the kept batches are those that were taken and are still pending.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import struct
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from asyncflow.connectors._addresses import Endpoint
from asyncflow.connectors._descriptors import TURN_BYTES
from asyncflow.connectors._peers import Limits, PeerCounts, Sweep
from asyncflow.connectors._sockets import Listener, outstanding_bytes, say_goodbye
from asyncflow.connectors.contract import Buffer, SinkConnector
from asyncflow.errors import ConnectorError
from asyncflow.model.durations import format_duration

PACE_BYTES = 1 << 14
"""A peer has moved when it has taken so many bytes, or its whole backlog."""

LOOK_AT_LEAST = 16
"""After so many batches the acknowledged ones are looked up."""

_log = logging.getLogger("asyncflow.connectors")


NOTHING = memoryview(b"")


class _Batch:
    """The bytes of one write.  ``pending``: how many peers have yet to take them; ``taken``: one peer has all of them; ``takers``: how many
    peers have, without those known not to have read them; ``kept``: a copy is kept for slower peers, since the write has returned."""

    __slots__ = ("data", "kept", "pending", "rows", "taken", "takers")

    def __init__(self, data: Buffer, rows: int) -> None:
        self.data = memoryview(data).cast("B")
        self.rows = rows
        self.kept = False
        self.takers = 0
        self.pending = 0
        self.taken = False


class _Peer:
    """One peer.  ``queue``: the batches that the peer has yet to take, the first of them from ``_offset`` on."""

    def __init__(self, sink: ListenSink, peer: socket.socket, name: str) -> None:
        self.name = name
        self.queue: deque[_Batch] = deque()
        self.backlog_bytes = 0
        self.moved = 0.0
        self.held_up_seconds = 0.0
        self._sink = sink
        self._socket = peer
        self._offset = 0
        self._sent_bytes = 0
        self._sent: deque[tuple[int, _Batch]] = (
            deque()
        )  # batches not known to be acknowledged, each with the position of its end
        self._look_at = LOOK_AT_LEAST
        self._since_moved_bytes = 0
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(peer.fileno(), self._listen)
        self._writing = False

    def offer(self, batch: _Batch) -> None:
        """Queues a batch, and sends what the system takes at once."""
        batch.pending += 1
        self.queue.append(batch)
        self.backlog_bytes += len(batch.data)
        if len(self.queue) == 1:
            self.moved = self._loop.time()
            self._write()

    def unread(self) -> Iterator[_Batch]:
        """The batches that the peer took and has not read whole, as far as acknowledgements tell."""
        acknowledged = self._sent_bytes - outstanding_bytes(self._socket)
        return (batch for end, batch in self._sent if end > acknowledged)

    def close(self) -> None:
        self._loop.remove_reader(self._socket.fileno())
        if self._writing:
            self._loop.remove_writer(self._socket.fileno())
        self._socket.close()

    def _listen(self) -> None:
        """Drops what the peer sends; notices that the peer has left."""
        try:
            said = self._socket.recv(1 << 16)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._sink.left(self._socket, os.strerror(error.errno or 0).lower())
        else:
            if not said:
                self._sink.left(self._socket, "end of the connection")

    def _write(self) -> None:
        turn_bytes = TURN_BYTES
        while self.queue and turn_bytes > 0:
            batch = self.queue[0]
            try:
                count = self._socket.send(batch.data[self._offset :])
            except (BlockingIOError, InterruptedError):
                break
            except OSError as error:
                self._sink.left(self._socket, os.strerror(error.errno or 0).lower())
                return
            turn_bytes -= count
            self._offset += count
            self._sent_bytes += count
            self.backlog_bytes -= count
            self._sink.taken_bytes += count
            self._since_moved_bytes += count
            if self._offset == len(batch.data):
                self.queue.popleft()
                self._offset = 0
                self._remember(batch)
                self._sink.took(batch)
            if self._since_moved_bytes >= PACE_BYTES or not self.queue:
                self._since_moved_bytes, self.moved = 0, self._loop.time()
        if not self.queue:
            self.held_up_seconds = 0.0
        if self._writing != bool(self.queue):
            self._writing = bool(self.queue)
            if self._writing:
                self._loop.add_writer(self._socket.fileno(), self._write)
            else:
                self._loop.remove_writer(self._socket.fileno())

    def _remember(self, batch: _Batch) -> None:
        self._sent.append((self._sent_bytes, batch))
        if len(self._sent) >= self._look_at:
            acknowledged = self._sent_bytes - outstanding_bytes(self._socket)
            while self._sent and self._sent[0][0] <= acknowledged:
                self._sent.popleft()
            self._look_at = 2 * len(self._sent) + LOOK_AT_LEAST


class ListenSink(SinkConnector):
    """See the module.  ``addresses``: where the sink listens, after ``open``; ``taken_bytes``: by all peers together; ``peers``: those
    connected now; ``kept_bytes``: of the batches that a peer has still to take."""

    taken_bytes: int = 0

    def __init__(self, endpoint: Endpoint, limits: Limits) -> None:
        self._listener = Listener(endpoint, self._on_peer)
        self._text = endpoint.text
        self._limits = limits
        self._counts = PeerCounts(endpoint.text, "slow")
        self.peers: dict[socket.socket, _Peer] = {}
        self._news = asyncio.Event()
        self._current: _Batch | None = None
        self.kept_bytes = 0
        self._lost_rows = 0
        self._turn_bytes = 0
        self._sweep = Sweep(limits.sweep_seconds, self._look)
        self._closed = False

    @property
    def addresses(self) -> tuple[str, ...]:
        return self._listener.addresses

    def counted(self) -> Mapping[str, int]:
        return {**self._counts.counts, "lost": self._lost_rows}

    async def open(self) -> None:
        await self._listener.open()

    async def write(self, data: Buffer, *, origin: Any = None) -> None:
        self._turn_bytes += len(data)
        if self._turn_bytes >= TURN_BYTES:  # no write has waited for so long: the loop gets a turn
            self._turn_bytes = 0
            await asyncio.sleep(0)
        self._current = batch = _Batch(data, self.rows_in_hand)
        try:
            self._offer(batch)
            await self._until(lambda: batch.taken)
        finally:
            self._current = None
            if batch.pending:
                batch.data = memoryview(bytes(batch.data))  # the caller reuses its buffer
                batch.kept = True
                self.kept_bytes += len(batch.data)
            else:
                batch.data = NOTHING
        await self._until(lambda: self.kept_bytes <= self._limits.max_bytes, holding_up=True)

    async def aclose(self, *, failed: bool = False) -> None:
        """Peers with a backlog still take it, unless the run ``failed``."""
        if self._closed:
            return
        self._listener.close()
        try:
            if not failed:
                await self._until(lambda: not any(peer.queue for peer in self.peers.values()))
        finally:
            self._closed = True
            self._news.set()
            self._sweep.close()
            for opened, peer in list(self.peers.items()):
                if peer.queue and not failed:
                    self._counts.cut_off("slow", peer.name, "stopped before it had taken what was sent")
                self._forget(opened)
            self._counts.close()

    # -- called by the peers ---------------------------------------------------------------------------------------------

    def took(self, batch: _Batch) -> None:
        """One peer has taken the whole batch."""
        batch.takers += 1
        batch.taken = True
        self._done(batch)
        self._news.set()

    def left(self, opened: socket.socket, why: str) -> None:
        """The peer is gone."""
        if (peer := self.peers.get(opened)) is not None:
            _log.debug("%s: %s went away: %s", self._text, peer.name, why)
            self._lose(peer)
            self._forget(opened)

    # -- within ------------------------------------------------------------------------------------------------------------

    def _on_peer(self, opened: socket.socket, name: str) -> None:
        if not self._counts.admits(len(self.peers), name, self._limits):
            opened.close()
            return
        if opened.family != socket.AF_UNIX:
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.peers[opened] = peer = _Peer(self, opened, name)
        if self._current is not None and not self._current.taken:
            peer.offer(self._current)
        self._news.set()

    def _offer(self, batch: _Batch) -> None:
        for peer in list(self.peers.values()):
            peer.offer(batch)

    async def _until(self, reached: Callable[[], bool], *, holding_up: bool = False) -> None:
        """Waits for the peers.  ``holding_up``: the time counts against peers whose backlog is half of ``max_bytes`` or more."""
        loop = asyncio.get_running_loop()
        while not reached():
            if self._closed:
                raise ConnectorError(f"{self._text}: closed while rows waited for somebody to connect")
            self._sweep.begin()
            began = loop.time()
            self._news.clear()
            await self._news.wait()
            self._turn_bytes = 0
            if holding_up:
                # More than two sweeps is the loop's delay, not the peers'.
                held_up = min(loop.time() - began, 2 * self._limits.sweep_seconds)
                for peer in self.peers.values():
                    if 2 * peer.backlog_bytes >= self._limits.max_bytes:
                        peer.held_up_seconds += held_up

    def _look(self, late: float) -> bool:
        """Cuts off slow peers and wakes the writer.  True while a peer has a backlog."""
        slow_seconds, now = self._limits.slow_seconds, asyncio.get_running_loop().time()
        for opened, peer in list(self.peers.items()):
            peer.moved += late
            if peer.queue and now - peer.moved > slow_seconds:
                self._cut_off(opened, f"it took nothing for {_text(slow_seconds)}")
            elif peer.held_up_seconds > slow_seconds:
                self._cut_off(opened, f"it held the others up for {_text(slow_seconds)}")
        self._news.set()
        return any(peer.queue for peer in self.peers.values())

    def _cut_off(self, opened: socket.socket, why: str) -> None:
        self._counts.cut_off("slow", self.peers[opened].name, why)
        self._lose(self.peers[opened])
        if opened.family != socket.AF_UNIX:  # a reset: the peer must not take this for the end of the rows
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._forget(opened)

    def _lose(self, peer: _Peer) -> None:
        """Takes the peer off the takers of batches that it has not read."""
        for batch in peer.unread():
            batch.takers -= 1
            if not batch.takers and not batch.pending:
                self._lost_rows += batch.rows

    def _done(self, batch: _Batch) -> None:
        """One peer fewer has yet to take the batch."""
        batch.pending -= 1
        if batch.kept and not batch.pending:
            batch.kept = False
            self.kept_bytes -= len(batch.data)
            batch.data = NOTHING

    def _forget(self, opened: socket.socket) -> None:
        peer = self.peers.pop(opened)
        for batch in peer.queue:
            self._done(batch)
            if batch.taken and not batch.pending and not batch.takers:
                self._lost_rows += batch.rows
        if self._closed:
            say_goodbye(opened)
        peer.close()
        self._news.set()


def _text(seconds: float) -> str:
    return format_duration(int(seconds * 1e9))
