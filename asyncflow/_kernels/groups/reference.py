"""Group table, plain: key tuples to dense ids 0, 1, 2, ... in order of first appearance.  The twin of ``groups.pyx``.

A raw column is ``(values, valid)`` for fixed types and ``(data, starts, lengths, valid)`` for strings; ``valid`` is None or a
bool array.  Null is a key value like any other; -0.0 is 0.0 and every NaN is the same key.  Keys are ordered column by column,
ascending: false before true, strings by their UTF-8 bytes, NaN above every number, null last.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

RawColumn: TypeAlias = tuple[Any, ...]
Int32Array: TypeAlias = NDArray[np.int32]

DTYPES: dict[str, Any] = {"int64": np.int64, "timestamp": np.int64, "float64": np.float64, "bool": np.bool_}
_NAN = "nan"  # stands for every NaN inside a key tuple


def values_of(kind: str, column: RawColumn) -> list[Any]:
    """A raw column as Python values: bytes for strings, None for null."""
    valid = column[-1]
    if kind == "string":
        raw = column[0].tobytes()
        starts, lengths = column[1].tolist(), column[2].tolist()
        values: list[Any] = [raw[s : s + n] for s, n in zip(starts, lengths, strict=True)]
    else:
        values = column[0].tolist()
    return (
        values if valid is None else [v if ok else None for v, ok in zip(values, valid.tolist(), strict=True)]
    )


def column_of(kind: str, values: Sequence[Any]) -> RawColumn:
    """The raw column of these Python values (bytes for strings, None for null)."""
    valid = np.array([value is not None for value in values], np.bool_)
    mask = None if valid.all() else valid
    if kind == "string":
        texts = [b"" if value is None else value for value in values]
        lengths = np.array([len(text) for text in texts], np.int32)
        if int(lengths.sum(dtype=np.int64)) > 2**31 - 1:
            raise OverflowError("the texts of one batch exceed 2 GiB")
        starts = np.zeros(len(texts), np.int32)
        np.cumsum(lengths[:-1], out=starts[1:])
        return np.frombuffer(b"".join(texts), np.uint8), starts, lengths, mask
    return np.array([0 if value is None else value for value in values], DTYPES[kind]), mask


def canonical(value: Any) -> Any:
    """What stands for a value where equality counts."""
    if isinstance(value, float):
        return _NAN if math.isnan(value) else value + 0.0
    return value


def sort_key(value: Any) -> tuple[int, Any]:
    """Orders the values of one column: numbers (or bytes), then NaN, then null."""
    if value is None:
        return (2, 0)
    if isinstance(value, float) and math.isnan(value):
        return (1, 0)
    return (1, 0) if value == _NAN else (0, value)


class GroupTable:
    """Key tuples and their ids.  ``kinds``: the type name of each key column; with none, every row is in group 0."""

    def __init__(self, kinds: Sequence[str]) -> None:
        self._kinds = tuple(kinds)
        self._ids: dict[tuple[Any, ...], int] = {} if kinds else {(): 0}
        self._order: Int32Array | None = None

    @property
    def size(self) -> int:
        """Number of groups."""
        return len(self._ids)

    @property
    def nbytes(self) -> int:
        return 64 * len(self._ids)

    def assign(self, columns: Sequence[RawColumn], num_rows: int) -> Int32Array:
        """The group id (int32) of each row; new keys get the next ids."""
        if not self._kinds:
            return np.zeros(num_rows, np.int32)
        parts = [
            [canonical(value) for value in values_of(kind, column)]
            for kind, column in zip(self._kinds, columns, strict=True)
        ]
        before = len(self._ids)
        ids = [self._ids.setdefault(key, len(self._ids)) for key in zip(*parts, strict=True)]
        if len(self._ids) != before:
            self._order = None
        return np.array(ids, np.int32)

    def order(self) -> Int32Array:
        """All ids, in the order of their keys."""
        if self._order is None:
            keys = sorted(self._ids, key=lambda key: tuple(sort_key(value) for value in key))
            self._order = np.array([self._ids[key] for key in keys], np.int32)
        return self._order

    def columns(self, groups: Int32Array, max_bytes: int = 2**31 - 1) -> list[RawColumn]:
        """The key columns of these groups; OverflowError where the texts of one would have more than ``max_bytes``."""
        keys = list(self._ids)
        rows = [keys[group] for group in groups.tolist()]
        columns = [
            column_of(kind, [math.nan if kind == "float64" and row[j] == _NAN else row[j] for row in rows])
            for j, kind in enumerate(self._kinds)
        ]
        for kind, column in zip(self._kinds, columns, strict=True):
            if kind == "string" and len(column[0]) > max_bytes:
                raise OverflowError(
                    f"the keys of {len(rows)} rows have {len(column[0])} bytes, more than {max_bytes}"
                )
        return columns

    def keep(self, groups: Int32Array) -> None:
        """Forgets all groups but these (ascending); ``groups[i]`` becomes i."""
        if self._kinds:
            keys = list(self._ids)
            self._ids = {keys[group]: i for i, group in enumerate(groups.tolist())}
            self._order = None
