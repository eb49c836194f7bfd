"""Columns: the arrays a batch is made of.

Two kinds.  :class:`FixedColumn` holds bool, int64, float64 and timestamp (int64 ns) values in one numpy array.
:class:`StringColumn` holds UTF-8 text as views: row *i* is ``data[starts[i] : starts[i] + lengths[i]]``.  Many rows
may view the same bytes (that is also how a function's result per distinct value is kept), and rows may come in any
order, so filtering and reordering never copy text.

Invariants: ``valid`` is None where no row is null, else a bool array (True = has a value).  A null row's value is
unspecified but readable (a null string has length 0).  Arrays are never written to once in a column.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from asyncflow.model.schema import DataType

BoolArray: TypeAlias = NDArray[np.bool_]
Int64Array: TypeAlias = NDArray[np.int64]
Int32Array: TypeAlias = NDArray[np.int32]
ByteArray: TypeAlias = NDArray[np.uint8]
IndexArray: TypeAlias = NDArray[np.intp]


class FixedColumn(Struct, frozen=True, eq=False):
    """Values of a fixed-width type.  ``values``: 1-d, contiguous, of ``DataType.dtype``; ``valid``: see the module."""

    values: NDArray[Any]
    valid: BoolArray | None = None

    def __len__(self) -> int:
        return len(self.values)

    @property
    def nbytes(self) -> int:
        return int(self.values.nbytes)

    def take(self, rows: IndexArray) -> FixedColumn:
        return FixedColumn(self.values[rows], None if self.valid is None else self.valid[rows])

    def slice(self, start: int, stop: int) -> FixedColumn:
        return FixedColumn(self.values[start:stop], None if self.valid is None else self.valid[start:stop])


class StringColumn(Struct, frozen=True, eq=False):
    """UTF-8 text as views into ``data`` (uint8).  ``starts`` and ``lengths``: int32, bytes; every view lies inside ``data``."""

    data: ByteArray
    starts: Int32Array
    lengths: Int32Array
    valid: BoolArray | None = None

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def nbytes(self) -> int:
        return int(np.add.reduce(self.lengths.view(np.uint32), dtype=np.uint32)) + 8 * len(self.starts)

    @classmethod
    def from_values(cls, values: Iterable[str | bytes | None]) -> StringColumn:
        """Builds a column from Python values; None is null."""
        encoded = [value.encode() if isinstance(value, str) else value for value in values]
        lengths = np.fromiter((len(v) if v is not None else 0 for v in encoded), np.int32, len(encoded))
        starts = np.zeros(len(encoded), np.int32)
        np.cumsum(lengths[:-1], out=starts[1:])
        data = np.frombuffer(b"".join(v for v in encoded if v is not None), np.uint8)
        valid = np.fromiter((v is not None for v in encoded), np.bool_, len(encoded))
        return cls(data, starts, lengths, None if valid.all() else valid)

    def take(self, rows: IndexArray) -> StringColumn:
        valid = None if self.valid is None else self.valid[rows]
        return StringColumn(self.data, self.starts[rows], self.lengths[rows], valid)

    def slice(self, start: int, stop: int) -> StringColumn:
        valid = None if self.valid is None else self.valid[start:stop]
        return StringColumn(self.data, self.starts[start:stop], self.lengths[start:stop], valid)

    def compact(self) -> StringColumn:
        """The same texts on bytes of their own: what is kept must not hold on to the blocks that rows were read into."""
        lengths = self.lengths.astype(np.int64)
        starts = np.cumsum(lengths) - lengths
        total = int(lengths.sum())
        if total > np.iinfo(np.int32).max:
            raise OverflowError("text of one batch exceeds 2 GiB")
        places = np.arange(total) + np.repeat(self.starts - starts, lengths)
        return StringColumn(self.data[places], starts.astype(np.int32), self.lengths, self.valid)

    def to_bytes_list(self) -> list[bytes | None]:
        raw = self.data.tobytes()
        starts, lengths = self.starts.tolist(), self.lengths.tolist()
        texts: list[bytes | None] = [raw[s : s + n] for s, n in zip(starts, lengths, strict=True)]
        if self.valid is not None:
            for row in np.flatnonzero(~self.valid).tolist():
                texts[row] = None
        return texts

    def to_list(self) -> list[str | None]:
        return [None if text is None else text.decode() for text in self.to_bytes_list()]


Column: TypeAlias = FixedColumn | StringColumn


def concat_columns(columns: Sequence[Column]) -> Column:
    """One column from several of the same type, rows in order.  Text bytes that rows view are kept, each buffer once."""
    if len(columns) == 1:
        return columns[0]
    valid = None
    if any(column.valid is not None for column in columns):
        valid = np.concatenate([np.ones(len(c), np.bool_) if c.valid is None else c.valid for c in columns])
    if isinstance(columns[0], FixedColumn):
        return FixedColumn(np.concatenate([c.values for c in columns if isinstance(c, FixedColumn)]), valid)
    strings = [c for c in columns if isinstance(c, StringColumn)]
    if all(c.data is strings[0].data for c in strings):
        data = strings[0].data
        starts = np.concatenate([c.starts for c in strings])
    else:
        bases = np.cumsum([0, *(len(c.data) for c in strings[:-1])])
        if int(bases[-1]) + len(strings[-1].data) > np.iinfo(np.int32).max:
            raise OverflowError("text of one batch exceeds 2 GiB")
        data = np.concatenate([c.data for c in strings])
        starts = np.concatenate([c.starts + np.int32(b) for c, b in zip(strings, bases, strict=True)])
    return StringColumn(data, starts, np.concatenate([c.lengths for c in strings]), valid)


def column_from_values(type_: DataType, values: Sequence[Any]) -> Column:
    """A column from Python values (None = null); timestamps as int ns.  Raises TypeError or ValueError on a misfit."""
    if type_ is DataType.STRING:
        return StringColumn.from_values(values)
    valid = np.fromiter((v is not None for v in values), np.bool_, len(values))
    filled = np.array([0 if v is None else v for v in values], dtype=type_.dtype)
    return FixedColumn(filled, None if valid.all() else valid)
