"""Aggregates written in Python, as users write them, and a distribution on ``sys.path`` that registers them."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

import asyncflow as af
from tests import strangers


class GeometricMean(af.Aggregate):
    """The geometric mean.  Of no rows null."""

    takes = "float64"
    returns = "float64"

    def __init__(self) -> None:
        self.count, self.logs = 0, 0.0

    def update(self, x: Any) -> None:
        self.count, self.logs = self.count + len(x), self.logs + float(np.log(x).sum())

    def merge(self, other: GeometricMean) -> None:
        self.count, self.logs = self.count + other.count, self.logs + other.logs

    def finish(self) -> float | None:
        return float(np.exp(self.logs / self.count)) if self.count else None


class Sum:
    """A sum of whole numbers; a plain class that has what an aggregate needs."""

    takes = "int64"
    returns = "int64"

    def __init__(self) -> None:
        self.total: int | None = None

    def update(self, x: Any) -> None:
        self.total = (self.total or 0) + sum(x.tolist())

    def merge(self, other: Sum) -> None:
        if other.total is not None:
            self.total = (self.total or 0) + other.total

    def finish(self) -> int | None:
        return self.total if self.total is not None and -(2**63) <= self.total < 2**63 else None


class Values(af.Aggregate):
    """Every value: what the others below are made of."""

    returns = "float64"
    takes = "float64"

    def __init__(self) -> None:
        self.values: list[Any] = []

    def update(self, x: Any) -> None:
        self.values.extend(x.tolist())

    def merge(self, other: Values) -> None:
        self.values.extend(other.values)

    def finish(self) -> Any:
        return math.fsum(self.values) / len(self.values) if self.values else None


class Least(Values):
    returns = "a"
    takes = "a"

    def finish(self) -> Any:
        return min(self.values, default=None)


class All(Values):
    returns = "bool"
    takes = "bool"

    def finish(self) -> bool | None:
        return all(self.values) if self.values else None


class Rows(af.Aggregate):
    """How many rows, and of them how many nulls, as 1000 a row and 1 a null."""

    returns = "int64"
    nulls = True

    def __init__(self) -> None:
        self.total = 0

    def update(self, x: Any) -> None:
        self.total += 1000 * len(x) + int(np.ma.count_masked(x))

    def merge(self, other: Rows) -> None:
        self.total += other.total

    def finish(self) -> int:
        return self.total


class Trace(af.Aggregate):
    """Everything that was done to it, in the order in which it was done."""

    returns = "string"

    def __init__(self) -> None:
        self.done: list[Any] = []

    def update(self, number: Any, text: Any) -> None:
        assert len(number) == len(text) > 0
        self.done.append((number.tolist(), text.tolist()))

    def merge(self, other: Trace) -> None:
        self.done.append(list(other.done))

    def finish(self) -> str:
        return hashlib.sha1(repr(self.done).encode(errors="surrogatepass")).hexdigest()[:12]


REGISTERED = {
    "geometric_mean": "tests.own_aggregates:GeometricMean",
    "own_sum": "tests.own_aggregates:Sum",
    "own_mean": "tests.own_aggregates:Values",
    "own_rows": "tests.own_aggregates:Rows",
    "trace": "tests.own_aggregates:Trace",
}


@contextmanager
def installed(folder: Path, points: Mapping[str, str] = REGISTERED) -> Iterator[None]:
    """As if a distribution with these aggregates, made in ``folder``, were installed."""
    strangers.distribution(folder, {"asyncflow.aggregates": points}, name="own-aggregates")
    with strangers.installed(folder):
        yield
