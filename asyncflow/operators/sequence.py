"""Sequence: passes the rows of the past, then those of the live side; a row of the overlap passes once.

The overlap is the live rows whose time is not after the last event time of the past.  Without ``unique`` columns all of the overlap
counts as the past's, and is dropped as duplicate.  With ``unique`` columns a row of the overlap is a duplicate where the past had
its key.  Keys of the past are remembered from the live side's first watermark on (the time of its first row less its delay), until
the live watermark has passed the overlap.  A live row of the overlap that is older than the live watermark before it cannot be
compared any more: it goes to ``late``.

One watermark runs through the seam, for rows and for the table.  With ``unique`` it stays at or below the live side's first
watermark before the seam, so that no window closes to which live rows of the overlap still belong.  Without, it stays at or below
the past's last event time.

Invariants: which rows pass depends only on the rows of both sides and their order; the memory is bounded by the keys of the overlap.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from msgspec.structs import replace

from asyncflow._kernels import groups as groups_kernel
from asyncflow.model.batch import END_OF_TIME, NO_TIME, Batch
from asyncflow.model.columns import BoolArray
from asyncflow.model.schema import Schema
from asyncflow.model.snapshot import Frozen, Saved, nested
from asyncflow.operators.contract import Operator, Output, counted, restore_counts
from asyncflow.operators.kernel_state import frozen_keys, load_kernel
from asyncflow.operators.raw import raw_column

MANY_KEYS = 1 << 16


class SequenceOperator(Operator):
    """``process`` takes the past's rows until ``hand_over`` and the live side's from then on; ``watermark`` is that of the table.

    ``unique``: see the module.  With it, ``begin`` must come before the past's first rows.
    ``counts``: rows ``duplicate`` and ``late``, also given as outputs of these kinds; ``history_rows``; ``history_last`` and
    ``live_first``: event times, ns, of the last row (the greatest) of the one and the first of the other, once there are any.
    """

    state_version = 1

    def __init__(self, output: Schema, unique: Sequence[str] = ()) -> None:
        super().__init__()
        self.output = output
        self.counts = {"duplicate": 0, "late": 0, "history_rows": 0}
        self.watermark = NO_TIME
        self._unique = tuple(unique)
        self._keys = (
            groups_kernel.GroupTable([output[name].type.value for name in unique]) if unique else None
        )
        self._known = 0
        self._live_from = NO_TIME
        self._ceiling = END_OF_TIME if unique else NO_TIME
        self._last: int | None = None
        self._live = False

    @property
    def overlapping(self) -> bool:
        """Rows of the overlap may still come."""
        return self._last is not None and not (self._live and self.watermark > self._last)

    @property
    def state_bytes(self) -> int:
        return 0 if self._keys is None else int(self._keys.nbytes)

    def freeze(self) -> Frozen:
        """The keys are those of the overlap's past rows; a live row's key tells nothing once the row has gone on."""
        fields = {
            **counted(self.counts),
            "watermark_ns": self.watermark,
            "live_from_ns": self._live_from,
            "ceiling_ns": self._ceiling,
            "last_ns": self._last,
            "live": self._live,
            "remembers": self._keys is not None,
        }
        if self._keys is None:
            return nested(fields, {})
        if self._live:
            self._keys.keep(np.arange(self._known, dtype=np.int32))
        return nested(fields, {"keys": frozen_keys(self._keys)})

    def restore(self, saved: Saved) -> None:
        restore_counts(self.counts, saved)
        self.watermark = saved.integer("watermark_ns", NO_TIME, END_OF_TIME)
        self._live_from = saved.integer("live_from_ns", NO_TIME, END_OF_TIME)
        self._ceiling = saved.integer("ceiling_ns", NO_TIME, END_OF_TIME)
        self._last = saved.optional_integer("last_ns", NO_TIME, END_OF_TIME)
        self._live = saved.flag("live")
        remembers = saved.flag("remembers")
        if self._keys is None or not remembers:
            if remembers:
                raise ValueError("remembers: keys were saved by a sequence with unique columns")
            self._keys = None
            return
        load_kernel(self._keys, saved, "keys")
        self._known = self._keys.size if self._live else 0

    def begin(self, live_watermark_ns: int) -> None:
        """The live side's watermark after its first row; not called where it has no rows."""
        self._live_from = self._ceiling = live_watermark_ns

    def hand_over(self) -> None:
        """The past has ended."""
        self._live = True
        self._known = 0 if self._keys is None else self._keys.size

    def advance(self, watermark_ns: int) -> list[Output]:
        """The watermark of the side that is being read."""
        if not self._live:
            watermark_ns = min(watermark_ns, self._ceiling)
        self.watermark = max(self.watermark, watermark_ns)
        if self._live and not self.overlapping:
            self._keys = None
        return []

    def process(self, batch: Batch) -> list[Output]:
        if not batch.num_rows:
            return []
        assert batch.time is not None
        return self._process_live(batch) if self._live else self._process_past(batch)

    def _process_past(self, batch: Batch) -> list[Output]:
        assert batch.time is not None
        self.counts["history_rows"] += batch.num_rows
        greatest = int(batch.time.max())
        self._last = greatest if self._last is None else max(self._last, greatest)
        if not self._unique:
            self._ceiling = self._last
        self.counts["history_last"] = self._last
        if self._keys is not None:
            rows = np.flatnonzero(batch.time >= self._live_from)
            self._ids(batch if len(rows) == batch.num_rows else batch.take(rows))
        marks = batch.row_watermarks() if self._unique else batch.time[:0]
        if len(marks) and int(marks.max()) > self._ceiling:
            batch = replace(batch, watermarks=np.minimum(marks, self._ceiling))
        return [Output(batch)]

    def _process_live(self, batch: Batch) -> list[Output]:
        assert batch.time is not None
        self.counts.setdefault("live_first", int(batch.time[0]))
        outputs = []
        go_on = np.ones(batch.num_rows, np.bool_)
        if self._last is not None and int(batch.time.min()) <= self._last:
            overlap = batch.time <= self._last
            late = overlap & (batch.time < batch.row_watermarks()) if self._unique else ~go_on
            duplicate = overlap & ~late & self._seen(batch)
            go_on = ~(late | duplicate)
            for kind, rows in (("duplicate", duplicate), ("late", late)):
                if count := int(np.count_nonzero(rows)):
                    self.counts[kind] += count
                    outputs.append(Output(batch.take(np.flatnonzero(rows)), kind))
        rest = batch if go_on.all() else batch.take(np.flatnonzero(go_on))
        if rest.watermarks is not None:
            rest = replace(rest, watermarks=np.maximum(rest.watermarks, self.watermark))
        rest = replace(rest, watermark_before=max(rest.watermark_before, self.watermark))
        return [Output(rest), *outputs]

    def _seen(self, batch: Batch) -> BoolArray:
        """Rows whose key is remembered; without unique columns all rows.  The caller looks at rows of the overlap that are not late."""
        if not self._unique:
            return np.ones(batch.num_rows, np.bool_)
        if self._keys is None:  # the overlap is over: there are none
            return np.zeros(batch.num_rows, np.bool_)
        seen: BoolArray = self._ids(batch) < self._known
        if self._keys.size > 2 * self._known + MANY_KEYS:
            self._keys.keep(np.arange(self._known, dtype=np.int32))
        return seen

    def _ids(self, batch: Batch) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
        assert self._keys is not None
        columns = [raw_column(batch.column(name)) for name in self._unique]
        ids: np.ndarray[tuple[int], np.dtype[np.int32]] = self._keys.assign(columns, batch.num_rows)
        return ids
