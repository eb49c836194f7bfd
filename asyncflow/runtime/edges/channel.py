"""Channels between tables, and the fan-out of a table to the channels of its readers.

A channel has messages in order, bounded in bytes, one reader, and one or more writers.  :class:`FanOut` sends each message of a
table to every channel that reads the table; without readers the rows are only counted.  A :class:`Reader` gives a table the messages of
its channel: of one input as they are (:class:`OneInput`), of several in an order (``stages.readers``).

A stage owns one channel; each table that it reads writes to a *port* of its own.  Every port is bounded by itself, so an input that
runs ahead is held back while the others go on: that is the backpressure, and it reaches the socket.  A table may write to its port from
several coroutines (a source's clients do, to ``rejected``): they wait for room in a queue, and the oldest goes first.

The reader may take a preferred port first; on a deadlock it takes any blocked port (``deadlock``).  Barriers are aligned here
(``aligner``): the reader gets one ``Barrier`` for all ports, once every open port has delivered it.  Until then the ports that have
delivered the barrier are held, and no port is preferred.

Contract.  ``send`` waits while its port holds ``max_bytes`` or more (one message may exceed the bound, so a batch of any size passes);
where the run has come to the bound of its memory, while its port holds anything.
A cancelled ``send`` sent nothing; a cancelled ``receive`` took nothing.  Order is kept per port, and over all ports for ``receive``.

Invariants.  A port with room has woken its oldest waiting writer (one that waits for the run's memory: at the latest where the port is
empty): whoever makes room, and whoever leaves the queue (sent or cancelled), wakes the next.  Nobody overtakes a writer that waits.
There is one reader.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import TypeAlias

from msgspec.structs import replace

from asyncflow.model.batch import NO_TIME, Batch
from asyncflow.model.messages import Barrier, End, Message, Watermark
from asyncflow.model.snapshot import Copied, Frozen, Saved
from asyncflow.operators.contract import Port
from asyncflow.runtime.base.memory import Account, Memory
from asyncflow.runtime.edges.aligner import Aligner

CHANNEL_BYTES = 4 << 20
"""Bound of a channel, per input: about two full batches."""
MESSAGE_BYTES = 64
"""What a message without rows counts for."""
ALL = -1
"""In place of a port: the message stands for all inputs."""

Messages: TypeAlias = AsyncIterator[tuple[int, Message]]


class Channel:
    """See the module.  ``ports``: how many writers; ``max_bytes``: bound per port, in bytes of batches; ``reader``: the table that takes
    them; ``memory``: of the run, where what is in the channel counts."""

    def __init__(self, ports: int, max_bytes: int, reader: str = "", memory: Memory | None = None) -> None:
        self.reader = reader
        self._memory = memory or Memory()
        self.account: Account = self._memory.account(reader, "rows on their way to it", flows=True)
        self._queue: deque[tuple[int, Message, int]] = deque()
        self._used = [0] * ports
        self._max_bytes = max_bytes
        self._waiting: list[deque[asyncio.Future[None]]] = [deque() for _ in range(ports)]
        self._arrival: asyncio.Future[None] | None = None
        self._aligner = Aligner(ports)
        self._wanted: int | None = None
        self._gives_way = False
        self.on_wait: Callable[[], None] | None = None
        """Called when the reader or a writer begins to wait; None where nobody else can tell who waits for whom."""
        self.moves = 0
        """How often a message was put in or taken out."""

    async def send(self, port: int, message: Message) -> None:
        """Puts a message in; waits for room, behind those that wait already."""
        if self._waiting[port] or not self._has_room(port):
            await self._wait_for_room(port)
            assert self._used[port] < self._max_bytes, "a writer was woken without room"
        size = message.nbytes if isinstance(message, Batch) else MESSAGE_BYTES
        self._queue.append((port, message, size))
        self._used[port] += size
        self.account.reserve(size)
        self.moves += 1
        self._wake()
        self._wake_writer(port)

    def end(self, port: int) -> None:
        """Puts an End in without waiting: for a writer that is gone."""
        self._queue.append((port, End(), 0))
        self._wake()

    async def receive(self) -> tuple[int, Message]:
        """The oldest message and its port; waits for one."""
        if self._aligner.under_way:
            return await self._receive_aligning()
        while not self._queue:
            await self._wait_for_arrival()
        taken = self._taken(*self._queue.popleft())
        if isinstance(taken[1], Barrier):
            return await self._receive_aligning()
        return taken

    async def receive_preferring(self, port: int) -> tuple[int, Message]:
        """The oldest message of one port; waits for one.  The other ports' messages stay where they are, but where the port's writer
        can never go on while they do, it is the oldest of a port whose writer waits for room."""
        if self._aligner.under_way:
            return await self._receive_aligning()
        self._wanted = port
        try:
            while (taken := self._oldest(lambda number: number == port)) is None:
                if self._gives_way or self.on_wait is None:
                    self._gives_way = False
                    if (taken := self._oldest(self.blocked)) is not None:
                        break
                await self._wait_for_arrival()
        finally:
            self._wanted, self._gives_way = None, False
        if isinstance(taken[1], Barrier):
            return await self._receive_aligning()
        return taken

    async def _receive_aligning(self) -> tuple[int, Message]:
        """While a barrier is on its way: the oldest message of the ports that are not held, or the barrier, once it is complete."""
        aligner = self._aligner
        while not aligner.complete:
            taken = self._oldest(lambda number: number not in aligner.held)
            if taken is None:
                await self._wait_for_arrival()
            elif not isinstance(taken[1], Barrier):
                return taken
        return ALL, aligner.release()

    def close_port(self, port: int) -> None:
        """The reader has taken the port's End in a run before this one."""
        self._aligner.ended(port)

    @property
    def ended_ports(self) -> list[int]:
        """The ports whose End the reader has taken."""
        return [port for port in range(len(self._used)) if port not in self._aligner.open]

    def waiting_rows(self, port: int) -> int:
        """Rows of a port that are in the channel now."""
        return sum(
            message.num_rows
            for number, message, _ in self._queue
            if number == port and isinstance(message, Batch)
        )

    def holds(self, port: int) -> bool:
        """A message of the port waits to be taken."""
        return any(number == port for number, _, _ in self._queue)

    def blocked(self, port: int) -> bool:
        """A writer of the port waits for room, and there is none."""
        return bool(self._waiting[port]) and not self._waiting[port][0].done()

    @property
    def awaited(self) -> bool:
        """The reader waits for a message, and none that it takes has come."""
        return self._arrival is not None and not self._arrival.done()

    @property
    def awaited_ports(self) -> list[int]:
        """The ports a message of which the reader takes, of those that have not ended."""
        if self._wanted is not None:
            return [self._wanted]
        return sorted(self._aligner.open - self._aligner.held)

    @property
    def holds_back(self) -> bool:
        """The reader waits for a message of one port while the writer of another waits for room."""
        return self.awaited and self._wanted is not None and any(map(self.blocked, range(len(self._waiting))))

    def give_way(self) -> None:
        """The reader takes a message of a port that it holds back."""
        self._gives_way = True
        self._wake()

    def _has_room(self, port: int) -> bool:
        used = self._used[port]
        return used < self._max_bytes and (used == 0 or not self._memory.full)

    def _wake(self) -> None:
        """The reader looks again."""
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)

    async def _wait_for_room(self, port: int) -> None:
        waiter = asyncio.get_running_loop().create_future()
        self._waiting[port].append(waiter)
        try:
            # Behind one that was woken already the turn comes by itself, and nobody has to give way.
            if self.blocked(port):
                if self.on_wait is None:
                    self._wake()
                else:
                    self.on_wait()
            await waiter
            assert self._waiting[port][0] is waiter, "a writer was overtaken"
        except BaseException:
            self._waiting[port].remove(waiter)
            self._wake_writer(port)  # it may have been this one's turn
            raise
        self._waiting[port].popleft()

    def _wake_writer(self, port: int) -> None:
        """The oldest writer that waits for room in this port goes on, where there is some."""
        waiting = self._waiting[port]
        if waiting and self._has_room(port) and not waiting[0].done():
            waiting[0].set_result(None)

    async def _wait_for_arrival(self) -> None:
        assert self._arrival is None, "a second reader"
        self._arrival = asyncio.get_running_loop().create_future()
        try:
            if self.on_wait is not None:
                self.on_wait()
            await self._arrival
        finally:
            self._arrival = None

    def _oldest(self, wanted: Callable[[int], bool]) -> tuple[int, Message] | None:
        for position, entry in enumerate(self._queue):
            if wanted(entry[0]):
                del self._queue[position]
                return self._taken(*entry)
        return None

    def _taken(self, port: int, message: Message, size: int) -> tuple[int, Message]:
        if isinstance(message, End):
            self._aligner.ended(port)
        elif isinstance(message, Barrier):
            self._aligner.arrived(port, message)
        self._used[port] -= size
        self.account.release(size)
        self.moves += 1
        self._wake_writer(port)
        return port, message


