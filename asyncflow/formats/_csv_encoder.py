"""CSV on the way out (RFC 4180, lines end in LF): a header once, then a record a row.

A field is quoted only where it must be: when it holds the delimiter, the quote, CR or LF, and for a text that would read as null (empty, or
the null text itself).  So null is an empty field, and the empty string is ``""``.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from asyncflow._kernels import encode as _encode
from asyncflow.errors import DataError
from asyncflow.formats._cells import Timestamps, batch_cells, column_cells, tick_ns
from asyncflow.formats._csv_decoder import DecoderOptions, first_record
from asyncflow.formats._csv_dialect import check_dialect
from asyncflow.formats.contract import Encoder
from asyncflow.model.batch import Batch
from asyncflow.model.columns import StringColumn
from asyncflow.model.held import Held
from asyncflow.model.schema import DataType, Schema
from asyncflow.model.snapshot import Copied, Frozen, Saved

SHOWN_COLUMNS = 8


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
