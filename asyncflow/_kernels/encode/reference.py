"""The plain twin of ``encode``: columns to rows of text.  It specifies the bytes, by ``repr``, ``datetime`` and ``json``.

A column is a tuple ``(kind, values, starts, lengths, valid)``:

- ``kind``: ``bool int64 float64 string timestamp``;
- ``values``: the array of the column; of strings the uint8 text;
- ``starts``, ``lengths``: of strings int32, row *i* is ``values[starts[i] : starts[i] + lengths[i]]``; else None;
- ``valid``: a bool array, or None where no row is null.

``tick_ns``: 0 writes timestamps as ISO-8601 text; any other value writes the whole number of such ticks since 1970, rounded down.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Valid: TypeAlias = "NDArray[np.bool_] | None"
Cells: TypeAlias = (
    tuple[str, NDArray[Any], None, None, Valid]
    | tuple[str, NDArray[np.uint8], NDArray[np.int32], NDArray[np.int32], Valid]
)

_EPOCH = datetime(1970, 1, 1)
_SECOND_NS = 1_000_000_000


def json_rows(num_rows: int, columns: Sequence[Cells], keys: Sequence[bytes], tick_ns: int) -> bytes:
    """One JSON object and a newline per row.  ``keys``: for each column, the member's name as JSON text, with the colon."""
    texts = []
    for cells, key in zip(columns, keys, strict=True):
        head = key.decode()
        texts.append(
            [head + text for text in _texts(num_rows, cells, tick_ns, "null", _json_string, _json_float, '"')]
        )
    return "".join("{" + ",".join(text[row] for text in texts) + "}\n" for row in range(num_rows)).encode()


def csv_rows(
    num_rows: int, columns: Sequence[Cells], delimiter: bytes, quote: bytes, null: bytes, tick_ns: int
) -> bytes:
    """One CSV record and a newline per row.

    ``delimiter`` and ``quote``: one byte each; ``null``: the text of a null.  A string is quoted where it is empty, equals ``null``, or
    has the delimiter, the quote (which is doubled), CR or LF in it.
    """
    mark = quote.decode()
    special = (delimiter.decode(), mark, "\r", "\n")

    def string(text: str) -> str:
        if text and text != null.decode() and not any(character in text for character in special):
            return text
        return mark + text.replace(mark, mark * 2) + mark

    texts = [_texts(num_rows, cells, tick_ns, null.decode(), string, _csv_float, "") for cells in columns]
    return "".join(
        delimiter.decode().join(text[row] for text in texts) + "\n" for row in range(num_rows)
    ).encode()


def _texts(
    num_rows: int,
    cells: Cells,
    tick_ns: int,
    null: str,
    string: Callable[[str], str],
    number: Callable[[float], str],
    time_quote: str,
) -> list[str]:
    kind, values, starts, lengths, valid = cells
    if len(values if starts is None else starts) != num_rows:
        raise ValueError("a column's length differs from num_rows")
    if kind == "string":
        assert starts is not None and lengths is not None, "a string column has four arrays"
        raw, text = bytes(values), []
        for start, length in zip(starts.tolist(), lengths.tolist(), strict=True):
            if start < 0 or length < 0 or start + length > len(raw):
                raise ValueError("a string lies outside its text")
            text.append(string(raw[start : start + length].decode()))
    elif kind == "bool":
        text = ["true" if value else "false" for value in values.tolist()]
    elif kind == "int64":
        text = [str(value) for value in values.tolist()]
    elif kind == "float64":
        text = [number(value) for value in values.tolist()]
    elif tick_ns:
        text = [str(value // tick_ns) for value in values.tolist()]
    else:
        text = [time_quote + _iso(value) + time_quote for value in values.tolist()]
    return text if valid is None else [t if ok else null for t, ok in zip(text, valid.tolist(), strict=True)]


def _json_string(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _json_float(value: float) -> str:
    if math.isfinite(value):
        return repr(value)
    return '"NaN"' if math.isnan(value) else '"Infinity"' if value > 0 else '"-Infinity"'


def _csv_float(value: float) -> str:
    return "NaN" if math.isnan(value) else repr(value)


def _iso(time_ns: int) -> str:
    seconds, fraction_ns = divmod(time_ns, _SECOND_NS)
    text = (_EPOCH + timedelta(seconds=seconds)).isoformat()
    if fraction_ns == 0:
        return text + "Z"
    digits = f"{fraction_ns:09}"
    for kept in (3, 6):
        if not digits[kept:].strip("0"):
            return f"{text}.{digits[:kept]}Z"
    return f"{text}.{digits}Z"
