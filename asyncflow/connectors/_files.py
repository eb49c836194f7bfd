"""Regular files, read and written without blocking the loop: for ``file``, and for stdin and stdout where they are files.

Bytes in the page cache are read at once into the caller's buffer (``RWF_NOWAIT``: no copy).  Long reads from the page cache are made by a
worker thread, in a run that has workers.  Bytes on disk are read by a thread, also into the caller's buffer.  A cancelled read or write
waits for its thread, so no thread uses a buffer or a descriptor after the call has returned.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import io
import os
import stat
from collections.abc import Awaitable, Iterable
from functools import cached_property, partial
from typing import Any, TypeVar

from msgspec import Struct

from asyncflow.connectors._descriptors import TURN_BYTES, DescriptorStream
from asyncflow.connectors._paths import descriptor_of
from asyncflow.connectors.contract import Aside, Buffer, ByteStream
from asyncflow.errors import ConnectorError
from asyncflow.standard_streams import is_closed

T = TypeVar("T")

MARK_BYTES = 64
LONG_BYTES = 1 << 18
"""A read of so many bytes takes longer than handing it to a thread."""
COMPRESSED = (".gz", ".zst", ".bz2", ".xz")
"""Suffixes of the files that ``_compression`` expands."""

_NOWAIT = getattr(os, "RWF_NOWAIT", 0)
_NO_NOWAIT = (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS)
_READ_FAULTS = {
    errno.ENOENT: "no such file",
    errno.ENOTDIR: "no such file",
    errno.EISDIR: "is a directory, not a file (to read what is in it, write DIRECTORY/*)",
    errno.EACCES: "no permission to read it",
    errno.EPERM: "no permission to read it",
    errno.ENXIO: "is a socket, not a file (see the connector unix)",
}


async def to_completion(operation: Awaitable[T]) -> T:
    """The result of ``operation``, which runs to its end also when the caller is cancelled; the cancellation is raised after it."""
    task = asyncio.ensure_future(operation)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        ended = asyncio.get_running_loop().create_future()
        task.add_done_callback(partial(_tell, ended))
        try:
            await ended
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        if not task.cancelled():
            task.exception()  # retrieved, though the caller gets the cancellation
        raise cancelled
    return task.result()


def _tell(ended: asyncio.Future[None], _task: asyncio.Future[Any]) -> None:
    if not ended.done():
        ended.set_result(None)


def read_fault(path: str, error: OSError) -> ConnectorError:
    """A failed open or read in the user's words."""
    return ConnectorError(
        f"{path}: {_READ_FAULTS.get(error.errno or 0, os.strerror(error.errno or 0).lower())}"
    )


def expand(patterns: str | Iterable[str], *, missing_ok: bool = False) -> list[str]:
    """The files of paths and globs, each once, in name order.  ConnectorError for a glob without a match, unless ``missing_ok``."""
    found: set[str] = set()
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        path = os.path.expanduser(pattern)
        if os.path.exists(path) or not is_glob(path):
            found.add(path)  # a missing file is reported when it is opened
            continue
        import glob

        matches = [match for match in glob.glob(path, recursive=True) if not os.path.isdir(match)]
        if not matches and not missing_ok:
            raise ConnectorError(f"{pattern}: no file matches")
        found.update(matches)
    return sorted(found)


def is_glob(path: str) -> bool:
    """As ``glob.has_magic``, without importing ``glob``."""
    return any(character in path for character in "*?[")


def suffix_of(path: str) -> str:
    """The suffix of a compressed file, ``""`` for others."""
    return next((suffix for suffix in COMPRESSED if path.lower().endswith(suffix)), "")


def check_readable(path: str) -> int:
    """The size of a file in bytes, 0 for a pipe; ConnectorError where the file cannot be opened."""
    try:
        status = _status(path)
    except OSError as error:
        raise read_fault(path, error) from error
    return status.st_size if stat.S_ISREG(status.st_mode) else 0


