"""Exit codes, and how errors are told: a line each on stderr.  Imports no option parser: every command needs this, also those that need no
parser (``plain``).
"""

from __future__ import annotations

import errno
import os
import sys

from asyncflow.printable import printable_lines, tell, write_error

FAILED, USAGE, INTERRUPTED, READER_GONE = 1, 2, 130, 141
_UNWRITABLE = (errno.EBADF, errno.ENOSPC, errno.EFBIG, errno.EIO)


def tell_error(text: str) -> None:
    """One error, on stderr."""
    tell(f"error: {text}")


def told(error: Exception, verbose: bool) -> int:
    """Tells an error, a line for each problem, and gives the exit code."""
    from asyncflow.errors import AsyncflowError, PipelineError, ReaderGoneError

    if isinstance(error, ReaderGoneError):
        return reader_gone()
    if verbose:
        import traceback

        write_error(printable_lines("".join(traceback.format_exception(error))))
    if isinstance(error, PipelineError):
        for problem in error.problems:
            tell_error(str(problem))
        return USAGE
    if isinstance(error, AsyncflowError):
        tell_error(str(error))
        return FAILED
    if isinstance(error, OSError) and error.filename is None and error.errno in _UNWRITABLE:
        tell_error(f"standard output cannot be written: {os.strerror(error.errno).lower()}")
        return FAILED
    text = str(error)
    tell_error(f"{type(error).__name__}: {text}" if text else type(error).__name__)
    if not verbose:
        tell("this is a bug in asyncflow or beyond it; -v shows where")
    return FAILED


def reader_gone() -> int:
    """The exit code of a process whose reader went away; what Python still holds for stdout is dropped."""
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
    except (OSError, ValueError):
        pass
    return READER_GONE
