"""What every operator is: a synchronous core, batches in, batches out.  No asyncio, no plan, no clock.

An operator owns its state and nobody else touches it.  The runtime calls ``process`` for each batch in order, ``advance``
when the stage's watermark has risen, and ``finish`` once at the end of input; each gives back what is to go on, in order.  What comes back
is taken whole before the next call: it may be made as it is taken, so that a great result is never held whole.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import NamedTuple

from msgspec import Struct

from asyncflow.model.batch import Batch
from asyncflow.model.schema import Schema


class Output(Struct, frozen=True, eq=False):
    """A batch that leaves an operator: by the main way (``kind == ""``) or a side output (``"late"``)."""

    batch: Batch
    kind: str = ""


class Port(NamedTuple):
    """How far the reader of an input has come: its watermark, whether it is quiet or has ended, and rows of it that are put back."""

    watermark_ns: int
    quiet: bool = False
    ended: bool = False
    rows: int = 0


class Operator(ABC):
    """``counts`` is the operator's part of the ledger: rows by every way they can leave; it only grows.

    For rows in = rows out + ways of leaving, an operator that keeps or merges rows says so here too (see each operator).
    """

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}

    @abstractmethod
    def process(self, batch: Batch) -> Iterable[Output]:
        """Takes one batch; its rows' own watermarks travel with it."""

    def advance(self, watermark_ns: int) -> Iterable[Output]:
        """The stage's watermark is now ``watermark_ns`` (it never falls)."""
        return []

    def finish(self) -> Iterable[Output]:
        """End of input: gives up whatever is still held."""
        return []

    @property
    def held_ns(self) -> int:
        """How much later than their time rows may leave: those that read them go by a watermark that is this much lower."""
        return 0

    @property
    def next_due_ns(self) -> int | None:
        """The watermark at which something that is held comes out next; None where nothing waits for one."""
        return None

    @property
    def waiting_rows(self) -> int | None:
        """Rows that are held, or are part of what is, where that is known."""
        return None

    @property
    def state_bytes(self) -> int:
        """Bytes of state held now, about."""
        return 0


class TwoInputOperator(ABC):
    """An operator over two inputs of different columns; ``port`` 0 is the left one, 1 the right one.

    The runtime calls ``process`` for the batches of each port in the port's own order, ``advance`` when the lower of the watermarks that
    count has risen, and ``finish`` once for each port; what comes back is taken whole before the next call.  The ports may be interleaved
    in any way: the outputs, taken together, must be the same.
    """

    output: Schema

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}

    @abstractmethod
    def process(self, port: int, batch: Batch) -> Iterable[Output]:
        """Takes one batch of one input; its rows' own watermarks travel with it."""

    @abstractmethod
    def advance(self, watermark_ns: int) -> Iterable[Output]:
        """The stage's watermark is now ``watermark_ns`` (it never falls)."""

    @abstractmethod
    def finish(self, port: int) -> Iterable[Output]:
        """One input has ended."""

    @property
    @abstractmethod
    def watermark(self) -> int:
        """The watermark of what comes out: no row still to come has a time below it."""

    @property
    def held_ns(self) -> int:
        """How much lower than the stage's the watermark of what comes out is."""
        return 0

    @property
    def next_due_ns(self) -> int | None:
        """As of :class:`Operator`."""
        return None

    @property
    @abstractmethod
    def waiting_rows(self) -> tuple[int, int]:
        """Rows of the left and the right side that are held."""

    @property
    def state_bytes(self) -> int:
        """Bytes of state held now, about."""
        return 0
