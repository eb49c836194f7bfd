"""The wires of a run: for each table the channel that it reads, connected to the outlets of its inputs.

A table with several inputs is read in the order that the plan says (``plan.reading_order``); the status of its inputs stands in ``inputs``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias, overload

from asyncflow.model.schema import Schema
from asyncflow.plan import graph
from asyncflow.plan.reading_order import ReadingOrder
from asyncflow.plan.tables import Plan, Sink, Stage, Wanted
from asyncflow.runtime.base.ledger import Ledger
from asyncflow.runtime.base.memory import Memory
from asyncflow.runtime.edges.channel import CHANNEL_BYTES as CHANNEL_BYTES
from asyncflow.runtime.edges.channel import Channel, FanOut, OneInput, Reader
from asyncflow.runtime.edges.deadlock import DeadlockDetector
from asyncflow.runtime.edges.inputs import Inputs, Tracker

ROWS_AHEAD = "rows of one input that wait for another"

Flowing: TypeAlias = dict[str, Schema | None]
"""The columns of each table's rows on their way, where they are known: a source passes on what the plan uses of it."""


class Wires:
    """``outlets``: of all tables and side outputs, by name; ``inputs``: what each stage and sink reads, by its name."""

    def __init__(self, plan: Plan, ledger: Ledger, memory: Memory) -> None:
        self.plan = plan
        self.memory = memory
        self.channels: list[Channel] = []
        self.deadlocks = DeadlockDetector()
        self.outlets: dict[str, FanOut] = {}
        self.inputs: dict[str, Inputs] = {}
        self._ledger = ledger

    def reader(
        self, table: Stage | Sink, read: Schema | None, flowing: Flowing, order: ReadingOrder
    ) -> Reader:
        """The reader of a table over its union; ``read``: the columns that it takes."""
        inputs = table.inputs
        channel = self.channel(table, [taken(name, read, flowing) for name in inputs])
        if len(inputs) == 1:
            one = OneInput(channel)
            self.reads(table, [channel], one)
            return one
        from asyncflow.runtime.stages.readers import AsTheyCome, Merged, OneAfterOther

        reader: Merged | OneAfterOther | AsTheyCome
        if order.in_step(inputs):
            from asyncflow.operators.merge import InStepMerge

            sources = [source for name in inputs for source in graph.sources_of(self.plan, name)]
            delay_ns = max(source.watermark_delay_ns for source in sources)
            rising = {number for number, name in enumerate(inputs) if order.rising(name)}
            merge = InStepMerge(len(inputs), delay_ns, rising)
            reader = Merged(channel, merge, inputs, self.memory.account(table.name, ROWS_AHEAD))
        elif order.bounded(inputs):
            account = self.memory.account(table.name, ROWS_AHEAD)
            reader = OneAfterOther(channel, inputs, range(len(inputs)), account)
        else:
            reader = AsTheyCome(channel, len(inputs))
        self.reads(table, [channel], reader, in_step=not isinstance(reader, AsTheyCome))
        return reader

    def channel(self, table: Stage | Sink, columns: Iterable[tuple[str, ...] | None]) -> Channel:
        """One channel with a port for each input of a table; ``columns``: those to take of each, None: all."""
        channel = self._made(table, len(table.inputs), CHANNEL_BYTES)
        for port, (name, names) in enumerate(zip(table.inputs, columns, strict=True)):
            self.outlets[name].connect(channel, port, names)
        self.deadlocks.add(channel, [graph.owner(name) for name in table.inputs])
        self._ledger.wire(table.name, table.inputs)
        return channel

    def channels_apart(
        self, table: Stage, sizes: Iterable[int], columns: Iterable[tuple[str, ...] | None]
    ) -> tuple[Channel, ...]:
        """A channel of one port for each input of a table, each of its own size in bytes."""
        made = []
        for name, most, names in zip(table.inputs, sizes, columns, strict=True):
            channel = self._made(table, 1, most)
            self.outlets[name].connect(channel, 0, names)
            self.deadlocks.add(channel, (graph.owner(name),))
            made.append(channel)
        self._ledger.wire(table.name, table.inputs)
        return tuple(made)

    def reads(
        self, table: Stage | Sink, channels: list[Channel], tracker: Tracker, *, in_step: bool = False
    ) -> None:
        """Says how the inputs of a table stand: by the ports of its one channel, or of one channel each."""
        ports = [
            (channels[0], port) if len(channels) == 1 else (channels[port], 0)
            for port in range(len(table.inputs))
        ]
        self.inputs[table.name] = Inputs(table.inputs, ports, tracker, in_step=in_step)

    def _made(self, table: Stage | Sink, ports: int, max_bytes: int) -> Channel:
        channel = Channel(ports, max_bytes, table.name, self.memory)
        self.channels.append(channel)
        return channel


def union_schema(inputs: tuple[str, ...], flowing: Flowing) -> Schema | None:
    """What a table that reads these together gets: of the first input's columns those that every input has.  An input that others read as
    well may pass more on."""
    known = [schema for name in inputs if (schema := flowing.get(name)) is not None]
    if not known:
        return None
    names = tuple(name for name in known[0].names if all(name in schema for schema in known))
    return known[0] if names == known[0].names else known[0].select(names)


@overload
def narrowed(schema: Schema, wanted: Wanted) -> Schema: ...
@overload
def narrowed(schema: Schema | None, wanted: Wanted) -> Schema | None: ...
def narrowed(schema: Schema | None, wanted: Wanted) -> Schema | None:
    """The columns that are wanted of a schema; None: all."""
    if schema is None or wanted is None or wanted.issuperset(schema.names):
        return schema
    return schema.select([name for name in schema.names if name in wanted])


def taken(name: str, read: Schema | None, flowing: Flowing) -> tuple[str, ...] | None:
    """The columns to take of an input where that is not all it passes on."""
    schema = flowing.get(name)
    return None if read is None or schema is None or schema.names == read.names else read.names
