"""The wiring of a run: its sources, stages and sinks made from the plan, and the channels between them.

Nothing runs here, but what the plan leaves out is read from the head of the input, and the live side of a sequence is opened.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Iterator
from functools import partial
from typing import Any, TypeAlias, TypedDict

from asyncflow import connectors
from asyncflow.connectors.contract import SinkConnector, SourceConnector
from asyncflow.errors import PipelineError
from asyncflow.model.batch import END_OF_TIME
from asyncflow.model.schema import Schema
from asyncflow.operators.contract import Operator
from asyncflow.operators.derive import DeriveOperator
from asyncflow.operators.joins.lookup import LookupJoin
from asyncflow.operators.merge import InStepMerge
from asyncflow.plan import capabilities, graph, times
from asyncflow.plan.schemas import passed_columns, read_columns, side_schemas, table_schemas
from asyncflow.plan.stages.derive import Derive
from asyncflow.plan.stages.join import Join
from asyncflow.plan.stages.map import MapBatches
from asyncflow.plan.stages.sequence import Sequence
from asyncflow.plan.tables import WINDOW_TIMES, Component, Plan, Sink, Source, TimeColumns
from asyncflow.plan.tables import Stage as PlanStage
from asyncflow.plan.validate import validate
from asyncflow.runtime.base.clock import Clock
from asyncflow.runtime.base.failures import named
from asyncflow.runtime.base.ledger import Ledger
from asyncflow.runtime.base.memory import Memory
from asyncflow.runtime.base.snapshots import Collect
from asyncflow.runtime.base.workers import Offload
from asyncflow.runtime.edges.channel import Channel
from asyncflow.runtime.edges.deadlock import Standstill
from asyncflow.runtime.edges.fan_out import Outlet
from asyncflow.runtime.edges.inputs import Inputs, Tracker
from asyncflow.runtime.ingest.python_source import BytesSource, ObjectSource
from asyncflow.runtime.ingest.source import Reads, SourceStage
from asyncflow.runtime.stages.join import LEFT, RIGHT, TwoInputStage
from asyncflow.runtime.stages.map import MakeMap, MapOperator
from asyncflow.runtime.stages.map_concurrent import MapStage
from asyncflow.runtime.stages.one_input import OneInputStage
from asyncflow.runtime.stages.readers import AsTheyCome, Merged, OneAfterOther, Reader
from asyncflow.runtime.stages.refresh import RefreshedStage
from asyncflow.runtime.stages.retiming import RetimedDerive, Retiming
from asyncflow.runtime.stages.sequence import LIVE_BUFFER_BYTES, PastThenLive, SequenceStage
from asyncflow.runtime.stages.sink import SinkStage
from asyncflow.runtime.stages.stage import Stage
from asyncflow.runtime.wiring.compile import build_operator
from asyncflow.runtime.wiring.compile_join import build_join
from asyncflow.runtime.wiring.inference import find_schema
from asyncflow.runtime.wiring.reading_order import ReadingOrder

CHANNEL_BYTES = 4 << 20
"""Bound of a channel, per input: about two full batches."""

Flowing: TypeAlias = dict[str, Schema | None]
"""The columns of each table's rows on their way, where they are known: a source passes on what the plan uses of it."""


class OfRun(TypedDict):
    """What every stage of a run is made with."""

    clock: Clock
    memory: Memory
    collect: Collect | None


ROWS_AHEAD = "rows of one input that wait for another"


def open_source(source: Source) -> SourceConnector:
    """The source's connector, unopened."""
    component = source.connector
    if isinstance(component.object, SourceConnector):
        return component.object
    if component.object is not None:
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


