"""What every kernel with state shares: a frozen state is given out in pieces; of a saved one nothing is believed.

A kernel is frozen into *fields* (small plain values) and *parts* (arrays of one dimension), and loads both into an empty state of the
same shape.  What is loaded may come from anywhere: each value is checked before it is used, and :class:`ValueError` names the field or
part that does not fit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]
MOST_NUMBERED = 2**31 - 2
"""Of groups, slots and rows, which are numbered by int32."""
MOST_COUNTED = 2**62
"""Of what is counted on after a load: far from the end of int64."""


class Parts:
    """The parts of a frozen state, taken down in pieces."""

    def __init__(self, parts: Mapping[str, Array] | None = None) -> None:
        self._left = list((parts or {}).items())

    def pieces(self, budget_bytes: int) -> list[tuple[str, Array]] | None:
        """The next parts, or rows of a part, of about ``budget_bytes`` (at least a row); None: all were given."""
        if not self._left:
            return None
        given: list[tuple[str, Array]] = []
        while self._left and (budget_bytes > 0 or not given):
            name, part = self._left[0]
            rows = max(1, budget_bytes // part.itemsize)
            given.append((name, part[:rows]))
            budget_bytes -= given[-1][1].nbytes
            if rows < len(part):
                self._left[0] = name, part[rows:]
            else:
                del self._left[0]
        return given

    def drop(self) -> None:
        """The snapshot is given up: the parts that were not taken are forgotten."""
        self._left = []


def same(fields: Mapping[str, Any], **wanted: Any) -> None:
    """ValueError where a field is not what this state has (its shape: types, sizes, modes)."""
    if not isinstance(fields, Mapping):
        raise ValueError(f"fields: {fields!r} are no fields of a snapshot")  # noqa: TRY004  what was saved is wrong, not the caller
    for name, value in wanted.items():
        if name not in fields or type(fields[name]) is not type(value) or fields[name] != value:
            raise ValueError(f"{name}: {fields.get(name)!r} was saved, {value!r} is wanted")


def number(fields: Mapping[str, Any], name: str, least: int, most: int) -> int:
    """The whole number that a field holds, or ValueError."""
    value = fields.get(name)
    if type(value) is not int or not least <= value <= most:
        raise ValueError(f"{name}: {value!r} is no whole number from {least} to {most}")
    return value


def flag(fields: Mapping[str, Any], name: str) -> bool:
    """The truth value that a field holds, or ValueError."""
    value = fields.get(name)
    if type(value) is not bool:
        raise ValueError(f"{name}: {value!r} is neither true nor false")
    return value


def flags(fields: Mapping[str, Any], name: str, count: int) -> list[bool]:
    """So many truth values, which a field holds, or ValueError."""
    value = fields.get(name)
    if type(value) is not list or len(value) != count or any(type(item) is not bool for item in value):
        raise ValueError(f"{name}: {value!r} is no list of {count} truth values")
    return value


def counts(fields: Mapping[str, Any], name: str, count: int) -> list[int]:
    """So many whole numbers from 0 on, which a field holds, or ValueError."""
    value = fields.get(name)
    if type(value) is not list or len(value) != count:
        raise ValueError(f"{name}: {value!r} is no list of {count} counts")
    if any(type(item) is not int or not 0 <= item <= MOST_COUNTED for item in value):
        raise ValueError(f"{name}: {value!r} is no list of {count} counts")
    return value


def array(parts: Mapping[str, Any], name: str, dtype: Any, count: int | None = None) -> Array:
    """The part ``name``, contiguous, of just this dtype and (where given) length; ValueError where it is anything else."""
    value, wanted = parts.get(name) if isinstance(parts, Mapping) else None, np.dtype(dtype)
    if not isinstance(value, np.ndarray) or value.ndim != 1 or value.dtype != wanted:
        raise ValueError(f"{name}: an array of {wanted} is wanted")
    if count is not None and len(value) != count:
        raise ValueError(f"{name}: {len(value)} items, {count} are wanted")
    value = np.require(value, requirements=["C", "A"])
    if wanted == np.bool_ and len(value) and int(value.view(np.uint8).max()) > 1:
        raise ValueError(f"{name}: neither true nor false")
    return value


def numbers(parts: Mapping[str, Any], name: str, count: int | None, below: int) -> NDArray[np.int32]:
    """A part of int32 numbers, all of 0 .. below - 1."""
    found: NDArray[np.int32] = array(parts, name, np.int32, count)
    if len(found) and not (int(found.min()) >= 0 and int(found.max()) < below):
        raise ValueError(f"{name}: a number outside of 0..{below - 1}")
    return found


def all_of(parts: Mapping[str, Any], name: str, count: int, below: int) -> NDArray[np.int32]:
    """A part of int32 numbers in which each of 0 .. below - 1 occurs, and no other."""
    found = numbers(parts, name, count, below)
    seen = np.zeros(below, np.bool_)
    seen[found] = True
    if not seen.all():
        raise ValueError(f"{name}: {int(np.argmin(seen))} does not occur")
    return found


def nothing_else(parts: Mapping[str, Any], names: Iterable[str]) -> None:
    """ValueError where there is a part of another name: the state was saved by another kind of kernel."""
    for name in sorted(set(parts).difference(names)):
        raise ValueError(f"{name}: this state has no such part")


def rising(*columns: Array, strictly: bool = True) -> bool:
    """Whether the rows of these columns are in order, each greater than the one before (or, not ``strictly``, the same)."""
    greater = np.zeros(max(len(columns[0]) - 1, 0), np.bool_)
    same = ~greater
    for column in columns:
        greater |= same & (column[1:] > column[:-1])
        same &= column[1:] == column[:-1]
    return bool((greater if strictly else greater | same).all())


def by_place(
    rank: Any, groups: NDArray[np.int32], *ties: NDArray[np.int64]
) -> tuple[NDArray[np.intp], NDArray[np.int32]]:
    """The order in which what is held of these groups is saved: by the place of the group, then by ``ties``; and the places, ordered.

    ``rank``: of each group its place.  ValueError where a group has none.
    """
    rank = np.asarray(rank, np.int32)
    if len(groups) and not int(groups.max()) < len(rank):
        raise ValueError("rank: a group that holds rows has no place")
    places = rank[groups]
    if len(places) and int(places.min()) < 0:
        raise ValueError("rank: a group that holds rows has no place")
    order = np.lexsort((*reversed(ties), places))
    return order, places[order]
