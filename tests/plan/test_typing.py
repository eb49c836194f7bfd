"""Types of expressions: what is accepted, implicit casts, and every problem with its hint."""

from __future__ import annotations

import pytest

from asyncflow.doors.expressions.expression_text import parse_expression
from asyncflow.model.schema import DataType, Schema
from asyncflow.plan.expressions.functions import AGGREGATES, ALIASES, OPERATORS, SCALARS, Signature
from asyncflow.plan.expressions.nodes import Aggregate, Call, ColumnRef
from asyncflow.plan.expressions.problems import ExpressionError
from asyncflow.plan.expressions.typing import check_expression, resolve_expression

B, N, F, S, T = DataType.BOOL, DataType.INT64, DataType.FLOAT64, DataType.STRING, DataType.TIMESTAMP
SCHEMA = Schema.of([("b", B), ("i", N), ("f", F), ("s", S), ("t", T), ("price", F), ("a.b", N)])


def check(text: str, *, aggregates: bool = False) -> tuple[DataType | None, list[str]]:
    type_, problems = check_expression(parse_expression(text), SCHEMA, aggregates=aggregates)
    return type_, [str(problem) for problem in problems]


@pytest.mark.parametrize(
    ("text", "type_"),
    [
        ("i + i", N), ("i + f", F), ("f + i", F), ("i / i", F), ("i // i", N), ("f // i", F), ("i % i", N), ("-i", N), ("-f", F),
        ("i + NULL", N), ("NULL + f", F), ("NULL + NULL", N), ("a.b + 1", N), ('"a.b" + 1', N),
        ("i > f", B), ("s = 'x'", B), ("t > '2024-01-01'", B), ("'2024-01-01' <= t", B), ("t IN ('2024-01-01', NULL)", B),
        ("t BETWEEN '2024-01-01' AND '2024-02-01 10:00'", B), ("b = TRUE", B), ("i = NULL", B), ("NULL = NULL", B),
        ("b AND NULL", B), ("NOT b", B), ("i IS NULL", B), ("NULL IS NULL", B), ("b IS NOT TRUE", B),
        ("t + INTERVAL '5' SECOND", T), ("INTERVAL '5' SECOND + t", T), ("t - INTERVAL '5' SECOND", T),
        ("'2024-01-01' + INTERVAL '5' SECOND", T),
        ("CASE WHEN b THEN i ELSE f END", F), ("CASE i WHEN 1 THEN 'x' END", S), ("CASE WHEN b THEN t ELSE '2024-01-01' END", T),
        ("CASE WHEN NULL THEN i END", N), ("coalesce(i, f)", F), ("coalesce(NULL, s)", S), ("nullif(i, 2.5)", N),
        ("greatest(i, f, 1)", F), ("least(t, '2024-01-01')", T), ("greatest('a', s)", S),
        ("CAST(i AS string)", S), ("CAST(NULL AS int64)", N), ("CAST('2024-01-01' AS timestamp)", T), ("CAST(s AS timestamp)", T),
        ("CAST(b AS double)", F), ("CAST(f AS bool)", B),
        ("abs(i)", N), ("abs(f)", F), ("round(i)", N), ("round(f, 2)", F), ("floor(i)", F), ("sqrt(i)", F), ("power(i, 2)", F),
        ("mod(i, 2)", N), ("sign(f)", N), ("length(s)", N), ("substring(s, 1)", S), ("substring(s, 1, 2)", S), ("split_part(s, ',', 1)", S),
        ("s || i || b || t", S), ("s LIKE 'x%'", B), ("s LIKE s", B), ("contains(s, 'x')", B), ("regexp_extract(s, '(x)', 1)", S),
        ("date_trunc('Hour', t)", T), ("extract(year FROM t)", N), ("extract('epoch' FROM t)", F), ("extract(dow FROM '2024-01-01')", N),
        ("epoch_ms(t)", N), ("epoch_ms(i)", T), ("hash(s)", N), ("hash(i, s, t)", N),
    ],
)  # fmt: skip
def test_types(text: str, type_: DataType) -> None:
    assert check(text) == (type_, [])


