"""Lookup: the right side is read whole first, then each left row looks its matches up.

Results come at once, in the order of the left rows and for each in the order of its right rows, with the left row's time: the right side
is a table, not a stream.  Without key columns every left row meets every right row.  In joins that also give right rows without a partner
(``right``, ``full``) these come at the end, and the watermark of the results waits for them.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from msgspec.structs import replace

from asyncflow.errors import StageError
from asyncflow.model.batch import END_OF_TIME, NO_TIME, Batch
from asyncflow.model.columns import IndexArray, Int64Array
from asyncflow.model.durations import format_size
from asyncflow.operators.contract import Output, TwoInputOperator
from asyncflow.operators.joins.results import MAX_OUTPUT_ROWS, taker
from asyncflow.operators.joins.rows import Rows, concat_rows, masked
from asyncflow.operators.joins.timed import FEW_KEYS, LEFT, NULL_KEYS, RIGHT, JoinSpec, KeyIds


class LookupJoin(TwoInputOperator):
    """``counts``: rows ``matched`` and ``unmatched`` of each side.  The runtime gives all of the right input first."""

    def __init__(self, spec: JoinSpec) -> None:
        super().__init__()
        self.spec = spec
        self.output = spec.shape.schema
        self.counts = dict.fromkeys(("left_matched", "left_unmatched", "right_matched", "right_unmatched"), 0)
        self._keys = KeyIds(spec.key_types)
        self._parts: list[Rows] = []
        self._right: Rows | None = None
        self._starts: Int64Array = np.zeros(1, np.int64)
        self._watermark = NO_TIME
        self._num_keys = 0
        self._bytes = 0
        self._timed = True

    def process(self, port: int, batch: Batch) -> Iterator[Output]:
        if not batch.num_rows:
            return
        keys = self._keys.assign(port, [batch.columns[k] for k in self.spec.keys[port]], batch.num_rows)
        if port == RIGHT:
            self._hold(batch, keys)
        else:
            yield from self._looked_up(batch, keys)

    def advance(self, watermark_ns: int) -> list[Output]:
        self._watermark = (
            watermark_ns  # The right side has ended before the left one is read: it does not count.
        )
        return []

    def finish(self, port: int) -> Iterator[Output]:
        if port == RIGHT:
            self._index()
            return
        assert self._right is not None
        matched = self._right.matched
        found = int(np.count_nonzero(matched))
        self.counts["right_matched"] += found
        self.counts["right_unmatched"] += len(matched) - found
        if self.spec.right_alone:
            alone = np.flatnonzero(~matched)
            alone = alone[np.argsort(self._right.arrivals[alone])]
            for start in range(0, len(alone), MAX_OUTPUT_ROWS):
                rows = alone[start : start + MAX_OUTPUT_ROWS]
                columns = self.spec.shape.columns(None, taker(self._right.columns, rows), len(rows))
                made = Batch(self.output, columns, len(rows))
                if self._timed:
                    made = replace(made, time=self._right.times[rows], watermarks=np.full(len(rows), NO_TIME))
                yield Output(made)
        self._watermark = END_OF_TIME

    @property
    def watermark(self) -> int:
        waits = self.spec.right_alone and self._watermark < END_OF_TIME
        return NO_TIME if waits else self._watermark

    @property
    def waiting_rows(self) -> tuple[int, int]:
        return 0, len(self._right) if self._right is not None else sum(map(len, self._parts))

    @property
    def state_bytes(self) -> int:
        return self._bytes + int(self._keys.table.nbytes)

    # -- the right side --------------------------------------------------------------------------------------------------

    def _hold(self, batch: Batch, keys: Int64Array) -> None:
        count = sum(len(rows) for rows in self._parts)
        arrivals = np.arange(count, count + batch.num_rows)
        times = np.zeros(batch.num_rows, np.int64) if batch.time is None else batch.time
        kept = tuple(batch.columns[position] for position in self.spec.columns[RIGHT])
        self._parts.append(Rows.of(kept, keys, times, arrivals, arrivals))
        self._bytes += self._parts[-1].nbytes
        if (size := self.state_bytes) > self.spec.max_state_bytes:
            raise StageError(
                f"its right side, {self._keys.table.size} keys so far, takes {format_size(size)}, "
                f"more than max_state = {format_size(self.spec.max_state_bytes)}"
            )

    def _index(self) -> None:
        """The rows by key and arrival: those of key k lie at ``starts[k] .. starts[k + 1]``."""
        none = np.empty(0, np.int64)
        rows = concat_rows(self._parts) if self._parts else Rows.of((), none, none, none, none)
        self._parts = []
        rows = rows.take(np.argsort(rows.keys, kind="stable"))
        per_key = np.bincount(rows.keys, minlength=self._keys.table.size + NULL_KEYS)
        per_key[:NULL_KEYS] = 0
        nulls = int(np.count_nonzero(rows.keys < NULL_KEYS))
        self._starts = np.concatenate([[nulls], nulls + np.cumsum(per_key)])
        self._right = rows
        self._num_keys = self._keys.table.size

    # -- the left side ---------------------------------------------------------------------------------------------------

    def _looked_up(self, batch: Batch, keys: Int64Array) -> Iterator[Output]:
        right = self._right
        assert right is not None
        self._timed = batch.time is not None
        known = keys < len(self._starts) - 1
        places = np.where(known, keys, 0)
        first = self._starts[places]
        count = np.where(known, self._starts[places + 1] - first, 0)
        self._forget()
        matched = int(np.count_nonzero(count))
        self.counts["left_matched"] += matched
        self.counts["left_unmatched"] += batch.num_rows - matched
        if not self.spec.pairs:
            chosen = np.flatnonzero(count > 0 if self.spec.kind == "semi" else count == 0)
            self._mark(right, first, count)
            if len(chosen):
                yield Output(self._rows(batch, chosen, None, None))
            return
        rows = np.maximum(count, 1) if self.spec.left_alone else count
        ends = np.cumsum(rows)
        for start in range(0, int(ends[-1]), MAX_OUTPUT_ROWS):
            numbers = np.arange(start, min(start + MAX_OUTPUT_ROWS, int(ends[-1])))
            owner = np.searchsorted(ends, numbers, "right")
            found = numbers - (ends - rows)[owner] + first[owner]
            yield Output(self._pairs(batch, owner, right, found, count[owner] > 0))

    def _pairs(
        self,
        batch: Batch,
        owner: IndexArray,
        right: Rows,
        found: IndexArray,
        met: np.ndarray[tuple[int], np.dtype[np.bool_]],
    ) -> Batch:
        if not met.any():
            return self._rows(batch, owner, None, None)
        right.matched[found[met]] = True
        if met.all():
            return self._rows(batch, owner, right, found)
        # Places of rows without a partner may be anything; their values are taken for null.
        made = self._rows(batch, owner, right, np.where(met, found, found[met][0]))
        first_right = len(self.spec.shape.left)
        nulled = tuple(
            column if place < first_right else masked(column, met)
            for place, column in enumerate(made.columns)
        )
        return made.with_columns(self.output, nulled)

    def _rows(self, batch: Batch, owner: IndexArray, right: Rows | None, found: IndexArray | None) -> Batch:
        left = tuple(batch.columns[position] for position in self.spec.columns[LEFT])
        met = None if right is None or found is None else taker(right.columns, found)
        columns = self.spec.shape.columns(taker(left, owner), met, len(owner))
        rows = replace(batch, schema=self.output, columns=(), num_rows=batch.num_rows).take(owner)
        if self.spec.right_alone and rows.time is not None:
            rows = replace(rows, watermarks=np.full(len(owner), NO_TIME))
        return replace(rows, columns=columns)

    def _mark(self, right: Rows, first: Int64Array, count: Int64Array) -> None:
        """The rows of the ranges as matched: one more range begins, one ends."""
        met = np.flatnonzero(count)
        open_ranges = np.zeros(len(right) + 1, np.int64)
        np.add.at(open_ranges, first[met], 1)
        np.add.at(open_ranges, first[met] + count[met], -1)
        right.matched[np.cumsum(open_ranges)[:-1] > 0] = True

    def _forget(self) -> None:
        """Keys that the right side does not have are forgotten in time: memory does not grow with the left rows."""
        if self.spec.key_types and self._keys.table.size > max(2 * self._num_keys, self._num_keys + FEW_KEYS):
            self._keys.table.keep(np.arange(self._num_keys, dtype=np.int32))
