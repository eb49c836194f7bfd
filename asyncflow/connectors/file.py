"""Connector ``file``: bytes from files, globs and lists of them, and into one file.

Reading: each file is a stream, in name order; compressed files are expanded by their suffix; a pipe or a device is read as it comes.
Following: see ``_follow``.  Writing: ``replace`` writes beside the target and renames at the successful end, so a reader of the target sees
the old file or the whole new one.
"""

from __future__ import annotations

import asyncio
import io
import os
import stat
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import msgspec

from asyncflow.connectors._descriptors import DescriptorStream
from asyncflow.connectors._file_identity import check_identity, check_regular, identity_of
from asyncflow.connectors._file_sink import FileSink
from asyncflow.connectors._files import (
    FileStream,
    check_readable,
    expand,
    is_glob,
    open_path,
    read_fault,
    suffix_of,
)
from asyncflow.connectors._paths import file_taken, files_matching, is_stream
from asyncflow.connectors.contract import Aside, ByteSource, ByteStream, SourceConnector
from asyncflow.errors import ConnectorError
from asyncflow.model.capabilities import (
    DescribesSink,
    DescribesSource,
    Guarantee,
    Resource,
    SinkCapabilities,
    SourceCapabilities,
)
from asyncflow.model.durations import parse_duration
from asyncflow.model.snapshot import Plain

if TYPE_CHECKING:
    from asyncflow.connectors._compression import CompressedStream


class SourceOptions(msgspec.Struct, DescribesSource, frozen=True, kw_only=True, forbid_unknown_fields=True):
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

    guarantee_text: ClassVar[str] = "at-least-once; none with follow = true and for pipes and devices"

    def __post_init__(self) -> None:
        paths = self.paths()
        if not paths or not all(paths):
            raise ValueError("path must name at least one file")
        if any("\0" in path for path in paths):
            raise ValueError("path must not hold a NUL character")
        if parse_duration(self.poll) <= 0:
            raise ValueError("poll must be longer than 0s")
        if self.follow and any(map(suffix_of, paths)):
            raise ValueError("follow = true reads plain files only, not compressed ones")

    def paths(self) -> list[str]:
        return [self.path] if isinstance(self.path, str) else self.path

    def capabilities(self) -> SourceCapabilities:
        """A pipe or a device among the files may have no end and is read once.  Following, what a rotation took away is not read again."""
        streams = any(map(is_stream, self.paths()))
        resources: list[Resource] = []
        for path in self.paths():
            if is_glob(path) and not os.path.exists(os.path.expanduser(path)):
                resources.append(files_matching(path, "path"))
            else:
                resources += file_taken(path, "path", written=False)
        return SourceCapabilities(
            bounded=False if self.follow else None if streams else True,
            rereadable=not streams,
            resumable=not (self.follow or streams),
            guarantee="none" if self.follow or streams else "at-least-once",
            resources=tuple(resources),
        )


class SinkOptions(msgspec.Struct, DescribesSink, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where to write, and what to do about a file that is there."""

    path: Annotated[str, msgspec.Meta(description="The file; .gz .zst .bz2 .xz at its end compress it.")]
    mode: Annotated[
        Literal["create", "append", "replace"],
        msgspec.Meta(
            description="create: refuse a file that is not empty; append: add to it; replace: write beside it, rename at the end."
        ),
    ] = "create"

    guarantee_text: ClassVar[str] = (
        'none; at-least-once with mode = "append" and for pipes and devices; exactly-once with mode = "replace", and with [checkpoint]'
    )

    def __post_init__(self) -> None:
        if not self.path:
            raise ValueError("path must name a file")
        if self.path.endswith("/"):
            raise ValueError(f"path must name a file, not a folder: {self.path!r}")
        if "\0" in self.path:
            raise ValueError("path must not hold a NUL character")

    def capabilities(self) -> SinkCapabilities:
        """A run that is started again replaces the whole file, adds all rows to it, or (``create``) refuses the part that is there."""
        stream = is_stream(self.path)
        by_mode: dict[str, Guarantee] = {
            "create": "none",
            "append": "at-least-once",
            "replace": "exactly-once",
        }
        return SinkCapabilities(
            may_wait=stream,
            guarantee="at-least-once" if stream else by_mode[self.mode],
            resources=tuple(file_taken(self.path, "path", written=True)),
        )


class FileSource(ByteSource):
    """The files one after the other.  All files are checked before the first is read, so a missing file fails early."""

    def __init__(self, options: SourceOptions) -> None:
        self._options = options
        self._stream: FileStream | DescriptorStream | CompressedStream | None = None
        self._earlier_bytes = 0
        self._stopped = self._closed = False
        self._files_left = 1  # to be opened; how many there are is not known before
        self._paths: list[str] | None = None

    @property
    def left_unread(self) -> bool:
        """A pipe or a device counts as read to its end."""
        ended = isinstance(self._stream, DescriptorStream) or self._stream is None or not self._stream.error
        return self._stopped and (self._files_left > 0 or not ended)

    @property
    def position_bytes(self) -> int:  # type: ignore[override]
        return self._earlier_bytes + (0 if self._stream is None else self._stream.position_bytes)

    def position(self, stream: int, offset: int) -> Plain:
        if self._paths is None:
            self._paths = expand(self._options.path)
            check_regular(self._paths)
        known = self._paths
        reading = identity_of(known[stream], offset) if stream < len(known) else None
        return {"paths": [*known], "reading": reading}

    def go_on(self, position: Plain, stream: int, offset: int) -> None:
        match position:
            case {"paths": list(saved), "reading": reading}:
                paths = [str(path) for path in saved]
            case _:
                raise ConnectorError("the checkpoint does not say which files were read")
        if reading is not None and stream < len(paths):
            check_identity(paths[stream], offset, reading)
        self._paths = paths

    async def streams(self) -> AsyncIterator[ByteStream]:
        if self._paths is None:
            self._paths = await asyncio.to_thread(expand, self._options.path)
        paths = self._paths
        self.total_bytes = sum([check_readable(path) for path in paths])
        self._files_left = len(paths)
        for path in paths:
            if self._stopped or self._closed:
                return
            if self._stream is not None:
                self._earlier_bytes += self._stream.position_bytes
                self._stream = None
            self._stream = _open_stream(path, self.aside)
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


def _open_stream(path: str, aside: Aside | None) -> FileStream | DescriptorStream | CompressedStream:
    suffix = suffix_of(path)
    if not suffix:
        return open_path(path, aside)
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise ConnectorError(f"{path}: only a regular file can be decompressed")
    from asyncflow.connectors._compression import Archive, CompressedStream

    try:
        return CompressedStream(Archive(io.FileIO(path, "rb"), path, suffix), path)
    except OSError as error:
        raise read_fault(path, error) from error


def open_source(options: SourceOptions) -> SourceConnector:
    if not options.follow:
        return FileSource(options)
    from asyncflow.connectors._follow import FollowSource

    return FollowSource(options.paths(), parse_duration(options.poll) / 1e9)


def open_sink(options: SinkOptions) -> FileSink:
    return FileSink(options.path, options.mode)
