"""Hashes of keys: those of the twin, the same in every table, and the bits that choose a part even.

A table that is told the hashes finds the same ids as a table that computes them.
"""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncflow._kernels.groups import compiled
from asyncflow._kernels.groups import reference as twin
from tests.kernels.test_groups import VALUES, columns_of, key_rows

LENGTHS = (0, 1, 7, 8, 15, 16, 31, 32, 33, 40, 63, 64, 65, 79, 80, 81, 300)


def texts_of(lengths, seed: int = 1) -> list[bytes]:
    """Random texts, among them zeros."""
    rng = np.random.default_rng(seed)
    return [bytes(rng.integers(0, 3, length).astype(np.uint8)) for length in lengths]


def hashes_of(kind: str, values: list) -> list[int]:
    return compiled.hash_rows([twin.column_of(kind, values)], len(values)).tolist()


@given(key_rows())
@settings(max_examples=150, deadline=None)
def test_twin_law(case):
    kinds, rows, cut = case
    whole = compiled.hash_rows(columns_of(kinds, rows), len(rows))
    assert whole.dtype == np.uint64
    assert whole.tolist() == twin.hash_rows(columns_of(kinds, rows), len(rows)).tolist()
    parts = [
        compiled.hash_rows(columns_of(kinds, rows[begin : begin + cut]), len(rows[begin : begin + cut]))
        for begin in range(0, len(rows), cut)
    ]
    assert whole.tolist() == [hashed for part in parts for hashed in part.tolist()]


@given(key_rows(), st.data())
@settings(max_examples=150, deadline=None)
def test_hashes_that_are_given_change_no_id(case, data):
    kinds, rows, cut = case
    told, computes, plain = (module.GroupTable(kinds) for module in (compiled, compiled, twin))
    for begin in range(0, len(rows), cut):
        some = rows[begin : begin + cut]
        columns = columns_of(kinds, some)
        hashes = compiled.hash_rows(columns, len(some)) if data.draw(st.booleans()) else None
        ids = told.assign(columns, len(some), hashes).tolist()
        assert ids == computes.assign(columns, len(some)).tolist()
        assert ids == plain.assign(columns, len(some), hashes).tolist()
        if data.draw(st.integers(0, 3)) == 0:
            kept = (
                np.flatnonzero(np.arange(told.size) % 2 == 0).astype(np.int32)
                if kinds
                else np.zeros(1, np.int32)
            )
            for table in (told, computes, plain):
                table.keep(kept)
    assert told.size == computes.size


@pytest.mark.parametrize("kind", sorted(VALUES))
def test_keys_that_are_equal_have_one_hash(kind: str) -> None:
    values = {
        "string": texts_of(LENGTHS),
        "float64": [0.0, -0.0, 1.5, float("nan"), -float("nan"), float("inf")],
        "bool": [False, True],
    }.get(kind, [-(2**63), -1, 0, 1, 2**63 - 1])
    values = [None, *values, None, *values]
    keys, hashes = [twin.canonical(value) for value in values], hashes_of(kind, values)
    assert len(set(hashes)) == len(set(keys)) == len(set(zip(keys, hashes, strict=True)))


def test_a_hash_does_not_change_when_the_table_widens() -> None:
    """Told the hashes, a table finds the keys from before, after it has met keys of up to 32, up to 64 and more bytes."""
    short, middle, long = (texts_of([length] * 300, length) for length in (20, 50, 90))
    table, seen, ids = compiled.GroupTable(["string"]), list[bytes](), list[int]()
    for texts in (short, long, middle):
        seen += texts
        column = twin.column_of("string", seen)
        hashes = compiled.hash_rows([column], len(seen))
        found = table.assign([column], len(seen), hashes).tolist()
        assert found[: len(ids)] == ids
        assert found == table.assign([column], len(seen)).tolist()
        assert table.size == len(set(seen))
        ids = found


def test_texts_at_the_very_edges_of_their_buffer() -> None:
    data = np.frombuffer(b"abcdefghijklmnopqrstuvwxyz" * 4, np.uint8)
    views = [(s, n) for s in range(0, 105, 7) for n in range(105 - s)]
    starts, lengths = (np.array(each, np.int32) for each in zip(*views, strict=True))
    views_column = (data[:104], starts, np.minimum(lengths, 104 - starts), None)
    again = twin.column_of("string", twin.values_of("string", views_column))
    expected = twin.hash_rows([again], len(views)).tolist()
    assert compiled.hash_rows([views_column], len(views)).tolist() == expected


