"""What tcp and unix let the user choose; both have the same options and differ in how an address is written."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import msgspec

from asyncflow.connectors._addresses import Endpoint
from asyncflow.connectors._sockets import Connecting
from asyncflow.model.durations import parse_duration
from asyncflow.model.resources import Resource


class SocketOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Either ``listen`` or ``connect``."""

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

    def __post_init__(self) -> None:
        if (self.listen is None) == (self.connect is None):
            raise ValueError("set one of listen and connect")
        if self.reconnect and self.connect is None:
            raise ValueError("reconnect goes with connect")
        if parse_duration(self.max_reconnect_delay) <= 0:
            raise ValueError("max_reconnect_delay must be longer than 0s")
        self.endpoint()

    def endpoint(self) -> Endpoint:
        """The address to listen at or to connect to; ValueError when it is none."""
        raise NotImplementedError

    def resources(self) -> Iterator[Resource]:
        """The address that is listened at."""
        return iter(()) if self.listen is None else self.taken(self.listen)

    def taken(self, address: str) -> Iterator[Resource]:
        raise NotImplementedError

    def connecting(self) -> Connecting:
        return Connecting(
            self.endpoint(),
            reconnect=self.reconnect,
            max_delay_seconds=parse_duration(self.max_reconnect_delay) / 1e9,
        )

    @property
    def address(self) -> str:
        return self.listen or self.connect or ""
