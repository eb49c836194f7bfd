"""CSV (RFC 4180): records of fields, quoted where they must be; a header names the columns.

Reading takes the columns in the order of the header, ignores names that the schema does not have, and reads an empty field as null.  What a
record is, what is rejected and in which order is said by the kernel's twin, ``_kernels.csv.reference``.

Writing puts the columns in schema order: a header once, then a record a row, and lines end in LF.  A field is quoted only where it must
be: when it holds the delimiter, the quote, CR or LF, and for a text that would read as null (empty, or the null text itself).  So null is
an empty field, and the empty string is ``""``.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
import numpy as np

from asyncflow._kernels import csv as _csv
from asyncflow._kernels import encode as _encode
from asyncflow.errors import DataError
from asyncflow.formats._cells import Timestamps, batch_cells, column_cells, tick_ns
from asyncflow.formats._csv_records import (
    DecoderOptions,
    check_dialect,
    first_record,
    first_records,
    header_problem,
    infer_schema,
    make_plan,
    read_record,
    skip_byte_order_mark,
)
from asyncflow.formats._lines import NOT_UTF8, shown
from asyncflow.formats.contract import Block, Cut, Decoded, Decoder, DecodeRequest, Encoder, Reject
from asyncflow.model.batch import Batch
from asyncflow.model.columns import Column, FixedColumn, StringColumn
from asyncflow.model.held import Held
from asyncflow.model.schema import DataType, Schema
from asyncflow.model.snapshot import Copied, Frozen, Saved

__all__ = ["DecoderOptions", "EncoderOptions", "count_records", "decoder", "encoder", "infer"]

HEADER_BYTES = 4096
"""A header up to so long is read at each of its line ends."""
SHOWN_COLUMNS = 8


class CsvDecoder(Decoder):
    """Decodes one stream.  Until ``prepare`` has seen a header, fields are taken to be in schema order."""

    def __init__(self, options: DecoderOptions, request: DecodeRequest) -> None:
        self.output = request.schema.select(request.columns)
        self._options = options
        self._request = request
        self._seen_bytes = 0  # of a header without an end
        self._read_again_bytes = 0
        self._use(request.schema.names)

    def _use(self, names: tuple[str, ...]) -> None:
        """Fields have these names, in this order."""
        self._names = names
        position = {name: field for field, name in enumerate(names)}
        wanted = [(position[f.name], f.type_text, f.name in self._request.required) for f in self.output]
        self._fields = len(names)
        self._plan = make_plan(self._options, self._request, self._fields, wanted)
        self._cutter = _csv.Cutter(self._plan)

    def prepare(self, head: Block, final: bool) -> int | None:
        if not (final or self._may_end_header(head)):
            return None
        data = head.tobytes()
        start = skip_byte_order_mark(data, final)
        if start is None or not self._options.has_header:
            return start
        header = read_record(data, start, self._options, final)
        # Also where a long header came at once: what is refused must not depend on how the bytes were cut.
        seen = data[start:] if header is None else data[start : header[1]].removesuffix(b"\n")
        if len(seen) > self._request.max_record_bytes:
            raise DataError(f"no end of the header in the first {self._request.max_record_bytes} bytes")
        if header is None:
            self._read_again_bytes = 2 * len(data) if len(data) > HEADER_BYTES else 0
            return len(data) if final else None
        names, end = header
        for name in self._request.schema.names:
            if names.count(name) != 1:
                raise DataError(header_problem(name, names))
        if names != self._names:
            self._use(names)
        return end

    def _may_end_header(self, head: Block) -> bool:
        """Whether the header may be complete: it ends at a line end, so the new bytes must hold one.  A long header whose line ends are all
        within quotes is read again at twice the length, so all readings together are linear.
        """
        seen, self._seen_bytes = self._seen_bytes, len(head)
        if not self._options.has_header or len(head) > self._request.max_record_bytes:
            return True
        return len(head) >= self._read_again_bytes and bool((head[seen:] == ord("\n")).any())

    def cut(self, data: Block, final: bool) -> Cut:
        end, resume, lines, dropped = self._cutter.cut(data, final)
        if dropped is None:
            return Cut(end, resume, lines=lines)
        return Cut(end, resume, (Reject(0, 0, 0, self._reason(_TOO_LONG, 0, -1, b""), dropped),), lines)

    def decode(self, block: Block) -> Decoded:
        num_rows, lines, rejected, rejects, arrays = self._plan.decode(block)
        columns: list[Column] = [
            FixedColumn(values, valid) if lengths is None else StringColumn(block, values, lengths, valid)
            for values, lengths, valid in arrays
        ]
        found = tuple(
            Reject(line, offset, after_row, self._reason(reason, detail, column, value), record)
            for line, offset, after_row, reason, detail, column, value, record in rejects
        )
        return Decoded(tuple(columns), num_rows, lines, rejected, found)

    def _reason(self, reason: int, detail: int, column: int, value: bytes) -> str:
        if reason == _BAD_VALUE:
            field = self.output.fields[column]
            if detail == _MISSING:
                return f"{field.name}: null"
            limits = " out of range:" if detail == _OUT_OF_RANGE else ""
            return f"{field.name}: {field.misfit}:{limits} '{shown(np.frombuffer(value, np.uint8))}'"
        if reason == _FIELD_COUNT:
            return f"expected {self._fields} field{'s' * (self._fields != 1)}, found {detail}"
        if reason == _TOO_LONG:
            return f"longer than {self._request.max_record_bytes} bytes"
        return _REASONS[reason]


_TOO_LONG, _UNCLOSED, _TEXT_AFTER_QUOTE, _NOT_UTF8, _FIELD_COUNT, _BAD_VALUE = range(6)
_REASONS = {_UNCLOSED: "unclosed quote", _TEXT_AFTER_QUOTE: "text after closing quote", _NOT_UTF8: NOT_UTF8}
_OUT_OF_RANGE, _MISSING = 2, 3


def decoder(options: DecoderOptions, request: DecodeRequest) -> CsvDecoder:
    """A decoder for one stream of records."""
    return CsvDecoder(options, request)


def infer(options: DecoderOptions, head: Block, final: bool) -> Schema:
    """The schema of a stream that begins with ``head`` (``final``: that is all of it); no bytes at all give an empty schema.

    Names come from the header, or are ``c0``, ``c1``, ... without one.  A column's type is the narrowest of bool, int64,
    float64 and timestamp (ISO text) that the first 1000 complete records fit, else string.  DataError where the header
    cannot be read.
    """
    return infer_schema(options, head, final)


def count_records(options: DecoderOptions, head: Block, final: bool) -> int:
    """How many whole records below the header ``infer`` would read."""
    columns = first_records(options, head, final)
    return max(map(len, columns.values()), default=0) if columns else 0


class EncoderOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How rows are written as CSV."""

    header: Annotated[
        bool, msgspec.Meta(description="write the column names first, also where no row ever comes")
    ] = True
    delimiter: Annotated[str, msgspec.Meta(description="what stands between fields: one ASCII character")] = (
        ","
    )
    quote: Annotated[
        str, msgspec.Meta(description="what encloses a field that needs it: one ASCII character")
    ] = '"'
    null: Annotated[str, msgspec.Meta(description="the text of a null")] = ""
    timestamps: Timestamps = "iso"

    def __post_init__(self) -> None:
        check_dialect(self.delimiter, self.quote, self.null)


