"""Checks that result files hold the same groups: counts, minima, maxima and ends of sessions equal, sums, means and quantiles to a
relative 1e-9 (the groups of every case are small enough for exact quantiles).

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
EXACT = ("window_end", "n", "low", "high")
SUMS = ("total", "average")
QUANTILES = ("median", "high_tail")


@dataclass(frozen=True)
class Groups:
    """A result in canonical order: by window, then key."""

    keys: pa.Array  # the distinct keys, ascending
    position: NDArray[np.int64]  # of each row: window index and key index in one number
    windows: NDArray[np.int64]
    columns: dict[str, NDArray[np.generic]]  # those that the file has, of EXACT, SUMS and QUANTILES


def load(path: Path) -> Groups:
    with path.open() as file:
        header = file.readline()
    types = {"key": pa.string(), "window": pa.int64(), "window_start": pa.int64()}
    types |= dict.fromkeys((*EXACT, *SUMS, *QUANTILES), pa.float64())
    types |= {"n": pa.int64(), "window_end": pa.int64()}
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

    known = [name for name in (*EXACT, *SUMS, *QUANTILES) if name in table.column_names]
    columns = {name: np.asarray(table[name].to_numpy()[by_position]) for name in known}
    return Groups(keys, position[by_position], windows, columns)


def difference(first: Groups, other: Groups) -> str | None:
    """What differs, in words; None when nothing does.  ``window_end`` counts where both have it."""
    if len(first.position) != len(other.position):
        return f"{len(other.position):,} groups, not {len(first.position):,}"
    if not first.keys.equals(other.keys):
        return "other keys"
    if not np.array_equal(first.windows, other.windows) or not np.array_equal(first.position, other.position):
        return "other windows"
    if (first.columns.keys() ^ other.columns.keys()) - {"window_end"}:
        return "other columns"
    for name, expected in first.columns.items():
        if name not in other.columns:
            continue
        found = other.columns[name]
        if name in EXACT:
            unequal = np.flatnonzero(expected != found)
            if len(unequal):
                row = unequal[0]
                return f"{name} differs in {len(unequal):,} groups: {found[row]}, not {expected[row]}"
            continue
        apart, allowed = np.abs(expected - found), allowance(name, first)
        if not np.all(apart <= allowed):
            return f"{name} differs by up to {np.nanmax(apart)}"
    return None


def allowance(name: str, first: Groups) -> NDArray[np.float64]:
    """How far apart values of this column may be."""
    columns = first.columns
    if name in QUANTILES:
        return np.asarray(RELATIVE * np.abs(columns[name]) + RELATIVE)
    # Values of both signs cancel: a sum is held to the size of what went into it.
    largest = np.maximum(np.abs(columns["low"]), np.abs(columns["high"]))
    return np.asarray(RELATIVE * (largest * columns["n"] if name == "total" else largest))


def main() -> None:
    first, *others = map(Path, sys.argv[1:])
    reference = load(first)
    for other in others:
        print(difference(reference, load(other)) or "ok", flush=True)


if __name__ == "__main__":
    main()
