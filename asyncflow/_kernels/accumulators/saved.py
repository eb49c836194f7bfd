"""Reading and writing of blocks and words, plain: what the twin's accumulators are saved to and loaded from.

The twin of ``accumulators/saved.h``: the same bytes, and ValueError for what does not fit.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

from asyncflow._kernels.groups.reference import canonical

KEY, VALUE = 0, 1
MOST_ROWS = 1 << 56
Word: TypeAlias = int | float
Blocks: TypeAlias = list[tuple[int, bytes]]


def sorting_word(value: Any) -> int:
    """A word that sorts like the value; NaN last."""
    if not isinstance(value, float):
        return int(value)
    (bits,) = struct.unpack("<q", struct.pack("<d", math.nan if math.isnan(value) else value))
    return int(bits if bits >= 0 else bits ^ 2**63 - 1)


def float_of(word: int) -> float:
    (value,) = struct.unpack("<d", struct.pack("<q", word if word >= 0 else word ^ 2**63 - 1))
    return float(value)


def raw_word(value: Any) -> int:
    """The word that gives the value back, bit by bit (all NaN are one)."""
    if not isinstance(value, float):
        return int(value)
    return int.from_bytes(struct.pack("<d", math.nan if math.isnan(value) else value), "little", signed=True)


def raw_value(kind: str, word: int) -> Any:
    if kind == "float64":
        return struct.unpack("<d", word.to_bytes(8, "little", signed=True))[0]
    return word != 0 if kind == "bool" else word


def packed(kind: str, value: Any) -> bytes:
    """A value where equality counts (see ``canonical``): a word that sorts like it, or a text with its length before it."""
    if kind == "string":
        return struct.pack("<I", len(value)) + bytes(value)
    return struct.pack("<q", sorting_word(math.nan if value == canonical(math.nan) else value))


def one_nan(value: float) -> float:
    return math.nan if math.isnan(value) else value


class View:
    """The bytes of a block, read from the begin on; ValueError where there are not as many."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    @property
    def left(self) -> int:
        return len(self._data) - self._at

    def bytes(self, count: int) -> bytes:
        if not 0 <= count <= self.left:
            raise ValueError("a block is too short")
        self._at += count
        return self._data[self._at - count : self._at]

    def word(self) -> int:
        return self.words(1)[0]

    def length(self) -> int:
        return int.from_bytes(self.bytes(4), "little")

    def words(self, count: int) -> tuple[int, ...]:
        return struct.unpack(f"<{count}q", self.bytes(8 * count))

    def value(self, kind: str) -> Any:
        """A value as :func:`packed` gives it."""
        if kind == "string":
            return self.bytes(self.length())
        word = self.word()
        return canonical(float_of(word)) if kind == "float64" else raw_value(kind, word)


def check(fits: bool, what: str) -> None:
    if not fits:
        raise ValueError(what)


class Loading:
    """The words of one accumulator of a saved cell, in turn, and the blocks of all, in turn."""

    def __init__(self, blocks: Sequence[tuple[int, int, int, int]], data: bytes, arrivals: int) -> None:
        self._blocks, self._next = blocks, 0
        self._data = View(data)
        self.arrivals = arrivals
        self.cell = self.accumulator = self.rows = 0
        self.words: Iterator[Any] = iter(())

    def word(self) -> Any:
        return next(self.words)

    def take(self, kind: int) -> View | None:
        """The next block where it is this one of the accumulator."""
        if self._next == len(self._blocks):
            return None
        cell, accumulator, its_kind, length = self._blocks[self._next]
        if (cell, accumulator, its_kind) != (self.cell, self.accumulator, kind):
            return None
        self._next += 1
        return View(self._data.bytes(length))

    def finish(self) -> None:
        check(self._next == len(self._blocks) and not self._data.left, "blocks: more than the cells have")
