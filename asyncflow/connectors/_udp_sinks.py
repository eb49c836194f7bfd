"""Datagrams sent: what ``udp`` is made of as a sink, to one address or back to the senders of a source's messages."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
from collections.abc import Mapping
from typing import Any

from asyncflow.connectors._addresses import parse_host_port
from asyncflow.connectors._udp_source import MAX_DATAGRAM_BYTES, Sender, UdpSource, send_datagram
from asyncflow.connectors.contract import Buffer, SinkConnector, SourceConnector
from asyncflow.errors import ConnectorError

_log = logging.getLogger("asyncflow.connectors")


class UdpSink(SinkConnector):
    """Sends to one address."""

    def __init__(self, address: str, max_bytes: int) -> None:
        self._to = address
        self._max_bytes = max_bytes
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
    """Sends each batch to the sender of its message (``origin``), through the socket of the source given to ``bind_reply``.

    A reply that cannot be sent does not fail the run: it is counted (``undelivered``), and the first one is logged."""

    def __init__(self, source: str) -> None:
        self.reply_source = source
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
