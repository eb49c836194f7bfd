"""A sink that connects to one peer; with ``reconnect`` to one connection after the other.

Before each write the sink checks whether the peer has ended the connection.  When a connection breaks, the batches that the peer's system
has not acknowledged (``SIOCOUTQ``) are sent again, from their first byte, to the next connection: their first rows may come twice.
Acknowledged rows may have been thrown away unread where the peer reset the connection; ``lost`` counts them, an upper bound.  A peer that
*ends* the connection has read all of it.  At the end the sink waits for the last acknowledgement while there is progress.

A peer that ends its half of the connection is taken to have left, although the peer might still read.  A unix socket acknowledges
nothing: an end means that all was read, a reset that some bytes were not; no batch is sent twice.

Invariant: ``_sent`` holds the batches of this connection that are not acknowledged, in order, each with the position of its end;
``_marks`` holds the numbers of rows before them, in steps of ``MARK_BYTES`` or a batch.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
from collections import deque
from collections.abc import Mapping
from typing import Any

from asyncflow.connectors._descriptors import DescriptorWriter
from asyncflow.connectors._sockets import Connecting, outstanding_bytes, say_goodbye
from asyncflow.connectors.contract import Buffer, SinkConnector
from asyncflow.errors import ConnectorError
from asyncflow.model.durations import format_size

UNREAD_BYTES = 16 << 20
"""More than a system keeps for a peer that does not read."""
MARK_BYTES = 1 << 16
CONFIRM_SECONDS = 5.0
"""How long the last acknowledgement is waited for without progress."""

_log = logging.getLogger("asyncflow.connectors")


class _Batch:
    """The bytes of one write, and how many ``rows`` they are.  ``end``: the position of their end in the last connection that took them all
    (0: none did).  ``begun``: some connection has had a part."""

    __slots__ = ("begun", "data", "end", "rows")

    def __init__(self, data: bytes, rows: int) -> None:
        self.data = data
        self.rows = rows
        self.begun = False
        self.end = 0


class ConnectSink(SinkConnector):
    """See the module.  ``peer``: the connection to the reader, None before the first."""

    def __init__(self, connecting: Connecting) -> None:
        self.connecting = connecting
        self.peer: socket.socket | None = None
        self._writer: DescriptorWriter | None = None
        self._written_bytes = 0
        self._unread_bytes = 0
        self._sent: deque[_Batch] = deque()
        self._again: deque[_Batch] = deque()
        self._marks: deque[tuple[int, int, int]] = deque()  # where it begins and ends, and its rows
        self._counts = {"connections": 0, "resent": 0, "lost": 0}
        self._closed = False

    def counted(self) -> Mapping[str, int]:
        return self._counts

    async def open(self) -> None:
        self.peer = await self.connecting.connect()
        self._writer = DescriptorWriter(self.peer.fileno(), self.peer.close)
        self._counts["connections"] += 1
        unix = self.peer.family == socket.AF_UNIX
        self._unread_bytes = (
            self.peer.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) if unix else UNREAD_BYTES
        )
        self._written_bytes = 0
        self._sent.clear()
        self._marks.clear()

    async def write(self, data: Buffer, *, origin: Any = None) -> None:
        assert self._writer is not None, "write before open"
        if not self.connecting.reconnect:
            try:
                await self._writer.write(data)
            except OSError as error:
                self._writer.close()
                raise self._gone(error) from error
            return
        self._again.append(_Batch(bytes(data), self.rows_in_hand))
        await self._send_all()

    async def aclose(self, *, failed: bool = False) -> None:
        if self._closed:
            return
        self._closed = True
        if self.peer is None or self._writer is None:
            return
        try:
            if not failed:
                while not await self._confirmed():
                    await self._send_all()
        finally:
            self._give_up(failed)
            if self.peer.fileno() >= 0:
                say_goodbye(self.peer)
            self._writer.close()

    # -- sending again -------------------------------------------------------------------------------------------------

    async def _send_all(self) -> None:
        """Sends the batches of ``_again``, in order, to this connection or the next."""
        assert self._writer is not None
        while self._again:
            if self._over():
                await self.open()
                continue
            batch = self._again[0]
            again, batch.begun = batch.begun, True
            try:
                await self._writer.write(batch.data)
            except OSError as error:
                self._broken(error)
                continue
            self._again.popleft()
            if again:
                self._counts["resent"] += batch.rows
            self._written_bytes += len(batch.data)
            batch.end = self._written_bytes
            self._sent.append(batch)
            self._acknowledge()
            self.connecting.alive()

    def _over(self) -> bool:
        """Whether the peer has ended or reset the connection; it is then closed.  Bytes that the peer sends are dropped."""
        assert self.peer is not None
        if self.peer.fileno() < 0:
            return True
        try:
            while said := self.peer.recv(1 << 16):
                if len(said) < 1 << 16:
                    return False
        except (BlockingIOError, InterruptedError):
            return False
        except OSError as error:
            self._broken(error)
        else:
            self._broken(None)
        return True

    def _broken(self, error: OSError | None) -> None:
        """Closes the connection and queues what must be sent again.  ``error`` None: the peer ended the connection."""
        assert self.peer is not None
        assert self._writer is not None
        if self.peer.fileno() >= 0:
            self._acknowledge()
            if error is not None and self._broken_off(error):
                self._counts["lost"] += sum(rows for _, _, rows in self._marks)
            self._again.extendleft(reversed(self._sent))
            self._sent.clear()
            self._writer.close()
        _log.warning("%s; connecting again", self._gone(error))
        self.connecting.lost()

    def _broken_off(self, error: OSError) -> bool:
        """Whether the peer may have left acknowledged bytes unread.  After an end in order the system gives EPIPE and nothing else."""
        assert self.peer is not None
        code = error.errno
        if code == errno.EPIPE:
            code = self.peer.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        return code not in (0, errno.EPIPE)

    def _acknowledge(self) -> None:
        """Forgets acknowledged batches, and the rows that are surely read."""
        assert self.peer is not None
        acknowledged = self._written_bytes
        if self.peer.family != socket.AF_UNIX:  # nothing that is there is ever sent again
            acknowledged -= outstanding_bytes(self.peer)
        while self._sent and self._sent[0].end <= acknowledged:
            batch = self._sent.popleft()
            begin, rows = batch.end - len(batch.data), batch.rows
            if self._marks and batch.end - self._marks[-1][0] <= MARK_BYTES:
                begin, _, before = self._marks.pop()
                rows += before
            self._marks.append((begin, batch.end, rows))
        while self._marks and self._marks[0][1] <= acknowledged - self._unread_bytes:
            self._marks.popleft()

    # -- the end -----------------------------------------------------------------------------------------------------------

    async def _confirmed(self) -> bool:
        """Waits until all bytes are acknowledged.  False where batches must be sent again; ConnectorError then without ``reconnect``."""
        assert self.peer is not None
        assert self._writer is not None
        if self.peer.fileno() < 0:
            return not self._again
        loop = asyncio.get_running_loop()
        left = outstanding_bytes(self.peer)
        until, pause_seconds = loop.time() + CONFIRM_SECONDS, 0.0005
        while True:
            code = self.peer.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code:
                error = OSError(code, os.strerror(code))
                if not self.connecting.reconnect:
                    self._writer.close()
                    raise self._gone(error)
                self._broken(error)
                return not self._again
            before, left = left, outstanding_bytes(self.peer)
            if left == 0 or self.peer.family == socket.AF_UNIX:
                return True
            if left < before:
                until = loop.time() + CONFIRM_SECONDS
            elif loop.time() > until:
                return True
            await asyncio.sleep(pause_seconds)
            pause_seconds = min(2 * pause_seconds, 0.05)

    def _give_up(self, failed: bool) -> None:
        """Counts and reports the rows that may not have arrived."""
        assert self.peer is not None
        if self.connecting.reconnect:
            if self.peer.fileno() >= 0:
                self._acknowledge()
            self._counts["lost"] += sum(batch.rows for batch in (*self._sent, *self._again) if batch.end)
        elif not failed and self.peer.fileno() >= 0 and (left := self._unacknowledged()):
            _log.warning(
                "%s: %s had not come to the other side when it was closed", self.connecting.text, left
            )
        if self._counts["lost"]:
            _log.warning(
                "%s: up to %s rows were lost with connections that broke",
                self.connecting.text,
                f"{self._counts['lost']:,}",
            )

    def _unacknowledged(self) -> str:
        assert self.peer is not None
        left = 0 if self.peer.family == socket.AF_UNIX else outstanding_bytes(self.peer)
        return format_size(left) if left else ""

    def _gone(self, error: OSError | None) -> ConnectorError:
        why = "end of the connection" if error is None else os.strerror(error.errno or 0).lower()
        return ConnectorError(f"{self.connecting.text}: the other side went away: {why}")
