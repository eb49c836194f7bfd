"""JSON on the way in: newline-delimited objects to columns.

The kernel's twin, ``_kernels.json.reference``, is the specification.  Here the stream is cut into blocks of lines, and the kernel's arrays
become columns and reasons in words.
"""

from __future__ import annotations

import numpy as np

from asyncflow._kernels import json as _json
from asyncflow._kernels import lines as _lines
from asyncflow.formats._lines import NOT_UTF8, LineStream, shown
from asyncflow.formats.contract import Block, Decoded, DecodeRequest, Reject, RejectLog
from asyncflow.model.columns import Column, FixedColumn, StringColumn

VALUE_BYTES = 9
"""The most bytes of a value in a column: eight, or start and length of a text, and the null flag."""
RECORD_BYTES = 3
"""Bytes of the shortest record, with its line end: an empty object."""
OUTPUT_BYTES = 16 << 20
"""Bound of a block's columns.  A record of two bytes is a row of every declared column, so bytes of lines do not bound the columns."""


class JsonDecoder(LineStream):
    """Decodes one stream of JSON objects, one a line."""

    def __init__(self, request: DecodeRequest) -> None:
        super().__init__(request)
        self.output = request.schema.select(request.columns)
        self._max_lines = max(OUTPUT_BYTES // (VALUE_BYTES * max(len(self.output), 1)), 1)
        self._kernel = _json.Decoder(
            self.output.names,
            [field.type_text for field in self.output],
            [field.name in request.required for field in self.output],
            request.max_record_bytes,
            None if request.keep_rejects else RejectLog(keep_all=False).first,
        )
        self._record_reasons = {
            _json.TOO_LONG: self.too_long,
            _json.BAD_UTF8: NOT_UTF8,
            _json.NOT_OBJECT: "not a JSON object",
            _json.MALFORMED: "malformed JSON",
            _json.TOO_DEEP: "JSON nested deeper than 1000 levels",
        }

    def _portion(self, lines: Block) -> int:
        while len(lines) // RECORD_BYTES > self._max_lines and _lines.count_lines(lines) > self._max_lines:
            half = _lines.last_line_end(lines[: len(lines) // 2])
            lines = lines[: half or int(np.argmax(lines == ord("\n"))) + 1]
        return len(lines)

    def decode(self, block: Block) -> Decoded:
        num_rows, lines, arrays, rejected, rejects = self._kernel.decode(block)
        columns: list[Column] = [StringColumn(*a) if len(a) == 4 else FixedColumn(*a) for a in arrays]
        found = tuple(self._reject(block, *reject) for reject in rejects.tolist())
        return Decoded(tuple(columns), num_rows, lines, rejected, found)

    def _reject(
        self,
        block: Block,
        line: int,
        offset: int,
        length: int,
        after_row: int,
        reason: int,
        column: int,
        start: int,
        size: int,
    ) -> Reject:
        record = self._record(block[offset : offset + length])
        if len(record) == length:
            record = record.removesuffix(b"\r")
        if column < 0:
            text = self._record_reasons[reason]
        elif reason == _json.NO_VALUE:
            text = f"{self.output.names[column]}: null"
        else:
            text = f"{self.output.names[column]}: {self.output.fields[column].misfit}: {shown(block[start : start + size])}"
        return Reject(line, offset, after_row, text, record)
