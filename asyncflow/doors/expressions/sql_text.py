"""SQL text to plan expressions by sqlglot (its DuckDB dialect, loaded at first use), whose tree ``sql_tree`` translates."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from asyncflow.doors.expressions.plain_expression import KEYWORDS
from asyncflow.doors.expressions.sql_tree import MAX_DEPTH, TreeReader, shown
from asyncflow.plan.expressions.nodes import Expression
from asyncflow.plan.expressions.problems import ExpressionError

if TYPE_CHECKING:
    from sqlglot import exp


def read_by_sqlglot(text: str) -> Expression:
    """The expression that ``text`` says, which is neither empty nor too long.  Raises as :func:`parse_expression` does."""
    return TreeReader().read(_tree(text), MAX_DEPTH)


def _tree(text: str) -> exp.Expression:
    """sqlglot's tree of one expression; nothing may follow it."""
    from sqlglot import exp
    from sqlglot.errors import ParseError, TokenError

    dialect, tokenizer, parser = _dialect()
    try:
        tokens = tokenizer(dialect=dialect).tokenize(text)
    except TokenError:
        raise ExpressionError(f"cannot read {shown(text)}", "is a quote left open?") from None
    brackets = [token.token_type.name for token in tokens]
    if brackets.count("L_PAREN") > brackets.count("R_PAREN"):  # a CAST would be read without its last
        raise ExpressionError(f"cannot read {shown(text)}", "is a parenthesis left open?")
    try:
        trees = parser(dialect=dialect).parse_into(exp.Condition, tokens, text)
    except ParseError as error:
        raise ExpressionError(*_reason(text, error.errors[-1] if error.errors else {})) from None
    except (
        ValueError,
        TypeError,
        AttributeError,
        IndexError,
        KeyError,
    ):  # a parser's stumble is no reason to crash
        raise ExpressionError(f"cannot read {shown(text)}") from None
    if len(trees) != 1 or trees[0] is None:
        raise ExpressionError(f"{shown(text)} is not one expression")
    tree: exp.Expression = trees[0]
    return tree


@cache
def _dialect() -> tuple[Any, Any, Any]:
    """The dialect and the classes of its tokenizer and parser: without functions, so that each call stays a name with arguments; without
    the keywords that a later sqlglot adds, so that a column's name does not turn into one."""
    from sqlglot.dialects.duckdb import DuckDB

    dialect = DuckDB()
    words = {
        word: token
        for word, token in dialect.tokenizer_class.KEYWORDS.items()
        if not word.isidentifier() or word in KEYWORDS
    }
    tokenizer = type("ExpressionTokenizer", (dialect.tokenizer_class,), {"KEYWORDS": words})
    base: Any = dialect.parser_class
    kept = {name: base.FUNCTION_PARSERS[name] for name in ("CAST", "TRY_CAST", "EXTRACT")}
    keywords = {"CASE": base.NO_PAREN_FUNCTION_PARSERS["CASE"]}
    names = {
        "FUNCTIONS": {},
        "NO_PAREN_FUNCTIONS": {},
        "FUNCTION_PARSERS": kept,
        "NO_PAREN_FUNCTION_PARSERS": keywords,
    }
    return dialect, tokenizer, type(base)("ExpressionParser", (base,), names)


def _reason(text: str, error: dict[str, Any]) -> tuple[str, str]:
    near = f" near {error['highlight']!r}" if error.get("highlight") else ""
    named = str(error.get("highlight")).upper() == "AS"
    return (
        f"cannot read {shown(text)}{near}",
        "an expression has no AS name: the name stands before the =" if named else "",
    )
