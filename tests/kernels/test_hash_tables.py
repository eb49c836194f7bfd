"""Values that collide under fixed hashes neither slow a table down nor move an estimate out of its bounds.

The hashes that results depend on (``hash(x)``, sketches) are public, and each of their steps can be inverted: the helpers here do so.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest

from asyncflow._kernels.strings import reference as plain_strings
from asyncflow._kernels.strings.compiled import distinct, hash64
from asyncflow._kernels.window import compiled
from asyncflow._kernels.window import reference as twin

MASK = 2**64 - 1
ADDED, FIRST, SECOND = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
NO_TIME, END_OF_TIME = -(2**63), 2**63 - 1


def unshift(x: int, by: int) -> int:
    y = x
    for _ in range(64 // by + 1):
        y = x ^ y >> by
    return y


def unmix(x: int) -> int:
    """The word that the finisher of splitmix64 makes x of."""
    x = unshift(x, 31) * pow(SECOND, -1, 2**64) & MASK
    x = unshift(x, 27) * pow(FIRST, -1, 2**64) & MASK
    return (unshift(x, 30) - ADDED) & MASK


def texts_of_one_hash(count: int) -> np.ndarray:
    """So many texts of 16 bytes with one ``hash64``."""
    firsts = np.random.default_rng(1).integers(0, 2**64, count, np.uint64).tolist()
    start, goal = 16 * 0xD6E8FEB86659FD93 & MASK, unmix(12345)
    words = [word for first in firsts for word in (first, goal ^ plain_strings.mix(start ^ first))]
    return np.array(words, "<u8").view(np.uint8)


def seconds(do: Callable[[], object]) -> float:
    """The least CPU time of three tries."""
    tries = []
    for _ in range(3):
        begin = time.process_time()
        do()
        tries.append(time.process_time() - begin)
    return min(tries)


def test_texts_of_one_hash_are_numbered_as_fast_as_others() -> None:
    count = 8000
    starts, lengths = np.arange(count, dtype=np.int32) * 16, np.full(count, 16, np.int32)
    crafted, hashes = texts_of_one_hash(count), np.empty(count, np.uint64)
    hash64(crafted, starts, lengths, hashes)
    assert len(set(hashes.tolist())) == 1
    ids, firsts = np.empty(count, np.int32), np.empty(count, np.int32)

    def number(data: np.ndarray) -> None:
        for _ in range(10):
            assert distinct(data, starts, lengths, ids, firsts) == count

    usual = np.random.default_rng(0).integers(0, 256, 16 * count).astype(np.uint8)
    assert seconds(lambda: number(crafted)) < 20 * seconds(lambda: number(usual))


def estimate(kernel, values: np.ndarray, groups: np.ndarray | None = None) -> list[int]:
    groups = np.zeros(len(values), np.int32) if groups is None else groups
    count = int(groups.max()) + 1
    state = kernel.WindowState(None, 1, 0, [("approx_count_distinct", (0,), ("int64",), None)])
    state.add(groups, count, None, None, NO_TIME, 0, [(values, None)], [])
    return state.close(END_OF_TIME, np.arange(count, dtype=np.int32), count)[3][0][0].tolist()


def test_hashes_of_one_place_are_counted_as_fast_as_others() -> None:
    """1,000 different values whose hashes end in the same bits, each many times."""
    crafted = np.array([unmix(number << 20) for number in range(1, 1001)], np.uint64).view(np.int64)
    usual = np.random.default_rng(0).integers(-(2**63), 2**63 - 1, 1000)
    order = np.random.default_rng(1).integers(0, 1000, 200_000)
    assert estimate(compiled, crafted[order]) == estimate(compiled, usual[order]) == [1000]
    assert seconds(lambda: estimate(compiled, crafted[order])) < 10 * seconds(
        lambda: estimate(compiled, usual[order])
    )


@pytest.mark.parametrize("kernel", [compiled, twin], ids=["compiled", "twin"])
@pytest.mark.parametrize("ranks", [(50, 51), (49, 50, 51), (51,), (30,), (1,)])
def test_an_estimate_is_between_what_was_seen_and_what_came(kernel, ranks: tuple[int, ...]) -> None:
    """Every register at the ranks chosen: between a value for each rank seen and the number of rows."""
    registers = 2**14
    hashes = [
        register << 50 | (0 if rank == 51 else 1 << 50 - rank)
        for register in range(registers)
        for rank in ranks
    ]
    values = np.array([unmix(hashed or 1) for hashed in hashes], np.uint64).view(np.int64)
    repeated = np.concatenate([values, values[: len(values) // 2]])
    (found,) = estimate(kernel, repeated)
    assert len(values) <= found <= len(repeated)
