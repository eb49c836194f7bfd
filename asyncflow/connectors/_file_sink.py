"""The sink of ``file``: one file, created, appended to or replaced.

Invariants.  One run at a time writes a file: the file is locked while it is written, and so is the temporary file of ``replace``.
A write is taken whole or not at all: after a failure (a full disk) the file is cut back to the bytes before the write, a compressed file to
its last whole member, so the next append never follows half a record.  A target that is replaced holds the old bytes or all the new ones.
Each target has one name for its temporary file, so the next run finds and removes the temporary file of a dead run.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import io
import os
import stat
from functools import partial
from typing import TYPE_CHECKING, Any

from asyncflow.connectors._descriptors import DescriptorWriter, is_pollable, private_description, turn_at
from asyncflow.connectors._files import FileWriter, suffix_of, to_completion
from asyncflow.connectors._paths import descriptor_of
from asyncflow.connectors._written_files import held_by, not_empty, temporary_of, write_fault
from asyncflow.connectors.contract import Buffer, SinkConnector
from asyncflow.errors import ConnectorError, ReaderGoneError
from asyncflow.standard_streams import is_closed

if TYPE_CHECKING:
    from asyncflow.connectors._compression import Compressor

PIPE_READER_POLL_SECONDS = 0.05
MEMBER_BYTES = 16 << 20
"""Compressed bytes of a member, about: the most that a failed write may cost."""


class FileSink(SinkConnector):
    """Writes one file; a pipe, a device or a descriptor is written as it is, whatever the mode.

    ``held``: after ``open``, the earlier contents of a file that is appended to.
    """

    def __init__(self, path: str, mode: str) -> None:
        self.path = path
        self._mode = mode
        self._descriptor = descriptor_of(path)
        self._target = os.path.realpath(os.path.expanduser(path))
        self._temporary = temporary_of(self._target)
        self._publishes = False  # the temporary file is ours, and takes the target's place at the end
        self._turn: asyncio.Lock | None = None  # where several sinks may write to one descriptor
        self._guard = -1  # a descriptor that holds the lock of the file to be replaced
        self._suffix = "" if self._descriptor is not None else suffix_of(self._target)
        self._compressor: Compressor | None = None
        self._writer: FileWriter | DescriptorWriter | None = None
        self._before_bytes = 0  # of a regular file, before the first write
        self._whole_bytes = 0  # of those taken: where the last whole write, or member, ends

    def with_checkpoints(self) -> SinkConnector:
        from asyncflow.connectors._checkpointed_file import CheckpointedFileSink, is_regular

        if self._descriptor is not None or not is_regular(self.path):
            return self
        return CheckpointedFileSink(self.path, self._mode)

    @property
    def taken_bytes(self) -> int:  # type: ignore[override]
        return 0 if self._writer is None else self._writer.taken_bytes

    async def open(self) -> None:
        try:
            self._writer = await self._open_target()
            if self._mode == "append" and self._before_bytes:
                self.held = await to_completion(
                    asyncio.to_thread(held_by, self._target, self.path, self._suffix)
                )
        except OSError as error:
            self._close()
            raise self._fault(error) from error
        except BaseException:
            self._close()
            raise
        if self._suffix:
            from asyncflow.connectors._compression import compressor

            self._compressor = compressor(self._suffix)

    async def write(self, data: Buffer, *, origin: Any = None) -> None:
        assert self._writer is not None, "write before open"
        try:
            if self._turn is not None:
                async with self._turn:
                    await self._writer.write(data)
            elif self._compressor is None:
                await self._writer.write(data)
                self._whole_bytes = self._writer.taken_bytes
            else:
                await to_completion(self._compress(data))
        except OSError as error:
            self._cut_back()
            raise self._fault(error) from error

    async def aclose(self, *, failed: bool = False) -> None:
        writer = self._writer
        if writer is None:
            return
        try:
            if self._compressor is not None:
                await to_completion(self._end_member())
            if self._publishes and not failed:
                assert isinstance(writer, FileWriter)
                await writer.sync()
                os.rename(self._temporary, self._target)
                self._publishes = False
                await to_completion(asyncio.to_thread(_sync_directory, os.path.dirname(self._target)))
        except OSError as error:
            self._cut_back()
            raise self._fault(error) from error
        finally:
            self._close()

    # -- writing -----------------------------------------------------------------------------------------------------------

    async def _compress(self, data: Buffer) -> None:
        assert self._writer is not None
        assert self._compressor is not None
        await self._writer.write(await asyncio.to_thread(self._compressor.compress, data))
        if self._writer.taken_bytes - self._whole_bytes >= MEMBER_BYTES:
            await self._end_member()
            from asyncflow.connectors._compression import compressor

            self._compressor = compressor(self._suffix)

    async def _end_member(self) -> None:
        assert self._writer is not None
        ending, self._compressor = self._compressor, None
        if ending is not None:
            await self._writer.write(await asyncio.to_thread(ending.flush))
            self._whole_bytes = self._writer.taken_bytes

    def _cut_back(self) -> None:
        """Removes the part of a failed write, unless another process has written behind it."""
        self._compressor = None
        writer = self._writer
        if not isinstance(writer, FileWriter) or self._descriptor is not None:
            return
        with contextlib.suppress(OSError):
            fd = writer.file.fileno()
            if os.fstat(fd).st_size == self._before_bytes + writer.taken_bytes:
                os.ftruncate(fd, self._before_bytes + self._whole_bytes)

    def _close(self) -> None:
        writer, self._writer = self._writer, None
        if self._publishes:
            self._publishes = False
            with contextlib.suppress(OSError):  # it may be gone, and its folder with it
                os.unlink(self._temporary)
        if writer is not None:
            writer.close()
        if self._guard >= 0:
            os.close(self._guard)
            self._guard = -1

    # -- opening -----------------------------------------------------------------------------------------------------------

    async def _open_target(self) -> FileWriter | DescriptorWriter:
        if self._descriptor is not None:
            if is_closed(self._descriptor):
                raise OSError(errno.EBADF, "closed")
            self._turn = turn_at(self._descriptor)
            return _open_descriptor(self._descriptor)
        try:
            existing = os.stat(self._target)
        except FileNotFoundError:
            existing = None
        kind = 0 if existing is None else existing.st_mode
        if kind and not stat.S_ISREG(kind) and not stat.S_ISDIR(kind):
            return await self._open_special()
        if self._mode == "replace" and not stat.S_ISDIR(kind):
            return FileWriter(io.FileIO(self._open_temporary(existing), "wb"))
        flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | (os.O_APPEND if self._mode == "append" else 0)
        while True:
            fd = os.open(self._target, flags, 0o666)
            try:
                if self._locked(fd, self._target):
                    self._sweep()
                    self._before_bytes = os.fstat(fd).st_size
                    self._check_mode()
                    return FileWriter(io.FileIO(fd, "wb"))
            except BaseException:
                os.close(fd)
                raise
            os.close(fd)  # another run has just put a new file there

    def _check_mode(self) -> None:
        if self._mode == "create" and self._before_bytes:
            raise not_empty(self.path)

    def _open_temporary(self, existing: os.stat_result | None) -> int:
        """A new temporary file, locked, with the owner and mode of the file to be replaced, which is locked too."""
        if existing is not None:
            with contextlib.suppress(PermissionError):  # one that cannot be read can be replaced all the same
                self._guard = os.open(self._target, os.O_RDONLY | os.O_CLOEXEC)
                self._locked(self._guard, self._target)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        while True:
            try:
                fd = os.open(self._temporary, flags, 0o666)
            except FileExistsError:
                self._sweep()
                continue
            try:
                if self._locked(fd, self._temporary):
                    self._publishes = True
                    if existing is not None:
                        with contextlib.suppress(PermissionError):
                            os.fchown(fd, existing.st_uid, existing.st_gid)
                        os.fchmod(fd, stat.S_IMODE(existing.st_mode))
                    return fd
            except BaseException:
                os.close(fd)
                raise
            os.close(fd)  # another run removed the file as a dead run's, before it was locked

    def _sweep(self) -> None:
        """Removes the temporary file of a dead run; ConnectorError where that run is alive."""
        try:
            fd = os.open(self._temporary, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return
        try:
            if self._locked(fd, self._temporary):
                os.unlink(self._temporary)
        finally:
            os.close(fd)

    def _locked(self, fd: int, path: str) -> bool:
        """Locks the file behind the descriptor; False where the path names another file by now.  ConnectorError where another run has the
        lock.  On a file system without locks nothing is locked."""
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConnectorError(f"{self.path}: another run is writing it") from error
        except OSError:
            pass
        opened = os.fstat(fd)
        try:
            named = os.stat(path, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return (opened.st_dev, opened.st_ino) == (named.st_dev, named.st_ino)

    async def _open_special(self) -> DescriptorWriter:
        """A pipe (waits until somebody reads it) or a device."""
        while True:
            try:
                fd = os.open(self._target, os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
            except OSError as error:
                if error.errno != errno.ENXIO or not stat.S_ISFIFO(os.stat(self._target).st_mode):
                    raise
                await asyncio.sleep(PIPE_READER_POLL_SECONDS)
            else:
                return DescriptorWriter(fd, partial(os.close, fd))

    def _fault(self, error: OSError) -> ConnectorError:
        match error.errno:
            case errno.EPIPE:
                return ReaderGoneError(f"{self.path}: its reader went away")
            case errno.EBADF if self._descriptor is not None:
                return ConnectorError(f"{self.path}: descriptor {self._descriptor} is not open for writing")
        return write_fault(self.path, self._target, error)


def _open_descriptor(fd: int) -> FileWriter | DescriptorWriter:
    """What a descriptor is open on, from where it stands."""
    if is_pollable(fd):
        return DescriptorWriter(*private_description(fd, os.O_WRONLY))
    return FileWriter(io.FileIO(os.dup(fd), "wb"))


def _sync_directory(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
