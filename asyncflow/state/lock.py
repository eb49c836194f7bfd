"""The lock of a state directory: one run at a time, and a run that has lost the directory notices before it publishes.

The lock is ``flock`` on a file, which the system lets go when the process ends, however it ends.  The file says who has it, for the message
that another start prints.  A run that was stopped for long, and whose lock file was removed meanwhile, finds another file (or none) under
its name.
"""

from __future__ import annotations

import json
import os
import socket
import time

from asyncflow.errors import StateError
from asyncflow.state.disk import Disk


class Lock:
    """Held from the beginning on.  ``run``: 16 bytes.  StateError names the run that has it."""

    def __init__(self, disk: Disk, path: str, run: bytes) -> None:
        self.path, self.run = path, run
        self._disk = disk
        file = disk.lock(path)
        if file is None:
            raise StateError(f"{os.path.dirname(path)}: in use by {_holder(disk, path)}")
        told = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "run": run.hex(),
            "started": int(time.time()),
        }
        try:
            file.replace(json.dumps(told).encode())
            self._place = file.place()
        except BaseException:
            file.close()
            raise
        self._file = file

    def held(self) -> bool:
        """Whether the file that is locked is still the one under its name."""
        return self._disk.place(self.path) == self._place

    def release(self) -> None:
        self._file.close()


def _holder(disk: Disk, path: str) -> str:
    """The run that has the lock, in words."""
    try:
        with disk.open(path) as file:
            told = json.loads(file.read(0, 4096))
        return f"process {int(told['pid'])} on {str(told['host'])[:100]}: end that run, or choose another directory"
    except (OSError, ValueError, KeyError, TypeError):
        return "another run"