class Wiring:
    """The parts of one run of ``plan`` (its stages in the order in which they can be worked out), none before ``build``.

    ``inputs``: what each stage and sink reads, by its name.  ``may_wait``: the sinks that may wait for ever for a peer.
    ``whole``: as in :class:`~asyncflow.runtime.stages.sink.SinkStage`.
    ``head_of``: the source whose first records are awaited, to tell its schema, or ``""``.
    """

    def __init__(
        self,
        plan: Plan,
        ledger: Ledger,
        clock: Clock,
        reads: Reads,
        memory: Memory,
        whole: Callable[[], bool] = lambda: True,
        collect: Collect | None = None,
    ) -> None:
        self.plan = plan
        self.memory = memory
        self.ledger = ledger
        self.channels: list[Channel] = []
        self.standstill = Standstill()
        self.sources: list[SourceStage] = []
        self.stages: list[Stage] = []
        self.sinks: list[SinkStage] = []
        self.may_wait: set[str] = set()
        self.outlets: dict[str, Outlet] = {}
        self.inputs: dict[str, Inputs] = {}
        self.head_of = ""
        self._whole = whole
        self._collect = collect
        self._clock = clock
        self._how = reads
        self._order = ReadingOrder(plan, self.sources, lambda table: self._retiming(table) is not None)
        self._offload = Offload(1)
        self._of_sources: Flowing = {}
        self._schemas: Flowing = {}
        self._times: dict[str, TimeColumns] = {}

    async def build(self, offload: Offload) -> None:
        """Makes all parts; PipelineError where the plan does not fit what the head of the input shows."""
        self._offload = offload
        plan = self.plan
        self._make_sources()
        for table in plan.stages:
            for name in table.opened_first:
                live = next(stage for stage in self.sources if stage.source.name == name)
                self.sources.remove(live)
                self.sources.insert(0, live)
                await named(live.source.name, live.open(), live.connector)
        inferred: dict[str, Schema] = {}
        for stage in self.sources:
            self.head_of = stage.source.name
            await named(stage.source.name, find_schema(stage), stage.connector)
            if stage.schema is not None:
                inferred[stage.source.name] = stage.schema
        self.head_of = ""
        problems = validate(plan, inferred)
        if problems:
            raise PipelineError(problems)
        schemas = table_schemas(plan, inferred)
        self._schemas, self._times = schemas, times.time_columns(plan, schemas)
        columns, passed = read_columns(plan, schemas), passed_columns(plan, schemas)
        for stage in self.sources:
            stage.schema = schemas[stage.source.name]
            stage.columns = columns.get(stage.source.name, ())
            stage.passed = passed.get(stage.source.name, ())
        # What flows are the projected columns, so every stage's input schema is worked out from them.
        for source in plan.sources:
            whole = schemas[source.name]
            self._of_sources |= {
                source.name: None if whole is None else whole.select(passed[source.name]),
                f"{source.name}.rejected": schemas[f"{source.name}.rejected"],
                f"{source.name}.future": None if whole is None else whole.select(columns[source.name]),
            }
        self._connect()

    def part(self, table: str) -> Wiring:
        """What ``table`` comes from, and itself, made once more to be read from its start; it reads the same columns, of the same types."""
        memory = Memory(self.memory.limit_bytes)  # the table it becomes counts for the whole run
        again = Wiring(graph.part(self.plan, table), Ledger(self.plan.name), self._clock, self._how, memory)
        again._offload, again._of_sources = self._offload, self._of_sources
        again._schemas, again._times = self._schemas, self._times
        again._make_sources()
        known = {stage.source.name: stage for stage in self.sources}
        for stage in again.sources:
            stage.read_as(known[stage.source.name])
        again._connect()
        return again

    def add(self, part: Wiring) -> None:
        """Counts what went through a part that was made again."""
        self.ledger.add(part.ledger)
        read = {stage.source.name: stage for stage in part.sources}
        for stage in self.sources:
            if stage.source.name in read:
                stage.add_reasons(read[stage.source.name].reasons)

    def coroutines(self) -> Iterator[tuple[str, Coroutine[Any, Any, None], object]]:
        """The sources and stages, to be run together, and what does their work."""
        yield from ((stage.source.name, stage.run(), stage.connector) for stage in self.sources)
        yield from ((stage.name, stage.run(), stage.operator) for stage in self.stages)

    def _make_sources(self) -> None:
        for source in self.plan.sources:
            stage = SourceStage(
                source, open_source(source), self._clock, self._offload, self._how, self.memory
            )
            self.sources.append(stage)
            self.ledger.sources[source.name] = stage.counts
            self.outlets |= {
                source.name: stage.outlet,
                f"{source.name}.rejected": stage.rejected,
                f"{source.name}.future": stage.future,
            }

    def _connect(self) -> None:
        """The stages and sinks over sources whose columns are known."""
        flowing: Flowing = dict(self._of_sources)
        for table in self.plan.stages:
            self._build_stage(table, flowing)
        for sink in self.plan.sinks:
            self._build_sink(sink, flowing)

    def _build_stage(self, table: PlanStage, flowing: Flowing) -> None:
        stage: Stage
        if isinstance(table, Join):
            read = flowing[table.inputs[0]]
            stage = self._join(table, flowing)
        else:
            read = union_schema(table.inputs, flowing)
            stage = (
                self._sequence(table, read, flowing)
                if isinstance(table, Sequence)
                else self._stage(table, read, flowing)
            )
        self.stages.append(stage)
        self.ledger.stages[table.name] = stage.counts
        self.outlets[table.name] = stage.outlet
        if isinstance(table, MapBatches):
            flowing[table.name] = table.schema
        else:
            flowing[table.name] = None if stage.operator is None else stage.operator.output
        for kind in table.side_outputs:
            stage.side[kind] = self.outlets[f"{table.name}.{kind}"] = Outlet()
        flowing |= side_schemas(table, read)

    def _stage(self, table: PlanStage, read: Schema | None, flowing: Flowing) -> Stage:
        reader = self._reader(table, read, flowing)
        retiming = self._retiming(table)
        if isinstance(table, MapBatches):
            named = retiming is not None and retiming.columns != WINDOW_TIMES
            by_time = named and times.goes_by_time(self.plan, table.name)
            return self._map(table, reader, partial(MapOperator, table, retiming, by_time), read, retiming)
        make = partial(_operator, table, retiming, self._order.by_rows(table.inputs))
        return OneInputStage(table.name, reader, make, read, table.ways, retiming=retiming, **self._of_run())

    def _map(
        self,
        table: MapBatches,
        reader: Reader,
        make: MakeMap,
        read: Schema | None,
        retiming: Retiming | None,
    ) -> Stage:
        if table.concurrency > 1:
            return MapStage(table, reader, make, read, table.ways, retiming=retiming, **self._of_run())
        return OneInputStage(table.name, reader, make, read, table.ways, retiming=retiming, **self._of_run())

    def _of_run(self) -> OfRun:
        return {"clock": self._clock, "memory": self.memory, "collect": self._collect}

    def _retiming(self, table: PlanStage) -> Retiming | None:
        """Where a stage gives its rows times of their own."""
        columns = graph.read_times(table, self._times)[0]
        if not table.re_times(columns, graph.read_schemas(table, self._schemas)):
            return None
        ahead_ns = max(source.max_future_ns for source in graph.sources_of(self.plan, table.name))
        return Retiming(
            columns,
            times.delay_ns(self.plan, table.name),
            lambda: min(self._clock.now_ns() + ahead_ns, END_OF_TIME),
            ordered=getattr(table, "ordered", True) or getattr(table, "concurrency", 1) == 1,
            moved=True if isinstance(table, Derive) else None,
        )

    def _sequence(self, table: Sequence, read: Schema | None, flowing: Flowing) -> SequenceStage:
        past, live = (
            Channel(1, max_bytes, table.name, self.memory) for max_bytes in (CHANNEL_BYTES, LIVE_BUFFER_BYTES)
        )
        for name, channel in zip(table.inputs, (past, live), strict=True):
            self.outlets[name].connect(channel, 0, _taken(name, read, flowing))
            self.standstill.add(channel, (name,))
        self.ledger.wire(table.name, table.inputs)
        self.channels += (past, live)
        reader = PastThenLive(past, live, live_first=bool(table.unique))
        stage = SequenceStage(table, reader, read, **self._of_run())
        self.inputs[table.name] = Inputs(table.inputs, ((past, 0), (live, 0)), stage, in_step=False)
        return stage

    def _join(self, table: Join, flowing: Flowing) -> TwoInputStage:
        left, right = (flowing[name] for name in table.inputs)
        if left is None or right is None:
            raise PipelineError(list(table.unknown_sides((left, right))))
        channel = self._channel(table.name, table.inputs, (None, None))
        operator = build_join(table, left, right)
        if table.is_lookup:
            account = self.memory.account(table.name, ROWS_AHEAD)
            reader = OneAfterOther(
                channel,
                table.inputs,
                (RIGHT, LEFT),
                account,
                max_held_bytes=table.max_state_bytes,
                apart=True,
            )
            self._reads(table, channel, reader)
            if table.refresh_ns is not None and isinstance(operator, LookupJoin):
                return RefreshedStage(table, reader, operator, table.ways, self, **self._of_run())
            return TwoInputStage(table.name, reader, operator, table.ways, **self._of_run())
        both = AsTheyCome(channel, 2, in_step=self._order.in_step(table.inputs), apart=True)
        self._reads(table, channel, both)
        return TwoInputStage(table.name, both, operator, table.ways, **self._of_run())

    def _build_sink(self, sink: Sink, flowing: Flowing) -> None:
        connector = open_sink(sink.connector)
        can = capabilities.of_sink(sink.connector)
        if can.replies_to is not None:
            connector.bind_reply(
                next(stage.connector for stage in self.sources if stage.source.name == can.replies_to)
            )
        schema = union_schema(sink.inputs, flowing)
        reader = self._reader(sink, schema, flowing)
        if can.may_wait:
            self.may_wait.add(sink.name)
        stage = SinkStage(sink, connector, reader, schema, self._offload, self._whole, self._collect)
        self.sinks.append(stage)
        self.ledger.sinks[sink.name] = stage.counts

    def _reader(self, table: PlanStage | Sink, read: Schema | None, flowing: Flowing) -> Reader:
        """Wires a table to what it reads; ``read``: the columns that it takes."""
        inputs = table.inputs
        channel = self._channel(table.name, inputs, [_taken(name, read, flowing) for name in inputs])
        several = len(inputs) > 1
        reader: Merged | OneAfterOther | AsTheyCome
        if several and self._order.in_step(inputs):
            delay_ns = max(s.watermark_delay_ns for read in inputs for s in graph.sources_of(self.plan, read))
            rising = {number for number, read in enumerate(inputs) if self._order.rising(read)}
            merge = InStepMerge(len(inputs), delay_ns, rising)
            reader = Merged(channel, merge, inputs, self.memory.account(table.name, ROWS_AHEAD))
        elif several and self._order.bounded(inputs):
            account = self.memory.account(table.name, ROWS_AHEAD)
            reader = OneAfterOther(channel, inputs, range(len(inputs)), account)
        else:
            reader = AsTheyCome(channel, len(inputs))
        self._reads(table, channel, reader, in_step=not isinstance(reader, AsTheyCome))
        return reader

    def _reads(
        self, table: PlanStage | Sink, channel: Channel, tracker: Tracker, *, in_step: bool = False
    ) -> None:
        ports = [(channel, port) for port in range(len(table.inputs))]
        self.inputs[table.name] = Inputs(table.inputs, ports, tracker, in_step=in_step)

    def _channel(
        self, name: str, inputs: tuple[str, ...], columns: Iterable[tuple[str, ...] | None]
    ) -> Channel:
        channel = Channel(len(inputs), CHANNEL_BYTES, name, self.memory)
        self.channels.append(channel)
        for port, (read, taken) in enumerate(zip(inputs, columns, strict=True)):
            self.outlets[read].connect(channel, port, taken)
        self.standstill.add(channel, [graph.owner(read) for read in inputs])
        self.ledger.wire(name, inputs)
        return channel


def union_schema(inputs: tuple[str, ...], flowing: Flowing) -> Schema | None:
    """What a table that reads these together gets: of the first one's columns those that all pass on.  One that others read as well may
    pass more on."""
    known = [schema for name in inputs if (schema := flowing.get(name)) is not None]
    if not known:
        return None
    names = tuple(name for name in known[0].names if all(name in schema for schema in known))
    return known[0] if names == known[0].names else known[0].select(names)


def _taken(name: str, read: Schema | None, flowing: Flowing) -> tuple[str, ...] | None:
    """The columns to take of an input where that is not all it passes on."""
    schema = flowing.get(name)
    return None if read is None or schema is None or schema.names == read.names else read.names


def _operator(table: PlanStage, retiming: Retiming | None, by_rows: bool, read: Schema) -> Operator:
    operator = build_operator(table, read, by_rows=by_rows)
    if retiming is None:
        return operator
    assert isinstance(operator, DeriveOperator)
    return RetimedDerive(operator, retiming)
