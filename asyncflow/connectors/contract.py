"""The contract of a connector: bytes, messages or batches at the edge of the process.  asyncio; no format and no plan is known here.

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
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, ClassVar, TypeAlias

from msgspec import Struct

from asyncflow.errors import ConnectorError
from asyncflow.model.batch import Batch
from asyncflow.model.capabilities import (
    DescribesSink,
    DescribesSource,
    Guarantee,
    SinkCapabilities,
    SourceCapabilities,
)
from asyncflow.model.held import Held
from asyncflow.model.snapshot import Plain

Buffer: TypeAlias = "bytes | bytearray | memoryview"
Aside: TypeAlias = Callable[[Callable[[], Any]], Awaitable[Any]]
"""Runs a call on a worker thread of the run and gives the call's result.  The call should take long and release the GIL."""


class ByteStream(ABC):
    """One run of bytes with a beginning: a file, a pipe, one client of a listening socket.

    ``name`` goes into the positions of rejected records.  ``error``: why the stream ended early (the peer reset the connection, the source
    was stopped, the file was truncated), set before ``read_into`` gives 0; a last record without its newline is then cut short.
    """

    name: str
    error: str = ""

    def ready(self) -> bool:
        """Whether ``read_into`` would return at once, as far as is known."""
        return True

    async def wait(self, held_bytes: int = 0, offset: int = 0) -> None:  # noqa: B027 - a stream that is always ready
        """Returns when the stream is ready.  ``held_bytes``: the part of a record, from ``offset`` on, that the caller keeps meanwhile.  A
        peer may be cut off (``error``) of which too much is kept, or for too long."""

    @abstractmethod
    async def read_into(self, buffer: memoryview) -> int:
        """Reads the bytes at hand into ``buffer`` and gives their number, 1 to ``len(buffer)``; 0 at the end.  Waits for the first byte."""

    @abstractmethod
    async def aclose(self) -> None: ...


class Datagram(Struct, frozen=True):
    """One message: ``data`` holds whole records; ``origin`` is where a reply would go."""

    data: bytes
    origin: Any = None


class SourceConnector(DescribesSource, ABC):
    """Base of the three kinds below.  ``bounded``: the source ends by itself.  ``total_bytes``: the size of the input, where it is known
    (for a progress bar); ``position_bytes``: how many of these bytes were read (compressed bytes where the input is compressed)."""

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
        """Counts of the outside for the ledger, by name: peers that came and were cut off, datagrams that were dropped."""
        return {}

    def position(self, stream: int, offset: int) -> Plain:
        """What the source reads, for a run that goes on from here: plain values; None where there is nothing to say.  Of the stream
        ``stream`` (from 0) the first ``offset`` bytes were handed on, or of all batches the first ``offset`` rows."""
        return None

    def go_on(self, position: Plain, stream: int, offset: int) -> None:
        """Reads what an earlier run read that gave this position; called before anything is read.  ConnectorError where that is not there
        any more, or has changed."""

    @property
    def left_unread(self) -> bool:
        """Whether ``stop`` ended bounded input early, so that a part of it was read.  Asked after all that was read has been handed out."""
        return False

    async def stop(self) -> None:
        """Ends the source in order: nothing new is taken from outside; all that was received is handed out."""
        await self.aclose()

    @abstractmethod
    async def aclose(self) -> None: ...


class ByteSource(SourceConnector):
    """Bytes in one or more streams.  ``concurrent`` False: each stream is read to its end before the next (files, in name order); True:
    all open streams are read side by side (clients of a listening socket).  ``aside``: for long reads; None in a run without workers."""

    concurrent: bool = False
    aside: Aside | None = None

    @abstractmethod
    def streams(self) -> AsyncIterator[ByteStream]:
        """The streams as they come.  The caller closes each stream."""


class MessageSource(SourceConnector):
    """Messages with bounds of their own (datagrams)."""

    def capabilities(self) -> SourceCapabilities:
        return SourceCapabilities(bounded=self.bounded, messages=True)

    @abstractmethod
    async def receive(self) -> Sequence[Datagram]:
        """All messages at hand, at least one; an empty sequence at the end."""


class BatchSource(SourceConnector):
    """Rows that are columns already (generated, or handed over in Python).  ``begins_at``: which row ``batches`` gives first, from 0."""

    begins_at: int = 0

    @abstractmethod
    def batches(self) -> AsyncIterator[Batch]: ...


class SinkConnector(DescribesSink, ABC):
    """Takes encoded bytes away.  ``takes_bytes`` False (``null``): the runtime does not encode at all and only counts."""

    takes_bytes: bool = True
    taken_bytes: int | None = None
    """Bytes that the outside has taken so far, also in the middle of a write; None where they are not counted.  A stopped run takes them
    for progress."""
    held: Held | None = None
    """After ``open``: the earlier contents of a target that is continued; None where there are none."""

    rows_in_hand: int = 0
    """How many rows the next write holds, for sinks that count rows."""

    checkpointed: ClassVar[Guarantee] = "at-least-once"
    """What happens to a row when a run with checkpoints is killed and started again."""

    def capabilities(self) -> SinkCapabilities:
        """Of a connector that was made in Python and is handed over; one made from options is described by them."""
        return SinkCapabilities(takes_bytes=self.takes_bytes, may_wait=self.taken_bytes is not None)

    def bind_reply(self, source: SourceConnector) -> None:
        """Called before ``open`` where the capabilities say ``replies_to``: ``source`` is the running connector of that source."""
        raise ConnectorError(f"{type(self).__name__} cannot reply")

    def counted(self) -> Mapping[str, int]:
        """Counts of the outside for the ledger, by name."""
        return {}

    async def open(self) -> None:
        """Opens the outside (creates the file, connects, binds); called once, before the first write."""

    # A run with checkpoints: ``open``, or ``recover`` and ``open``; at each checkpoint ``prepare``, and ``commit`` once it stands.

    def with_checkpoints(self) -> SinkConnector:
        """The connector, unopened, that takes this one's place in a run with checkpoints."""
        return self

    def recover(self, token: Plain) -> None:
        """Called before ``open`` by a run that goes on from a checkpoint: ``open`` takes back what came after it."""

    async def prepare(self) -> Plain:
        """All that was written lasts when this returns; gives the token with which a later run recovers."""
        return None

    async def commit(self, token: Plain, *, last: bool) -> None:
        """The checkpoint with this token stands.  ``last``: the run has come to its end.  May be called again, also by a later run that
        opens nothing."""

    def take_rows(self, batch: Batch) -> None:
        """Takes rows where ``takes_bytes`` is False."""

    @abstractmethod
    async def write(self, data: Buffer, *, origin: Any = None) -> None:
        """Takes all of ``data``, whole records; returns when ``data`` may be reused.  A slow reader makes the call wait.
        ``origin``: see ``Datagram``."""

    async def flush(self) -> None:
        """Everything written so far is handed to the outside."""

    @abstractmethod
    async def aclose(self, *, failed: bool = False) -> None:
        """Closes.  ``failed``: the run did not end well; nothing is published (``mode = "replace"``) and no peer is waited for."""
