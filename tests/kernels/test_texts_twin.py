"""The texts kernel and its twin agree on every column of views: short and long texts, characters of one to four bytes, bytes that are
no text, constants and columns as arguments."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncflow._kernels.texts import compiled
from asyncflow._kernels.texts import reference as twin
from asyncflow.model.columns import StringColumn
from asyncflow.operators.functions.texts import _letters

WORDS = st.text(st.sampled_from("aAbBzZ @[`{/.-é ÉßẞİıȺⱥΣς日\u3000😀\x00"), max_size=8)
TEXTS = st.one_of(
    WORDS.map(str.encode),
    st.tuples(WORDS, WORDS, st.integers(0, 40)).map(lambda drawn: (drawn[0] * drawn[2] + drawn[1]).encode()),
    st.integers(55, 140).map(lambda size: b"a/" * (size // 2) + b"B" * (size % 2)),
    st.binary(max_size=12),
)
PARTS = st.one_of(
    st.sampled_from([b"", b"/", b"a", b"aa", b"a/", b"\xc3", "é".encode(), b" \xe3\x80\x80", b"a/" * 40]),
    TEXTS,
)
NUMBERS = st.one_of(
    st.integers(-6, 9), st.sampled_from([63, 64, 65, -64, 200, 2**63 - 1, -(2**63), -(2**63) + 1])
)


def column_of(texts: list[bytes], chance: int) -> StringColumn:
    """Texts that lie in any order, with a gap between; empty texts start anywhere."""
    order = np.argsort([(number * 7919 + chance) % 101 for number in range(len(texts))], kind="stable")
    whole = StringColumn.from_values([*(texts[place] + b"/" * (chance % 3) for place in order)])
    starts, lengths = np.empty(len(texts), np.int32), np.empty(len(texts), np.int32)
    starts[order] = whole.starts
    lengths[:] = [len(text) for text in texts]
    starts[lengths == 0] = (-5, 1 << 30, 0)[chance % 3]
    return StringColumn(whole.data, starts, lengths)


@st.composite
def columns(draw: st.DrawFn, rows: int, texts: st.SearchStrategy[bytes]) -> StringColumn:
    size = draw(st.sampled_from([1, rows]))
    return column_of(draw(st.lists(texts, min_size=size, max_size=size)), draw(st.integers(0, 100)))


def numbers(draw: st.DrawFn, rows: int) -> Any:
    size = draw(st.sampled_from([1, rows]))
    return np.array(draw(st.lists(NUMBERS, min_size=size, max_size=size)), np.int64)


def views(column: StringColumn) -> tuple[Any, Any, Any]:
    return column.data, column.starts, column.lengths


def cut(call: Callable[[Any, Any, Any], None], rows: int) -> None:
    """Both give the same views."""
    found = []
    for kernel in (compiled, twin):
        starts, lengths = np.full(rows, -1, np.int32), np.full(rows, -1, np.int32)
        call(kernel, starts, lengths)
        found.append((starts.tolist(), lengths.tolist()))
    assert found[0] == found[1]


def made(call: Callable[[Any, Any, Any, Any], int | None], rows: int, size: int) -> list[bytes]:
    """Both write the same texts, in a room of that size."""
    found: list[tuple[list[int], list[int], bytes]] = []
    for kernel in (compiled, twin):
        out = np.full(size + kernel.SLACK, 7, np.uint8)
        starts, lengths = np.full(rows, -1, np.int32), np.full(rows, -1, np.int32)
        call(kernel, out, starts, lengths)
        written = int(lengths.sum())
        found.append((starts.tolist(), lengths.tolist(), out[:written].tobytes()))
    assert found[0] == found[1]
    starts, lengths, text = found[0]
    return [text[start : start + length] for start, length in zip(starts, lengths, strict=True)]


@settings(max_examples=300, deadline=None)
@given(st.data(), st.integers(1, 5))
def test_cutting(data: st.DataObject, rows: int) -> None:
    text, part = data.draw(columns(rows, TEXTS)), data.draw(columns(rows, PARTS))
    at, size = numbers(data.draw, rows), numbers(data.draw, rows)
    cut(lambda kernel, *out: kernel.split_part(*views(text), *views(part), at, *out), rows)
    cut(lambda kernel, *out: kernel.substring(*views(text), at, None, *out), rows)
    cut(lambda kernel, *out: kernel.substring(*views(text), at, size, *out), rows)
    cut(lambda kernel, *out: kernel.trim(*views(text), *views(part), *out), rows)


@settings(max_examples=300, deadline=None)
@given(st.data(), st.integers(1, 5))
def test_testing(data: st.DataObject, rows: int) -> None:
    text, part = data.draw(columns(rows, TEXTS)), data.draw(columns(rows, PARTS))
    pieces = data.draw(st.lists(PARTS, min_size=1, max_size=4))
    if data.draw(st.booleans()):
        text = column_of([data.draw(PARTS).join(pieces), *[b"a/" * 40] * (rows - 1)], 0)
    found = []
    for kernel in (compiled, twin):
        out = np.empty((4, rows), np.bool_)
        for place in range(3):
            kernel.find(*views(text), *views(part), place, out[place])
        kernel.like(
            *(views(text) if len(text) == rows else views(text.take(np.zeros(rows, np.intp)))), pieces, out[3]
        )
        found.append(out.tolist())
    assert found[0] == found[1]


@settings(max_examples=300, deadline=None)
@given(st.data(), st.integers(1, 5))
def test_making(data: st.DataObject, rows: int) -> None:
    text, old, new = (data.draw(columns(rows, strategy)) for strategy in (TEXTS, PARTS, PARTS))
    sizes = [
        kernel.replaced_size(*views(text), *views(old), *views(new), rows) for kernel in (compiled, twin)
    ]
    assert sizes[0] == sizes[1]
    replaced = made(
        lambda kernel, *out: kernel.replace(*views(text), *views(old), *views(new), *out), rows, sizes[0]
    )
    assert sum(map(len, replaced)) == sizes[0]
    whole = [text, old, new][: data.draw(st.integers(1, 3))]
    total = sum(int(column.lengths.sum()) * (rows if len(column) == 1 else 1) for column in whole)
    made(lambda kernel, *out: kernel.concat([views(column) for column in whole], *out), rows, total)
    upper = data.draw(st.booleans())
    size = int(text.lengths.sum()) * (rows if len(text) == 1 else 1)
    made(lambda kernel, *out: kernel.change_case(*views(text), _letters(upper), upper, *out), rows, 2 * size)
    plain = StringColumn(text.data & 0x7F, text.starts, text.lengths)
    made(lambda kernel, *out: kernel.change_case(*views(plain), None, upper, *out), rows, size)


def test_letters_beyond_ascii_take_a_table() -> None:
    column = StringColumn.from_values(["a" * 200, "a" * 70 + "é"])
    for kernel in (compiled, twin):
        starts, lengths = np.empty(2, np.int32), np.empty(2, np.int32)
        out = np.empty(400, np.uint8)
        assert kernel.change_case(*views(column), None, True, out, starts, lengths) == -1


@pytest.mark.parametrize("upper", [False, True])
def test_every_letter(upper: bool) -> None:
    points = [chr(point) for point in range(0x20000) if not 0xD800 <= point < 0xE000]
    column = StringColumn.from_values(points)
    changed = made(
        lambda kernel, *out: kernel.change_case(*views(column), _letters(upper), upper, *out),
        len(points),
        2 * int(column.lengths.sum()),
    )
    for before, after in zip(points, changed, strict=True):
        wanted = before.upper() if upper else before.lower()
        assert len(after.decode()) == 1
        if len(wanted) == 1 and before != "ß":
            assert after.decode() == wanted


FORMS = st.one_of(
    st.from_regex(r"\A[ \t]?[+-]?[0-9]{0,20}(\.[0-9]{0,5})?(e[+-]?[0-9]{0,10})?[ ]?\Z"),
    st.from_regex(r"\A[0-9]{4}-[01][0-9]-[0-3][0-9][T ][0-2][0-9]:[0-5][0-9](:[0-6][0-9](\.[0-9]{1,19})?)?(Z|\+[01][0-9]:30)?\Z"),
    st.sampled_from(
        ["", " ", "+", ".", "5.", ".5", "1e", "1e5", "nan", "inf", "1_000", "0x10", "0" * 30, "9" * 18, "9" * 19, "2024-02-29",
         "2023-02-29", "0000-01-01", "20240101T000000Z", "2024-01-01T24:00", "1677-09-21T00:12:43.145224192Z"]
    ),
)  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(st.lists(FORMS, min_size=1, max_size=6), st.integers(0, 100))
def test_reading(texts: list[str], chance: int) -> None:
    column = column_of([text.encode() for text in texts], chance)
    for kind, dtype in enumerate((np.int64, np.float64, np.int64)):
        found = []
        for kernel in (compiled, twin):
            values, known = np.full(len(texts), 7, dtype), np.empty(len(texts), np.bool_)
            kernel.read(*views(column), kind, values, known)
            found.append((values.tobytes(), known.tolist()))
        assert found[0] == found[1]


def test_wrong_shapes_are_refused() -> None:
    text, two = StringColumn.from_values(["abc"]), np.empty(2, np.int32)
    part = StringColumn.from_values(["a", "b", "c"])
    one = np.empty(1, np.int32)
    for kernel in (compiled, twin):
        calls: list[Callable[[], Any]] = [
            lambda kernel=kernel: kernel.split_part(*views(part), *views(text), np.ones(1, np.int64), two, two),
            lambda kernel=kernel: kernel.split_part(*views(text), *views(text), np.ones(3, np.int64), two, two),
            lambda kernel=kernel: kernel.trim(*views(text), *views(text), two, np.empty(3, np.int32)),
            lambda kernel=kernel: kernel.concat([views(text)], np.empty(66, np.uint8), one, one.copy()),
            lambda kernel=kernel: kernel.change_case(*views(text), None, True, np.empty(66, np.uint8), one, one.copy()),
            lambda kernel=kernel: kernel.replace(*views(text), *views(text), *views(text), np.empty(66, np.uint8), one, one.copy()),
            lambda kernel=kernel: kernel.read(*views(part), 0, np.empty(3, np.int64), np.empty(2, np.bool_)),
            lambda kernel=kernel: kernel.read(*views(text), 3, np.empty(1, np.int64), np.empty(1, np.bool_)),
            lambda kernel=kernel: kernel.like(*views(text), [], np.empty(1, np.bool_)),
        ]  # fmt: skip
        for call in calls:
            with pytest.raises(ValueError, match=r"different lengths|room|kind|pieces"):
                call()


def test_several_threads_at_once() -> None:
    """Nothing is shared from call to call: threads get what one alone gets."""
    column = StringColumn.from_values([f"https://Host{n}.com/a/{n % 7}/É" for n in range(3000)])
    mark, number = StringColumn.from_values(["/"]), np.array([3], np.int64)

    def once() -> tuple[bytes, bytes]:
        starts, lengths = np.empty(3000, np.int32), np.empty(3000, np.int32)
        compiled.split_part(*views(column), *views(mark), number, starts, lengths)
        out = np.empty(2 * len(column.data) + 64, np.uint8)
        written = compiled.change_case(
            *views(column), _letters(True), True, out, starts.copy(), lengths.copy()
        )
        return lengths.tobytes(), out[:written].tobytes()

    alone, found = once(), []
    threads = [threading.Thread(target=lambda: found.extend(once() for _ in range(20))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [alone] * 80
