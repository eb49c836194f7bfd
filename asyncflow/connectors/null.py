"""Connector ``null``: a sink that takes rows and forgets them; the ledger counts them all the same."""

from __future__ import annotations

from typing import Any

import msgspec

from asyncflow.connectors.contract import Buffer, SinkConnector
from asyncflow.model.capabilities import DescribesSink, SinkCapabilities


class SinkOptions(msgspec.Struct, DescribesSink, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """It has none."""

    def capabilities(self) -> SinkCapabilities:
        return SinkCapabilities(takes_bytes=False)


class NullSink(SinkConnector):
    """Takes everything at once; rows are not even encoded for it."""

    takes_bytes = False

    async def write(self, data: Buffer, *, origin: Any = None) -> None:
        return None

    async def aclose(self, *, failed: bool = False) -> None:
        return None


def open_sink(options: SinkOptions) -> NullSink:
    return NullSink()
