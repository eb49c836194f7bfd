"""Which aggregates there are besides our own: Python classes, passed in or registered by other distributions.

A distribution registers one through the entry point group ``asyncflow.aggregates``.  Nothing is looked up until a name is met that is not
ours, and a class is imported only where its own name is used, or all are listed.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

from asyncflow.model.aggregate import declared, qualified
from asyncflow.model.components import registered
from asyncflow.plan.expressions.functions import AGGREGATES, Function, find_function
from asyncflow.plan.expressions.nodes import Aggregate, Call, Expression, walk

GROUP = "asyncflow.aggregates"


def is_aggregate(name: str) -> bool:
    return name in AGGREGATES or name in registered(GROUP)


def aggregate_names() -> tuple[str, ...]:
    """Our own, then those that are registered."""
    return tuple(dict.fromkeys((*AGGREGATES, *registered(GROUP))))


@cache
def python_aggregate(name: str, cls: type) -> Function:
    """The class as an aggregate called ``name``; ValueError where it is none."""
    says = declared(cls)
    return Function(name, (f"{', '.join(says.parameters)} -> {says.returns}",), says.doc, python=cls)


def find_aggregate(name: str) -> Function | None:
    """The aggregate of that name, None where there is none; ValueError for a registered one that cannot be used."""
    if name in AGGREGATES:
        return AGGREGATES[name]
    point = registered(GROUP).get(name)
    if point is None:
        return None
    try:
        cls = point.load()
    except Exception as error:  # whatever a module of someone else's raises
        raise ValueError(
            f"the aggregate {name!r} cannot be imported ({point.value}): {type(error).__name__}: {error}"
        ) from error
    return python_aggregate(name, cls)


def python_classes(expressions: Iterable[Expression]) -> dict[str, str]:
    """Where the Python aggregates in these expressions are, by the names that they have there."""
    found = {}
    for node in (part for expression in expressions for part in walk(expression)):
        if isinstance(node, Aggregate) and node.python is not None:
            found[node.function] = qualified(node.python)
        elif isinstance(node, Aggregate | Call) and not (
            node.function in AGGREGATES or find_function(node.function)
        ):
            point = registered(GROUP).get(node.function)
            found |= {} if point is None else {node.function: point.value.replace(":", ".")}
    return found
