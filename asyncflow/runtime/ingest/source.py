"""A source's coroutine: connector -> bytes -> columns -> rows with an event time -> the readers of the table.

What it owns: the order of its rows, its watermark, its part of the ledger, and its side outputs ``rejected`` and ``future``.
Order is the law here: rows get their watermark and are handed on under one lock, so several streams of one source (the clients of
a listening socket) interleave by whole blocks and every reader sees them in the order in which the watermark saw them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import Any

import numpy as np
from msgspec import Struct

from asyncflow import formats
from asyncflow.connectors.contract import (
    BatchSource,
    ByteSource,
    ByteStream,
    Datagram,
    MessageSource,
    SourceConnector,
)
from asyncflow.errors import DataError, InternalError
from asyncflow.formats.contract import Block, Cut, Decoded, Decoder, DecodeRequest, LinePosition, Reject
from asyncflow.model.batch import NO_TIME, Batch
from asyncflow.model.columns import Int64Array
from asyncflow.model.messages import Watermark
from asyncflow.model.schema import Schema
from asyncflow.plan.tables import Component, Source
from asyncflow.runtime.base.clock import Clock
from asyncflow.runtime.base.closing import closing
from asyncflow.runtime.base.failures import Group, is_ours
from asyncflow.runtime.base.ledger import SourceCounts
from asyncflow.runtime.base.memory import Memory
from asyncflow.runtime.base.rejected import Rejected, rejected_batch
from asyncflow.runtime.base.status import SourceStanding
from asyncflow.runtime.base.workers import Offload
from asyncflow.runtime.edges.fan_out import Outlet, end
from asyncflow.runtime.ingest.blocks import NEWLINE, RECORD_KEPT_BYTES, Dropped, blocks
from asyncflow.runtime.ingest.buffers import BlockPool
from asyncflow.runtime.ingest.decoding import decoded
from asyncflow.runtime.ingest.event_time import EventTime
from asyncflow.runtime.ingest.first_messages import Shape, first_messages
from asyncflow.runtime.ingest.foreign_streams import Refused, Tolerant
from asyncflow.runtime.ingest.idleness import HeardStream, Silence
from asyncflow.runtime.ingest.in_flight import InFlight
from asyncflow.runtime.ingest.peek import CountRecords, Head, PrimedStreams
from asyncflow.runtime.ingest.python_source import ObjectSource

CHUNK_BYTES = 1 << 20
IN_FLIGHT_BYTES = 16 << 20
"""Of all clients of a listening socket together: read, and not yet taken by the table's readers."""
TICK_SECONDS = 0.05
QUIET_AFTER_NS = 1_000_000_000
"""Silence up to here is not worth a word."""
KEPT_REASONS = 5
"""How many rejected records a run keeps to show at its end."""
NO_SCHEMA = "no whole record to tell the schema from"
SINGLES = 1 << 14
"""How many bytes, rows or objects of a source come one by one where that is asked for: all of an input would take too long."""
CUT_BY_STOP = "cut short: stopped"
"""Why the last record of a stream was rejected that a stop ended."""
EMPTY = Schema(())


class Reads(Struct, frozen=True):
    """How a source is read, for those who want to see that it makes no difference: ``most_bytes`` by one read of a stream (None: what
    is there); ``one_by_one``: at first byte by byte, so record by record, or row by row."""

    most_bytes: int | None = None
    one_by_one: bool = False


def decoding(format_: Component, *, messages: bool) -> tuple[ModuleType, Any]:
    """The module of a format and its options, as they are for streams or for ``messages``."""
    module = formats.find_decoder(format_.type)
    options = format_.options if format_.options is not None else module.DecoderOptions()
    return module, module.for_messages(options) if messages and hasattr(module, "for_messages") else options


