"""The types of the language and the schema of a table.

Invariants: names in a schema are unique; a schema is frozen.  ``unit`` belongs to a *declared* source column of
type timestamp and says how its text or number is read; everywhere past the decoder a timestamp is int64 ns, UTC.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable, Iterator
from functools import cached_property

import numpy as np
from msgspec import Struct


class DataType(enum.Enum):
    """A column type.  ``dtype`` is its numpy dtype (strings have none: they are views, see ``columns``)."""

    BOOL = "bool"
    INT64 = "int64"
    FLOAT64 = "float64"
    STRING = "string"
    TIMESTAMP = "timestamp"

    @property
    def dtype(self) -> np.dtype[np.generic]:
        return _DTYPES[self]

    @property
    def is_number(self) -> bool:
        return self in (DataType.INT64, DataType.FLOAT64)


_DTYPES: dict[DataType, np.dtype[np.generic]] = {
    DataType.BOOL: np.dtype(np.bool_),
    DataType.INT64: np.dtype(np.int64),
    DataType.FLOAT64: np.dtype(np.float64),
    DataType.TIMESTAMP: np.dtype(np.int64),
}

TIMESTAMP_UNITS = {"s": 1_000_000_000, "ms": 1_000_000, "us": 1_000, "ns": 1}
_TYPE_TEXT = re.compile(r"(bool|int64|float64|string|timestamp)(?:\[(s|ms|us|ns)\])?\Z")


class Field(Struct, frozen=True):
    """A named, typed column.  ``unit`` is ``""`` (ISO-8601 text) or ``s ms us ns`` (an epoch number); timestamps only."""

    name: str
    type: DataType
    unit: str = ""

    @classmethod
    def parse(cls, name: str, text: str) -> Field:
        """``Field.parse("ts", "timestamp[ms]")``; raises ValueError for an unknown type."""
        match = _TYPE_TEXT.match(text)
        if match is None or (match[2] and match[1] != "timestamp"):
            raise ValueError(f"unknown type {text!r}")
        return cls(name, DataType(match[1]), match[2] or "")

    @property
    def type_text(self) -> str:
        return f"{self.type.value}[{self.unit}]" if self.unit else self.type.value

    @property
    def misfit(self) -> str:
        """What is wrong with a value that does not fit the field, in a few words."""
        if self.type is DataType.STRING:
            return "half of a surrogate pair"
        return f"not {'an' if self.type is DataType.INT64 else 'a'} {self.type_text}"


class Schema(Struct, frozen=True, dict=True):
    """An ordered tuple of fields with unique names."""

    fields: tuple[Field, ...]

    def __post_init__(self) -> None:
        if len(self._index) != len(self.fields):
            raise ValueError("a schema's column names must be unique")

    @classmethod
    def of(cls, columns: Iterable[tuple[str, DataType]]) -> Schema:
        return cls(tuple(Field(name, type_) for name, type_ in columns))

    @cached_property
    def _index(self) -> dict[str, int]:
        return {field.name: position for position, field in enumerate(self.fields)}

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(field.name for field in self.fields)

    def index(self, name: str) -> int:
        """Position of a column; KeyError when there is none."""
        return self._index[name]

    def __contains__(self, name: object) -> bool:
        return name in self._index

    def __getitem__(self, name: str) -> Field:
        return self.fields[self._index[name]]

    def __iter__(self) -> Iterator[Field]:
        return iter(self.fields)

    def __len__(self) -> int:
        return len(self.fields)

    def plain(self) -> Schema:
        """The schema past the decoder: without the units in which a source reads times."""
        return Schema.of((field.name, field.type) for field in self.fields)

    def select(self, names: Iterable[str]) -> Schema:
        return Schema(tuple(self[name] for name in names))
