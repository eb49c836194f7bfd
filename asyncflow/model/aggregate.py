"""Aggregates written in Python: the class that a user writes, and what it declares.

It stands where a kernel's accumulator does: one object of it holds what is known of the rows of one group in one window.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from typing import Any, ClassVar, Self

from msgspec import Struct

from asyncflow.model.schema import DataType

ROWS_AT_ONCE = 1024
"""An object is given its rows so many at a time, and the rest when it is read or merged."""

_TYPES = tuple(type_.value for type_ in DataType)


class Aggregate(ABC):
    """An aggregate in Python: an object of the class is what is known of one group in one window, ``Class()`` of no rows.

    ``returns``: the type of the result (``bool``, ``int64``, ``float64``, ``string``, ``timestamp``; or a letter of ``takes``).  ``takes``:
    the types of the arguments, as ``"float64, int64?"``: ``?`` may be left out, ``...`` comes once or more, ``any`` is any type, equal
    letters are one common type; an int64 column fits float64.  Without it: any types, as many as ``update`` has parameters.  ``nulls``:
    whether rows come also where an argument is null; then all arrays are masked ones.

    ``update`` gets the rows in the order of arrival, 1024 of a group at a time and the rest when the object is read or merged: how the
    input was cut changes nothing.  ``merge`` is called for hopping, session and cumulate windows only; of which rows came first it says
    nothing.  ``finish`` may be called more than once, with updates after it (windows that are sent before they end, or again): it must
    leave the object as it was.  Whatever a method raises ends the run as StageError.  The docstring's first sentence is what
    ``asyncflow list aggregates`` says.

    A run that can go on after a stop saves objects: their attributes, where all are plain (None, bool, int, float, str, bytes, numpy
    arrays, and lists, tuples and dicts of them), or what a method ``save()`` returns, of which the class method ``load(saved)`` makes an
    object again.  ``state_version`` (0) is to be raised where older saved objects no longer fit.

    >>> class GeometricMean(Aggregate):
    ...     takes, returns = "float64", "float64"
    ...     def __init__(self):
    ...         self.count, self.logs = 0, 0.0
    ...     def update(self, x):
    ...         self.count, self.logs = self.count + len(x), self.logs + float(np.log(x).sum())
    ...     def merge(self, other):
    ...         self.count, self.logs = self.count + other.count, self.logs + other.logs
    ...     def finish(self):
    ...         return float(np.exp(self.logs / self.count)) if self.count else None
    """

    returns: ClassVar[str]
    takes: ClassVar[str] = ""
    nulls: ClassVar[bool] = False

    @abstractmethod
    def update(self, *args: Any, **kwargs: Any) -> None:
        """Takes rows: an array for each argument, of one length and at least one row.

        They are as those of ``batch[name]``: bool, int64, float64, ``datetime64[ns]`` or object (str), and the object's own.
        """

    @abstractmethod
    def merge(self, other: Self) -> None:
        """Takes over what ``other`` knows of other rows of the window.  ``other`` stays as it is, and shares nothing that will change."""

    @abstractmethod
    def finish(self) -> Any:
        """The result, None for null: bool, int, float, str, or for a timestamp int (ns since the epoch) or ``datetime64``."""


class Declared(Struct, frozen=True):
    """What a class says of itself.  ``parameters``: words as in ``takes``, one for each argument."""

    parameters: tuple[str, ...]
    returns: str
    nulls: bool
    doc: str


def qualified(cls: type) -> str:
    """The class as messages name it: ``package.module.GeometricMean``."""
    return f"{cls.__module__}.{cls.__qualname__}"


def declared(cls: object) -> Declared:
    """What the class declares; ValueError, with what is missing, for one that is no aggregate."""
    if not isinstance(cls, type):
        raise ValueError(f"an aggregate is a class with update, merge and finish, not {cls!r}")  # noqa: TRY004
    for method in ("update", "merge", "finish"):
        found = getattr(cls, method, None)
        if not callable(found) or getattr(found, "__isabstractmethod__", False):
            raise ValueError(f"the aggregate {qualified(cls)} has no method {method}")
    takes = getattr(cls, "takes", "") or _parameters(cls)
    words = (
        tuple(word.strip() for word in takes.split(",") if word.strip())
        if isinstance(takes, str)
        else tuple(takes)
    )
    plain = [word.rstrip("?.") if isinstance(word, str) else word for word in words]
    if not words:
        raise ValueError(f"the aggregate {qualified(cls)} has no argument: its update needs an array")
    for word in plain:
        if word not in (*_TYPES, "any") and not _is_letter(word):
            raise ValueError(f"the aggregate {qualified(cls)} takes {word!r}, which is no type: {_choices()}")
    returns = getattr(cls, "returns", None)
    if returns not in _TYPES and not (_is_letter(returns) and returns in plain):
        said = "does not say what it returns" if returns is None else f"returns {returns!r}, which is no type"
        raise ValueError(f"the aggregate {qualified(cls)} {said}: {_choices()}")
    doc = "" if cls.__doc__ == Aggregate.__doc__ else " ".join((cls.__doc__ or "").split("\n\n")[0].split())
    first = doc.partition(". ")[0].rstrip(".")
    return Declared(words, returns, bool(getattr(cls, "nulls", False)), first or qualified(cls))


def _choices() -> str:
    return f"there is {', '.join(_TYPES)}"


def _is_letter(word: object) -> bool:
    return isinstance(word, str) and len(word) == 1 and word.isalpha()


def _parameters(cls: Any) -> str:
    """``any`` for each parameter of ``update`` but the first, which is the object."""
    words = []
    for parameter in list(inspect.signature(cls.update).parameters.values())[1:]:
        if parameter.kind is parameter.VAR_POSITIONAL:
            words.append("any...")
        elif parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            words.append("any" if parameter.default is parameter.empty else "any?")
    return ", ".join(words)
