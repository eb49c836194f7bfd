"""Functions of texts give what Python's ``str`` gives, character by character: constants and columns as arguments, nulls, texts that many
rows view, and a thread beside another."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncflow.errors import TooLargeError
from asyncflow.model import columns as columns_module
from asyncflow.model.columns import Column, FixedColumn, StringColumn, column_from_values
from asyncflow.model.schema import DataType
from asyncflow.operators.functions import casts, comparing, texts
from asyncflow.operators.functions.arrays import expand
from asyncflow.operators.functions.named import FUNCTIONS

SPACES = " \u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000"


def substring(text: str, position: int, size: int | None = None) -> str:
    begin = position - 1 if position > 0 else -1 if position == 0 else len(text) + position
    end = len(text) if size is None else begin + size
    if size is not None and size < 0:
        begin, end = end, begin
    return text[max(begin, 0) : max(end, 0)]


def split_part(text: str, separator: str, number: int) -> str:
    parts = text.split(separator) if separator else list(text)
    index = number - 1 if number > 0 else len(parts) + number
    return parts[index] if number and 0 <= index < len(parts) else ""


def one(*candidates: str) -> str:
    return next(candidate for candidate in candidates if len(candidate) == 1)


def upper(text: str) -> str:
    return "".join("ẞ" if char == "ß" else one(char.upper(), char.title(), char) for char in text)


def lower(text: str) -> str:
    return "".join("i" if char == "İ" else one(char.lower(), char) for char in text)


S, N = "s", "n"
PLAIN: dict[str, list[tuple[str, Callable[..., Any]]]] = {
    "lower": [(S, lower)],
    "upper": [(S, upper)],
    "length": [(S, len)],
    "trim": [(S, lambda t: t.strip(SPACES)), (S + S, lambda t, c: t.strip(c) if c else t)],
    "substring": [(S + N, substring), (S + N + N, substring)],
    "split_part": [(S + S + N, split_part)],
    "replace": [(S + S + S, lambda t, o, n: t.replace(o, n) if o else t)],
    "concat": [(S + S, lambda *t: "".join(t)), (S + S + S, lambda *t: "".join(t))],
    "starts_with": [(S + S, str.startswith)],
    "ends_with": [(S + S, str.endswith)],
    "contains": [(S + S, str.__contains__)],
}
CASES = [(name, kinds, function) for name, forms in PLAIN.items() for kinds, function in forms]
TEXTS = st.one_of(
    st.text(st.sampled_from("abAB ,/é ÉßİȺΣ日😀\u3000\u2009"), max_size=9),
    st.text(max_size=6),
    st.sampled_from(["a/b//c", "aaaa", "x" * 130 + "/" + "Y" * 70, "日" * 50 + "/é", "ab" * 60]),
)
SHORT = st.one_of(st.sampled_from(["", "/", "a", "aa", " ", "日", "é", "ab" * 40]), TEXTS)
NUMBERS = st.one_of(st.integers(-9, 9), st.sampled_from([63, 64, 65, -65, 2**63 - 1, -(2**63)]))


def rows_of(column: Column, rows: int) -> list[Any]:
    column = expand(column, rows)
    if isinstance(column, StringColumn):
        column.check(DataType.STRING)
        return column.to_list()
    valid = np.ones(rows, np.bool_) if column.valid is None else column.valid
    return [value if there else None for value, there in zip(column.values.tolist(), valid, strict=True)]


@settings(max_examples=400, deadline=None)
@given(st.data(), st.sampled_from(CASES), st.integers(1, 6))
def test_python_says_the_same(data: st.DataObject, case: tuple[str, str, Any], rows: int) -> None:
    name, kinds, function = case
    given_: list[list[Any]] = []
    for place, kind in enumerate(kinds):
        values = NUMBERS if kind == N else SHORT if place else TEXTS
        size = data.draw(st.sampled_from([1, rows]))
        given_.append(data.draw(st.lists(st.none() | values, min_size=size, max_size=size)))
    columns = [
        column_from_values(DataType.INT64 if kind == N else DataType.STRING, values)
        for kind, values in zip(kinds, given_, strict=True)
    ]
    arguments = zip(*(values * rows if len(values) == 1 else values for values in given_), strict=True)
    wanted = [None if None in each else function(*each) for each in arguments]
    assert rows_of(FUNCTIONS[name](*columns), rows) == wanted


def test_texts_that_many_rows_view_are_changed_once() -> None:
    """What a function makes is as large as what it is given, not as the rows' texts together."""
    few = StringColumn.from_values(["a" * 1000, "É" * 500, "b"])
    column = few.take(np.arange(30_000) % 3)
    one_text = StringColumn.from_values(["a"])
    for made in (
        texts.lower(column),
        texts.upper(column),
        texts.replace(column, one_text, StringColumn.from_values(["xy"])),
        texts.concat(one_text, column, one_text),
    ):
        assert isinstance(made, StringColumn)
        assert len(made) == 30_000
        assert len(made.data) < 10_000
        assert made.take(np.arange(3)).to_list() * 10_000 == made.to_list()


