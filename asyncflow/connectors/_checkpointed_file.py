"""A file that a run with checkpoints writes: after a crash the next run cuts it back to the last checkpoint and goes on from there.

``create`` and ``append`` write the target itself.  ``replace`` writes a temporary file beside the target, which takes the target's place
when the run has come to its end and its last checkpoint stands.

A *token* says what the file held at a checkpoint: its length, and a checksum of the bytes before that.  ``prepare`` gives a token once
these bytes last; the checkpoint keeps it.  A run that goes on checks the file against the token, cuts off what was written later, and
refuses a file that is shorter or has other bytes there.

Invariants.  One run at a time writes the file: it is locked.  The bytes before the last token are never changed.  An orderly end leaves the
file as the last checkpoint knows it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
import zlib
from typing import TYPE_CHECKING, Any

from asyncflow.connectors._files import suffix_of, to_completion
from asyncflow.connectors._written_files import held_by, not_empty, temporary_of, write_fault
from asyncflow.connectors.contract import Buffer, SinkConnector
from asyncflow.errors import ConnectorError
from asyncflow.model.snapshot import Plain
from asyncflow.state.disk import Disk, DiskFile

if TYPE_CHECKING:
    from asyncflow.connectors._compression import Compressor

TAIL_BYTES = 4096
"""So many bytes before the end of a file are known by their checksum."""


class CheckpointedFile:
    """The file, blocking.  ``path``: as the user wrote it.  Used by one thread at a time."""

    def __init__(self, path: str, mode: str, disk: Disk) -> None:
        self.path = path
        self.target = os.path.realpath(os.path.expanduser(path))
        self._mode, self._disk = mode, disk
        self._written = temporary_of(self.target) if mode == "replace" else self.target
        self._file: DiskFile | None = None
        self._kept = 0
        """Bytes up to the last checkpoint that stands."""

    def begin(self) -> int:
        """Opens the file for a run that starts anew; gives the bytes that it holds already.  ConnectorError where it may not be written."""
        with self._faults():
            file = self._open()
            try:
                self._begin(file)
            except BaseException:
                file.close()
                raise
            self._file, self._kept = file, file.size
            return file.size

    def _begin(self, file: DiskFile) -> None:
        if self._mode == "replace":
            file.truncate("sink.truncate", 0)
            if self._disk.place(self.target) is not None:
                file.take_after(self.target)
        elif self._mode == "create" and file.size:
            raise not_empty(self.path)
        self._disk.sync_folder("sink.dirsync", os.path.dirname(self._written))

    def go_on(self, token: Plain) -> int:
        """Opens the file for a run that goes on from a checkpoint, cuts off what was written after it, and gives the bytes that are left.
        ConnectorError where it is another file, or where its bytes up to the checkpoint are not those that were written."""
        length, tail, crc = self._read(token)
        with self._faults():
            try:
                file = self._disk.open(self._written, to_write=True)
            except FileNotFoundError:
                raise ConnectorError(
                    f"{self._written}: is gone; the checkpoint needs its first {length} bytes"
                ) from None
            self._lock(file)
            try:
                self._check(file, length, tail, crc)
                if file.size > length:
                    file.truncate("sink.truncate", length)
                    file.sync("sink.sync")
            except BaseException:
                file.close()
                raise
            self._file, self._kept = file, length
            return length

    def write(self, data: Buffer) -> None:
        """Writes at the end of the file."""
        with self._faults():
            self._opened.write("sink.write", data)

    def prepare(self) -> Plain:
        """What was written lasts; gives the token."""
        with self._faults():
            file = self._opened
            file.sync("sink.sync")
            tail = min(file.size, TAIL_BYTES)
            crc = zlib.crc32(file.read(file.size - tail, tail))
            return {"path": self.target, "length": file.size, "tail": tail, "crc": crc}

    def commit(self, token: Plain, *, last: bool) -> None:
        """The checkpoint with this token stands; ``last``: the run has come to its end.  May be called again, also by a later run."""
        length, tail, crc = self._read(token)
        self._kept = length
        if not last:
            return
        with self._faults():
            if self._mode == "replace" and self._disk.place(self._written) is not None:
                with self._disk.open(self._written) as file:
                    self._check(file, length, tail, crc)
                self._disk.rename("sink.rename", self._written, self.target)
                self._disk.sync_folder("sink.dirsync", os.path.dirname(self.target))
        self._close()

    def close(self) -> None:
        """Leaves the file as the last checkpoint that stands knows it."""
        if self._file is not None and self._file.size > self._kept:
            with contextlib.suppress(OSError):  # the next run does it
                self._file.truncate("sink.truncate", self._kept)
        self._close()

    @property
    def _opened(self) -> DiskFile:
        assert self._file is not None, "the file is open"
        return self._file

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _open(self) -> DiskFile:
        while True:
            try:
                file = self._disk.open(self._written, to_write=True)
            except FileNotFoundError:
                try:
                    file = self._disk.create("sink.create", self._written, 0o666)
                except FileExistsError:
                    continue
            self._lock(file)
            if self._disk.place(self._written) == file.place():
                return file
            file.close()  # another run has just put a new file there

    def _lock(self, file: DiskFile) -> None:
        if not file.lock():
            file.close()
            raise ConnectorError(f"{self.path}: another run is writing it")

    def _check(self, file: DiskFile, length: int, tail: int, crc: int) -> None:
        if file.size < length:
            raise ConnectorError(
                f"{self._written}: has {file.size} bytes; the checkpoint needs its first {length} bytes"
            )
        if zlib.crc32(file.read(length - tail, tail)) != crc:
            raise ConnectorError(
                f"{self._written}: the bytes before byte {length} are not those that were written up to the checkpoint"
            )

    def _read(self, token: Plain) -> tuple[int, int, int]:
        match token:
            case {"path": str(path), "length": int(length), "tail": int(tail), "crc": int(crc)} if (
                0 <= tail <= min(length, TAIL_BYTES)
            ):
                if path != self.target:
                    raise ConnectorError(f"{self.path}: the checkpoint is of the file {path}")
                return length, tail, crc
        raise ConnectorError(f"{self.path}: the checkpoint says nothing of this file")

    @contextlib.contextmanager
    def _faults(self) -> Any:
        try:
            yield
        except OSError as error:
            raise write_fault(self.path, self.target, error) from error


class CheckpointedFileSink(SinkConnector):
    """The sink ``file`` in a run with checkpoints.  A compressed file gets a member (a frame) of its own between two checkpoints."""

    checkpointed = "exactly-once"

    def __init__(self, path: str, mode: str, disk: Disk | None = None) -> None:
        self.path = path
        self._mode = mode
        self._file = CheckpointedFile(path, mode, disk or Disk())
        self._suffix = suffix_of(self._file.target)
        self._compressor: Compressor | None = None
        self._token: Plain = None
        self._taken = 0

    @property
    def taken_bytes(self) -> int:  # type: ignore[override]
        return self._taken

    def recover(self, token: Plain) -> None:
        self._token = token

    async def open(self) -> None:
        held = await to_completion(asyncio.to_thread(self._open))
        if held and self._mode == "append":
            self.held = await to_completion(
                asyncio.to_thread(held_by, self._file.target, self.path, self._suffix)
            )

    def _open(self) -> int:
        return self._file.begin() if self._token is None else self._file.go_on(self._token)

    async def write(self, data: Buffer, *, origin: Any = None) -> None:
        await to_completion(asyncio.to_thread(self._write, data))

    def _write(self, data: Buffer) -> None:
        if self._suffix:
            if self._compressor is None:
                from asyncflow.connectors._compression import compressor

                self._compressor = compressor(self._suffix)
            data = self._compressor.compress(data)
        self._file.write(data)
        self._taken += len(data)

    async def prepare(self) -> Plain:
        return await to_completion(asyncio.to_thread(self._prepare))

    def _prepare(self) -> Plain:
        if self._compressor is not None:
            ending, self._compressor = self._compressor, None
            self._file.write(ending.flush())
        return self._file.prepare()

    async def commit(self, token: Plain, *, last: bool) -> None:
        await to_completion(asyncio.to_thread(self._file.commit, token, last=last))

    async def aclose(self, *, failed: bool = False) -> None:
        if failed:
            self._compressor = None
            await to_completion(asyncio.to_thread(self._file.close))


def is_regular(path: str) -> bool:
    """Whether a path leads to a regular file, or to none yet."""
    try:
        return stat.S_ISREG(os.stat(os.path.expanduser(path)).st_mode)
    except OSError:
        return True
