"""Oracle law: random typed expressions over random rows give what DuckDB gives.

Each expression is written twice: as a user of ours writes it, and for DuckDB with the difference that is meant: what makes DuckDB stop
(an int64 beyond its range, a cast that does not fit) is null with us (``TRY``, ``TRY_CAST``), our float literals are DOUBLE, and
``hash`` is our own.  ``exp ln log10 power`` and ``round`` to decimals are rounded to nearest with us and may differ
by a last bit from DuckDB's: they stand in a test of their own.

Agreed exceptions, which the generated expressions stay clear of: instants outside 1677 to 2262 are null with us; nanoseconds are kept
and cut where DuckDB rounds them to microseconds; an offset in a timestamp's text is honoured; the text of a NaN has no sign; regular
expressions are Python's, not RE2's; decimal literals are float64.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asyncflow.doors.expressions.expression_text import parse_expression
from asyncflow.model.batch import Batch
from asyncflow.model.columns import column_from_values
from asyncflow.model.schema import DataType, Schema
from asyncflow.runtime.wiring.compile_expressions import compile_expression

B, N, F, S, T = DataType.BOOL, DataType.INT64, DataType.FLOAT64, DataType.STRING, DataType.TIMESTAMP
COLUMNS = {"b0": B, "b1": B, "i0": N, "i1": N, "f0": F, "f1": F, "s0": S, "s1": S, "t0": T, "t1": T}
SCHEMA = Schema.of(COLUMNS.items())
ARROW = {B: pa.bool_(), N: pa.int64(), F: pa.float64(), S: pa.string(), T: pa.timestamp("us")}

EDGE_INTS = [0, 1, -1, 2, 3, -7, 10, 2**31, 2**53 + 1, 2**62, 2**63 - 1, -(2**63), -(2**63) + 1]
EDGE_FLOATS = [0.0, -0.0, 0.5, -0.5, 1.5, 2.5, -2.5, 1e300, -1e300, 5e-324, 0.1, 2.0**53, 2.0**63,
               math.inf, -math.inf, math.nan]  # fmt: skip
EDGE_TEXTS = ["", "a", "abc", "ABC", "a%b", "a_b", "naïve", "日本語", "  x ", "a,b,,c", "1", " 12 ", "-3.5", "1e3",
              "true", "x\ny"]  # fmt: skip
FIELDS = ["year", "month", "day", "hour", "minute", "second", "millisecond", "microsecond", "quarter", "week", "dow", "isodow",
          "doy", "isoyear", "yearweek", "decade", "century"]  # fmt: skip
UNITS = ["microseconds", "millisecond", "second", "minute", "hour", "day", "week", "month", "quarter", "year", "decade",
         "century"]  # fmt: skip
MICROS = st.one_of(
    st.sampled_from([0, -1, 1, 951_782_400_000_000, -2_208_988_800_000_000, 1_709_251_199_999_999]),
    st.integers(-6_000_000_000_000_000, 6_000_000_000_000_000),
)
VALUES: dict[DataType, st.SearchStrategy[Any]] = {
    B: st.booleans(),
    N: st.one_of(st.sampled_from(EDGE_INTS), st.integers(-100, 100), st.integers(-(2**63), 2**63 - 1)),
    F: st.one_of(st.sampled_from(EDGE_FLOATS), st.floats(), st.integers(-50, 50).map(lambda n: n / 4)),
    S: st.one_of(st.sampled_from(EDGE_TEXTS), st.text(st.sampled_from("ab%_, 1éß日"), max_size=12)),
    T: MICROS.map(lambda micros: micros * 1000),
}

Text = tuple[str, str]  # ours, DuckDB's


def sql_text(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def literal(type_: DataType, value: Any) -> Text:
    if value is None:
        name = {B: "bool", N: "bigint", F: "double", S: "varchar", T: "timestamp"}[type_]
        return f"CAST(NULL AS {name})", f"CAST(NULL AS {name})"
    match type_:
        case DataType.BOOL:
            return str(value), str(value)
        case DataType.INT64:
            return f"({value})", f"('{value}'::BIGINT)"
        case DataType.FLOAT64:
            if math.isfinite(value):
                return f"({value!r})" if "e" in repr(value) or "." in repr(
                    value
                ) else f"({value!r}.0)", f"('{value!r}'::DOUBLE)"
            return f"CAST('{value}' AS double)", f"('{value}'::DOUBLE)"
        case DataType.STRING:
            return sql_text(value), sql_text(value)
        case DataType.TIMESTAMP:
            text = datetime.fromtimestamp(value // 10**9, UTC).strftime("%Y-%m-%d %H:%M:%S")
            text = f"TIMESTAMP '{text}.{value % 10**9 // 1000:06d}'"
            return text, text


def same(template: str, *args: Text) -> Text:
    """The same text for both."""
    return template.format(*(a for a, _ in args)), template.format(*(b for _, b in args))


def tried(template: str, *args: Text) -> Text:
    """What DuckDB refuses to compute is null with us."""
    ours, theirs = same(template, *args)
    return ours, f"TRY({theirs})"


@st.composite
def expression(draw: st.DrawFn, type_: DataType, depth: int = 3) -> Text:
    def sub(of: DataType, less: int = 1) -> Text:
        return draw(expression(of, depth - less))

    def whole(least: int, greatest: int) -> Text:
        number = draw(st.integers(least, greatest))
        return f"({number})", f"({number})"

    if depth <= 0 or draw(st.integers(0, 5)) == 0:
        if draw(st.booleans()):
            name = draw(st.sampled_from([name for name, of in COLUMNS.items() if of is type_]))
            return name, name
        return literal(
            type_,
            draw(st.one_of(VALUES[type_], st.none()) if draw(st.integers(0, 5)) == 0 else VALUES[type_]),
        )
    general = ["CASE WHEN {0} THEN {1} ELSE {2} END", "CASE WHEN {0} THEN {1} END", "coalesce({1}, {2})", "nullif({1}, {2})",
               "greatest({1}, {2})", "least({1}, {2})"]  # fmt: skip
    choice = draw(st.integers(0, 3))
    if choice == 0:
        return same(draw(st.sampled_from(general)), sub(B), sub(type_), sub(type_))
    if type_ is B:
        return draw(condition(depth))
    if type_ is N:
        kind = draw(st.integers(0, 6))
        if kind <= 2:
            return tried(
                draw(st.sampled_from(["({0} + {1})", "({0} - {1})", "({0} * {1})", "({0} // {1})"])),
                sub(N),
                sub(N),
            )
        if kind == 3:
            return same("({0} % {1})", sub(N), literal(N, draw(st.sampled_from([0, 1, 2, -3, 7, 2**40]))))
        if kind == 4:
            a, b = sub(N)
            minus = f"(- {a})", f"TRY(CAST((- {b}) AS BIGINT))"  # of a constant DuckDB makes a HUGEINT
            return draw(st.sampled_from([tried("abs({0})", sub(N)), minus, same("sign({0})", sub(F)),
                                         same("length({0})", sub(S)), tried("round({0}, {1})", sub(N), whole(-19, 2))]))  # fmt: skip
        if kind == 5:
            ours, theirs = sub(draw(st.sampled_from([F, S, B])))
            written = draw(st.sampled_from(["CAST({} AS bigint)", "TRY_CAST({} AS bigint)", "{}::bigint"]))
            return written.format(ours), f"TRY_CAST({theirs} AS BIGINT)"
        field = draw(st.sampled_from(FIELDS))
        return draw(
            st.sampled_from([same(f"extract({field} FROM {{0}})", sub(T)), same("epoch_ms({0})", sub(T))])
        )
    if type_ is F:
        kind = draw(st.integers(0, 4))
        if kind <= 1:
            return same(draw(st.sampled_from(["({0} + {1})", "({0} - {1})", "({0} * {1})", "({0} / {1})", "({0} // {1})",
                                              "({0} % {1})"])), sub(F), sub(F))  # fmt: skip
        if kind == 2:
            of = draw(st.sampled_from([N, F]))
            return same(draw(st.sampled_from(["({0} / {1})", "({0} + {1})"])), sub(of), sub(F))
        if kind == 3:
            name = draw(
                st.sampled_from(["abs({0})", "(- {0})", "floor({0})", "ceil({0})", "sqrt({0})", "round({0})"])
            )
            return same(name, sub(F))
        ours, theirs = sub(draw(st.sampled_from([N, S, B])))
        return f"CAST({ours} AS double)", f"TRY_CAST({theirs} AS DOUBLE)"
    if type_ is S:
        kind = draw(st.integers(0, 4))
        if kind == 0:
            return same(
                draw(st.sampled_from(["({0} || {1})", "replace({0}, {1}, 'zz')", "trim({0}, {1})"])),
                sub(S),
                sub(S),
            )
        if kind == 1:
            return same(draw(st.sampled_from(["lower({0})", "upper({0})", "trim({0})", "replace({0}, 'a', '')",
                                              "regexp_extract({0}, '([a-z])(.)', 2)", "({0} || 'x')"])), sub(S))  # fmt: skip
        if kind == 2:
            return same("substring({0}, {1}, {2})", sub(S), whole(-9, 9), whole(-9, 9))
        if kind == 3:
            ours, theirs = sub(draw(st.sampled_from([N, F, B, T])))
            return f"CAST({ours} AS varchar)", f"replace(CAST({theirs} AS VARCHAR), '-nan', 'nan')"
        return same(
            f"split_part({{0}}, {sql_text(draw(st.sampled_from([',', 'a', '', 'bc'])))}, {{1}})",
            sub(S),
            whole(-4, 4),
        )
    unit = draw(
        st.sampled_from(
            [
                "microseconds",
                "millisecond",
                "second",
                "minute",
                "hour",
                "day",
                "week",
                "month",
                "quarter",
                "year",
                "decade",
                "century",
            ]
        )
    )
    length = f"INTERVAL '{draw(st.integers(-5000, 5000))}' {draw(st.sampled_from(['SECOND', 'MINUTE', 'HOUR', 'DAY', 'MILLISECOND']))}"
    return draw(st.sampled_from([same(f"date_trunc('{unit}', {{0}})", sub(T)), same(f"({{0}} + {length})", sub(T)),
                                 same(f"({{0}} - {length})", sub(T))]))  # fmt: skip


@st.composite
def condition(draw: st.DrawFn, depth: int) -> Text:
    def sub(of: DataType) -> Text:
        return draw(expression(of, depth - 1))

    kind = draw(st.integers(0, 5))
    of = draw(st.sampled_from([B, N, F, S, T]))
    if kind <= 1:
        operator = draw(st.sampled_from(["=", "<>", "<", "<=", ">", ">="]))
        if of is F and draw(st.booleans()):
            return same(f"({{0}} {operator} {{1}})", sub(N), sub(F))
        return same(f"({{0}} {operator} {{1}})", sub(of), sub(of))
    if kind == 2:
        return same(draw(st.sampled_from(["({0} AND {1})", "({0} OR {1})", "(NOT {0})", "({0} IS TRUE)", "({0} IS NOT FALSE)"])),
                    sub(B), sub(B))  # fmt: skip
    if kind == 3:
        candidates = [
            literal(of, draw(st.one_of(VALUES[of], st.none()))) for _ in range(draw(st.integers(1, 16)))
        ]
        if draw(st.booleans()):
            candidates.append(sub(of))
        word = draw(st.sampled_from(["IN", "NOT IN"]))
        return same(
            f"({{0}} {word} ({', '.join(f'{{{n + 1}}}' for n in range(len(candidates)))}))",
            sub(of),
            *candidates,
        )
    if kind == 4:
        return same(draw(st.sampled_from(["({0} IS NULL)", "({0} IS NOT NULL)", "({0} BETWEEN {1} AND {2})",
                                          "({0} NOT BETWEEN {1} AND {2})", "({0} IS DISTINCT FROM {1})",
                                          "({0} IS NOT DISTINCT FROM {1})", "({0} IS DISTINCT FROM NULL)"])),
                    sub(of), sub(of), sub(of))  # fmt: skip
    pattern = sql_text(draw(st.text(st.sampled_from("ab%_é"), max_size=6)))
    wanted = sql_text(draw(st.sampled_from(["", "a", "bc", "é", "日"])))
    return same(draw(st.sampled_from([f"({{0}} LIKE {pattern})", f"({{0}} NOT LIKE {pattern})",
                                      f"({{0}} ILIKE {pattern})", "({0} NOT ILIKE {1} || '%')", f"starts_with({{0}}, {wanted})",
                                      f"ends_with({{0}}, {wanted})", f"contains({{0}}, {wanted})", "starts_with({0}, {1})",
                                      f"({{0}} LIKE {pattern} ESCAPE 'a')" if not re.search(r"a'$", pattern.replace("aa", "")) else
                                      "contains({0}, {1})",
                                      "regexp_matches({0}, '^[ab]+.')", "regexp_matches({0}, 'b$')"])), sub(S), sub(S))  # fmt: skip


rows_of_table = st.lists(
    st.tuples(*(st.one_of(st.none(), VALUES[of]) for of in COLUMNS.values())), max_size=9
)


@pytest.fixture(scope="module")
def oracle() -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect()
    connection.execute("SET threads = 1; SET error_on_division_by_zero = false")
    return connection


def table_of(rows: Sequence[tuple[Any, ...]]) -> tuple[Batch, pa.Table]:
    columns = [[row[k] for row in rows] for k in range(len(COLUMNS))]
    batch = Batch(
        SCHEMA,
        tuple(column_from_values(of, values) for of, values in zip(COLUMNS.values(), columns, strict=True)),
        len(rows),
    )
    arrays = [
        pa.array([None if v is None else v // 1000 for v in values] if of is T else values, ARROW[of])
        for of, values in zip(COLUMNS.values(), columns, strict=True)
    ]
    return batch, pa.table(arrays, names=list(COLUMNS))


def ours(text: str, batch: Batch) -> list[Any]:
    compiled = compile_expression(parse_expression(text), batch.schema)
    column = compiled(batch)
    assert len(column) == batch.num_rows
    result = Batch(Schema.of([("x", compiled.type)]), (column,), batch.num_rows).to_pylist()
    return [row["x"] for row in result]


def theirs(connection: duckdb.DuckDBPyConnection, texts: list[str], table: pa.Table) -> list[list[Any]]:
    connection.register("rows_", table)
    try:
        found = connection.sql(f"SELECT {', '.join(texts)} FROM rows_").to_arrow_table()
    finally:
        connection.unregister("rows_")
    columns = []
    for column in found.columns:
        if pa.types.is_timestamp(column.type):
            column = column.cast(pa.timestamp("us")).cast(pa.int64())
            columns.append([None if v is None else v * 1000 for v in column.to_pylist()])
        else:
            columns.append(column.to_pylist())
    return columns


def agree(a: Any, b: Any, tolerance: float = 0.0) -> bool:
    if isinstance(a, float) and isinstance(b, float):
        if math.isnan(a) or math.isnan(b):
            return math.isnan(a) and math.isnan(b)
        return a == b or (
            math.isfinite(a) and math.isfinite(b) and abs(a - b) <= tolerance * max(abs(a), abs(b))
        )
    return isinstance(a, bool) == isinstance(b, bool) and a == b


@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_random_expressions_agree_with_duckdb(oracle: duckdb.DuckDBPyConnection, data: st.DataObject) -> None:
    batch, table = table_of(data.draw(rows_of_table))
    texts = [data.draw(expression(of)) for of in (B, N, F, S, T)]
    expected = theirs(oracle, [other for _, other in texts], table)
    for (text, other), column in zip(texts, expected, strict=True):
        found = ours(text, batch)
        assert all(agree(a, b) for a, b in zip(found, column, strict=True)), (text, other, found, column)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(rows=rows_of_table)
def test_library_functions_agree_to_the_last_bits(oracle: duckdb.DuckDBPyConnection, rows: list[Any]) -> None:
    """Not a law of bits: ours is the nearest double, DuckDB's the one that its C library gives."""
    batch, table = table_of(rows)
    texts = [
        "exp(f0)",
        "ln(f0)",
        "log10(f0)",
        "power(f0, f1)",
        "power(i0, 2)",
        "ln(i0)",
        "sqrt(i0)",
        "round(f0, 2)",
        "round(f1, -1)",
        "round(f0, 5)",
    ]
    for text, column in zip(texts, theirs(oracle, texts, table), strict=True):
        found = ours(text, batch)
        assert all(agree(a, b, 1e-13) for a, b in zip(found, column, strict=True)), (text, found, column)