@pytest.mark.parametrize(
    ("text", "type_"),
    [
        ("count(*)", N), ("count(s)", N), ("count(DISTINCT s)", N), ("sum(i)", N), ("sum(f)", F), ("sum(i) / count(*)", F),
        ("sum(i * f) / sum(f)", F), ("avg(i)", F), ("min(s)", S), ("max(t)", T), ("var(i)", F), ("stddev_pop(f)", F), ("first(b)", B),
        ("any_value(s)", S), ("bool_and(i > 1)", B), ("covar(i, f)", F), ("corr(f, i)", F), ("arg_min(s, t)", S), ("arg_max(i, NULL)", N),
        ("sum(i) FILTER (WHERE b)", N), ("count(*) FILTER (WHERE s LIKE 'x%')", N), ("coalesce(sum(i), 0)", N),
        ("CASE WHEN count(*) > 1 THEN max(t) END", T), ("1 + 1", N), ("sum(i + 1) + 1", N), ("round(avg(price), 2)", F),
        ("min(DISTINCT i)", N), ("bool_or(NULL)", B),
    ],
)  # fmt: skip
def test_types_of_aggregates(text: str, type_: DataType) -> None:
    assert check(text, aggregates=True) == (type_, [])


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("pric > 1", ["there is no column 'pric' (did you mean 'price'?)"]),
        ("Price > 1", ["there is no column 'Price' (did you mean 'price'?)"]),
        ("uper(s)", ["there is no function 'uper' (did you mean 'upper'?)"]),
        ("pric > lenght(s) AND uper(x9) = 'A'",
         ["there is no column 'pric' (did you mean 'price'?)", "there is no function 'lenght' (did you mean 'length'?)",
          "there is no column 'x9' (there is b, i, f, s, t, price, a.b)", "there is no function 'uper' (did you mean 'upper'?)"]),
        ("s = 1", ["cannot compare string with int64 (=) (CAST them to one type)"]),
        ("s IN (1, 'x')", ["cannot compare string with int64 (IN) (CAST them to one type)"]),
        ("t > 5", ["cannot compare timestamp with int64 (>) (epoch_ms(x) turns a timestamp into milliseconds)"]),
        ("t > 'soon'", ["not a timestamp: 'soon' (write it like 2024-01-31 23:59:59)"]),
        ("s + 1", ["+ does not take (string, int64) (+(int64, int64) -> int64; +(float64, float64) -> float64; "
                   "+(timestamp, interval) -> timestamp; +(interval, timestamp) -> timestamp)"]),
        ("t - t", ["timestamps cannot be subtracted (epoch_ms(a) - epoch_ms(b) gives milliseconds)"]),
        ("INTERVAL '1' DAY", ["an interval alone is not a value (add it to a timestamp)"]),
        ("i IS NULL AND INTERVAL '1' DAY IS NULL", ["IS NULL does not take (interval) (IS NULL(any) -> bool)"]),
        ("NULL", ["the type of NULL is not known here (write CAST(NULL AS int64), for example)"]),
        ("NOT i", ["NOT does not take (int64) (NOT(bool) -> bool)"]),
        ("i AND b", ["AND does not take (int64, bool) (AND(bool...) -> bool)"]),
        ("abs(i, f)", ["abs does not take 2 arguments (abs(int64) -> int64; abs(float64) -> float64)"]),
        ("abs()", ["abs does not take 0 arguments (abs(int64) -> int64; abs(float64) -> float64)"]),
        ("length(i)", ["length does not take (int64) (length(string) -> int64)"]),
        ("CASE WHEN i THEN 1 END", ["WHEN takes a bool, not int64 (compare it: x <> 0)"]),
        ("CASE WHEN b THEN 1 ELSE 'x' END", ["the branches of CASE have no common type: int64, string (CAST them to one type)"]),
        ("CAST(t AS int64)", ["cannot CAST timestamp to int64 (epoch_ms(x) gives milliseconds)"]),
        ("CAST(b AS timestamp)", ["cannot CAST bool to timestamp"]),
        ("extract(yaer FROM t)", ["extract has no field 'YAER' (did you mean 'year'?)"]),
        ("date_trunc(s, t)", ["the unit in date_trunc must be a constant text (date_trunc('hour', t))"]),
        ("date_trunc('fortnight', t)", ["date_trunc has no unit 'fortnight' (for example date_trunc('hour', t))"]),
        ("regexp_matches(s, '(')", ["bad pattern '(': missing ): ("]),
        (r"regexp_extract(s, '(a)\1')",
         [r"bad pattern '(a)\\1': back-references are not supported "
          r"(take both parts out with regexp_extract and compare them with =): \1"]),
        ("regexp_matches(s, 'a(?!b)')",
         ["bad pattern 'a(?!b)': look-around is not supported (match the text around it too, with a group for the part wanted, "
          "or test with a second pattern: regexp_matches(x, ...) AND NOT regexp_matches(x, ...)): (?!b)"]),
        ("s LIKE 'a!' ESCAPE '!'", ["a LIKE pattern must not end with its escape character: 'a!'"]),
        ("s LIKE 'a' ESCAPE '!!'", ["ESCAPE takes one character"]),
        ("sum(i) > 1", ["the aggregate sum cannot stand here (aggregates belong to a window stage)"]),
    ],
)  # fmt: skip
def test_problems(text: str, problems: list[str]) -> None:
    assert check(text) == (None, problems)


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("price", ["column 'price' stands outside an aggregate (write any_value(price), or add it to by)"]),
        ("sum(i) + i", ["column 'i' stands outside an aggregate (write any_value(i), or add it to by)"]),
        (
            "sum(max(i))",
            [
                "the aggregate max stands inside another aggregate (compute the inner one in a window stage of its own)"
            ],
        ),
        (
            "sum(i) FILTER (WHERE count(*) > 1)",
            [
                "the aggregate count stands inside another aggregate (compute the inner one in a window stage of its own)"
            ],
        ),
        ("sum(i) FILTER (WHERE i)", ["FILTER takes a bool, not int64 (compare it: x <> 0)"]),
        ("sum(s)", ["sum does not take (string) (sum(int64) -> int64; sum(float64) -> float64)"]),
        ("sum(DISTINCT i)", ["DISTINCT is not supported in sum (only count(DISTINCT x))"]),
        (
            "count(DISTINCT i, s)",
            ["count(DISTINCT ...) takes one argument (join them: count(DISTINCT a || ',' || b))"],
        ),
        ("quantile(f, 1.5)", ["the share in quantile must be from 0 to 1, not 1.5 (quantile(x, 0.99))"]),
        ("quantile(f, -0.5)", ["the share in quantile must be from 0 to 1, not -0.5 (quantile(x, 0.99))"]),
        ("quantile(f, -1)", ["the share in quantile must be from 0 to 1, not -1 (quantile(x, 0.99))"]),
        ("quantile(f, i)", ["the share in quantile must be a constant from 0 to 1 (quantile(x, 0.99))"]),
        ("quantile(f, NULL)", ["the share in quantile must be a constant from 0 to 1 (quantile(x, 0.99))"]),
        (
            "quantile_disc(f, 2)",
            ["the share in quantile_disc must be from 0 to 1, not 2 (quantile_disc(x, 0.99))"],
        ),
        (
            "approx_quantile(f, i)",
            ["the share in approx_quantile must be a constant from 0 to 1 (approx_quantile(x, 0.99))"],
        ),
        ("quantile(f)", ["quantile does not take 1 argument (quantile(float64, float64) -> float64)"]),
        ("median(s)", ["median does not take (string) (median(float64) -> float64)"]),
        ("median(DISTINCT f)", ["DISTINCT is not supported in median (only count(DISTINCT x))"]),
        (
            "approx_top_k(s, 0)",
            ["the number in approx_top_k must be from 1 to 1000, not 0 (approx_top_k(x, 10))"],
        ),
        (
            "approx_top_k(s, 1001)",
            ["the number in approx_top_k must be from 1 to 1000, not 1001 (approx_top_k(x, 10))"],
        ),
        (
            "approx_top_k(s, i)",
            ["the number in approx_top_k must be a constant from 1 to 1000 (approx_top_k(x, 10))"],
        ),
        (
            "approx_top_k(s, 2.5)",
            ["approx_top_k does not take (string, float64) (approx_top_k(any, int64) -> string)"],
        ),
        (
            "approx_count_distinct(s, 3)",
            ["approx_count_distinct does not take 2 arguments (approx_count_distinct(any) -> int64)"],
        ),
        ("quantil(f, 0.5)", ["there is no function 'quantil' (did you mean 'quantile'?)"]),
        ("summ(i)", ["there is no function 'summ' (did you mean 'sum'?)"]),
        ("arg_min(s)", ["arg_min does not take 1 argument (arg_min(a, b) -> a)"]),
    ],
)
def test_problems_of_aggregates(text: str, problems: list[str]) -> None:
    assert check(text, aggregates=True) == (None, problems)


