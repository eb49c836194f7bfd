"""Readers of several inputs: in which order a table takes their messages, and what it knows of each input meanwhile.

A reader owns the table's channel.  It gives ``(port, message)`` pairs: rows with the port that they came by, and for all inputs together
(``ALL``) their common watermark and the barrier.  A table that reads one kind of rows sees one ``End``, for all inputs; a table with two
different inputs (``apart``) sees the end of each.

- :class:`AsTheyCome`: oldest first, for inputs that may never end; with ``in_step`` the input that is behind in event time first.
- :class:`Merged`: the rows of bounded inputs merged in step with event time (``operators.merge``).
- :class:`OneAfterOther`: each bounded input to its end before the next.

What a reader has taken and not given yet is part of the table's state at a barrier (``freeze``), so nothing is kept in the coroutine.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from asyncflow.errors import StageError
from asyncflow.model.batch import END_OF_TIME, NO_TIME, Batch
from asyncflow.model.durations import format_size
from asyncflow.model.messages import Barrier, End, Message, Watermark
from asyncflow.model.snapshot import Frozen, Plain, Saved, nested
from asyncflow.operators.contract import Port
from asyncflow.runtime.base.memory import Account
from asyncflow.runtime.edges.channel import ALL, Channel, Messages, Reader
from asyncflow.runtime.stages.watermarks import LowestWatermark

if TYPE_CHECKING:
    from asyncflow.operators.merge import InStepMerge

MAX_HELD_BYTES = 1 << 30
"""What may be held of an input that is ahead of another, where both read the same source."""


class AsTheyCome(Reader):
    """Oldest first.  ``in_step``: the input that is behind in event time first, idle or not (bounded inputs only).
    ``apart``: the end of each input is given."""

    def __init__(self, channel: Channel, inputs: int, *, in_step: bool = False, apart: bool = False) -> None:
        self._channel, self._in_step, self._apart = channel, in_step, apart
        self._lowest = LowestWatermark(inputs)

    async def messages(self) -> Messages:
        channel, lowest = self._channel, self._lowest
        while not lowest.ended:
            port, message = await (
                channel.receive_preferring(lowest.behind) if self._in_step else channel.receive()
            )
            if isinstance(message, Batch):
                yield port, lowest.with_watermarks(port, message)
                continue
            if isinstance(message, Barrier):
                yield ALL, message
                continue
            for news in _passed_on(lowest, port, message, apart=self._apart):
                yield news
        if not self._apart:
            yield ALL, End()

    @property
    def ports(self) -> list[Port]:
        return self._lowest.ports

    @property
    def wanted(self) -> int | None:
        return None

    def freeze(self) -> Frozen:
        return nested({}, {"watermarks": self._lowest.freeze()})

    def restore(self, saved: Saved) -> None:
        self._lowest.restore(saved.within("watermarks"))
        _close_ended(self._channel, self.ports)


class Merged(Reader):
    """The rows of the inputs called ``names``, merged in step with event time (bounded inputs only).  ``account``: the rows that wait."""

    def __init__(self, channel: Channel, merge: InStepMerge, names: Sequence[str], account: Account) -> None:
        self._channel, self._merge, self._names, self._account = channel, merge, names, account
        self._told = NO_TIME

    async def messages(self) -> Messages:
        merge = self._merge
        while (wanted := merge.wanted) is not None:
            port, message = await self._channel.receive_preferring(wanted)
            if isinstance(message, Batch):
                released = merge.feed_batch(port, message)
            elif isinstance(message, Watermark):
                released = merge.feed_watermark(port, message.time_ns)
            elif isinstance(message, Barrier):
                yield ALL, message
                continue
            else:
                released = merge.feed_end(port)
            for rows in released:
                yield port, rows
                if (news := self._news()) is not None:
                    yield ALL, news
            if (news := self._news()) is not None:
                yield ALL, news
            self._account.resize(merge.all_held_bytes)
            if port != wanted:
                check_held(merge.held_bytes(port), self._names[port], self._names[wanted])
        yield ALL, End()

    def _news(self) -> Watermark | None:
        if not self._told < self._merge.watermark < END_OF_TIME:
            return None
        self._told = self._merge.watermark
        return Watermark(self._told)

    @property
    def ports(self) -> list[Port]:
        return self._merge.ports

    @property
    def wanted(self) -> int | None:
        return self._merge.wanted

    def freeze(self) -> Frozen:
        return nested({"told": self._told}, {"merge": self._merge.freeze()})

    def restore(self, saved: Saved) -> None:
        self._told = saved.integer("told")
        self._merge.restore(saved.within("merge"))
        self._account.resize(self._merge.all_held_bytes)
        _close_ended(self._channel, self.ports)


class OneAfterOther(Reader):
    """The inputs called ``names`` in the ``order`` of their ports, each to its end (bounded but for the last one).

    A message of a later input that has to be taken before, because both read the same source, is held: of each input at most
    ``max_held_bytes``; ``account`` has them.  ``apart``: as of :class:`AsTheyCome`; then the table is a lookup, which no barrier can pass
    before the first input has ended.
    """

    def __init__(
        self,
        channel: Channel,
        names: Sequence[str],
        order: Sequence[int],
        account: Account,
        *,
        max_held_bytes: int | None = None,
        apart: bool = False,
    ) -> None:
        self._channel, self._names, self._account, self._apart = channel, names, account, apart
        self._order = tuple(order)
        self._max_held_bytes = max_held_bytes
        self._lowest = LowestWatermark(len(names))
        self._held: list[deque[Message]] = [deque() for _ in names]
        self._held_bytes = [0] * len(names)

    async def messages(self) -> Messages:
        lowest = self._lowest
        while (wanted := self.wanted) is not None:
            if held := self._held[wanted]:
                port, message = wanted, held.popleft()
                self._release(port, message)
            else:
                port, message = await self._channel.receive_preferring(wanted)
            if isinstance(message, Barrier):
                yield ALL, message
            elif port != wanted:
                self._hold(port, message, wanted)
            elif isinstance(message, Batch):
                yield port, lowest.with_watermarks(port, message)
            else:
                for news in _passed_on(lowest, port, message, apart=self._apart):
                    yield news
        if not self._apart:
            yield ALL, End()

    def _hold(self, port: int, message: Message, wanted: int) -> None:
        if isinstance(message, Batch):
            message = message.compact()
            self._held_bytes[port] += message.nbytes
            check_held(self._held_bytes[port], self._names[port], self._names[wanted], self._max_held_bytes)
            self._account.resize(sum(self._held_bytes))
        self._held[port].append(message)

    def _release(self, port: int, message: Message) -> None:
        if isinstance(message, Batch):
            self._held_bytes[port] -= message.nbytes
            self._account.resize(sum(self._held_bytes))

    @property
    def ready(self) -> bool:  # type: ignore[override]
        return not self._apart or not self._lowest.is_open(self._order[0])

    @property
    def ports(self) -> list[Port]:
        return self._lowest.ports

    @property
    def wanted(self) -> int | None:
        return next((port for port in self._order if self._lowest.is_open(port)), None)

    def freeze(self) -> Frozen:
        from asyncflow.runtime.stages.saved_messages import freeze_messages

        held = {str(port): freeze_messages(messages) for port, messages in enumerate(self._held)}
        closed: list[Plain] = list(self._channel.ended_ports)
        return nested({"closed": closed}, {"watermarks": self._lowest.freeze(), **held})

    def restore(self, saved: Saved) -> None:
        from asyncflow.runtime.stages.saved_messages import saved_messages

        self._lowest.restore(saved.within("watermarks"))
        for port, held in enumerate(self._held):
            held += saved_messages(saved.within(str(port)))
            self._held_bytes[port] = sum(each.nbytes for each in held if isinstance(each, Batch))
        self._account.resize(sum(self._held_bytes))
        for port in saved.integers("closed"):
            self._channel.close_port(port)


def _passed_on(
    lowest: LowestWatermark, port: int, message: Watermark | End, *, apart: bool
) -> Iterator[tuple[int, Message]]:
    """What a watermark or an end of one input means for the table; ``apart``: the end of each input is given."""
    if isinstance(message, Watermark):
        news = lowest.on_watermark(port, message)
    else:
        news = lowest.on_end(port)
        if apart:
            yield port, message
    if news is not None:
        yield ALL, news


def _close_ended(channel: Channel, ports: Sequence[Port]) -> None:
    for number, port in enumerate(ports):
        if port.ended:
            channel.close_port(number)


def check_held(held_bytes: int, name: str, behind: str, max_bytes: int | None = None) -> None:
    """StageError where rows of one input that wait for another take more than ``max_bytes``, or ``MAX_HELD_BYTES``."""
    limit = MAX_HELD_BYTES if max_bytes is None else max_bytes
    if held_bytes > limit:
        rather = "" if max_bytes is None else "raise max_state, or "
        raise StageError(
            f"it holds {format_size(held_bytes)} of rows of {name!r} that wait for {behind!r}, more than {format_size(limit)}: "
            f"both inputs read the same source; {rather}declare the source twice, once for each input"
        )
