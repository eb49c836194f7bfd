"""Datagrams received: what ``udp`` is made of as a source, and the sockets that replies leave from.

Datagrams that come faster than they are taken wait in a queue of bounded size, then in the kernel.  What the kernel drops it counts:
``dropped`` in the ledger, and a warning.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import struct
import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from asyncflow.connectors._addresses import bind_all, format_host_port, parse_host_port, tell_if_open
from asyncflow.connectors.contract import Buffer, Datagram, MessageSource

MAX_DATAGRAM_BYTES = 65507
KERNEL_BUFFER_BYTES = 8 << 20
LOOK_SECONDS = 1.0
"""How often a source asks the system for its count of dropped datagrams."""

# Beside its bytes a queued datagram costs this much of the queue, so that empty ones cannot grow it without bound.
_DATAGRAM_OVERHEAD_BYTES = 256
_SO_MEMINFO = getattr(socket, "SO_MEMINFO", 55)
_SK_MEMINFO_DROPS = 8
_log = logging.getLogger("asyncflow.connectors")


class Sender(NamedTuple):
    """The sender of a datagram, and the number of the socket that received it."""

    socket_number: int
    address: tuple[Any, ...]

    def __str__(self) -> str:
        return format_host_port(self.address)


class UdpSource(MessageSource):
    """Each ``receive`` gives the datagrams since the last one, without empty ones.  ``addresses``: the bound addresses, after ``started``.
    The sockets stay open until the source is closed and all sinks that ``hold`` it for replies have released it."""

    bounded = False

    def __init__(self, address: str, queue_bytes: int) -> None:
        self.addresses: tuple[str, ...] = ()
        self._address = address
        self._queue_bytes = queue_bytes
        self._queue: deque[Datagram] = deque()
        self._queued_bytes = 0
        self._sockets: list[socket.socket] = []
        self._scratch = bytearray(65536)
        self._watching = False
        self._dropped = 0
        self._told_dropped = 0
        self._looked = 0.0
        self._arrival = asyncio.Event()
        self._opening = asyncio.Lock()
        self._replying = (
            asyncio.Lock()
        )  # several sinks may answer through one socket, and the loop tells one of them of room
        self._ended = False
        self._closed = False
        self._holders = 1  # the source itself

    @property
    def dropped(self) -> int:
        """Datagrams the system received and threw away because we were not fast enough."""
        return self._dropped + sum(map(_drops, self._sockets))

    def counted(self) -> Mapping[str, int]:
        return {"dropped": self.dropped}

    async def started(self) -> tuple[str, ...]:
        """Listens, if it does not yet; the addresses, with the real port where 0 was asked for."""
        async with self._opening:
            if not self._sockets and not self._ended:
                self._sockets = await bind_all(
                    *parse_host_port(self._address), socket.SOCK_DGRAM, self._address
                )
                for opened in self._sockets:
                    _enlarge_buffer(opened)
                self.addresses = tuple(format_host_port(opened.getsockname()) for opened in self._sockets)
                tell_if_open(opened.getsockname() for opened in self._sockets)
                self._watch()
        return self.addresses

    async def receive(self) -> Sequence[Datagram]:
        await self.started()
        while True:
            while not self._queue and not self._ended:
                self._arrival.clear()
                await self._arrival.wait()
            messages = [message for message in self._queue if message.data]
            self._queue, self._queued_bytes = deque(), 0
            if self._sockets and not self._watching and not self._ended:
                self._watch()
            if time.monotonic() - self._looked >= LOOK_SECONDS:
                self._looked = time.monotonic()
                if not self._told_dropped:
                    self._tell_dropped()
            if messages or self._ended:
                return messages

    def hold(self) -> None:
        """Keeps the sockets open for replies until ``release``, also beyond the end of the source."""
        self._holders += 1

    def release(self) -> None:
        self._holders -= 1
        if self._holders == 0:
            self._tell_dropped()
            self._dropped = self.dropped
            for opened in self._sockets:
                opened.close()
            self._sockets = []

    async def reply(self, data: Buffer, origin: Sender) -> None:
        """Sends one datagram to ``origin`` from the socket that received its message; raises OSError."""
        async with self._replying:
            await send_datagram(self._sockets[origin.socket_number], data, origin.address)

    async def stop(self) -> None:
        """Receives what the system holds now, then ends the source."""
        if not self._ended:
            self._queue_bytes += (
                2 * KERNEL_BUFFER_BYTES
            )  # more it does not hold; what comes now, without end perhaps, comes after
            for number in range(len(self._sockets)):
                self._drain(number)
            self._end()

    async def aclose(self) -> None:
        self._end()
        if not self._closed:
            self._closed = True
            self.release()

    def _tell_dropped(self) -> None:
        """Warns of dropped datagrams: at the first one, and with the sum at the end."""
        dropped = self.dropped
        if dropped > self._told_dropped:
            self._told_dropped = dropped
            _log.warning(
                "%s: %s datagrams so far were dropped by the system: they came faster than they were taken",
                self._address,
                f"{dropped:,}",
            )

    def _end(self) -> None:
        self._unwatch()
        self._ended = True
        self._arrival.set()

    def _watch(self) -> None:
        self._watching = True
        for number, opened in enumerate(self._sockets):
            asyncio.get_running_loop().add_reader(opened.fileno(), self._drain, number)

    def _unwatch(self) -> None:
        if self._watching:
            self._watching = False
            for opened in self._sockets:
                asyncio.get_running_loop().remove_reader(opened.fileno())

    def _drain(self, number: int) -> None:
        view = memoryview(self._scratch)
        receive = self._sockets[number].recvfrom_into
        while self._queued_bytes < self._queue_bytes:
            try:
                size, address = receive(view)
            except (BlockingIOError, InterruptedError):
                break
            except (
                OSError
            ):  # an earlier reply could not be delivered: nothing that this socket's reader can do about
                continue
            self._queue.append(Datagram(bytes(view[:size]), Sender(number, address)))
            self._queued_bytes += size + _DATAGRAM_OVERHEAD_BYTES
            self.position_bytes += size
        else:
            self._unwatch()
        if self._queue:
            self._arrival.set()


async def send_datagram(through: socket.socket, data: Buffer, address: Any) -> None:
    """Sends one datagram; waits while the system has no room for it."""
    while True:
        try:
            through.sendto(data, address)
        except (BlockingIOError, InterruptedError):
            await _writable(through)
        except ConnectionRefusedError:
            return  # an earlier datagram found no receiver, which is no error of this one
        else:
            return


async def _writable(opened: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    fd = opened.fileno()
    loop.add_writer(fd, ready.set)
    try:
        await ready.wait()
    finally:
        if opened.fileno() == fd:
            loop.remove_writer(fd)


def _enlarge_buffer(opened: socket.socket) -> None:
    """Asks for a large receive buffer: beyond the system's limit where we may, up to it where not."""
    force = getattr(socket, "SO_RCVBUFFORCE", 33)
    try:
        opened.setsockopt(socket.SOL_SOCKET, force, KERNEL_BUFFER_BYTES)
    except OSError:
        with contextlib.suppress(OSError):
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, KERNEL_BUFFER_BYTES)


def _drops(opened: socket.socket) -> int:
    """Datagrams the kernel threw away for want of room, 0 where it does not say."""
    try:
        counters = opened.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, 4 * (_SK_MEMINFO_DROPS + 1))
    except OSError:
        return 0
    return (
        int(struct.unpack_from("I", counters, 4 * _SK_MEMINFO_DROPS)[0])
        if len(counters) > 4 * _SK_MEMINFO_DROPS
        else 0
    )
