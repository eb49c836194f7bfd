"""Where a table's rows go: to every channel that reads the table, or to nobody (then they are only counted)."""

from __future__ import annotations

from asyncflow.model.messages import Message
from asyncflow.runtime.channel import Channel


class Outlet:
    """The way out of a table or side output.  ``used`` is False where nobody reads it."""

    def __init__(self) -> None:
        self._targets: list[tuple[Channel, int]] = []

    def connect(self, channel: Channel, port: int) -> None:
        self._targets.append((channel, port))

    @property
    def used(self) -> bool:
        return bool(self._targets)

    async def send(self, message: Message) -> None:
        """To all readers in turn; waits for the slowest."""
        for channel, port in self._targets:
            await channel.send(port, message)
