"""A source's coroutine: connector -> bytes -> columns -> rows, one item at a time, to the way out (``way_out``).

Three kinds of input: byte streams (read, cut into blocks of whole records, decoded), messages (decoded one by one), and rows that are
columns or Python objects already.  A restored source reads its input again from the start and hands on what follows its position.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from msgspec import Struct

from asyncflow.connectors.contract import (
    BatchSource,
    ByteSource,
    ByteStream,
    Datagram,
    MessageSource,
    SourceConnector,
)
from asyncflow.errors import InternalError
from asyncflow.formats.contract import (
    Decoder,
    DecodeRequest,
)
from asyncflow.model.batch import NO_TIME, Batch
from asyncflow.model.messages import Barrier
from asyncflow.model.schema import Schema
from asyncflow.model.snapshot import Plain, Saved, nested, plain_schema, schema_of
from asyncflow.plan.tables import Source
from asyncflow.runtime.base.clock import Clock
from asyncflow.runtime.base.closing import closing
from asyncflow.runtime.base.failures import Group, is_ours
from asyncflow.runtime.base.ledger import SourceCounts
from asyncflow.runtime.base.memory import Memory
from asyncflow.runtime.base.rejected import Rejected
from asyncflow.runtime.base.snapshots import Collect
from asyncflow.runtime.base.workers import Offload
from asyncflow.runtime.ingest.buffers import BlockPool
from asyncflow.runtime.ingest.idleness import Idleness
from asyncflow.runtime.ingest.in_flight import InFlight
from asyncflow.runtime.ingest.peek import CountRecords, Head, PeekedStreams
from asyncflow.runtime.ingest.positions import START, Item, Position
from asyncflow.runtime.ingest.source_format import decoding, plain_format, saved_format
from asyncflow.runtime.ingest.streams import StreamReader
from asyncflow.runtime.ingest.way_out import WayOut

if TYPE_CHECKING:
    from asyncflow.runtime.base.status import SourceStatus
    from asyncflow.runtime.ingest.first_messages import Shape
    from asyncflow.runtime.ingest.python.sources import ObjectSource

CHUNK_BYTES = 1 << 20
"""The most bytes of one read, and so about the size of a block, where the input may never end (a socket, a pipe)."""
FILE_CHUNK_BYTES = 2 << 20
"""The same for bounded input: so large that the loop's work for each block hardly counts beside the kernels' work on its rows.  Twice as
much with several workers, who wait for the loop between two blocks."""
MANY_WORKERS = 4
"""From so many workers on reads of input that may never end are twice as long, too: one loop has to keep up with all of them."""
IN_FLIGHT_BYTES = 16 << 20
"""Of all clients of a listening socket together: read, and not yet taken by the table's readers."""
TICK_SECONDS = 0.05
QUIET_AFTER_NS = 1_000_000_000
"""A source is reported as quiet after this long without input."""
NO_SCHEMA = "no whole record to tell the schema from"
SINGLES = 1 << 14
"""How many bytes, rows or objects of a source come one by one where that is asked for: all of an input would take too long."""