def test_texts_beyond_a_column_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columns_module, "MAX_TEXT_BYTES", 100)
    column = StringColumn.from_values(["a" * 20, "b" * 20])
    long = StringColumn.from_values(["c" * 40])
    assert texts.replace(column, StringColumn.from_values(["a"]), StringColumn.from_values(["aaa"])).nbytes
    for call in (
        lambda: texts.concat(column, long),
        lambda: texts.replace(column, StringColumn.from_values(["a"]), long),
    ):
        with pytest.raises(TooLargeError):
            call()


WRITTEN = st.one_of(
    st.from_regex(r"\A[ \t\n]?[+-]?[0-9_]{0,20}(\.[0-9]{0,5})?(e[+-]?[0-9]{0,13})?[ ]?\Z"),
    st.from_regex(r"\A[0-9]{4}[-/]?[01]?[0-9][-/]?[0-3][0-9]([T ][0-2][0-9]:[0-5][0-9](:[0-6][0-9](\.[0-9]{1,19})?)?)?(Z| UTC|[+]0130)?\Z"),
    st.datetimes().map(str),
    st.floats().map(str),
    st.integers(-(2**65), 2**65).map(str),
    st.sampled_from(
        ["1e9999999999999", "1e0000000000000", "nan", "-NaN", "Infinity", "0x10", "1e", "2024-01-01T00:00:00.1234567890123456789Z"]
    ),
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.lists(st.none() | WRITTEN, min_size=1, max_size=6))
def test_a_cast_reads_as_the_exact_readers_do(values: list[str | None]) -> None:
    """The kernel takes the plain forms, and never otherwise than the readers of all forms."""
    readers: dict[DataType, Callable[[str], Any]] = {
        DataType.INT64: casts.read_int,
        DataType.FLOAT64: casts.read_float,
        DataType.TIMESTAMP: casts.read_timestamp,
    }
    for type_, read in readers.items():
        lost: list[int] = []
        column = casts.cast(
            lambda _, rows, lost=lost: lost.append(int(rows.sum())),
            StringColumn.from_values(values),
            DataType.STRING,
            type_,
        )
        wanted = [None if text is None else read(text) for text in values]
        assert list(map(repr, rows_of(column, len(values)))) == list(map(repr, wanted))
        assert sum(lost) == sum(
            text is not None and value is None for text, value in zip(values, wanted, strict=True)
        )


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.none() | TEXTS, min_size=2, max_size=9), st.lists(st.none() | TEXTS, min_size=1, max_size=30)
)
def test_in_is_the_set(values: list[str | None], wanted: list[str | None]) -> None:
    constants = [StringColumn.from_values([text]) for text in wanted]
    found = rows_of(comparing.in_(StringColumn.from_values(values), *constants), len(values))
    given_ = {text for text in wanted if text is not None}
    doubt = None if None in wanted else False
    assert found == [None if text is None else True if text in given_ else doubt for text in values]


def test_threads_share_what_is_compiled() -> None:
    """The functions keep nothing of a call: columns of several threads at once, patterns among them."""
    parts = [
        StringColumn.from_values([f"https://Host{n % part}.org/É{n}" for n in range(2000)])
        for part in (3, 50, 999, 7)
    ]
    mark, pattern = StringColumn.from_values(["/"]), StringColumn.from_values(["host([0-9]+)"])
    three, group = column_from_values(DataType.INT64, [3]), column_from_values(DataType.INT64, [1])
    assert isinstance(three, FixedColumn)
    assert isinstance(group, FixedColumn)

    def all_of(column: StringColumn) -> list[Any]:
        lowered = texts.lower(column)
        assert isinstance(lowered, StringColumn)
        return [
            rows_of(texts.split_part(column, mark, three), len(column)),
            rows_of(texts.regexp_extract(lowered, pattern, group), len(column)),
        ]

    wanted = [all_of(part) for part in parts]
    found: list[list[Any]] = [[] for _ in parts]
    threads = [
        threading.Thread(target=lambda n=n, part=part: found[n].extend(all_of(part) for _ in range(8)))
        for n, part in enumerate(parts)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [[each] * 8 for each in wanted]
