"""What a connector is: bytes (or ready batches) at the edge of the process.  asyncio, no knowledge of formats or plans.

A connector is one file in this folder.  It may define ``SourceOptions`` with ``open_source(options) -> SourceConnector``
and ``SinkOptions`` with ``open_sink(options) -> SinkConnector``: frozen msgspec structs (``forbid_unknown_fields``,
``kw_only``) whose fields carry a line of doc each in ``Annotated[..., msgspec.Meta(description=...)]``.  The options inherit
``DescribesSource`` or ``DescribesSink`` and say what the connector can do (``model.capabilities``); options that do not promise nothing.

``open_source`` and ``open_sink`` do no I/O; the first await does.  Every await can be cancelled; ``aclose`` may be called at any time,
more than once, and leaves nothing open.
Failures of the outside are :class:`~asyncflow.errors.ConnectorError` with the path or address in the message.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, TypeAlias

from msgspec import Struct

from asyncflow.errors import ConnectorError
from asyncflow.model.batch import Batch
from asyncflow.model.capabilities import (
    DescribesSink,
    DescribesSource,
    SinkCapabilities,
    SourceCapabilities,
)
from asyncflow.model.held import Held

Buffer: TypeAlias = "bytes | bytearray | memoryview"


class ByteStream(ABC):
    """One run of bytes with a beginning: a file, a pipe, one client of a listening socket.

    ``name`` goes into the positions of rejected records.
    ``error``: set by the time ``read_into`` gives 0 where the bytes ended before their own end (the peer reset the connection, the
    source was stopped, the file was truncated): a last record without its newline is then cut short, not whole.
    """

    name: str
    error: str = ""

    def ready(self) -> bool:
        """``read_into`` would not wait for others, as far as can be told."""
        return True

    async def wait(self, held_bytes: int = 0, offset: int = 0) -> None:  # noqa: B027 - a stream that is always ready
        """Returns when the stream is ready.  ``held_bytes``: what the caller holds meanwhile of a record that begins at ``offset``; who
        holds too much, or for too long, may be cut off (``error``)."""

    @abstractmethod
    async def read_into(self, buffer: memoryview) -> int:
        """Reads what is there, at least one byte, at most ``len(buffer)``; 0 means the end.  Waits when nothing is there."""

    @abstractmethod
    async def aclose(self) -> None: ...


class Datagram(Struct, frozen=True):
    """One message: ``data`` holds whole records; ``origin`` is where a reply would go."""

    data: bytes
    origin: Any = None


class SourceConnector(DescribesSource, ABC):
    """Base of the three kinds below.  ``bounded``: it ends by itself.  ``total_bytes``: how much there is in all, where that is known
    (for a progress bar); ``position_bytes``: how much of that was read (compressed bytes where the input is compressed)."""

    bounded: bool = True
    total_bytes: int | None = None
    position_bytes: int = 0

    def capabilities(self) -> SourceCapabilities:
        """Of a connector that was made in Python and is handed over; one made from options is described by them."""
        return SourceCapabilities(bounded=self.bounded)

    async def started(self) -> tuple[str, ...]:
        """Binds or connects without reading, once; the addresses that the source listens at, none where it does not listen."""
        return ()

    def counted(self) -> Mapping[str, int]:
        """What it counts of the outside, for the ledger: peers that came and were cut off, datagrams that were dropped."""
        return {}

    @property
    def left_unread(self) -> bool:
        """A ``stop`` came before the end of input that is bounded: what was read is a part of it.  Asked when all that was read has been
        handed out."""
        return False

    async def stop(self) -> None:
        """Asks for an orderly end: takes nothing new from outside; what was received is still handed out, then the source ends."""
        await self.aclose()

    @abstractmethod
    async def aclose(self) -> None: ...


class ByteSource(SourceConnector):
    """Bytes in one or more streams.  ``concurrent`` False: read each stream to its end before the next (files, in name order);
    True: all that are open at the same time (clients of a listening socket)."""

    concurrent: bool = False

    @abstractmethod
    def streams(self) -> AsyncIterator[ByteStream]:
        """The streams as they come.  The caller closes each stream that it got."""


class MessageSource(SourceConnector):
    """Messages with bounds of their own (datagrams)."""

    def capabilities(self) -> SourceCapabilities:
        return SourceCapabilities(bounded=self.bounded, messages=True)

    @abstractmethod
    async def receive(self) -> Sequence[Datagram]:
        """All messages that are there, at least one; an empty sequence means the end."""


class BatchSource(SourceConnector):
    """Rows that are columns already (generated, or handed over in Python)."""

    @abstractmethod
    def batches(self) -> AsyncIterator[Batch]: ...


class SinkConnector(DescribesSink, ABC):
    """Takes encoded bytes away.  ``takes_bytes`` False (``null``): the runtime does not encode at all and only counts."""

    takes_bytes: bool = True
    taken_bytes: int | None = None
    """What the outside has taken so far, in the middle of a write too; None where that cannot be told.  Where it can, a run that is asked
    to stop does not wait without end for an outside that takes nothing."""
    held: Held | None = None
    """After ``open``: what the target holds already, where what is written is added to it; None where that is nothing, or of no concern."""

    rows_in_hand: int = 0
    """How many rows the next write holds, for those that count what became of them."""

    def capabilities(self) -> SinkCapabilities:
        """Of a connector that was made in Python and is handed over; one made from options is described by them."""
        return SinkCapabilities(takes_bytes=self.takes_bytes, may_wait=self.taken_bytes is not None)

    def bind_reply(self, source: SourceConnector) -> None:
        """Called before ``open`` where the capabilities say ``replies_to``: ``source`` is the running connector of that source."""
        raise ConnectorError(f"{type(self).__name__} cannot reply")

    def counted(self) -> Mapping[str, int]:
        """What it counts of the outside, for the ledger."""
        return {}

    async def open(self) -> None:
        """Opens the outside (creates the file, connects, binds); called once, before the first write."""

    def take_rows(self, batch: Batch) -> None:
        """Sees the rows where ``takes_bytes`` is False."""

    @abstractmethod
    async def write(self, data: Buffer, *, origin: Any = None) -> None:
        """Takes all of ``data``, which is whole records; returns when it may be forgotten (a slow reader makes this wait).
        ``origin``: see ``Datagram``."""

    async def flush(self) -> None:
        """Everything written so far is handed to the outside."""

    @abstractmethod
    async def aclose(self, *, failed: bool = False) -> None:
        """Closes.  ``failed``: the run did not end well; nothing is published (``mode = "replace"``) and no peer is waited for."""
