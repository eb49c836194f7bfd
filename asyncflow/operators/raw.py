"""Columns as kernels take and give them: tuples of arrays."""

from __future__ import annotations

from asyncflow._kernels.columns.raw import RawColumn
from asyncflow.model.columns import Column, FixedColumn, StringColumn


def raw_column(column: Column) -> RawColumn:
    """``(values, valid)``, of strings ``(data, starts, lengths, valid)``."""
    if isinstance(column, StringColumn):
        return column.data, column.starts, column.lengths, column.valid
    return column.values, column.valid


def rows_of_raw(raw: RawColumn) -> int:
    """Rows of the column."""
    return len(raw[1] if len(raw) == 4 else raw[0])


def column_of_raw(raw: RawColumn) -> Column:
    """The column of a kernel's arrays."""
    return StringColumn(*raw) if len(raw) == 4 else FixedColumn(*raw)
