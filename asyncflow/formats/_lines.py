"""Streams whose records are lines: finds line ends, lines that are too long, and lines that are not UTF-8.

A line ends at LF (a CR before the LF is part of the ending) or at the end of the stream; an empty line is a line.  A line of more than
``max_record_bytes`` is rejected before its end has come: its first bytes are kept to be shown, the others are dropped.  A byte order mark
at the head of a stream is skipped.

:class:`LineStream` only cuts, for formats whose kernel finds the lines; :class:`LineDecoder` finds the lines too.
"""

from __future__ import annotations

from abc import abstractmethod

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from asyncflow._kernels import lines as _lines
from asyncflow.formats.contract import (
    BYTE_ORDER_MARK,
    RECORD_KEPT_BYTES,
    Block,
    Cut,
    Decoded,
    Decoder,
    DecodeRequest,
    Reject,
    RejectLog,
)
from asyncflow.model.columns import Column, Int32Array

NOT_UTF8 = "not UTF-8"
VALUE_SHOWN_BYTES = 60


def shown(value: Block) -> str:
    """A value's first bytes as text, for the reason of a rejection."""
    text = value[:VALUE_SHOWN_BYTES].tobytes().decode(errors="ignore")
    return text if len(value) <= VALUE_SHOWN_BYTES else text + "..."


class LineStream(Decoder):
    """Cuts a stream at line ends.  ``too_long``: the reason for rejecting a line that is too long."""

    def __init__(self, request: DecodeRequest) -> None:
        self.too_long = f"longer than {request.max_record_bytes} bytes"
        self._max_bytes = request.max_record_bytes
        self._dropping = False  # inside a line whose head was rejected
        self._searched = 0  # bytes at the front, seen before, that hold no line end

    def prepare(self, head: Block, final: bool) -> int | None:
        begins = head[:3].tobytes()
        if begins == BYTE_ORDER_MARK:
            return 3
        return None if BYTE_ORDER_MARK.startswith(begins) and not final else 0

    def cut(self, data: Block, final: bool) -> Cut:
        if self._dropping:
            return self._drop(data, final)
        end = len(data) if final else self._last_line_end(data)
        if end == 0 and len(data) > self._max_bytes:
            self._dropping = True
            self._searched = 0
            return Cut(0, len(data), (Reject(0, 0, 0, self.too_long, self._record(data)),))
        taken = self._portion(data[:end])
        self._searched = len(data) - end if taken == end else 0
        return Cut(taken, taken)

    def _last_line_end(self, data: Block) -> int:
        """The end of the last whole line; of an unfinished line only the new bytes are searched."""
        found = _lines.last_line_end(data[self._searched :])
        return found and found + self._searched

    def _portion(self, lines: Block) -> int:
        """How many bytes of ``lines``, to a line's end, to decode as one block; a format may bound the columns of a block."""
        return len(lines)

    def _drop(self, data: Block, final: bool) -> Cut:
        found = np.flatnonzero(data == ord("\n"))
        if len(found):
            self._dropping = False
            return Cut(0, int(found[0]) + 1, lines=1)
        return Cut(0, len(data), lines=int(final))

    def _record(self, line: Block) -> bytes:
        """The head of a line: no longer than what is there of a line that is too long, however the stream is cut."""
        return line[: min(RECORD_KEPT_BYTES, self._max_bytes)].tobytes()


class Lines(Struct, frozen=True, eq=False):
    """The lines of a block: start, length without the line end, and fault (0: none) of each."""

    block: Block
    starts: Int32Array
    lengths: Int32Array
    faults: NDArray[np.uint8]


class LineDecoder(LineStream):
    """Finds the lines of a block; the format's ``decode_lines`` makes the columns."""

    def __init__(self, request: DecodeRequest) -> None:
        super().__init__(request)
        self._keep_rejects = request.keep_rejects
        self._reasons = {_lines.TOO_LONG: self.too_long, _lines.NOT_UTF8: NOT_UTF8}

    def decode(self, block: Block) -> Decoded:
        count = _lines.count_lines(block)
        lines = Lines(block, np.empty(count, np.int32), np.empty(count, np.int32), np.empty(count, np.uint8))
        bad = _lines.split_lines(block, self._max_bytes, lines.starts, lines.lengths, lines.faults)
        if bad == 0:
            return self.decode_lines(lines, {})
        faulty = np.flatnonzero(lines.faults)
        reasons = [self._reasons[fault] for fault in lines.faults[faulty].tolist()]
        return self.decode_lines(lines, dict(zip(faulty.tolist(), reasons, strict=True)))

    @abstractmethod
    def decode_lines(self, lines: Lines, wrong: dict[int, str]) -> Decoded:
        """Columns from lines.  ``wrong``: line number to reason, of lines that are no records; the format adds its own."""

    def decoded(
        self, lines: Lines, columns: tuple[Column, ...], num_rows: int, wrong: dict[int, str]
    ) -> Decoded:
        """Puts the result together; ``columns`` hold the lines that are not ``wrong``, in order."""
        log = RejectLog(self._keep_rejects)
        for earlier, row in enumerate(sorted(wrong)):
            start = int(lines.starts[row])
            record = self._record(lines.block[start : start + int(lines.lengths[row])])
            log.add(Reject(row, start, row - earlier, wrong[row], record))
        return Decoded(columns, num_rows, len(lines.starts), log.count, tuple(log.kept))