class Reader(ABC):
    """``ready``: a barrier can pass it now."""

    ready = True

    @abstractmethod
    def messages(self) -> Messages:
        """The messages, to the end of all inputs.  Called once."""

    @abstractmethod
    def freeze(self) -> Frozen:
        """How far each input has come, and the messages that were taken and not given.  Called when a barrier was given."""

    @abstractmethod
    def restore(self, saved: Saved) -> None:
        """Takes a saved state, before ``messages``.  Raises ValueError."""


class OneInput(Reader):
    """The messages of the only input of a table, as they are."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._port = Port(NO_TIME)

    async def messages(self) -> Messages:
        while not self._port.ended:
            port, message = await self._channel.receive()
            if isinstance(message, Watermark):
                known, self._port = self._port, Port(message.time_ns, message.idle)
                if self._port != known:
                    yield ALL, message
            elif isinstance(message, End):
                self._port = replace(self._port, ended=True)
            else:
                yield port, message
        yield ALL, End()

    @property
    def ports(self) -> list[Port]:
        return [self._port]

    @property
    def wanted(self) -> int | None:
        return None

    def freeze(self) -> Frozen:
        port = self._port
        return Copied({"watermark_ns": port.watermark_ns, "idle": port.quiet, "ended": port.ended})

    def restore(self, saved: Saved) -> None:
        self._port = Port(saved.integer("watermark_ns"), saved.flag("idle"), saved.flag("ended"))
        if self._port.ended:
            self._channel.close_port(0)


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
    def whole(self) -> bool:
        """Every reader gets all columns."""
        return all(columns is None for _, _, columns in self._targets)

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
