"""Guards of kernel objects with state: an object that ran out of memory is not used again, and two threads never use one object at
a time.

A call that runs out of memory leaves the state of a kernel object half changed.  From then on every call of the object raises
RuntimeError, and its properties give the values of an empty object.  A check costs a fifth of a microsecond per call.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

_BUSY = "another call of this kernel object is under way: make one call after the other"
_FAILED = "this kernel object ran out of memory in an earlier call: make a new one"


def guarded(kind: type, name: str, **empty: Any) -> type:
    """A subclass, called ``name``, of the kernel's class ``kind``, with guarded public methods.  ``empty``: the value of each property of
    an object that has failed."""
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
