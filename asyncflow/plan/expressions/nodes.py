"""Expressions as frozen trees: what a condition or a computed column says, apart from any text or engine.

Operators are calls too, by these names: ``add sub mul div floordiv mod neg``, ``eq ne lt le gt ge``, ``and or not``,
``is_null``, ``is_distinct``, ``in`` (value, then the candidates), ``like`` (value, pattern), ``concat``; the others are in ``functions``.
``BETWEEN`` is written out as two comparisons, ``IS NOT NULL`` as not(is_null), ``<>`` as ``ne``, ``ILIKE`` as ``LIKE`` of small letters.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

from msgspec import Struct

from asyncflow.model.schema import DataType


class Literal(Struct, frozen=True):
    """A constant; ``type`` None is the untyped NULL.  A timestamp's value is int ns; an INTERVAL is ``Interval``."""

    value: bool | int | float | str | None
    type: DataType | None


class Interval(Struct, frozen=True):
    """A length of time in ns; may be added to or taken from a timestamp."""

    ns: int


class ColumnRef(Struct, frozen=True):
    name: str


class Call(Struct, frozen=True):
    function: str
    args: tuple[Expression, ...]


class Case(Struct, frozen=True):
    """``CASE WHEN c THEN v ... ELSE d END``; the form with an operand is written out as comparisons."""

    whens: tuple[tuple[Expression, Expression], ...]
    default: Expression


class Cast(Struct, frozen=True):
    arg: Expression
    type: DataType


class Aggregate(Struct, frozen=True):
    """``function(args) FILTER (WHERE filter)``; ``count`` with no args is ``count(*)``; ``distinct`` only with count.

    ``python``: the class, of one written in Python and not found by its name.
    """

    function: str
    args: tuple[Expression, ...] = ()
    distinct: bool = False
    filter: Expression | None = None
    python: type | None = None


Expression: TypeAlias = Literal | Interval | ColumnRef | Call | Case | Cast | Aggregate


def children(node: Expression) -> tuple[Expression, ...]:
    match node:
        case Call(args=args):
            return args
        case Case(whens=whens, default=default):
            return (*(part for when in whens for part in when), default)
        case Cast(arg=arg):
            return (arg,)
        case Aggregate(args=args, filter=filter_):
            return args if filter_ is None else (*args, filter_)
        case _:
            return ()


def walk(node: Expression) -> Iterator[Expression]:
    """The node and everything below it, parents first."""
    yield node
    for child in children(node):
        yield from walk(child)


def columns_of(node: Expression) -> tuple[str, ...]:
    """The names of the columns it reads, each once, in order of first use."""
    return tuple(dict.fromkeys(part.name for part in walk(node) if isinstance(part, ColumnRef)))
