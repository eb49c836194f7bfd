"""``CAST``: between the types, as DuckDB reads texts and writes them.

A value that does not fit the type (a text that is no number, a float beyond int64) becomes null and is counted as ``invalid_cast``:
in a stream one bad value must not stop the others.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import numpy as np

from asyncflow._kernels import texts as kernel
from asyncflow.model.columns import Column, FixedColumn, StringColumn
from asyncflow.model.instants import BLANKS, format_timestamp, parse_timestamp
from asyncflow.model.schema import DataType
from asyncflow.operators.functions.arrays import Count, fixed
from asyncflow.operators.functions.numbers import GREATEST, LEAST, quiet, within_int64
from asyncflow.operators.functions.texts import column_of, distinct, texts_of

BOOL, INT64, FLOAT64 = DataType.BOOL, DataType.INT64, DataType.FLOAT64
STRING, TIMESTAMP = DataType.STRING, DataType.TIMESTAMP

_WHOLE = re.compile(r"[+-]?\d{1,40}", re.ASCII)
_GROUPED = re.compile(r"[+-]?(\d+(_\d+)*)?(\.(\d+(_\d+)*)?)?([eE][+-]?\d{1,12}(_\d{1,5})?)?", re.ASCII)
_PREFIXED = re.compile(r"0[xX][0-9a-fA-F]{1,32}|0[bB][01]{1,128}", re.ASCII)
_WORDS_FLOAT = re.compile(r"[+-]?(inf|infinity|nan)", re.IGNORECASE | re.ASCII)
_BOOLS = {
    **dict.fromkeys(("true", "t", "yes", "y", "1"), True),
    **dict.fromkeys(("false", "f", "no", "n", "0"), False),
}


def cast(count: Count, column: Column, source: DataType, target: DataType) -> Column:
    """The column as ``target``; the pair is one that checking allows."""
    if source is target:
        return column
    if isinstance(column, StringColumn):
        return _from_text(count, column, target)
    if target is STRING:
        return _to_text(column, source)
    return _FIXED[source, target](count, column)


def _float_to_int(count: Count, column: FixedColumn) -> Column:
    with quiet():
        whole = np.rint(column.values)
        fits = (whole >= -(2.0**63)) & (whole < 2.0**63)
        values = np.where(fits, whole, 0.0).astype(np.int64)
    return within_int64(count, values, column.valid, ~fits, "invalid_cast")


def _to_bool(count: Count, column: FixedColumn) -> Column:
    return fixed(column.values != 0, column.valid)


def _to_number(target: DataType) -> Callable[[Count, FixedColumn], Column]:
    return lambda count, column: fixed(column.values.astype(target.dtype), column.valid)


_FIXED: dict[tuple[DataType, DataType], Callable[[Count, FixedColumn], Column]] = {
    (INT64, FLOAT64): _to_number(FLOAT64),
    (BOOL, INT64): _to_number(INT64),
    (BOOL, FLOAT64): _to_number(FLOAT64),
    (INT64, BOOL): _to_bool,
    (FLOAT64, BOOL): _to_bool,
    (FLOAT64, INT64): _float_to_int,
}


# -- to text ---------------------------------------------------------------------------------------------------------


def _to_text(column: FixedColumn, source: DataType) -> Column:
    """Once per distinct value."""
    keys = (
        column.values.view(np.int64) if source is FLOAT64 else column.values
    )  # -0.0 is a value of its own, and so is NaN
    _, firsts, ids = np.unique(keys, return_index=True, return_inverse=True)
    write: Callable[[Any], str] = _WRITERS[source]
    texts = column_of([write(value) for value in column.values[firsts].tolist()], STRING).take(
        ids.reshape(-1)
    )
    assert isinstance(texts, StringColumn)
    return StringColumn(texts.data, texts.starts, texts.lengths, column.valid)


_WRITERS: dict[DataType, Callable[[Any], str]] = {
    BOOL: lambda value: "true" if value else "false",
    INT64: str,
    FLOAT64: repr,
    TIMESTAMP: format_timestamp,
}


# -- from text -------------------------------------------------------------------------------------------------------


_PLAIN = {INT64: 0, FLOAT64: 1, TIMESTAMP: 2}
"""The kinds of the kernel's ``read``."""


def _from_text(count: Count, column: StringColumn, target: DataType) -> Column:
    """Plain forms by a kernel; others once per distinct text."""
    values, known = np.zeros(len(column), target.dtype), np.zeros(len(column), np.bool_)
    if target in _PLAIN:
        kernel.read(column.data, column.starts, column.lengths, _PLAIN[target], values, known)
    others = np.flatnonzero(~known if column.valid is None else ~known & column.valid)
    if len(others):
        read = _READERS[target]
        texts, ids = distinct(column.take(others))
        found = [read(text) for text in texts_of(texts)]
        values[others] = np.array([0 if value is None else value for value in found], target.dtype)[ids]
        known[others] = np.fromiter((value is not None for value in found), np.bool_, len(found))[ids]
    return within_int64(count, values, column.valid, ~known, "invalid_cast")


def read_int(text: str) -> int | None:
    """A whole number; fractions are rounded, halves away from zero.  None where it is none, or beyond int64."""
    text = text.strip(BLANKS)
    if _WHOLE.fullmatch(text):
        value = int(text)
    elif _PREFIXED.fullmatch(text):
        value = int(text, 0)
    elif _GROUPED.fullmatch(text) and any(char.isdigit() for char in text.lower().partition("e")[0]):
        number = Decimal(text.replace("_", ""))
        if not number:
            return 0
        if number.adjusted() > 19:
            return None
        value = int(number.to_integral_value(ROUND_HALF_UP)) if number.adjusted() >= -1 else 0
    else:
        return None
    return value if LEAST <= value <= GREATEST else None


def read_float(text: str) -> float | None:
    text = text.strip(BLANKS)
    if _WORDS_FLOAT.fullmatch(text) or (
        _GROUPED.fullmatch(text) and any(char.isdigit() for char in text.lower().partition("e")[0])
    ):
        return float(text)
    return None


def read_bool(text: str) -> bool | None:
    return _BOOLS.get(text.lower())


def read_timestamp(text: str) -> int | None:
    try:
        return parse_timestamp(text)
    except ValueError:
        return None


_READERS: dict[DataType, Callable[[str], Any]] = {
    BOOL: read_bool,
    INT64: read_int,
    FLOAT64: read_float,
    TIMESTAMP: read_timestamp,
}
