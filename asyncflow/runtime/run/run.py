"""One run of a plan: builds the sources, stages and sinks (``wiring``), opens the sinks, and runs all coroutines to their end.

All coroutines of a run are in one task group: the first failure cancels the others, and nothing of a run outlives ``execute``.  The
coroutines themselves are in ``ingest.source``, ``stages.stage`` and ``stages.sink``.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Coroutine, Iterator
from typing import TYPE_CHECKING, Any

from asyncflow.errors import AsyncflowError, DataError, InternalError, StoppedError
from asyncflow.model.batch import Batch
from asyncflow.model.messages import Barrier, End
from asyncflow.model.schema import Schema
from asyncflow.model.snapshot import Copied
from asyncflow.plan import graph
from asyncflow.plan.tables import Plan
from asyncflow.runtime.base.clock import Clock
from asyncflow.runtime.base.failures import first, named, together
from asyncflow.runtime.base.ledger import Ledger
from asyncflow.runtime.base.memory import Memory
from asyncflow.runtime.base.workers import Offload, Workers, worker_count
from asyncflow.runtime.edges.channel import CHANNEL_BYTES, Channel
from asyncflow.runtime.ingest.source import Reads, SourceStage
from asyncflow.runtime.stages import shutdown
from asyncflow.runtime.stages.shutdown import not_delivered, opened, run_to_end
from asyncflow.runtime.stages.sink import SinkStage
from asyncflow.runtime.wiring.inference import find_schema
from asyncflow.runtime.wiring.wiring import Wiring, open_source

if TYPE_CHECKING:
    from asyncflow.runtime.checkpoint.checkpoints import Checkpoints
    from asyncflow.runtime.checkpoint.coordinator import Coordinator

logger = logging.getLogger("asyncflow.checkpoints")

RESULTS = "results."
"""The loop that takes a run's rows, among the parts of a snapshot; no table has such a name."""


