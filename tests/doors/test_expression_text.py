"""SQL text to plan expressions: what is accepted, what is refused, and the messages."""

from __future__ import annotations

import subprocess
import sys

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncflow.doors.expressions.expression_text import MAX_TEXT, parse_expression
from asyncflow.model.batch import Batch
from asyncflow.model.schema import DataType, Schema
from asyncflow.plan.expressions.nodes import (
    Aggregate,
    Call,
    Case,
    Cast,
    ColumnRef,
    Expression,
    Interval,
    Literal,
)
from asyncflow.plan.expressions.problems import ExpressionError
from asyncflow.runtime.wiring.compile_expressions import compile_expression

A, B = ColumnRef("a"), ColumnRef("b")
NULL = Literal(None, None)


def whole(value: int) -> Literal:
    return Literal(value, DataType.INT64)


def text(value: str) -> Literal:
    return Literal(value, DataType.STRING)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("1", whole(1)),
        ("-9223372036854775808", whole(-(2**63))),
        ("2.5", Literal(2.5, DataType.FLOAT64)),
        (".5", Literal(0.5, DataType.FLOAT64)),
        ("1e20", Literal(1e20, DataType.FLOAT64)),
        ("'it''s'", text("it's")),
        ("TRUE", Literal(True, DataType.BOOL)),
        ("null", NULL),
        ("TIMESTAMP '2024-01-01 00:00:00'", Literal(1704067200 * 10**9, DataType.TIMESTAMP)),
        ("timestamp '1969-12-31T23:59:59.999999999Z'", Literal(-1, DataType.TIMESTAMP)),
        ("INTERVAL '5' SECOND", Interval(5 * 10**9)),
        ("INTERVAL 5 MINUTES", Interval(300 * 10**9)),
        ("INTERVAL '1.5' h", Interval(5400 * 10**9)),
        ("INTERVAL '-2' ms", Interval(-2_000_000)),
        ("INTERVAL '3' us", Interval(3_000)),
        ("INTERVAL '1d'", Interval(86400 * 10**9)),
        ("- INTERVAL '1' s", Interval(-(10**9))),
        ("a", A),
        ('"odd name"', ColumnRef("odd name")),
        ('"a"."B c".d', ColumnRef("a.B c.d")),
        ('"a.b"', ColumnRef("a.b")),
        ("a.b.c.d.e.f", ColumnRef("a.b.c.d.e.f")),
        ("timestamp", ColumnRef("timestamp")),
        ("first", ColumnRef("first")),
        ("(((a)))", A),
        ("a + b", Call("add", (A, B))),
        ("a // b", Call("floordiv", (A, B))),
        ("a % b", Call("mod", (A, B))),
        ("mod(a, b)", Call("mod", (A, B))),
        ("-a", Call("neg", (A,))),
        ("a != b", Call("ne", (A, B))),
        ("a <> b", Call("ne", (A, B))),
        ("a AND b AND a", Call("and", (A, B, A))),
        ("a OR b AND a", Call("or", (A, Call("and", (B, A))))),
        ("a || b || a", Call("concat", (A, B, A))),
        ("a IS NULL", Call("is_null", (A,))),
        ("a IS NOT NULL", Call("not", (Call("is_null", (A,)),))),
        ("a IS TRUE", Call("coalesce", (A, Literal(False, DataType.BOOL)))),
        ("a IN (1, NULL)", Call("in", (A, whole(1), NULL))),
        ("a NOT IN (1)", Call("not", (Call("in", (A, whole(1))),))),
        ("a BETWEEN 1 AND 2", Call("and", (Call("ge", (A, whole(1))), Call("le", (A, whole(2)))))),
        ("a LIKE 'x%'", Call("like", (A, text("x%")))),
        ("a NOT LIKE 'x%'", Call("not", (Call("like", (A, text("x%"))),))),
        ("a ILIKE b", Call("like", (Call("lower", (A,)), Call("lower", (B,))))),
        ("a NOT ILIKE b", Call("not", (Call("like", (Call("lower", (A,)), Call("lower", (B,)))),))),
        ("a IS DISTINCT FROM b", Call("is_distinct", (A, B))),
        ("a IS NOT DISTINCT FROM NULL", Call("not", (Call("is_distinct", (A, NULL)),))),
        ("TRY_CAST(a AS int)", Cast(A, DataType.INT64)),
        ("TRY_CAST('soon' AS timestamp)", Literal(None, DataType.TIMESTAMP)),
        ("a::int64::string", Cast(Cast(A, DataType.INT64), DataType.STRING)),
        ("-a::int64", Call("neg", (Cast(A, DataType.INT64),))),
        ("a LIKE 'x%' ESCAPE '!'", Call("like", (A, text("x%"), text("!")))),
        ("CASE WHEN a THEN 1 END", Case(((A, whole(1)),), NULL)),
        ("CASE a WHEN 1 THEN b ELSE a END", Case(((Call("eq", (A, whole(1))), B),), A)),
        ("extract(year FROM a)", Call("extract", (text("YEAR"), A))),
        ("date_trunc('day', a)", Call("date_trunc", (text("day"), A))),
        ("log10(a)", Call("log10", (A,))),
        ("POW(a, 2)", Call("power", (A, whole(2)))),
        ("epoch_ms(a)", Call("epoch_ms", (A,))),
        ("a::varchar", Cast(A, DataType.STRING)),
        ("count(*)", Aggregate("count")),
        ("count()", Aggregate("count")),
        ("COUNT(DISTINCT a)", Aggregate("count", (A,), distinct=True)),
        ("avg(a)", Aggregate("mean", (A,))),
        ("stddev_samp(a)", Aggregate("stddev", (A,))),
        ("var_samp(a)", Aggregate("var", (A,))),
        ("any_value(a)", Aggregate("any_value", (A,))),
        ("arg_max(a, b)", Aggregate("arg_max", (A, B))),
        ("sum(a) FILTER (WHERE b > 1)", Aggregate("sum", (A,), filter=Call("gt", (B, whole(1))))),
        ("sum(a) / count(*)", Call("div", (Aggregate("sum", (A,)), Aggregate("count")))),
        ("a -- a comment", A),
    ],
)
def test_reads(written: str, read: Expression) -> None:
    assert parse_expression(written) == read


