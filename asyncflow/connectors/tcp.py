"""Connector ``tcp``: bytes over tcp sockets; an address is ``host:port``, ``[::1]:port`` or ``:port``; port 0 lets the system choose."""

from __future__ import annotations

from collections.abc import Iterator

from asyncflow.connectors._addresses import TcpEndpoint, listening
from asyncflow.connectors._connect_sink import ConnectSink
from asyncflow.connectors._listen_sink import ListenSink
from asyncflow.connectors._listen_source import ListenSource
from asyncflow.connectors._socket_options import SocketSinkOptions, SocketSourceOptions
from asyncflow.connectors._sockets import ConnectSource
from asyncflow.model.resources import Resource


class SourceOptions(SocketSourceOptions, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Read what peers send: from many that connect here, or from one."""

    def endpoint(self) -> TcpEndpoint:
        return TcpEndpoint(self.address)

    def taken(self, address: str) -> Iterator[Resource]:
        return listening("tcp", address)


class SinkOptions(SocketSinkOptions, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Send rows to peers: to all that connect here, or to one."""

    def endpoint(self) -> TcpEndpoint:
        return TcpEndpoint(self.address)

    def taken(self, address: str) -> Iterator[Resource]:
        return listening("tcp", address)


def open_source(options: SourceOptions) -> ListenSource | ConnectSource:
    return (
        ListenSource(options.endpoint(), options.limits())
        if options.listen is not None
        else ConnectSource(options.connecting())
    )


def open_sink(options: SinkOptions) -> ListenSink | ConnectSink:
    return (
        ListenSink(options.endpoint(), options.limits())
        if options.listen is not None
        else ConnectSink(options.connecting())
    )
