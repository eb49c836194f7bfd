"""JSON: one object a line (NDJSON).  Nested fields are columns named by their path, ``a.b``.

Reading gives null for a missing field and ignores an extra one; writing puts members in schema order.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import msgspec

from asyncflow.errors import DataError
from asyncflow.formats._infer import fits_float64, fits_int64, infer_types
from asyncflow.formats._json_decoder import JsonDecoder
from asyncflow.formats._json_encoder import EncoderOptions, encoder
from asyncflow.formats.contract import BYTE_ORDER_MARK, Block, DecodeRequest
from asyncflow.model.schema import DataType, Field, Schema

__all__ = ["DecoderOptions", "EncoderOptions", "count_records", "decoder", "encoder", "infer"]

INFERRED_RECORDS = 1000
INFERRED_DEPTH = 32  # what lies deeper is the raw text of the object there
NOT_FINITE = ("NaN", "Infinity", "-Infinity")
"""How the JSON sink writes them; a float64 column reads them so."""
_ARRAY = re.compile(rb"(?:%s)?\s*\[\s*(?:[\[{]|\Z)" % BYTE_ORDER_MARK)
_HALF_PAIR = re.compile("[\ud800-\udfff]")


class DecoderOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One JSON object a line; there is nothing to choose."""


def decoder(options: DecoderOptions, request: DecodeRequest) -> JsonDecoder:
    """A decoder for one stream of objects."""
    return JsonDecoder(request)


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