class Run:
    """One run of ``plan``.  Used once.

    ``workers``: threads that work beside the loop's own (1: the loop's own does all); ``"auto"``: one for each processor that the process
    may use.  ``clock``: the wall clock unless given.  ``reads``: how sources are read.  ``memory``: what bounds it; left out: what the
    plan says, or nothing.
    ``fails_without_rows``: it is an error that all records were rejected.  ``coordinator``: takes snapshots, and says where to go on.
    ``checkpoints``: writes them.

    ``stop`` asks for an orderly end, which is StoppedError where bounded input was not read to its end; cancelling ``execute`` ends at
    once.  Either way every socket and file is closed when it returns.  With checkpoints ``stop`` takes a last one, and what comes after it
    is left to the run that goes on from there: windows stay open.
    """

    def __init__(
        self,
        plan: Plan,
        *,
        workers: Workers = 1,
        clock: Clock | None = None,
        reads: Reads | None = None,
        memory: Memory | None = None,
        fails_without_rows: bool = False,
        coordinator: Coordinator | None = None,
        checkpoints: Checkpoints | None = None,
    ) -> None:
        if checkpoints is not None:
            coordinator = checkpoints.coordinator
        self.plan = graph.in_order(plan)
        self.workers = worker_count(workers)
        self.ledger = Ledger(plan.name)
        self.memory = memory or Memory(plan.memory_bytes)
        self.results = Channel(1, CHANNEL_BYTES, "the loop that takes its rows", self.memory)
        self.clock = clock or Clock()
        self.started_ns = self.clock.now_ns()
        self.in_order = False
        """It came to its end, though that may be too early."""
        self._fails_without_rows = fails_without_rows
        self._offload = Offload(self.workers)
        self.wiring = Wiring(
            self.plan,
            self.ledger,
            self.clock,
            reads or Reads(),
            self.memory,
            self._offload,
            lambda: self._why_not_whole() is None,
            None if coordinator is None else coordinator.collect,
        )
        self._coordinator, self._checkpoints = coordinator, checkpoints
        self._left_off = False
        """The run was stopped, and goes on from its last checkpoint another time."""
        self._sources, self._stages, self._sinks = (
            self.wiring.sources,
            self.wiring.stages,
            self.wiring.sinks,
        )
        self._stopping = asyncio.Event()
        self.phase = ("head", "")
        """What it does, and with which table: reads the ``head`` of its input, ``open``s a sink, is ``running``, or has ``ended``."""

    # -- what it is doing ------------------------------------------------------------------------------------------------

    @property
    def bounded(self) -> bool:
        """Every source ends by itself."""
        return all(stage.connector.bounded for stage in self._sources)

    @property
    def total_bytes(self) -> int | None:
        totals = [stage.connector.total_bytes for stage in self._sources]
        known = [total for total in totals if total is not None]
        return sum(known) if known and len(known) == len(totals) else None

    @property
    def position_bytes(self) -> int:
        return sum(stage.connector.position_bytes for stage in self._sources)

    @property
    def open_windows(self) -> int:
        standings = (stage.standing for stage in self._stages)
        return sum(standing.open_windows or 0 for standing in standings if standing is not None)

    @property
    def state_bytes(self) -> int:
        """Bytes of state that the stages hold now, about."""
        return sum(stage.state_bytes for stage in self._stages)

    @property
    def warnings(self) -> list[str]:
        """What the user should know at the end: the first rejected records of each source."""
        return [f"{stage.source.name}: {reason}" for stage in self._sources for reason in stage.way.reasons]

    @property
    def moves(self) -> int:
        """How often a message went into a channel or out of one: stands still where nothing happens."""
        return sum(channel.moves for channel in self.wiring.wires.channels)

    # -- doing it ----------------------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """Asks for an orderly end: reading stops, what was read flows out, windows close.  Call it from the run's own loop."""
        self._stopping.set()

    async def raise_watermarks(self, time_ns: int) -> None:
        """Event time has come at least so far at every source that is being read: for virtual time, not for live input."""
        for stage in self._sources:
            await stage.raise_watermark(time_ns)

    async def execute(self, result: str | None = None) -> Ledger:
        """Runs to the end of the input, or until stopped.  ``result``: a table whose rows also go to ``results``.

        Raises the first failure, as itself and once: PipelineError, DataError, ConnectorError, StageError, ...
        """
        grace = asyncio.timeout(None)
        stopper = asyncio.create_task(self._stop_sources(grace))
        try:
            try:
                async with grace:
                    await self._run(result)
            except TimeoutError:
                if not grace.expired():
                    raise
                if self._left_off:
                    self.in_order = True
                    return self.ledger
                raise not_delivered(self._waiting(), self.plan.stop_timeout_ns, self._under_way()) from None
            if self._stopping.is_set():
                await stopper
            self.ledger.end()
            self.ledger.check()
            self.in_order = True
            if (why := self._why_not_whole()) is not None:
                raise why
            if self._checkpoints is not None and self.phase == ("running", ""):
                await self._checkpoints.finish()
        finally:
            self.phase = ("ended", "")
            self.ledger.end()
            stopper.cancel()
            await asyncio.gather(stopper, return_exceptions=True)
            await self._close_all()
        return self.ledger

    def _why_not_whole(self) -> AsyncflowError | None:
        """Why what the sinks got is not the whole result, though nothing failed."""
        for stage in self._sources:
            if stage.connector.left_unread:
                return StoppedError("stopped before the end of its input", table=stage.source.name)
        counts = self.ledger.sources.values()
        rejected = sum(each.rejected for each in counts)
        if not any(stage.outlet.used for stage in self._sources):
            return None  # nobody wants others: what is rejected is what is read
        if self._fails_without_rows and rejected and rejected == sum(each.rows for each in counts):
            return DataError("every record was rejected")
        return None

    async def _run(self, result: str | None) -> None:
        coordinator = self._coordinator
        if coordinator is None:
            await self.wiring.build()
        else:
            await self.wiring.build(coordinator.saved_source)
            others = () if result is None else (RESULTS,)
            coordinator.start(self._sources, self._stages, self._sinks, others)
        if result is not None:
            self.wiring.outlets[result].connect(self.results, 0)
        if await self._open_sinks():
            if self._checkpoints is not None:
                await self._checkpoints.begin(self._sinks, self.clock.now_ns)
            self.phase = ("running", "")
            await self._run_all()

    async def _open_sinks(self) -> bool:
        """False where the run was stopped before all were open, and nothing had been read: then there is nothing to run."""
        for sink in self._sinks:
            if sink.ended:  # in a run before this one
                continue
            self.phase = ("open", sink.sink.name)
            opening = opened(sink, self._stopping, self._holds_input)
            if not await named(sink.sink.name, opening, sink.connector):
                return False
        return True

    def _holds_input(self) -> bool:
        return any(stage.holds_input for stage in self._sources)

    async def _run_all(self) -> None:
        sinks = ((stage.sink.name, self._run_sink(stage), stage.connector) for stage in self._sinks)
        failure: BaseException | None = None
        try:
            async with asyncio.TaskGroup() as watched:
                beside = [watched.create_task(self._see_it_end())]
                if self._checkpoints is not None:
                    beside.append(watched.create_task(self._checkpoints.run()))
                await together((*self.wiring.coroutines(), *sinks), self.memory)
                for task in beside:
                    task.cancel()
        except BaseExceptionGroup as group_error:
            failure = first(group_error)
        if failure is not None:
            raise failure

    def _run_sink(self, stage: SinkStage) -> Coroutine[Any, Any, None]:
        may_wait = stage.sink.name in self.wiring.may_wait
        return run_to_end(stage, self._stopping) if may_wait else stage.run()

    async def _see_it_end(self) -> None:
        """Once stopped, a run whose tables wait for one another, so that nothing can flow out, fails."""
        await self._stopping.wait()
        while True:
            before = self.moves
            await asyncio.sleep(shutdown.PATIENCE_SECONDS)
            if self.moves == before and self.wiring.wires.deadlocks.at_rest(self._under_way()):
                raise InternalError(
                    f"stopped, but its tables wait for one another, so their rows are lost: {', '.join(self._under_way())}"
                )

    def _under_way(self) -> Iterator[str]:
        yield from (stage.source.name for stage in self._sources if not stage.outlet.ended)
        yield from (stage.name for stage in self._stages if not stage.outlet.ended)
        yield from (stage.sink.name for stage in self._sinks if not stage.ended)

    def _waiting(self) -> Iterator[tuple[str, int]]:
        """For each sink the rows on their last way to it, and those that it took and has not delivered."""
        for stage in self._sinks:
            name = stage.sink.name
            taken = stage.taken_rows - stage.counts.rows
            yield name, taken + sum(port.waiting_rows for port in self.wiring.inputs[name].status())

    async def _stop_sources(self, grace: asyncio.Timeout) -> None:
        await self._stopping.wait()
        now = asyncio.get_running_loop().time()
        if self._checkpoints is not None:
            await self._leave_off(self._checkpoints)
            with contextlib.suppress(RuntimeError):  # the run has come to its end meanwhile
                grace.reschedule(now)
            return
        with contextlib.suppress(RuntimeError):
            grace.reschedule(now + self.plan.stop_timeout_ns / 1e9)
        for stage in self._sources:
            await stage.stop()

    async def _leave_off(self, checkpoints: Checkpoints) -> None:
        """Takes a last checkpoint, unless a sink takes nothing for so long that the one before it has to do."""
        try:
            async with asyncio.timeout(self.plan.stop_timeout_ns / 1e9):
                if self.phase == ("running", ""):
                    await checkpoints.take("stopped")
        except TimeoutError:
            waiting = ", ".join(name for name, rows in self._waiting() if rows)
            logger.warning(
                "the last checkpoint was given up: %s took nothing; the one before it stands", waiting
            )
            return
        finally:
            self._left_off = True
        logger.info(
            "stopped: checkpoint %d stands, and the next start goes on from there", checkpoints.published
        )

    async def _close_all(self) -> None:
        for stage in self._sources:
            await stage.close()
        for sink in self._sinks:
            await sink.connector.aclose(failed=True)
        self._offload.close()


