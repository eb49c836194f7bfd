"""A file system in memory that knows what would be left after a loss of power, and one in which the n-th call fails.

After any call, ``image`` gives a file system as a restart could find it.  Of each file: the bytes as of the last sync, and of those written
since any pages of 4 KiB (or pieces of 512 bytes), with zeros between them.  Of each folder: the names as of the last sync, and any of the
changes since.  A rename is one change: it is there or not; but without a sync its file may have other bytes than were written.
"""

from __future__ import annotations

import errno
import os
import random
import stat
from collections.abc import Callable
from dataclasses import dataclass, field

from asyncflow.state.disk import Buffer, FileSystem

PAGE, SECTOR = 4096, 512


@dataclass
class File:
    now: bytearray = field(default_factory=bytearray)
    synced: bytes = b""


@dataclass
class Folder:
    now: dict[str, int] = field(default_factory=dict)
    synced: dict[str, int] = field(default_factory=dict)
    since: list[dict[str, int | None]] = field(default_factory=list)
    """Changes since the last sync, each of names that get a file, or lose theirs (None)."""


class SimulatedSystem(FileSystem):
    """One machine.  ``on_call``: called after each call that changes anything."""

    def __init__(self) -> None:
        self.nodes: dict[int, File | Folder] = {1: Folder()}
        self.on_call: Callable[[], None] = lambda: None
        self._open: dict[int, int] = {}
        self._numbers = iter(range(2, 1 << 30))
        self._locked: set[int] = set()

    # -- the calls -------------------------------------------------------------------------------------------------------------------

    def open(self, path: str, flags: int, mode: int = 0o600) -> int:
        node = self._find(path)
        if node is None:
            if not flags & os.O_CREAT:
                raise FileNotFoundError(errno.ENOENT, "no such file", path)
            node = next(self._numbers)
            self.nodes[node] = File()
            self._change(path, node)
        elif flags & os.O_EXCL:
            raise FileExistsError(errno.EEXIST, "file exists", path)
        descriptor = next(self._numbers)
        self._open[descriptor] = node
        return descriptor

    def close(self, descriptor: int) -> None:
        self._locked.discard(self._open.pop(descriptor))

    def read(self, descriptor: int, size: int, offset: int) -> bytes:
        return bytes(self._file(descriptor).now[offset : offset + size])

    def write(self, descriptor: int, data: Buffer) -> int:
        self._file(descriptor).now += data
        self.on_call()
        return len(data)

    def sync(self, descriptor: int) -> None:
        node = self.nodes[self._open[descriptor]]
        if isinstance(node, File):
            node.synced = bytes(node.now)
        else:
            node.synced, node.since = dict(node.now), []
        self.on_call()

    def truncate(self, descriptor: int, size: int) -> None:
        del self._file(descriptor).now[size:]
        self.on_call()

    def rename(self, source: str, target: str) -> None:
        node = self._find(source)
        if node is None:
            raise FileNotFoundError(errno.ENOENT, "no such file", source)
        folder = self._folder(os.path.dirname(source))
        assert folder is self._folder(os.path.dirname(target)), "only within one folder"
        before, after = os.path.basename(source), os.path.basename(target)
        del folder.now[before]
        folder.now[after] = node
        folder.since.append({before: None, after: node})
        self.on_call()

    def unlink(self, path: str) -> None:
        if self._find(path) is None:
            raise FileNotFoundError(errno.ENOENT, "no such file", path)
        self._change(path, None)

    def make_folder(self, path: str) -> None:
        if self._find(path) is not None:
            raise FileExistsError(errno.EEXIST, "file exists", path)
        node = next(self._numbers)
        self.nodes[node] = Folder()
        self._change(path, node)

    def names(self, folder: str) -> list[str]:
        return list(self._folder(folder).now)

    def status(self, file: str | int) -> os.stat_result:
        node = self._find(file) if isinstance(file, str) else self._open[file]
        if node is None:
            raise FileNotFoundError(errno.ENOENT, "no such file", file)
        found = self.nodes[node]
        folder = isinstance(found, Folder)
        mode = stat.S_IFDIR | 0o700 if folder else stat.S_IFREG | 0o600
        return os.stat_result((mode, node, 1, 1, os.geteuid(), 0, 0 if folder else len(found.now), 0, 0, 0))

    def lock(self, descriptor: int) -> bool:
        node = self._open[descriptor]
        if node in self._locked:
            return False
        self._locked.add(node)
        return True

    def take_after(self, descriptor: int, path: str) -> None:
        pass

    # -- the loss of power -------------------------------------------------------------------------------------------------------------

    def image(self, chance: random.Random) -> SimulatedSystem:
        """The machine as a restart could find it."""
        image = type(self)()
        image._numbers = iter(range(1 << 20, 1 << 30))
        much = chance.choice((0.0, 0.2, 0.5, 0.8, 1.0))
        for number, node in self.nodes.items():
            if isinstance(node, File):
                data = _left(node, chance, much)
                image.nodes[number] = File(bytearray(data), bytes(data))
            else:
                names = dict(node.synced)
                for change in node.since:
                    if chance.random() < much:
                        _apply(names, change)
                image.nodes[number] = Folder(dict(names), dict(names))
        return image

    def _find(self, path: str) -> int | None:
        node = 1
        for name in path.strip("/").split("/"):
            folder = self.nodes[node]
            if not name:
                continue
            if not isinstance(folder, Folder) or name not in folder.now:
                return None
            node = folder.now[name]
        return node

    def _folder(self, path: str) -> Folder:
        node = self._find(path)
        if node is None:
            raise FileNotFoundError(errno.ENOENT, "no such folder", path)
        found = self.nodes[node]
        assert isinstance(found, Folder)
        return found

    def _file(self, descriptor: int) -> File:
        found = self.nodes[self._open[descriptor]]
        assert isinstance(found, File)
        return found

    def _change(self, path: str, node: int | None) -> None:
        folder = self._folder(os.path.dirname(path))
        change = {os.path.basename(path): node}
        _apply(folder.now, change)
        folder.since.append(change)
        self.on_call()


