"""Connector ``stdin``: standard input, descriptor 0, as one stream of bytes: a pipe, a file, a terminal, a socket or a device."""

from __future__ import annotations

import contextlib
import io
import os
import stat
from collections.abc import AsyncIterator

import msgspec

from asyncflow.connectors._descriptors import DescriptorStream, enlarge_pipe, is_pollable, private_description
from asyncflow.connectors._files import FileStream
from asyncflow.connectors._paths import descriptor_taken
from asyncflow.connectors.contract import ByteSource, ByteStream
from asyncflow.errors import ConnectorError
from asyncflow.model.capabilities import DescribesSource, SourceCapabilities
from asyncflow.standard_streams import is_closed

STDIN = 0


class SourceOptions(msgspec.Struct, DescribesSource, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """It has none."""

    def capabilities(self) -> SourceCapabilities:
        return SourceCapabilities(
            resources=tuple(descriptor_taken(STDIN, "standard input", "type", written=False))
        )


class StdinSource(ByteSource):
    """``bounded`` only where descriptor 0 is a regular file: a pipe may never end.  Descriptor 0 itself is never closed."""

    def __init__(self) -> None:
        self._stream: FileStream | DescriptorStream | None = None
        self._finished = self._stopped = False
        with contextlib.suppress(OSError):
            self.bounded = not is_pollable(STDIN)

    @property
    def position_bytes(self) -> int:  # type: ignore[override]
        return 0 if self._stream is None else self._stream.position_bytes

    @property
    def left_unread(self) -> bool:
        if not self.bounded or not self._stopped:
            return False
        return self._stream is None or bool(self._stream.error)

    async def streams(self) -> AsyncIterator[ByteStream]:
        if self._finished:
            return
        if is_closed(STDIN):
            raise ConnectorError("stdin cannot be read: it is closed")
        try:
            kind = os.fstat(STDIN)
            if stat.S_ISREG(kind.st_mode):
                file = io.FileIO(STDIN, "rb", closefd=False)
                self.total_bytes = max(0, kind.st_size - file.tell())
                self._stream = FileStream(file, "stdin", self.aside)
            else:
                enlarge_pipe(STDIN)
                fd, release = private_description(STDIN, os.O_RDONLY)
                self._stream = DescriptorStream(fd, "stdin", release)
        except OSError as error:
            raise ConnectorError(f"stdin cannot be read: {os.strerror(error.errno or 0).lower()}") from error
        yield self._stream

    async def stop(self) -> None:
        self._finished = self._stopped = True
        if self._stream is not None:
            self._stream.finish()

    async def aclose(self) -> None:
        self._finished = True
        if self._stream is not None:
            await self._stream.aclose()


def open_source(options: SourceOptions) -> StdinSource:
    return StdinSource()
