"""Functions on columns beyond DuckDB: nanoseconds, the hash, counts of losses; results by distinct text equal those by row."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncflow.model import patterns
from asyncflow.model.columns import Column, FixedColumn, StringColumn, column_from_values
from asyncflow.model.instants import EXTRACT_FIELDS, TRUNC_UNITS, format_timestamp, parse_timestamp
from asyncflow.model.schema import DataType
from asyncflow.operators.functions import casts, numbers, texts
from asyncflow.operators.functions.arrays import expand
from asyncflow.operators.functions.casts import cast
from asyncflow.operators.functions.named import COUNTED, FUNCTIONS

INT64, FLOAT64, STRING, TIMESTAMP = DataType.INT64, DataType.FLOAT64, DataType.STRING, DataType.TIMESTAMP
INTS = st.one_of(
    st.integers(-(2**63), 2**63 - 1), st.sampled_from([0, 1, -1, 2**63 - 1, -(2**63), 2**32, -(2**31)])
)
INSTANTS = st.one_of(INTS, st.integers(-(10**18), 10**18))
LEAST, GREATEST = -(2**63), 2**63 - 1


class Losses(dict[str, int]):
    def __call__(self, reason: str, lost: np.ndarray[Any, np.dtype[np.bool_]]) -> None:
        self[reason] = self.get(reason, 0) + int(lost.sum())


def ints(*values: int | None) -> FixedColumn:
    column = column_from_values(INT64, values)
    assert isinstance(column, FixedColumn)
    return column


def strings(*values: str | None) -> StringColumn:
    return StringColumn.from_values(values)


def values_of(column: Column, rows: int | None = None) -> list[Any]:
    column = expand(column, len(column) if rows is None else rows)
    if isinstance(column, StringColumn):
        return column.to_list()
    valid = np.ones(len(column), np.bool_) if column.valid is None else column.valid
    return [value if ok else None for value, ok in zip(column.values.tolist(), valid, strict=True)]


# -- numbers ---------------------------------------------------------------------------------------------------------


def truncated(a: int, b: int) -> int | None:
    if b == 0:
        return None
    return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


EXACT: dict[str, Callable[[int, int], int | None]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "floordiv": truncated,
}


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(sorted(EXACT)),
    st.lists(st.tuples(st.none() | INTS, st.none() | INTS), max_size=8),
    st.booleans(),
)
def test_int64_is_exact_or_null_and_counted(
    name: str, rows: list[tuple[int | None, int | None]], one: bool
) -> None:
    if one and rows:
        rows = [(a, rows[0][1]) for a, _ in rows]
    a, b = ints(*(a for a, _ in rows)), ints(*(b for _, b in rows[: 1 if one else None]))
    exact = [None if x is None or y is None else EXACT[name](x, y) for x, y in rows]
    expected = [value if value is not None and LEAST <= value <= GREATEST else None for value in exact]
    losses = Losses()
    assert values_of(COUNTED[name](losses, a, b), len(rows)) == expected
    overflows = sum(value is not None and not LEAST <= value <= GREATEST for value in exact)
    assert losses.get("overflow", 0) == overflows


@settings(max_examples=100, deadline=None)
@given(st.lists(INTS, min_size=1, max_size=6), st.integers(-25, 3))
def test_rounding_whole_numbers(values: list[int], digits: int) -> None:
    losses = Losses()
    found = values_of(numbers.round_(losses, ints(*values), ints(digits)), len(values))
    scale = 10 ** max(-digits, 0)
    exact = [(abs(v) + scale // 2) // scale * scale * (-1 if v < 0 else 1) for v in values]
    assert found == [v if LEAST <= v <= GREATEST else None for v in exact]
    assert losses.get("overflow", 0) == found.count(None)


def test_edges_of_the_least_int64() -> None:
    losses = Losses()
    assert values_of(numbers.neg(losses, ints(LEAST, 5, None))) == [None, -5, None]
    assert values_of(numbers.absolute(losses, ints(LEAST, -5, None))) == [None, 5, None]
    assert losses == {"overflow": 2}
    assert values_of(numbers.mod(ints(LEAST, 7, -7, 7), ints(-1, -2, 2, 0))) == [0, 1, -1, None]


# -- texts -----------------------------------------------------------------------------------------------------------

WORDS = st.one_of(
    st.sampled_from(["", "a", "ab", "aab", "a,b", "naïve", "日本語", "ßtraße", " a "]),
    st.text("ab, é", max_size=6),
)
CALLS: list[tuple[str, list[Any]]] = [
    ("lower", []), ("upper", []), ("trim", []), ("trim", ["a "]), ("length", []), ("substring", [2]), ("substring", [-3, 2]),
    ("replace", ["a", "xyz"]), ("starts_with", ["a"]), ("ends_with", ["b"]), ("contains", ["ab"]), ("split_part", [",", 1]),
    ("like", ["a%"]), ("like", ["%b"]), ("like", ["%a%"]), ("like", ["a_%b"]), ("like", ["ab"]), ("like", ["é!%%", "!"]),
    ("regexp_matches", ["^a+b?$"]), ("regexp_extract", ["(a+)(b)?", 2]), ("concat", ["!"]), ("hash", []), ("eq", ["a"]), ("lt", ["b"]),
]  # fmt: skip


def constant(value: Any) -> Column:
    return column_from_values(STRING if isinstance(value, str) else INT64, [value])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.none() | WORDS, min_size=2, max_size=12))
def test_a_column_is_its_rows(values: list[str | None]) -> None:
    """Once per distinct text, or one row at a time, or with constants spread over the rows: the same."""
    column = strings(*values)
    for name, args in CALLS:
        function = FUNCTIONS[name]
        whole = values_of(function(column, *map(constant, args)), len(values))
        single = [values_of(function(strings(value), *map(constant, args)))[0] for value in values]
        spread = values_of(
            function(column, *(expand(constant(arg), len(values)) for arg in args)), len(values)
        )
        assert whole == single == spread, (name, args)


@settings(max_examples=200, deadline=None)
@given(st.text("ab%_!", max_size=7), st.text("ab%_!\n", max_size=8))
def test_like_is_the_obvious_recursion(pattern: str, text: str) -> None:
    def fits(p: str, t: str) -> bool:
        if not p:
            return not t
        if p[0] == "%":
            return any(fits(p[1:], t[k:]) for k in range(len(t) + 1))
        return bool(t) and p[0] in ("_", t[0]) and fits(p[1:], t[1:])

    assert patterns.like(pattern).found_in(text) == fits(pattern, text)
    assert values_of(texts.like(strings(text, None), strings(pattern))) == [fits(pattern, text), None]


def test_a_pattern_of_many_percents_does_not_explode() -> None:
    """Backtracking would try 10^20 ways and more."""
    assert not patterns.like("%a" * 30 + "%b").found_in("a" * 4000)


@pytest.mark.parametrize(
    ("pattern", "text", "found"),
    [
        ("a$", "a\n", False),
        ("a$", "ba", True), (r"a\$", "a$", True), ("[$]", "a$", True), ("[]$]", "$", True), ("[^]$]", "$", False),
        ("(?m)a$", "a\nb", True), (r"a\z", "a\n", False), (r"\d", "٣", False), (r"\w", "é", False), ("(?i)É", "é", True),
        ("x|$", "", True), ("[[:alpha:]]", "1a", True), (r"\p{L}", "1é", True),
    ],
)  # fmt: skip
def test_patterns_read_as_re2_would(pattern: str, text: str, found: bool) -> None:
    assert patterns.regexp(pattern).found_in(text) == found


@pytest.mark.parametrize(
    "pattern", ["(", "[", "*", "a{2,1}", "[[:alhpa:]]", r"\p{Letter}", "(" * 200, "[a--b]", "(?=a)", r"(a)\1"]
)
def test_bad_patterns_are_value_errors(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"pattern"):
        patterns.regexp(pattern)


def test_bytes_that_are_no_text_survive() -> None:
    column = StringColumn.from_values([b"\xff,b", b"a"])
    result = texts.replace(column, strings(","), strings("é"))
    assert isinstance(result, StringColumn)
    assert result.to_bytes_list() == [b"\xff\xc3\xa9b", b"a"]


# -- casts -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1), (" 1\n", 1), ("-0", 0), ("+5", 5), ("1.5", 2), ("2.5", 3), ("-2.5", -3), ("1.", 1), (".5", 1), ("1e3", 1000),
        ("5e-1", 1),
        ("4e-1", 0), ("0x10", 16), ("0b11", 3), ("1_000", 1000), ("9223372036854775807", GREATEST), ("9223372036854775808", None),
        ("-9223372036854775808", LEAST), ("1e19", None), ("1e999999", None), ("1e-999999", 0), ("", None), (".", None), ("e5", None),
        ("0e400", 0), ("1e1_0", 10**10), ("1__0", None), ("x", None), ("1 2", None), ("٣", None), ("9" * 50, None),
        ("1e9999999999", None), ("+", None), ("--1", None),
    ],
)  # fmt: skip
def test_text_to_int64(text: str, value: int | None) -> None:
    assert casts.read_int(text) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1.5", 1.5), (" 1.5 ", 1.5), ("1_0.5", 10.5), (".5", 0.5), ("5.", 5.0), ("1e400", float("inf")), ("-Infinity", float("-inf")),
        ("iNf", float("inf")), ("+inf", float("inf")), ("1e", None), ("1e99999999999", float("inf")), ("0x1p3", None), ("", None),
        (".", None), ("1,5", None),
    ],
)  # fmt: skip
def test_text_to_float64(text: str, value: float | None) -> None:
    assert casts.read_float(text) == value


def test_casts_that_do_not_fit_are_null_and_counted() -> None:
    losses = Losses()
    floats = column_from_values(FLOAT64, [2.5, 3.5, -2.5, 1e30, float("nan"), -(2.0**63), 2.0**63, None])
    assert values_of(cast(losses, floats, FLOAT64, INT64)) == [2, 4, -2, None, None, LEAST, None, None]
    assert values_of(cast(losses, strings("1", "x", None, "x"), STRING, INT64)) == [1, None, None, None]
    assert values_of(cast(losses, strings("T", "no", " t"), STRING, DataType.BOOL)) == [True, False, None]
    assert values_of(cast(losses, strings(" 1970-01-01\n", "soon"), STRING, TIMESTAMP)) == [0, None]
    assert losses == {"invalid_cast": 3 + 2 + 1 + 1}


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(), max_size=6), st.lists(INSTANTS, max_size=6))
def test_text_reads_back(floats: list[float], instants: list[int]) -> None:
    losses = Losses()
    for type_, values in ((FLOAT64, floats), (TIMESTAMP, instants)):
        column = column_from_values(type_, values)
        back = cast(losses, cast(losses, column, type_, STRING), STRING, type_)
        assert isinstance(column, FixedColumn)
        assert isinstance(back, FixedColumn)
        np.testing.assert_array_equal(back.values, column.values)
    assert not losses


# -- times -----------------------------------------------------------------------------------------------------------

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def calendar(ns: int) -> datetime:
    return EPOCH + timedelta(seconds=ns // 10**9)


FIELDS: dict[str, Callable[[int], int]] = {
    "year": lambda ns: calendar(ns).year, "month": lambda ns: calendar(ns).month, "day": lambda ns: calendar(ns).day,
    "hour": lambda ns: calendar(ns).hour, "minute": lambda ns: calendar(ns).minute, "second": lambda ns: calendar(ns).second,
    "millisecond": lambda ns: ns % 60_000_000_000 // 10**6, "microsecond": lambda ns: ns % 60_000_000_000 // 1000,
    "nanosecond": lambda ns: ns % 60_000_000_000, "quarter": lambda ns: (calendar(ns).month + 2) // 3,
    "week": lambda ns: calendar(ns).isocalendar().week, "isoyear": lambda ns: calendar(ns).isocalendar().year,
    "isodow": lambda ns: calendar(ns).isoweekday(), "dow": lambda ns: calendar(ns).isoweekday() % 7,
    "doy": lambda ns: calendar(ns).timetuple().tm_yday, "decade": lambda ns: calendar(ns).year // 10,
    "century": lambda ns: (calendar(ns).year + 99) // 100,
    "yearweek": lambda ns: calendar(ns).isocalendar().year * 100 + calendar(ns).isocalendar().week,
}  # fmt: skip


@settings(max_examples=100, deadline=None)
@given(st.lists(INSTANTS, min_size=1, max_size=6))
def test_fields_over_the_whole_range(instants: list[int]) -> None:
    column = column_from_values(TIMESTAMP, instants)
    for name, expected in FIELDS.items():
        assert values_of(FUNCTIONS["extract"](strings(name), column)) == [expected(ns) for ns in instants], (
            name
        )


def start_of(unit: str, ns: int) -> int:
    at = calendar(ns)
    day = at.replace(hour=0, minute=0, second=0)
    match unit:
        case "microsecond":
            return ns - ns % 1000
        case "millisecond":
            return ns - ns % 10**6
        case "second":
            start = at
        case "minute":
            start = at.replace(second=0)
        case "hour":
            start = at.replace(minute=0, second=0)
        case "day":
            start = day
        case "week":
            start = day - timedelta(days=at.weekday())
        case "month":
            start = day.replace(day=1)
        case "quarter":
            start = day.replace(day=1, month=(at.month - 1) // 3 * 3 + 1)
        case _:
            years = {"year": 1, "decade": 10, "century": 100}[unit]
            start = day.replace(day=1, month=1, year=at.year // years * years)
    return int((start - EPOCH).total_seconds()) * 10**9


@settings(max_examples=100, deadline=None)
@given(st.lists(INSTANTS, min_size=1, max_size=6))
def test_starts_of_units_over_the_whole_range(instants: list[int]) -> None:
    column = column_from_values(TIMESTAMP, instants)
    for unit in sorted(set(TRUNC_UNITS.values())):
        losses = Losses()
        expected = [start_of(unit, ns) for ns in instants]
        found = values_of(COUNTED["date_trunc"](losses, strings(unit), column))
        assert found == [ns if ns >= LEAST else None for ns in expected], unit
        assert losses.get("overflow", 0) == found.count(None)


def test_every_field_and_unit_is_there() -> None:
    column = column_from_values(TIMESTAMP, [0])
    for name in EXTRACT_FIELDS:
        FUNCTIONS["extract"](strings(name.upper()), column)
    for name in TRUNC_UNITS:
        COUNTED["date_trunc"](Losses(), strings(name.upper()), column)


def test_epochs() -> None:
    column = column_from_values(
        TIMESTAMP, [0, 500_000, 499_999, -499_999, -500_000, -500_001, 1_500_000, None]
    )
    assert values_of(FUNCTIONS["to_epoch_ms"](column)) == [0, 1, 0, 0, -1, -1, 2, None]
    losses = Losses()
    assert values_of(COUNTED["from_epoch_ms"](losses, ints(5, -5, 2**62))) == [5_000_000, -5_000_000, None]
    assert values_of(COUNTED["shift"](losses, column_from_values(TIMESTAMP, [GREATEST, 0]), ints(1))) == [
        None,
        1,
    ]
    assert losses == {"overflow": 2}
    seconds = values_of(
        FUNCTIONS["extract"](
            strings("epoch"), column_from_values(TIMESTAMP, [-500_000_000, 1_700_000_000_123_456_000])
        )
    )
    assert seconds == [-0.5, 1_700_000_000.123456]


@settings(max_examples=100, deadline=None)
@given(INSTANTS)
def test_timestamps_as_text(ns: int) -> None:
    text = format_timestamp(ns)
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d{0,8}[1-9])?", text)
    assert parse_timestamp(text) == ns
    assert parse_timestamp(text.replace(" ", "T") + "Z") == ns


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("2024-01-01", 1704067200 * 10**9), (" 2024-01-01", 1704067200 * 10**9), ("\t2024-01-01 00:00Z\r\n", 1704067200 * 10**9),
        ("2024/1/1  0:0:5 utc", 1704067205 * 10**9), ("20240101T000005.5Z", 1704067205500000000),
        ("20240101T0001+0001", 1704067200 * 10**9),
        ("2023-12-31 24:00:00", 1704067200 * 10**9), ("2023-12-31T23:59:60Z", 1704067200 * 10**9),
        ("2024-1-1 1:02", 1704070920 * 10**9), ("1970-01-01T00:00:00+01:00", -3600 * 10**9),

        ("1970-01-01 00:00:00-0130", 5400 * 10**9), ("1970-01-01 00:00:00 +01", -3600 * 10**9),
        ("1970-01-01 00:00:00.1234567899", 123456789),
        ("1677-09-21 00:12:43.145224192", LEAST), ("2262-04-11 23:47:16.854775807", GREATEST), ("2024-02-29", 1709164800 * 10**9),
    ],
)  # fmt: skip
def test_timestamp_forms(text: str, ns: int) -> None:
    assert parse_timestamp(text) == ns


@pytest.mark.parametrize(
    "text",
    ["", "now", "20240101", "2024-01", "2023-02-29", "2024-13-01", "2024-01-01 24:01", "2024-01-01 24:00:00.1", "2024-01-01 00:00:61",
    "2024-01/01", "2024-01-01 10", "2024-01-01 10:60", "0000-01-01",
     "1677-09-21 00:12:43", "2262-04-12", "2024-01-01 00:00:00+25:00", "\u00a02024-01-01",
     "20240101T10203", "2024-01-01x", "٢٠٢٤-01-01"],
)  # fmt: skip
def test_what_is_no_timestamp(text: str) -> None:
    with pytest.raises(ValueError, match="timestamp"):
        parse_timestamp(text)


# -- hash ------------------------------------------------------------------------------------------------------------


def test_hashes_are_fixed_spread_and_never_negative() -> None:
    """The constants are part of the language: they must never change."""
    assert values_of(FUNCTIONS["hash"](ints(0, 1, None))) == [
        8147104208329303767,
        5225608189600411232,
        3182068111923396502,
    ]
    floats = column_from_values(FLOAT64, [0.0, -0.0, float("nan"), -float("nan"), 1.0])
    zero, minus_zero, nan, minus_nan, one = values_of(FUNCTIONS["hash"](floats))
    assert (zero, nan) == (minus_zero, minus_nan)
    assert one != zero
    hashes = values_of(FUNCTIONS["hash"](ints(*range(1000))))
    assert min(hashes) >= 0
    assert len(set(hashes)) == 1000
    counts = np.bincount(np.array(hashes) % 10, minlength=10)
    assert counts.min() > 60
    a, b = ints(1, 2), strings("x", "y")
    assert values_of(FUNCTIONS["hash"](a, b)) != values_of(FUNCTIONS["hash"](b, a))


def test_in_many_candidates_is_in_few() -> None:
    values = ints(1, 5, None, 40)
    candidates = [constant(n) for n in range(30)]
    assert values_of(FUNCTIONS["in"](values, *candidates)) == [True, True, None, False]
    assert values_of(FUNCTIONS["in"](values, *candidates, ints(None))) == [True, True, None, None]
    words = strings("w1", "w5", None, "w40", "w1")
    many = [constant(f"w{n}") for n in range(30)]
    assert values_of(FUNCTIONS["in"](words, *many)) == [True, True, None, False, True]
    nan = column_from_values(FLOAT64, [float("nan")])
    floats = [column_from_values(FLOAT64, [float(n)]) for n in range(20)]
    column = column_from_values(FLOAT64, [float("nan"), 3.0, 30.0])
    assert values_of(FUNCTIONS["in"](column, *floats, nan)) == [True, True, False]


def test_columns_of_different_lengths_are_refused() -> None:
    for pair in itertools.permutations([ints(1, 2), ints(1, 2, 3)]):
        with pytest.raises(ValueError, match="different lengths"):
            FUNCTIONS["greatest"](*pair)
