"""Aggregates written in Python and passed to ``.window(...)`` as classes, in place of the name of a registered aggregate."""

from __future__ import annotations

from msgspec.structs import replace

from asyncflow.doors.expressions.expression_text import parse_expression
from asyncflow.errors import PipelineError
from asyncflow.plan.expressions.aggregates import python_aggregate
from asyncflow.plan.expressions.nodes import Aggregate, Call, Case, Cast, Expression
from asyncflow.plan.expressions.problems import ExpressionError


def aggregate(cls: type, /, *arguments: str, where: str | None = None) -> Expression:
    """A class of yours as an aggregate: ``.window(..., g=af.aggregate(GeometricMean, "price", where="qty > 0"))``.

    ``arguments``: expressions, as in ``sum(...)``; ``where``: as ``FILTER (WHERE ...)``.  See :class:`~asyncflow.Aggregate`.
    """
    _checked(cls.__name__ if isinstance(cls, type) else "", cls)
    condition = None if where is None else _parsed(where)
    return Aggregate(cls.__name__, tuple(_parsed(text) for text in arguments), False, condition, cls)


def expression(text: str, /, **aggregates: type) -> Expression:
    """An expression with classes of yours under names of its own: ``af.expression("g(a) / sum(b)", g=GeometricMean)``."""
    classes = {name.lower(): cls for name, cls in aggregates.items()}
    for name, cls in classes.items():
        _checked(name, cls)
    used: set[str] = set()
    found = _bound(_parsed(text), classes, used)
    for name in classes:
        if name not in used:
            raise PipelineError(f"there is no {name}(...) in {text!r}")
    return found


def _checked(name: str, cls: type) -> None:
    try:
        python_aggregate(name, cls)
    except (TypeError, ValueError) as error:
        raise PipelineError(str(error)) from None


def _parsed(text: str) -> Expression:
    try:
        return parse_expression(text)
    except ExpressionError as error:
        raise PipelineError(str(error)) from None


def _bound(node: Expression, classes: dict[str, type], used: set[str]) -> Expression:
    """The tree with the calls of these names made calls of these classes; the names go into ``used``."""

    def each(nodes: tuple[Expression, ...]) -> tuple[Expression, ...]:
        return tuple(_bound(part, classes, used) for part in nodes)

    match node:
        case Call(function=name, args=args) if name in classes:
            used.add(name)
            return Aggregate(name, each(args), python=classes[name])
        case Call(args=args):
            return replace(node, args=each(args))
        case Case(whens=whens, default=default):
            pairs = tuple((_bound(a, classes, used), _bound(b, classes, used)) for a, b in whens)
            return Case(pairs, _bound(default, classes, used))
        case Cast(arg=arg):
            return replace(node, arg=_bound(arg, classes, used))
        case Aggregate(function=name, args=args, filter=condition):
            if name in classes:
                used.add(name)
            condition = None if condition is None else _bound(condition, classes, used)
            return replace(node, args=each(args), filter=condition, python=classes.get(name))
    return node


__all__ = ["aggregate", "expression"]
