"""Connector ``udp``: each datagram is a message; out, a batch is one datagram or several cut at line ends, or a reply to its sender.

UDP promises nothing: what comes faster than it is taken is dropped by the system and counted.  A datagram is never cut: there is room for
the largest.  A reply leaves from the socket that its question came to.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from asyncflow.connectors._addresses import listening, parse_host_port
from asyncflow.connectors._udp_sinks import UdpReplySink, UdpSink
from asyncflow.connectors._udp_source import MAX_DATAGRAM_BYTES, UdpSource
from asyncflow.model.capabilities import (
    DescribesSink,
    DescribesSource,
    SinkCapabilities,
    SourceCapabilities,
)
from asyncflow.model.durations import parse_size


class SourceOptions(msgspec.Struct, DescribesSource, frozen=True, kw_only=True, forbid_unknown_fields=True):
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

    def capabilities(self) -> SourceCapabilities:
        return SourceCapabilities(
            bounded=False, messages=True, resources=tuple(listening("udp", self.listen))
        )


class SinkOptions(msgspec.Struct, DescribesSink, frozen=True, kw_only=True, forbid_unknown_fields=True):
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

    def capabilities(self) -> SinkCapabilities:
        return SinkCapabilities(replies_to=self.reply)


def open_source(options: SourceOptions) -> UdpSource:
    return UdpSource(options.listen, parse_size(options.queue))


def open_sink(options: SinkOptions) -> UdpSink | UdpReplySink:
    if options.to is not None:
        return UdpSink(options.to, parse_size(options.max_datagram))
    assert options.reply is not None
    return UdpReplySink(options.reply)
