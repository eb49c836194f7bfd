"""Records of CSV as texts: the dialect, the header, and the first records, from which a schema is inferred.

Read before rows flow, once a stream.  The decoder of rows (``csv``) is the kernel's.
"""

from __future__ import annotations

import re
from typing import Annotated

import msgspec
import numpy as np

from asyncflow._kernels import csv as _csv
from asyncflow.errors import DataError
from asyncflow.formats._lines import NOT_UTF8
from asyncflow.formats.contract import BYTE_ORDER_MARK, Block, DecodeRequest, DescribesRecords, RejectLog
from asyncflow.model.columns import StringColumn
from asyncflow.model.schema import DataType, Schema

INFERRED_RECORDS = 1000


class DecoderOptions(msgspec.Struct, DescribesRecords, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How CSV is written (RFC 4180).

    Spaces and tabs around a value that is not text are ignored; a quoted empty field is the empty text, and null for other types.
    """

    delimiter: Annotated[str, msgspec.Meta(description="what stands between fields: one ASCII character")] = (
        ","
    )
    header: Annotated[
        bool | None,
        msgspec.Meta(
            description="the first record names the columns, in any order; without it the schema is in file order"
            " (left out: true, but false for datagrams, each of which would have its own)"
        ),
    ] = None
    quote: Annotated[
        str,
        msgspec.Meta(
            description="what encloses a field that holds delimiters or line ends: one ASCII character"
        ),
    ] = '"'
    null: Annotated[str, msgspec.Meta(description="the unquoted text that means null")] = ""

    def __post_init__(self) -> None:
        check_dialect(self.delimiter, self.quote, self.null)

    @property
    def has_header(self) -> bool:
        return self.header is not False

    def for_messages(self) -> DecoderOptions:
        """A message has a header only where ``header`` is true."""
        return msgspec.structs.replace(self, header=bool(self.header))


def check_dialect(delimiter: str, quote: str, null: str) -> None:
    """ValueError where records in this dialect would be ambiguous."""
    for option, text in (("delimiter", delimiter), ("quote", quote)):
        if len(text) != 1 or not text.isascii() or text in "\r\n\0":
            raise ValueError(f"{option} must be one ASCII character, not {text!r}")
    if delimiter == quote:
        raise ValueError("delimiter and quote must differ")
    if any(character in null for character in (delimiter, quote, "\r", "\n")):
        raise ValueError("the null text must not hold the delimiter, the quote or a line end")


def make_plan(
    options: DecoderOptions, request: DecodeRequest, fields: int, columns: list[tuple[int, str, bool]]
) -> _csv.Plan:
    """The kernel's plan for records of so many fields; ``columns``: field, type text, required."""
    return _csv.Plan(
        delimiter=ord(options.delimiter),
        quote=ord(options.quote),
        null_text=options.null.encode(),
        max_record_bytes=request.max_record_bytes,
        fields=max(fields, 1),
        columns=columns,
        rejects_kept=2**62 if request.keep_rejects else RejectLog(keep_all=False).first,
    )


def skip_byte_order_mark(data: bytes, final: bool) -> int | None:
    """The offset of the text; None where more bytes are needed."""
    if data.startswith(BYTE_ORDER_MARK):
        return len(BYTE_ORDER_MARK)
    return None if BYTE_ORDER_MARK.startswith(data) and not final else 0


def read_record(
    data: bytes, start: int, options: DecoderOptions, final: bool
) -> tuple[tuple[str, ...], int] | None:
    """The texts of the first record at or after ``start``, and its end; None where it is not complete, or there is none.

    For the header: DataError where the record is not UTF-8 or a quote is wrong.
    """
    delimiter, quote = options.delimiter.encode(), options.quote.encode()
    at = start + len(data[start:]) - len(data[start:].lstrip(b"\r\n"))
    if at == len(data):
        return None
    stop_byte = re.compile(b"[\n" + re.escape(delimiter) + b"]")
    texts: list[bytes] = []
    while True:
        if data.startswith(quote, at):
            end = data.find(quote, at + 1)
            while end >= 0 and data.startswith(quote, end + 1):
                end = data.find(quote, end + 2)
            if end < 0 and final:
                raise DataError("a quote in the header is not closed")
            if not final and (end < 0 or data[end + 1 :] in (b"", b"\r")):
                return None
            texts.append(data[at + 1 : end].replace(quote * 2, quote))
            at = end + 1
            if data[at:] == b"\r" or data.startswith(b"\r\n", at):
                at += 1
            if at < len(data) and stop_byte.match(data, at) is None:
                raise DataError("text after a closing quote in the header")
        else:
            found = stop_byte.search(data, at)
            if found is None and not final:
                return None
            end = len(data) if found is None else found.start()
            ends_line = found is None or found[0] == b"\n"
            texts.append(data[at:end].removesuffix(b"\r") if ends_line else data[at:end])
            at = end
        if at == len(data) or data.startswith(b"\n", at):
            break
        at += 1
    try:
        return tuple(text.decode() for text in texts), min(at + 1, len(data))
    except UnicodeDecodeError as error:
        raise DataError(f"the header is {NOT_UTF8}") from error


def first_record(head: bytes, options: DecoderOptions, final: bool) -> tuple[str, ...] | None:
    """The texts of the first record that text begins with, or None; DataError as ``read_record``."""
    start = skip_byte_order_mark(head, True) or 0
    record = read_record(head, start, options, final)
    return None if record is None else record[0]


def infer_schema(options: DecoderOptions, head: Block, final: bool) -> Schema:
    """Names from the header (else ``c0``, ``c1``, ...), types from the first complete records."""
    from asyncflow.formats._infer import infer_types  # with its patterns, where there is no schema

    columns = first_records(options, head, final)
    if columns is None:
        if final:
            return Schema(())
        raise DataError(f"no end of the first record in {len(head)} bytes")
    return infer_types(columns)


def first_records(options: DecoderOptions, head: Block, final: bool) -> dict[str, list[str | None]] | None:
    """The texts of the first complete records, a list for each field; None where not even the header, or the first record, is complete.
    DataError where the header cannot be read."""
    data = head.tobytes()
    start = skip_byte_order_mark(data, final)
    first = None if start is None else read_record(data, start, options, final)
    if start is None or first is None:
        return None
    names, end = first
    if options.has_header:
        start = end
        for name in names:
            if names.count(name) > 1:
                raise DataError(header_problem(name, names))
    else:
        names = tuple(f"c{field}" for field in range(len(names)))
    schema = Schema.of((name, DataType.STRING) for name in names)
    request = DecodeRequest(schema, names, max_record_bytes=max(len(data), 1))
    wanted = [(field, "string", False) for field in range(len(names))]
    plan = make_plan(options, request, len(names), wanted)
    rest = np.frombuffer(bytearray(data[start:]), np.uint8)
    rest = rest[: _csv.Cutter(plan).cut(rest, final)[0]]
    arrays = plan.decode(rest)[4]
    texts = {}
    for name, (starts, lengths, valid) in zip(names, arrays, strict=True):
        assert lengths is not None, "a column of texts has lengths"
        texts[name] = StringColumn(rest, starts, lengths, valid).slice(0, INFERRED_RECORDS).to_list()
    return texts


def header_problem(name: str, names: tuple[str, ...]) -> str:
    if name in names:
        return f"the header names column {name!r} {names.count(name)} times"
    from difflib import get_close_matches

    near = get_close_matches(name, names, 1, 0.5)
    hint = f"nearest: {near[0]!r}" if near else "it has " + ", ".join(map(repr, names[:8]))
    return f"the header has no column {name!r} ({hint})"
