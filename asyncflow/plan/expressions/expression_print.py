"""Expressions to SQL text in one spelling: equal trees give equal text, whatever door they came through.

``explain`` and error messages show this text.  Reading the text back gives the same tree.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from asyncflow.model.durations import format_duration
from asyncflow.model.schema import DataType
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
from asyncflow.plan.names import is_plain_name

_INFIX = {
    "or": ("OR", 1), "and": ("AND", 2),
    "eq": ("=", 4), "ne": ("<>", 4), "lt": ("<", 4), "le": ("<=", 4), "gt": (">", 4), "ge": (">=", 4), "like": ("LIKE", 4),
    "is_distinct": ("IS DISTINCT FROM", 4),
    "concat": ("||", 5), "add": ("+", 6), "sub": ("-", 6), "mul": ("*", 7), "div": ("/", 7), "floordiv": ("//", 7), "mod": ("%", 7),
}  # fmt: skip
_NOT, _COMPARE, _UNARY, _ATOM = 3, 4, 8, 9


def name_text(name: str) -> str:
    """A column's name as written in an expression: quoted where it is no plain name."""
    return name if is_plain_name(name) else '"' + name.replace('"', '""') + '"'


def expression_text(node: Expression) -> str:
    """SQL text of an expression, with brackets only where they are needed."""
    return _print(node)[0]


def _print(node: Expression) -> tuple[str, int]:
    """The text, and the precedence of its outermost operator (higher binds tighter)."""
    match node:
        case Literal():
            return _literal(node), _ATOM
        case Interval(ns=ns):
            return f"INTERVAL '{format_duration(ns)}'", _ATOM
        case ColumnRef(name=name):
            return name_text(name), _ATOM
        case Case(whens=whens, default=default):
            arms = " ".join(
                f"WHEN {expression_text(when)} THEN {expression_text(then)}" for when, then in whens
            )
            return f"CASE {arms} ELSE {expression_text(default)} END", _ATOM
        case Cast(arg=arg, type=type_):
            return f"CAST({expression_text(arg)} AS {type_.value})", _ATOM
        case Aggregate():
            return _aggregate(node), _ATOM
        case Call(function=function, args=args):
            return _call(function, args)


def _call(function: str, args: tuple[Expression, ...]) -> tuple[str, int]:
    if function == "like" and len(args) == 3:
        text, level = _call(function, args[:2])
        return f"{text} ESCAPE {_within(args[2], _COMPARE + 1)}", level
    if function in _INFIX and len(args) >= 2:
        sign, level = _INFIX[function]
        # The right operand needs a higher precedence, so that a - (b - c) keeps its brackets; in a comparison both operands do.
        tighter = [
            level not in (1, 2) and (position > 0 or level == _COMPARE) for position in range(len(args))
        ]
        parts = [_within(arg, level + more) for arg, more in zip(args, tighter, strict=True)]
        return f" {sign} ".join(parts), level
    match function, args:
        case "not", (Call("is_null", (inner,)),):
            return f"{_within(inner, _COMPARE + 1)} IS NOT NULL", _COMPARE
        case "not", (Call("is_distinct", (left, right)),):
            return (
                f"{_within(left, _COMPARE + 1)} IS NOT DISTINCT FROM {_within(right, _COMPARE + 1)}",
                _COMPARE,
            )
        case "not", (arg,):
            return f"NOT {_within(arg, _NOT)}", _NOT
        case "neg", (Literal() as arg,):
            return (
                f"-({_literal(arg)})",
                _UNARY,
            )  # without brackets this would read back as a negative constant
        case "neg", (arg,):
            return f"-{_within(arg, _UNARY + 1)}", _UNARY
        case "is_null", (arg,):
            return f"{_within(arg, _COMPARE + 1)} IS NULL", _COMPARE
        case "in", (value, *candidates):
            return (
                f"{_within(value, _COMPARE + 1)} IN ({', '.join(map(expression_text, candidates))})",
                _COMPARE,
            )
    return f"{function}({', '.join(map(expression_text, args))})", _ATOM


def _within(node: Expression, level: int) -> str:
    text, own = _print(node)
    return text if own >= level else f"({text})"


def _aggregate(node: Aggregate) -> str:
    inner = ", ".join(map(expression_text, node.args)) or ("*" if node.function == "count" else "")
    text = f"{node.function}({'DISTINCT ' if node.distinct else ''}{inner})"
    return text if node.filter is None else f"{text} FILTER (WHERE {expression_text(node.filter)})"


def _literal(node: Literal) -> str:
    value = node.value
    if value is None:
        return "NULL"
    if node.type is DataType.TIMESTAMP and isinstance(value, int):
        return f"TIMESTAMP '{_timestamp(value)}'"
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    return repr(value)


def _timestamp(ns: int) -> str:
    seconds, rest = divmod(ns, 1_000_000_000)
    whole = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
    fraction = f".{rest:09d}".rstrip("0") if rest else ""
    return f"{whole:%Y-%m-%d %H:%M:%S}{fraction}"
