"""Orders of rows: columns to integers that sort as their values do, and ranks of rows within groups.  Top, joins and merges use it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from asyncflow._kernels import groups as groups_kernel
from asyncflow.model.columns import BoolArray, Column, FixedColumn, Int64Array, StringColumn
from asyncflow.model.schema import DataType
from asyncflow.operators.raw import raw_column

NAN_BITS = 0x7FF8 << 48
MAGNITUDE = 2**63 - 1


class Direction(Struct, frozen=True):
    """Of one part of an order.  Nulls come last in either direction unless ``nulls_first``."""

    descending: bool = False
    nulls_first: bool = False


def order_keys(column: Column, direction: Direction) -> list[Int64Array]:
    """Keys of a column, the one that goes first first: rows are ordered as the integers are.

    -0.0 and 0.0 are equal, NaN is above every number, strings go by their UTF-8 bytes, false before true.
    """
    values = _text_ranks(column) if isinstance(column, StringColumn) else _integers(column)
    if direction.descending:
        values = ~values
    if column.valid is None:
        return [values]
    nulls = ~column.valid if not direction.nulls_first else column.valid
    return [nulls.astype(np.int64), np.where(column.valid, values, 0)]


def _integers(column: FixedColumn) -> Int64Array:
    if column.values.dtype != np.float64:
        whole: Int64Array = column.values.astype(np.int64)
        return whole
    bits = (column.values + 0.0).view(np.int64)
    bits = np.where(np.isnan(column.values), NAN_BITS, bits)
    keys: Int64Array = bits ^ ((bits >> 63) & MAGNITUDE)
    return keys


def _text_ranks(column: StringColumn) -> Int64Array:
    return group_ranks([column], [DataType.STRING], len(column))


def group_ranks(columns: Sequence[Column], kinds: Sequence[DataType], num_rows: int) -> Int64Array:
    """For each row the place of its key tuple among all of them, ascending, nulls last; equal tuples share one."""
    table = groups_kernel.GroupTable([kind.value for kind in kinds])
    ids = table.assign([raw_column(column) for column in columns], num_rows)
    order = table.order()
    ranks = np.empty(len(order), np.int64)
    ranks[order] = np.arange(len(order))
    ranked: Int64Array = ranks[ids]
    return ranked


def sorting(keys: Sequence[Int64Array]) -> NDArray[np.intp]:
    """The order of rows by these keys, the first first; what says nothing is left out."""
    telling = [key for key in keys[:-1] if len(key) and (key != key[0]).any()]
    last = keys[-1]
    if (last[1:] < last[:-1]).any():
        telling.append(last)
    return np.lexsort(telling[::-1]) if telling else np.arange(len(last))


def places_within(groups: Sequence[NDArray[np.int64]]) -> Int64Array:
    """For sorted rows, the place of each within its group (from 0); rows of a group are those equal in all of ``groups``."""
    places = np.arange(len(groups[0]))
    return places - np.maximum.accumulate(np.where(first_of_runs(groups), places, 0))


def first_of_runs(values: Sequence[NDArray[np.int64]]) -> BoolArray:
    """Rows that differ from the one before in any of ``values``; the first row does."""
    first = np.zeros(len(values[0]), np.bool_)
    first[:1] = True
    for each in values:
        first[1:] |= each[1:] != each[:-1]
    return first
