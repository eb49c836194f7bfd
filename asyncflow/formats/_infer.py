"""Types from texts: what a column's values look like, for input whose schema was not given.

A column is the narrowest of bool, int64, float64, timestamp that *every* value fits, else string; null values say nothing, and a column
of nothing but nulls is string.  So the answer does not depend on the order of the rows.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from asyncflow.model.schema import DataType, Field, Schema

_BOOL = re.compile(r"true|false", re.IGNORECASE)
_INT = re.compile(r"[+-]?[0-9]+")
_FLOAT = re.compile(
    r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|[+-]?inf(?:inity)?|[+-]?nan", re.IGNORECASE
)
_TIMESTAMP = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
    r"(?:[Tt ][0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]+)?)?(?:[Zz]|[+-][0-9]{2}(?::?[0-9]{2})?)?)?"
)


def infer_types(columns: Mapping[str, Sequence[str | None]]) -> Schema:
    """A schema with one field per column, in order; None is null."""
    return Schema(tuple(Field(name, _type_of(values)) for name, values in columns.items()))


def _type_of(values: Sequence[str | None]) -> DataType:
    texts = {value.strip(" \t") for value in values if value is not None and value != ""}
    if not texts:
        return DataType.STRING
    if all(_BOOL.fullmatch(text) for text in texts):
        return DataType.BOOL
    if all(len(text) < 40 and _INT.fullmatch(text) and -(2**63) <= int(text) < 2**63 for text in texts):
        return DataType.INT64
    if all(_FLOAT.fullmatch(text) for text in texts):
        return DataType.FLOAT64
    if all(_TIMESTAMP.fullmatch(text) for text in texts):
        return DataType.TIMESTAMP
    return DataType.STRING
