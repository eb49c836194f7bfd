"""The common part of the joins by event time: two sides of waiting rows, one clock, and results that depend only on rows and watermarks.

The clock of a join is the lowest watermark of its inputs, without inputs that have ended or are idle.  Every result has a
*release*: the moment after which nothing can change the result.  The release of a pair in an interval join is the later of its two
times, or of the watermarks before its rows; of a row without a partner the last moment at which a partner could come; in a window
join the window's end.  A result comes out when the clock has passed its release, in the order (release, left arrival, right
arrival).  So neither the cutting into batches nor the interleaving of the inputs has an effect.

Lateness depends on the watermark of a row's own input, as it was before the row; each kind of join says what this watermark must
not have passed. A row that is late for all possible results goes to ``late`` (of the left side; a row of the right side is counted
as ``late_right``); a row that is late for some results only is counted as ``late_partly``.

State: the rows whose last release lies ahead, and their keys.  A row with a null in its key is kept like others, and matches no row.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from msgspec import Struct

from asyncflow._kernels import groups as groups_kernel
from asyncflow.errors import StageError
from asyncflow.model.batch import END_OF_TIME, NO_TIME, Batch
from asyncflow.model.columns import BoolArray, Column, Int32Array, Int64Array
from asyncflow.model.durations import format_size
from asyncflow.model.schema import Schema
from asyncflow.model.snapshot import Frozen, Plain, Saved, nested
from asyncflow.operators.contract import Output, TwoInputOperator, counted, restore_counts
from asyncflow.operators.joins.results import Shape
from asyncflow.operators.joins.rows import shifted_time
from asyncflow.operators.kernel_state import frozen_keys, load_kernel
from asyncflow.operators.raw import raw_column

LEFT, RIGHT = 0, 1
NULL_KEYS = 2
"""The ids 0 and 1 are the null keys of the left and right side: no key of the other side equals them."""
FEW_KEYS = 1 << 16
"""Keys that no row holds are looked for only where there are more keys than this."""


class JoinSpec(Struct, frozen=True):
    """What every join is told.  ``keys``: positions of the key columns, of the left and of the right side; ``columns``: which columns of
    each side are kept, by position (``shape`` counts in these)."""

    kind: str
    shape: Shape
    keys: tuple[tuple[int, ...], tuple[int, ...]]
    key_types: tuple[str, ...]
    columns: tuple[tuple[int, ...], tuple[int, ...]]
    max_state_bytes: int

    @property
    def left_alone(self) -> bool:
        """Left rows without a partner come out."""
        return self.kind in ("left", "full", "anti")

    @property
    def right_alone(self) -> bool:
        return self.kind in ("right", "full")

    @property
    def pairs(self) -> bool:
        """Every pair comes out, not left rows alone."""
        return self.kind not in ("semi", "anti")


class KeyIds:
    """Ids of join keys, the same for equal keys of both sides."""

    def __init__(self, types: Sequence[str]) -> None:
        self.table = groups_kernel.GroupTable(list(types))
        self._collect_above = FEW_KEYS

    def groups(self, columns: Sequence[Column], count: int) -> Int32Array:
        """The ids; -1 where a part of the key is null: it equals none."""
        ids: Int32Array = self.table.assign([raw_column(column) for column in columns], count)
        for column in columns:
            if column.valid is not None:
                ids[~column.valid] = -1
        return ids

    def assign(self, port: int, columns: Sequence[Column], count: int) -> Int64Array:
        """The ids from 2 on; null keys have one of their own on each side."""
        ids = self.groups(columns, count).astype(np.int64)
        return np.where(ids < 0, port, ids + NULL_KEYS)

    def forget(self, live: Callable[[], Int32Array]) -> Int32Array | None:
        """Drops keys that no row holds once they are the greater part; gives the kept ids, whose places are their new ids.

        ``live``: the ids that rows hold, ascending."""
        if self.table.size <= self._collect_above:
            return None
        kept = live()
        self._collect_above = max(FEW_KEYS, 2 * len(kept))
        if 2 * len(kept) >= self.table.size:
            return None
        self.table.keep(kept)
        return kept

    @property
    def names(self) -> Int64Array:
        """By id from 0 on, the null keys among them: the id among the saved keys."""
        return np.concatenate([np.arange(NULL_KEYS), self.table.ranks() + np.int64(NULL_KEYS)])


def event_times(batch: Batch) -> Int64Array:
    if batch.time is None:
        raise StageError("a join by event time needs rows that have one")
    return batch.time


class TimedJoin(TwoInputOperator):
    """``hold_ns``: how far the time of a result may lie before its release.  ``counts``: of each side rows ``matched`` and ``unmatched``
    (counted as they leave the state), ``late``, ``late_right``; of the others, those that were ``late_partly``."""

    state_version = 1

    def __init__(self, spec: JoinSpec, hold_ns: int) -> None:
        super().__init__()
        self.spec = spec
        self.output: Schema = spec.shape.schema
        self.hold_ns = hold_ns
        self.clock = NO_TIME
        self._keys = KeyIds(spec.key_types)
        self._open = {LEFT, RIGHT}
        self.counts = dict.fromkeys(
            ("left_matched", "left_unmatched", "late", "right_matched", "right_unmatched", "late_right"), 0
        )
        self.counts["late_partly"] = 0

    def freeze(self) -> Frozen:
        """The rows that wait, of each side by key and arrival; keys that no row holds are dropped first."""
        if self.spec.key_types and self._keys.table.size:
            live = self.live_keys()
            self._keys.table.keep(live)
            self.keep_keys(live)
        ended: list[Plain] = [port not in self._open for port in (LEFT, RIGHT)]
        fields: dict[str, Plain] = {**counted(self.counts), "clock_ns": self.clock, "ended": ended}
        return nested(fields, {"keys": frozen_keys(self._keys.table), "rows": self.frozen_rows()})

    def restore(self, saved: Saved) -> None:
        restore_counts(self.counts, saved)
        self.clock = saved.integer("clock_ns", NO_TIME, END_OF_TIME)
        match saved.fields.get("ended"):
            case [bool(left), bool(right)]:
                self._open = {port for port, ended in ((LEFT, left), (RIGHT, right)) if not ended}
            case other:
                raise ValueError(f"ended: two truth values are wanted, not {other!r}")
        load_kernel(self._keys.table, saved, "keys")
        self.restore_rows(saved.within("rows"))

    def process(self, port: int, batch: Batch) -> list[Output]:
        if not batch.num_rows:
            return []
        event_times(batch)
        outputs = self._late_outputs(port, batch, self.take_in(port, batch))
        if (size := self.state_bytes) > self.spec.max_state_bytes:
            raise self._too_much(size)
        return outputs

    def advance(self, watermark_ns: int) -> Iterator[Output]:
        if watermark_ns > self.clock:
            self.clock = watermark_ns
            for batch in self.released(watermark_ns):
                yield Output(batch)
            self._forget_keys()

    def finish(self, port: int) -> Iterator[Output]:
        self._open.discard(port)
        return self.advance(self.clock if self._open else END_OF_TIME)

    @property
    def watermark(self) -> int:
        return shifted_time(self.clock, -self.hold_ns)

    @property
    def held_ns(self) -> int:
        return self.hold_ns

    @property
    def state_bytes(self) -> int:
        return int(self._keys.table.nbytes) + self.held_bytes

    @property
    def open_keys(self) -> int:
        """Keys held now, about: those of rows and some that will go."""
        return int(self._keys.table.size)

    # -- what each kind of join says -------------------------------------------------------------------------------------

    @abstractmethod
    def take_in(self, port: int, batch: Batch) -> BoolArray | None:
        """Takes rows in that are not late for all results; which are late (None: none is).  Counts those that are late for some."""

    @abstractmethod
    def released(self, clock: int) -> Iterator[Batch]:
        """The results with releases before ``clock`` that have not come yet, in their order; what no result to come can need is
        dropped."""

    @abstractmethod
    def live_keys(self) -> Int32Array:
        """The ids of keys that rows hold, ascending."""

    @abstractmethod
    def keep_keys(self, kept: Int32Array) -> None:
        """Key ``kept[i]`` is called i from now on."""

    @abstractmethod
    def frozen_rows(self) -> Frozen:
        """The state of both sides' rows; all keys of the key table are held, and saved in the order of their keys."""

    @abstractmethod
    def restore_rows(self, saved: Saved) -> None:
        """Takes over rows; the key table and the clock are restored already."""

    @property
    @abstractmethod
    def held_bytes(self) -> int:
        """Bytes of the rows held now."""

    # -- inside ----------------------------------------------------------------------------------------------------------

    def _late_outputs(self, port: int, batch: Batch, late: BoolArray | None) -> list[Output]:
        if late is None:
            return []
        self.counts["late_right" if port else "late"] += int(np.count_nonzero(late))
        return [Output(batch.take(np.flatnonzero(late)), "late")] if port == LEFT else []

    def _forget_keys(self) -> None:
        if self.spec.key_types:
            kept = self._keys.forget(self.live_keys)
            if kept is not None:
                self.keep_keys(kept)

    def _too_much(self, size: int) -> StageError:
        limit = format_size(self.spec.max_state_bytes)
        return StageError(
            f"it holds {self.open_keys} keys in {format_size(size)} of rows that wait for a match, more than max_state = {limit}"
        )
