"""Named expressions, as stages have them (``by``, ``columns``, ``aggregates``): their types, problems, texts and columns read."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

from asyncflow.errors import Problem
from asyncflow.model.schema import DataType, Schema
from asyncflow.plan.expressions.expression_print import expression_text
from asyncflow.plan.expressions.nodes import Expression, columns_of
from asyncflow.plan.expressions.typed import as_condition
from asyncflow.plan.expressions.typing import check_expression

Named: TypeAlias = tuple[tuple[str, Expression], ...]
"""New columns and what they are computed from."""


def types_of(columns: Named, read: Schema, *, aggregates: bool = False) -> list[tuple[str, DataType]] | None:
    """The columns with their types over rows of ``read``; None where one does not type."""
    types = []
    for name, expression in columns:
        type_, problems = check_expression(expression, read, aggregates=aggregates)
        if problems:
            return None
        types.append((name, type_ or DataType.STRING))
    return types


def column_problems(
    path: str, columns: Named, read: Schema | None, *, aggregates: bool = False
) -> Iterable[Problem]:
    """What is wrong with the columns; each problem at the column's own path below ``path``."""
    for name, expression in columns:
        if not name:
            yield Problem(path, "a column has an empty name")
        yield from expression_problems(f"{path}.{name}", expression, read, aggregates=aggregates)


def expression_problems(
    path: str, expression: Expression, read: Schema | None, *, aggregates: bool = False
) -> Iterable[Problem]:
    for problem in check_expression(expression, read, aggregates=aggregates)[1]:
        yield Problem(path, problem.message, problem.hint)


def condition_problems(path: str, where: Expression, read: Schema | None) -> Iterable[Problem]:
    """What is wrong with a condition: it does not type, or its type is not bool."""
    type_, problems = check_expression(where, read)
    for problem in problems:
        yield Problem(path, problem.message, problem.hint)
    if not problems and type_ is not None and type_ is not DataType.BOOL:
        yield Problem(path, f"a condition must be bool, this is {type_.value}", as_condition(type_))


def texts_of(columns: Named) -> dict[str, str]:
    """The columns with their expressions as text."""
    return {name: expression_text(expression) for name, expression in columns}


def read_by(*columns: Named) -> frozenset[str]:
    """The input's columns that these expressions read."""
    return frozenset(name for part in columns for _, expression in part for name in columns_of(expression))
