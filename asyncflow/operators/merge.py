"""Merge of several inputs in step with event time: rows of the input that is behind come first.

Every row has a *level*: its own input's watermark once the row is counted.  Levels never fall along an input, so merging rows by
(level, input number) is a total order that depends on the data alone: however the inputs were cut into batches and whichever arrived
first, the merged rows come out in the same order.  As long as the reader feeds only the wanted input, at most one batch per input waits.
A reader may feed another input, whose rows are then held until their turn.

Levels order rows and nothing else: where a table holds its watermark back (a join), the level of a row lies beyond the watermark before
the next row.  The merged watermark therefore rises with the watermarks of the inputs, and, where the watermarks that an input's rows
carry never fall, with these.

Used where all inputs are bounded.  Inputs that never end are taken as they come: waiting for an idle input would stop the others.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Container, Iterator

import numpy as np
from msgspec.structs import replace

from asyncflow.model.batch import END_OF_TIME, NO_TIME, Batch, concat_batches
from asyncflow.model.columns import Int64Array
from asyncflow.model.saved_batches import frozen_batches, restored_batches
from asyncflow.model.snapshot import Copied, Frozen, Saved, nested
from asyncflow.operators.contract import Port


class _Input:
    """One input: the batches that wait, with the levels of their rows and the watermark before each batch.

    ``floor``: the least level that a row still to come can have; ``said``: the least watermark before such a row.
    """

    def __init__(self, *, rising: bool) -> None:
        self.waiting: deque[tuple[Batch, Int64Array, int]] = deque()
        self.floor = NO_TIME
        self.said = NO_TIME
        self.ended = False
        self.held_bytes = 0
        self._rising = rising

    def hold(self, batch: Batch) -> None:
        if self.waiting:  # it may be for long
            batch = batch.compact()
        assert batch.time is not None
        lowest = NO_TIME + batch.delay_ns
        own = np.maximum(batch.time, lowest) - batch.delay_ns
        marks = batch.row_watermarks()
        levels = np.maximum(np.maximum.accumulate(np.maximum(marks, own)), self.floor)
        self.waiting.append((batch, levels, self._before(marks, self.said)))
        self.floor = int(levels[-1])
        if self._rising:
            self.said = max(self.said, int(marks[-1]))
        self.held_bytes += _size(batch)

    def release(self, count: int) -> tuple[Batch, Int64Array]:
        """The first ``count`` rows of the first waiting batch; the others wait on."""
        batch, levels, said = self.waiting.popleft()
        self.held_bytes -= _size(batch)
        if count < batch.num_rows:
            rest = batch.slice(count, batch.num_rows)
            self.waiting.appendleft((rest, levels[count:], self._before(rest.row_watermarks(), said)))
            self.held_bytes += _size(rest)
        return batch.slice(0, count), levels[:count]

    def rise(self, time_ns: int) -> None:
        """The input's own watermark: no row to come has less before it."""
        self.said = max(self.said, time_ns)
        self.floor = max(self.floor, time_ns)

    @property
    def reach(self) -> int | None:
        """The least level of any row after the first waiting batch; None where there can be none."""
        if len(self.waiting) > 1:
            return int(self.waiting[0][1][-1])
        return None if self.ended else self.floor

    @property
    def watermark(self) -> int:
        """The watermark this input stands for: no row that waits or is yet to come has less before it."""
        if self.waiting:
            return self.waiting[0][2]
        return END_OF_TIME if self.ended else self.said

    def freeze(self) -> Frozen:
        fields = {"floor_ns": self.floor, "said_ns": self.said, "ended": self.ended}
        none = np.empty(0, np.int64)
        levels = np.concatenate([none, *(levels for _, levels, _ in self.waiting)])
        said = np.array([said for *_, said in self.waiting], np.int64)
        return nested(
            fields,
            {
                "waiting": frozen_batches([batch for batch, *_ in self.waiting]),
                "of_rows": Copied({}, {"levels": levels}),
                "of_batches": Copied({}, {"said": said}),
            },
        )

    def restore(self, saved: Saved) -> None:
        self.floor = saved.integer("floor_ns", NO_TIME, END_OF_TIME)
        self.said = saved.integer("said_ns", NO_TIME, END_OF_TIME)
        self.ended = saved.flag("ended")
        batches = restored_batches(saved.within("waiting"))
        if any(batch.time is None or not batch.num_rows for batch in batches):
            raise ValueError("waiting: batches that wait have rows with times")
        rows = sum(batch.num_rows for batch in batches)
        levels = saved.within("of_rows").array("levels", np.int64, rows)
        said = saved.within("of_batches").array("said", np.int64, len(batches)).tolist()
        if (levels[1:] < levels[:-1]).any():
            raise ValueError("of_rows.levels: levels fall")
        begin = 0
        for batch, known in zip(batches, said, strict=True):
            self.waiting.append((batch, levels[begin : begin + batch.num_rows], known))
            self.held_bytes += _size(batch)
            begin += batch.num_rows

    def _before(self, marks: Int64Array, said: int) -> int:
        """What holds before rows with these watermarks, where the input had said that much."""
        return max(said, int(marks[0])) if self._rising else said


