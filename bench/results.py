"""Checks that result files hold the same groups: counts, minima and maxima equal, sums and means to a relative 1e-9.

``python bench/results.py FIRST OTHER...`` prints one line for each of the others, ``ok`` or what differs, in that order.  A process of
its own, so that what it takes in memory is not counted against an engine started later.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as csv
from numpy.typing import NDArray

RELATIVE = 1e-9


@dataclass(frozen=True)
class Groups:
    """A result in canonical order: by window, then key."""

    keys: pa.Array  # the distinct keys, ascending
    position: NDArray[np.int64]  # of each row: window index and key index in one number
    windows: NDArray[np.int64]
    n: NDArray[np.int64]
    total: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    average: NDArray[np.float64]


def load(path: Path) -> Groups:
    with path.open() as file:
        header = file.readline()
    types = {"key": pa.string(), "n": pa.int64(), "window": pa.int64(), "window_start": pa.int64()}
    types |= dict.fromkeys(("total", "low", "high", "average"), pa.float64())
    table = csv.read_csv(
        path,
        parse_options=csv.ParseOptions(delimiter=";" if ";" in header else ","),
        convert_options=csv.ConvertOptions(column_types=types, strings_can_be_null=False),
    )
    encoded = table["key"].combine_chunks().dictionary_encode()
    order = encoded.dictionary.cast(pa.binary()).to_numpy(zero_copy_only=False).argsort()
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    keys = encoded.dictionary.take(pa.array(order))
    name = next((name for name in ("window", "window_start") if name in table.column_names), None)
    starts = np.zeros(len(table), np.int64) if name is None else table[name].to_numpy()
    windows, window_index = np.unique(starts, return_inverse=True)
    position = window_index * len(order) + rank[encoded.indices.to_numpy()]
    by_position = position.argsort()

    def column(name: str) -> NDArray[np.generic]:
        return np.asarray(table[name].to_numpy()[by_position])

    values = (column("total"), column("low"), column("high"), column("average"))
    return Groups(keys, position[by_position], windows, column("n"), *values)  # type: ignore[arg-type]


def difference(first: Groups, other: Groups) -> str | None:
    """What differs, in words; None when nothing does."""
    if len(first.n) != len(other.n):
        return f"{len(other.n):,} groups, not {len(first.n):,}"
    if not first.keys.equals(other.keys):
        return "other keys"
    if not np.array_equal(first.windows, other.windows) or not np.array_equal(first.position, other.position):
        return "other windows"
    for name in ("n", "low", "high"):
        unequal = np.flatnonzero(getattr(first, name) != getattr(other, name))
        if len(unequal):
            row = unequal[0]
            return f"{name} differs in {len(unequal):,} groups: {getattr(other, name)[row]}, not {getattr(first, name)[row]}"
    # Values of both signs cancel: a sum is held to the size of what went into it.
    largest = np.maximum(np.abs(first.low), np.abs(first.high))
    for name, scale in (("total", largest * first.n), ("average", largest)):
        apart = np.abs(getattr(first, name) - getattr(other, name))
        if not np.all(apart <= RELATIVE * scale):
            return f"{name} differs by up to {np.nanmax(apart)}"
    return None


def main() -> None:
    first, *others = map(Path, sys.argv[1:])
    reference = load(first)
    for other in others:
        print(difference(reference, load(other)) or "ok", flush=True)


if __name__ == "__main__":
    main()