class SourceStage:
    """One source of a run.  ``run`` reads it to its end, or until ``stop``; ``outlet``, ``rejected`` and ``future`` are its ways out."""

    def __init__(
        self,
        source: Source,
        connector: SourceConnector,
        clock: Clock,
        offload: Offload,
        reads: Reads | None = None,
        memory: Memory | None = None,
    ) -> None:
        self.source = source
        self.connector = connector
        self.outlet, self.rejected, self.future = Outlet(), Outlet(several=True), Outlet()
        self.counts = SourceCounts(outside=connector.counted)
        self.reasons: list[str] = []
        self.columns: tuple[str, ...] = ()
        """Those that are decoded."""
        self.passed: tuple[str, ...] = ()
        """Those of them that the table's readers get; ``future`` has all."""
        self.cut_short = ""
        """Why a stream ended before its own end."""
        self.schema = source.schema
        self.format = source.format
        self._offload = offload
        self._clock = clock
        self._reads = reads or Reads()
        self._singles = SINGLES if self._reads.one_by_one else 0
        self._time = EventTime(source, clock, self.counts)
        # By arrival time the clock moves the watermark: such a source never holds it back.
        self._silence = Silence(None if source.time is None else source.idle_timeout_ns, clock)
        self._idle = False
        self._order = asyncio.Lock()
        self._outlets = (self.outlet, self.rejected, self.future)
        self._streams: PrimedStreams | None = None
        self._running = self._stopped = False
        self._messages: list[Datagram] = []
        self.memory = memory or Memory()
        self.pool = BlockPool(
            CHUNK_BYTES,
            source.max_record_bytes + CHUNK_BYTES,
            account=self.memory.account(source.name, "blocks that it reads into", flows=True),
        )
        self._trusted = is_ours(connector)
        streams = isinstance(connector, ByteSource) and connector.concurrent
        self.several_peers = streams or isinstance(connector, MessageSource)
        """What comes may be of more than one peer, each with a stream or messages of its own."""
        # The connector bounds what is unfinished, so it counts as what flows: no peer can make the run fail for it.
        self._in_flight = (
            InFlight(
                IN_FLIGHT_BYTES,
                self.memory.account(source.name, "unfinished records of its peers", flows=True),
            )
            if streams
            else None
        )

    def read_as(self, other: SourceStage) -> None:
        """Reads the same columns as another stage of the same source, in the same format."""
        self.schema, self.format = other.schema, other.format
        self.columns, self.passed = other.columns, other.passed

    def add_reasons(self, reasons: Sequence[str]) -> None:
        """Keeps them, as far as they are among the first."""
        self.reasons += reasons[: KEPT_REASONS - len(self.reasons)]

    async def read_head(self, count: CountRecords, shape: Shape, enough_bytes: int) -> Head:
        """What is to tell the schema: the head of the stream (``PrimedStreams.head``), or messages (``first_messages``); ``run`` reads it
        again.  ``NOTHING`` where nothing but blank lines has come and nothing more will."""
        if isinstance(self.connector, ByteSource):
            self._streams = PrimedStreams(self.connector)
            most_bytes = enough_bytes + self.source.max_record_bytes
            return await self._streams.head(count, enough_bytes, most_bytes)
        assert isinstance(self.connector, MessageSource)
        return await first_messages(self.connector.receive, self._messages, count, shape, enough_bytes)

    @property
    def holds_input(self) -> bool:
        """Something was read already, to tell the schema, that cannot be read again from the outside."""
        return not self.connector.bounded and self.connector.position_bytes > 0

    async def open(self) -> None:
        """Opens the outside without reading: listens, or connects, or opens the first file.  ``run`` goes on from there."""
        await self.connector.started()
        if isinstance(self.connector, ByteSource) and not self.connector.concurrent:
            self._streams = self._streams or PrimedStreams(self.connector)
            await self._streams.open()

    async def close(self) -> None:
        """Closes whatever is open; may be called at any time, more than once."""
        if self._streams is not None:
            await self._streams.aclose()
        await self.connector.aclose()

    def standing(self) -> SourceStanding:
        """What it is doing now."""
        silent_ns, counts, source = self._silence.length_ns, self.counts, self.source
        state = "held" if silent_ns is None else "quiet" if silent_ns >= QUIET_AFTER_NS else "reading"
        if self.outlet.ended:
            state = "ended"
        elif not self._running:
            state = "opening"
        return SourceStanding(
            name=source.name,
            state=state,
            quiet_ns=silent_ns or 0,
            idle=self._idle,
            heard_ns=self._silence.heard_ns,
            last_time_ns=counts.last_time,
            watermark_ns=None if counts.watermark == NO_TIME else counts.watermark,
            watermark_delay_ns=source.watermark_delay_ns,
            idle_timeout_ns=source.idle_timeout_ns,
            max_future_ns=source.max_future_ns,
            by_arrival=source.time is None,
            rows=counts.rows,
            rejected=counts.rejected,
            future=counts.future,
        )

    async def run(self) -> None:
        self._running = True
        tasks = [asyncio.create_task(self._tick())] if self.source.time is None else []
        if self._silence.timeout_ns is not None:
            tasks.append(asyncio.create_task(self._watch()))
        try:
            connector = self.connector
            if isinstance(connector, ByteSource):
                await self._read_streams(connector)
            elif self.schema is None:
                pass  # nothing to tell a schema from: the input is empty, so it has no rows
            elif isinstance(connector, MessageSource):
                await self._read_messages(connector)
            elif isinstance(connector, BatchSource):
                async with closing(connector.batches()) as batches:
                    async for batch in batches:
                        await self._heard()
                        with self._silence.work():
                            for part in self._cut(batch):
                                await self._take_batch(part)
            elif isinstance(connector, ObjectSource):
                await self._read_objects(connector)
            else:
                raise InternalError(f"no way to read {type(connector).__name__}", table=self.source.name)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self.close()
        await end(self._outlets)

    async def stop(self) -> None:
        """Takes nothing new from outside; what was read flows out and the source ends."""
        self._stopped = True
        await self.connector.stop()

    async def raise_watermark(self, time_ns: int) -> None:
        """Says that event time has come at least so far, whatever the rows say."""
        async with self._order:
            await self._say(self._time.raise_to(time_ns), idle=self._idle)

    def _most_bytes(self) -> int | None:
        if self._singles > 0:
            self._singles -= 1
            return 1
        return self._reads.most_bytes

    def _cut(self, batch: Batch) -> Iterator[Batch]:
        singles = min(self._singles, batch.num_rows)
        self._singles -= singles
        yield from (batch.slice(row, row + 1) for row in range(singles))
        if singles < batch.num_rows:
            yield batch.slice(singles, batch.num_rows) if singles else batch

    # -- bytes ---------------------------------------------------------------------------------------------------------

    async def _read_streams(self, connector: ByteSource) -> None:
        self._streams = self._streams or PrimedStreams(connector)
        async with closing(self._streams) as streams:
            if not connector.concurrent:
                async for stream in streams:
                    await self._read_stream(stream)
                return
            async with Group() as readers:
                async for stream in streams:
                    readers.create_task(self._read_stream(stream), self.source.name)

    async def _read_stream(self, stream: ByteStream) -> None:
        lines = 1
        # Without a schema all is blank, but for a stream that was broken off within its first record.
        decoder = self._decoder() if self.schema is not None else Refused(NO_SCHEMA)
        in_flight = self._in_flight
        heard = HeardStream(stream, self._heard, self._most_bytes, in_flight)
        read = blocks(heard, decoder, self.pool)
        try:
            async with (
                closing(self._silence.counted(in_flight.counted(read) if in_flight else read)) as items,
                closing(decoded(items, decoder, self._offload)) as results,
            ):
                async for item, result in results:
                    if isinstance(item, Dropped):
                        self.counts.bytes += item.cut.resume - item.cut.end
                        await self._drop(item.cut, stream.name, lines, item.offset)
                        lines += item.cut.lines
                    else:
                        assert result is not None
                        self.counts.bytes += len(item.data)
                        await self._take(decoder.output, result, stream.name, lines, item.offset)
                        lines += result.lines
                    self._silence.done()
                    if in_flight is not None:
                        in_flight.done(item)
                    del item, result  # nothing of it is kept while the next is awaited
            if stream.error:
                self.cut_short = f"{stream.name}: {stream.error}"
        finally:
            await stream.aclose()

    def _decoder(self) -> Decoder:
        assert self.format is not None
        assert self.schema is not None
        module, options = decoding(self.format, messages=isinstance(self.connector, MessageSource))
        source = self.source
        required = () if source.time is None else (source.time,)
        request = DecodeRequest(
            self.schema, self.columns, required, source.max_record_bytes, self.rejected.used
        )
        decoder = module.decoder(options, request)
        assert isinstance(decoder, Decoder)
        # Of messages each is judged by itself (``_take_message``).
        return Tolerant(decoder) if self._in_flight is not None else decoder

    # -- messages, batches, objects --------------------------------------------------------------------------------------

    async def _read_messages(self, connector: MessageSource) -> None:
        decoder = self._decoder()
        for datagram in self._messages:
            await self._take_message(decoder, datagram)
        while datagrams := await connector.receive():
            await self._heard()
            with self._silence.work():
                for datagram in datagrams:
                    await self._take_message(decoder, datagram)
            await asyncio.sleep(0)

    async def _take_message(self, decoder: Decoder, message: Datagram) -> None:
        """One message: whole records, decoded by themselves."""
        rest: Block = np.frombuffer(bytearray(message.data), np.uint8)
        name = str(message.origin)
        self.counts.bytes += len(rest)
        line, offset = 1, 0
        if len(rest):
            try:
                offset = decoder.prepare(rest, True) or 0
            except DataError as error:
                head = rest[:RECORD_KEPT_BYTES].tobytes()
                await self._drop(Cut(0, 0, (Reject(0, 0, 0, error.message, head),)), name, line, 0)
                return
            line += int(np.count_nonzero(rest[:offset] == NEWLINE))
            rest = rest[offset:]
        while len(rest):
            cut = decoder.cut(rest, True)
            if cut.end:
                result = decoder.decode(rest[: cut.end])
                await self._take(decoder.output, result, name, line, offset, message.origin)
                line += result.lines
            await self._drop(cut, name, line, offset)
            line += cut.lines
            rest, offset = rest[cut.resume :], offset + cut.resume
            if cut.resume == 0:
                break

    async def _read_objects(self, connector: ObjectSource) -> None:
        assert self.schema is not None
        schema, required = self.schema.select(self.columns), self.source.time
        async with closing(connector.objects()) as taken:
            async for objects in taken:
                await self._heard()
                with self._silence.work():
                    converted = connector.convert(objects, schema, required)
                    self.counts.rows += len(converted.rejects)
                    await self._take_batch(converted.batch, converted.rejects)

    async def _take_batch(self, batch: Batch, rejects: Sequence[Rejected] = ()) -> None:
        if not self._trusted:
            batch.check()
        self.counts.rows += batch.num_rows
        self.counts.bytes += batch.nbytes
        wanted = batch.schema.select(self.columns)
        columns = tuple(batch.column(name) for name in self.columns)
        await self._hand_on(wanted, columns, batch.num_rows, rejects, len(rejects))

    # -- on the way out ----------------------------------------------------------------------------------------------------

    async def _take(
        self, schema: Schema, result: Decoded, name: str, lines: int, offset: int, origin: Any = None
    ) -> None:
        self.counts.rows += result.num_rows + result.rejected
        rejects = _in_stream(result.rejects, name, lines, offset)
        peer = name if self.several_peers else None
        await self._hand_on(schema, result.columns, result.num_rows, rejects, result.rejected, origin, peer)

    async def _hand_on(
        self,
        schema: Schema,
        columns: tuple[Any, ...],
        num_rows: int,
        rejects: Sequence[Rejected] = (),
        rejected: int = 0,
        origin: Any = None,
        peer: str | None = None,
    ) -> None:
        if num_rows == 0 and not rejected:
            return
        async with self._order:
            before = self._time.watermark
            after = [reject.after_row for reject in rejects]
            timed = self._time.assign(schema, columns, num_rows, origin, peer=peer, rejected_after=after)
            if rejected:
                await self._reject(rejects, rejected, timed.marks)
            if timed.future is not None:
                await self.future.send(timed.future)
            if timed.rows.num_rows:
                await self.outlet.send(self._passed(timed.rows))
            if self._time.watermark > before:
                await self._say(self._time.watermark, idle=False)

    async def _say(self, watermark_ns: int, *, idle: bool) -> None:
        """The watermark, to all that reads the table or its side outputs."""
        for outlet in self._outlets:
            await outlet.send(Watermark(watermark_ns, idle))

    def _passed(self, rows: Batch) -> Batch:
        if self.passed == self.columns:
            return rows
        return rows.select(self.passed)

    async def _drop(self, cut: Cut, name: str, line: int, offset: int) -> None:
        """Accounts for bytes that hold no records to decode."""
        self.counts.rows += len(cut.rejects)
        rejects = _in_stream(cut.rejects, name, line, offset, after_row=0)
        await self._hand_on(EMPTY, (), 0, rejects, len(rejects))

    async def _reject(self, rejects: Sequence[Rejected], count: int, marks: Int64Array) -> None:
        """``count`` records, of which these are kept, with the watermark before each."""
        self.counts.rejected += count
        rows = [(reject.record, reject.reason, reject.position) for reject in rejects]
        _, reason, position = rows[0]
        # A record that was cut short by our own stop is no error of the data.
        if self.source.on_error == "fail" and not (self._stopped and reason == CUT_BY_STOP):
            raise DataError(f"{position}: {reason}", table=self.source.name)
        self.add_reasons([f"{position}: {reason}" for _, reason, position in rows[:KEPT_REASONS]])
        if self.rejected.used:
            times = self._time.rejected(marks)
            await self.rejected.send(rejected_batch(rows, times, marks, self.source.watermark_delay_ns))

    async def _tick(self) -> None:
        while True:
            await self._clock.sleep(TICK_SECONDS)
            async with self._order:
                await self._say(self._time.tick(), idle=False)

    async def _watch(self) -> None:
        """Says so when the source has fallen silent; ``_heard`` takes it back."""
        while True:
            await self._silence.wait()
            async with self._order:
                if self._silence.reached:
                    self._idle = True
                    await self._say(self._time.watermark, idle=True)
            if self._idle:
                await self._silence.wait_for_sound()

    async def _heard(self) -> None:
        """Something came from outside, before anything is done with it."""
        self._silence.broken()
        if self._idle:
            with self._silence.work():
                await self._speak()

    async def _speak(self) -> None:
        async with self._order:
            if self._idle:
                self._idle = False
                await self._say(self._time.watermark, idle=False)


def _in_stream(
    rejects: Sequence[Reject], name: str, line: int, offset: int, after_row: int | None = None
) -> list[Rejected]:
    """Records of a block that begins at this line and byte of its stream."""
    return [
        Rejected(
            reject.record,
            reject.reason,
            str(LinePosition(name, line + reject.line, offset + reject.offset)),
            reject.after_row if after_row is None else after_row,
        )
        for reject in rejects
    ]
