"""The coroutine of a stage with two inputs of different columns: a join.

It takes the messages of both with the port they came by, gives them to its operator, and hands on what comes out, the watermark held back
as the operator says.  In which order the two are read decides only how much has to wait, never what comes out:

- ``right_first``: the right input to its end, then the left one (a lookup); what must be taken of the left one before is held;
- ``in_step``: the one that is behind in event time first, where both are bounded;
- ``as_they_come``, where one may never end: waiting for the one that is behind would let a quiet input stop the other.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator

from asyncflow.errors import AsyncflowError
from asyncflow.model.batch import END_OF_TIME, NO_TIME, Batch
from asyncflow.model.messages import End, Message, Watermark
from asyncflow.operators.contract import Output, Port, TwoInputOperator
from asyncflow.runtime.base.clock import WALL_CLOCK, Clock
from asyncflow.runtime.base.closing import closing
from asyncflow.runtime.base.ledger import StageCounts
from asyncflow.runtime.base.memory import Account, Memory
from asyncflow.runtime.edges.channel import Channel
from asyncflow.runtime.edges.fan_out import Outlet, end
from asyncflow.runtime.stages.stage import check_held, keys_told
from asyncflow.runtime.stages.watermarks import LowestWatermark

PortMessages = AsyncIterator[tuple[int, Message]]
LEFT, RIGHT = 0, 1


async def as_they_come(channel: Channel) -> PortMessages:
    """Both inputs' messages, oldest first, to the end of both."""
    ended = 0
    while ended < 2:
        port, message = await channel.receive()
        ended += isinstance(message, End)
        yield port, message


async def in_step(channel: Channel) -> PortMessages:
    """Both inputs' messages, those of the one whose watermark is behind first."""
    reached = [NO_TIME, NO_TIME]
    while min(reached) < END_OF_TIME:
        port, message = await channel.receive_preferring(reached.index(min(reached)))
        if isinstance(message, End):
            reached[port] = END_OF_TIME
        elif isinstance(message, Watermark):
            reached[port] = message.time_ns
        yield port, message


def right_first(
    max_held_bytes: int, names: tuple[str, ...], account: Account
) -> Callable[[Channel], PortMessages]:
    """The right input's messages, then the left one's.  ``max_held_bytes``: of the left one, which has to be taken before where both hang
    on one table; ``account`` has them, too."""

    async def read(channel: Channel) -> PortMessages:
        held: deque[Message] = deque()
        held_bytes = 0
        message: Message | None = None
        port = RIGHT
        while port == LEFT or not isinstance(message, End):
            port, message = await channel.receive_preferring(RIGHT)
            if port == RIGHT:
                yield port, message
                continue
            if isinstance(message, Batch):
                message = message.compact()
                held_bytes += message.nbytes
                check_held(held_bytes, names[LEFT], names[RIGHT], max_held_bytes)
                account.resize(held_bytes)
            held.append(message)
        message = None
        while not isinstance(message, End):
            if held:
                message = held.popleft()
                account.release(message.nbytes if isinstance(message, Batch) else 0)
            else:
                message = (await channel.receive_preferring(LEFT))[1]
            yield LEFT, message

    return read


class TwoInputStage:
    """One such stage of a run.  ``kept``, ``clock`` and ``moved_ns``: as of :class:`~asyncflow.runtime.stages.stage.Stage`."""

    clock: Clock = WALL_CLOCK
    moved_ns: int | None = None
    _account: Account | None = None

    def __init__(
        self,
        name: str,
        channel: Channel,
        read: Callable[[Channel], PortMessages],
        operator: TwoInputOperator,
        kept: tuple[str, ...],
        *,
        right_first: bool = False,
    ) -> None:
        self.name = name
        self.outlet = Outlet()
        self.side: dict[str, Outlet] = {}
        self.operator = operator
        self.counts = StageCounts(kept=kept, ways=operator.counts)
        self._lowest = LowestWatermark(2)
        self._told = Watermark(NO_TIME)
        self._right_first = right_first
        self._messages = read(channel)

    def watch(self, memory: Memory) -> None:
        """What it holds counts for the run."""
        self._account = memory.account(self.name, "rows that wait for a match")
        self._account.detail = lambda: keys_told(self.operator)
        self._account.measure = lambda: self.operator.state_bytes

    @property
    def reached_ns(self) -> int:
        """The watermark that it goes by."""
        return self._lowest.time_ns

    @property
    def ports(self) -> list[Port]:
        """How far each input has come."""
        return self._lowest.ports

    @property
    def wanted(self) -> int | None:
        """The only port that is read from now; None: both are."""
        if not self._right_first:
            return None
        return LEFT if self._lowest.ports[RIGHT].ended else RIGHT

    async def run(self) -> None:
        idle = False
        async with closing(self._messages) as messages:
            async for port, message in messages:
                await self._hand_on(self._given(port, message))
                if self._account is not None:
                    self._account.resize(self.operator.state_bytes)
                watermark = self.operator.watermark
                risen = watermark > self.counts.watermark
                if watermark < END_OF_TIME and (risen or idle != self._lowest.idle):
                    self.counts.watermark, idle = watermark, self._lowest.idle
                    await self.outlet.send(Watermark(watermark, idle))
                await self._tell_sides()
        await end((self.outlet, *self.side.values()))

    def _given(self, port: int, message: Message) -> Iterator[Output]:
        if isinstance(message, Batch):
            self.counts.rows_in += message.num_rows
            yield from self.operator.process(port, self._lowest.judged(port, message))
            return
        before = self._lowest.time_ns
        if isinstance(message, Watermark):
            news = self._lowest.feed(port, message)
        else:
            news = self._lowest.feed_end(port)
            yield from self.operator.finish(port)
        if self._lowest.time_ns > before:
            self.moved_ns = self.clock.now_ns()
        if news is not None:
            yield from self.operator.advance(news.time_ns)

    async def _tell_sides(self) -> None:
        """Their rows leave as they come, so they go by the watermark that the join itself goes by."""
        said = Watermark(self._lowest.time_ns, self._lowest.idle)
        if said != self._told and said.time_ns < END_OF_TIME:
            self._told = said
            for side in self.side.values():
                await side.send(said)

    async def _hand_on(self, outputs: Iterable[Output]) -> None:
        try:
            for output in outputs:
                if output.kind:
                    await self.side[output.kind].send(output.batch)
                elif output.batch.num_rows:
                    self.counts.rows_out += output.batch.num_rows
                    await self.outlet.send(output.batch)
        except AsyncflowError as error:
            error.table = error.table or self.name
            raise
