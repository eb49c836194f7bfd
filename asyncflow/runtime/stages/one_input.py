"""Stages over one kind of rows: filter, derive, windows, dedup, top, and the user's function one call after another."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from msgspec.structs import replace

from asyncflow.model.batch import NO_TIME, Batch
from asyncflow.model.messages import Watermark
from asyncflow.model.saved_batches import plain_schema, schema_of
from asyncflow.model.schema import Schema
from asyncflow.model.snapshot import Copied, Frozen, Plain, Saved, nested
from asyncflow.operators.contract import Operator, Output
from asyncflow.runtime.base.clock import Clock
from asyncflow.runtime.base.memory import Memory
from asyncflow.runtime.base.snapshots import Collect
from asyncflow.runtime.stages.readers import Reader
from asyncflow.runtime.stages.retiming import Retiming
from asyncflow.runtime.stages.stage import Stage


class AsyncOperator(Operator):
    """An operator whose work is a coroutine: the user's own async function."""

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
        retiming: Retiming | None = None,
        collect: Collect | None = None,
    ) -> None:
        self._operator: Operator | None = None
        self._schema = schema
        super().__init__(name, reader, kept, clock=clock, memory=memory, collect=collect)
        self._make = make
        self._retiming = retiming
        if schema is not None:
            self._build(schema)

    @property
    def operator(self) -> Operator | None:
        return self._operator

    async def _process(self, port: int, batch: Batch) -> Iterable[Output]:
        operator = self._built(batch.schema)
        self.counts.rows_in += batch.num_rows
        try:
            if isinstance(operator, AsyncOperator):
                return await operator.process_async(batch)
            return operator.process(batch)
        except Exception as error:
            self._fail(error)

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
                await self._hand_on(operator.advance(watermark.time_ns))
        if operator is not None and operator.held_ns:
            held = watermark.time_ns - operator.held_ns
            await self.outlet.send(replace(watermark, time_ns=max(held, NO_TIME)))
        else:
            await self.outlet.send(watermark)
        for side in self.side.values():  # their rows leave as soon as they come
            await side.send(watermark)

    async def _finish(self, port: int) -> None:
        if self._operator is not None:
            await self._hand_on(self._operator.finish())

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
