"""What the sinks that write regular files share: names, what a file holds already, and failures in the user's words."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Iterator

from asyncflow.errors import ConnectorError
from asyncflow.model.held import HEAD_BYTES, Held

READ_BYTES = 1 << 20


def write_fault(path: str, target: str, error: OSError) -> ConnectorError:
    """A failed open or write in the user's words.  ``path``: as written; ``target``: the file it leads to."""
    match error.errno:
        case errno.ENOENT | errno.ENOTDIR:
            return ConnectorError(f"{path}: the folder {os.path.dirname(target)} does not exist")
        case errno.EISDIR:
            return ConnectorError(f"{path}: is a directory, not a file")
        case errno.EACCES | errno.EPERM:
            return ConnectorError(f"{path}: no permission to write it")
        case code:
            return ConnectorError(f"{path}: {os.strerror(code or 0).lower()}")


def not_empty(path: str) -> ConnectorError:
    """A file that is to be created is there."""
    return ConnectorError(
        f'{path}: is there already and not empty (mode = "append" adds to it, mode = "replace" replaces it)'
    )


def temporary_of(target: str) -> str:
    """The name beside the target under which its next contents are written: one name, so that the next run finds what a dead run left."""
    folder, name = os.path.split(target)
    return os.path.join(folder, f".{name}.asyncflow.tmp")


def held_by(target: str, name: str, suffix: str) -> Held | None:
    """The contents of a file; None where it has none.  A compressed file is expanded to its end: nothing behind a torn member could be
    read.  ``name``: for messages."""

    def blocks() -> Iterator[bytes]:
        with io.FileIO(target, "rb") as file:
            if not suffix:
                while block := file.read(READ_BYTES):
                    yield block
                return
            from asyncflow.connectors._compression import Archive

            archive = Archive(file, name, suffix)
            while block := archive.next_block():
                yield block

    if not suffix:
        with io.FileIO(target, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            if not size:
                return None
            file.seek(-1, os.SEEK_END)
            ends_line = file.read(1) == b"\n"
            file.seek(0)
            return Held(name, file.read(HEAD_BYTES) or b"", size, ends_line, blocks)
    head, last, size = b"", b"", 0
    for block in blocks():
        head += block[: HEAD_BYTES - len(head)]
        last, size = block[-1:], size + len(block)
    return Held(name, head, size, last == b"\n", blocks) if size else None
