"""Connector ``tcp``: bytes over tcp sockets; an address is ``host:port``, ``[::1]:port`` or ``:port``; port 0 lets the system choose."""

from __future__ import annotations

from typing import ClassVar

from asyncflow.connectors._addresses import Endpoint, TcpEndpoint
from asyncflow.connectors._stream_sockets import (
    SocketSinkOptions,
    SocketSourceOptions,
    open_sink,
    open_source,
)

__all__ = ["SinkOptions", "SourceOptions", "open_sink", "open_source"]


class SourceOptions(SocketSourceOptions, frozen=True):
    """Read what peers send: from many that connect here, or from one."""

    at: ClassVar[type[Endpoint]] = TcpEndpoint


class SinkOptions(SocketSinkOptions, frozen=True):
    """Send rows to peers: to all that connect here, or to one."""

    at: ClassVar[type[Endpoint]] = TcpEndpoint
