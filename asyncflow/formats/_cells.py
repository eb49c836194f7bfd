"""Where a batch on its way out becomes what the encode kernel takes: one tuple of arrays per column.

Shared by the encoders of CSV, JSON and table; ``TIMESTAMPS`` is their common option.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

import msgspec
import numpy as np

from asyncflow.model.batch import Batch
from asyncflow.model.columns import Column, StringColumn
from asyncflow.model.schema import TIMESTAMP_UNITS, DataType

Cells: TypeAlias = tuple[str, Any, Any, Any, Any]

Timestamps: TypeAlias = Annotated[
    Literal["iso", "s", "ms", "us", "ns"],
    msgspec.Meta(
        description="how timestamps are written: `iso` text (2023-11-14T22:13:20Z, with 0, 3, 6 or 9 digits "
        "of fraction), or whole `s`, `ms`, `us`, `ns` since 1970, rounded down"
    ),
]


def tick_ns(timestamps: str) -> int:
    """Nanoseconds in one unit of the option; 0 for ``iso``."""
    return TIMESTAMP_UNITS.get(timestamps, 0)


def column_cells(type_: DataType, column: Column) -> Cells:
    """One column for the kernel: kind, values, starts, lengths, valid (see the kernel)."""
    valid = None if column.valid is None else np.ascontiguousarray(column.valid, np.bool_)
    if isinstance(column, StringColumn):
        data = np.ascontiguousarray(column.data, np.uint8)
        starts, lengths = (np.ascontiguousarray(part, np.int32) for part in (column.starts, column.lengths))
        return (type_.value, data, starts, lengths, valid)
    return (type_.value, np.ascontiguousarray(column.values, type_.dtype), None, None, valid)


def batch_cells(batch: Batch) -> list[Cells]:
    """All columns of a batch, in schema order."""
    return [
        column_cells(f.type, column) for f, column in zip(batch.schema.fields, batch.columns, strict=True)
    ]
