"""Reading several inputs in step with event time: the one that is behind first, row by row.

Every row has a *level*: its own input's watermark once the row is counted.  Levels never fall along an input, so merging rows by
(level, input number) is a total order that depends on the data alone: however the inputs were cut into batches and whichever arrived
first, the merged rows come out in the same order.  At most one batch per input waits.

Used where all inputs are bounded.  Inputs that never end are taken as they come instead: there, waiting for the one that is behind
would let a quiet input stop the others.
"""

from __future__ import annotations

import numpy as np
from msgspec.structs import replace

from asyncflow.model.batch import END_OF_TIME, NO_TIME, Batch, concat_batches
from asyncflow.model.columns import Int64Array
from asyncflow.operators.contract import Port


class _Input:
    """One input: the rows that wait, their levels, and the least level that a row still to come can have."""

    def __init__(self) -> None:
        self.batch: Batch | None = None
        self.levels: Int64Array = np.empty(0, np.int64)
        self.floor = NO_TIME
        self.ended = False

    def hold(self, batch: Batch) -> None:
        assert batch.time is not None
        assert self.batch is None
        lowest = NO_TIME + batch.delay_ns
        own = np.maximum(batch.time, lowest) - batch.delay_ns
        self.batch = batch
        self.levels = np.maximum(np.maximum.accumulate(np.maximum(batch.row_watermarks(), own)), self.floor)
        self.floor = int(self.levels[-1])

    def release(self, count: int) -> tuple[Batch, Int64Array]:
        """The first ``count`` waiting rows; the others wait on."""
        assert self.batch is not None
        batch, levels = self.batch, self.levels
        if count == batch.num_rows:
            self.batch, self.levels = None, levels[:0]
        else:
            self.batch, self.levels = batch.slice(count, batch.num_rows), levels[count:]
        return batch.slice(0, count), levels[:count]

    @property
    def watermark(self) -> int:
        """The watermark this input stands for: before its first waiting row, else as far as it has come."""
        if self.batch is not None:
            return int(self.batch.row_watermarks()[0])
        return END_OF_TIME if self.ended else self.floor


class InStepMerge:
    """Merges ``inputs`` inputs (see the module).  ``delay_ns``: the greatest watermark delay among them."""

    def __init__(self, inputs: int, delay_ns: int) -> None:
        self._inputs = [_Input() for _ in range(inputs)]
        self._delay_ns = delay_ns

    @property
    def wanted(self) -> int | None:
        """The input that is behind: the next message must be taken from it.  None when all have ended."""
        open_inputs = [(one.floor, number) for number, one in enumerate(self._inputs) if not one.ended]
        return min(open_inputs)[1] if open_inputs else None

    @property
    def watermark(self) -> int:
        return min(one.watermark for one in self._inputs)

    @property
    def ports(self) -> list[Port]:
        """How far each input has come."""
        return [
            Port(one.floor, ended=one.ended, rows=0 if one.batch is None else one.batch.num_rows)
            for one in self._inputs
        ]

    def feed_batch(self, number: int, batch: Batch) -> Batch | None:
        """Takes a batch of the wanted input; gives the rows that are now known to be next, if any."""
        if batch.num_rows == 0:
            return None
        self._inputs[number].hold(batch)
        return self._release()

    def feed_watermark(self, number: int, time_ns: int) -> Batch | None:
        self._inputs[number].floor = max(self._inputs[number].floor, time_ns)
        return self._release()

    def feed_end(self, number: int) -> Batch | None:
        self._inputs[number].ended = True
        return self._release()

    def _release(self) -> Batch | None:
        parts, levels = [], []
        counts = [self._known(number) for number in range(len(self._inputs))]
        for one, count in zip(self._inputs, counts, strict=True):
            if count:
                part, part_levels = one.release(count)
                parts.append(part)
                levels.append(part_levels)
        if not parts:
            return None
        merged = concat_batches(parts)
        if len(parts) > 1:
            merged = merged.take(np.argsort(np.concatenate(levels), kind="stable"))
        return replace(merged, watermarks=merged.row_watermarks(), delay_ns=self._delay_ns)

    def _known(self, number: int) -> int:
        """How many waiting rows of this input no row still to come can precede."""
        one = self._inputs[number]
        if one.batch is None:
            return 0
        count = one.batch.num_rows
        for other_number, other in enumerate(self._inputs):
            if other is one or other.ended:
                continue
            # Of rows at the same level, those of the input that is named first come first.
            last = other.floor if number < other_number else other.floor - 1
            count = min(count, int(np.searchsorted(one.levels, last, "right")) if last >= NO_TIME else 0)
        return count
