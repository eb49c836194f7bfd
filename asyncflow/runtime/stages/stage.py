"""The one loop of all stages: receive, process, send; at a barrier freeze.

A stage takes the messages of its reader (``edges.channel``, ``readers``), gives them to its operator, a synchronous core, and sends what
comes out.  Kinds of stages differ in what they do with a batch, a watermark and an end: one kind of rows (:class:`OneInputStage`: filter,
derive, windows, dedup, top, and the user's function one call after another), two inputs (``join``), a sequence, the user's function with
several calls at once (``map_concurrent``), a table that is read again beside (``refresh``).

The work on one message is done by one thread: the loop's own where there is little of it, or where it runs code of the user's, else a
worker (``base.workers``).  The stage waits for the worker, so an operator sees one message at a time, in order, whoever does the work;
meanwhile the loop reads and hands on for others.

Invariants: the watermark that is sent never falls; a barrier is sent after all that came of the messages before it, and the state that is
collected then is the state after exactly those.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, NoReturn, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from asyncflow.errors import AsyncflowError, InternalError, TooLargeError, described
from asyncflow.model.batch import NO_TIME, Batch
from asyncflow.model.messages import Barrier, Message, Watermark
from asyncflow.model.schema import Schema
from asyncflow.model.snapshot import Copied, Frozen, Plain, Saved, nested, plain_schema, schema_of
from asyncflow.operators.contract import (
    Operator,
    Output,
    Partitioned,
    Standing,
    TwoInputOperator,
)
from asyncflow.runtime.base.clock import Clock
from asyncflow.runtime.base.closing import closing
from asyncflow.runtime.base.ledger import StageCounts
from asyncflow.runtime.base.memory import Memory
from asyncflow.runtime.base.snapshots import Collect
from asyncflow.runtime.base.workers import Offload
from asyncflow.runtime.edges.channel import FanOut, Reader, end

if TYPE_CHECKING:
    from asyncflow.runtime.base.status import RefreshStatus
    from asyncflow.runtime.stages.retiming import Retiming

T = TypeVar("T")
PIECE_BYTES = 1 << 20
"""How much of a great result a worker makes before the rows are sent; the next piece is made meanwhile."""


class Made(Struct, frozen=True):
    """What has come of rows that the stage had begun to process before."""

    outputs: list[Output]


class Seam(Struct, frozen=True, eq=False):
    """Where a stage reads one source after another: ``after`` takes part in barriers once ``before`` has ended and the stage has
    ``passed`` its end."""

    before: str
    after: str
    passed: asyncio.Event


class _Pieces:
    """What comes of a call of an operator, made piece by piece."""

    def __init__(self, call: Callable[[], Iterable[Output]]) -> None:
        self._call = call
        self._rest: Iterator[Output] | None = None

    def take(self) -> tuple[list[Output], bool]:
        """The next piece, and whether there may be more."""
        if self._rest is None:
            self._rest = iter(self._call())
        taken: list[Output] = []
        size = 0
        for output in self._rest:
            taken.append(output)
            size += output.batch.nbytes
            if size >= PIECE_BYTES:
                return taken, True
        return taken, False


class Stage(ABC):
    """One stage of a run.

    ``kept``: as of :class:`~asyncflow.runtime.base.ledger.StageCounts`.  ``clock``: tells ``moved_ns``, when the watermark last moved.
    ``memory``: of the run, where the operator's state counts.  ``offload``: does the work; left out: the loop's own thread.
    ``collect``: takes the state at each barrier; None: no barrier comes.
    """

    holds = "state"
    """What its state is, for messages about memory."""
    keeps_rows_under_way = False
    """Rows that it has taken may wait in it for their turn, and hold its watermark below its inputs' watermark."""

    def __init__(
        self,
        name: str,
        reader: Reader,
        kept: tuple[str, ...] | None,
        *,
        clock: Clock,
        memory: Memory,
        offload: Offload | None = None,
        collect: Collect | None = None,
    ) -> None:
        self.name = name
        self.reader = reader
        self.outlet = FanOut()
        self.side: dict[str, FanOut] = {}
        self.counts = StageCounts(kept=kept)
        self.moved_ns: int | None = None
        self._clock = clock
        self._offload = offload or Offload(1)
        self._collect = collect
        self._idle = False
        self._fresh_bytes = 0
        """Rows taken since the watermark rose."""
        self._before: Standing | None = None
        """How the operator stood before the work that a worker does now."""
        self._account = memory.account(name, self.holds)
        self._account.detail = lambda: keys_told(self.open_keys)
        self._account.measure = lambda: self.state_bytes

    @property
    @abstractmethod
    def operator(self) -> Operator | TwoInputOperator | None:
        """None before the first batch has shown the schema of its input."""

    @property
    def standing(self) -> Standing | None:
        """How the operator stands now, or stood before the work that is being done; None where there is no operator yet."""
        if self._before is not None or self.operator is None:
            return self._before
        return self.operator.standing()

    @property
    def state_bytes(self) -> int:
        """Bytes of state that the operator holds now, or held before the work that is being done, about."""
        if self._before is not None:
            return self._account.used_bytes
        return 0 if self.operator is None else self.operator.state_bytes

    @property
    def waiting_rows(self) -> int | tuple[int, int] | None:
        """Rows that the operator holds now, of each side where it has two; None where that is not known."""
        return None if (operator := self._at_rest) is None else operator.waiting_rows

    @property
    def open_keys(self) -> int | None:
        """Keys that the operator holds now, about; None where it has none, or where that is not known."""
        return None if (operator := self._at_rest) is None else operator.open_keys

    @property
    def next_due_ns(self) -> int | None:
        """The watermark at which the operator's held rows come out next; None where no rows wait for one, or where that is not known."""
        return None if (operator := self._at_rest) is None else operator.next_due_ns

    @property
    def _at_rest(self) -> Operator | TwoInputOperator | None:
        """The operator, where no worker is at work in it: what takes counting is asked of it only then."""
        return None if self._before is not None else self.operator

    @property
    def reached_ns(self) -> int:
        """The stage's current watermark."""
        return self.counts.watermark

    @property
    def ready(self) -> bool:
        """A barrier can pass the stage now."""
        return self.reader.ready

    @property
    def capped_until_end_of(self) -> int | None:
        """The input that must end before the watermark may pass a bound; None: there is no bound now."""
        return None

    @property
    def seam(self) -> Seam | None:
        """None where the stage takes all of its inputs at once."""
        return None

    def refresh_status(self) -> RefreshStatus | None:
        """Of a table that is read again beside the stage; None: there is no such table."""
        return None

    async def run(self) -> None:
        if self.outlet.ended:
            return
        async with closing(self._messages()) as messages:
            async for port, message in messages:
                if isinstance(message, Batch):
                    await self._process(port, message)
                elif isinstance(message, Watermark):
                    await self._advance(message)
                elif isinstance(message, Made):
                    await self._hand_on(message.outputs)
                elif isinstance(message, Barrier):
                    await self._on_barrier(message)
                else:
                    await self._finish(port)
        if self._collect is not None:
            last = nested({"ended": True, "moved_ns": self.moved_ns}, {"counts": self.counts.freeze()})
            self._collect(self.name, None, last)
        await end(self._outlets)

    def _messages(self) -> AsyncIterator[tuple[int, Message | Made]]:
        return self.reader.messages()

    @abstractmethod
    async def _process(self, port: int, batch: Batch) -> None:
        """Takes rows of the input ``port``, and sends what comes of them."""

    @abstractmethod
    async def _advance(self, watermark: Watermark) -> None:
        """The common watermark of the inputs has risen, or they are idle, or no longer."""

    @abstractmethod
    async def _finish(self, port: int) -> None:
        """The input ``port`` has ended; of a stage with one kind of input: all have."""

    # -- state -----------------------------------------------------------------------------------------------------------

    @abstractmethod
    def _freeze(self) -> Frozen:
        """The state of the kind of stage: the operator's, and what is kept beside."""

    @abstractmethod
    def _restore(self, saved: Saved) -> None:
        """Takes what ``_freeze`` gave; ``counts.ways`` are the operator's counts afterwards."""

    def restore(self, saved: Saved) -> None:
        """Takes the state that was collected from the same stage of another run, before ``run``.  Raises ValueError."""
        self.moved_ns = saved.integer("moved_ns") if saved.fields.get("moved_ns") is not None else None
        if saved.fields.get("ended"):
            for outlet in self._outlets:
                outlet.ended = True
        else:
            self._idle = saved.flag("idle")
            self.reader.restore(saved.within("reader"))
            self._restore(saved.within("stage"))
            self._account.resize(self.state_bytes)
        ways = self.counts.ways
        self.counts.restore(saved.within("counts"))
        if not self.outlet.ended:
            self.counts.ways = ways

    def _freeze_counts(self) -> Frozen:
        return self.counts.freeze()

    def _freeze_reader(self) -> Frozen:
        return self.reader.freeze()

    async def _on_barrier(self, barrier: Barrier) -> None:
        self.hand_in(barrier.epoch)
        for outlet in self._outlets:
            await outlet.send(barrier)

    def hand_in(self, epoch: int) -> None:
        """Collects the state: at a barrier, or before ``run``."""
        assert self._collect is not None, "a barrier in a run that takes no snapshots"
        parts = {"counts": self._freeze_counts(), "reader": self._freeze_reader(), "stage": self._freeze()}
        self._collect(self.name, epoch, nested({"moved_ns": self.moved_ns, "idle": self._idle}, parts))

    # -- on the way out --------------------------------------------------------------------------------------------------

    @property
    def _outlets(self) -> tuple[FanOut, ...]:
        return (self.outlet, *self.side.values())

    def _rise(self, watermark_ns: int) -> None:
        self.counts.watermark, self.moved_ns = watermark_ns, self._clock.now_ns()

    async def _work(self, call: Callable[[], Iterable[Output]], size_bytes: int) -> None:
        """Has the operator work on a message, and sends what comes of it.  ``size_bytes``: what it works on, about."""
        operator = self.operator
        assert operator is not None
        if not (operator.on_any_thread and self._offload.takes(size_bytes)):
            try:
                outputs = call()
            except Exception as error:
                self._fail(error)
            await self._hand_on(outputs)
            return
        # A task that is cancelled here may leave the worker at work: ``_before`` stays, so nobody looks into the operator.
        self._before = operator.standing()
        pieces = _Pieces(call)
        taking: asyncio.Future[tuple[list[Output], bool]] | None = self._offload.run(pieces.take)
        try:
            while taking is not None:
                try:
                    outputs, more = await taking
                except Exception as error:
                    self._fail(error)
                taking = self._offload.run(pieces.take) if more else None
                await self._send_all(outputs)
                del outputs
        finally:
            if taking is not None:  # a failure of work that nobody waits for any more is no second failure
                taking.add_done_callback(lambda done: done.cancelled() or done.exception())
        self._before = None
        await self._sent()

    async def _take_in_parts(self, operator: Partitioned, batch: Batch) -> None:
        """Has each part of the operator take its rows, side by side, and sends what comes of the batch at once."""
        self._before = operator.standing()
        if operator.done_ahead(batch):
            scattered = operator.scattered(batch)
        else:
            (scattered,) = await self._together((partial(operator.scattered, batch),))
        results = await self._together(operator.part_tasks(scattered))
        self._before = None
        await self._hand_on(operator.joined(scattered, results))

    async def _give_up(self, operator: Partitioned, watermark_ns: int | None) -> None:
        """Sends what the parts of the operator give up, each working side by side, round by round."""
        self._before = operator.standing()
        closing = operator.closing(watermark_ns)
        while tasks := closing.tasks():
            await self._together(tasks)
            (outputs,) = await self._together((lambda: list(closing.outputs()),))
            await self._send_all(outputs)
        self._before = None
        await self._sent()

    async def _together(self, tasks: Iterable[Callable[[], T]]) -> list[T]:
        """What the tasks give, done by workers side by side; the first failure, once all are done."""
        work = [self._offload.run(task) for task in tasks]
        failures: list[Exception] = []
        try:
            for each in work:
                try:
                    await each
                except Exception as error:
                    failures.append(error)
        except asyncio.CancelledError:
            for each in work:
                each.cancel()
            raise
        if failures:
            self._fail(failures[0])
        return [each.result() for each in work]

    async def _hand_on(self, outputs: Iterable[Output]) -> None:
        """Sends them on as they are made."""
        await self._send_all(outputs if isinstance(outputs, list | tuple) else self._made(outputs))
        await self._sent()

    async def _send_all(self, outputs: Iterable[Output]) -> None:
        for output in outputs:
            if output.kind:
                await self.side[output.kind].send(output.batch)
            elif output.batch.num_rows:
                self.counts.rows_out += output.batch.num_rows
                await self.outlet.send(output.batch)

    async def _sent(self) -> None:
        """All that came of a message was sent; what is still held counts for the run."""
        if (news := self._news()) is not None:
            await self.outlet.send(news)
        if (operator := self.operator) is not None:
            self._account.resize(operator.state_bytes)

    def _news(self) -> Watermark | None:
        """The watermark that the operator's work has brought, where it is to be sent."""
        return None

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


