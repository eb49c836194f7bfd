"""The plainest expressions are read without sqlglot: as sqlglot reads them, or not at all."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sqlglot.dialects.duckdb import DuckDB
from sqlglot.tokens import TokenType

from asyncflow.doors.expressions.expression_text import parse_expression
from asyncflow.doors.expressions.plain_expression import KEYWORDS, MAX_PLAIN, plain_expression
from asyncflow.doors.expressions.sql_text import _dialect, read_by_sqlglot
from asyncflow.plan.expressions.functions import AGGREGATES, ALIASES, SCALARS
from asyncflow.plan.expressions.nodes import ColumnRef


def agrees(text: str) -> bool:
    """Whether ``text`` is read here; fails where sqlglot gives another tree.  By ``repr``, which tells 1 from 1.0 and True."""
    read = plain_expression(text)
    if read is not None:
        assert repr(read) == repr(read_by_sqlglot(text)), text
    return read is not None


@pytest.mark.parametrize(
    "text",
    [
        "a", " a ", "\n_a1\t", '"odd name"', '"a.b"', '"case"', "Mixed_Case", '"%(x)--"',
        "1", "007", "2.50", "999999999999999999", "0.1", "'text'", "''", "'a -- b'", "'/*'", "'\"'", "\"'\"",
        "qty > 5", "qty>=5.5", "a<>b", "a != 'x'", "a=b", "5 < a", "a <= 'it is'", "a+1", "a - b", "a*b", "a/2", "a % 7", "1 / 3",
        "'a' = 'b'", '"a" = "b"', 'a\n=\nb',
        "count(*)", "count()", "COUNT( * )", "count(x)", "sum(x)", "Sum( x )", "avg(x)", 'max("odd name")', "sum(a * b)",
        "corr(x, y)", "arg_max( a , b )", "covar_samp(x,y)", "count(DISTINCT x)", "count( distinct\n\"x\" )", "first(x)", "last(x)",
        "sum(DISTINCT x)", "any_value(x)", "min('x')", "sum(1)", "count(1)",
        "median(x)", "quantile(x, 0.5)", "quantile_disc(x, 0.5)", "approx_quantile(x, 0.5)",
        "approx_count_distinct(x)", "approx_top_k( x, 3 )",
    ],
)  # fmt: skip
def test_plain_texts_are_read_without_sqlglot(text: str) -> None:
    assert agrees(text)


@pytest.mark.parametrize(
    "text",
    [
        "case", "null", "TRUE", "false", "date", "Current_Date", "interval", "x > null", "true = a", "sum(null)", "count(DISTINCT case)",
        "a -- b", "a--b", "a - -1", "-1", "a > -1", "a /* b */", "/* a */ b", "a // b", "a == b", "a >> b", "a -> b", "a || b", "a < b < c",
        "a AND b", "a.b", "a::int64", "a b", "a as b", "a;", "a,b", "(a)", "a[1]", "$a", "?", ":a", "@a", "a!", "#a", "{{ a }}", "{a}",
        "1e5", ".5", "1.", "1_000", "0x10", "5d", "9999999999999999999", "1.2.3", "1a",
        "'it''s'", r"'a\b'", "'a\nb'", "'a", "'é'", "e'a'", '"a""b"', '""', '"a', r'"a\b"', '"é"', "é", "a\u00a0", "a\x0b> 1", "a\x0c",
        "sum()", "sum(*)", "count(DISTINCT *)", "count(DISTINCT)", "count(DISTINCT x, y)", "count(DISTINCT x + 1)", "count(DISTINCT 1)",
        "count(DISTINCTx y)", "count (x)", "sum(x", "sum(x))", "sum(x,)", "sum(,x)", "sum(a = b)", "sum(sum(x))", "sum(x) + 1",
        "sum(x) FILTER (WHERE a)", "sum(x ORDER BY y)", "count(* )x", "lower(x)", "nothing(x)", '"sum"(x)',
        "sum('a,b')", "sum('(')", "", " ", "a" * (MAX_PLAIN + 1),
    ],
)  # fmt: skip
def test_what_is_in_doubt_is_left_to_sqlglot(text: str) -> None:
    assert plain_expression(text) is None


SHAPES = (
    "{}", "{} > 5", "5 > {}", "{} = 'x'", "{} - x", "x * {}", "x / {}", "'x' <> {}", "sum({})", "count(DISTINCT {})", "corr({}, y)",
    "corr(x, {})", "sum({} * 2)", "sum(2 * {})", "{}(x)", "{}()", "{}(*)", "{}(DISTINCT x)", "{}(x, y)",
)  # fmt: skip


def parser_words() -> set[str]:
    """Every word that the installed sqlglot gives a meaning to, in this dialect, and every name of our own functions."""
    parser = DuckDB.parser_class
    tables = ("FUNCTIONS", "NO_PAREN_FUNCTIONS", "FUNCTION_PARSERS", "NO_PAREN_FUNCTION_PARSERS")
    words = {part for key in DuckDB.tokenizer_class.KEYWORDS for part in key.split()}
    words |= {key for table in tables for key in getattr(parser, table) if isinstance(key, str)}
    words |= {*TokenType.__members__, *KEYWORDS, *AGGREGATES, *ALIASES, *SCALARS}
    return {word for word in words if word.isascii() and word.isidentifier()}


def test_words_of_the_dialect_are_read_alike_or_declined() -> None:
    words = parser_words()
    assert len(words) > 500
    assert sum(agrees(shape.format(word)) for word, shape in product(sorted(words), SHAPES)) > 500


def test_every_keyword_is_declined_in_any_case() -> None:
    for word in KEYWORDS:
        for written in (word, word.lower(), word.title()):
            assert not isinstance(plain_expression(written), ColumnRef), written


def test_a_keyword_that_only_the_installed_sqlglot_knows_is_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    newer = DuckDB.tokenizer_class.KEYWORDS | {"RELEASE": TokenType.SELECT, "SHIPMENT": TokenType.CASE}
    monkeypatch.setattr(DuckDB.tokenizer_class, "KEYWORDS", newer)
    _dialect.cache_clear()
    try:
        for word in ("release", "Shipment"):
            assert read_by_sqlglot(f"{word} > 5 AND NOT {word} < {word}") == read_by_sqlglot(
                f'"{word}" > 5 AND NOT "{word}" < "{word}"'
            )
    finally:
        _dialect.cache_clear()


PIECE = st.sampled_from(
    ["a", "x1", "_y", "Key", '"odd name"', '"', "'", "'text'", "'it''s'", "5", "0.25", "1e3", "-", "--", "+", "*", "/", "/*", "*/", "%",
     "=", "==", "<>", "!=", "<", "<=", ">", ">=", "(", ")", ",", ".", ";", "sum", "count", "first", "corr", "distinct", "DISTINCT",
     "null", "case", "date", "interval", "not", "is", "like", " ", "\n", "\t", "\u00a0", "é", "\\", "$", "{", "[", "]", ":", "#", "@"]
)  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(st.one_of(st.lists(PIECE, max_size=9).map("".join), st.lists(PIECE, max_size=9).map(" ".join)))
def test_what_is_read_is_what_sqlglot_reads(text: str) -> None:
    agrees(text)


NAME = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,11}", fullmatch=True)
VALUE = st.one_of(
    NAME,
    st.text(st.characters(min_codepoint=32, max_codepoint=126, exclude_characters='"\\'), min_size=1).map('"{}"'.format),
    st.text(st.characters(min_codepoint=32, max_codepoint=126, exclude_characters="'\\")).map("'{}'".format),
    st.from_regex(r"[0-9]{1,18}(\.[0-9]{1,18})?", fullmatch=True),
)  # fmt: skip
GAP = st.sampled_from(["", " ", "\n ", "\t"])
OPERATOR = st.sampled_from(["+", "-", "*", "/", "%", "=", "<>", "!=", "<", "<=", ">", ">="])
OPERAND = st.one_of(
    st.tuples(GAP, VALUE, GAP).map("".join),
    st.tuples(GAP, VALUE, GAP, OPERATOR, GAP, VALUE, GAP).map("".join),
)
CALL = st.tuples(
    st.sampled_from([*AGGREGATES, *ALIASES]), st.sampled_from(["", "DISTINCT ", " distinct\t"]), st.lists(OPERAND, max_size=3)
).map(lambda made: f"{made[0]}({made[1]}{','.join(made[2])})")  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(st.one_of(OPERAND, CALL))
def test_texts_of_the_language_are_read_alike(text: str) -> None:
    assume(agrees(text))


@pytest.mark.parametrize("where", ["qty > 0", "count(*)"])
def test_the_door_takes_the_short_way(where: str) -> None:
    assert parse_expression(where) == plain_expression(where)


def test_a_small_run_loads_no_dialect_and_no_libraries_that_it_does_not_use(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("ts,key,value\n2024-01-01T00:00:00Z,a,1\n")
    (tmp_path / "p.toml").write_text(
        f'[sources.s]\ntype = "file"\npath = "{tmp_path / "in.csv"}"\ntime = "ts"\n'
        'schema = { ts = "timestamp", key = "string", value = "float64" }\n'
        '[stages.w]\ntype = "window"\nwindow = { tumbling = "10s" }\nby = ["key"]\n'
        'aggregates = { n = "count(*)", s = "sum(value)", m = "mean(value)" }\n'
        '[sinks.out]\ntype = "stdout"\nformat = "csv"\n'
    )
    unwanted = {"sqlglot", "rich", "zstandard", "bz2", "lzma", "aiofiles", "tempfile", "secrets", "difflib",
                "importlib.metadata", "multiprocessing", "email", "json"}  # fmt: skip
    code = (
        "import sys, click, msgspec, numpy, uvloop; theirs = set(sys.modules);"  # what these load is not ours to choose
        "from asyncflow.cli import run_command; code = run_command(['run', sys.argv[1]]);"
        f"print(code, sorted({unwanted!r} & (set(sys.modules) - theirs)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "p.toml")],
        capture_output=True, text=True, timeout=60, check=True,
        env={name: value for name, value in os.environ.items() if name != "ASYNCFLOW_KERNELS"},  # the twins use more
    )  # fmt: skip
    assert done.stdout.splitlines()[-2:] == ["2024-01-01T00:00:00Z,2024-01-01T00:00:10Z,a,1,1.0,1.0", "0 []"]
