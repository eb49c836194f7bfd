"""What a format is: bytes to columns and back, with no I/O and no asyncio.

A format is one file in this folder.  It may define ``DecoderOptions`` and ``EncoderOptions`` (frozen msgspec structs, as in
``connectors.contract``), ``decoder(options, request) -> Decoder``, ``infer(options, head, final) -> Schema`` and
``encoder(options, schema) -> Encoder``.  ``DecoderOptions`` may inherit :class:`DescribesRecords`.  A format whose columns depend on the
data also defines ``count_records(options, head, final) -> int``: the whole data records in the head; as long as there is none, the
schema waits for more bytes.

A reader fills a buffer and asks ``cut`` where whole records end; the remaining bytes are put before the next ones.  Blocks of whole
records go to ``decode``, on any thread and in any order; their results are put back in order.  Invariant: however the bytes are cut, the
same rows and the same rejections come out, in the same order.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from msgspec import Struct, field
from numpy.typing import NDArray

from asyncflow.model.batch import Batch
from asyncflow.model.columns import Column
from asyncflow.model.held import Held
from asyncflow.model.schema import Schema
from asyncflow.model.snapshot import Copied, Frozen, Saved

Block: TypeAlias = NDArray[np.uint8]
"""Bytes in memory, 1-d, contiguous, *writable* (a decoder may unescape text in place)."""

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
"""Skipped where a stream of text begins with it."""
RECORD_KEPT_BYTES = 4096
"""How much of a rejected record is kept to be shown."""


class DescribesRecords:
    """Base of the options of a decoder: what is known of the records before any is read.  The defaults hold for other options."""

    __slots__ = ()

    @property
    def has_header(self) -> bool:
        """Whether the first record of a stream names the columns."""
        return False

    @property
    def with_columns(self) -> str:
        """A record that shows columns, in words for the message where none of the first records shows any; or nothing."""
        return ""

    def fixed_schema(self) -> Schema | None:
        """The columns, where they follow from the options alone."""
        return None

    def for_messages(self) -> DescribesRecords:
        """The options for messages, each of which is a stream of its own."""
        return self


class DecodeRequest(Struct, frozen=True):
    """What a decoder is to decode.

    ``schema``: all columns of the records as declared, in file order.  ``columns``: the names to decode, in the order of the result
    (projection).  ``required``: columns where null rejects the record (the event time).  ``keep_rejects``: every rejected record is given
    with its text; else rejected records are counted and the first few are given.
    """

    schema: Schema
    columns: tuple[str, ...]
    required: tuple[str, ...] = ()
    max_record_bytes: int = 1 << 20
    keep_rejects: bool = False


class Reject(Struct, frozen=True):
    """A record that was not decoded.  ``line`` and ``offset`` (bytes) count from the start of the block, from 0; ``after_row``: how
    many good rows of the block stand before it.  ``record``: its raw text, cut at ``RECORD_KEPT_BYTES``."""

    line: int
    offset: int
    after_row: int
    reason: str
    record: bytes


class Decoded(Struct, frozen=True, eq=False):
    """One block's rows.  ``columns``: as asked for.  ``lines``: physical lines in the block.  ``rejected`` >= len(``rejects``)."""

    columns: tuple[Column, ...]
    num_rows: int
    lines: int = 0
    rejected: int = 0
    rejects: tuple[Reject, ...] = ()


class Cut(Struct, frozen=True):
    """``data[:end]`` is whole records, ready for ``decode`` (0: none yet).  ``data[resume:]`` is still to be cut; it is put before the next
    bytes when ``resume`` makes no progress.  The bytes between are dropped: ``rejects`` gives the reason (its ``line`` and ``offset``
    count from ``data[0]``), ``lines`` their number of physical lines."""

    end: int
    resume: int
    rejects: tuple[Reject, ...] = ()
    lines: int = 0


class Decoder(ABC):
    """One byte stream's decoder.  ``cut`` is called in order by one owner and may keep state; ``decode`` keeps none, releases the GIL."""

    output: Schema
    """Of the decoded columns, in the order asked for."""

    def prepare(self, head: Block, final: bool) -> int | None:
        """Reads the first bytes of the stream (a CSV header) before any are cut; returns how many to skip, or None to be called again with
        more.  DataError when the stream cannot be read at all (a column of the schema is not in the header).  A stream without bytes has no
        rows.  A message is a stream of its own."""
        return 0

    @abstractmethod
    def cut(self, data: Block, final: bool) -> Cut:
        """The end of the whole records in ``data``.  ``final``: no bytes follow, so a last record without its newline is whole."""

    @abstractmethod
    def decode(self, block: Block) -> Decoded:
        """Columns from a block of whole records (its last newline may be missing)."""


class Encoder(ABC):
    """Batches to bytes.  Its only state is whether the header was written."""

    def continues(self, held: Held) -> bytes:
        """Called before the first ``encode``, perhaps from a thread, where rows are added to a file with contents.

        Gives the bytes before the first row, so that no record is joined to a torn one; a header is not written again.  DataError where
        rows cannot be added to the file (its header differs).
        """
        return b"" if held.ends_line else b"\n"

    @abstractmethod
    def encode(self, batch: Batch) -> bytes | bytearray | memoryview: ...

    def freeze(self) -> Frozen:
        """Its state between two batches; of an encoder that keeps nothing: nothing."""
        return Copied({})

    def restore(self, saved: Saved) -> None:  # noqa: B027 - an encoder that keeps nothing
        """Goes on from a saved state, before the first ``encode``.  Raises ValueError."""

    def finish(self) -> bytes:
        """The bytes at the end, if any; the header where no row came."""
        return b""


class LinePosition(Struct, frozen=True):
    """The position of a rejected record: stream name, line from 1, byte offset from 0."""

    stream: str
    line: int
    offset: int

    def __str__(self) -> str:
        return f"{self.stream}:{self.line} (byte {self.offset})"


class RejectLog(Struct):
    """Collects rejected records while decoding: all of them, or their count and the first few."""

    keep_all: bool
    first: int = 8
    count: int = 0
    kept: list[Reject] = field(default_factory=list)

    def add(self, reject: Reject) -> None:
        self.count += 1
        if self.keep_all or len(self.kept) < self.first:
            self.kept.append(reject)

    def extend(self, rejects: Sequence[Reject]) -> None:
        for reject in rejects:
            self.add(reject)