class Reads(Struct, frozen=True):
    """How a source is read, for those who want to see that it makes no difference: ``most_bytes`` by one read of a stream (None: what
    is there); ``one_by_one``: at first byte by byte, so record by record, or row by row."""

    most_bytes: int | None = None
    one_by_one: bool = False


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
        collect: Collect | None = None,
    ) -> None:
        self.source = source
        self.connector = connector
        self.counts = SourceCounts(outside=connector.counted)
        self.way = WayOut(source, clock, self.counts)
        self.outlet, self.rejected, self.future = self.way.outlet, self.way.rejected, self.way.future
        self.cut_short = ""
        """Why a stream ended before its own end."""
        self.schema = source.schema
        self.format = source.format
        self._offload = offload
        self._clock = clock
        self._reads = reads or Reads()
        self._singles = SINGLES if self._reads.one_by_one else 0
        self._collect = collect
        # By arrival time the clock moves the watermark: such a source never holds it back.
        self._idleness = Idleness(None if source.time is None else source.idle_timeout_ns, clock)
        self._streams: PeekedStreams | None = None
        self._running = False
        self._again = START
        """Where a run before this one has read to."""
        self._messages: list[Datagram] = []
        self.memory = memory or Memory()
        chunk_bytes = FILE_CHUNK_BYTES if connector.bounded else CHUNK_BYTES
        if offload.workers >= (2 if connector.bounded else MANY_WORKERS):
            chunk_bytes *= 2
        self.pool = BlockPool(
            chunk_bytes,
            source.max_record_bytes + chunk_bytes,
            keep=2 * offload.workers + 6,
            account=self.memory.account(source.name, "blocks that it reads into", flows=True),
        )
        self._decoded_ahead = self.memory.account(source.name, "rows decoded ahead of their turn", flows=True)
        self._trusted = is_ours(connector)
        if isinstance(connector, ByteSource) and offload.workers > 1:
            connector.aside = offload.run
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

    def select(self, schema: Schema | None, columns: tuple[str, ...], passed: tuple[str, ...]) -> None:
        """Before ``run``: the schema of the input, the columns to decode, and those of them that the table's readers get."""
        self.schema = schema
        self.way.columns, self.way.passed = columns, passed

    def read_as(self, other: SourceStage) -> None:
        """Reads the same columns as another stage of the same source, in the same format."""
        self.format = other.format
        self.select(other.schema, other.way.columns, other.way.passed)

    async def read_head(self, count: CountRecords, shape: Shape, enough_bytes: int) -> Head:
        """What is to tell the schema: the head of the stream (``PeekedStreams.head``), or messages (``first_messages``); ``run`` reads it
        again.  ``NOTHING`` where nothing but blank lines has come and nothing more will."""
        if isinstance(self.connector, ByteSource):
            self._streams = PeekedStreams(self.connector)
            most_bytes = enough_bytes + self.source.max_record_bytes
            return await self._streams.head(count, enough_bytes, most_bytes)
        assert isinstance(self.connector, MessageSource)
        from asyncflow.runtime.ingest.first_messages import first_messages

        return await first_messages(self.connector.receive, self._messages, count, shape, enough_bytes)

    @property
    def holds_input(self) -> bool:
        """Something was read already, to tell the schema, that cannot be read again from the outside."""
        return not self.connector.bounded and self.connector.position_bytes > 0

    async def open(self) -> None:
        """Opens the outside without reading: listens, or connects, or opens the first file.  ``run`` goes on from there."""
        await self.connector.started()
        if isinstance(self.connector, ByteSource) and not self.connector.concurrent:
            self._streams = self._streams or PeekedStreams(self.connector)
            await self._streams.open()

    async def close(self) -> None:
        """Closes whatever is open; may be called at any time, more than once."""
        if self._streams is not None:
            await self._streams.aclose()
        await self.connector.aclose()

    def status(self) -> SourceStatus:
        """What it is doing now."""
        from asyncflow.runtime.base.status import SourceStatus  # when somebody asks

        silent_ns, counts, source = self._idleness.length_ns, self.counts, self.source
        state = "held" if silent_ns is None else "quiet" if silent_ns >= QUIET_AFTER_NS else "reading"
        if self.outlet.ended:
            state = "ended"
        elif not self._running:
            state = "opening"
        return SourceStatus(
            name=source.name,
            state=state,
            quiet_ns=silent_ns or 0,
            idle=self.way.idle,
            heard_ns=self._idleness.input_ns,
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
        if self.outlet.ended:
            return
        self._running = True
        tasks = [asyncio.create_task(self._tick())] if self.source.time is None else []
        if self._idleness.timeout_ns is not None:
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
                await self._read_batches(connector)
            else:
                from asyncflow.runtime.ingest.python.sources import ObjectSource

                if not isinstance(connector, ObjectSource):
                    raise InternalError(f"no way to read {type(connector).__name__}", table=self.source.name)
                await self._read_objects(connector)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self.close()
        await self.way.end(lambda: self._hand_in(None, ended=True))

    async def stop(self) -> None:
        """Takes nothing new from outside; what was read flows out and the source ends."""
        self.way.stopped = True
        await self.connector.stop()

    async def raise_watermark(self, time_ns: int) -> None:
        """Event time has come at least so far, whatever the rows say."""
        await self.way.raise_watermark(time_ns)

    # -- state -----------------------------------------------------------------------------------------------------------

    def hand_in(self, epoch: int) -> None:
        """Collects the state before ``run``."""
        self._hand_in(epoch, ended=False)

    async def barrier(self, epoch: int) -> bool:
        """Collects the state between two items and sends the barrier; False where the source has ended."""
        return await self.way.barrier(Barrier(epoch), lambda: self._hand_in(epoch, ended=False))

    def restore(self, saved: Saved) -> None:
        """Takes the state that was collected from the same source of another run, before ``open`` and ``run``.  Raises ValueError."""
        ended = saved.flag("ended")
        if self.several_peers and not ended:
            raise ValueError("input of several peers cannot be read again")
        if saved.fields.get("schema") is not None:
            self.schema = schema_of(saved.fields["schema"])
            self.format = saved_format(saved.fields.get("format"))
        self.way.restore(saved.within("way"), ended=ended)
        self._again = again = self.way.position
        if not ended:
            self.connector.go_on(saved.fields.get("outside"), again.stream, again.offset or again.count)

    def _hand_in(self, epoch: int | None, *, ended: bool) -> None:
        if self._collect is None:
            assert epoch is None, "a barrier in a run that takes no snapshots"
            return
        schema: Plain = None if self.schema is None else plain_schema(self.schema)
        at = self.way.position
        outside = None if ended else self.connector.position(at.stream, at.offset or at.count)
        fields: dict[str, Plain] = {"ended": ended, "schema": schema, "outside": outside}
        fields["format"] = plain_format(self.format)
        self._collect(self.source.name, epoch, nested(fields, {"way": self.way.freeze()}))

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
        self._streams = self._streams or PeekedStreams(connector)
        reader = StreamReader(
            self.way,
            self.pool,
            self._offload,
            self._idleness,
            self._in_flight,
            self._decoded_ahead,
            self._on_input,
            self._most_bytes,
        )
        async with closing(self._streams) as streams:
            if not connector.concurrent:
                number = 0
                async for stream in streams:
                    if number < self._again.stream:
                        await stream.aclose()
                    else:
                        await self._read_stream(reader, stream, number)
                    number += 1
                return
            async with Group() as readers:
                async for stream in streams:
                    readers.create_task(self._read_stream(reader, stream), self.source.name)

    async def _read_stream(self, reader: StreamReader, stream: ByteStream, number: int | None = None) -> None:
        begin = self._again if number == self._again.stream else START
        # Without a schema all is blank, but for a stream that was broken off within its first record.
        if self.schema is not None:
            decoder = self._decoder()
        else:
            from asyncflow.runtime.ingest.foreign_streams import Refused

            decoder = Refused(NO_SCHEMA)
        peer = stream.name if self.several_peers else None
        cut_short = await reader.read(stream, decoder, begin, number, peer)
        self.cut_short = cut_short or self.cut_short

    def _decoder(self) -> Decoder:
        assert self.format is not None
        assert self.schema is not None
        module, options = decoding(self.format, messages=isinstance(self.connector, MessageSource))
        source = self.source
        required = () if source.time is None else (source.time,)
        request = DecodeRequest(
            self.schema, self.way.columns, required, source.max_record_bytes, self.rejected.used
        )
        decoder = module.decoder(options, request)
        assert isinstance(decoder, Decoder)
        # Of messages each is judged by itself (``_take_message``).
        if self._in_flight is None:
            return decoder
        from asyncflow.runtime.ingest.foreign_streams import FallbackDecoder

        return FallbackDecoder(decoder)

    # -- messages, batches, objects --------------------------------------------------------------------------------------

    async def _read_messages(self, connector: MessageSource) -> None:
        from asyncflow.runtime.ingest.messages import take_message

        decoder = self._decoder()
        for datagram in self._messages:
            await take_message(self.way, decoder, datagram)
        while datagrams := await connector.receive():
            await self._on_input()
            with self._idleness.work():
                for datagram in datagrams:
                    await take_message(self.way, decoder, datagram)
            await asyncio.sleep(0)

    async def _read_batches(self, connector: BatchSource) -> None:
        passed = connector.begins_at
        async with closing(connector.batches()) as batches:
            async for whole in batches:
                batch, begin = whole, self._again.count - passed
                passed += whole.num_rows
                if begin > 0:
                    batch = whole.slice(min(begin, whole.num_rows), whole.num_rows)
                await self._on_input()
                with self._idleness.work():
                    for part in self._cut(batch):
                        await self._take_batch(part, self.way.position.count + part.num_rows)

    async def _read_objects(self, connector: ObjectSource) -> None:
        assert self.schema is not None
        schema, required = self.schema.select(self.way.columns), self.source.time
        left = self._again.count
        async with closing(connector.objects()) as taken:
            async for objects in taken:
                await self._on_input()
                with self._idleness.work():
                    if left:
                        connector.convert(objects[:left], schema, required)  # it numbers the rows
                        objects, left = objects[left:], max(0, left - len(objects))
                    if objects:
                        converted = connector.convert(objects, schema, required)
                        count = self.way.position.count + len(objects)
                        await self._take_batch(converted.batch, count, converted.rejects)

    async def _take_batch(self, batch: Batch, count: int, rejects: Sequence[Rejected] = ()) -> None:
        """``count``: the position after it."""
        if not self._trusted:
            batch.check()
        names = self.way.columns
        columns = tuple(batch.column(name) for name in names)
        item = Item(batch.num_rows + len(rejects), batch.nbytes, Position(count=count))
        schema = batch.schema.select(names)
        await self.way.hand_on(item, schema, columns, batch.num_rows, rejects, len(rejects))

    # -- on the way out ----------------------------------------------------------------------------------------------------

    async def _tick(self) -> None:
        while True:
            await self._clock.sleep(TICK_SECONDS)
            await self.way.tick()

    async def _watch(self) -> None:
        """Sends that the source is idle; ``_on_input`` takes it back."""
        while True:
            await self._idleness.wait()
            await self.way.fall_idle(lambda: self._idleness.reached)
            if self.way.idle:
                await self._idleness.wait_for_input()

    async def _on_input(self) -> None:
        """Input has come, before anything is done with it."""
        self._idleness.on_input()
        if self.way.idle:
            with self._idleness.work():
                await self.way.resume()
