"""One run of a plan: builds its coroutines, wires them with channels, and sees them to a common end.

All of a run lives in one task group: the first failure ends the others, and nothing of a run outlives ``execute``.  What the coroutines
are is in ``source``, ``stage`` and ``sink``; who reads whom is the plan's.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Coroutine
from functools import partial
from typing import Any, TypeVar

from asyncflow import connectors
from asyncflow.connectors.contract import SinkConnector, SourceConnector
from asyncflow.errors import AsyncflowError, InternalError, PipelineError
from asyncflow.model.batch import Batch
from asyncflow.model.messages import End, Message
from asyncflow.model.schema import Schema
from asyncflow.plan import graph
from asyncflow.plan.joins import unknown_side
from asyncflow.plan.schemas import REJECTED, input_schema, passed_columns, read_columns, table_schemas
from asyncflow.plan.tables import (
    SIDE_OUTPUTS,
    Component,
    Dedup,
    Filter,
    Join,
    MapBatches,
    Plan,
    Sequence,
    Sink,
    Source,
    Top,
    Window,
)
from asyncflow.plan.tables import Stage as PlanStage
from asyncflow.plan.validate import validate
from asyncflow.runtime import two_inputs
from asyncflow.runtime.channel import Channel
from asyncflow.runtime.clock import Clock
from asyncflow.runtime.compile import build_operator
from asyncflow.runtime.compile_join import KEPT as KEPT_BY_JOIN
from asyncflow.runtime.compile_join import build_join
from asyncflow.runtime.inference import find_schema
from asyncflow.runtime.ledger import Ledger
from asyncflow.runtime.map import MapOperator
from asyncflow.runtime.map_stage import MapStage
from asyncflow.runtime.offload import Offload
from asyncflow.runtime.outlet import Outlet
from asyncflow.runtime.python_source import BytesSource, ObjectSource
from asyncflow.runtime.sequence import LIVE_BUFFER_BYTES, SequenceStage
from asyncflow.runtime.sink import SinkStage
from asyncflow.runtime.source import SourceStage
from asyncflow.runtime.stage import Stage, in_order, in_step
from asyncflow.runtime.stopping import Handed, opened, run_to_end, waits_for_peers
from asyncflow.runtime.two_inputs import TwoInputStage

T = TypeVar("T")
CHANNEL_BYTES = 4 << 20
"""Bound of a channel, per input: about two full batches."""

_KEPT: dict[type, tuple[str, ...]] = {
    Filter: ("filtered",),
    Window: ("aggregated", "late"),
    Dedup: ("duplicate",),
    Top: ("ranked", "late"),
}


def open_source(source: Source) -> SourceConnector:
    """The source's connector, unopened."""
    component = source.connector
    if isinstance(component.object, SourceConnector):
        return component.object
    if component.type == "python":
        return BytesSource(component.object) if source.format is not None else ObjectSource(component.object)
    module = connectors.find_source(component.type)
    opened = module.open_source(
        component.options if component.options is not None else module.SourceOptions()
    )
    assert isinstance(opened, SourceConnector)
    return opened


def open_sink(component: Component) -> SinkConnector:
    """The sink's connector, unopened.  ``component.object``: a connector handed over in Python."""
    if isinstance(component.object, SinkConnector):
        return component.object
    module = connectors.find_sink(component.type)
    opened = module.open_sink(component.options if component.options is not None else module.SinkOptions())
    assert isinstance(opened, SinkConnector)
    return opened