class FailingSystem(SimulatedSystem):
    """One call of those that change anything fails."""

    def __init__(self) -> None:
        super().__init__()
        self.fail(1 << 30, 0)

    def fail(self, number: int, code: int) -> None:
        """The call of this number, from 1 on, fails with ``code``; 0: it writes half of what it was given."""
        self.left, self._code = number, code

    def _fails(self) -> bool:
        self.left -= 1
        if self.left == 0 and self._code:
            raise OSError(self._code, os.strerror(self._code))
        return self.left == 0

    def open(self, path: str, flags: int, mode: int = 0o600) -> int:
        if flags & os.O_CREAT:
            self._fails()
        return super().open(path, flags, mode)

    def write(self, descriptor: int, data: Buffer) -> int:
        return super().write(
            descriptor, memoryview(data)[: max(1, len(data) // 2)] if self._fails() else data
        )

    def sync(self, descriptor: int) -> None:
        self._fails()
        super().sync(descriptor)

    def rename(self, source: str, target: str) -> None:
        self._fails()
        super().rename(source, target)

    def unlink(self, path: str) -> None:
        self._fails()
        super().unlink(path)

    def make_folder(self, path: str) -> None:
        self._fails()
        super().make_folder(path)


def machine(system: SimulatedSystem) -> SimulatedSystem:
    """The same one, with the folder ``/home``, which lasts."""
    system.make_folder("/home")
    for folder in ("/", "/home"):
        descriptor = system.open(folder, 0)
        system.sync(descriptor)
        system.close(descriptor)
    return system


def _apply(names: dict[str, int], change: dict[str, int | None]) -> None:
    for name, node in change.items():
        if node is None:
            names.pop(name, None)
        else:
            names[name] = node


def _left(file: File, chance: random.Random, much: float) -> bytes:
    """What is left of a file: any of the pages that were not synced."""
    now, synced = bytes(file.now), file.synced
    if now == synced:
        return now
    left = bytearray(synced.ljust(len(now), b"\0"))
    piece = chance.choice((PAGE, SECTOR))
    for begin in range(0, len(now), piece):
        if chance.random() < much:
            left[begin : begin + piece] = now[begin : begin + piece]
    length = len(now) if much == 1 else chance.choice((len(synced), len(now), chance.randint(0, len(left))))
    return bytes(left[: max(length, min(len(synced), len(now)))])