def _status(path: str) -> os.stat_result:
    status = os.stat(path)
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, "")
    if not os.access(path, os.R_OK):
        raise PermissionError(errno.EACCES, "")
    return status


class SeenFile(Struct, frozen=True):
    """A regular file found under a name at some moment; a rename keeps its ``identity`` (device and inode)."""

    path: str
    identity: tuple[int, int]
    size_bytes: int
    changed_ns: int


def look(patterns: str | Iterable[str]) -> list[SeenFile]:
    """The regular files of paths and globs, in name order, each once; missing files are left out.  ConnectorError for a file that cannot be
    followed.
    """
    seen: dict[tuple[int, int], SeenFile] = {}
    for path in expand(patterns, missing_ok=True):
        try:
            status = _status(path)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise read_fault(path, error) from error
        if not stat.S_ISREG(status.st_mode):
            raise ConnectorError(f"{path}: only a regular file can be followed")
        identity = (status.st_dev, status.st_ino)
        seen.setdefault(identity, SeenFile(path, identity, status.st_size, status.st_mtime_ns))
    return list(seen.values())


class Mark:
    """The first and the last bytes read of a file: where the file no longer has them, it was written anew."""

    def __init__(self, start_bytes: int) -> None:
        self._start_bytes = start_bytes
        self._head = self._tail = b""

    def add(self, read: memoryview) -> None:
        if len(self._head) < MARK_BYTES:
            self._head += bytes(read[: MARK_BYTES - len(self._head)])
        self._tail = (self._tail + bytes(read[-MARK_BYTES:]))[-MARK_BYTES:]

    def stands(self, fd: int, position: int) -> bool:
        """Whether the file still has the bytes.  ``position``: the end of what was read."""
        tail = os.pread(fd, len(self._tail), position - len(self._tail))
        return tail == self._tail and os.pread(fd, len(self._head), self._start_bytes) == self._head


