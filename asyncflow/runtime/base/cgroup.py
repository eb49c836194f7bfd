"""The control groups of the process, versions 2 and 1: where their limits stand as files."""

from __future__ import annotations

import os
from collections.abc import Iterator

ROOT = "/sys/fs/cgroup"
OWN = "/proc/self/cgroup"


def folders(controller: str, root: str = ROOT, own: str = OWN) -> Iterator[tuple[int, str]]:
    """The process's groups that ``controller`` may limit and all groups above them, each with its version.  In a container the groups
    outside are not there: a folder may be missing.
    """
    for line in text_of(*os.path.split(own)).splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        top = os.path.join(root, controllers) if controllers else root
        names = [name for name in path.split("/") if name]
        for depth in range(len(names), -1, -1):
            yield 1 if controllers else 2, os.path.join(top, *names[:depth])


def text_of(folder: str, name: str) -> str:
    """The contents of a file, empty where it cannot be read."""
    try:
        with open(os.path.join(folder, name), "rb", buffering=0) as file:
            return file.read().decode()
    except (OSError, ValueError):
        return ""
