"""What travels between stages, in order and in band: ``Batch``, ``Watermark``, ``Barrier``, ``End``."""

from __future__ import annotations

from typing import TypeAlias

from msgspec import Struct

from asyncflow.model.batch import Batch


class Watermark(Struct, frozen=True):
    """No row with an event time below ``time_ns`` is expected any more.  Never falls along one edge.

    ``idle``: the input is quiet from here on and holds nobody's watermark back; its next watermark, which comes before its next row, ends
    that.
    """

    time_ns: int
    idle: bool = False


class Barrier(Struct, frozen=True):
    """A cut through the stream: what came before belongs to snapshot ``epoch``, what follows does not.

    A table that reads several inputs takes nothing more from an input that has delivered the barrier until all open inputs have; then it
    freezes its state and sends the barrier on.
    """

    epoch: int


class End(Struct, frozen=True):
    """Nothing follows.  A stage treats it as the watermark reaching the end of time."""


Message: TypeAlias = Batch | Watermark | Barrier | End