class Run:
    """One run of ``plan``.  Used once.

    ``workers``: threads that work, the loop's own among them.  ``clock``: the wall clock unless given.  ``read_bytes``: how much one
    read of a byte stream may give at most.

    ``stop`` asks for an orderly end; cancelling ``execute`` ends at once.  Either way every socket and file is closed when it returns.
    """

    def __init__(
        self, plan: Plan, *, workers: int = 1, clock: Clock | None = None, read_bytes: int | None = None
    ) -> None:
        self.plan = graph.in_order(plan)
        self.workers = workers
        self.ledger = Ledger(plan.name)
        self.results = Channel(1, CHANNEL_BYTES)
        self.clock = clock or Clock()
        self._read_bytes = read_bytes
        self._channels: list[Channel] = []
        self._offload = Offload(1)
        self._sources: list[SourceStage] = []
        self._stages: list[Stage | TwoInputStage] = []
        self._sinks: list[SinkStage] = []
        self._handed: dict[str, Handed] = {}
        self._outlets: dict[str, Outlet] = {}
        self._stopping = asyncio.Event()

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
        return sum(getattr(stage.operator, "open_windows", 0) for stage in self._stages)

    @property
    def state_bytes(self) -> int:
        """Bytes of state that the stages hold now, about."""
        return sum(stage.operator.state_bytes for stage in self._stages if stage.operator is not None)

    @property
    def warnings(self) -> list[str]:
        """What the user should know at the end: the first rejected records of each source."""
        return [f"{stage.source.name}: {reason}" for stage in self._sources for reason in stage.reasons]

    @property
    def moves(self) -> int:
        """How often a message went into a channel or out of one: stands still where nothing happens."""
        return sum(channel.moves for channel in self._channels)

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
        stopper = asyncio.create_task(self._stop_sources())
        try:
            await self._build(result)
            if await self._open_sinks():
                await self._run_all()
            self.ledger.end()
            self.ledger.check()
        finally:
            self.ledger.end()
            stopper.cancel()
            await asyncio.gather(stopper, return_exceptions=True)
            await self._close_all()
        return self.ledger

    async def _open_sinks(self) -> bool:
        """False where the run was stopped before all were open, and nothing had been read: then there is nothing to run."""
        for sink in self._sinks:
            if not await _named(sink.sink.name, opened(sink, self._stopping, self._holds_input)):
                return False
        return True

    def _holds_input(self) -> bool:
        return any(stage.holds_input for stage in self._sources)

    async def _build(self, result: str | None) -> None:
        self._offload = Offload(self.workers)
        plan = self.plan
        for source in plan.sources:
            stage = SourceStage(source, open_source(source), self.clock, self._offload, self._read_bytes)
            self._sources.append(stage)
            self.ledger.sources[source.name] = stage.counts
            self._outlets |= {
                source.name: stage.outlet,
                f"{source.name}.rejected": stage.rejected,
                f"{source.name}.future": stage.future,
            }
        for table in plan.stages:
            # Nothing may fall between the past's end and the first of what is live, so that is opened first.
            if isinstance(table, Sequence):
                live = next(stage for stage in self._sources if stage.source.name == table.inputs[-1])
                self._sources.remove(live)
                self._sources.insert(0, live)
                await _named(live.source.name, live.open())
        inferred: dict[str, Schema] = {}
        for stage in self._sources:
            await find_schema(stage)
            if stage.schema is not None:
                inferred[stage.source.name] = stage.schema
        problems = validate(plan, inferred)
        if problems:
            raise PipelineError(problems)
        schemas = table_schemas(plan, inferred)
        columns, passed = read_columns(plan, schemas), passed_columns(plan, schemas)
        for stage in self._sources:
            stage.schema = schemas[stage.source.name]
            stage.columns = columns.get(stage.source.name, ())
            stage.passed = passed.get(stage.source.name, ())
        # What flows are the projected columns, so every stage's input schema is worked out from them.
        flowing: dict[str, Schema | None] = {}
        for source in plan.sources:
            whole = schemas[source.name]
            flowing[source.name] = None if whole is None else whole.select(passed[source.name])
            flowing[f"{source.name}.rejected"] = schemas[f"{source.name}.rejected"]
            flowing[f"{source.name}.future"] = None if whole is None else whole.select(columns[source.name])
        for table in plan.stages:
            self._build_stage(table, flowing)
        for sink in plan.sinks:
            self._build_sink(sink, input_schema(sink.inputs, flowing))
        if result is not None:
            self._outlets[result].connect(self.results, 0)

    def _build_stage(self, table: PlanStage, flowing: dict[str, Schema | None]) -> None:
        read = input_schema(table.inputs, flowing)
        stage: Stage | TwoInputStage
        if isinstance(table, Join):
            read = flowing[table.inputs[0]]
            stage = self._join(table, flowing)
        else:
            stage = self._sequence(table, read) if isinstance(table, Sequence) else self._stage(table, read)
        self._stages.append(stage)
        self.ledger.stages[table.name] = stage.counts
        self._outlets[table.name] = stage.outlet
        flowing[table.name] = (
            getattr(stage.operator, "output", None) if not isinstance(table, MapBatches) else table.schema
        )
        for kind in SIDE_OUTPUTS.get(type(table), ()):
            stage.side[kind] = self._outlets[f"{table.name}.{kind}"] = Outlet()
            flowing[f"{table.name}.{kind}"] = REJECTED if kind == "rejected" else read

    def _stage(self, table: PlanStage, read: Schema | None) -> Stage:
        messages = self._messages(table.name, table.inputs)
        if isinstance(table, MapBatches):
            return _map_stage(table, messages, read)
        make = partial(build_operator, table, by_rows=self._by_rows(table.inputs))
        return Stage(table.name, messages, make, read, _KEPT.get(type(table), ()))

    def _sequence(self, table: Sequence, read: Schema | None) -> SequenceStage:
        past, live = Channel(1, CHANNEL_BYTES), Channel(1, LIVE_BUFFER_BYTES)
        for name, channel in zip(table.inputs, (past, live), strict=True):
            self._outlets[name].connect(channel, 0)
        self.ledger.wire(table.name, table.inputs)
        self._channels += (past, live)
        return SequenceStage(table, past, live, read)

    def _join(self, table: Join, flowing: dict[str, Schema | None]) -> TwoInputStage:
        left, right = (flowing[name] for name in table.inputs)
        if left is None or right is None:
            raise PipelineError(list(unknown_side(table, flowing)))
        channel = self._channel(table.name, table.inputs)
        read = two_inputs.as_they_come
        if table.is_lookup:
            read = two_inputs.right_first
        elif self._in_step(table.inputs):
            read = two_inputs.in_step
        return TwoInputStage(table.name, channel, read, build_join(table, left, right), KEPT_BY_JOIN)

    def _build_sink(self, sink: Sink, schema: Schema | None) -> None:
        connector = open_sink(sink.connector)
        bind_reply = getattr(connector, "bind_reply", None)
        reply = getattr(sink.connector.options, "reply", None)
        if bind_reply is not None and reply:
            bind_reply(next(stage.connector for stage in self._sources if stage.source.name == reply))
        messages = self._messages(sink.name, sink.inputs)
        if waits_for_peers(sink.connector):
            messages = self._handed[sink.name] = Handed(messages)
        stage = SinkStage(sink, connector, messages, schema, self._offload)
        self._sinks.append(stage)
        self.ledger.sinks[sink.name] = stage.counts

    def _messages(self, name: str, inputs: tuple[str, ...]) -> AsyncIterator[Message]:
        """Wires a table to what it reads."""
        channel = self._channel(name, inputs)
        if len(inputs) > 1 and self._in_step(inputs):
            delay_ns = max(s.watermark_delay_ns for read in inputs for s in graph.sources_of(self.plan, read))
            return in_step(channel, len(inputs), delay_ns)
        return in_order(channel, len(inputs))

    def _channel(self, name: str, inputs: tuple[str, ...]) -> Channel:
        channel = Channel(len(inputs), CHANNEL_BYTES)
        self._channels.append(channel)
        for port, read in enumerate(inputs):
            self._outlets[read].connect(channel, port)
        self.ledger.wire(name, inputs)
        return channel

    def _by_rows(self, inputs: tuple[str, ...]) -> bool:
        """The watermarks that rows of these inputs carry are those of the table that reads them."""
        if len(inputs) > 1 and not self._in_step(inputs):
            return False
        stages = {stage.name: stage for stage in self.plan.stages}
        above = [stages[name] for read in inputs if (name := graph.owner(read)) in stages]
        return all(isinstance(stage, Window | Sequence) or self._by_rows(stage.inputs) for stage in above)

    def _in_step(self, inputs: tuple[str, ...]) -> bool:
        """All inputs are rows with event times that end by themselves."""
        if any(read.endswith(".rejected") for read in inputs):
            return False
        read_sources = {s.name for read in inputs for s in graph.sources_of(self.plan, read)}
        connected = [stage for stage in self._sources if stage.source.name in read_sources]
        return all(stage.connector.bounded and stage.source.time is not None for stage in connected)

    async def _run_all(self) -> None:
        failure: BaseException | None = None
        try:
            async with asyncio.TaskGroup() as group:
                for name, coroutine in (
                    *((stage.source.name, stage.run()) for stage in self._sources),
                    *((stage.name, stage.run()) for stage in self._stages),
                    *((stage.sink.name, self._run_sink(stage)) for stage in self._sinks),
                ):
                    group.create_task(_named(name, coroutine), name=f"asyncflow:{name}")
        except BaseExceptionGroup as group_error:
            failure = _first(group_error)
        if failure is not None:
            raise failure

    def _run_sink(self, stage: SinkStage) -> Coroutine[Any, Any, None]:
        handed = self._handed.get(stage.sink.name)
        return stage.run() if handed is None else run_to_end(stage, handed, self._stopping)

    async def _stop_sources(self) -> None:
        await self._stopping.wait()
        for stage in self._sources:
            await stage.stop()

    async def _close_all(self) -> None:
        for stage in self._sources:
            await stage.close()
        for sink in self._sinks:
            await sink.connector.aclose(failed=True)
        self._offload.close()


