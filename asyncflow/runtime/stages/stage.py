"""A stage's coroutine: takes messages from the tables it reads, gives them to its operator, hands on what comes out.

The operator is a synchronous core; here are the waiting, the watermark of several inputs, and the ledger.  Several inputs that are all
bounded are read in step with event time (``operators.merge``), or where that is the time of arrival, which is no data, one after the
other; so the order of their rows is always the same.  Inputs that may never end are taken as they come, and the stage goes by the lowest
watermark among those that count (``lowest``).
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from typing import NoReturn

from msgspec.structs import replace

from asyncflow.errors import AsyncflowError, InternalError, StageError, TooLargeError, described
from asyncflow.model.batch import END_OF_TIME, NO_TIME, Batch
from asyncflow.model.durations import format_size
from asyncflow.model.messages import End, Message, Watermark
from asyncflow.model.schema import Schema
from asyncflow.operators.contract import Operator, Output, TwoInputOperator
from asyncflow.operators.merge import InStepMerge
from asyncflow.runtime.base.clock import WALL_CLOCK, Clock
from asyncflow.runtime.base.closing import closing
from asyncflow.runtime.base.ledger import StageCounts
from asyncflow.runtime.base.memory import Account, Memory
from asyncflow.runtime.edges.channel import Channel
from asyncflow.runtime.edges.fan_out import Outlet, end
from asyncflow.runtime.stages.retiming import Retiming
from asyncflow.runtime.stages.watermarks import LowestWatermark

MAX_HELD_BYTES = 1 << 30
"""What may be held of an input that is ahead of another, where both hang on one table."""


async def in_order(channel: Channel, lowest: LowestWatermark) -> AsyncIterator[Message]:
    """The inputs' messages as they come; watermarks are the lowest of those that count, and End comes once."""
    while not lowest.ended:
        port, message = await channel.receive()
        if isinstance(message, Batch):
            yield lowest.judged(port, message)
            continue
        news = lowest.feed_end(port) if isinstance(message, End) else lowest.feed(port, message)
        if news is not None:
            yield news
    yield End()


async def in_step(
    channel: Channel, merge: InStepMerge, names: Sequence[str], account: Account
) -> AsyncIterator[Message]:
    """The rows of the inputs called ``names`` merged in step with event time (bounded inputs only)."""
    last = NO_TIME
    while (wanted := merge.wanted) is not None:
        port, message = await channel.receive_preferring(wanted)
        if isinstance(message, Batch):
            released = merge.feed_batch(port, message)
        elif isinstance(message, Watermark):
            released = merge.feed_watermark(port, message.time_ns)
        else:
            released = merge.feed_end(port)
        for rows in released:
            yield rows
            if last < merge.watermark < END_OF_TIME:
                last = merge.watermark
                yield Watermark(last)
        if last < merge.watermark < END_OF_TIME:
            last = merge.watermark
            yield Watermark(last)
        account.resize(merge.all_held_bytes)
        if port != wanted:
            check_held(merge.held_bytes(port), names[port], names[wanted])
    yield End()


async def in_turn(channel: Channel, lowest: LowestWatermark, names: Sequence[str]) -> AsyncIterator[Message]:
    """The inputs called ``names`` one after the other, each to its end (bounded inputs only).  What has to be taken of a later one before,
    because both hang on tables that wait for each other, is held."""
    held: list[deque[Message]] = [deque() for _ in names]
    held_bytes = [0] * len(names)
    for wanted, name in enumerate(names):
        lowest.wanted = wanted
        ended = False
        while not ended:
            if held[wanted]:
                message = held[wanted].popleft()
            else:
                port, message = await channel.receive_preferring(wanted)
                if port != wanted:
                    if isinstance(message, Batch):
                        message = message.compact()
                        held_bytes[port] += message.nbytes
                        check_held(held_bytes[port], names[port], name)
                    held[port].append(message)
                    continue
            if isinstance(message, Batch):
                yield message
                continue
            ended = isinstance(message, End)
            news = lowest.feed_end(wanted) if isinstance(message, End) else lowest.feed(wanted, message)
            if news is not None:
                yield news
    yield End()


def check_held(held_bytes: int, name: str, behind: str, max_bytes: int | None = None) -> None:
    """StageError where rows of one input that wait for another take more than ``max_bytes``, or ``MAX_HELD_BYTES``."""
    limit = MAX_HELD_BYTES if max_bytes is None else max_bytes
    if held_bytes > limit:
        raise StageError(
            f"it holds {format_size(held_bytes)} of rows of {name!r} that wait for {behind!r}, more than {format_size(limit)}: "
            f"both hang on one table, and {behind!r} says little before that has been read further"
        )


def keys_told(operator: Operator | TwoInputOperator | None) -> str:
    """How many keys an operator holds, in words; nothing where it has none."""
    open_keys = None if operator is None else operator.open_keys
    return "" if open_keys is None else f"{open_keys:,} keys"


