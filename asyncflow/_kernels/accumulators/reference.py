"""What a group keeps of its rows, plain: accumulators that take rows, merge, give results, and are saved and loaded.

Sums of float64 and of products are exact (``sums/reference.py``), so neither they nor variances depend on the order of rows or merges.
Which accumulators an aggregate comes down to is in ``table``; what is saved of them, and checked, in words at the head of ``saved.h``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from asyncflow._kernels.accumulators.lists import json_lists
from asyncflow._kernels.accumulators.saved import (
    KEY,
    VALUE,
    Blocks,
    Loading,
    View,
    Word,
    check,
    float_of,
    packed,
    raw_value,
    raw_word,
    sorting_word,
)
from asyncflow._kernels.accumulators.table import Accumulator, Aggregate, Output, result_kind
from asyncflow._kernels.columns.raw import RawColumn
from asyncflow._kernels.encode.reference import json_rows
from asyncflow._kernels.groups.reference import canonical, column_of
from asyncflow._kernels.sketches.reference import ApproxDistinct, ApproxQuantile, Ranks, Top
from asyncflow._kernels.sums.reference import Products, Sum, ratio, root, spread

__all__ = ["Aggregate", "Cell", "Overflow", "lists_column", "result_kind"]


class Overflow(Exception):  # noqa: N818 - a value that does not fit, reported as null and counted
    pass


class Part(Protocol):
    """One accumulator of a cell.  ``save``: the words and the blocks, ``rows`` those of the cell; ``load``: of an empty one."""

    def add(self, values: tuple[Any, ...], time: int, arrival: int) -> None: ...
    def merge(self, other: Any) -> None: ...
    def save(self, rows: int) -> tuple[list[Word], Blocks]: ...
    def load(self, saved: Loading) -> None: ...


class Number:
    def __init__(self, what: Accumulator) -> None:
        self.floats, self.kind = what.kind == "float64", what.kind
        self.summed, self.extremes = what.sum, what.extremes
        self.n = 0
        self.exact = Sum()
        self.total = 0
        self.least, self.greatest = 2**63 - 1, -(2**63)

    def add(self, values: tuple[Any, ...], time: int, arrival: int) -> None:
        self.n += 1
        if self.summed and self.floats:
            self.exact.add(values[0])
        elif self.summed:
            self.total += values[0]
        if self.extremes:
            word = sorting_word(values[0])
            self.least, self.greatest = min(self.least, word), max(self.greatest, word)

    def merge(self, other: Number) -> None:
        self.exact.merge(other.exact)
        self.total += other.total
        self.n += other.n
        self.least, self.greatest = min(self.least, other.least), max(self.greatest, other.greatest)

    def sum(self) -> float | int | None:
        if not self.n:
            return None
        if self.floats:
            return self.exact.over(1)
        if not -(2**63) <= self.total < 2**63:
            raise Overflow
        return self.total

    def mean(self) -> float | None:
        if not self.n:
            return None
        return self.exact.over(self.n) if self.floats else self.total / self.n

    def extreme(self, word: int) -> Any:
        if not self.n:
            return None
        return float_of(word) if self.floats else raw_value(self.kind, word)

    def save(self, rows: int) -> tuple[list[Word], Blocks]:
        words: list[Word] = [rows - self.n]
        blocks: Blocks = []
        if self.summed and self.floats:
            its_words, blocks = self.exact.save(VALUE)
            words += its_words
        elif self.summed:
            words += [self.total % 2**64, self.total >> 64]
        if self.extremes:
            words += [self.least, self.greatest]
        return words, blocks

    def load(self, saved: Loading) -> None:
        left_out = saved.word()
        check(0 <= left_out <= saved.rows, "more rows were left out than there are")
        self.n = saved.rows - left_out
        if self.summed and self.floats:
            self.exact.load(saved, VALUE)
        elif self.summed:
            self.total = saved.word() + saved.word() * 2**64
        if self.extremes:
            self.least, self.greatest = saved.word(), saved.word()


class Moments:
    """Values, and their squares; the variance of what is not finite is NaN."""

    def __init__(self, what: Accumulator) -> None:
        self.n, self.x, self.xx = 0, Sum(), Products()

    def add(self, values: tuple[Any, ...], time: int, arrival: int) -> None:
        x = float(values[0])
        self.n += 1
        self.x.add(x)
        self.xx.add(x, x)

    def merge(self, other: Moments) -> None:
        self.n += other.n
        self.x.merge(other.x)
        self.xx.merge(other.xx)

    def variance(self, correction: float, rounded: Callable[[int, int], float] = ratio) -> float | None:
        if self.n <= correction:
            return None
        if not self.x.finite:
            return math.nan
        number, unit = spread(self.n, self.xx, self.x, self.x)
        return rounded(number, self.n * (self.n - int(correction)) * unit) if number >= 0 else math.nan

    def deviation(self, correction: float) -> float | None:
        return self.variance(correction, root)

    def save(self, rows: int) -> tuple[list[Word], Blocks]:
        words, blocks = self.x.save(VALUE)
        return [self.n, *words], blocks + self.xx.save(VALUE + 1)

    def load(self, saved: Loading) -> None:
        self.n = saved.word()
        check(0 <= self.n <= saved.rows, "more rows were counted than there are")
        self.x.load(saved, VALUE)
        self.xx.load(saved, VALUE + 1)


class Comoments:
    """Pairs of values, and the products of each with each."""

    def __init__(self, what: Accumulator) -> None:
        self.n = 0
        self.x, self.y = Sum(), Sum()
        self.xx, self.yy, self.xy = Products(), Products(), Products()

    @property
    def _sums(self) -> tuple[tuple[Sum, Sum], tuple[Products, Products, Products]]:
        return (self.x, self.y), (self.xx, self.yy, self.xy)

    def add(self, values: tuple[Any, ...], time: int, arrival: int) -> None:
        x, y = float(values[0]), float(values[1])
        self.n += 1
        self.x.add(x)
        self.y.add(y)
        self.xx.add(x, x)
        self.yy.add(y, y)
        self.xy.add(x, y)

    def merge(self, other: Comoments) -> None:
        self.n += other.n
        for mine, theirs in zip(self._sums[0], other._sums[0], strict=True):
            mine.merge(theirs)
        for products, others in zip(self._sums[1], other._sums[1], strict=True):
            products.merge(others)

    def covariance(self) -> float | None:
        if self.n <= 1:
            return None
        if not (self.x.finite and self.y.finite):
            return math.nan
        number, unit = spread(self.n, self.xy, self.x, self.y)
        return ratio(number, self.n * (self.n - 1) * unit)

    def correlation(self) -> float | None:
        if self.n < 1:
            return None
        if not (self.x.finite and self.y.finite):
            return math.nan
        (x, _), (y, _), (product, _) = (
            spread(self.n, products, one, other)
            for products, one, other in (
                (self.xx, self.x, self.x),
                (self.yy, self.y, self.y),
                (self.xy, self.x, self.y),
            )
        )
        if x <= 0 or y <= 0:
            return math.nan
        size = root(product**2, x * y)
        return -size if product < 0 else size

    def save(self, rows: int) -> tuple[list[Word], Blocks]:
        words: list[Word] = [self.n]
        blocks: Blocks = []
        for kind, sums in enumerate(self._sums[0], VALUE):
            its_words, its_blocks = sums.save(kind)
            words += its_words
            blocks += its_blocks
        for kind, products in enumerate(self._sums[1], VALUE + 2):
            blocks += products.save(kind)
        return words, blocks

    def load(self, saved: Loading) -> None:
        self.n = saved.word()
        check(0 <= self.n <= saved.rows, "more rows were counted than there are")
        for kind, sums in enumerate(self._sums[0], VALUE):
            sums.load(saved, kind)
        for kind, products in enumerate(self._sums[1], VALUE + 2):
            products.load(saved, kind)


class Pick:
    """Keeps the value whose key is least (or greatest); of equal keys the one that came first (or last).

    Keys are texts or words; -0.0 and 0.0 tie.  Without a value (``min`` and ``max`` of texts) the key is the result.
    """

    def __init__(self, what: Accumulator) -> None:
        self.what = what
        self.best: tuple[Any, int, Any] | None = None

    def add(self, values: tuple[Any, ...], time: int, arrival: int) -> None:
        key: Any = time if self.what.key == "TIME" else 0
        if self.what.key == "VALUE":
            key = values[-1]
            key = (
                key if isinstance(key, bytes) else sorting_word(key + 0.0 if isinstance(key, float) else key)
            )
        self._offer((key, arrival, values[0]))

    def _offer(self, other: tuple[Any, int, Any]) -> None:
        if self.best is None:
            self.best = other
            return
        key, arrival, _ = self.best
        if other[0] == key:
            better = other[1] > arrival if self.what.last else other[1] < arrival
        else:
            better = other[0] > key if self.what.greatest else other[0] < key
        if better:
            self.best = other

    def merge(self, other: Pick) -> None:
        if other.best is not None:
            self._offer(other.best)

    def came_after(self, rows: int) -> None:
        if self.best is not None:
            key, arrival, value = self.best
            self.best = key, arrival + rows, value

    def picked(self) -> Any:
        if self.best is None:
            return None
        return self.best[2] if self.what.valued else self.best[0]

    def save(self, rows: int) -> tuple[list[Word], Blocks]:
        best: tuple[Any, int, Any] = self.best or (0, -1, 0)
        key, arrival, value = best
        words: list[Word] = [arrival]
        blocks: Blocks = []
        if not self.what.text_key:
            words.append(key)
        elif self.best is not None:
            blocks.append((KEY, key))
        if self.what.valued and not self.what.text_value:
            words.append(raw_word(value))
        elif self.what.valued and self.best is not None:
            blocks.append((VALUE, value))
        return words, blocks

    def load(self, saved: Loading) -> None:
        arrival = saved.word()
        check(-1 <= arrival < saved.arrivals, "a row that has not come yet was picked")
        key: Any = None if self.what.text_key else saved.word()
        value: Any = saved.word() if self.what.valued and not self.what.text_value else None
        if arrival < 0:
            return
        if self.what.text_key:
            key = _text(saved.take(KEY))
        if self.what.text_value:
            value = _text(saved.take(VALUE))
        elif self.what.valued:
            value = raw_value(self.what.kind, value)
        self.best = key, arrival, value if self.what.valued else key


def _text(view: View | None) -> bytes:
    if view is None:
        raise ValueError("a text is missing")
    return view.bytes(view.left)


class Distinct:
    def __init__(self, what: Accumulator) -> None:
        self.kind = what.kind
        self.values: set[Any] = set()

    def add(self, values: tuple[Any, ...], time: int, arrival: int) -> None:
        self.values.add(canonical(values[0]))

    def merge(self, other: Distinct) -> None:
        self.values |= other.values

    def save(self, rows: int) -> tuple[list[Word], Blocks]:
        if self.kind == "string":
            ordered = [packed(self.kind, value) for value in sorted(self.values)]
        else:
            words = sorted(
                int.from_bytes(packed(self.kind, value), "little", signed=True) for value in self.values
            )
            ordered = [word.to_bytes(8, "little", signed=True) for word in words]
        return [], [(VALUE, b"".join(ordered))] if ordered else []

    def load(self, saved: Loading) -> None:
        view = saved.take(VALUE)
        if view is None:
            return
        check(view.left > 0, "a set without values")
        before: Any = None
        while view.left:
            value: Any = view.bytes(view.length()) if self.kind == "string" else view.word()
            check(before is None or value > before, "values of a set that are not in order")
            before = value
            if self.kind == "float64":
                value = canonical(float_of(value))
            self.values.add(raw_value(self.kind, value) if self.kind == "bool" else value)


FAMILIES: dict[str, Callable[[Accumulator], Part]] = {
    "NUMBER": Number,
    "MOMENTS": Moments,
    "COMOMENTS": Comoments,
    "PICK": Pick,
    "DISTINCT": Distinct,
    "ABOUT_DISTINCT": lambda _: ApproxDistinct(),
    "ABOUT_QUANTILE": lambda _: ApproxQuantile(),
    "RANKS": lambda what: Ranks(what.kind),
    "TOP": lambda what: Top(what.kind, what.counters),
}

RESULTS: dict[str, Callable[[Any, float], Any]] = {
    "COUNT": lambda part, _: part.n,
    "SUM": lambda part, _: part.sum(),
    "MEAN": lambda part, _: part.mean(),
    "LEAST": lambda part, _: part.extreme(part.least),
    "GREATEST": lambda part, _: part.extreme(part.greatest),
    "VARIANCE": lambda part, correction: part.variance(correction),
    "DEVIATION": lambda part, correction: part.deviation(correction),
    "COVARIANCE": lambda part, _: part.covariance(),
    "CORRELATION": lambda part, _: part.correlation(),
    "PICKED": lambda part, _: part.picked(),
    "DISTINCT_COUNT": lambda part, _: len(part.values),
    "DISTINCT_ESTIMATE": lambda part, _: part.result(),
    "QUANTILE": lambda part, share: part.between(share),
    "QUANTILE_VALUE": lambda part, share: part.of_share(share),
    "QUANTILE_ESTIMATE": lambda part, share: part.result(share),
    "MOST_FREQUENT": lambda part, most: part.result(int(most)),
}


def lists_column(kind: str, lists: Sequence[list[tuple[Any, int]] | None]) -> RawColumn:
    """Lists of values and counts as a column of texts."""
    items = [item for items in lists for item in items or ()]
    values = [math.nan if kind == "float64" and value == "nan" else value for value, _ in items]
    counts = np.array([count for _, count in items], np.int64)
    lengths = np.array([len(items or ()) for items in lists], np.int64)
    return json_lists(json_rows, kind, column_of(kind, values), counts, lengths)


class Cell:
    """One group's accumulators in one pane."""

    def __init__(self, accumulators: Sequence[Accumulator]) -> None:
        self.rows = 0
        self.parts = [FAMILIES[what.family](what) for what in accumulators]

    def merge(self, other: Cell) -> None:
        self.rows += other.rows
        for mine, theirs in zip(self.parts, other.parts, strict=True):
            mine.merge(theirs)

    def came_after(self, rows: int) -> None:
        """Its rows came so much later."""
        for part in self.parts:
            if isinstance(part, Pick):
                part.came_after(rows)

    def result(self, output: Output) -> Any:
        if output.accumulator < 0:
            return self.rows
        return RESULTS[output.result](self.parts[output.accumulator], output.parameter)

    def save(self, group: int) -> tuple[tuple[Word, ...], list[tuple[int, int, bytes]]]:
        """The words of the saved cell, and its blocks as (accumulator, kind, bytes)."""
        words: list[Word] = [group, self.rows]
        blocks: list[tuple[int, int, bytes]] = []
        for position, part in enumerate(self.parts):
            its_words, its_blocks = part.save(self.rows)
            words += its_words
            blocks += [(position, kind, data) for kind, data in its_blocks]
        return tuple(words), blocks

    def load(self, saved: Loading) -> None:
        """Takes the words and blocks that come next; the rows were read."""
        self.rows = saved.rows
        for position, part in enumerate(self.parts):
            saved.accumulator = position
            part.load(saved)
