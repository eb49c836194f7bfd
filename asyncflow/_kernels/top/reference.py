"""The first rows of each window and group, plain.  The twin of ``compiled.pyx``.

Raw columns are those of the ``groups`` kernel.  Rows of one window and group are ordered by the order columns, one after the other, then by
arrival.  Of an order column nulls come last, or first where ``nulls_first``; the others ascend, or descend: -0.0 is 0.0, NaN is above
every number, false before true, texts go by their bytes.  A row that is not among the first ``n`` is forgotten at once.
"""

from __future__ import annotations

import math
from bisect import insort
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from asyncflow._kernels.columns.raw import RawColumn
from asyncflow._kernels.groups.reference import column_of, values_of

_MOST_BYTES = 2**31 - 1


class _Row(NamedTuple):
    key: tuple[Any, ...]
    arrival: int
    values: tuple[Any, ...]


class TopState:
    """The rows that are held.  ``n``: of each window and group.  ``columns``: the types of the columns that are kept.  ``order``: type,
    whether descending, whether nulls come first.  ``windowed``: rows have windows; else all are in window 0, and no group is forgotten
    before the end."""

    def __init__(
        self, n: int, columns: Sequence[str], order: Sequence[tuple[str, bool, bool]], windowed: bool
    ) -> None:
        if n < 1:
            raise ValueError("n must be at least 1")
        self._n, self._columns, self._order, self._windowed = n, list(columns), list(order), windowed
        self._held: dict[tuple[int, int], list[_Row]] = {}
        self._ranked: list[_Row] | None = None

    @property
    def held_rows(self) -> int:
        """How many rows are held."""
        return sum(map(len, self._held.values()))

    @property
    def places(self) -> int:
        """How many rows there is memory for that was used."""
        return self.held_rows

    @property
    def open_windows(self) -> int:
        return len({window for window, _ in self._held})

    @property
    def windows(self) -> NDArray[np.int64]:
        """The numbers of the windows that hold rows (int64, ascending)."""
        return np.array(sorted({window for window, _ in self._held}), np.int64)

    @property
    def first_window(self) -> int | None:
        """The least number of a window that holds rows; None where none does."""
        return min((window for window, _ in self._held), default=None)

    @property
    def nbytes(self) -> int:
        texts = sum(
            len(value)
            for rows in self._held.values()
            for row in rows
            for value in row.values
            if isinstance(value, bytes)
        )
        return self.held_rows * (16 + 8 * len(self._columns)) + 32 * len(self._held) + texts

    def add(
        self,
        groups: NDArray[np.int32],
        group_count: int,
        windows: tuple[NDArray[np.int64], NDArray[np.int64]] | None,
        columns: Sequence[RawColumn],
        order: Sequence[RawColumn],
        arrivals: NDArray[np.int64],
    ) -> None:
        """Takes rows of these groups (0 .. group_count - 1).

        ``windows``: the numbers of the first and the last window of each row, all windows between included; none where the first is
        after the last.  ``arrivals``: numbers of which no two are the same.
        """
        if (
            len(columns) != len(self._columns)
            or len(order) != len(self._order)
            or (windows is None) == self._windowed
        ):
            raise ValueError("the arguments are not those of this state")
        if len(groups) and not 0 <= groups.min() <= groups.max() < group_count:
            raise IndexError(f"an id outside of 0..{group_count - 1}")
        self._ranked = None
        count = len(groups)
        keys = _keys(self._order, order, count)
        values = _rows(self._columns, columns, count)
        first = last = np.zeros(count, np.int64)
        if windows is not None:
            first, last = windows
        for row, group in enumerate(groups.tolist()):
            for window in range(int(first[row]), int(last[row]) + 1):
                held = self._held.setdefault((window, group), [])
                insort(held, _Row(keys[row], int(arrivals[row]), values[row]), key=lambda each: each[:2])
                del held[self._n :]

    def ranking(
        self, limit: int, ranks: NDArray[np.int32]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """The rows of the windows up to number ``limit``, by window, rank of the group, and order: of each the number of its window, its
        place in window and group from 1, and its arrival.  ``ranks``: of each group."""
        if any(group >= len(ranks) or ranks[group] < 0 for window, group in self._held if window <= limit):
            raise ValueError("rank: a group that holds rows has no place")
        cells = sorted((window, int(ranks[group]), group) for window, group in self._held if window <= limit)
        found = [
            (window, place + 1, row)
            for window, _, group in cells
            for place, row in enumerate(self._held[window, group])
        ]
        self._ranked = [row for _, _, row in found]
        numbers, places = (np.array([each[i] for each in found], np.int64) for i in (0, 1))
        return numbers, places, np.array([row.arrival for row in self._ranked], np.int64)

    def columns(self, start: int, stop: int, max_bytes: int = _MOST_BYTES) -> list[RawColumn]:
        """The columns of rows ``start`` to ``stop`` of the last ranking, which holds until rows come or go.  OverflowError where the texts
        of one would have more than ``max_bytes``."""
        if self._ranked is None or not 0 <= start <= stop <= len(self._ranked):
            raise ValueError("these are no rows of a ranking")
        rows = self._ranked[start:stop]
        found = [column_of(kind, [row.values[j] for row in rows]) for j, kind in enumerate(self._columns)]
        for column in found:
            if len(column) == 4 and len(column[0]) > max_bytes:
                raise OverflowError(
                    f"the texts of {len(rows)} rows have {len(column[0])} bytes, more than {max_bytes}"
                )
        return found

    def release(self, limit: int) -> int:
        """Forgets the windows up to ``limit``; how many they were."""
        leaving = {window for window, _ in self._held if window <= limit}
        self._held = {cell: rows for cell, rows in self._held.items() if cell[0] > limit}
        self._ranked = None
        return len(leaving)

    def live_groups(self, group_count: int) -> NDArray[np.int32]:
        """The groups (int32, ascending) of ``group_count`` that hold rows."""
        live = sorted({group for _, group in self._held})
        if live and live[-1] >= group_count:
            raise IndexError(f"a group outside of 0..{group_count - 1}")
        return np.array(live, np.int32)

    def keep(self, groups: NDArray[np.int32]) -> None:
        """Renames groups: ``groups[i]`` becomes i.  All that hold rows are among them (ascending).  Only where rows have windows."""
        if not self._windowed:
            raise ValueError("groups are forgotten with their windows")
        if len(groups) and (int(groups[0]) < 0 or (np.diff(groups) <= 0).any()):
            raise IndexError("ids that are to be kept are ascending, each once")
        names = {group: name for name, group in enumerate(groups.tolist())}
        if any(group not in names for _, group in self._held):
            raise ValueError("a group that holds rows is to be kept")
        self._ranked = None
        self._held = {(window, names[group]): rows for (window, group), rows in self._held.items()}


def _rows(kinds: Sequence[str], columns: Sequence[RawColumn], count: int) -> list[tuple[Any, ...]]:
    if not kinds:
        return [()] * count
    return list(
        zip(*(values_of(kind, column) for kind, column in zip(kinds, columns, strict=True)), strict=True)
    )


def _keys(
    order: Sequence[tuple[str, bool, bool]], columns: Sequence[RawColumn], count: int
) -> list[tuple[Any, ...]]:
    rows = _rows([kind for kind, _, _ in order], columns, count)
    return [tuple(_key(value, *part[1:]) for value, part in zip(row, order, strict=True)) for row in rows]


def _key(value: Any, descending: bool, nulls_first: bool) -> tuple[Any, ...]:
    """What sorts as the value does; of one order column all are alike."""
    if value is None:
        return (not nulls_first,)
    if isinstance(value, bytes):  # a text that ends goes before what goes on
        digits = [byte + 1 for byte in value] + [0]
        return nulls_first, tuple(-digit for digit in digits) if descending else tuple(digits)
    if isinstance(value, float):
        number = (1, 0.0) if math.isnan(value) else (0, value)
        return nulls_first, *(-part if descending else part for part in number)
    return nulls_first, -value if descending else value
