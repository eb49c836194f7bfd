"""The watermark of a table that reads several inputs as they come: the lowest among those that count.

An input that ended does not count, nor does one that is quiet (``Watermark.idle``) until it speaks again.  Where all that have not
ended are quiet, the furthest of them stands, as if they had fallen silent one after the other: which timer was first makes no
difference.  The watermark never falls: what a quiet input says when it speaks again is judged by the watermark reached without it.
"""

from __future__ import annotations

import numpy as np
from msgspec.structs import replace

from asyncflow.model.batch import NO_TIME, Batch
from asyncflow.model.messages import Watermark
from asyncflow.operators.contract import Port


class LowestWatermark:
    """``time_ns``: the watermark now; ``idle``: no input that has not ended counts; ``ended``: all have."""

    wanted: int | None = None
    """The input that is read now; None: whatever comes first is taken, of any."""

    def __init__(self, inputs: int) -> None:
        self.time_ns = NO_TIME
        self.idle = False
        self._times = [NO_TIME] * inputs
        self._quiet = [False] * inputs
        self._open = set(range(inputs))

    @property
    def ended(self) -> bool:
        return not self._open

    @property
    def ports(self) -> list[Port]:
        """How far each input has come."""
        return [
            Port(time_ns, quiet, port not in self._open)
            for port, (time_ns, quiet) in enumerate(zip(self._times, self._quiet, strict=True))
        ]

    def feed(self, port: int, watermark: Watermark) -> Watermark | None:
        """One input's watermark; gives what it comes to for all, where that is news."""
        self._times[port] = max(self._times[port], watermark.time_ns)
        self._quiet[port] = watermark.idle
        return self._news()

    def feed_end(self, port: int) -> Watermark | None:
        """One input has ended."""
        self._open.discard(port)
        return self._news()

    def judged(self, port: int, batch: Batch) -> Batch:
        """The batch with rows that are judged by the watermark reached: it may be beyond that of an input that was quiet."""
        if self._times[port] >= self.time_ns or batch.time is None:
            return batch
        return replace(batch, watermarks=np.maximum(batch.row_watermarks(), self.time_ns))

    def _news(self) -> Watermark | None:
        if not self._open:
            return None
        counting = [self._times[port] for port in self._open if not self._quiet[port]]
        idle = not counting
        reached = min(counting) if counting else max(self._times[port] for port in self._open)
        if reached <= self.time_ns and idle == self.idle:
            return None
        self.time_ns, self.idle = max(self.time_ns, reached), idle
        return Watermark(self.time_ns, idle)