class CsvEncoder(Encoder):
    """Rows to CSV.  State: whether the header is written."""

    def __init__(self, options: EncoderOptions, schema: Schema) -> None:
        self._dialect = (
            options.delimiter.encode(),
            options.quote.encode(),
            options.null.encode(),
            tick_ns(options.timestamps),
        )
        self._header = self._header_line(schema) if options.header and len(schema) else b""

    def _header_line(self, schema: Schema) -> bytes:
        names = [column_cells(DataType.STRING, StringColumn.from_values([name])) for name in schema.names]
        line = _encode.csv_rows(1, names, *self._dialect)
        return bytes(line)

    def continues(self, held: Held) -> bytes:
        """Closes a text that was cut off within its quotes, so that the rows do not become a part of the text."""
        dialect = DecoderOptions(delimiter=self._dialect[0].decode(), quote=self._dialect[1].decode())
        if (
            self._header
            and (there := first_record(held.head, dialect, len(held.head) == held.size_bytes)) is not None
        ):
            own = first_record(self._header, dialect, True)
            if there != own:
                raise DataError(
                    f"{held.name}: has another header ({_shown(there)}) than the rows ({_shown(own or ())})"
                )
            self._header = b""
        if held.ends_line:
            return b""
        quotes = sum(block.count(self._dialect[1]) for block in held.blocks())
        return self._dialect[1] + b"\n" if quotes % 2 else b"\n"

    def encode(self, batch: Batch) -> bytes | memoryview:
        header, self._header = self._header, b""
        rows = _encode.csv_rows(batch.num_rows, batch_cells(batch), *self._dialect)
        return header + rows if header else rows

    def freeze(self) -> Frozen:
        return Copied({"header_written": not self._header})

    def restore(self, saved: Saved) -> None:
        if saved.flag("header_written"):
            self._header = b""

    def finish(self) -> bytes:
        header, self._header = self._header, b""
        return header


def _shown(names: tuple[str, ...]) -> str:
    return ", ".join(map(repr, names[:SHOWN_COLUMNS])) + (", ..." if len(names) > SHOWN_COLUMNS else "")


def encoder(options: EncoderOptions, schema: Schema) -> CsvEncoder:
    """An encoder for batches of ``schema``."""
    return CsvEncoder(options, schema)
