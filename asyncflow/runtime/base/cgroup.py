"""The control groups of the process, versions 2 and 1: where their limits stand as files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
OWN = Path("/proc/self/cgroup")


def folders(controller: str, root: Path = ROOT, own: Path = OWN) -> Iterator[tuple[int, Path]]:
    """The process's groups that ``controller`` may limit and all groups above them, each with its version.  In a container the groups
    outside are not there: a folder may be missing.
    """
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        top = root / controllers
        folder = top / path.lstrip("/")
        for each in (folder, *folder.parents):
            yield 1 if controllers else 2, each
            if each == top:
                break
