"""Status of a table's inputs: how far each has come, and rows waiting in the table's channels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from asyncflow.model.batch import NO_TIME
from asyncflow.operators.contract import Port
from asyncflow.runtime.edges.channel import Channel

if TYPE_CHECKING:
    from asyncflow.runtime.base.status import InputStatus


class Tracker(Protocol):
    """The reader of a table, which knows how far each port has come.  ``wanted``: the only port that is taken from now, None: any."""

    @property
    def ports(self) -> Sequence[Port]: ...

    @property
    def wanted(self) -> int | None: ...


class Inputs:
    """``names``: of the tables and side outputs that are read, ``channels``: the channel and port of each."""

    def __init__(
        self,
        names: Sequence[str],
        channels: Sequence[tuple[Channel, int]],
        tracker: Tracker,
        *,
        in_step: bool,
    ) -> None:
        self.names, self._channels, self._tracker, self._in_step = tuple(names), channels, tracker, in_step

    @property
    def in_step(self) -> bool:
        """The one that is behind in event time is waited for, quiet or not."""
        return self._in_step

    @property
    def awaited(self) -> bool:
        """The table waits for a message."""
        return any(channel.awaited for channel, _ in self._channels)

    @property
    def wanted(self) -> str | None:
        """The only input that is taken from now."""
        wanted = self._tracker.wanted
        return None if wanted is None else self.names[wanted]

    def status(self) -> tuple[InputStatus, ...]:
        from asyncflow.runtime.base.status import InputStatus  # when somebody asks

        return tuple(
            InputStatus(
                name=name,
                state="ended" if port.ended else "quiet" if port.quiet else "counts",
                watermark_ns=None if port.watermark_ns == NO_TIME else port.watermark_ns,
                waiting_rows=channel.waiting_rows(number) + port.rows,
                waiting=channel.holds(number),
            )
            for name, (channel, number), port in zip(
                self.names, self._channels, self._tracker.ports, strict=True
            )
        )
