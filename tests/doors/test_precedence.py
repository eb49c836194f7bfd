"""Operator precedence is DuckDB's, whatever the version of the parser: expressions without parentheses have DuckDB's results."""

from __future__ import annotations

import random

import duckdb
import pytest

from asyncflow.doors.expressions.expression_text import parse_expression
from asyncflow.model.batch import Batch
from asyncflow.model.columns import column_from_values
from asyncflow.model.schema import DataType, Schema
from asyncflow.plan.expressions.expression_print import expression_text
from asyncflow.runtime.wiring.compile_expressions import compile_expression

VALUES = {"a": 7, "b": 3, "c": -5, "p": True, "q": False, "n": None, "s": "ab"}
TYPES = {"a": DataType.INT64, "b": DataType.INT64, "c": DataType.INT64, "p": DataType.BOOL, "q": DataType.BOOL,
         "n": DataType.INT64, "s": DataType.STRING}  # fmt: skip
VALUES["m"], TYPES["m"] = None, DataType.BOOL
SCHEMA = Schema.of(TYPES.items())
BATCH = Batch(SCHEMA, tuple(column_from_values(TYPES[name], [value]) for name, value in VALUES.items()), 1)

WRITTEN = [
    "5 + 5 % 5", "5 - 5 % 3 * 2", "7 // 2 * 3 % 4", "2 * 7 // 3", "7 % 4 // 2", "-a % b", "-a // b", "- a + b", "a - -b", "a - b - c",
    "a / b / c", "a * b / c * a", "a + b < c * a", "a < b + 1 AND p", "NOT p AND q", "NOT p OR p", "p OR p AND q", "q AND q OR p",
    "NOT a = b", "NOT a < b AND q", "a + 1 = b + 5", "a = 7 AND b = 3 OR q", "a BETWEEN 1 AND 7 AND p", "a BETWEEN b - 1 AND b + 5",
    "NOT a BETWEEN 1 AND 2", "a NOT BETWEEN 1 AND 2 OR q", "a IN (7, 8) AND q", "a + 1 IN (8)", "NOT a IN (7)", "a NOT IN (7) OR p",
    "s || 'c' = 'abc'", "s || a + 1", "'x' || a || b", "s LIKE 'a' || '%'", "s LIKE 'a!%' ESCAPE '!' AND q", "NOT s ILIKE 'A%' OR p",
    "NOT s LIKE 'b%'", "s LIKE 'a%' AND q", "n IS NULL AND q",
    "NOT n IS NULL", "n + 1 IS NULL", "a < n IS NULL", "n IS NOT NULL OR p", "a IS DISTINCT FROM b + 4", "a IS DISTINCT FROM b AND q",
    "NOT a IS DISTINCT FROM b", "n IS NOT DISTINCT FROM NULL AND q", "-a::double", "a + b::double", "a::varchar || b", "-7::int64 % 4",
    "CASE WHEN p THEN 1 ELSE 2 END + 1", "p = q OR p", "p <> q AND p", "-a BETWEEN -8 AND -6", "- - a", "+a",
]  # fmt: skip


@pytest.fixture(scope="module")
def oracle() -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect()
    connection.execute("SET error_on_division_by_zero = false")
    connection.execute(
        "CREATE TABLE v AS SELECT 7::BIGINT a, 3::BIGINT b, -5::BIGINT c, true p, false q, NULL::BIGINT n, 'ab' s, NULL::BOOLEAN m"
    )
    return connection


def ours(written: str) -> object:
    compiled = compile_expression(parse_expression(written), SCHEMA)
    result = Batch(Schema.of([("x", compiled.type)]), (compiled(BATCH),), 1)
    return result.to_pylist()[0]["x"]


def agree(connection: duckdb.DuckDBPyConnection, written: str) -> None:
    row = connection.execute(f"SELECT {written} FROM v").fetchone()
    assert row is not None
    found, expected = ours(written), row[0]
    assert found == expected, (written, expression_text(parse_expression(written)), found, expected)
    assert parse_expression(expression_text(parse_expression(written))) == parse_expression(written)


@pytest.mark.parametrize("written", WRITTEN)
def test_written_without_parentheses(oracle: duckdb.DuckDBPyConnection, written: str) -> None:
    agree(oracle, written)


def test_random_arithmetic(oracle: duckdb.DuckDBPyConnection) -> None:
    rng = random.Random(11)
    for _ in range(300):
        parts = [rng.choice(["a", "b", "-c", "2", "5"])]
        for _ in range(rng.randint(1, 5)):
            parts += [rng.choice(["+", "-", "*", "%", "//"]), rng.choice(["a", "b", "c", "4", "-a", "9"])]
        if rng.random() < 0.5:
            parts += [rng.choice(["<", "=", "<>", ">="]), rng.choice(["a", "b", "1 + c", "a % b"])]
        agree(oracle, " ".join(parts))


LINKS = ["AND", "OR", "=", "<>", "<", ">=", "IS DISTINCT FROM", "IS NOT DISTINCT FROM"]
TESTS = [
    "IS NULL",
    "IS NOT NULL",
    "IS TRUE",
    "IS NOT FALSE",
    "IN (p, q)",
    "NOT IN (q)",
    "BETWEEN q AND p",
    "NOT BETWEEN m AND p",
]


def test_random_conditions(oracle: duckdb.DuckDBPyConnection) -> None:
    rng = random.Random(12)
    asked = 0
    while asked < 300:
        parts: list[str] = []
        for place in range(rng.randint(2, 4)):
            if place and rng.random() < 0.25:
                parts.append(rng.choice(TESTS))
                continue
            parts += [rng.choice(LINKS)] if place else []
            parts += ["NOT"] if rng.random() < 0.2 else []
            parts.append(rng.choice("pqm"))
        written = " ".join(parts)
        try:
            oracle.execute(f"SELECT {written} FROM v")
        except duckdb.ParserException:  # chained comparisons
            continue
        asked += 1
        agree(oracle, written)
