"""Columns as contiguous arrays, one tuple per column, for the kernels that write text.

Shared by the encoders of CSV, JSON, table and lines; ``Timestamps`` is their common option.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from asyncflow.model.batch import Batch
from asyncflow.model.columns import BoolArray, ByteArray, Column, Int32Array, StringColumn
from asyncflow.model.schema import TIMESTAMP_UNITS, DataType

Cells: TypeAlias = (
    tuple[str, NDArray[Any], None, None, BoolArray | None]
    | tuple[str, ByteArray, Int32Array, Int32Array, BoolArray | None]
)

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
    if isinstance(column, StringColumn):
        return (type_.value, *text_arrays(column))
    return (
        type_.value,
        np.ascontiguousarray(column.values, type_.dtype),
        None,
        None,
        _contiguous(column.valid),
    )


def text_arrays(column: StringColumn) -> tuple[ByteArray, Int32Array, Int32Array, BoolArray | None]:
    """Data, starts, lengths and valid of a string column, contiguous."""
    starts, lengths = (np.ascontiguousarray(part, np.int32) for part in (column.starts, column.lengths))
    return np.ascontiguousarray(column.data, np.uint8), starts, lengths, _contiguous(column.valid)


def _contiguous(valid: BoolArray | None) -> BoolArray | None:
    return None if valid is None else np.ascontiguousarray(valid, np.bool_)


def batch_cells(batch: Batch) -> list[Cells]:
    """All columns of a batch, in schema order."""
    return [
        column_cells(f.type, column) for f, column in zip(batch.schema.fields, batch.columns, strict=True)
    ]