class FileStream(ByteStream):
    """A regular file from the position of ``file`` to its end, not decompressed.  ``aside``: has the long reads.  ConnectorError where the
    file became shorter, or was written anew, while it was read.
    """

    def __init__(self, file: io.FileIO, name: str, aside: Aside | None = None) -> None:
        self.name = name
        self.error = ""
        self.position_bytes = 0
        self._file = file
        self._start_bytes = file.tell()
        self._mark = Mark(self._start_bytes)
        status = os.fstat(file.fileno())
        self._opened_bytes, self._changed_ns = status.st_size, status.st_mtime_ns
        self._cache_first = bool(_NOWAIT)
        self._aside, self._long = aside, False
        self._bytes_since_turn = 0
        self._reading: asyncio.Future[None] | None = None
        self._closed = False
        self._stopped = False

    async def read_into(self, buffer: memoryview) -> int:
        count = await self._read(buffer)
        if not count and not (self._closed or self._stopped):
            self._check_whole()
        return count

    async def _read(self, buffer: memoryview) -> int:
        if self._bytes_since_turn >= TURN_BYTES:
            self._bytes_since_turn = 0
            await asyncio.sleep(0)
        if self._closed or self._stopped:
            self._judge_stop()
            return 0
        count = None
        if self._cache_first:
            if self._long and self._aside is not None:
                count = await self._waited_for(self._aside(partial(self._read_cached, buffer)))
            else:
                count = self._read_cached(buffer)
        if count is None:
            count = await self._read_disk(buffer)
        else:
            self._bytes_since_turn += count
        self._long = count >= LONG_BYTES  # so the next one may be, too
        self.position_bytes += count
        self._mark.add(buffer[:count])
        return count

    def _check_whole(self) -> None:
        """At the end: checks that the file is unchanged, or has grown.  A file of no size (``/proc``) is not checked."""
        if self._opened_bytes == 0:
            return
        status, position = os.fstat(self._file.fileno()), self._start_bytes + self.position_bytes
        if status.st_size < max(position, self._opened_bytes):
            raise ConnectorError(
                f"{self.name}: became shorter while it was read: {status.st_size} bytes of {max(position, self._opened_bytes)} are left"
            )
        if status.st_mtime_ns != self._changed_ns and not self._mark.stands(self._file.fileno(), position):
            raise ConnectorError(f"{self.name}: was written anew while it was read")

    @cached_property
    def _by_thread(self) -> Any:
        """The file with methods that run in a thread.  aiofiles is imported only where bytes are on disk: the import is slow."""
        from aiofiles.threadpool import wrap  # type: ignore[import-untyped, unused-ignore]

        return wrap(self._file)

    def finish(self) -> None:
        """Ends the stream in order: the next read gives 0, with ``error`` where the file has more."""
        self._stopped = True

    def _judge_stop(self) -> None:
        if (
            self._stopped
            and not self._closed
            and self._start_bytes + self.position_bytes < self._size_bytes()
        ):
            self.error = "stopped"

    def _size_bytes(self) -> int:
        return os.fstat(self._file.fileno()).st_size

    async def aclose(self) -> None:
        if self._closed:
            return
        self._judge_stop()
        self._closed = True
        if self._reading is not None:
            await asyncio.wait([self._reading])  # the read closes the file when its thread is done
        else:
            self._file.close()

    def _read_cached(self, buffer: memoryview) -> int | None:
        try:
            return os.preadv(self._file.fileno(), [buffer], -1, _NOWAIT)
        except BlockingIOError:
            return None
        except OSError as error:
            if error.errno not in _NO_NOWAIT:
                raise read_fault(self.name, error) from error
            self._cache_first = False
            return None

    async def _read_disk(self, buffer: memoryview) -> int:
        try:
            return await self._waited_for(self._by_thread.readinto(buffer))
        except OSError as error:
            raise read_fault(self.name, error) from error

    async def _waited_for(self, reading: Awaitable[T]) -> T:
        """What a thread gives that reads the file."""
        self._reading = finished = asyncio.get_running_loop().create_future()
        try:
            return await to_completion(reading)
        finally:
            if self._closed:
                self._file.close()
            self._reading = None
            finished.set_result(None)


class FileWriter:
    """Writes a regular file.  Failures are the system's OSError."""

    def __init__(self, file: io.FileIO) -> None:
        self.file = file
        self.taken_bytes = 0

    async def write(self, data: Buffer) -> None:
        """Writes all of ``data``, also when cancelled.  A disk may take long, so the workers have no part in writing."""
        whole = partial(self._write, memoryview(data).cast("B"))
        await to_completion(asyncio.get_running_loop().run_in_executor(None, whole))

    def _write(self, view: memoryview) -> None:
        while len(view):
            count = self.file.write(view)
            self.taken_bytes += count
            view = view[count:]

    async def sync(self) -> None:
        """Returns when the bytes are on the disk."""
        await to_completion(asyncio.to_thread(os.fsync, self.file.fileno()))

    def close(self) -> None:
        self.file.close()


def open_path(path: str, aside: Aside | None = None) -> FileStream | DescriptorStream:
    """The stream of a regular file, a pipe or a device; ConnectorError where it cannot be opened."""
    if (descriptor := descriptor_of(path)) is not None and is_closed(descriptor):
        raise ConnectorError(f"{path}: is closed")
    try:
        kind = os.stat(path).st_mode
        if stat.S_ISREG(kind) or stat.S_ISDIR(kind):
            file = io.FileIO(path, "rb")
            with contextlib.suppress(OSError, AttributeError):
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_SEQUENTIAL)
            return FileStream(file, path, aside)
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError as error:
        raise read_fault(path, error) from error
    # A named pipe may still wait for its writer; a pipe without a name (/dev/fd/63 of a shell's <(...)) has or had one.
    named_pipe = stat.S_ISFIFO(kind) and os.path.lexists(os.path.realpath(path))
    return DescriptorStream(fd, path, lambda: os.close(fd), wait_first=named_pipe)