@pytest.mark.parametrize(
    ("name", "type_"),
    [
        ("bool", DataType.BOOL), ("boolean", DataType.BOOL), ("int64", DataType.INT64), ("bigint", DataType.INT64),
        ("integer", DataType.INT64), ("int", DataType.INT64), ("float64", DataType.FLOAT64), ("double", DataType.FLOAT64),
        ("string", DataType.STRING), ("varchar", DataType.STRING), ("text", DataType.STRING), ("timestamp", DataType.TIMESTAMP),
    ],
)  # fmt: skip
def test_type_names(name: str, type_: DataType) -> None:
    assert parse_expression(f"CAST(a AS {name.upper()})") == Cast(A, type_)
    assert parse_expression(f"cast(a as {name})") == Cast(A, type_)


@pytest.mark.parametrize(
    ("written", "message", "hint"),
    [
        ("", "the expression is empty", ""),
        ("   ", "the expression is empty", ""),
        ("-- only a comment", "'-- only a comment' is not one expression", ""),
        ("a b", "cannot read 'a b' near 'b'", ""),
        ("a AS c", "cannot read 'a AS c' near 'AS'", "the name stands before the ="),
        ("a; b", "'a; b' is not one expression", ""),
        ("a, b", "cannot read 'a, b'", ""),
        ("'abc", "cannot read \"'abc\"", "is a quote left open?"),
        ("count(", "cannot read 'count('", ""),
        ("1 +", "cannot read '1 +'", ""),
        ("(select 1)", "a subquery is not supported in an expression", ""),
        ("a IN (select 1)", "IN takes a list of values in parentheses, not a query", ""),
        ("EXISTS (select 1)", "is not supported", ""),
        ("sum(a) OVER ()", "OVER is not supported in an expression", ""),
        ("a ~ 'x'", "~ is not supported in an expression", "regexp_matches(x, '^(pattern)$')"),
        ("a ->> 'x'", "->> is not supported in an expression", ""),
        ("CAST(a AS int", "cannot read 'CAST(a AS int'", "is a parenthesis left open?"),
        ("CAST(a AS int) +", "cannot read 'CAST(a AS int) +' near '+'", ""),
        ("CAST(a AS int FORMAT 'x')", "CAST takes a type and nothing else", "CAST(x AS int64)"),
        ("1e400", "'1e400' is beyond the range of float64", "CAST('inf' AS float64)"),
        ("a ^ 2", "^ is not supported in an expression", "power(x, y)"),
        ("a >> 3", ">> is not supported in an expression", ""),
        ("a << 3", "<< is not supported in an expression", ""),
        ("a[1]", "x[...] is not supported in an expression", ""),
        ("[1, 2]", "a list is not supported in an expression", ""),
        ("{'x': 1}", "a struct is not supported in an expression", ""),
        ("?", "a parameter is not supported in an expression", ""),
        (":x", "a parameter is not supported in an expression", ""),
        ("*", "* is not supported in an expression", ""),
        ("a.*", "* is not supported in an expression", ""),
        ("TRY_CAST(a AS flot)", "there is no type 'flot'", "did you mean 'float64'?"),
        ("CAST(a AS flot)", "there is no type 'flot'", "did you mean 'float64'?"),
        ("CAST(a AS decimal(3, 2))", "there is no type 'decimal(3, 2)'", "write double"),
        ("CAST(a AS float)", "there is no type 'float'", "write double"),
        ("DATE '2024-01-01'", "there is no type 'date'", "write timestamp"),
        ("TIMESTAMP 'soon'", "not a timestamp: 'soon'", "write it like"),
        ("TIMESTAMP '2024-02-30'", "not a timestamp: '2024-02-30'", ""),
        ("TIMESTAMP '9999-01-01'", "timestamp outside", ""),
        ("INTERVAL 1 month", "cannot read the interval", "INTERVAL '5' SECOND"),
        ("INTERVAL 'x' second", "cannot read the interval", "INTERVAL '5' SECOND"),
        ("INTERVAL '1' ", "cannot read the interval", "INTERVAL '5' SECOND"),
        ("INTERVAL 9999999999 day", "is too long", ""),
        ("9223372036854775808", "'9223372036854775808' is beyond the range of int64", "1e20"),
        ("add(a, b)", "there is no function 'add'", "write +"),
        ("sum(*)", "sum(*) is not an aggregate", "count(*)"),
        ("cuont(*)", "there is no function 'cuont'", "did you mean 'count'?"),
        ("Total(*)", "there is no function 'Total'", ""),
        ("abs(*)", "abs(*) is not a function", ""),
        ("abs(a) FILTER (WHERE b)", "FILTER (WHERE ...) belongs to one aggregate", ""),
        ("a IN ()", "IN () needs at least one value", ""),
    ],
)  # fmt: skip
def test_refuses(written: str, message: str, hint: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        parse_expression(written)
    assert message in caught.value.message
    assert hint in f"{caught.value.message} {caught.value.hint}"
    assert hint or "AS name" not in caught.value.hint
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize(
    "written",
    [
        "(" * 2000 + "a" + ")" * 2000,
        "NOT " * 5000 + "a",
        "- " * 5000 + "a",
        "a" + " + a" * 5000,
        "a" + "::int" * 5000,
        "abs(" * 1000 + "a" + ")" * 1000,
        "CASE WHEN a THEN " * 500 + "1" + " END" * 500,
        "[" * 5000,
        "x." * 5000 + "y",
        "a" * (MAX_TEXT + 1),
        "1" * 60_000,
    ],
)
def test_huge_and_deep_texts_are_errors(written: str) -> None:
    with pytest.raises(ExpressionError):
        parse_expression(written)


def test_long_flat_texts_are_fine() -> None:
    conditions = " OR ".join(f"a = {n}" for n in range(2000))
    read = parse_expression(conditions)
    assert isinstance(read, Call)
    assert len(read.args) == 2000
    members = parse_expression(f"a IN ({', '.join(map(str, range(5000)))})")
    assert isinstance(members, Call)
    assert len(members.args) == 5001
    assert parse_expression("(" * 20 + "a" + ")" * 20) == A


WORDS = [
    "a", "b", "1", "'x'", "(", ")", ",", ".", "*", "+", "-", "/", "//", "%", "=", "<>", "<", "AND", "OR", "NOT", "IS", "NULL", "IN",
    "LIKE", "BETWEEN", "CASE", "WHEN", "THEN", "ELSE", "END", "CAST", "AS", "int", "extract", "FROM", "INTERVAL", "second", "sum",
    "count", "DISTINCT", "FILTER", "WHERE", "TIMESTAMP", "::", "[", "]", "{", "}", "?", ";", "||", "SELECT",
]  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(
    st.one_of(
        st.text(max_size=40),
        st.lists(
            st.sampled_from(WORDS),
            max_size=14,
        ).map(" ".join),
    )
)
def test_any_text_is_an_expression_or_an_error(written: str) -> None:
    try:
        parse_expression(written)
    except ExpressionError as error:
        assert str(error)


OPERANDS = st.sampled_from(["1", "2", "3", "-2", "7"])
NUMERIC = st.builds(
    lambda first, rest: first + "".join(f" {operator} {operand}" for operator, operand in rest),
    OPERANDS,
    st.lists(st.tuples(st.sampled_from(["+", "-", "*", "//", "%"]), OPERANDS), max_size=5),
)
CONDITION = st.one_of(
    st.builds("{} {} {}".format, NUMERIC, st.sampled_from(["=", "<>", "<", ">="]), NUMERIC),
    st.builds("{} IS NULL = ({} IS NOT NULL)".format, NUMERIC, NUMERIC),
    st.builds("{} BETWEEN {} AND {}".format, NUMERIC, NUMERIC, NUMERIC),
    st.builds("{} NOT IN ({}, {})".format, NUMERIC, NUMERIC, NUMERIC),
    st.builds("{} || {} LIKE {} || '%'".format, NUMERIC, NUMERIC, NUMERIC),
)


@pytest.fixture(scope="module")
def oracle() -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect()
    connection.execute("SET threads = 1; SET error_on_division_by_zero = false")
    return connection


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.builds("{}{}".format, st.sampled_from(["", "NOT "]), CONDITION), min_size=1, max_size=4),
    st.lists(st.sampled_from(["AND", "OR"]), min_size=3, max_size=3),
)
def test_operators_bind_as_in_duckdb(
    oracle: duckdb.DuckDBPyConnection, conditions: list[str], words: list[str]
) -> None:
    written = conditions[0]
    for word, condition in zip(words, conditions[1:], strict=False):
        written += f" {word} {condition}"
    row = oracle.execute(f"SELECT {written}").fetchone()
    assert row is not None
    compiled = compile_expression(parse_expression(written), Schema(()))
    column = compiled(Batch(Schema(()), (), 1))
    found = bool(column.values[0]) if column.valid is None else None
    assert found == row[0], written


def test_importing_does_not_load_sqlglot() -> None:
    modules = "asyncflow.doors.expressions.expression_text, asyncflow.runtime.wiring.compile_expressions"
    code = f"import sys, {modules}; assert 'sqlglot' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
