"""What a group keeps of its rows for each aggregate, plain: accumulators that take rows and merge.

Sums of float64 are a pair (sum, compensation) by Neumaier's method; variances are Welford's, merged as Chan, Golub and LeVeque do.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np

from asyncflow._kernels.accumulators.lists import json_lists
from asyncflow._kernels.encode.reference import json_rows
from asyncflow._kernels.groups.reference import RawColumn, canonical, column_of, sort_key
from asyncflow._kernels.sketches.reference import ApproxDistinct, ApproxQuantile, Ranks, Top

Aggregate: TypeAlias = tuple[str, tuple[int, ...], tuple[str, ...], int | None, *tuple[float, ...]]
"""Function, inputs by position, their types, mask by position; then the constants of quantiles (which) and approx_top_k (how many)."""


class Overflow(Exception):  # noqa: N818 - a value that does not fit, reported as null and counted
    pass


class Accumulator(Protocol):
    def add(self, values: tuple[Any, ...], time: int, arrival: int) -> None: ...
    def merge(self, other: Any) -> None: ...
    def result(self) -> Any: ...


class Count:
    def __init__(self) -> None:
        self.n = 0

    def add(self, values: tuple[Any, ...], time: int, arrival: int) -> None:
        self.n += 1

    def merge(self, other: Count) -> None:
        self.n += other.n

    def result(self) -> int:
        return self.n


class FloatSum:
    def __init__(self, mean: bool) -> None:
        self.mean, self.n, self.high, self.low = mean, 0, 0.0, 0.0

    def add(self, values: tuple[Any, ...], time: int, arrival: int) -> None:
        self._plus(values[0])
        self.n += 1

    def _plus(self, value: float) -> None:
        total = self.high + value
        part = total - self.high
        self.low += (self.high - (total - part)) + (value - part)
        self.high = total

    def merge(self, other: FloatSum) -> None:
        self._plus(other.high)
        self.low += other.low
        self.n += other.n

    def result(self) -> float | None:
        if not self.n:
            return None
        total = self.high + self.low if math.isfinite(self.high) else self.high
        return total / self.n if self.mean else total


class IntSum:
    def __init__(self, mean: bool) -> None:
        self.mean, self.n, self.total = mean, 0, 0

    def add(self, values: tuple[Any, ...], time: int, arrival: int) -> None:
        self.total += values[0]
        self.n += 1

    def merge(self, other: IntSum) -> None:
        self.total += other.total
        self.n += other.n

    def result(self) -> float | int | None:
        if not self.n:
            return None
        if self.mean:
            return float(self.total) / float(self.n)
        if not -(2**63) <= self.total < 2**63:
            raise Overflow
        return self.total


class Moments:
    def __init__(self, correction: int, root: bool) -> None:
        self.correction, self.root = correction, root
        self.n, self.mean, self.m2 = 0.0, 0.0, 0.0

    def add(self, values: tuple[Any, ...], time: int, arrival: int) -> None:
        x = float(values[0])
        self.n += 1.0
        d = x - self.mean
        self.mean += d / self.n
        self.m2 += d * (x - self.mean)

    def merge(self, other: Moments) -> None:
        n = self.n + other.n
        if not other.n:
            return
        if not self.n:
            self.n, self.mean, self.m2 = other.n, other.mean, other.m2
            return
        f = other.n / n
        d = other.mean - self.mean
        self.mean += d * f
        self.m2 = (self.m2 + other.m2) + d * d * (self.n * f)
        self.n = n

    def result(self) -> float | None:
        if self.n <= self.correction:
            return None
        variance = self.m2 / (self.n - self.correction)
        return math.sqrt(variance) if self.root else variance


class Comoments:
    def __init__(self, corr: bool) -> None:
        self.corr = corr
        self.n = self.mx = self.my = self.m2x = self.m2y = self.c = 0.0

    def add(self, values: tuple[Any, ...], time: int, arrival: int) -> None:
        x, y = float(values[0]), float(values[1])
        self.n += 1.0
        dx = x - self.mx
        self.mx += dx / self.n
        dy = y - self.my
        self.my += dy / self.n
        self.c += dx * (y - self.my)
        self.m2x += dx * (x - self.mx)
        self.m2y += dy * (y - self.my)

    def merge(self, other: Comoments) -> None:
        if not other.n:
            return
        if not self.n:
            self.__dict__.update(other.__dict__)
            return
        n = self.n + other.n
        f = other.n / n
        w = self.n * f
        dx, dy = other.mx - self.mx, other.my - self.my
        self.c = (self.c + other.c) + dx * dy * w
        self.m2x = (self.m2x + other.m2x) + dx * dx * w
        self.m2y = (self.m2y + other.m2y) + dy * dy * w
        self.mx += dx * f
        self.my += dy * f
        self.n = n

    def result(self) -> float | None:
        if not self.corr:
            return self.c / (self.n - 1.0) if self.n > 1 else None
        scale = math.sqrt(self.m2x) * math.sqrt(self.m2y)
        if self.n < 1:
            return None
        return self.c / scale if scale != 0.0 else math.nan


class Pick:
    """Keeps the value whose key is least (or greatest); of equal keys the one that came first (or last)."""

    def __init__(self, key: Callable[[tuple[Any, ...], int], Any], greatest: bool, last: bool) -> None:
        self.key, self.greatest, self.last = key, greatest, last
        self.best: tuple[Any, int, Any] | None = None

    def add(self, values: tuple[Any, ...], time: int, arrival: int) -> None:
        self._offer((self.key(values, time), arrival, values[0]))

    def _offer(self, other: tuple[Any, int, Any]) -> None:
        if self.best is None:
            self.best = other
            return
        key, arrival, _ = self.best
        if other[0] == key:
            better = other[1] > arrival if self.last else other[1] < arrival
        else:
            better = other[0] > key if self.greatest else other[0] < key
        if better:
            self.best = other

    def merge(self, other: Pick) -> None:
        if other.best is not None:
            self._offer(other.best)

    def result(self) -> Any:
        return None if self.best is None else self.best[2]


class Distinct:
    def __init__(self) -> None:
        self.values: set[Any] = set()

    def add(self, values: tuple[Any, ...], time: int, arrival: int) -> None:
        self.values.add(canonical(values[0]))

    def merge(self, other: Distinct) -> None:
        self.values |= other.values

    def result(self) -> int:
        return len(self.values)


def total_order(value: Any) -> Any:
    """For min and max: as ``sort_key``, and -0.0 below 0.0 so that the result never depends on order."""
    if isinstance(value, float):
        return (*sort_key(value), 0 if math.isnan(value) else math.copysign(1.0, value))
    return value


_SKETCHES: dict[str, Callable[..., Accumulator]] = {
    "approx_count_distinct": lambda _: ApproxDistinct(),
    "quantile": lambda types, q: Ranks(types[0], q, False),
    "quantile_disc": lambda types, q: Ranks(types[0], q, True),
    "approx_quantile": lambda _, q: ApproxQuantile(q),
    "approx_top_k": lambda _, k: Top(int(k)),
}
MAKE: dict[str, Callable[[tuple[str, ...]], Accumulator]] = {
    "count": lambda _: Count(),
    "sum": lambda types: IntSum(False) if types[0] == "int64" else FloatSum(False),
    "mean": lambda types: IntSum(True) if types[0] == "int64" else FloatSum(True),
    "min": lambda _: Pick(lambda values, _: total_order(values[0]), False, False),
    "max": lambda _: Pick(lambda values, _: total_order(values[0]), True, False),
    "bool_and": lambda _: Pick(lambda values, _: values[0], False, False),
    "bool_or": lambda _: Pick(lambda values, _: values[0], True, False),
    "var": lambda _: Moments(1, False),
    "stddev": lambda _: Moments(1, True),
    "var_pop": lambda _: Moments(0, False),
    "stddev_pop": lambda _: Moments(0, True),
    "first": lambda _: Pick(lambda _, time: time, False, False),
    "last": lambda _: Pick(lambda _, time: time, True, True),
    "any_value": lambda _: Pick(lambda _, __: 0, False, False),
    "arg_min": lambda _: Pick(lambda values, _: sort_key(values[1]), False, False),
    "arg_max": lambda _: Pick(lambda values, _: sort_key(values[1]), True, False),
    "covar": lambda _: Comoments(False),
    "corr": lambda _: Comoments(True),
    "count_distinct": lambda _: Distinct(),
}

_SAME_TYPE = {
    "sum",
    "min",
    "max",
    "first",
    "last",
    "any_value",
    "arg_min",
    "arg_max",
    "bool_and",
    "bool_or",
    "quantile_disc",
}


def result_kind(function: str, types: tuple[str, ...]) -> str:
    """The type name of an aggregate's result."""
    if function in ("count", "count_distinct", "approx_count_distinct"):
        return "int64"
    if function == "approx_top_k":
        return "string"
    return types[0] if function in _SAME_TYPE else "float64"


def lists_column(kind: str, lists: Sequence[list[tuple[Any, int]] | None]) -> RawColumn:
    """Lists of values and counts as a column of texts."""
    items = [item for items in lists for item in items or ()]
    values = [math.nan if kind == "float64" and value == "nan" else value for value, _ in items]
    counts = np.array([count for _, count in items], np.int64)
    lengths = np.array([len(items or ()) for items in lists], np.int64)
    return json_lists(json_rows, kind, column_of(kind, values), counts, lengths)


class Cell:
    """One group's accumulators in one pane."""

    def __init__(self, aggregates: Sequence[Aggregate]) -> None:
        self.rows = 0
        self.parts = [
            _SKETCHES[function](types, *constants) if function in _SKETCHES else MAKE[function](types)
            for function, _, types, _, *constants in aggregates
        ]

    def merge(self, other: Cell) -> None:
        self.rows += other.rows
        for mine, theirs in zip(self.parts, other.parts, strict=True):
            mine.merge(theirs)
