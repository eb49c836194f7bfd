"""Messages between stages, in order and in band: ``Batch``, ``Watermark``, ``Barrier``, ``End``."""

from __future__ import annotations

from typing import TypeAlias

from msgspec import Struct

from asyncflow.model.batch import Batch


class Watermark(Struct, frozen=True):
    """No row with an event time below ``time_ns`` is expected any more.  ``time_ns`` never falls along one edge.

    ``idle``: the input has no rows now, and readers of several inputs leave it out of their watermark.  The input's next watermark, which
    comes before its next row, ends the idleness.
    """

    time_ns: int
    idle: bool = False


class Barrier(Struct, frozen=True):
    """A cut through the stream: messages before the barrier belong to snapshot ``epoch``, messages after it do not.

    A table that reads several inputs takes nothing more from an input that has delivered the barrier until all open inputs have; then it
    freezes its state and sends the barrier on.
    """

    epoch: int


class End(Struct, frozen=True):
    """The last message.  A stage treats it as a watermark at the end of time."""


Message: TypeAlias = Batch | Watermark | Barrier | End
