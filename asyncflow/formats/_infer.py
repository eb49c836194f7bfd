"""Infers the type of a column from its texts, for input without a declared schema.

The type is the narrowest of bool, int64, float64 and timestamp that holds *every* value without loss, else string.  Null values do not
count; a column of nulls is string.  So the type does not depend on the order of the rows.

A column stays text where a number would lose information: leading zeros (a postal code), integers beyond int64 (an account number),
integers among floats that float64 cannot hold.  A time must be an instant that int64 ns can hold.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np

from asyncflow._kernels import spans as _spans
from asyncflow.model.columns import StringColumn
from asyncflow.model.schema import DataType, Field, Schema

_BOOL = re.compile(r"true|false", re.IGNORECASE)
_INT = re.compile(r"[+-]?(?:0|[1-9][0-9]*)")
_FLOAT = re.compile(
    r"[+-]?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|[+-]?inf(?:inity)?|[+-]?nan",
    re.IGNORECASE,
)
_TIMESTAMP = re.compile(r"[0-9]{4}-?[0-9]{2}-?[0-9]{2}(?:[Tt ].*)?")
"""Texts that may be a time; the kernel that reads the column decides."""


def infer_types(columns: Mapping[str, Sequence[str | None]]) -> Schema:
    """A schema with one field per column, in order; None is null."""
    return Schema(tuple(Field(name, _type_of(values)) for name, values in columns.items()))


def fits_int64(value: int) -> bool:
    """Whether int64 holds the number."""
    return -(2**63) <= value < 2**63


def fits_float64(value: int) -> bool:
    """Whether float64 holds the number exactly."""
    return fits_int64(value) and int(float(value)) == value


def _type_of(values: Sequence[str | None]) -> DataType:
    texts = {value.strip(" \t") for value in values if value is not None and value != ""}
    if not texts:
        return DataType.STRING
    if all(map(_BOOL.fullmatch, texts)):
        return DataType.BOOL
    if all(map(_FLOAT.fullmatch, texts)):
        integers = [text for text in texts if _INT.fullmatch(text)]
        if any(len(text) > 20 or not fits_int64(int(text)) for text in integers):
            return DataType.STRING
        if len(integers) == len(texts):
            return DataType.INT64
        return DataType.FLOAT64 if all(fits_float64(int(text)) for text in integers) else DataType.STRING
    return DataType.TIMESTAMP if are_times(texts) else DataType.STRING


def are_times(texts: set[str]) -> bool:
    """Whether each text is an instant that a timestamp column can hold."""
    if not all(map(_TIMESTAMP.fullmatch, texts)):
        return False
    column = StringColumn.from_values(sorted(text.encode("utf-8", "replace") for text in texts))
    times, good, failed = (
        np.empty(len(texts), np.int64),
        np.empty(len(texts), bool),
        np.empty(len(texts), bool),
    )
    data, starts, lengths = column.data, column.starts, column.lengths
    _, wrong = _spans.parse_spans("timestamp", data, starts, lengths, times, good, failed)
    return not wrong
