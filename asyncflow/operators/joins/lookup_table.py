"""The right side of a lookup: takes rows batch by batch, and sorts them by key once all have come."""

from __future__ import annotations

import numpy as np

from asyncflow.model.batch import Batch
from asyncflow.model.columns import Int64Array
from asyncflow.model.snapshot import Frozen, Saved, nested
from asyncflow.operators.joins.rows import Rows, concat_rows, frozen_rows, restored_rows
from asyncflow.operators.joins.timed import FEW_KEYS, LEFT, NULL_KEYS, RIGHT, JoinSpec, KeyIds
from asyncflow.operators.kernel_state import frozen_keys, load_kernel


class LookupTable:
    """``hold`` all its batches, then ``index``: from then on ``rows`` are its rows by key and arrival, and keys can be looked for."""

    def __init__(self, spec: JoinSpec) -> None:
        self.spec = spec
        self.keys = KeyIds(spec.key_types)
        self.rows: Rows | None = None
        self._starts: Int64Array = np.zeros(1, np.int64)
        self._parts: list[Rows] = []
        self._num_keys = 0
        self._bytes = 0

    def __len__(self) -> int:
        return len(self.rows) if self.rows is not None else sum(map(len, self._parts))

    @property
    def nbytes(self) -> int:
        return self._bytes + int(self.keys.table.nbytes)

    def hold(self, batch: Batch) -> None:
        keys = self.keys.assign(RIGHT, [batch.columns[k] for k in self.spec.keys[RIGHT]], batch.num_rows)
        count = len(self)
        arrivals = np.arange(count, count + batch.num_rows)
        times = np.zeros(batch.num_rows, np.int64) if batch.time is None else batch.time
        kept = tuple(batch.columns[position] for position in self.spec.columns[RIGHT])
        self._parts.append(Rows.of(kept, keys, times, arrivals, arrivals))
        self._bytes += self._parts[-1].nbytes

    def index(self) -> None:
        """The rows by key and arrival: those of key k lie at ``starts[k] .. starts[k + 1]``."""
        none = np.empty(0, np.int64)
        rows = concat_rows(self._parts) if self._parts else Rows.of((), none, none, none, none)
        self._parts = []
        rows = rows.take(np.argsort(rows.keys, kind="stable"))
        per_key = np.bincount(rows.keys, minlength=self.keys.table.size + NULL_KEYS)
        per_key[:NULL_KEYS] = 0
        nulls = int(np.count_nonzero(rows.keys < NULL_KEYS))
        self._starts = np.concatenate([[nulls], nulls + np.cumsum(per_key)])
        self.rows = rows
        self._num_keys = self.keys.table.size

    def freeze(self) -> Frozen:
        if self.rows is not None and self.spec.key_types:
            self.keys.table.keep(np.arange(self._num_keys, dtype=np.int32))
        parts = self._parts if self.rows is None else [self.rows] if len(self.rows) else []
        keys = frozen_keys(self.keys.table)
        rows = frozen_rows(parts, self.keys.names)
        return nested({"whole": self.rows is not None}, {"keys": keys, "rows": rows})

    def restore(self, saved: Saved) -> None:
        whole = saved.flag("whole")
        load_kernel(self.keys.table, saved, "keys")
        names = self.keys.table.size + NULL_KEYS
        self._parts = restored_rows(saved.within("rows"), names, self.spec.shape.types(RIGHT))
        self._bytes = sum(part.nbytes for part in self._parts)
        if whole:
            self.index()

    def find(self, batch: Batch) -> tuple[Int64Array, Int64Array]:
        """For each left row where its matches begin among ``rows``, and how many they are."""
        keys = self.keys.assign(LEFT, [batch.columns[k] for k in self.spec.keys[LEFT]], batch.num_rows)
        known = keys < len(self._starts) - 1
        places = np.where(known, keys, 0)
        first = self._starts[places]
        count = np.where(known, self._starts[places + 1] - first, 0)
        self._forget()
        return first, count

    def _forget(self) -> None:
        """Keys that the right side does not have are forgotten in time: memory does not grow with the left rows."""
        if self.spec.key_types and self.keys.table.size > max(2 * self._num_keys, self._num_keys + FEW_KEYS):
            self.keys.table.keep(np.arange(self._num_keys, dtype=np.int32))
