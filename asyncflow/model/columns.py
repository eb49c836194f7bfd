"""Columns: the arrays of a batch, of two kinds.

:class:`FixedColumn` holds bool, int64, float64 and timestamp (int64 ns) values in one numpy array.
:class:`StringColumn` holds UTF-8 text as views: row *i* is ``data[starts[i] : starts[i] + lengths[i]]``.  Several rows
may view the same bytes, and views may be in any order: filtering and reordering never copy text, and a function of few
distinct values keeps each result once.

Invariants: ``valid`` is None where no row is null, else a bool array (True = has a value).  The value of a
null row is unspecified but readable (a null string has length 0).  The arrays of a column never change.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

import numpy as np
from msgspec import Struct
from msgspec.structs import force_setattr
from numpy.typing import NDArray

from asyncflow.errors import TooLargeError
from asyncflow.model.durations import format_size
from asyncflow.model.schema import DataType

BoolArray: TypeAlias = NDArray[np.bool_]
Int64Array: TypeAlias = NDArray[np.int64]
Int32Array: TypeAlias = NDArray[np.int32]
ByteArray: TypeAlias = NDArray[np.uint8]
IndexArray: TypeAlias = NDArray[np.intp]


MAX_TEXT_BYTES = 2**31 - 1
"""Most bytes of text in one column: starts are int32."""


def check_text_bytes(total: int) -> None:
    """Raises TooLargeError where texts of so many bytes do not fit one column."""
    if total > MAX_TEXT_BYTES:
        raise TooLargeError(
            f"the texts of one batch come to {format_size(total)}, more than the 2GiB that a column holds: it takes shorter texts, "
            "or fewer rows at a time"
        )


def text_starts(lengths: NDArray[Any]) -> Int32Array:
    """Starts (int32) of texts of these lengths that stand one after another; TooLargeError where the sum does not fit one column.  Lengths
    of texts are summed nowhere else."""
    ends = np.cumsum(lengths, dtype=np.int64)
    check_text_bytes(int(ends[-1]) if len(ends) else 0)
    starts: Int32Array = (ends - lengths).astype(np.int32)
    return starts


class FixedColumn(Struct, frozen=True, eq=False):
    """Values of a fixed-width type.  ``values``: 1-d, contiguous, of ``DataType.dtype``; ``valid``: see the module."""

    values: NDArray[Any]
    valid: BoolArray | None = None

    def __len__(self) -> int:
        return len(self.values)

    @property
    def nbytes(self) -> int:
        return int(self.values.nbytes)

    def check(self, type_: DataType) -> None:
        """Raises ValueError where the arrays are not those of a column of this type."""
        values = self.values
        if not isinstance(values, np.ndarray) or values.dtype != type_.dtype or values.ndim != 1:
            raise ValueError(f"the values of a column of {type_.value} are a flat array of {type_.dtype}")
        if not values.flags.c_contiguous:
            raise ValueError("the values of a column are contiguous")

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
    counted_bytes: int | None = None
    """``nbytes``, once somebody has asked: it takes a look at each row."""

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def nbytes(self) -> int:
        if self.counted_bytes is None:
            force_setattr(self, "counted_bytes", self._count_bytes())
        assert self.counted_bytes is not None
        return self.counted_bytes

    def _count_bytes(self) -> int:
        lengths, count = self.lengths, len(self.starts)
        # Three times faster in 32 bits, where that holds the sum.
        narrow = count and int(lengths.max()) * count < 1 << 32
        total = (
            np.add.reduce(lengths.view(np.uint32), dtype=np.uint32) if narrow else lengths.sum(dtype=np.int64)
        )
        return int(total) + 8 * count

    @classmethod
    def from_values(cls, values: Iterable[str | bytes | None]) -> StringColumn:
        """Builds a column from Python values; None is null."""
        encoded = [value.encode() if isinstance(value, str) else value for value in values]
        lengths = np.fromiter((len(v) if v is not None else 0 for v in encoded), np.int64, len(encoded))
        starts = text_starts(lengths)
        data = np.frombuffer(b"".join(v for v in encoded if v is not None), np.uint8)
        valid = np.fromiter((v is not None for v in encoded), np.bool_, len(encoded))
        return cls(data, starts, lengths.astype(np.int32), None if valid.all() else valid)

    def take(self, rows: IndexArray) -> StringColumn:
        valid = None if self.valid is None else self.valid[rows]
        return StringColumn(self.data, self.starts[rows], self.lengths[rows], valid)

    def slice(self, start: int, stop: int) -> StringColumn:
        valid = None if self.valid is None else self.valid[start:stop]
        return StringColumn(self.data, self.starts[start:stop], self.lengths[start:stop], valid)

    def compact(self) -> StringColumn:
        """The same texts in memory of their own: a kept column does not keep the source's blocks."""
        from asyncflow._kernels import strings

        starts = text_starts(self.lengths)
        data, _ = strings.copy_texts(self.data, self.starts.astype(np.int64), self.lengths, None)
        return StringColumn(data, starts, self.lengths, self.valid)

    def check(self, type_: DataType) -> None:
        """Raises ValueError for arrays of other dtypes or lengths, or a text outside ``data``."""
        if type_ is not DataType.STRING:
            raise ValueError(f"texts in a column of {type_.value}")
        wanted = ((self.data, np.uint8), (self.starts, np.int32), (self.lengths, np.int32))
        if any(not isinstance(array, np.ndarray) or array.dtype != dtype for array, dtype in wanted):
            raise ValueError("the arrays of a string column are uint8 (data) and int32 (starts, lengths)")
        if any(array.ndim != 1 for array, _ in wanted) or len(self.lengths) != len(self.starts):
            raise ValueError("the arrays of a string column are flat, starts and lengths as long")
        ends = self.starts.astype(np.int64) + self.lengths
        if (self.lengths < 0).any() or ((self.starts < 0) | (ends > len(self.data)))[self.lengths > 0].any():
            raise ValueError("a text lies outside of the bytes of its column")

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
    """One column from several of the same type, rows in order.  The bytes of texts are kept whole, each buffer once."""
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
        check_text_bytes(int(bases[-1]) + len(strings[-1].data))
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
