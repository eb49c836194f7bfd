"""The strings kernel and its twin agree on every column of views."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncflow._kernels.strings import compiled
from asyncflow._kernels.strings import reference as twin
from asyncflow.model.columns import StringColumn

TEXTS = st.one_of(
    st.binary(max_size=20),
    st.sampled_from([b"", b"a", b"aa", b"ab", b"abcdefgh", b"abcdefghi", b"\xff", b"\x00", "é日".encode()]),
)


@st.composite
def columns(draw: st.DrawFn, rows: int | None = None) -> StringColumn:
    """Texts that share bytes, in any order."""
    texts = draw(st.lists(TEXTS, min_size=1, max_size=8))
    whole = StringColumn.from_values(texts)
    count = draw(st.integers(0, 12)) if rows is None else rows
    order = draw(st.lists(st.integers(0, len(texts) - 1), min_size=count, max_size=count))
    column = whole.take(np.array(order, np.intp))
    cut = draw(st.integers(0, 2))
    lengths = np.maximum(column.lengths - np.int32(cut), np.int32(0))
    return StringColumn(column.data, column.starts, lengths)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_pairs(data: st.DataObject) -> None:
    a = data.draw(columns())
    b = data.draw(columns(data.draw(st.sampled_from([1, len(a)]))))
    if data.draw(st.booleans()):
        a, b = b, a
    rows = len(b) if len(a) == 1 else len(a)
    args = (a.data, a.starts, a.lengths, b.data, b.starts, b.lengths)
    equal = [np.empty(rows, np.bool_) for _ in range(2)]
    order = [np.empty(rows, np.int8) for _ in range(2)]
    for kernel, same, stands in zip((compiled, twin), equal, order, strict=True):
        kernel.equal(*args, same)
        kernel.compare(*args, stands)
    np.testing.assert_array_equal(*equal)
    np.testing.assert_array_equal(*order)
    np.testing.assert_array_equal(equal[0], order[0] == 0)


@settings(max_examples=150, deadline=None)
@given(columns(), columns())
def test_one_column(column: StringColumn, wanted: StringColumn) -> None:
    args = (column.data, column.starts, column.lengths)
    rows = len(column)
    results = []
    for kernel in (compiled, twin):
        found, characters, hashes = (
            np.empty(rows, np.bool_),
            np.empty(rows, np.int64),
            np.empty(rows, np.uint64),
        )
        ids, firsts = np.full(rows, -1, np.int32), np.full(rows, -1, np.int32)
        kernel.among(*args, wanted.data, wanted.starts, wanted.lengths, found)
        kernel.count_characters(*args, characters)
        kernel.hash64(*args, hashes)
        count = kernel.distinct(*args, ids, firsts)
        results.append(
            (found.tolist(), characters.tolist(), hashes.tolist(), ids.tolist(), firsts[:count].tolist())
        )
    assert results[0] == results[1]


def test_many_distinct_texts_grow_the_table() -> None:
    column = StringColumn.from_values([str(n % 5000) for n in range(12_000)])
    ids, firsts = np.empty(12_000, np.int32), np.empty(12_000, np.int32)
    assert compiled.distinct(column.data, column.starts, column.lengths, ids, firsts) == 5000
    np.testing.assert_array_equal(ids, np.arange(12_000) % 5000)
    np.testing.assert_array_equal(firsts[:5000], np.arange(5000))


def test_shapes_that_do_not_fit_are_refused() -> None:
    column = StringColumn.from_values(["a", "b"])
    for kernel in (compiled, twin):
        with pytest.raises(ValueError, match="different lengths"):
            kernel.hash64(column.data, column.starts, column.lengths, np.empty(3, np.uint64))


@given(st.lists(st.binary(max_size=20), max_size=30), st.randoms(use_true_random=False))
@settings(deadline=None)
def test_texts_are_copied_as_they_are(texts: list[bytes], rng: random.Random) -> None:
    data = np.frombuffer(b"".join(texts), np.uint8)
    lengths = np.array([len(text) for text in texts], np.int32)
    starts = np.cumsum(lengths, dtype=np.int64) - lengths
    rows = np.array([rng.randrange(len(texts)) for _ in range(len(texts) and 40)], np.int64)
    for wanted in (None, rows):
        fast, plain = (kernel.copy_texts(data, starts, lengths, wanted) for kernel in (compiled, twin))
        assert fast[0].tobytes() == plain[0].tobytes()
        assert fast[1].tolist() == plain[1].tolist()
    anywhere = np.where(lengths == 0, -7, starts)
    wrong = np.array([next((row for row, text in enumerate(texts) if text), len(texts))])
    for kernel in (compiled, twin):
        assert kernel.copy_texts(data, anywhere, lengths, rows)[0].tobytes() == plain[0].tobytes()
        with pytest.raises(IndexError):
            kernel.copy_texts(data, starts + len(data) + 1, lengths, wrong)


def test_hashes_never_change() -> None:
    """Part of the language: what was split by hash(x) last year must split the same today."""
    column = StringColumn.from_values(["", "a", "asyncflow", "日本語"])
    hashes = np.empty(4, np.uint64)
    compiled.hash64(column.data, column.starts, column.lengths, hashes)
    assert hashes.tolist() == [
        16294208416658607535,
        6058613999930667020,
        4649569798772891898,
        11517904489417304762,
    ]