def test_the_order_of_columns_counts() -> None:
    ones, twos = (np.array([1, 2]), None), (np.array([2, 1]), None)
    first, second = compiled.hash_rows([ones, twos], 2).tolist()
    assert first != second
    assert compiled.hash_rows([], 3).tolist() == twin.hash_rows([], 3).tolist() == [0, 0, 0]


@pytest.mark.parametrize("kernel", [compiled, twin], ids=["compiled", "twin"])
def test_a_call_that_does_not_fit_is_an_error(kernel) -> None:
    column = (np.zeros(3, np.int64), None)
    with pytest.raises(ValueError):
        kernel.hash_rows([column], 2)
    with pytest.raises(ValueError):
        kernel.GroupTable(["int64"]).assign([column], 3, np.zeros(2, np.uint64))


def test_a_text_outside_of_its_bytes_is_an_error() -> None:
    outside = (np.zeros(4, np.uint8), np.array([2], np.int32), np.array([3], np.int32), None)
    with pytest.raises(ValueError, match="outside"):
        compiled.hash_rows([outside], 1)
    with pytest.raises(ValueError, match="int32"):
        compiled.hash_rows([(np.zeros(1, np.int32), None)], 1)


@pytest.mark.parametrize(
    "column",
    [
        (np.arange(200_000), None),
        (np.arange(200_000) * 1024, None),
        (1_700_000_000_000_000_000 + np.arange(200_000) * 1_000_000_000, None),
        (1_700_000_000_000_000_000 + np.arange(200_000) * 86_400_000_000_000 // 7, None),
        (np.arange(200_000) / 100, None),
        twin.column_of("string", [b"%d" % number for number in range(200_000)]),
        twin.column_of("string", [b"user-%06d" % number for number in range(200_000)]),
        twin.column_of("string", [b"%036d" % number for number in range(200_000)]),
        twin.column_of("string", [b"a" * 60 + b"%08d" % number for number in range(200_000)]),
    ],
    ids=["numbers", "steps", "seconds", "days", "floats", "digits", "names", "wide", "long"],
)
def test_the_bits_that_choose_a_part_are_even(column) -> None:
    """Sums of squares within a wide margin of those of chance, for parts by the lowest bits of 44 to 53 and by all ten."""
    count = len(column[-2])
    hashes = compiled.hash_rows([column], count)
    for parts in (2, 8, 64, 1024):
        sizes = np.bincount((hashes >> np.uint64(44)).astype(np.int64) & parts - 1, minlength=parts)
        expected = count / parts
        chi_square = float(((sizes - expected) ** 2).sum() / expected)
        assert chi_square < parts + 12 * parts**0.5 + 30, (parts, chi_square)
    both = compiled.hash_rows([column, (np.zeros(count, np.int64), None)], count)
    sizes = np.bincount((both >> np.uint64(44)).astype(np.int64) & 63, minlength=64)
    assert abs(sizes - count / 64).max() < 8 * (count / 64) ** 0.5


@pytest.mark.parametrize("level", ["portable", "v2", "v3", "v4"])
def test_every_level_gives_the_hashes_of_the_twin(level: str) -> None:
    code = (
        "from tests.kernels.test_key_hashes import *\n"
        "for lengths in (range(33), LENGTHS, [length for length in range(101) for _ in range(9)]):\n"
        "    texts = [None, *texts_of(lengths), *texts_of(lengths, 2)]\n"
        "    column = twin.column_of('string', texts)\n"
        "    hashes = twin.hash_rows([column], len(texts))\n"
        "    assert compiled.hash_rows([column], len(texts)).tolist() == hashes.tolist()\n"
        "    table, plain = compiled.GroupTable(['string']), twin.GroupTable(['string'])\n"
        "    assert table.assign([column], len(texts), hashes).tolist() == plain.assign([column], len(texts)).tolist()\n"
        "    assert table.assign([column], len(texts)).tolist() == plain.assign([column], len(texts)).tolist()\n"
    )
    told = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "ASYNCFLOW_CPU": level},
        capture_output=True,
        text=True,
        timeout=120,
    )
    if "does not have" in told.stderr:
        pytest.skip(f"this machine does not have {level}")
    assert told.returncode == 0, told.stderr
