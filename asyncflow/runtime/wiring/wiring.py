"""The wiring of a run: its sources, stages and sinks made from the plan, and the channels between them.

``build`` reads the head of an input whose format or schema the plan leaves out, and opens the live side of a sequence first.  Nothing
else runs here.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator
from typing import Any

from asyncflow import connectors
from asyncflow.connectors.contract import SinkConnector, SourceConnector
from asyncflow.errors import PipelineError
from asyncflow.model.schema import Schema
from asyncflow.model.snapshot import Saved
from asyncflow.operators.contract import Operator, Stateless
from asyncflow.plan import capabilities, graph, times
from asyncflow.plan.reading_order import ReadingOrder
from asyncflow.plan.schemas import (
    given_columns,
    passed_columns,
    read_columns,
    side_schemas,
    table_schemas,
    taken_columns,
)
from asyncflow.plan.tables import Component, Plan, Sink, Source, TimeColumns, Wanted
from asyncflow.plan.tables import Stage as PlanStage
from asyncflow.plan.validate import validate
from asyncflow.runtime.base.clock import Clock
from asyncflow.runtime.base.failures import named
from asyncflow.runtime.base.ledger import Ledger
from asyncflow.runtime.base.memory import Memory
from asyncflow.runtime.base.snapshots import Collect
from asyncflow.runtime.base.workers import Offload
from asyncflow.runtime.edges.channel import FanOut
from asyncflow.runtime.ingest.source import Reads, SourceStage
from asyncflow.runtime.stages.sink import SinkStage
from asyncflow.runtime.stages.stage import Stage
from asyncflow.runtime.wiring.builders import build_stage
from asyncflow.runtime.wiring.inference import find_schema
from asyncflow.runtime.wiring.site import Site
from asyncflow.runtime.wiring.wires import Flowing, Wires, union_schema


def open_source(source: Source) -> SourceConnector:
    """The source's connector, unopened."""
    component = source.connector
    if isinstance(component.object, SourceConnector):
        return component.object
    if component.object is not None:
        from asyncflow.runtime.ingest.python.sources import BytesSource, ObjectSource

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
        offload: Offload,
        whole: Callable[[], bool] = lambda: True,
        collect: Collect | None = None,
    ) -> None:
        self.plan = plan
        self.memory = memory
        self.ledger = ledger
        self.wires = Wires(plan, ledger, memory)
        self.sources: list[SourceStage] = []
        self.stages: list[Stage] = []
        self.sinks: list[SinkStage] = []
        self.may_wait: set[str] = set()
        self.outlets, self.inputs = self.wires.outlets, self.wires.inputs
        self.head_of = ""
        self._whole = whole
        self._collect = collect
        self._clock = clock
        self._how = reads
        self._offload = offload
        self._of_sources: Flowing = {}
        self._schemas: Flowing = {}
        self._times: dict[str, TimeColumns] = {}
        self._taken: dict[str, tuple[Wanted, ...]] = {}
        self._given: dict[str, Wanted] = {}

    async def build(self, saved_source: Callable[[str], Saved | None] = lambda _: None) -> None:
        """Makes all parts; sources go on from a saved state where there is one.

        PipelineError where the plan does not fit what the head of the input shows.
        """
        plan = self.plan
        self._make_sources()
        for stage in self.sources:
            if (state := saved_source(stage.source.name)) is not None:
                stage.restore(state)
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
        self._taken, self._given = taken_columns(plan, schemas), given_columns(plan, schemas)
        columns, passed = read_columns(plan, schemas), passed_columns(plan, schemas)
        for stage in self.sources:
            name = stage.source.name
            stage.select(schemas[name], columns.get(name, ()), passed.get(name, ()))
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
        part, ledger = graph.part(self.plan, table), Ledger(self.plan.name)
        again = Wiring(part, ledger, self._clock, self._how, memory, self._offload)
        again._of_sources = self._of_sources
        again._schemas, again._times = self._schemas, self._times
        again._taken, again._given = self._taken, self._given
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
                stage.way.add_reasons(read[stage.source.name].way.reasons)

    def coroutines(self) -> Iterator[tuple[str, Coroutine[Any, Any, None], object]]:
        """The sources and stages, to be run together, and what does their work."""
        yield from ((stage.source.name, stage.run(), stage.connector) for stage in self.sources)
        yield from ((stage.name, stage.run(), stage.operator) for stage in self.stages)

    def _make_sources(self) -> None:
        for source in self.plan.sources:
            stage = SourceStage(
                source, open_source(source), self._clock, self._offload, self._how, self.memory, self._collect
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
        bounded = [stage.source.name for stage in self.sources if stage.connector.bounded]
        order = ReadingOrder(self.plan, self._schemas, bounded)
        for table in self.plan.stages:
            self._build_stage(table, flowing, order)
        for sink in self.plan.sinks:
            self._build_sink(sink, flowing, order)
        for source in self.sources:
            source.way.next_operators = tuple(self._next_operators(source))

    def _next_operators(self, source: SourceStage) -> Iterator[Operator]:
        """The operators that are the only ones to take the rows of a source, one after the other, up to the first that has a state."""
        name, outlet = source.source.name, source.outlet
        while outlet.readers == 1 and outlet.whole:
            stage = next((each for each in self.stages if self.inputs[each.name].names == (name,)), None)
            if stage is None or not isinstance(operator := stage.operator, Operator):
                return
            yield operator
            if not isinstance(operator, Stateless):
                return
            name, outlet = stage.name, stage.outlet

    def _build_stage(self, table: PlanStage, flowing: Flowing, order: ReadingOrder) -> None:
        before = graph.read_times(table, self._times)[0]
        site = Site(
            table,
            self.plan,
            self.wires,
            order,
            tuple(union_schema(names, flowing) for names in graph.ports(table)),
            self._taken[table.name],
            self._given[table.name],
            flowing,
            before,
            table.re_times(before, graph.read_schemas(table, self._schemas)),
            {
                "clock": self._clock,
                "memory": self.memory,
                "offload": self._offload,
                "collect": self._collect,
            },
            self,
        )
        stage = build_stage(site)
        self.stages.append(stage)
        self.ledger.stages[table.name] = stage.counts
        self.outlets[table.name] = stage.outlet
        operator = stage.operator
        flowing[table.name] = table.output(site.read) if operator is None else operator.output
        for kind in table.side_outputs:
            stage.side[kind] = self.outlets[f"{table.name}.{kind}"] = FanOut()
        flowing |= side_schemas(table, site.read[0])

    def _build_sink(self, sink: Sink, flowing: Flowing, order: ReadingOrder) -> None:
        connector = open_sink(sink.connector)
        if self._collect is not None:
            connector = connector.with_checkpoints()
        can = capabilities.of_sink(sink.connector)
        if can.replies_to is not None:
            connector.bind_reply(
                next(stage.connector for stage in self.sources if stage.source.name == can.replies_to)
            )
        schema = union_schema(sink.inputs, flowing)
        reader = self.wires.reader(sink, schema, flowing, order)
        if can.may_wait:
            self.may_wait.add(sink.name)
        stage = SinkStage(sink, connector, reader, schema, self._offload, self._whole, self._collect)
        self.sinks.append(stage)
        self.ledger.sinks[sink.name] = stage.counts
