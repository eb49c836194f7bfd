"""Compressed files by suffix, ``.gz .zst .bz2 .xz``, read and written as streams off the event loop.

Imported only for a file with such a suffix: loading the libraries costs more than a small run.

An archive is one or more members (gzip members, zstd frames, bzip2 and xz streams) one after the other; zeros
after a member are padding.  A thread decompresses the block after the one that is being handed out, so
decompressing and decoding overlap.

Invariants: memory is bounded whatever an archive claims (at most one block is ahead, and no call expands more
than a block and 128 KiB); an archive that ends inside a member is an error that says where, never a short
input.
"""

from __future__ import annotations

import asyncio
import bz2
import io
import lzma
import os
from collections.abc import Callable
from typing import Protocol

import zstandard

from asyncflow.connectors import _gzip_members
from asyncflow.connectors._zstd_frames import ZstdFrame
from asyncflow.connectors.contract import Buffer, ByteStream
from asyncflow.errors import ConnectorError

INPUT_BYTES = 64 << 10
BLOCK_BYTES = 512 << 10


class Member(Protocol):
    """Decompresses one member.  ``needs_input``: more input must come before more output can."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


class Compressor(Protocol):
    def compress(self, data: Buffer, /) -> bytes: ...
    def flush(self) -> bytes: ...


_MEMBERS: dict[str, tuple[str, Callable[[], Member]]] = {
    ".gz": ("gzip", _gzip_members.member),
    ".zst": ("zstd", ZstdFrame),
    ".bz2": ("bzip2", bz2.BZ2Decompressor),
    ".xz": ("xz", lzma.LZMADecompressor),
}
_COMPRESSORS: dict[str, Callable[[], Compressor]] = {
    ".gz": _gzip_members.compressor,
    ".zst": lambda: zstandard.ZstdCompressor(level=3).compressobj(),
    ".bz2": bz2.BZ2Compressor,
    ".xz": lzma.LZMACompressor,
}
_FAULTS: tuple[type[Exception], ...] = (
    *_gzip_members.FAULTS,
    zstandard.ZstdError,
    lzma.LZMAError,
    OSError,
    ValueError,
    EOFError,
)


def compressor(suffix: str) -> Compressor:
    """A new member to write."""
    return _COMPRESSORS[suffix]()


class Archive:
    """Expands a file block by block; blocking, to be called from one thread at a time.  ``position_bytes``:
    how far into the file it is.
    """

    def __init__(self, file: io.FileIO, name: str, suffix: str) -> None:
        self._file = file
        self._name = name
        self._kind, self._new_member = _MEMBERS[suffix]
        self._member: Member | None = None
        self._input = b""
        self._members_read = 0
        self._fault: ConnectorError | None = None
        self.position_bytes = 0
        self._opened_bytes = os.fstat(file.fileno()).st_size

    def next_block(self) -> bytes:
        """The next bytes, about ``BLOCK_BYTES``; empty at the end.  A fault is raised (ConnectorError) after the bytes before it."""
        if self._fault is not None:
            raise self._fault
        parts: list[bytes] = []
        room = BLOCK_BYTES
        try:
            while room > 0 and (part := self._expand(room)) is not None:
                parts.append(part)
                room -= len(part)
        except _FAULTS as error:
            self._fault = ConnectorError(
                f"{self._name}: not valid {self._kind} data near byte {self.position_bytes} ({error})"
            )
            self._fault.__cause__ = error
        except ConnectorError as error:
            self._fault = error
        block = b"".join(parts)
        if self._fault is not None and not block:
            raise self._fault
        return block

    def close(self) -> None:
        self._file.close()

    def _expand(self, max_bytes: int) -> bytes | None:
        """At most ``max_bytes`` expanded bytes, perhaps none yet; None at the end of the file."""
        if self._member is None:
            if not self._input and not self._read():
                return None
            if self._members_read:
                self._input = self._input.lstrip(b"\0")
                if not self._input:
                    return b""
            self._member = self._new_member()
        elif self._member.needs_input and not self._read():
            raise ConnectorError(
                f"{self._name}: the {self._kind} data ends too early, at byte {self.position_bytes}: the file is cut short"
            )
        given, self._input = self._input, b""
        out = self._member.decompress(given, max_bytes)
        if self._member.eof:
            self._input = self._member.unused_data
            self._member = None
            self._members_read += 1
        return out

    def _read(self) -> bool:
        self._input = self._file.read(INPUT_BYTES) or b""
        self.position_bytes += len(self._input)
        if not self._input and os.fstat(self._file.fileno()).st_size < self._opened_bytes:
            raise ConnectorError(f"{self._name}: became shorter while it was read")
        return bool(self._input)


class CompressedStream(ByteStream):
    """An archive's contents as one stream, expanded one block ahead of the reader."""

    def __init__(self, archive: Archive, name: str) -> None:
        self.name = name
        self.error = ""
        self.position_bytes = 0
        self._archive = archive
        self._block = memoryview(b"")
        self._ahead: asyncio.Future[bytes] | None = None
        self._ended = self._stopped = self._closed = False

    async def read_into(self, buffer: memoryview) -> int:
        if not len(self._block) and not (self._ended or self._closed or self._stopped):
            if self._ahead is None:
                self._expand_ahead()
            assert self._ahead is not None
            block = await asyncio.shield(self._ahead)  # cancelled: the block waits for the next read
            self._block = memoryview(block)
            self.position_bytes = self._archive.position_bytes
            self._ended = not block
            self._ahead = None
            if block and not self._closed:
                self._expand_ahead()
        count = min(len(self._block), len(buffer))
        buffer[:count] = self._block[:count]
        self._block = self._block[count:]
        if not count and self._stopped and not (self._ended or self._nothing_ahead()):
            self.error = "stopped"
        return count

    def finish(self) -> None:
        """Orderly end: the next read gives 0, with ``error`` where the archive goes on."""
        self._stopped = True
        if len(self._block):
            self.error = "stopped"
        self._block = memoryview(b"")

    def _nothing_ahead(self) -> bool:
        ahead = self._ahead
        done = ahead is not None and ahead.done() and not ahead.cancelled() and ahead.exception() is None
        return done and ahead is not None and not ahead.result()

    async def aclose(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._block = memoryview(b"")
        if self._ahead is None:
            self._archive.close()
            return
        self._ahead.add_done_callback(self._close_after)
        await asyncio.wait([self._ahead])

    def _expand_ahead(self) -> None:
        self._ahead = asyncio.get_running_loop().run_in_executor(None, self._archive.next_block)

    def _close_after(self, last: asyncio.Future[bytes]) -> None:
        self._archive.close()
        if not last.cancelled():
            last.exception()  # retrieved: no reader waits for the block