async def iterate(
    plan: Plan, *, workers: Workers = 1, table: str | None = None, coordinator: Coordinator | None = None
) -> AsyncIterator[Batch]:
    """The rows of ``table`` (left out: of the last stage, or of the source) as they come.

    Leaving the loop, or cancelling the task, ends the run and closes everything; a failure of the run is raised here, once.
    ``coordinator``: as of :class:`Run`.  A batch counts as taken when the next one is asked for, so a snapshot is complete only then.
    """
    wanted = table or (plan.stages[-1].name if plan.stages else plan.sources[-1].name)
    run = Run(plan, workers=workers, coordinator=coordinator)
    task = asyncio.create_task(run.execute(wanted), name=f"asyncflow:{plan.name}")
    task.add_done_callback(lambda _: run.results.end(0))
    try:
        while not isinstance(message := (await run.results.receive())[1], End):
            if isinstance(message, Batch):
                yield message
            elif isinstance(message, Barrier) and coordinator is not None:
                coordinator.collect(RESULTS, message.epoch, Copied({}))
        if coordinator is not None:
            coordinator.collect(RESULTS, None, Copied({"ended": True}))
        await task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def infer_schemas(plan: Plan) -> dict[str, Schema]:
    """The schemas of the plan's sources, read from the head of each input where they were left out."""
    schemas: dict[str, Schema] = {}
    for source in plan.sources:
        stage = SourceStage(source, open_source(source), Clock(), Offload(1))
        try:
            await find_schema(stage)
            if stage.schema is not None:
                schemas[source.name] = stage.schema
        finally:
            await stage.close()
    return schemas
