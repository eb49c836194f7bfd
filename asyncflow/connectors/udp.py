"""Connector ``udp``: each datagram is a message; out, a batch is one datagram or several cut at line ends, or a reply to its sender.

UDP promises nothing, and neither can we: what comes faster than it is taken waits in a queue of bounded size, then in the kernel, and
what the kernel must drop it counts: ``dropped`` in the ledger, and a warning.  A datagram is never cut: there is room for the largest.
A reply leaves from the socket that its question came to.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import socket
import struct
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, NamedTuple

import msgspec

from asyncflow.connectors._addresses import (
    bind_all,
    format_host_port,
    listening,
    parse_host_port,
    tell_if_open,
)
from asyncflow.connectors.contract import Buffer, Datagram, MessageSource, SinkConnector, SourceConnector
from asyncflow.errors import ConnectorError
from asyncflow.model.durations import parse_size
from asyncflow.model.resources import Resource

MAX_DATAGRAM_BYTES = 65507
KERNEL_BUFFER_BYTES = 8 << 20
LOOK_SECONDS = 1.0
"""How often a source asks whether the system has dropped something."""

# Beside its bytes a queued datagram costs this much of the queue, so that empty ones cannot grow it without bound.
_DATAGRAM_OVERHEAD_BYTES = 256
_SO_MEMINFO = getattr(socket, "SO_MEMINFO", 55)
_SK_MEMINFO_DROPS = 8
_log = logging.getLogger("asyncflow.connectors")


class SourceOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where datagrams come in."""

    listen: Annotated[
        str, msgspec.Meta(description="host:port to receive at; port 0 lets the system choose.")
    ]
    queue: Annotated[
        str,
        msgspec.Meta(
            description="How much may wait here while the flow is busy; beyond it the system drops."
        ),
    ] = "8MiB"

    def __post_init__(self) -> None:
        parse_host_port(self.listen)
        if parse_size(self.queue) < MAX_DATAGRAM_BYTES:
            raise ValueError("queue must have room for one datagram (64KiB)")

    def resources(self) -> Iterator[Resource]:
        return listening("udp", self.listen)


class SinkOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Either ``to`` or ``reply``."""

    to: Annotated[str | None, msgspec.Meta(description="host:port to send to.")] = None
    reply: Annotated[
        str | None, msgspec.Meta(description="Name of the udp source to whose senders each result goes back.")
    ] = None
    max_datagram: Annotated[
        str,
        msgspec.Meta(
            description="With to: batches are cut at line ends into datagrams of at most this size; a longer line goes alone."
        ),
    ] = "1400B"

    def __post_init__(self) -> None:
        if (self.to is None) == (self.reply is None):
            raise ValueError("set one of to and reply")
        if self.to is not None and parse_host_port(self.to)[1] == 0:
            raise ValueError("to needs a port")
        if not 1 <= parse_size(self.max_datagram) <= MAX_DATAGRAM_BYTES:
            raise ValueError(f"max_datagram must be from 1B to {MAX_DATAGRAM_BYTES}B")


class Sender(NamedTuple):
    """Who sent a datagram, and to which of our sockets."""

    socket_number: int
    address: tuple[Any, ...]

    def __str__(self) -> str:
        return format_host_port(self.address)


class UdpSource(MessageSource):
    """All datagrams that came since the last ``receive``, but empty ones: they hold no records.  ``addresses``: where it listens, after
    ``started``.  The sockets stay open until the source and all that ``hold`` it for replies are closed."""

    bounded = False

    def __init__(self, options: SourceOptions) -> None:
        self.addresses: tuple[str, ...] = ()
        self._options = options
        self._queue_bytes = parse_size(options.queue)
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
                    *parse_host_port(self._options.listen), socket.SOCK_DGRAM, self._options.listen
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
        """Keeps the sockets open for replies until ``release``: answers to the last messages are on their way when the source ends."""
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
        """Sends one datagram to ``origin`` from the socket it wrote to; raises OSError."""
        async with self._replying:
            await send_datagram(self._sockets[origin.socket_number], data, origin.address)

    async def stop(self) -> None:
        """What the system still holds is received: it came before."""
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
        """The first time at once, and the sum at the end."""
        dropped = self.dropped
        if dropped > self._told_dropped:
            self._told_dropped = dropped
            _log.warning(
                "%s: %s datagrams so far were dropped by the system: they came faster than they were taken",
                self._options.listen,
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


class UdpSink(SinkConnector):
    """Sends to one address."""

    def __init__(self, options: SinkOptions) -> None:
        assert options.to is not None
        self._to = options.to
        self._max_bytes = parse_size(options.max_datagram)
        self._socket: socket.socket | None = None
        self._address: Any = None

    async def open(self) -> None:
        host, port = parse_host_port(self._to)
        try:
            found = await asyncio.get_running_loop().getaddrinfo(
                host or "localhost", port, type=socket.SOCK_DGRAM
            )
            family, kind, protocol, _, self._address = found[0]
            self._socket = socket.socket(family, kind, protocol)
            self._socket.setblocking(False)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        except OSError as error:
            raise ConnectorError(f"{self._to}: cannot send there: {error.strerror or error}") from error

    async def write(self, data: Buffer, *, origin: Any = None) -> None:
        assert self._socket is not None, "write before open"
        for piece in split_at_lines(memoryview(data).cast("B"), self._max_bytes):
            try:
                await send_datagram(self._socket, piece, self._address)
            except OSError as error:
                reason = (
                    f"a record of {len(piece)} bytes does not fit into a datagram ({MAX_DATAGRAM_BYTES})"
                    if error.errno == errno.EMSGSIZE
                    else os.strerror(error.errno or 0).lower()
                )
                raise ConnectorError(f"{self._to}: {reason}") from error

    async def aclose(self, *, failed: bool = False) -> None:
        if self._socket is not None:
            self._socket.close()


class UdpReplySink(SinkConnector):
    """Sends each batch to the sender of the message it came from (``origin``), through the socket of the source given to ``bind_reply``.

    A reply that cannot be delivered is that sender's loss, not the flow's: it is counted (``undelivered``) and logged."""

    def __init__(self, options: SinkOptions) -> None:
        assert options.reply is not None
        self.reply_source = options.reply
        self.undelivered = 0
        self._source: UdpSource | None = None
        self._holds = False

    def counted(self) -> Mapping[str, int]:
        return {"undelivered": self.undelivered}

    def bind_reply(self, source: SourceConnector) -> None:
        """``source``: the running connector of the source that ``reply`` names; ConnectorError if it is not udp."""
        if not isinstance(source, UdpSource):
            raise ConnectorError(f"reply = {self.reply_source!r}: only a udp source can be replied through")
        self._source = source

    async def open(self) -> None:
        assert self._source is not None, "open before bind_reply"
        self._source.hold()
        self._holds = True

    async def write(self, data: Buffer, *, origin: Any = None) -> None:
        assert self._source is not None, "write before bind_reply"
        if not isinstance(origin, Sender):
            raise ConnectorError(
                f"reply = {self.reply_source!r}: a row does not come from one message, so there is nobody to reply to"
            )
        try:
            for piece in split_at_lines(memoryview(data).cast("B"), MAX_DATAGRAM_BYTES):
                await self._source.reply(piece, origin)
        except (OSError, IndexError) as error:
            self.undelivered += 1
            if self.undelivered == 1:
                _log.warning(
                    "a reply to %s could not be sent: %s (further ones are only counted)", origin, error
                )

    async def aclose(self, *, failed: bool = False) -> None:
        if self._holds:
            assert self._source is not None
            self._holds = False
            self._source.release()


def split_at_lines(data: memoryview, max_bytes: int) -> list[memoryview]:
    """``data`` whole where it fits, else cut after line ends into pieces of at most ``max_bytes``; a longer line is a piece of its own."""
    if len(data) <= max_bytes:
        return [data] if len(data) else []
    pieces, start, raw = [], 0, bytes(data)
    while start < len(raw):
        if len(raw) - start <= max_bytes:
            end = len(raw)
        elif (end := raw.rfind(b"\n", start, start + max_bytes) + 1) == 0:
            end = raw.find(b"\n", start) + 1 or len(raw)
        pieces.append(data[start:end])
        start = end
    return pieces


async def send_datagram(through: socket.socket, data: Buffer, address: Any) -> None:
    """Sends one datagram; waits while the system has no room for it."""
    while True:
        try:
            through.sendto(data, address)
        except (BlockingIOError, InterruptedError):
            await _writable(through)
        except ConnectionRefusedError:
            return  # what was sent before found nobody; sending again into the void is what udp is
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


def open_source(options: SourceOptions) -> UdpSource:
    return UdpSource(options)


def open_sink(options: SinkOptions) -> UdpSink | UdpReplySink:
    return UdpSink(options) if options.to is not None else UdpReplySink(options)
