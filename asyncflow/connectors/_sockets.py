"""Stream sockets, the same for tcp and unix: a listener for many peers, and connections to one peer.

Bytes move by ``_descriptors``: nothing is read before the consumer asks, and a write waits for a slow peer, so backpressure reaches the
peer.  A reset ends the stream of that peer (with ``error``), never the source.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import errno
import fcntl
import logging
import os
import random
import socket
import termios
from collections.abc import AsyncIterator, Callable

from asyncflow.connectors._addresses import BACKLOG, Endpoint, format_host_port, tell_if_open
from asyncflow.connectors._descriptors import DescriptorStream
from asyncflow.connectors._peers import keep_alive
from asyncflow.connectors.contract import ByteSource, ByteStream
from asyncflow.errors import ConnectorError, RetriableError

FIRST_DELAY_SECONDS = 0.1
ACCEPT_PAUSE_SECONDS = 1.0

_NO_ROOM = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_log = logging.getLogger("asyncflow.connectors")


class Listener:
    """Accepts peers and calls ``on_peer(socket, name)`` for each.  Without free descriptors accepting pauses, with a warning."""

    def __init__(self, endpoint: Endpoint, on_peer: Callable[[socket.socket, str], None]) -> None:
        self.addresses: tuple[str, ...] = ()
        self._endpoint = endpoint
        self._on_peer = on_peer
        self._sockets: list[socket.socket] = []
        self._retry: asyncio.TimerHandle | None = None
        self._peers = 0
        self._opening = asyncio.Lock()

    async def open(self) -> None:
        """Binds and begins to accept; once."""
        async with self._opening:
            if self._sockets:
                return
            self._sockets = await self._endpoint.bind()
            try:
                for opened in self._sockets:
                    opened.listen(BACKLOG)
            except OSError as error:
                self.close()
                raise ConnectorError(
                    f"{self._endpoint.text}: cannot listen there: {os.strerror(error.errno or 0).lower()}"
                ) from error
            names = [opened.getsockname() for opened in self._sockets]
            self.addresses = tuple(
                name if isinstance(name, str) else format_host_port(name) for name in names
            )
            tell_if_open(names)
            self._watch()

    def accept_pending(self) -> None:
        """Accepts the peers that have connected already, without waiting."""
        for opened in self._sockets:
            for _ in range(BACKLOG):
                try:
                    peer, address = opened.accept()
                except (BlockingIOError, InterruptedError):
                    break
                except OSError as error:
                    if error.errno in _NO_ROOM:
                        self._pause(error)
                        return
                    continue  # that one peer is gone again
                peer.setblocking(False)
                keep_alive(peer)
                self._peers += 1
                self._on_peer(peer, self._endpoint.name(address, self._peers))

    def close(self) -> None:
        if not self._sockets:
            return
        self._unwatch()
        if self._retry is not None:
            self._retry.cancel()
        self._endpoint.unbind()
        for opened in self._sockets:
            opened.close()
        self._sockets = []

    def _watch(self) -> None:
        for opened in self._sockets:
            asyncio.get_running_loop().add_reader(opened.fileno(), self.accept_pending)

    def _unwatch(self) -> None:
        for opened in self._sockets:
            asyncio.get_running_loop().remove_reader(opened.fileno())

    def _pause(self, error: OSError) -> None:
        _log.warning("%s: accepting paused: %s", self._endpoint.text, os.strerror(error.errno or 0).lower())
        self._unwatch()
        self._retry = asyncio.get_running_loop().call_later(ACCEPT_PAUSE_SECONDS, self._watch)


class Connecting:
    """Connects, with ``reconnect`` again and again: the wait doubles up to ``max_delay_seconds`` and is randomised.

    ``failures``: attempts that failed, and connections that were lost, since bytes last moved.
    """

    def __init__(self, endpoint: Endpoint, *, reconnect: bool, max_delay_seconds: float) -> None:
        self.text = endpoint.text
        self.reconnect = reconnect
        self._endpoint = endpoint
        self._max_delay_seconds = max_delay_seconds
        self.failures = 0

    async def connect(self) -> socket.socket:
        """A connected socket.  RetriableError when nobody answers and ``reconnect`` is off."""
        while True:
            if self.failures:
                ceiling = min(self._max_delay_seconds, FIRST_DELAY_SECONDS * 2 ** min(self.failures - 1, 30))
                await asyncio.sleep(ceiling * random.uniform(0.5, 1))
            try:
                return await self._endpoint.connect()
            except RetriableError as error:
                if not self.reconnect:
                    raise
                self.failures += 1
                if self.failures == 1:
                    _log.warning("%s; trying again", error)

    def lost(self) -> None:
        """The connection ended: the next one waits a little."""
        self.failures += 1

    def alive(self) -> None:
        """Bytes have moved: waits begin at the shortest again."""
        self.failures = 0


class ConnectSource(ByteSource):
    """One connection at a time.  The source ends when the peer closes; with ``reconnect`` the next connection is a new stream."""

    bounded = False

    def __init__(self, connecting: Connecting) -> None:
        self._connecting = connecting
        self._attempt: asyncio.Task[socket.socket] | None = None
        self._stream: DescriptorStream | None = None
        self._earlier_bytes = 0
        self._stopped = False

    @property
    def position_bytes(self) -> int:  # type: ignore[override]
        return self._earlier_bytes + (0 if self._stream is None else self._stream.position_bytes)

    async def streams(self) -> AsyncIterator[ByteStream]:
        while not self._stopped:
            peer = await self._connect()
            if peer is None:
                return
            self._stream = DescriptorStream(peer.fileno(), self._connecting.text, peer.close)
            yield self._stream
            if self._stream.position_bytes:
                self._connecting.alive()
            self._connecting.lost()
            self._earlier_bytes, self._stream = self.position_bytes, None
            if not self._connecting.reconnect:
                return

    async def stop(self) -> None:
        self._stopped = True
        if self._attempt is not None:
            self._attempt.cancel()
        if self._stream is not None:
            self._stream.finish()

    async def aclose(self) -> None:
        self._stopped = True
        if self._attempt is not None:
            self._attempt.cancel()
        if self._stream is not None:
            self._stream.close()

    async def _connect(self) -> socket.socket | None:
        """None when the source was stopped in the meantime."""
        self._attempt = attempt = asyncio.create_task(self._connecting.connect())
        try:
            peer = await attempt
        except asyncio.CancelledError:
            attempt.add_done_callback(_close_result)
            if self._stopped and attempt.cancelled():
                return None
            raise
        finally:
            self._attempt = None
        if self._stopped:
            peer.close()
            return None
        return peer


def outstanding_bytes(peer: socket.socket) -> int:
    """Bytes that the peer's system has not acknowledged; of a unix socket an upper bound of the bytes not read."""
    outstanding = array.array("i", [0])
    try:
        fcntl.ioctl(peer.fileno(), termios.TIOCOUTQ, outstanding)
    except OSError:
        return 0
    return outstanding[0]


def say_goodbye(peer: socket.socket) -> None:
    """Ends our side of a connection so that all that was written arrives; closing with unread bytes would reset the connection."""
    with contextlib.suppress(OSError):
        peer.shutdown(socket.SHUT_WR)
        for _ in range(64):
            if not peer.recv(65536):
                return


def _close_result(attempt: asyncio.Task[socket.socket]) -> None:
    """Closes a connection that is no longer wanted."""
    if not attempt.cancelled() and attempt.exception() is None:
        attempt.result().close()
