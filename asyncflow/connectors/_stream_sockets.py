"""The connectors ``tcp`` and ``unix``: their options, what these promise, and what they open.  Only the form of an address differs."""

from __future__ import annotations

from typing import Annotated, ClassVar

import msgspec

from asyncflow.connectors._addresses import Endpoint
from asyncflow.connectors._connect_sink import ConnectSink
from asyncflow.connectors._listen_sink import ListenSink
from asyncflow.connectors._listen_source import ListenSource
from asyncflow.connectors._peers import Limits
from asyncflow.connectors._sockets import Connecting, ConnectSource
from asyncflow.model.capabilities import (
    DescribesSink,
    DescribesSource,
    Resource,
    SinkCapabilities,
    SourceCapabilities,
)
from asyncflow.model.durations import parse_duration, parse_size


class SocketOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Either ``listen`` or ``connect``."""

    at: ClassVar[type[Endpoint]]
    """The form of an address."""

    listen: Annotated[
        str | None, msgspec.Meta(description="Address to listen at for many peers, until stopped.")
    ] = None
    connect: Annotated[str | None, msgspec.Meta(description="Address to connect to.")] = None
    reconnect: Annotated[
        bool,
        msgspec.Meta(
            description="With connect: connect again when the other side is not there or goes away."
        ),
    ] = False
    max_reconnect_delay: Annotated[
        str,
        msgspec.Meta(
            description="With reconnect: the longest wait between attempts; waits double up to it from 100ms."
        ),
    ] = "10s"
    max_peers: Annotated[
        int,
        msgspec.Meta(
            ge=1,
            description="With listen: how many may be connected at a time; more are refused, and counted.",
        ),
    ] = 1000
    max_peer_bytes: Annotated[
        str,
        msgspec.Meta(
            description="With listen: what may be held for all peers together; beyond it the worst are cut off, and counted."
        ),
    ] = "64MiB"

    def __post_init__(self) -> None:
        if (self.listen is None) == (self.connect is None):
            raise ValueError("set one of listen and connect")
        if self.reconnect and self.connect is None:
            raise ValueError("reconnect goes with connect")
        if parse_duration(self.max_reconnect_delay) <= 0:
            raise ValueError("max_reconnect_delay must be longer than 0s")
        if parse_size(self.max_peer_bytes) < 1:
            raise ValueError("max_peer_bytes must be at least 1B")
        for field in msgspec.structs.fields(self):
            value = getattr(self, field.name)
            if field.name in _TIMES and parse_duration(value) < 0:
                raise ValueError(f"{field.name} must not be negative (0s: never)")
            if self.listen is None and field.name in _OF_PEERS and value != field.default:
                raise ValueError(f"{field.name} goes with listen")
        self.endpoint()

    def endpoint(self) -> Endpoint:
        """The address to listen at or to connect to; ValueError when it is none."""
        return self.at(self.listen or self.connect or "")

    def taken(self) -> tuple[Resource, ...]:
        """The address that is listened at."""
        return () if self.listen is None else tuple(self.endpoint().taken())

    def connecting(self) -> Connecting:
        return Connecting(
            self.endpoint(),
            reconnect=self.reconnect,
            max_delay_seconds=parse_duration(self.max_reconnect_delay) / 1e9,
        )

    def limits(self) -> Limits:
        return Limits(
            max_peers=self.max_peers,
            max_bytes=parse_size(self.max_peer_bytes),
            idle_seconds=self._seconds("peer_idle"),
            record_seconds=self._seconds("record_timeout"),
            slow_seconds=self._seconds("slow_peer"),
        )

    def _seconds(self, name: str) -> float:
        return parse_duration(getattr(self, name, "0s")) / 1e9


class SocketSourceOptions(SocketOptions, DescribesSource, frozen=True):
    """Read what peers send: from many that connect here, or from one."""

    peer_idle: Annotated[
        str,
        msgspec.Meta(
            description="With listen: a peer that sends nothing for so long is cut off, and counted; 0s: never."
        ),
    ] = "0s"
    record_timeout: Annotated[
        str,
        msgspec.Meta(
            description="With listen: a peer that leaves a record unfinished for so long is cut off, and counted; 0s: never."
        ),
    ] = "0s"

    def capabilities(self) -> SourceCapabilities:
        return SourceCapabilities(bounded=False, resources=self.taken())


class SocketSinkOptions(SocketOptions, DescribesSink, frozen=True):
    """Send rows to peers: to all that connect here, or to one."""

    slow_peer: Annotated[
        str,
        msgspec.Meta(
            description="With listen: a peer that takes nothing, or holds the others up, for so long is cut off, and counted; 0s: never."
        ),
    ] = "10s"

    def capabilities(self) -> SinkCapabilities:
        """Without ``reconnect`` the end of the only connection is an error: no other peer is waited for."""
        return SinkCapabilities(may_wait=self.listen is not None or self.reconnect, resources=self.taken())


_TIMES = ("peer_idle", "record_timeout", "slow_peer")
_OF_PEERS = ("max_peers", "max_peer_bytes", *_TIMES)


def open_source(options: SocketSourceOptions) -> ListenSource | ConnectSource:
    if options.listen is not None:
        return ListenSource(options.endpoint(), options.limits())
    return ConnectSource(options.connecting())


def open_sink(options: SocketSinkOptions) -> ListenSink | ConnectSink:
    if options.listen is not None:
        return ListenSink(options.endpoint(), options.limits())
    return ConnectSink(options.connecting())