class InStepMerge:
    """Merges ``inputs`` inputs (see the module).  ``delay_ns``: the greatest watermark delay among them; ``rising``: the numbers of those
    whose rows carry watermarks that never fall.

    What ``feed_batch``, ``feed_watermark`` and ``feed_end`` give must be taken to its end before the next call.
    """

    def __init__(self, inputs: int, delay_ns: int, rising: Container[int] = ()) -> None:
        self._inputs = [_Input(rising=number in rising) for number in range(inputs)]
        self._delay_ns = delay_ns

    def freeze(self) -> Frozen:
        """The state as of now: of each input how far it has come, and its batches that wait."""
        states = {str(number): one.freeze() for number, one in enumerate(self._inputs)}
        return nested({"inputs": len(self._inputs)}, states)

    def restore(self, saved: Saved) -> None:
        """Takes over the state of a merge of the same inputs, before the first message.  ValueError names the field that does not fit."""
        if saved.integer("inputs") != len(self._inputs):
            raise ValueError(f"inputs: {saved.integer('inputs')} were saved, {len(self._inputs)} are wanted")
        for number, one in enumerate(self._inputs):
            one.restore(saved.within(str(number)))

    @property
    def wanted(self) -> int | None:
        """The input that is behind, which the next message is best taken from.  None when all have ended."""
        open_inputs = [(one.floor, number) for number, one in enumerate(self._inputs) if not one.ended]
        return min(open_inputs)[1] if open_inputs else None

    @property
    def watermark(self) -> int:
        return min(one.watermark for one in self._inputs)

    @property
    def ports(self) -> list[Port]:
        """How far each input has come."""
        return [
            Port(one.floor, ended=one.ended, rows=sum(batch.num_rows for batch, *_ in one.waiting))
            for one in self._inputs
        ]

    def held_bytes(self, number: int) -> int:
        """Bytes of an input's rows that wait."""
        return self._inputs[number].held_bytes

    @property
    def all_held_bytes(self) -> int:
        """Of all inputs together."""
        return sum(one.held_bytes for one in self._inputs)

    def feed_batch(self, number: int, batch: Batch) -> Iterator[Batch]:
        """Takes a batch of an input; gives the rows that are now known to be next."""
        if batch.num_rows:
            self._inputs[number].hold(batch)
        return self._released()

    def feed_watermark(self, number: int, time_ns: int) -> Iterator[Batch]:
        self._inputs[number].rise(time_ns)
        return self._released()

    def feed_end(self, number: int) -> Iterator[Batch]:
        self._inputs[number].ended = True
        return self._released()

    def _released(self) -> Iterator[Batch]:
        while (rows := self._release()) is not None:
            yield rows

    def _release(self) -> Batch | None:
        """Rows that are next, of the first waiting batch of each input; None where there are none."""
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
        """How many rows of this input's first waiting batch no row can precede that is yet to come, or waits behind a first batch."""
        one = self._inputs[number]
        if not one.waiting:
            return 0
        batch, levels, _ = one.waiting[0]
        count = batch.num_rows
        for other_number, other in enumerate(self._inputs):
            if other is one or (reach := other.reach) is None:
                continue
            # Of rows at the same level, those of the input that is named first come first.
            last = reach if number < other_number else reach - 1
            count = min(count, int(np.searchsorted(levels, last, "right")) if last >= NO_TIME else 0)
        return count


def _size(batch: Batch) -> int:
    """With the level of each row."""
    return batch.nbytes + 8 * batch.num_rows
