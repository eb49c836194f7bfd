"""Reads the keys of an order: ``"revenue DESC"``, ``"lower(name)"``, ``"score DESC NULLS FIRST"``."""

from __future__ import annotations

import re

from asyncflow.doors.components import Problems
from asyncflow.doors.expressions.expression_text import parse_expression
from asyncflow.plan.expressions.problems import ExpressionError
from asyncflow.plan.stages.top import SortKey

_DIRECTION = re.compile(
    r"(?P<text>.*?\S)(?:\s+(?P<way>ASC|DESC))?(?:\s+NULLS\s+(?P<nulls>FIRST|LAST))?\s*\Z", re.I | re.S
)


def sort_key(text: str, path: str, problems: Problems) -> SortKey | None:
    """The key; None, with a problem added, where its expression cannot be read."""
    match = _DIRECTION.match(text)
    try:
        expression = parse_expression(match["text"] if match else text)
    except ExpressionError as error:
        problems.add(path, error.message, error.hint)
        return None
    way, nulls = ("", "") if match is None else (match["way"] or "", match["nulls"] or "")
    return SortKey(expression, way.upper() == "DESC", nulls.upper() == "FIRST")
