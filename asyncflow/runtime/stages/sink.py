"""A sink's coroutine: rows to bytes to the outside.  A slow outside makes it wait, and that is the backpressure.

What a worker has encoded is written beside the encoding of the rows that are next; little that is encoded at once is written at once.
Invariant: at a watermark, a barrier and the end all rows that were taken are written.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import TypeAlias

from asyncflow import formats
from asyncflow.connectors.contract import SinkConnector
from asyncflow.formats.contract import Encoder
from asyncflow.model.batch import Batch, iter_pieces
from asyncflow.model.messages import Barrier, Watermark
from asyncflow.model.schema import Schema
from asyncflow.model.snapshot import Copied, Frozen, Plain, Saved, nested, plain_schema, schema_of
from asyncflow.plan.tables import Sink
from asyncflow.runtime.base.beside import Beside
from asyncflow.runtime.base.closing import closing
from asyncflow.runtime.base.ledger import SinkCounts
from asyncflow.runtime.base.snapshots import Collect
from asyncflow.runtime.base.workers import Offload
from asyncflow.runtime.edges.channel import Reader

Encoded: TypeAlias = bytes | bytearray | memoryview
MAX_ENCODED_ROWS = 1 << 16
MAX_ENCODED_BYTES = 1 << 26
"""What is encoded in one go: bounds the memory of a large result, not its meaning."""


class SinkStage:
    """One sink of a run.  ``schema``: of its input where it is known before the first row (for a header without rows).

    ``whole``: asked when all rows were written, whether they are the whole result; a sink that publishes at its end does so only then.
    """

    def __init__(
        self,
        sink: Sink,
        connector: SinkConnector,
        reader: Reader,
        schema: Schema | None,
        offload: Offload,
        whole: Callable[[], bool] = lambda: True,
        collect: Collect | None = None,
    ) -> None:
        self.sink = sink
        self.connector = connector
        self.counts = SinkCounts(outside=connector.counted)
        self.taken_rows = 0
        """Rows it took from its inputs; ``counts.rows`` are those that it has written."""
        self.taken_all = False
        """Its inputs have ended: it took all rows that there are."""
        self.reader = reader
        self._collect = collect
        self._schema = schema
        self._offload = offload
        self._whole = whole
        self._unflushed = False
        self._writing = Beside()
        """Writes what was encoded last."""
        self._joint: bytes | None = (
            None  # what stands between what the target holds and the first row; None: not known yet
        )
        self.ended = False
        self._encoder = self._make_encoder(schema) if schema is not None else None

    async def run(self) -> None:
        failed = True
        if self.ended:
            return
        try:
            await self._continue()
            async with self._writing:
                await self._take_all()
            self.taken_all = True
            self.connector.rows_in_hand = 0
            if self._encoder is not None:
                await self._put(self._encoder.finish(), None)
            await self.connector.flush()
            failed = not self._whole()
            if self._collect is not None:
                token = await self.connector.prepare()
                self._collect(
                    self.sink.name, None, Copied({"ended": True, "token": token, **self._counted()})
                )
        finally:
            await self.connector.aclose(failed=failed)
            self.ended = True

    async def _take_all(self) -> None:
        async with closing(self.reader.messages()) as messages:
            async for _, message in messages:
                if isinstance(message, Batch):
                    await self._write(message)
                    continue
                await self._writing.settle()
                if isinstance(message, Watermark):
                    if self._unflushed:
                        await self.connector.flush()
                        self._unflushed = False
                elif isinstance(message, Barrier):
                    await self.hand_in(message.epoch)

    async def hand_in(self, epoch: int) -> None:
        """Collects the state: at a barrier, or before ``run``, once the outside is open.  All rows that were taken are written, and last as
        far as the connector can see to that."""
        assert self._collect is not None, "a barrier in a run that takes no snapshots"
        await self._continue()
        if self._unflushed:
            await self.connector.flush()
            self._unflushed = False
        self._collect(self.sink.name, epoch, self._freeze(await self.connector.prepare()))

    def restore(self, saved: Saved) -> None:
        """Takes the state that was collected from the same sink of another run, before ``run``.  Raises ValueError."""
        self.counts.rows, self.counts.bytes = saved.integer("rows"), saved.integer("bytes")
        self.taken_rows = self.counts.rows
        if saved.fields.get("ended"):
            self.ended = self.taken_all = True
            return
        if (token := saved.fields.get("token")) is not None:
            self.connector.recover(token)
        self.reader.restore(saved.within("reader"))
        if (fields := saved.fields.get("schema")) is not None:
            if self._encoder is None:
                self._encoder = self._make_encoder(schema_of(fields))
            if self._encoder is not None:
                self._encoder.restore(saved.within("encoder"))
                joint = saved.fields.get("joint")
                self._joint = joint if isinstance(joint, bytes) else b""

    def _freeze(self, token: Plain) -> Frozen:
        parts = {"reader": self.reader.freeze()}
        if self._encoder is not None:
            parts["encoder"] = self._encoder.freeze()
        schema: Plain = None if self._schema is None else plain_schema(self._schema)
        return nested({"schema": schema, "joint": self._joint, "token": token, **self._counted()}, parts)

    def _counted(self) -> dict[str, Plain]:
        return {"rows": self.counts.rows, "bytes": self.counts.bytes}

    async def _write(self, batch: Batch) -> None:
        self.taken_rows += batch.num_rows
        if not self.connector.takes_bytes:
            self.connector.take_rows(batch)
            self.counts.rows += batch.num_rows
            return
        if self._encoder is None:
            self._encoder = self._make_encoder(batch.schema)
            await self._continue()
        assert self._encoder is not None
        for part in iter_pieces(batch, MAX_ENCODED_ROWS, MAX_ENCODED_BYTES):
            data = self._offload.start(partial(self._encoder.encode, part), part.nbytes)
            if isinstance(data, asyncio.Future):
                await self._writing.start(partial(self._put_rows, await data, part.num_rows, part.origin))
            else:
                await self._writing.settle()
                await self._put_rows(data, part.num_rows, part.origin)
            del data  # its memory can be used again

    async def _put_rows(self, data: Encoded, num_rows: int, origin: object) -> None:
        self.connector.rows_in_hand = num_rows
        await self._put(data, origin)
        self.counts.rows += num_rows

    async def _put(self, data: Encoded, origin: object) -> None:
        if len(data):
            if self._joint:
                data, self._joint = b"".join((self._joint, data)), b""
            await self.connector.write(data, origin=origin)
            self._unflushed = True
            self.counts.bytes += len(data)

    async def _continue(self) -> None:
        """Lets the encoder see what the target holds already, once both are known."""
        held = self.connector.held
        if held is not None and self._encoder is not None and self._joint is None:
            self._joint = await asyncio.to_thread(self._encoder.continues, held)

    def _make_encoder(self, schema: Schema) -> Encoder | None:
        self._schema = schema
        if not self.connector.takes_bytes:
            return None
        assert self.sink.format is not None
        module = formats.find_encoder(self.sink.format.type)
        options = (
            self.sink.format.options if self.sink.format.options is not None else module.EncoderOptions()
        )
        encoder = module.encoder(options, schema)
        assert isinstance(encoder, Encoder)
        return encoder
