"""Lines: each line of text is one row of the single column ``line``.

Reading keeps every line, also an empty one, without its LF or CRLF; writing takes one string column, a line a row.
"""

from __future__ import annotations

import msgspec
import numpy as np

from asyncflow._kernels import lines as _lines
from asyncflow.errors import PipelineError, Problem
from asyncflow.formats._cells import text_arrays
from asyncflow.formats._lines import LineDecoder, Lines
from asyncflow.formats.contract import Block, Decoded, DecodeRequest, DescribesRecords, Encoder
from asyncflow.model.batch import Batch
from asyncflow.model.columns import StringColumn
from asyncflow.model.schema import DataType, Schema

COLUMN = "line"


class DecoderOptions(msgspec.Struct, DescribesRecords, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Lines of text; there is nothing to choose."""

    def fixed_schema(self) -> Schema:
        return Schema.of([(COLUMN, DataType.STRING)])


class EncoderOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One string column, a line a row; there is nothing to choose."""


class LinesDecoder(LineDecoder):
    """Lines to one string column, as views into the block."""

    def __init__(self, request: DecodeRequest) -> None:
        super().__init__(request)
        self.output = request.schema.select(request.columns)

    def decode_lines(self, lines: Lines, wrong: dict[int, str]) -> Decoded:
        column = StringColumn(lines.block, lines.starts, lines.lengths)
        if wrong:
            column = column.take(np.flatnonzero(lines.faults == _lines.GOOD))
        return self.decoded(lines, (column,) * len(self.output), len(column), wrong)


class LinesEncoder(Encoder):
    """One string column to lines.  A null is an empty line; a line end inside the text is written as it is."""

    def __init__(self, position: int) -> None:
        self._position = position

    def encode(self, batch: Batch) -> bytes:
        column = batch.columns[self._position]
        assert isinstance(column, StringColumn)
        return _lines.join_lines(*text_arrays(column))


def decoder(options: DecoderOptions, request: DecodeRequest) -> LinesDecoder:
    """A decoder for a schema of one string column (whatever its name); PipelineError for any other."""
    if [field.type for field in request.schema] != [DataType.STRING]:
        raise PipelineError([Problem("schema", f'format "lines" has one column: {{ {COLUMN} = "string" }}')])
    return LinesDecoder(request)


def infer(options: DecoderOptions, head: Block, final: bool) -> Schema:
    """Always ``line: string``."""
    return options.fixed_schema()


def encoder(options: EncoderOptions, schema: Schema) -> LinesEncoder:
    """An encoder for the only column, or the one named ``line``; PipelineError where that is no string column."""
    position = schema.index(COLUMN) if COLUMN in schema else 0
    if not (len(schema) == 1 or COLUMN in schema) or schema.fields[position].type is not DataType.STRING:
        raise PipelineError(
            [Problem("format", f'format "lines" writes one string column, or the one named "{COLUMN}"')]
        )
    return LinesEncoder(position)
