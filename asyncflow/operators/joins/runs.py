"""The rows of one side, found by key and time.

They lie in *runs*: each a table of rows sorted by (key, time, arrival), searched by bisection.  New rows make a new run; a run is merged
with the one before it as soon as it is half its size, so there are few (their sizes fall by halves) and each row is moved O(log n) times.
What is past goes with whole runs where it can, else when it is the greater part of one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from asyncflow.model.batch import END_OF_TIME
from asyncflow.model.columns import BoolArray, IndexArray, Int64Array
from asyncflow.operators.joins.rows import Rows, before, concat_rows

MAX_RUN_BYTES = 1 << 30
"""Greater runs are not made: the text of one column must stay below 2 GiB."""


class Run:
    """Rows in the order (key, time, arrival)."""

    def __init__(self, rows: Rows, *, ordered: bool = False) -> None:
        if not ordered:
            rows = rows.take(np.lexsort((rows.arrivals, rows.times, rows.keys)))
        self.rows = rows
        self.by_time: IndexArray = np.argsort(rows.times, kind="stable")
        self.times: Int64Array = rows.times[self.by_time]
        self._ranks: Int64Array = np.searchsorted(self.times, rows.times, "left")
        self._codes = self._code(rows.keys, self._ranks)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def nbytes(self) -> int:
        return self.rows.nbytes + 32 * len(self.rows)

    def find(self, keys: Int64Array, low: Int64Array, high: Int64Array) -> tuple[Int64Array, Int64Array]:
        """For each key the place of its first row of time ``low`` or later, and how many follow up to ``high`` (with it)."""
        first = self._bisect(keys, np.searchsorted(self.times, low, "left"))
        last = self._bisect(keys, np.searchsorted(self.times, high, "right"))
        return first, np.maximum(last - first, 0)

    def between(self, start_ns: int, stop_ns: int) -> IndexArray:
        """The places of the rows with times in ``[start, stop)``."""
        return self.by_time[self.past(start_ns) : self.past(stop_ns)]

    def past(self, time_ns: int) -> int:
        """How many rows are older than ``time_ns``."""
        if time_ns == END_OF_TIME:
            return len(self)
        return int(np.searchsorted(self.times, np.int64(time_ns), "left"))

    def rename(self, keys: Int64Array) -> None:
        """Other ids for the keys, in the same order."""
        self.rows.keys[:] = keys
        self._codes = self._code(keys, self._ranks)

    def _bisect(self, keys: Int64Array, ranks: Int64Array) -> Int64Array:
        return np.searchsorted(self._codes, self._code(keys, ranks), "left")

    def _code(self, keys: Int64Array, ranks: Int64Array) -> Int64Array:
        # Key and rank of the time in one number: both are below 2**31.
        return keys * (len(self.rows) + 1) + ranks


class Runs:
    """All runs of a side.  ``dropped`` is told the rows that leave, once each."""

    def __init__(self, dropped: Callable[[BoolArray], None]) -> None:
        self._runs: list[Run] = []
        self._dropped = dropped

    def __iter__(self) -> Iterator[Run]:
        return iter(self._runs)

    @property
    def nbytes(self) -> int:
        return sum(run.nbytes for run in self._runs)

    def add(self, rows: Rows | None) -> Run | None:
        """A run of new rows; it is searched at once and merged by the next ``tidy``."""
        if rows is None:
            return None
        self._runs.append(Run(rows))
        return self._runs[-1]

    def drop_before(self, time_ns: int) -> None:
        """The rows older than that are not needed any more: they leave, at once or a little later."""
        runs = []
        for run in self._runs:
            past = run.past(time_ns)
            if past == len(run):
                self._dropped(run.rows.matched)
            else:
                runs.append(self._without(run, not_before(time_ns, run.rows)) if 2 * past > len(run) else run)
        self._runs = runs

    def tidy(self, needed: Callable[[Rows], BoolArray]) -> None:
        """Merges runs; ``needed`` says which of the rows of a merged run stay."""
        runs = self._runs
        while len(runs) > 1 and len(runs[-2]) <= 2 * len(runs[-1]):
            if runs[-2].nbytes + runs[-1].nbytes > MAX_RUN_BYTES:
                break
            newer, older = runs.pop(), runs.pop()
            merged = self._without(Run(concat_rows([older.rows, newer.rows])), None, needed)
            if len(merged):
                runs.append(merged)

    def _without(
        self, run: Run, keep: BoolArray | None, needed: Callable[[Rows], BoolArray] | None = None
    ) -> Run:
        keep = needed(run.rows) if needed is not None else keep
        assert keep is not None
        if keep.all():
            return run
        self._dropped(run.rows.matched[~keep])
        return Run(run.rows.take(np.flatnonzero(keep)), ordered=True)


def not_before(time_ns: int, rows: Rows) -> BoolArray:
    return ~before(rows.times, time_ns)
