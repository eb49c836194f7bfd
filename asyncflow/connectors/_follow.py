"""The source of ``file`` with ``follow = true``: files are read as they grow.

A file is known by its device and inode, not by its name, so nothing is read twice after a rename.  Files are read side by side; a file that
takes another's name is read after the other.

Invariants.  Bytes are handed out once, and only while the file still holds the bytes read before: a file that became shorter, or holds
others there, was written anew and is read from its start.  A file that was rotated away is read until it has not grown for
``LINGER_POLLS`` looks.  Where there are more files than descriptors, files read to their end are closed and opened again when they grow.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import io
import logging
import os
import resource
from collections.abc import AsyncIterator, Callable

from asyncflow.connectors._files import FileStream, SeenFile, is_glob, look, read_fault, suffix_of
from asyncflow.connectors.contract import ByteSource, ByteStream

LINGER_POLLS = 50
_NO_ROOM = (errno.EMFILE, errno.ENFILE)
_log = logging.getLogger("asyncflow.connectors")


class FollowStream(FileStream):
    """A file that grows: at its end the next read waits for more, looking every ``poll_seconds``.

    The stream ends at the file's end once ``leave`` was called, and with ``error`` when it was stopped or the file was written anew.
    ``path``: the file's name now, also after a rename.  ``at_end``: all bytes were handed out.  ``parked``: the descriptor was given up;
    ``seen`` wakes the stream when the file has grown, and ``make_room`` finds a descriptor for it.
    """

    def __init__(
        self, file: io.FileIO, path: str, poll_seconds: float, make_room: Callable[[], bool]
    ) -> None:
        super().__init__(file, path)
        status = os.fstat(file.fileno())
        self.identity = (status.st_dev, status.st_ino)
        self.path = path
        self.missed = self.quiet = 0
        """How many looks did not find the file, and how many of them since it last grew."""
        self.at_end = self.parked = False
        self._poll_seconds = poll_seconds
        self._make_room = make_room
        self._looked = (0, 0)
        self._leaving = False
        self._woken = asyncio.Event()

    @property
    def closed(self) -> bool:
        return self._closed

    @property
    def unlinked(self) -> bool:
        """The file has no name any more."""
        if self.parked:
            return not os.path.exists(self.path)
        return os.fstat(self._file.fileno()).st_nlink == 0

    async def read_into(self, buffer: memoryview) -> int:
        while not (self._closed or self._stopped):
            last_look = self._leaving
            if not self.parked or self._reopen():
                if self._written_anew():
                    self.error = "truncated"
                    self._stopped = True
                    break
                self.at_end = False
                if count := await self._read(buffer):
                    self.quiet = 0
                    return count
            if last_look:
                break
            self.at_end = True
            self._woken.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None if self.parked else self._poll_seconds):
                    await self._woken.wait()
        return 0

    def leave(self) -> None:
        """The file is complete: the stream ends where the file ends."""
        self._leaving = True
        self._woken.set()

    def park(self) -> None:
        """Gives up the descriptor of a file that is at its end."""
        self._look_closely()
        self.parked = True
        self._file.close()
        self.__dict__.pop("_by_thread", None)

    def seen(self, file: SeenFile) -> None:
        """A look has found the file in this state."""
        self.path, self.missed, self.quiet = file.path, 0, 0
        news = (file.size_bytes, file.changed_ns) != self._looked or file.size_bytes != self.position_bytes
        if self.parked and news:
            self._woken.set()

    def finish(self) -> None:
        super().finish()
        self.error = "stopped"
        self._woken.set()

    async def aclose(self) -> None:
        self._woken.set()
        await super().aclose()

    def _judge_stop(self) -> None:
        """A stop is the end: nothing is left unread."""

    def _look_closely(self) -> bool:
        """Whether anything has changed since the last look."""
        status = os.fstat(self._file.fileno())
        before, self._looked = self._looked, (status.st_size, status.st_mtime_ns)
        return before != self._looked

    def _written_anew(self) -> bool:
        changed = self._look_closely()
        size = self._looked[0]
        if size < self.position_bytes:
            return True
        if not changed and size == self.position_bytes:
            return False
        return not self._mark.stands(self._file.fileno(), self.position_bytes)

    def _reopen(self) -> bool:
        """Opens a parked file at the position that was read; False where there is no descriptor, or the name is another file's."""
        if not self._make_room():
            return False
        try:
            file = io.FileIO(self.path, "rb")
        except OSError:
            return False
        status = os.fstat(file.fileno())
        if (status.st_dev, status.st_ino) != self.identity:
            file.close()
            return False
        file.seek(self.position_bytes)
        self._file, self.parked = file, False
        return True


