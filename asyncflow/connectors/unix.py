"""Connector ``unix``: bytes over unix sockets; an address is a path, which is taken away again at close."""

from __future__ import annotations

from collections.abc import Iterator

from asyncflow.connectors._addresses import UnixEndpoint
from asyncflow.connectors._connect_sink import ConnectSink
from asyncflow.connectors._listen_sink import ListenSink
from asyncflow.connectors._listen_source import ListenSource
from asyncflow.connectors._paths import file_taken
from asyncflow.connectors._socket_options import SocketSinkOptions, SocketSourceOptions
from asyncflow.connectors._sockets import ConnectSource
from asyncflow.model.resources import Resource


class SourceOptions(SocketSourceOptions, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Read what peers send: from many that connect here, or from one."""

    def endpoint(self) -> UnixEndpoint:
        return UnixEndpoint(self.address)

    def taken(self, address: str) -> Iterator[Resource]:
        return file_taken(address, "listen", written=True, use="taken")


class SinkOptions(SocketSinkOptions, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Send rows to peers: to all that connect here, or to one."""

    def endpoint(self) -> UnixEndpoint:
        return UnixEndpoint(self.address)

    def taken(self, address: str) -> Iterator[Resource]:
        return file_taken(address, "listen", written=True, use="taken")


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
