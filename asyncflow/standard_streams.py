"""Standard input, output and error that were closed when the process began (``>&-``, some daemons, cron).

The lowest free number is what the next ``open`` gives, so without care a data file would become descriptor 1, and an event loop's own
descriptor 0, which libuv refuses by an abort.  :func:`keep_numbers` holds the places; who needs a stream asks :func:`is_closed`.
"""

from __future__ import annotations

import os
import sys

_closed: set[int] = set()


def keep_numbers() -> None:
    """Opens the null device in the place of each standard stream that is closed, so that nothing else gets its number.

    What is written to it through Python fails, as it would on a closed descriptor; to stderr it is lost.
    """
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            os.open(
                os.devnull, os.O_WRONLY if fd != 1 else os.O_RDONLY
            )  # those below are open, so it is `fd`
            _closed.add(fd)
    if 1 in _closed and sys.stdout is None:
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115 - as long as the process
    if 2 in _closed and sys.stderr is None:
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115 - as long as the process


def is_closed(fd: int) -> bool:
    """Whether a standard stream was closed from the start."""
    return fd in _closed