class FollowSource(ByteSource):
    """Files as they grow, and those that come under the same names and globs, until stopped.

    A file that takes another's name is read once the other has been read to its end and no look finds it.  A file without a successor is
    left when it was deleted, or no glob finds it any more.
    """

    bounded = False
    concurrent = True

    def __init__(self, patterns: list[str], poll_seconds: float) -> None:
        self._patterns = patterns
        self._named = {path for path in map(os.path.expanduser, patterns) if not is_glob(path)}
        self._poll_seconds = poll_seconds
        soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        self._most_open = max(1, soft // 2) if soft != resource.RLIM_INFINITY else 1 << 30
        self._open: dict[tuple[int, int], FollowStream] = {}
        self._earlier_bytes = 0
        self._stopping = asyncio.Event()
        self._told = False

    @property
    def position_bytes(self) -> int:  # type: ignore[override]
        return self._earlier_bytes + sum(stream.position_bytes for stream in self._open.values())

    async def streams(self) -> AsyncIterator[ByteStream]:
        while not self._stopping.is_set():
            if self._told:
                self._make_room()  # looking into a folder takes a descriptor
            seen = await asyncio.to_thread(look, self._patterns)
            self._leave_gone(seen)
            # A predecessor of the same name is read to its end first: that keeps the order.
            taken = {s.path for s in self._open.values() if not (s.missed > 1 and s.at_end)}
            for file in seen:
                if self._stopping.is_set():
                    return
                if file.identity in self._open or file.path in taken or suffix_of(file.path):
                    continue
                if (stream := self._open_file(file)) is not None:
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
        """None where the file is gone, its name is another file's, or no descriptor is left: the next look tries again."""
        if not self._make_room():
            return None
        try:
            opened = io.FileIO(file.path, "rb")
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno in _NO_ROOM and self._open:
                # Other parts of the process, and looking into folders, need descriptors.
                self._most_open = max(1, min(self._most_open, self._now_open()) * 3 // 4)
                self._make_room()
                return None
            raise read_fault(file.path, error) from error
        stream = FollowStream(opened, file.path, self._poll_seconds, self._make_room)
        if stream.identity != file.identity:
            opened.close()
            return None
        self._open[file.identity] = stream
        return stream

    def _now_open(self) -> int:
        return sum(not (stream.parked or stream.closed) for stream in self._open.values())

    def _make_room(self) -> bool:
        """Parks files at their end, oldest first, until one more can be opened; False where none can."""
        excess = self._now_open() + 1 - self._most_open
        if excess <= 0:
            return True
        self._tell()
        for identity, stream in list(self._open.items()):
            if excess > 0 and stream.at_end and not stream.parked and not stream.closed:
                stream.park()
                self._open[identity] = self._open.pop(identity)
                excess -= 1
        return excess <= 0

    def _tell(self) -> None:
        if not self._told:
            self._told = True
            where = self._patterns[0] + (", ..." if len(self._patterns) > 1 else "")
            _log.warning(
                "%s: more files to follow than may be open (%d): they take turns", where, self._most_open
            )

    def _leave_gone(self, seen: list[SeenFile]) -> None:
        """Updates the streams from a look, and ends those whose file has been gone for ``LINGER_POLLS`` looks."""
        files = {file.identity: file for file in seen}
        sizes = {file.path: file.size_bytes for file in seen}
        for identity, stream in list(self._open.items()):
            if stream.closed:
                self._earlier_bytes += stream.position_bytes
                del self._open[identity]
            elif identity in files:
                stream.seen(files[identity])
            elif stream.unlinked or sizes.get(stream.path) or stream.path not in self._named:
                stream.missed += 1
                stream.quiet += 1
                if stream.quiet > LINGER_POLLS:
                    stream.leave()
