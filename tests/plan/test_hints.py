"""Every hint works: for each mistake the message, and the expression of a user who follows the hint."""

from __future__ import annotations

import pytest

from asyncflow import source
from asyncflow.doors.expressions.expression_text import parse_expression
from asyncflow.errors import PipelineError
from asyncflow.model.durations import format_duration, parse_duration
from asyncflow.model.schema import DataType, Schema
from asyncflow.plan.expressions.problems import ExpressionError
from asyncflow.plan.expressions.typing import check_expression

SCHEMA = Schema.of(
    [("b", DataType.BOOL), ("i", DataType.INT64), ("f", DataType.FLOAT64), ("s", DataType.STRING), ("t", DataType.TIMESTAMP),
     ("odd name", DataType.INT64)]
)  # fmt: skip


def problems(written: str, aggregates: bool) -> list[str]:
    try:
        return [
            str(problem)
            for problem in check_expression(parse_expression(written), SCHEMA, aggregates=aggregates)[1]
        ]
    except ExpressionError as error:
        return [str(error)]


@pytest.mark.parametrize(
    ("wrong", "hint", "followed"),
    [
        ("t = i", "epoch_ms(x) turns a timestamp into milliseconds", "epoch_ms(t) = i"),
        ("t < f", "CAST(epoch_ms(x) AS float64) turns a timestamp into milliseconds", "CAST(epoch_ms(t) AS float64) < f"),
        ("t = b", "CAST them to string", "CAST(t AS string) = CAST(b AS string)"),
        ("t > s", "CAST them to one type", "t > CAST(s AS timestamp)"),
        ("s = i", "CAST them to one type", "CAST(s AS int64) = i"),
        ("b = i", "CAST them to one type", "CAST(b AS int64) = i"),
        ("b = f", "CAST them to one type", "CAST(b AS float64) = f"),
        ("i IS DISTINCT FROM t", "epoch_ms(x) turns a timestamp into milliseconds", "i IS DISTINCT FROM epoch_ms(t)"),
        ("i IN (1, t)", "epoch_ms(x) turns a timestamp into milliseconds", "i IN (1, epoch_ms(t))"),
        ("t = INTERVAL '1' s", "an interval can only be added to a timestamp", "t = t + INTERVAL '1' s"),
        ("CASE WHEN b THEN t ELSE i END", "epoch_ms(x) turns a timestamp into milliseconds", "CASE WHEN b THEN epoch_ms(t) ELSE i END"),
        ("CASE WHEN b THEN s ELSE i END", "CAST them to one type", "CASE WHEN b THEN s ELSE CAST(i AS string) END"),
        ("CASE WHEN b THEN INTERVAL '1' s ELSE i END", "an interval can only be added to a timestamp",
         "CASE WHEN b THEN t + INTERVAL '1' s END"),
        ("CASE WHEN i THEN 1 END", "compare it: x <> 0", "CASE WHEN i <> 0 THEN 1 END"),
        ("CASE WHEN s THEN 1 END", "compare it: x = 'text'", "CASE WHEN s = 'text' THEN 1 END"),
        ("CASE WHEN t THEN 1 END", "compare it: x > TIMESTAMP '2024-01-31 00:00:00'",
         "CASE WHEN t > TIMESTAMP '2024-01-31 00:00:00' THEN 1 END"),
        ("CAST(t AS int64)", "epoch_ms(x) gives milliseconds", "epoch_ms(t)"),
        ("CAST(t AS float64)", "epoch_ms(x) gives milliseconds", "epoch_ms(t) + f"),
        ("CAST(i AS timestamp)", "epoch_ms(x) reads milliseconds", "epoch_ms(i)"),
        ("CAST(f AS timestamp)", "epoch_ms(CAST(x AS int64)) reads milliseconds", "epoch_ms(CAST(f AS int64))"),
        ("t - t", "epoch_ms(a) - epoch_ms(b) gives milliseconds", "epoch_ms(t) - epoch_ms(t)"),
        ("NULL", "write CAST(NULL AS int64)", "CAST(NULL AS int64)"),
        ("INTERVAL '1' s", "add it to a timestamp", "t + INTERVAL '1' s"),
        ("INTERVAL '1' month", "write it like INTERVAL '5' SECOND (ns us ms s m h d)", "t + INTERVAL '5' m"),
        ("9223372036854775808", "write it as a float: 1e20", "1e20"),
        ("1e400", "CAST('inf' AS float64)", "CAST('inf' AS float64)"),
        ("i ^ 2", "power(x, y)", "power(i, 2)"),
        ("i ** 2", "power(x, y)", "power(i, 2)"),
        ("s ~ 'a'", "regexp_matches(x, '^(pattern)$')", "regexp_matches(s, '^(a)$')"),
        ("CAST(i AS float)", "write double", "CAST(i AS double)"),
        ("CAST(s AS date)", "write timestamp", "CAST(s AS timestamp)"),
        ("CAST(i AS string FORMAT 'x')", "CAST(x AS int64)", "CAST(i AS int64)"),
        ("add(i, 1)", "write +", "i + 1"),
        ("is_distinct(i, 1)", "write IS DISTINCT FROM", "i IS DISTINCT FROM 1"),
        ("is_null(i)", "write IS NULL", "i IS NULL"),
        ("lowr(s)", "did you mean 'lower'?", "lower(s)"),
        ("x + 1", "there is b, i, f, s, t, odd name", "i + 1"),
        ("date_trunc('dya', t)", "did you mean 'day'?", "date_trunc('day', t)"),
        ("date_trunc('fortnight', t)", "for example date_trunc('hour', t)", "date_trunc('hour', t)"),
        ("date_trunc(s, t)", "date_trunc('hour', t)", "date_trunc('hour', t)"),
        ("extract('lustrum' FROM t)", "extract(hour FROM t)", "extract(hour FROM t)"),
        ("s LIKE 'a' ESCAPE 'ab'", "ESCAPE takes one character", "s LIKE 'a' ESCAPE '!'"),
    ],
)  # fmt: skip
def test_one_who_follows_the_hint_gets_on(wrong: str, hint: str, followed: str) -> None:
    (said,) = problems(wrong, False)
    assert hint in said
    assert problems(followed, False) == []


