"""Expressions as frozen trees: conditions and computed columns of a plan, independent of any text and any engine.

Doors build the nodes, ``typing`` checks and resolves them.  An operator is a :class:`Call` by one of these names: ``add sub mul div
floordiv mod neg``, ``eq ne lt le gt ge``, ``and or not``, ``is_null``, ``is_distinct``, ``in`` (value, then the candidates),
``like`` (value, pattern), ``concat``.  All other names are functions (``functions``).  Doors write some forms out: ``BETWEEN`` is
two comparisons, ``IS NOT NULL`` is not(is_null), ``<>`` is ``ne``, and ``ILIKE`` is ``LIKE`` of lower-case text.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

from msgspec import Struct

from asyncflow.model.schema import DataType


class Literal(Struct, frozen=True):
    """A constant.  ``type`` None: the untyped NULL.  The value of a timestamp is int ns."""

    value: bool | int | float | str | None
    type: DataType | None


class Interval(Struct, frozen=True):
    """A length of time in ns, to add to a timestamp or to subtract from a timestamp."""

    ns: int


class ColumnRef(Struct, frozen=True):
    """The value of a column of the input."""

    name: str


class Call(Struct, frozen=True):
    """A function or an operator over its arguments."""

    function: str
    args: tuple[Expression, ...]


class Case(Struct, frozen=True):
    """``CASE WHEN c THEN v ... ELSE d END``; the form with an operand is written out as comparisons."""

    whens: tuple[tuple[Expression, Expression], ...]
    default: Expression


class Cast(Struct, frozen=True):
    """``CAST(arg AS type)``."""

    arg: Expression
    type: DataType


class Aggregate(Struct, frozen=True):
    """``function(args) FILTER (WHERE filter)``.  ``count`` without arguments is ``count(*)``.  ``distinct``: only of count, min and max.

    ``python``: the class of an aggregate that was passed in as a class; else the name finds the aggregate.
    """

    function: str
    args: tuple[Expression, ...] = ()
    distinct: bool = False
    filter: Expression | None = None
    python: type | None = None


Expression: TypeAlias = Literal | Interval | ColumnRef | Call | Case | Cast | Aggregate


def children(node: Expression) -> tuple[Expression, ...]:
    """The nodes right below, in the order written."""
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
    """The names of the columns that the expression reads, each once, in order of first use."""
    return tuple(dict.fromkeys(part.name for part in walk(node) if isinstance(part, ColumnRef)))
