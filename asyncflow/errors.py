"""One tree of errors: whose fault it is, whether trying again can help, and which table it happened at.

Every error that asyncflow raises on purpose is an :class:`AsyncflowError`.  Its class says whose fault it is:
the user's (:class:`PipelineError`, :class:`DataError`, :class:`StageError`), the outside world's (:class:`ConnectorError`), ours
(:class:`InternalError`), or that there was not enough memory (:class:`OutOfMemoryError`).  ``table`` names the source, stage or sink;
the runtime fills it in on the way up.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from asyncflow.printable import hidden


class AsyncflowError(Exception):
    """Base of all errors raised on purpose.  ``table`` is the table it happened at, or ``""``."""

    retriable = False

    def __init__(self, message: str, *, table: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.table = table

    def __str__(self) -> str:
        return hidden(f"{self.table}: {self.message}" if self.table else self.message)


class Problem(Struct, frozen=True):
    """One thing wrong with a pipeline: ``path`` is its TOML path (``stages.sold.where``), ``hint`` may name the nearest valid name."""

    path: str
    message: str
    hint: str = ""

    def __str__(self) -> str:
        return hidden(f"{self.path}: {self.message}" + (f" ({self.hint})" if self.hint else ""))


class PipelineError(AsyncflowError):
    """The pipeline as written cannot run.  ``problems`` holds every problem found, not only the first."""

    def __init__(self, problems: Sequence[Problem] | str, *, table: str = "") -> None:
        self.problems: tuple[Problem, ...] = (
            (Problem(table or "pipeline", problems),) if isinstance(problems, str) else tuple(problems)
        )
        super().__init__("\n".join(str(problem) for problem in self.problems), table="")


class DataError(AsyncflowError):
    """The input broke a rule the user set to be fatal (``on_error = "fail"``)."""


class ConnectorError(AsyncflowError):
    """The outside world failed: a file is missing, a peer refused, a disk is full."""


class RetriableError(ConnectorError):
    """Like :class:`ConnectorError`, but trying again later may help (connection refused or reset)."""

    retriable = True


class StoppedError(AsyncflowError):
    """The run was asked to stop before the end of input that is bounded: its results are those of a part."""


class ReaderGoneError(ConnectorError):
    """Whoever read our output went away (a closed pipe, as behind ``| head``): reason to stop quietly, not a failure."""


class TooLargeError(AsyncflowError, OverflowError):
    """More text than one batch can hold (2 GiB): shorter texts, or fewer rows at a time, do."""


class OutOfMemoryError(AsyncflowError):
    """A run holds more than its bound (``memory``), or the system had no more to give.  Whose data it is says ``table``; ``used_bytes``:
    what was held there, or by the whole run where the system gave up."""

    def __init__(self, message: str, *, table: str = "", used_bytes: int = 0) -> None:
        super().__init__(message, table=table)
        self.used_bytes = used_bytes


DISTRIBUTION = "asyncflow-streams"
"""What this package is called where it is installed from; what is imported is ``asyncflow``."""


class MissingExtraError(AsyncflowError):
    """A library that only an extra installs is not there.  The message names the extra."""

    @classmethod
    def of(cls, library: str, extra: str) -> MissingExtraError:
        """``library`` is not installed; ``extra`` of this package installs it."""
        return cls(f"{library} is not installed: pip install '{DISTRIBUTION}[{extra}]'")


class StageError(AsyncflowError):
    """The user's own code raised (a function, an aggregate, an iterable, a connector); the cause is chained."""

    @classmethod
    def of(cls, error: BaseException, *, doing: str = "") -> StageError:
        """What the user's code raised, as its cause.  ``doing``: what was asked of that code, before the error's own words."""
        told = cls(f"{doing}{described(error)}")
        told.__cause__ = error
        return told


class InternalError(AsyncflowError):
    """A law of the engine was broken (a ledger that does not add up, ...): a bug in asyncflow."""


def described(error: BaseException) -> str:
    """An error in one line, ``ValueError: not a number``; also one whose own text cannot be had."""
    try:
        text = str(error)
    except Exception:
        text = ""
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def safe_repr(value: object) -> str:
    """``repr``, whatever the object thinks of it."""
    try:
        return repr(value)
    except Exception:
        return f"<{type(value).__name__}>"
