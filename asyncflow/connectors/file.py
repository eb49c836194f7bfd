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
import io
import os
import stat
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec

from asyncflow.connectors._descriptors import DescriptorStream
from asyncflow.connectors._file_sink import FileSink
from asyncflow.connectors._files import (
    FileStream,
    FollowStream,
    SeenFile,
    check_readable,
    expand,
    is_glob,
    look,
    open_path,
    read_fault,
    suffix_of,
)
from asyncflow.connectors._paths import file_taken, files_matching
from asyncflow.connectors.contract import ByteSource, ByteStream, SourceConnector
from asyncflow.errors import ConnectorError
from asyncflow.model.durations import parse_duration
from asyncflow.model.resources import Resource

if TYPE_CHECKING:
    from asyncflow.connectors._compression import CompressedStream


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

    def resources(self) -> Iterator[Resource]:
        for path in [self.path] if isinstance(self.path, str) else self.path:
            if is_glob(path) and not os.path.exists(os.path.expanduser(path)):
                yield files_matching(path, "path")
            else:
                yield from file_taken(path, "path", written=False)


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

    def resources(self) -> Iterator[Resource]:
        return file_taken(self.path, "path", written=True)


class FileSource(ByteSource):
    """The files one after the other.  All of them are looked at before the first is read, so a missing one
    fails early.
    """

    def __init__(self, options: SourceOptions) -> None:
        self._options = options
        self._stream: FileStream | DescriptorStream | CompressedStream | None = None
        self._earlier_bytes = 0
        self._stopped = self._closed = False
        self._files_left = 1  # to be opened; how many there are is not known before

    @property
    def left_unread(self) -> bool:
        """A pipe or a device has no end that one could be short of."""
        ended = isinstance(self._stream, DescriptorStream) or self._stream is None or not self._stream.error
        return self._stopped and (self._files_left > 0 or not ended)

    @property
    def position_bytes(self) -> int:  # type: ignore[override]
        return self._earlier_bytes + (0 if self._stream is None else self._stream.position_bytes)

    async def streams(self) -> AsyncIterator[ByteStream]:
        paths = await asyncio.to_thread(expand, self._options.path)
        self.total_bytes = sum([check_readable(path) for path in paths])
        self._files_left = len(paths)
        for path in paths:
            if self._stopped or self._closed:
                return
            if self._stream is not None:
                self._earlier_bytes += self._stream.position_bytes
                self._stream = None
            self._stream = _open_stream(path)
            self._files_left -= 1
            yield self._stream

    async def stop(self) -> None:
        self._stopped = True
        if self._stream is not None:
            self._stream.finish()

    async def aclose(self) -> None:
        self._closed = True
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


def open_source(options: SourceOptions) -> SourceConnector:
    return FollowSource(options) if options.follow else FileSource(options)


def open_sink(options: SinkOptions) -> FileSink:
    return FileSink(options.path, options.mode)
