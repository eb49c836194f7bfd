"""Connector ``stdout``: bytes to standard output, descriptor 1.

A slow reader makes ``write`` wait; a reader that went away is ReaderGoneError.
"""

from __future__ import annotations

import asyncio
import errno
import io
import os
from typing import Any, ClassVar

import msgspec

from asyncflow.connectors._descriptors import (
    DescriptorWriter,
    enlarge_pipe,
    is_pollable,
    private_description,
    turn_at,
)
from asyncflow.connectors._files import FileWriter
from asyncflow.connectors._paths import descriptor_taken
from asyncflow.connectors.contract import Buffer, SinkConnector
from asyncflow.errors import ConnectorError, ReaderGoneError
from asyncflow.model.capabilities import DescribesSink, SinkCapabilities
from asyncflow.standard_streams import is_closed

STDOUT = 1
_READER_GONE = (errno.EPIPE, errno.ECONNRESET)


class SinkOptions(msgspec.Struct, DescribesSink, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """It has none."""

    guarantee_text: ClassVar[str] = "at-least-once"

    def capabilities(self) -> SinkCapabilities:
        return SinkCapabilities(
            may_wait=True,
            guarantee="at-least-once",
            resources=tuple(descriptor_taken(STDOUT, "standard output", "type", written=True)),
        )


class StdoutSink(SinkConnector):
    """Writes to descriptor 1, not through ``sys.stdout``.  Descriptor 1 itself is never closed."""

    def __init__(self) -> None:
        self._writer: DescriptorWriter | FileWriter | None = None
        self._turn: asyncio.Lock | None = None

    @property
    def taken_bytes(self) -> int:  # type: ignore[override]
        return 0 if self._writer is None else self._writer.taken_bytes

    async def open(self) -> None:
        if is_closed(STDOUT):
            raise ConnectorError("stdout cannot be written: it is closed")
        try:
            self._turn = turn_at(STDOUT)
            if is_pollable(STDOUT):
                enlarge_pipe(STDOUT)
                self._writer = DescriptorWriter(*private_description(STDOUT, os.O_WRONLY))
            else:
                self._writer = FileWriter(io.FileIO(STDOUT, "wb", closefd=False))
        except OSError as error:
            raise _fault(error) from error

    async def write(self, data: Buffer, *, origin: Any = None) -> None:
        assert self._writer is not None and self._turn is not None, "write before open"
        try:
            async with self._turn:
                await self._writer.write(data)
        except OSError as error:
            raise _fault(error) from error

    async def aclose(self, *, failed: bool = False) -> None:
        if self._writer is not None:
            self._writer.close()


def _fault(error: OSError) -> ConnectorError:
    if error.errno in _READER_GONE:
        return ReaderGoneError("the reader of stdout went away")
    return ConnectorError(f"stdout cannot be written: {os.strerror(error.errno or 0).lower()}")


def open_sink(options: SinkOptions) -> StdoutSink:
    return StdoutSink()
