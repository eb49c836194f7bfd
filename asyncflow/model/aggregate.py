"""Aggregates written in Python: the class that a user writes, and its declaration.

An object of the class has the place of a kernel's accumulator: it holds the state of one group in one window.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from typing import Any, ClassVar, Self

from msgspec import Struct

from asyncflow.model.schema import DataType

ROWS_AT_ONCE = 1024
"""Rows in one call of ``update``; the rest are given before the object is read or merged."""

_TYPES = tuple(type_.value for type_ in DataType)


class Aggregate(ABC):
    """An aggregate in Python: an object of the class is the state of one group in one window; ``Class()`` is the state of no rows.

    ``returns``: the type of the result (``bool``, ``int64``, ``float64``, ``string``, ``timestamp``; or a letter of ``takes``).  ``takes``:
    the types of the arguments, as ``"float64, int64?"``: ``?`` may be left out, ``...`` comes once or more, ``any`` is any type, equal
    letters are one common type; an int64 column fits float64.  The default: any types, as many as ``update`` has parameters.  ``nulls``:
    True gives ``update`` also the rows in which an argument is null, in masked arrays; by default these rows are left out.

    ``update`` gets the rows of a group in the order of arrival, 1024 at a time, and the rest before the object is read or merged: results
    do not depend on how the input was cut.  ``merge`` is called for hopping, session and cumulate windows only; the rows of ``other`` may
    have arrived before or after those of the object.  ``finish`` must not change the object: a window that is emitted before its end, or
    again, calls ``finish`` more than once, with updates in between.  An exception in a method ends the run as StageError.
    ``asyncflow list aggregates`` shows the first sentence of the docstring.

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
        """Adds rows: one array for each argument, all of one length, which is at least 1.

        Dtypes as of ``batch[name]``: bool, int64, float64, ``datetime64[ns]`` or object (str).  The object may keep and change the arrays.
        """

    @abstractmethod
    def merge(self, other: Self) -> None:
        """Adds the state of ``other``, of other rows of the window.  ``other`` must not change, now or by later updates of the object."""

    @abstractmethod
    def finish(self) -> Any:
        """The result, None for null: bool, int, float, str, or for a timestamp int (ns since the epoch) or ``datetime64``."""


class Declared(Struct, frozen=True):
    """The declaration of an aggregate class.  ``parameters``: words as in ``takes``, one for each argument."""

    parameters: tuple[str, ...]
    returns: str
    nulls: bool
    doc: str


def qualified(cls: type) -> str:
    """The class as messages name it: ``package.module.GeometricMean``."""
    return f"{cls.__module__}.{cls.__qualname__}"


def declared(cls: object) -> Declared:
    """The declaration of the class; ValueError names what is missing or wrong."""
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
    """``takes`` of a class without one: ``any`` for each parameter of ``update`` but ``self``."""
    words = []
    for parameter in list(inspect.signature(cls.update).parameters.values())[1:]:
        if parameter.kind is parameter.VAR_POSITIONAL:
            words.append("any...")
        elif parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            words.append("any" if parameter.default is parameter.empty else "any?")
    return ", ".join(words)
