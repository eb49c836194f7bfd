"""The watermark of a table that reads several inputs as they come: the lowest among those that count.

An input that has ended does not count, nor does an idle one (``Watermark.idle``) until its next watermark.  If all open inputs are idle,
the highest of their watermarks is used, so it makes no difference which timer was first.  The watermark never falls: rows of an input that
was idle are late by the watermark that was reached without it.
"""

from __future__ import annotations

import numpy as np
from msgspec.structs import replace

from asyncflow.model.batch import NO_TIME, Batch
from asyncflow.model.messages import Watermark
from asyncflow.model.snapshot import Copied, Frozen, Saved
from asyncflow.operators.contract import Port


class LowestWatermark:
    """``time_ns``: the watermark now; ``idle``: no open input counts; ``ended``: no input is open."""

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

    def is_open(self, port: int) -> bool:
        return port in self._open

    @property
    def behind(self) -> int:
        """The open input with the lowest watermark, idle or not."""
        return min(self._open, key=lambda port: (self._times[port], port))

    def on_watermark(self, port: int, watermark: Watermark) -> Watermark | None:
        """An input's watermark; gives the watermark of all where that is news."""
        self._times[port] = max(self._times[port], watermark.time_ns)
        self._quiet[port] = watermark.idle
        return self._news()

    def on_end(self, port: int) -> Watermark | None:
        """An input has ended; gives the watermark of all where that is news."""
        self._open.discard(port)
        return self._news()

    def with_watermarks(self, port: int, batch: Batch) -> Batch:
        """The batch with row watermarks of at least ``time_ns``, which may be beyond that of an input that was idle."""
        if self._times[port] >= self.time_ns or batch.time is None:
            return batch
        return replace(batch, watermarks=np.maximum(batch.row_watermarks(), self.time_ns))

    def freeze(self) -> Frozen:
        return Copied(
            {
                "time_ns": self.time_ns,
                "idle": self.idle,
                "times": list(self._times),
                "quiet": list(self._quiet),
                "open": [*sorted(self._open)],
            }
        )

    def restore(self, saved: Saved) -> None:
        """Raises ValueError where the state is of another number of inputs."""
        times, idle, still_open = saved.integers("times"), saved.flags("quiet"), saved.integers("open")
        if len(times) != len(self._times) or len(idle) != len(times) or not self._open.issuperset(still_open):
            raise ValueError("times, quiet, open: of another number of inputs")
        self.time_ns, self.idle = saved.integer("time_ns"), saved.flag("idle")
        self._times, self._quiet, self._open = times, idle, set(still_open)

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
