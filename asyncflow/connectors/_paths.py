"""Paths as resources: descriptors behind names such as ``/dev/stdout``, and the files that a component reads or writes."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from functools import partial

from asyncflow.model.capabilities import Resource

_DESCRIPTOR = r"/dev/(stdin|stdout|stderr)|/(?:dev|proc/self)/fd/(\d+)"
"""Compiled at first use, as most paths are of files."""
_DEVICES = ("/dev/", "/proc/")
_STANDARD = {"stdin": 0, "stdout": 1, "stderr": 2}
_MOST_LINKS = 40


def descriptor_of(path: str) -> int | None:
    """The descriptor that a path names (``/dev/stdout``, ``/dev/fd/3``, a link to one of them), or None."""
    path = os.path.abspath(os.path.expanduser(path))
    for _ in range(_MOST_LINKS):
        if path.startswith(_DEVICES) and (match := re.fullmatch(_DESCRIPTOR, path)) is not None:
            return _STANDARD[match[1]] if match[1] else int(match[2])
        if not os.path.islink(path):
            return None
        path = os.path.abspath(os.path.join(os.path.dirname(path), os.readlink(path)))
    return None


def is_stream(path: str) -> bool:
    """Whether the path is now a pipe, a device, a socket or a descriptor: bytes read from it are gone."""
    if descriptor_of(path) is not None:
        return True
    _, kind = _identity(os.path.realpath(os.path.expanduser(path)))
    return kind != 0 and not stat.S_ISREG(kind) and not stat.S_ISDIR(kind)


def file_taken(path: str, option: str, *, written: bool, use: str = "") -> Iterator[Resource]:
    """The file at a path, through links, relative or absolute.  A file that is read is shared, a pipe is not; a device is no resource."""
    if (fd := descriptor_of(path)) is not None:
        yield from descriptor_taken(fd, path, option, written=written)
        return
    real = os.path.realpath(os.path.expanduser(path))
    names, kind = _identity(real)
    if stat.S_ISCHR(kind) or stat.S_ISBLK(kind):
        return
    use = use or ("written" if written else "read")
    yield Resource("file", frozenset((real, *names)), path, option, use, written or stat.S_ISFIFO(kind))


def files_matching(pattern: str, option: str) -> Resource:
    """The files that a glob may match, now or later; they are read."""
    parts = os.path.expanduser(pattern).split("/")
    plain = next(number for number, part in enumerate(parts) if any(map(part.__contains__, "*?[")))
    folder = os.path.realpath("/".join(parts[:plain]) + "/" if plain else ".")
    wanted = [part for part in (*folder.split("/"), *parts[plain:]) if part]
    return Resource("file", frozenset(), pattern, option, "read", False, matches=partial(_fits, wanted))


def descriptor_taken(fd: int, text: str, option: str, *, written: bool) -> Iterator[Resource]:
    """A descriptor and the file behind it.  A descriptor has one reader; sinks that write to descriptors take turns."""
    use, sharing = ("written", "descriptors") if written else ("read", "")
    yield Resource("descriptor", frozenset((str(fd),)), text, option, use, sharing=sharing)
    names, kind = _identity(fd)
    if stat.S_ISREG(kind) or stat.S_ISFIFO(kind):
        yield Resource("file", names, text, option, use, written or stat.S_ISFIFO(kind), sharing)


def _identity(path: str | int) -> tuple[frozenset[str], int]:
    """The identity (device and inode) and the mode of the file at a path; none and 0 where there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return frozenset(), 0
    return frozenset((f"{status.st_dev}:{status.st_ino}",)), status.st_mode


def _fits(wanted: list[str], name: str) -> bool:
    return name.startswith("/") and _parts_fit(wanted, name.split("/")[1:])


def _parts_fit(wanted: list[str], parts: list[str]) -> bool:
    """As ``glob``: ``**`` stands for any folders, and no wild card begins a hidden name."""
    if not wanted or not parts:
        return not wanted and not parts
    first, *rest = wanted
    if first == "**" and (_parts_fit(rest, parts) or (not rest and not parts[0].startswith("."))):
        return True
    if parts[0].startswith(".") and not first.startswith("."):
        return False
    if first == "**":
        return _parts_fit(wanted, parts[1:])
    from fnmatch import fnmatchcase

    return fnmatchcase(parts[0], first) and _parts_fit(rest, parts[1:])