@pytest.mark.parametrize(
    ("wrong", "hint", "followed"),
    [
        ("sum(i) + i", "write any_value(i), or add it to by", "sum(i) + any_value(i)"),
        (
            'sum(i) + "odd name"',
            'write any_value("odd name"), or add it to by',
            'sum(i) + any_value("odd name")',
        ),
        ("sum(i) FILTER (WHERE s)", "compare it: x = 'text'", "sum(i) FILTER (WHERE s = 'text')"),
        ("sum(DISTINCT i)", "only count(DISTINCT x)", "count(DISTINCT i)"),
        ("count(DISTINCT i, s)", "join them: count(DISTINCT a || ',' || b)", "count(DISTINCT i || ',' || s)"),
        ("sum(*)", "count(*)", "count(*)"),
        ("quantile(f, 2)", "quantile(x, 0.99)", "quantile(f, 0.99)"),
        ("approx_top_k(s, i)", "approx_top_k(x, 10)", "approx_top_k(s, 10)"),
    ],
)
def test_one_who_follows_the_hint_gets_on_with_aggregates(wrong: str, hint: str, followed: str) -> None:
    (said,) = problems(wrong, True)
    assert hint in said
    assert problems(followed, True) == []


@pytest.mark.parametrize(("right", "written"), [("int64", "epoch_ms(d)"), ("float64", "CAST(epoch_ms(d) AS float64)"),
                                                ("bool", "CAST(d AS string)")])  # fmt: skip
def test_keys_of_a_join_get_one_type(right: str, written: str) -> None:
    def joined(key: str, other: str) -> None:
        left = source([], schema={"ts": "timestamp", "d": "timestamp"}, time="ts", name="l").derive(k=key)
        table = source([], schema={"ts": "timestamp", "e": right}, time="ts", name="r").derive(k=other)
        left.join(table, on=["k"], within="1s").checked()

    with pytest.raises(PipelineError) as caught:
        joined("d", "e")
    assert written.replace("(d", "(x") in str(caught.value) or "CAST them to string" in str(caught.value)
    joined(written, "CAST(e AS string)" if "string" in written else "e")


@pytest.mark.parametrize("text", ["200000d", "-200000d", "9999999999999s", "107000d", "1" + "0" * 39 + "ns"])
def test_durations_beyond_the_longest_say_so(text: str) -> None:
    with pytest.raises(ValueError, match="longer than 292 years"):
        parse_duration(text)
    assert parse_duration(format_duration(2**63 - 1)) == 2**63 - 1


@pytest.mark.parametrize("text", ["", "-", "5", "5x", "٣s", "1" + "0" * 5000 + "s", "1m 30s", "1.s"])
def test_what_is_no_duration_shows_the_form(text: str) -> None:
    with pytest.raises(ValueError, match="write it like"):
        parse_duration(text)
