"""Three-valued logic (Kleene), nulls, and choice: ``AND OR NOT``, ``IS NULL``, ``CASE``, ``coalesce``."""

from __future__ import annotations

import numpy as np

from asyncflow.model.columns import BoolArray, Column, FixedColumn
from asyncflow.operators.functions.arrays import choose, fixed, rows_of, valid_of, validity


def is_true(column: FixedColumn) -> BoolArray:
    """Where a bool column is true; null counts as false."""
    values: BoolArray = column.values
    return values if column.valid is None else values & column.valid


def _is_false(column: FixedColumn) -> BoolArray:
    return ~column.values if column.valid is None else ~column.values & column.valid


def and_(*columns: FixedColumn) -> FixedColumn:
    """False where one is false; else null where one is null; else true."""
    valid = valid_of(*columns)
    if valid is None:
        result = columns[0].values
        for column in columns[1:]:
            result = result & column.values
        return fixed(result, None)
    false = _is_false(columns[0])
    for column in columns[1:]:
        false = false | _is_false(column)
    return fixed(~false, false | valid)


def or_(*columns: FixedColumn) -> FixedColumn:
    """True where one is true; else null where one is null; else false."""
    valid = valid_of(*columns)
    true = is_true(columns[0])
    for column in columns[1:]:
        true = true | is_true(column)
    return fixed(true, None if valid is None else true | valid)


def not_(column: FixedColumn) -> FixedColumn:
    return FixedColumn(~column.values, column.valid)


def is_null(column: Column) -> FixedColumn:
    if column.valid is None:
        return FixedColumn(np.zeros(len(column), np.bool_))
    return FixedColumn(~column.valid)


def case(*parts: Column) -> Column:
    """When, then, when, then, ..., default."""
    conditions = [is_true(when) for when in parts[:-1:2] if isinstance(when, FixedColumn)]
    return choose(conditions, [*parts[1::2], parts[-1]], rows_of(*parts))


def coalesce(*columns: Column) -> Column:
    """The first that is not null."""
    used = []
    for column in columns:
        used.append(column)
        if column.valid is None:
            break
    if len(used) == 1 and len(used[0]) == rows_of(*columns):
        return used[0]
    rows = rows_of(*columns)
    return choose([validity(column, rows) for column in used[:-1]], used, rows)
