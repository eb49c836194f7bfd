"""Whether a file is the one that an earlier run has read to a position: by its first bytes, and by those before the position."""

from __future__ import annotations

import contextlib
import os
import stat
import zlib
from collections.abc import Sequence

from asyncflow.connectors._files import read_fault, suffix_of
from asyncflow.errors import ConnectorError
from asyncflow.model.snapshot import Plain

KNOWN_BYTES = 4096
"""So many bytes at either place are known by their checksum."""


def check_regular(paths: Sequence[str]) -> None:
    """ConnectorError where one of the files is a pipe or a device, which is read once.  Nothing is said of a file that is not there."""
    for path in paths:
        with contextlib.suppress(OSError):
            if not stat.S_ISREG(os.stat(path).st_mode):
                raise ConnectorError(f"{path}: a run with checkpoints reads regular files only")


def identity_of(path: str, offset: int) -> Plain:
    """The checksums of a file of which ``offset`` bytes were read (of a compressed file: bytes of its contents).  ConnectorError where it
    cannot be read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return _identity(descriptor, 0 if suffix_of(path) else offset)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise read_fault(path, error) from error


def check_identity(path: str, offset: int, identity: Plain) -> None:
    """ConnectorError where the file is another one, has become shorter, or was written anew."""
    match identity:
        case {"head_bytes": int(head_bytes), "head": int(head), "before": int(before)} if (
            0 <= head_bytes <= KNOWN_BYTES
        ):
            pass
        case _:
            raise ConnectorError(f"{path}: the checkpoint does not say which file was read")
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            size = os.fstat(descriptor).st_size
            place = 0 if suffix_of(path) else offset
            same_head = zlib.crc32(os.pread(descriptor, head_bytes, 0)) == head
            same = same_head and size >= place and _before(descriptor, place) == before
        finally:
            os.close(descriptor)
    except OSError as error:
        raise read_fault(path, error) from error
    if not same:
        raise ConnectorError(
            f"{path}: is not the file any more that was read up to byte {offset}: put that file back, or start anew (--fresh)"
        )


def _identity(descriptor: int, place: int) -> Plain:
    head = os.pread(descriptor, KNOWN_BYTES, 0)
    return {"head_bytes": len(head), "head": zlib.crc32(head), "before": _before(descriptor, place)}


def _before(descriptor: int, place: int) -> int:
    """The checksum of the last bytes before a place."""
    begin = max(0, place - KNOWN_BYTES)
    return zlib.crc32(os.pread(descriptor, place - begin, begin))