def told(error: Exception, name: str) -> Exception:
    """What an operator's work raised, with the stage's name and as whose fault it is: to be raised in its place."""
    if isinstance(error, AsyncflowError):
        error.table = error.table or name
        return error
    if isinstance(error, MemoryError):  # nobody's fault: told where the run is known
        return error
    if isinstance(error, OverflowError):  # a kernel's texts that no column holds
        return TooLargeError(f"{error}: it takes shorter texts, or fewer rows at a time", table=name)
    return InternalError(described(error), table=name)  # the user's own code is told apart where it is called


class Stage:
    """One stage of a run.  ``make``: builds its operator for the schema of its input, called once: at once where the schema is known,
    else when the first batch shows it.  ``clock``: tells when the watermark moved, ``moved_ns``."""

    clock: Clock = WALL_CLOCK
    moved_ns: int | None = None
    retiming: Retiming | None = None
    """Where its operator gives rows new times: their watermark."""
    _account: Account | None = None
    _idle = False

    def __init__(
        self,
        name: str,
        messages: AsyncIterator[Message],
        make: Callable[[Schema], Operator],
        schema: Schema | None,
        kept: tuple[str, ...] | None,
    ) -> None:
        self.name = name
        self.outlet = Outlet()
        self.side: dict[str, Outlet] = {}
        self.counts = StageCounts(kept=kept)
        self.operator: Operator | None = None
        self._make = make
        self._messages = messages
        if schema is not None:
            self._build(schema)

    async def run(self) -> None:
        async with closing(self._messages) as messages:
            async for message in messages:
                if isinstance(message, Batch):
                    if self.operator is None:
                        self._build(message.schema)
                    assert self.operator is not None
                    self.counts.rows_in += message.num_rows
                    await self._hand_on(await self._guarded(self.operator, message))
                elif isinstance(message, Watermark):
                    await self._advance(message)
                elif self.operator is not None:
                    await self._hand_on(self.operator.finish())
        await end((self.outlet, *self.side.values()))

    async def _advance(self, watermark: Watermark) -> None:
        """A watermark that says no more than that its input is quiet, or no longer, is no news to the operator."""
        self._idle = watermark.idle
        if self.retiming is not None and self.retiming.moved is not False:
            self.retiming.settle()
            await self._say_retimed()
            for side in self.side.values():
                await side.send(watermark)
            return
        if watermark.time_ns > self.counts.watermark:
            self._rise(watermark.time_ns)
            if self.operator is not None:
                await self._hand_on(self.operator.advance(watermark.time_ns))
        if self.operator is not None and self.operator.held_ns:
            held = watermark.time_ns - self.operator.held_ns
            await self.outlet.send(replace(watermark, time_ns=max(held, NO_TIME)))
        else:
            await self.outlet.send(watermark)
        for side in self.side.values():  # their rows leave as soon as they come
            await side.send(watermark)

    @property
    def reached_ns(self) -> int:
        """The watermark that it goes by."""
        return self.counts.watermark

    def _rise(self, watermark_ns: int) -> None:
        self.counts.watermark, self.moved_ns = watermark_ns, self.clock.now_ns()

    def watch(self, memory: Memory) -> None:
        """What it holds counts for the run."""
        self._account = memory.account(self.name, "state")
        self._account.detail = lambda: keys_told(self.operator)
        self._account.measure = lambda: 0 if self.operator is None else self.operator.state_bytes

    async def _guarded(self, operator: Operator, batch: Batch) -> Iterable[Output]:
        """The operator's work; what the user's own code raises is told with the stage's name."""
        try:
            if isinstance(operator, AsyncOperator):
                return await operator.process_async(batch)
            return operator.process(batch)
        except Exception as error:
            self._fail(error)

    def _made(self, outputs: Iterable[Output]) -> Iterator[Output]:
        """The same, where they are made as they are taken."""
        try:
            yield from outputs
        except Exception as error:
            self._fail(error)

    def _fail(self, error: Exception) -> NoReturn:
        failure = told(error, self.name)
        if failure is error:
            raise failure
        raise failure from error

    async def _hand_on(self, outputs: Iterable[Output]) -> None:
        """Sends them on as they are made; what is still held then counts for the run."""
        for output in outputs if isinstance(outputs, list | tuple) else self._made(outputs):
            if output.kind:
                await self.side[output.kind].send(output.batch)
            elif output.batch.num_rows:
                self.counts.rows_out += output.batch.num_rows
                await self.outlet.send(output.batch)
        if self.retiming is not None and self.retiming.watermark > self.counts.watermark:
            await self._say_retimed()
        if self._account is not None and self.operator is not None:
            self._account.resize(self.operator.state_bytes)

    async def _say_retimed(self) -> None:
        """The watermark of rows with new times, and whether the input is quiet."""
        assert self.retiming is not None
        if self.retiming.watermark > self.counts.watermark:
            self._rise(self.retiming.watermark)
        await self.outlet.send(Watermark(self.counts.watermark, self._idle))

    def _build(self, schema: Schema) -> None:
        self.operator = self._make(schema)
        self.counts.ways = self.operator.counts


class AsyncOperator(Operator):
    """An operator whose work is a coroutine: the user's own async function."""

    async def process_async(self, batch: Batch) -> list[Output]:
        raise NotImplementedError
