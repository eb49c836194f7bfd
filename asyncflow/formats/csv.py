"""CSV (RFC 4180): records of fields, quoted where they must be; a header names the columns.

Reading takes the columns in the order of the header, ignores names that the schema does not have, and reads an empty field as null.
Writing puts the columns in schema order.
"""

from __future__ import annotations

from asyncflow.formats._csv_decoder import (
    CsvDecoder,
    DecoderOptions,
    first_records,
    infer_schema,
)
from asyncflow.formats._csv_encoder import EncoderOptions, encoder
from asyncflow.formats.contract import Block, DecodeRequest
from asyncflow.model.schema import Schema

__all__ = [
    "DecoderOptions",
    "EncoderOptions",
    "count_records",
    "decoder",
    "encoder",
    "infer",
]


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
