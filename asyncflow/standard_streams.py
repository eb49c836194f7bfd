"""Standard streams that were closed when the process began (``>&-``, some daemons, cron).

``open`` returns the lowest free descriptor.  Where a standard stream is closed, a data file would become descriptor 1, and a
descriptor of the event loop would become 0, on which libuv aborts.  The command calls :func:`keep_numbers` first, so that
descriptors 0 to 2 are never given to anything else.  Connectors call :func:`is_closed` before they use a standard stream.
"""

from __future__ import annotations

import os
import sys

_closed: set[int] = set()


def keep_numbers() -> None:
    """Opens the null device as each standard stream that is closed.

    A write through Python to such a stdout fails, as on a closed descriptor; a write to such a stderr is lost.
    """
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            os.open(
                os.devnull, os.O_WRONLY if fd != 1 else os.O_RDONLY
            )  # all lower descriptors are open, so the new one is `fd`
            _closed.add(fd)
    if 1 in _closed and sys.stdout is None:
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115 - as long as the process
    if 2 in _closed and sys.stderr is None:
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115 - as long as the process


def is_closed(fd: int) -> bool:
    """Whether the standard stream ``fd`` was closed when the process began."""
    return fd in _closed