def _map_stage(table: MapBatches, messages: AsyncIterator[Message], read: Schema | None) -> Stage:
    make = partial(MapOperator, table)
    kept = ("filtered", "rejected") if table.rows else None
    if table.concurrency > 1:
        return MapStage(table, messages, make, read, kept)
    return Stage(table.name, messages, make, read, kept)


async def _named(name: str, coroutine: Awaitable[T]) -> T:
    """Its failure is told with the table's name: one of our own as it is, anything else as InternalError."""
    try:
        return await coroutine
    except Exception as raised:
        error = _first(raised)
    if not isinstance(error, AsyncflowError):
        raise InternalError(f"{type(error).__name__}: {error}", table=name) from error
    error.table = error.table or name
    raise error


def _first(error: BaseException) -> BaseException:
    """The failure itself; of a group the first, however deep."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


async def iterate(plan: Plan, *, workers: int = 1, table: str | None = None) -> AsyncIterator[Batch]:
    """The rows of ``table`` (left out: of the last stage, or of the source) as they come.

    Leaving the loop, or cancelling the task, ends the run and closes everything; a failure of the run is raised here, once.
    """
    wanted = table or (plan.stages[-1].name if plan.stages else plan.sources[-1].name)
    run = Run(plan, workers=workers)
    task = asyncio.create_task(run.execute(wanted), name=f"asyncflow:{plan.name}")
    task.add_done_callback(lambda _: run.results.end(0))
    try:
        while not isinstance(message := (await run.results.receive())[1], End):
            if isinstance(message, Batch):
                yield message
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
