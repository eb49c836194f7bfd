"""Alignment of a barrier over the ports of one reader: who has delivered it, and whether all open ports have.

A port that has delivered the barrier is held: nothing more is taken from it until every open port has delivered it too, or has ended.  A
writer sends the barrier to all of its readers before anything that follows it, so whoever is waited for still works on what came before the
barrier, and a held port holds up nobody who is waited for.
"""

from __future__ import annotations

from asyncflow.model.messages import Barrier


class Aligner:
    """``held``: the ports that have delivered ``barrier``; both empty while no barrier is on its way through the reader."""

    def __init__(self, ports: int) -> None:
        self.barrier: Barrier | None = None
        self.held: set[int] = set()
        self.open = set(range(ports))

    @property
    def under_way(self) -> bool:
        """A port has delivered a barrier, and the reader has not got it yet."""
        return bool(self.held)

    @property
    def complete(self) -> bool:
        """Every open port has delivered the barrier."""
        return self.barrier is not None and self.open <= self.held

    def arrived(self, port: int, barrier: Barrier) -> None:
        """The port has delivered the barrier of an epoch; there is one epoch at a time."""
        assert self.barrier in (None, barrier), "a second epoch before the first has passed"
        assert port in self.open and port not in self.held, "a barrier behind an end, or delivered twice"
        self.barrier = barrier
        self.held.add(port)

    def ended(self, port: int) -> None:
        """Nothing more comes from the port: it counts as aligned."""
        self.open.discard(port)

    def release(self) -> Barrier:
        """The complete barrier; its ports may be taken from again."""
        assert self.barrier is not None and self.complete
        barrier, self.barrier = self.barrier, None
        self.held.clear()
        return barrier
