"""Fan-out: sends each message of a table to every channel that reads the table; without readers the rows are only counted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from asyncflow.model.batch import Batch
from asyncflow.model.messages import End, Message
from asyncflow.runtime.edges.channel import Channel


class FanOut:
    """The way out of a table or side output.  ``used`` is False where nobody reads it; ``ended``: nothing comes any more.

    Its messages are in order, so one coroutine sends at a time.  ``several``: many may, in any order among them (a source's clients).
    """

    def __init__(self, *, several: bool = False) -> None:
        self.ended = False
        self._several = several
        self._sending = False
        self._targets: list[tuple[Channel, int, Sequence[str] | None]] = []

    def connect(self, channel: Channel, port: int, columns: Sequence[str] | None = None) -> None:
        """``columns``: those that this reader gets; None: all."""
        self._targets.append((channel, port, columns))

    @property
    def used(self) -> bool:
        return bool(self._targets)

    @property
    def readers(self) -> int:
        """How many channels read it."""
        return len(self._targets)

    @property
    def blocked_by(self) -> tuple[str, ...]:
        """The tables whose channel has no room for what is being sent."""
        return tuple(channel.reader for channel, port, _ in self._targets if channel.blocked(port))

    async def send(self, message: Message) -> None:
        """To all readers in turn; waits for the slowest."""
        assert self._several or not self._sending, "two senders where the order counts"
        self._sending = True
        try:
            for channel, port, columns in self._targets:
                if columns is not None and isinstance(message, Batch):
                    await channel.send(port, message.select(columns))
                else:
                    await channel.send(port, message)
        finally:
            self._sending = False


async def end(outlets: Iterable[FanOut]) -> None:
    """Ends all ways out of a table."""
    for outlet in outlets:
        outlet.ended = True
        await outlet.send(End())
