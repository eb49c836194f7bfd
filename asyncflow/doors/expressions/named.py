"""Reads expressions and named expressions of a table; a text that cannot be read is a problem with a path."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from asyncflow.doors.components import Problems
from asyncflow.doors.expressions.expression_text import parse_expression
from asyncflow.plan.expressions.named import Named
from asyncflow.plan.expressions.nodes import ColumnRef, Expression
from asyncflow.plan.expressions.problems import ExpressionError


def expression(text: str, path: str, problems: Problems) -> Expression | None:
    """The expression that ``text`` says; None, with a problem added, where it cannot be read."""
    try:
        return parse_expression(text)
    except ExpressionError as error:
        problems.add(path, error.message, error.hint)
        return None


def expressions(columns: Mapping[str, str | Expression], path: str, problems: Problems) -> Named:
    """The columns that can be read; an expression made in Python stays as it is."""
    parsed = [
        (name, expression(each, f"{path}.{name}", problems) if isinstance(each, str) else each)
        for name, each in columns.items()
    ]
    return tuple((name, each) for name, each in parsed if each is not None)


def key(by: Mapping[str, str] | Sequence[str], path: str, problems: Problems) -> Named:
    """A key: a list of columns, or names with expressions."""
    if isinstance(by, Mapping):
        return expressions(by, path, problems)
    return tuple((column, ColumnRef(column)) for column in by)
