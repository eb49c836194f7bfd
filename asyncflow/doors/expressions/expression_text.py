"""SQL text to plan expressions: the front end of every door for conditions and computed columns.

``plain_expression`` reads the plainest texts, ``sql_text`` (loaded at first use) all others.

Invariants: any text gives an expression or an :class:`ExpressionError`; the tree is never deeper than ``sql_tree.MAX_DEPTH``.
"""

from __future__ import annotations

from asyncflow.doors.expressions.plain_expression import plain_expression
from asyncflow.plan.expressions.nodes import Expression
from asyncflow.plan.expressions.problems import ExpressionError

MAX_TEXT = 65_536


def parse_expression(text: str) -> Expression:
    """The expression that ``text`` says.  Raises :class:`ExpressionError` with a message and a hint.

    >>> parse_expression("qty > 0")
    Call(function='gt', args=(ColumnRef(name='qty'), Literal(value=0, type=<DataType.INT64: 'int64'>)))
    """
    if not isinstance(text, str):
        raise ExpressionError(f"an expression is a text, not {type(text).__name__}")
    if not text.strip():
        raise ExpressionError("the expression is empty")
    if len(text) > MAX_TEXT:
        raise ExpressionError(f"the expression is longer than {MAX_TEXT} characters")
    try:
        if (plain := plain_expression(text)) is not None:
            return plain
        from asyncflow.doors.expressions.sql_text import read_by_sqlglot

        return read_by_sqlglot(text)
    except RecursionError:
        raise ExpressionError("the expression is nested too deeply") from None
