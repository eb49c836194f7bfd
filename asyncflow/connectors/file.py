"""Connector ``file``: bytes from files, globs and lists of them, and into one file.

Reading: each file is a stream, in name order; compressed ones are expanded by their suffix; a pipe or a
device is read as it comes.  Following: a file is told by what it is, not by its name, so a rename reads nothing
twice; files are read side by side, and what comes in a file's place is read after it.  Writing: ``replace``
writes beside the target and renames at the successful end, so whoever reads the target sees the old file or the
whole new one.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import io
import os
import stat
from collections.abc import AsyncIterator
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec

from asyncflow.connectors._descriptors import DescriptorStream, DescriptorWriter
from asyncflow.connectors._files import (
    FileStream,
    FileWriter,
    FollowStream,
    SeenFile,
    check_readable,
    expand,
    is_glob,
    look,
    open_path,
    read_fault,
    suffix_of,
    to_completion,
)
from asyncflow.connectors.contract import Buffer, ByteSource, ByteStream, SinkConnector, SourceConnector
from asyncflow.errors import ConnectorError, ReaderGoneError
from asyncflow.model.durations import parse_duration

if TYPE_CHECKING:
    from asyncflow.connectors._compression import CompressedStream, Compressor

PIPE_READER_POLL_SECONDS = 0.05


class SourceOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to read."""

    path: Annotated[
        str | list[str],
        msgspec.Meta(
            description="A file, a glob (data/*.csv, ** for subfolders) or a list of them; read in name order."
        ),
    ]
    follow: Annotated[
        bool,
        msgspec.Meta(
            description="Go on as the file grows, through rotation and truncation, until stopped; one that is not there yet is waited for."
        ),
    ] = False
    poll: Annotated[
        str, msgspec.Meta(description="With follow: how often to look for growth, rotation and new files.")
    ] = "200ms"

    def __post_init__(self) -> None:
        paths = [self.path] if isinstance(self.path, str) else self.path
        if not paths or not all(paths):
            raise ValueError("path must name at least one file")
        if any("\0" in path for path in paths):
            raise ValueError("path must not hold a NUL character")
        if parse_duration(self.poll) <= 0:
            raise ValueError("poll must be longer than 0s")
        if self.follow and any(map(suffix_of, paths)):
            raise ValueError("follow = true reads plain files only, not compressed ones")


class SinkOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where to write, and what to do about a file that is there."""

    path: Annotated[str, msgspec.Meta(description="The file; .gz .zst .bz2 .xz at its end compress it.")]
    mode: Annotated[
        Literal["create", "append", "replace"],
        msgspec.Meta(
            description="create: refuse a file that is not empty; append: add to it; replace: write beside it, rename at the end."
        ),
    ] = "create"

    def __post_init__(self) -> None:
        if not self.path:
            raise ValueError("path must name a file")
        if "\0" in self.path:
            raise ValueError("path must not hold a NUL character")


class FileSource(ByteSource):
    """The files one after the other.  All of them are looked at before the first is read, so a missing one
    fails early.
    """

    def __init__(self, options: SourceOptions) -> None:
        self._options = options
        self._stream: FileStream | DescriptorStream | CompressedStream | None = None
        self._earlier_bytes = 0
        self._stopped = False

    @property
    def position_bytes(self) -> int:  # type: ignore[override]
        return self._earlier_bytes + (0 if self._stream is None else self._stream.position_bytes)

    async def streams(self) -> AsyncIterator[ByteStream]:
        paths = await asyncio.to_thread(expand, self._options.path)
        self.total_bytes = sum([check_readable(path) for path in paths])
        for path in paths:
            if self._stopped:
                return
            if self._stream is not None:
                self._earlier_bytes += self._stream.position_bytes
                self._stream = None
            self._stream = _open_stream(path)
            yield self._stream

    async def stop(self) -> None:
        self._stopped = True
        if self._stream is not None:
            self._stream.finish()

    async def aclose(self) -> None:
        self._stopped = True
        if self._stream is not None:
            await self._stream.aclose()


class FollowSource(ByteSource):
    """Files as they grow, and those that come under the same names and globs, until stopped.

    What stands in a file's place is read once the file is read to its end; so is a file again, from its start,
    that became shorter (a copy of it that grew past what was read before anybody looked cannot be told).  A file
    with no successor is left when it was deleted, or no glob finds it any more.
    """

    bounded = False
    concurrent = True

    def __init__(self, options: SourceOptions) -> None:
        paths = [options.path] if isinstance(options.path, str) else options.path
        self._patterns = paths
        self._named = {path for path in map(os.path.expanduser, paths) if not is_glob(path)}
        self._poll_seconds = parse_duration(options.poll) / 1e9
        self._open: dict[tuple[int, int], FollowStream] = {}
        self._earlier_bytes = 0
        self._stopping = asyncio.Event()

    @property
    def position_bytes(self) -> int:  # type: ignore[override]
        return self._earlier_bytes + sum(stream.position_bytes for stream in self._open.values())

    async def streams(self) -> AsyncIterator[ByteStream]:
        while not self._stopping.is_set():
            seen = await asyncio.to_thread(look, self._patterns)
            self._leave_gone(seen)
            for file in seen:
                if self._stopping.is_set():
                    return
                # Its predecessor is closed by the reader, when all of it was handed on: that keeps the order.
                taken = file.identity in self._open or file.path in {s.path for s in self._open.values()}
                if not taken and not suffix_of(file.path) and (stream := self._open_file(file)) is not None:
                    yield stream
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._poll_seconds):
                    await self._stopping.wait()

    async def stop(self) -> None:
        self._stopping.set()
        for stream in self._open.values():
            stream.finish()

    async def aclose(self) -> None:
        self._stopping.set()
        for stream in self._open.values():
            await stream.aclose()

    def _open_file(self, file: SeenFile) -> FollowStream | None:
        """None where the name stands for another file by now, or for none: the next look will tell."""
        try:
            opened = io.FileIO(file.path, "rb")
        except FileNotFoundError:
            return None
        except OSError as error:
            raise read_fault(file.path, error) from error
        stream = FollowStream(opened, file.path, self._poll_seconds)
        if stream.identity != file.identity:
            opened.close()
            return None
        self._open[file.identity] = stream
        return stream

    def _leave_gone(self, seen: list[SeenFile]) -> None:
        """Has streams end whose file nobody writes to any more: by two looks, as a writer may be a little behind."""
        paths = {file.identity: file.path for file in seen}
        sizes = {file.path: file.size_bytes for file in seen}
        for identity, stream in list(self._open.items()):
            if stream.closed:
                self._earlier_bytes += stream.position_bytes
                del self._open[identity]
            elif identity in paths:
                stream.path, stream.missed = paths[identity], False
            elif stream.unlinked or sizes.get(stream.path) or stream.path not in self._named:
                if stream.missed:
                    stream.leave()
                stream.missed = True


def _open_stream(path: str) -> FileStream | DescriptorStream | CompressedStream:
    suffix = suffix_of(path)
    if not suffix:
        return open_path(path)
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise ConnectorError(f"{path}: only a regular file can be decompressed")
    from asyncflow.connectors._compression import Archive, CompressedStream

    try:
        return CompressedStream(Archive(io.FileIO(path, "rb"), path, suffix), path)
    except OSError as error:
        raise read_fault(path, error) from error


class FileSink(SinkConnector):
    """Writes one file; a target that is a pipe or a device is written as it is, whatever the mode."""

    def __init__(self, options: SinkOptions) -> None:
        self.path = options.path
        self._mode = options.mode
        self._target = os.path.realpath(os.path.expanduser(options.path))
        self._temporary = ""
        self._suffix = suffix_of(self._target)
        self._compressor: Compressor | None = None
        self._writer: FileWriter | DescriptorWriter | None = None

    @property
    def taken_bytes(self) -> int:  # type: ignore[override]
        return 0 if self._writer is None else self._writer.taken_bytes

    async def open(self) -> None:
        try:
            self._writer = await self._open_target()
        except OSError as error:
            raise self._fault(error) from error
        if self._suffix:
            from asyncflow.connectors._compression import compressor

            self._compressor = compressor(self._suffix)

    async def write(self, data: Buffer, *, origin: Any = None) -> None:
        assert self._writer is not None, "write before open"
        try:
            if self._compressor is not None:
                data = await to_completion(asyncio.to_thread(self._compressor.compress, data))
            await self._writer.write(data)
        except OSError as error:
            raise self._fault(error) from error

    async def aclose(self, *, failed: bool = False) -> None:
        writer, self._writer = self._writer, None
        if writer is None:
            return
        try:
            if self._compressor is not None:
                await writer.write(await to_completion(asyncio.to_thread(self._compressor.flush)))
            if self._temporary and not failed:
                assert isinstance(writer, FileWriter)
                await writer.sync()
                os.rename(self._temporary, self._target)
                self._temporary = ""
                await to_completion(asyncio.to_thread(_sync_directory, os.path.dirname(self._target)))
        except OSError as error:
            raise self._fault(error) from error
        finally:
            writer.close()
            if self._temporary:
                with contextlib.suppress(OSError):  # it may be gone, and its folder with it
                    os.unlink(self._temporary)
                self._temporary = ""

    async def _open_target(self) -> FileWriter | DescriptorWriter:
        try:
            existing = os.stat(self._target).st_mode
        except FileNotFoundError:
            existing = 0
        if existing and not stat.S_ISREG(existing) and not stat.S_ISDIR(existing):
            return await self._open_special()
        if self._mode == "replace" and not stat.S_ISDIR(existing):
            folder, name = os.path.split(self._target)
            temporary = os.path.join(folder, f".{name}.{os.urandom(4).hex()}.tmp")
            fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
            self._temporary = temporary
            if existing:
                os.fchmod(fd, stat.S_IMODE(existing))
            return FileWriter(io.FileIO(fd, "wb"))
        flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | (os.O_APPEND if self._mode == "append" else 0)
        fd = os.open(self._target, flags, 0o666)
        if self._mode == "create" and os.fstat(fd).st_size:
            os.close(fd)
            raise ConnectorError(
                f'{self.path}: is there already and not empty (mode = "append" adds to it, mode = "replace" replaces it)'
            )
        return FileWriter(io.FileIO(fd, "wb"))

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
            case errno.ENOENT | errno.ENOTDIR:
                return ConnectorError(
                    f"{self.path}: the folder {os.path.dirname(self._target)} does not exist"
                )
            case errno.EISDIR:
                return ConnectorError(f"{self.path}: is a directory, not a file")
            case errno.EACCES | errno.EPERM:
                return ConnectorError(f"{self.path}: no permission to write it")
            case code:
                return ConnectorError(f"{self.path}: {os.strerror(code or 0).lower()}")


def _sync_directory(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def open_source(options: SourceOptions) -> SourceConnector:
    return FollowSource(options) if options.follow else FileSource(options)


def open_sink(options: SinkOptions) -> FileSink:
    return FileSink(options)