def test_small_integers_of_substring_and_split_part(oracle: duckdb.DuckDBPyConnection) -> None:
    """Every small position and length, inside and outside the text."""
    batch, table = table_of(
        [(None,) * 6 + ("hélló", "a,b,,c") + (None,) * 2, (None,) * 6 + ("", ",") + (None,) * 2]
    )
    texts = [f"substring(s0, {start}, {size})" for start in range(-8, 9) for size in range(-8, 9)]
    texts += [f"substring(s0, {start})" for start in range(-8, 9)]
    texts += [f"split_part(s1, '{mark}', {n})" for mark in (",", "", "b,", "x") for n in range(-8, 9)]
    for text, column in zip(texts, theirs(oracle, texts, table), strict=True):
        assert ours(text, batch) == column, text


def test_letters_change_one_for_one(oracle: duckdb.DuckDBPyConnection) -> None:
    """``lower`` and ``upper`` of letters in use; newer Unicode tables may know more than DuckDB's."""
    letters = "".join(chr(code) for code in range(0x20, 0x530) if chr(code).isalpha())
    rows = [
        (None,) * 6 + (letters[start : start + 16], None, None, None) for start in range(0, len(letters), 16)
    ]
    batch, table = table_of(rows)
    for text in ("lower(s0)", "upper(s0)"):
        (column,) = theirs(oracle, [text], table)
        for found, expected in zip(ours(text, batch), column, strict=True):
            assert not [(a, b) for a, b in zip(found, expected, strict=True) if a != b]
