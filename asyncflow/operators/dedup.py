"""Dedup: passes the first row of each key, by arrival; further rows of the key within a span of event time are duplicates.

A row is a duplicate where a row of its key that was passed is at most ``within`` away in event time, before or after, and is still
remembered.  Duplicates do not prolong the memory, because ``within`` counts from the row that was passed.  The time of a passed row
is remembered until the watermark before a row has passed it by ``within``.  Forgetting affects late rows only: a late row whose key
is forgotten counts as new.  A null is a key value like any other.  Passed rows keep the watermark before each of them.

Invariants: which rows pass depends only on the rows, their order and their watermarks; the memory is bounded by the keys that the
watermark has not passed, and at most as many that it has passed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from asyncflow._kernels import dedup as dedup_kernel
from asyncflow._kernels import groups as groups_kernel
from asyncflow.model.batch import END_OF_TIME, NO_TIME, Batch
from asyncflow.model.columns import BoolArray, Column, IndexArray, Int32Array, Int64Array
from asyncflow.model.schema import DataType, Schema
from asyncflow.model.snapshot import Frozen, Plain, Saved, nested
from asyncflow.operators.contract import Output, counted, restore_counts
from asyncflow.operators.kernel_state import frozen_by_group, frozen_keys, load_kernel
from asyncflow.operators.parts.part import KeyedPart, Origin, Prepared, Told
from asyncflow.operators.parts.state import frozen_times, times_of_part
from asyncflow.operators.raw import raw_column

FEW_KEYS = 1 << 16
"""Forgotten keys are looked for only where there are more keys than this."""


class DedupOperator(KeyedPart):
    """``keys``: computes the key columns of a batch, of types ``kinds``.

    ``counts``: rows ``duplicate``, also given as output of that kind, and what ``losses`` counts while computing.
    """

    state_version = 1

    def __init__(
        self,
        output: Schema,
        kinds: tuple[DataType, ...],
        keys: Callable[[Batch], tuple[Column, ...]],
        within_ns: int,
        losses: dict[str, int],
    ) -> None:
        super().__init__()
        self.output = output
        self.counts = losses
        self.counts["duplicate"] = 0
        self._keys = keys
        self._groups = groups_kernel.GroupTable([kind.value for kind in kinds])
        self._state = dedup_kernel.DedupState(within_ns)
        self._watermark_ns = NO_TIME
        self._collect_above = FEW_KEYS

    def process(self, batch: Batch) -> list[Output]:
        if not batch.num_rows:
            return []
        if batch.time is None:
            raise ValueError("rows are told apart within a time: they need an event time")
        fresh = self._fresh(batch, self._keys(batch), None)
        passed = np.flatnonzero(fresh)
        if len(passed) == batch.num_rows:
            return [Output(batch)]
        outputs = [Output(batch.take(passed))] if len(passed) else []
        if "duplicate" not in self.unread:
            outputs.append(Output(batch.take(np.flatnonzero(~fresh)) if len(passed) else batch, "duplicate"))
        return outputs

    def take(self, batch: Batch, prepared: Prepared, origin: Origin | None = None) -> IndexArray:
        fresh = self._fresh(batch, prepared.keys, None if origin is None else origin.hashes)
        return np.empty(0, np.intp) if fresh.all() else np.flatnonzero(~fresh)

    def _fresh(self, batch: Batch, keys: Sequence[Column], hashes: NDArray[np.uint64] | None) -> BoolArray:
        """Takes rows; whether each of them goes on."""
        assert batch.time is not None
        fresh: BoolArray = self._state.add(
            self._groups.assign([raw_column(column) for column in keys], batch.num_rows, hashes),
            self._groups.size,
            np.ascontiguousarray(batch.time),
            None if batch.watermarks is None else np.ascontiguousarray(batch.watermarks),
            self._watermark_ns,
            batch.watermark_before,
            batch.delay_ns,
        )
        self._forget()
        self.counts["duplicate"] += batch.num_rows - int(np.count_nonzero(fresh))
        return fresh

    def watermarks_matter(self, batch: Batch) -> bool:
        return True

    def advance(self, watermark_ns: int) -> list[Output]:
        self._watermark_ns = max(self._watermark_ns, watermark_ns)
        self._forget()
        return []

    @property
    def state_bytes(self) -> int:
        return int(self._groups.nbytes + self._state.nbytes)

    @property
    def open_keys(self) -> int:
        return int(self._groups.size)

    def freeze(self) -> Frozen:
        """The remembered times by key, without those that the watermark has passed."""
        self.forget()
        return nested(
            self.fields(),
            {"keys": frozen_keys(self._groups), "times": frozen_by_group(self._state, self._groups.ranks())},
        )

    def restore(self, saved: Saved) -> None:
        restore_counts(self.counts, saved)
        self._watermark_ns = saved.integer("watermark_ns", NO_TIME, END_OF_TIME)
        load_kernel(self._groups, saved, "keys")
        load_kernel(self._state, saved, "times", groups=self._groups.size)

    @property
    def keys(self) -> groups_kernel.GroupTable:
        return self._groups

    def forget(self) -> None:
        self._keep(self._state.live_groups(self._watermark_ns))

    def fields(self) -> dict[str, Plain]:
        return {**counted(self.counts), "watermark_ns": self._watermark_ns}

    @staticmethod
    def frozen_as_one(
        parts: Sequence[DedupOperator], ranks: Sequence[Int32Array], told: Told
    ) -> dict[str, Frozen]:
        times = [frozen_by_group(part._state, rank) for part, rank in zip(parts, ranks, strict=True)]
        return {"times": frozen_times(times)}

    @staticmethod
    def told(saved: Saved) -> Told:
        return Told()

    @staticmethod
    def split(whole: Saved, new: Int64Array, *, first: bool) -> dict[str, Saved]:
        return {"times": times_of_part(whole.within("times"), new)}

    def _forget(self) -> None:
        """Drops the times that the watermark has passed once there are many; looks again when their number has doubled."""
        if max(self._groups.size, self._state.entries) <= self._collect_above:
            return
        live = self._state.live_groups(self._watermark_ns)
        if 2 * len(live) < self._groups.size:
            self._keep(live)
        self._collect_above = max(FEW_KEYS, 2 * max(len(live), self._state.entries))

    def _keep(self, live: Int32Array) -> None:
        self._groups.keep(live)
        self._state.keep(live)
