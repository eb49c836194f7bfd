"""Table: aligned text for people to read; written, never read.

The width of a column follows from its name and type, not from its rows, so the text does not depend on batches; a longer value pushes the
rest of its row to the right.  Numbers are aligned to the right; null is blank.  Control characters are escaped, so a row is one line.
"""

from __future__ import annotations

import unicodedata
from typing import Annotated

import msgspec

from asyncflow._kernels import encode as _encode
from asyncflow.formats._cells import Timestamps, column_cells, tick_ns
from asyncflow.formats.contract import Encoder
from asyncflow.model.batch import Batch
from asyncflow.model.columns import Column, StringColumn
from asyncflow.model.held import Held
from asyncflow.model.schema import DataType, Field, Schema
from asyncflow.model.snapshot import Copied, Frozen, Saved

GAP = "  "
_WIDTHS = {
    DataType.BOOL: 5,
    DataType.INT64: 12,
    DataType.FLOAT64: 12,
    DataType.STRING: 16,
    DataType.TIMESTAMP: 20,
}
_ESCAPES = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))} | {
    ord("\n"): "\\n",
    ord("\r"): "\\r",
    ord("\t"): "\\t",
    0x2028: "\\u2028",
    0x2029: "\\u2029",
}


class EncoderOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How rows are laid out for reading."""

    header: Annotated[bool, msgspec.Meta(description="write the column names first")] = True
    timestamps: Timestamps = "iso"


class TableEncoder(Encoder):
    """Rows to aligned lines.  State: whether the header is written."""

    def __init__(self, options: EncoderOptions, schema: Schema) -> None:
        self._tick_ns = tick_ns(options.timestamps)
        names = [_shown(field.name) for field in schema]
        self._widths = [max(_WIDTHS[f.type], _width(name)) for f, name in zip(schema, names, strict=True)]
        self._right = [field.type.is_number for field in schema]
        self._header = self._line(names) if options.header and names else ""

    def continues(self, held: Held) -> bytes:
        """After a different header the rows get a header of their own: a table is not read back."""
        if held.head.startswith(self._header.encode()):
            self._header = ""
        return super().continues(held)

    def encode(self, batch: Batch) -> bytes:
        pairs = zip(batch.schema, batch.columns, strict=True)
        cells = [self._texts(field, column) for field, column in pairs]
        rows = map(self._line, zip(*cells, strict=True)) if cells else ["\n"] * batch.num_rows
        return self.finish() + "".join(rows).encode()

    def freeze(self) -> Frozen:
        return Copied({"header_written": not self._header})

    def restore(self, saved: Saved) -> None:
        if saved.flag("header_written"):
            self._header = ""

    def finish(self) -> bytes:
        header, self._header = self._header, ""
        return header.encode()

    def _texts(self, field: Field, column: Column) -> list[str]:
        if isinstance(column, StringColumn):
            return ["" if text is None else _shown(text) for text in column.to_list()]
        cells = column_cells(field.type, column)
        text = bytes(_encode.csv_rows(len(column), [cells], b",", b'"', b"", self._tick_ns))
        return text.decode().split("\n")[:-1]

    def _line(self, texts: tuple[str, ...] | list[str]) -> str:
        line = []
        for text, width, right in zip(texts, self._widths, self._right, strict=True):
            blank = " " * (width - _width(text))
            line.append(blank + text if right else text + blank)
        return GAP.join(line).rstrip(" ") + "\n"


def _shown(text: str) -> str:
    return text if text.isprintable() else text.translate(_ESCAPES)


def _width(text: str) -> int:
    """Columns on a terminal: wide characters take two, combining ones none."""
    if text.isascii():
        return len(text)
    marks = sum(unicodedata.combining(character) != 0 for character in text)
    return len(text) - marks + sum(unicodedata.east_asian_width(character) in "WF" for character in text)


def encoder(options: EncoderOptions, schema: Schema) -> TableEncoder:
    """An encoder for batches of ``schema``."""
    return TableEncoder(options, schema)
