"""Disk: the file operations whose effect must outlast a crash of the process, of the machine, or a loss of power.

Files that must last are written, synced, renamed and removed here and nowhere else.  Each operation is a *step* with a name
(``publish.rename``).  ``on_step`` is called before and after each step, so that a test can end a process between any two of them.
:class:`FileSystem` makes the system calls.  A test puts another one in its place: one that forgets what was not synced, or one that fails.

What lasts: the bytes of a file once ``sync`` has returned; a name, its change and its removal once ``sync_folder`` of its folder has.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import signal
import stat
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

Buffer: TypeAlias = "bytes | bytearray | memoryview"

PRIVATE_FILE, PRIVATE_FOLDER = 0o600, 0o700
_MOST_WRITTEN = 1 << 30
"""Bytes of one system call: some systems take no more than 2 GiB at a time."""


class FileSystem:
    """The system calls.  Paths are text, descriptors are numbers; errors are those of ``os``."""

    def open(self, path: str, flags: int, mode: int = PRIVATE_FILE) -> int:
        return os.open(path, flags | os.O_CLOEXEC, mode)

    def close(self, descriptor: int) -> None:
        os.close(descriptor)

    def read(self, descriptor: int, size: int, offset: int) -> bytes:
        return os.pread(descriptor, size, offset)

    def write(self, descriptor: int, data: Buffer) -> int:
        return os.write(descriptor, data)

    def sync(self, descriptor: int) -> None:
        os.fsync(descriptor)

    def truncate(self, descriptor: int, size: int) -> None:
        os.ftruncate(descriptor, size)

    def rename(self, source: str, target: str) -> None:
        os.rename(source, target)

    def unlink(self, path: str) -> None:
        os.unlink(path)

    def make_folder(self, path: str) -> None:
        os.mkdir(path, PRIVATE_FOLDER)

    def names(self, folder: str) -> list[str]:
        return os.listdir(folder)

    def status(self, file: str | int) -> os.stat_result:
        return os.stat(file)

    def lock(self, descriptor: int) -> bool:
        """Takes the lock of a file until its descriptor is closed; False: somebody else has it.  On a file system without locks nothing is
        locked."""
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:
            pass
        return True

    def take_after(self, descriptor: int, path: str) -> None:
        """Gives a file the owner and the mode of another, as far as that is allowed."""
        status = os.stat(path)
        with contextlib.suppress(PermissionError):
            os.fchown(descriptor, status.st_uid, status.st_gid)
        os.fchmod(descriptor, stat.S_IMODE(status.st_mode))


class Place(NamedTuple):
    """Which file a path leads to, whatever its name."""

    device: int
    inode: int


def _no_step(name: str) -> None:
    pass


class KilledAt:
    """Kills the process at the n-th time that it comes to a step: ``publish.rename.after:3`` in ``ASYNCFLOW_CRASH``, for tests."""

    def __init__(self, text: str) -> None:
        self._name, _, number = text.partition(":")
        self._left = int(number or 1)

    def __call__(self, name: str) -> None:
        if name == self._name:
            self._left -= 1
            if not self._left:
                os.kill(os.getpid(), signal.SIGKILL)


_CRASH = os.environ.get("ASYNCFLOW_CRASH", "")
_ON_STEP: Callable[[str], None] = KilledAt(_CRASH) if _CRASH else _no_step


class Disk:
    """A file system that is written in named steps.  ``on_step``: called with ``NAME.before`` and ``NAME.after``; what it raises ends the
    operation."""

    def __init__(
        self, system: FileSystem | None = None, on_step: Callable[[str], None] | None = None
    ) -> None:
        self._system = system or FileSystem()
        self._on_step = on_step or _ON_STEP

    # -- what changes a folder -----------------------------------------------------------------------------------------------------

    def create(self, step: str, path: str, mode: int = PRIVATE_FILE) -> DiskFile:
        """A new, empty file, to be written at its end.  FileExistsError where the name is taken."""
        self._on_step(f"{step}.before")
        descriptor = self._system.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND, mode)
        try:
            self._on_step(f"{step}.after")
        except BaseException:
            self._system.close(descriptor)
            raise
        return DiskFile(self, path, descriptor, 0)

    def rename(self, step: str, source: str, target: str) -> None:
        """Gives a file another name in one instant; what had that name is gone."""
        self._on_step(f"{step}.before")
        self._system.rename(source, target)
        self._on_step(f"{step}.after")

    def unlink(self, step: str, path: str) -> None:
        """Removes a name; a name that is gone already is no error."""
        self._on_step(f"{step}.before")
        with contextlib.suppress(FileNotFoundError):
            self._system.unlink(path)
        self._on_step(f"{step}.after")

    def make_folder(self, step: str, path: str) -> bool:
        """Makes a folder that only its owner may use; whether it was not there before.  Its name lasts when this returns."""
        self._on_step(f"{step}.before")
        try:
            self._system.make_folder(path)
        except FileExistsError:
            return False
        self.sync_folder(f"{step}.sync", os.path.dirname(path))
        self._on_step(f"{step}.after")
        return True

    def sync_folder(self, step: str, path: str) -> None:
        """The names in the folder last."""
        self._on_step(f"{step}.before")
        descriptor = self._system.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            self._system.sync(descriptor)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # a file system that syncs no folders
                raise
        finally:
            self._system.close(descriptor)
        self._on_step(f"{step}.after")

    def lock(self, path: str) -> DiskFile | None:
        """The file, made where it is missing, locked until it is closed; None: somebody else has it.  What is in it need not last."""
        descriptor = self._system.open(path, os.O_RDWR | os.O_CREAT)
        file = DiskFile(self, path, descriptor, 0)
        try:
            if self._system.lock(descriptor):
                return file
        except BaseException:
            file.close()
            raise
        file.close()
        return None

    # -- what changes nothing --------------------------------------------------------------------------------------------------------

    def open(self, path: str, *, to_write: bool = False) -> DiskFile:
        """A file to be read, or to be written at its end."""
        descriptor = self._system.open(path, os.O_RDWR | os.O_APPEND if to_write else os.O_RDONLY)
        try:
            size = self._system.status(descriptor).st_size
        except BaseException:
            self._system.close(descriptor)
            raise
        return DiskFile(self, path, descriptor, size)

    def names(self, folder: str) -> list[str]:
        """The names in a folder, sorted; empty where there is no such folder."""
        try:
            return sorted(self._system.names(folder))
        except FileNotFoundError:
            return []

    def size(self, path: str) -> int:
        """Bytes of a file."""
        return self._system.status(path).st_size

    def place(self, path: str) -> Place | None:
        """Which file has this name; None for none."""
        try:
            return _place(self._system.status(path))
        except FileNotFoundError:
            return None

    def others_may_write(self, path: str) -> bool:
        """Whether anybody but its owner, or another owner than this process, may change what is in the folder."""
        status = self._system.status(path)
        return bool(status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)) or status.st_uid not in (0, os.geteuid())


def _place(status: os.stat_result) -> Place:
    return Place(status.st_dev, status.st_ino)


class DiskFile:
    """An open file.  ``size``: its bytes, those included that are written and do not last yet."""

    def __init__(self, disk: Disk, path: str, descriptor: int, size: int) -> None:
        self.path = path
        self.size = size
        self._disk, self._descriptor = disk, descriptor

    def write(self, step: str, data: Buffer) -> None:
        """Writes all of ``data`` at the end of the file."""
        self._disk._on_step(f"{step}.before")
        left = memoryview(data).cast("B")
        while len(left):
            taken = self._disk._system.write(self._descriptor, left[:_MOST_WRITTEN])
            if taken <= 0:
                raise OSError(errno.EIO, "nothing was written", self.path)
            self.size += taken
            left = left[taken:]
        self._disk._on_step(f"{step}.after")

    def sync(self, step: str) -> None:
        """The bytes of the file last.  After an error nobody knows which of them do: the file must be given up."""
        self._disk._on_step(f"{step}.before")
        self._disk._system.sync(self._descriptor)
        self._disk._on_step(f"{step}.after")

    def truncate(self, step: str, size: int) -> None:
        """Cuts the file to ``size`` bytes."""
        self._disk._on_step(f"{step}.before")
        self._disk._system.truncate(self._descriptor, size)
        self.size = size
        self._disk._on_step(f"{step}.after")

    def lock(self) -> bool:
        """Locks the file until it is closed; False where somebody else has locked it."""
        return self._disk._system.lock(self._descriptor)

    def take_after(self, path: str) -> None:
        """Gives the file the owner and the mode of another, as far as that is allowed."""
        self._disk._system.take_after(self._descriptor, path)

    def read(self, offset: int, size: int) -> bytes:
        """Bytes from ``offset`` on, fewer than ``size`` only at the end of the file."""
        found: list[bytes] = []
        while size > 0:
            some = self._disk._system.read(self._descriptor, min(size, _MOST_WRITTEN), offset)
            if not some:
                break
            found.append(some)
            offset, size = offset + len(some), size - len(some)
        return found[0] if len(found) == 1 else b"".join(found)

    def replace(self, data: bytes) -> None:
        """Makes ``data`` all that the file holds, for readers of the moment: it need not last."""
        self._disk._system.truncate(self._descriptor, 0)
        self._disk._system.write(self._descriptor, data)

    def place(self) -> Place:
        """Which file it is, whatever its name is now."""
        return _place(self._disk._system.status(self._descriptor))

    def close(self) -> None:
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            self._disk._system.close(descriptor)

    def __enter__(self) -> DiskFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