def test_calls_that_name_an_aggregate_are_one() -> None:
    """The Python door may build nodes itself."""
    node = Call("avg", (ColumnRef("i"),))
    assert check_expression(node, SCHEMA, aggregates=True) == (F, [])
    assert (
        check_expression(Aggregate("nope"), SCHEMA, aggregates=True)[1][0].message
        == "there is no aggregate 'nope'"
    )


def test_resolving_raises_with_every_problem() -> None:
    with pytest.raises(ExpressionError) as caught:
        resolve_expression(parse_expression("uper(pric)"), SCHEMA)
    assert len(caught.value.problems) == 2
    assert isinstance(caught.value, ValueError)


def test_casts_are_written_out() -> None:
    tree = resolve_expression(parse_expression("i + 2.5"), SCHEMA)
    assert (tree.operation, tree.type) == ("add", F)
    assert [(arg.operation, arg.type) for arg in tree.args] == [("cast", F), ("literal", F)]
    tree = resolve_expression(parse_expression("t = '1970-01-01'"), SCHEMA)
    assert (tree.args[1].operation, tree.args[1].type, tree.args[1].value) == ("literal", T, 0)


def test_the_table_is_complete_and_reads_back() -> None:
    for function in (*SCALARS.values(), *OPERATORS.values(), *AGGREGATES.values()):
        assert function.doc
        for signature in function.signatures:
            assert signature.expand(max(signature.required, 1 if signature.parameters else 0)) is not None
        assert function.usage
    assert set(ALIASES.values()) <= set(SCALARS) | set(AGGREGATES)
    assert not set(ALIASES) & (set(SCALARS) | set(AGGREGATES))
    assert Signature.parse("string, int64? -> string") == Signature(("string", "int64"), 1, False, "string")