class AsyncOperator(Operator):
    """An operator whose work is a coroutine: the user's own async function."""

    on_any_thread = False

    async def process_async(self, batch: Batch) -> list[Output]:
        raise NotImplementedError


class OneInputStage(Stage):
    """``make``: builds the operator for the schema of its input, called once: at once where the ``schema`` is known, else when the first
    batch shows it.  ``retiming``: where the operator gives rows new times."""

    def __init__(
        self,
        name: str,
        reader: Reader,
        make: Callable[[Schema], Operator],
        schema: Schema | None,
        kept: tuple[str, ...] | None,
        *,
        clock: Clock,
        memory: Memory,
        offload: Offload | None = None,
        retiming: Retiming | None = None,
        collect: Collect | None = None,
    ) -> None:
        self._operator: Operator | None = None
        self._schema = schema
        super().__init__(name, reader, kept, clock=clock, memory=memory, offload=offload, collect=collect)
        self._make = make
        self._retiming = retiming
        if schema is not None:
            self._build(schema)

    @property
    def operator(self) -> Operator | None:
        return self._operator

    async def _process(self, port: int, batch: Batch) -> None:
        operator = self._built(batch.schema)
        operator.unread = frozenset(kind for kind, side in self.side.items() if not side.used)
        self.counts.rows_in += batch.num_rows
        size_bytes = batch.nbytes
        self._fresh_bytes += size_bytes
        if batch.ahead is not None and batch.ahead.left_bytes is not None and operator.done_ahead(batch):
            size_bytes = batch.ahead.left_bytes
        if isinstance(operator, Partitioned) and self._offload.takes(size_bytes):
            await self._take_in_parts(operator, batch)
            return
        if not isinstance(operator, AsyncOperator):
            await self._work(partial(operator.process, batch), size_bytes)
            return
        try:
            outputs = await operator.process_async(batch)
        except Exception as error:
            self._fail(error)
        await self._hand_on(outputs)

    async def _advance(self, watermark: Watermark) -> None:
        """Idle changes are forwarded; the operator sees only a higher watermark."""
        self._idle = watermark.idle
        if self._retiming is not None and self._retiming.moved is not False:
            self._retiming.settle()
            await self.outlet.send(self._retimed(self._retiming.watermark))
            for side in self.side.values():
                await side.send(watermark)
            return
        operator = self._operator
        if watermark.time_ns > self.counts.watermark:
            self._rise(watermark.time_ns)
            if operator is not None:
                size_bytes = operator.advance_bytes(watermark.time_ns, self._fresh_bytes)
                self._fresh_bytes = 0
                if isinstance(operator, Partitioned) and self._offload.takes(size_bytes):
                    await self._give_up(operator, watermark.time_ns)
                else:
                    await self._work(partial(operator.advance, watermark.time_ns), size_bytes)
        if operator is not None and operator.held_ns:
            held = watermark.time_ns - operator.held_ns
            await self.outlet.send(replace(watermark, time_ns=max(held, NO_TIME)))
        else:
            await self.outlet.send(watermark)
        for side in self.side.values():  # their rows leave as soon as they come
            await side.send(watermark)

    async def _finish(self, port: int) -> None:
        operator = self._operator
        if isinstance(operator, Partitioned) and self._offload.takes(self.state_bytes):
            await self._give_up(operator, None)
        elif operator is not None:
            await self._work(operator.finish, self.state_bytes)

    def _news(self) -> Watermark | None:
        """The watermark of rows with new times, and whether the input is idle."""
        if self._retiming is None or self._retiming.watermark <= self.counts.watermark:
            return None
        return self._retimed(self._retiming.watermark)

    def _retimed(self, watermark_ns: int) -> Watermark:
        if watermark_ns > self.counts.watermark:
            self._rise(watermark_ns)
        return Watermark(self.counts.watermark, self._idle)

    def _built(self, schema: Schema) -> Operator:
        return self._operator if self._operator is not None else self._build(schema)

    def _build(self, schema: Schema) -> Operator:
        self._schema = schema
        self._operator = operator = self._make(schema)
        self.counts.ways = operator.counts
        return operator

    # -- state -----------------------------------------------------------------------------------------------------------

    def _freeze(self) -> Frozen:
        if self._operator is None or self._schema is None:
            return Copied({"schema": None})
        schema: Plain = plain_schema(self._schema)
        return nested({"schema": schema}, {"operator": self._operator.freeze()})

    def _restore(self, saved: Saved) -> None:
        if (fields := saved.fields.get("schema")) is not None:
            operator = self._built(schema_of(fields))
            operator.restore(saved.within("operator"))
            self.counts.ways = operator.counts


def keys_told(open_keys: int | None) -> str:
    """How many keys an operator holds, in words; nothing where it has none."""
    return "" if open_keys is None else f"{open_keys:,} keys"


def told(error: Exception, name: str) -> Exception:
    """The error to be raised for what an operator's work raised: with the stage's name, and as whose fault it is."""
    if isinstance(error, AsyncflowError):
        error.table = error.table or name
        return error
    if isinstance(error, MemoryError):  # nobody's fault: told where the run is known
        return error
    if isinstance(error, OverflowError):  # a kernel's texts that no column holds
        return TooLargeError(f"{error}: it takes shorter texts, or fewer rows at a time", table=name)
    return InternalError(described(error), table=name)  # the user's own code is told apart where it is called
