"""The tree of errors.  The class of an error says whose fault the error is, and whether another try can help.

Every error that asyncflow raises on purpose is an :class:`AsyncflowError`: the fault is the user's (:class:`PipelineError`,
:class:`DataError`, :class:`StageError`), the outside world's (:class:`ConnectorError`) or asyncflow's own (:class:`InternalError`),
or memory ran out (:class:`OutOfMemoryError`).  ``table`` names the source, stage or sink; the engine fills the name in on the way
up.

All rooms import this module.  Texts of errors never show a value that came from the environment (``printable.hidden``).
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from asyncflow.printable import hidden


class AsyncflowError(Exception):
    """Base of all errors raised on purpose.  ``table``: the source, stage or sink that failed, or ``""``."""

    retriable = False

    def __init__(self, message: str, *, table: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.table = table

    def __str__(self) -> str:
        return hidden(f"{self.table}: {self.message}" if self.table else self.message)


class Problem(Struct, frozen=True):
    """One problem of a pipeline.  ``path``: its TOML path (``stages.sold.where``); ``hint``: the nearest valid name, or what to write."""

    path: str
    message: str
    hint: str = ""

    def __str__(self) -> str:
        return hidden(f"{self.path}: {self.message}" + (f" ({self.hint})" if self.hint else ""))


class PipelineError(AsyncflowError):
    """The pipeline as written cannot run.  ``problems`` holds all problems found."""

    def __init__(self, problems: Sequence[Problem] | str, *, table: str = "") -> None:
        self.problems: tuple[Problem, ...] = (
            (Problem(table or "pipeline", problems),) if isinstance(problems, str) else tuple(problems)
        )
        super().__init__("\n".join(str(problem) for problem in self.problems), table="")


class DataError(AsyncflowError):
    """The input broke a rule that the user made fatal (``on_error = "fail"``)."""


class ConnectorError(AsyncflowError):
    """The outside world failed: a file is missing, a peer refused, a disk is full."""


class RetriableError(ConnectorError):
    """A :class:`ConnectorError` that another try may mend (connection refused or reset)."""

    retriable = True


class StoppedError(AsyncflowError):
    """The run was stopped before the end of bounded input: its results are those of a part of the input."""


class ReaderGoneError(ConnectorError):
    """The reader of the output went away (a closed pipe, as behind ``| head``): the command stops quietly, without an error message."""


class StateError(AsyncflowError):
    """Saved state cannot be used: a file is damaged, foreign or of a newer version, its directory is in use, or the state does not fit the
    pipeline.  The message names the file and says what can be done."""


class TooLargeError(AsyncflowError, OverflowError):
    """More text than one batch can hold (2 GiB).  Shorter texts, or fewer rows at a time, fit."""


class OutOfMemoryError(AsyncflowError):
    """A run holds more than its bound (``memory``), or the system has no more memory.  ``table``: the table that asked for more;
    ``used_bytes``: the bytes held for that table, or by the whole run where the system has no more memory."""

    def __init__(self, message: str, *, table: str = "", used_bytes: int = 0) -> None:
        super().__init__(message, table=table)
        self.used_bytes = used_bytes


DISTRIBUTION = "asyncflow-streams"
"""The name of the distribution, for pip.  The name of the package, for import, is ``asyncflow``."""


class MissingExtraError(AsyncflowError):
    """A library that only an extra installs is not installed.  The message names the extra."""

    @classmethod
    def of(cls, library: str, extra: str) -> MissingExtraError:
        """The error for ``library``, which ``extra`` of this package installs."""
        return cls(f"{library} is not installed: pip install '{DISTRIBUTION}[{extra}]'")


class StageError(AsyncflowError):
    """Code of the user raised (a function, an aggregate, an iterable, a connector).  The cause is chained."""

    @classmethod
    def of(cls, error: BaseException, *, doing: str = "") -> StageError:
        """A StageError with ``error`` as its cause.  ``doing``: what the code was called for, put before the text of the error."""
        told = cls(f"{doing}{described(error)}")
        told.__cause__ = error
        return told


class InternalError(AsyncflowError):
    """A bug in asyncflow: a law of the engine was broken (a ledger that does not add up, ...)."""


def described(error: BaseException) -> str:
    """An error in one line, ``ValueError: not a number``.  Where ``str(error)`` raises, the line is the class name."""
    try:
        text = str(error)
    except Exception:
        text = ""
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def safe_repr(value: object) -> str:
    """``repr(value)``; where that raises, the class name in angle brackets."""
    try:
        return repr(value)
    except Exception:
        return f"<{type(value).__name__}>"
