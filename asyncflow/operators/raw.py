"""Columns as the kernels take and give them: tuples of arrays."""

from __future__ import annotations

from typing import Any

from asyncflow.model.columns import Column, FixedColumn, StringColumn


def raw_column(column: Column) -> tuple[Any, ...]:
    """``(values, valid)``, of strings ``(data, starts, lengths, valid)``."""
    if isinstance(column, StringColumn):
        return column.data, column.starts, column.lengths, column.valid
    return column.values, column.valid


def rows_of_raw(raw: tuple[Any, ...]) -> int:
    """How many rows it has."""
    return len(raw[1] if len(raw) == 4 else raw[0])


def column_of_raw(raw: tuple[Any, ...]) -> Column:
    """The column that a kernel gave."""
    return StringColumn(*raw) if len(raw) == 4 else FixedColumn(*raw)
