"""Connector ``null``: a sink that drops its rows; the ledger counts them."""

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
    """Takes rows without encoding and drops them."""

    takes_bytes = False

    async def write(self, data: Buffer, *, origin: Any = None) -> None:
        return None

    async def aclose(self, *, failed: bool = False) -> None:
        return None


def open_sink(options: SinkOptions) -> NullSink:
    return NullSink()
