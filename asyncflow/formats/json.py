"""JSON: one object a line (NDJSON).  Nested fields are columns named by their path, ``a.b``.

Reading gives null for a missing field and ignores an extra one.  The kernel's twin, ``_kernels.json.reference``, is the
specification; here the stream is cut into blocks of lines, and the kernel's arrays become columns and reasons in words.

Writing puts members in schema order, without blanks.  Text is UTF-8 and escaped only where JSON requires it.  NaN and the infinities are
strings (``"NaN"``, ``"Infinity"``, ``"-Infinity"``), which a float64 column reads back.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import msgspec
import numpy as np

from asyncflow._kernels import encode as _encode
from asyncflow._kernels import json as _json
from asyncflow._kernels import lines as _lines
from asyncflow.errors import DataError
from asyncflow.formats._cells import Timestamps, batch_cells, tick_ns
from asyncflow.formats._lines import NOT_UTF8, LineStream, shown
from asyncflow.formats.contract import (
    BYTE_ORDER_MARK,
    Block,
    Decoded,
    DecodeRequest,
    DescribesRecords,
    Encoder,
    Reject,
    RejectLog,
)
from asyncflow.model.batch import Batch
from asyncflow.model.columns import Column, FixedColumn, StringColumn
from asyncflow.model.schema import DataType, Field, Schema

INFERRED_RECORDS = 1000
INFERRED_DEPTH = 32  # what lies deeper is the raw text of the object there
NOT_FINITE = ("NaN", "Infinity", "-Infinity")
"""How the JSON sink writes them; a float64 column reads them so."""
VALUE_BYTES = 9
"""The most bytes of a value in a column: eight, or start and length of a text, and the null flag."""
RECORD_BYTES = 3
"""Bytes of the shortest record, with its line end: an empty object."""
OUTPUT_BYTES = 16 << 20
"""Bound of a block's columns.  A record of two bytes is a row of every declared column, so bytes of lines do not bound the columns."""
_ARRAY = re.compile(rb"(?:%s)?\s*\[\s*(?:[\[{]|\Z)" % BYTE_ORDER_MARK)
_HALF_PAIR = re.compile("[\ud800-\udfff]")


class DecoderOptions(msgspec.Struct, DescribesRecords, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One JSON object a line; there is nothing to choose."""

    @property
    def with_columns(self) -> str:
        return "an object with a field"


class EncoderOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How rows are written as JSON."""

    timestamps: Timestamps = "iso"


def decoder(options: DecoderOptions, request: DecodeRequest) -> JsonDecoder:
    """A decoder for one stream of objects."""
    return JsonDecoder(request)


def encoder(options: EncoderOptions, schema: Schema) -> JsonEncoder:
    """An encoder for batches of ``schema``."""
    return JsonEncoder(options, schema)


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


class JsonEncoder(Encoder):
    """Rows to newline-delimited JSON; keeps no state."""

    def __init__(self, options: EncoderOptions, schema: Schema) -> None:
        self._tick_ns = tick_ns(options.timestamps)
        self._keys = [json.dumps(name, ensure_ascii=False).encode() + b":" for name in schema.names]

    def encode(self, batch: Batch) -> bytes | memoryview:
        return _encode.json_rows(batch.num_rows, batch_cells(batch), self._keys, self._tick_ns)


# -- inference ---------------------------------------------------------------------------------------------------------


def infer(options: DecoderOptions, head: Block, final: bool) -> Schema:
    """The schema of the first 1000 records of ``head``: paths in the order they were first seen.

    A path's type is that of all its values: bool, int64, float64 (also ints and floats mixed, and the texts that stand for NaN and the
    infinities), timestamp (texts that are all ISO times) or string (texts, arrays, any other mixture, nothing but null, integers that
    int64, or among floats float64, cannot hold).  An object's fields are columns; it is one itself, and
    string, only where the same path has other values too.  Records that cannot be read say nothing; neither does a last line
    without its end, unless ``final``.
    """
    data = head.tobytes()
    _refuse_array(data)
    seen: dict[str, list[Any]] = {}
    objects: set[str] = set()
    for record in islice(_records(data, final), INFERRED_RECORDS):
        for path, value in _fields(record):
            if _HALF_PAIR.search(path):
                continue  # no schema can name it
            if isinstance(value, dict) and path.count(".") < INFERRED_DEPTH:
                objects.add(path)
                continue
            values = seen.setdefault(path, [])
            if value is not None:
                values.append(value)
    return Schema(
        tuple(
            Field(path, DataType.STRING if path in objects else _type_of(values))
            for path, values in seen.items()
            if values or path not in objects
        )
    )


def count_records(options: DecoderOptions, head: Block, final: bool) -> int:
    """How many of the first 1000 records of ``head`` are objects with a field."""
    return sum(bool(record) for record in islice(_records(head.tobytes(), final), INFERRED_RECORDS))


def _refuse_array(data: bytes) -> None:
    """DataError where the text begins with an array of objects: its lines would be wrong records, or right ones by chance."""
    if _ARRAY.match(data):
        raise DataError("the input is one JSON array: write an object a line, as `jq -c '.[]'` does")


def _records(data: bytes, final: bool) -> Iterator[dict[str, Any]]:
    lines = data.removeprefix(BYTE_ORDER_MARK).split(b"\n")
    for line in lines if final else lines[:-1]:
        try:
            record = json.loads(line.decode())
        except (ValueError, RecursionError):
            continue
        if isinstance(record, dict):
            yield record


def _fields(record: dict[str, Any]) -> Iterable[tuple[str, Any]]:
    """Every field's path and value in the order written; an object comes before its fields."""
    pending = [(key, value) for key, value in reversed(record.items())]
    while pending:
        path, value = pending.pop()
        if isinstance(value, dict) and path.count(".") < INFERRED_DEPTH:
            pending += [(f"{path}.{key}", inner) for key, inner in reversed(value.items())]
        yield path, value


def _type_of(values: list[Any]) -> DataType:
    from asyncflow.formats._infer import (  # only where there is no schema
        fits_float64,
        fits_int64,
        infer_types,
    )

    kinds = {type(value) for value in values}
    if kinds == {bool}:
        return DataType.BOOL
    if kinds == {int} and all(map(fits_int64, values)):
        return DataType.INT64
    numbers = [value for value in values if value not in NOT_FINITE]
    if numbers and {type(value) for value in numbers} <= {int, float}:
        whole = (value for value in numbers if type(value) is int)
        return DataType.FLOAT64 if all(map(fits_float64, whole)) else DataType.STRING
    if kinds == {str} and infer_types({"": values}).fields[0].type is DataType.TIMESTAMP:
        return DataType.TIMESTAMP
    return DataType.STRING
