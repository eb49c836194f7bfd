"""Translates sqlglot's tree of an expression to the plan's nodes, node by node.

Only known kinds of nodes are translated, so nothing of SQL beyond the language of expressions gets through.  Functions are read as plain
names; ``plan.expressions.functions`` says which exist.  Nothing is evaluated here.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from itertools import pairwise
from math import inf
from typing import Any

from asyncflow.model.instants import parse_timestamp
from asyncflow.model.schema import DataType
from asyncflow.plan.expressions.functions import AGGREGATES, ALIASES, OPERATORS, SCALARS
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
from asyncflow.plan.expressions.problems import ExpressionError
from asyncflow.plan.names import nearest

MAX_DEPTH = 100
MAX_SHOWN = 80

_TYPES = {
    "BOOL": DataType.BOOL, "BOOLEAN": DataType.BOOL,
    "INT64": DataType.INT64, "BIGINT": DataType.INT64, "INTEGER": DataType.INT64, "INT": DataType.INT64, "LONG": DataType.INT64,
    "FLOAT64": DataType.FLOAT64, "DOUBLE": DataType.FLOAT64,
    "STRING": DataType.STRING, "VARCHAR": DataType.STRING, "TEXT": DataType.STRING,
    "TIMESTAMP": DataType.TIMESTAMP, "TIMESTAMPNTZ": DataType.TIMESTAMP,
}  # fmt: skip

_UNITS_NS = {
    name: size_ns
    for names, size_ns in (
        ("NS NANOSECOND NANOSECONDS", 1),
        ("US USEC USECS MICROSECOND MICROSECONDS", 1_000),
        ("MS MSEC MSECS MILLISECOND MILLISECONDS", 1_000_000),
        ("S SEC SECS SECOND SECONDS", 1_000_000_000),
        ("M MIN MINS MINUTE MINUTES", 60_000_000_000),
        ("H HR HRS HOUR HOURS", 3_600_000_000_000),
        ("D DAY DAYS", 86_400_000_000_000),
        ("W WEEK WEEKS", 604_800_000_000_000),
    )
    for name in names.split()
}

_BINARY = {
    "Add": "add", "Sub": "sub", "Mul": "mul", "Div": "div", "IntDiv": "floordiv", "Mod": "mod",
    "EQ": "eq", "NEQ": "ne", "LT": "lt", "LTE": "le", "GT": "gt", "GTE": "ge",
    "And": "and", "Or": "or", "DPipe": "concat", "NullSafeNEQ": "is_distinct",
}  # fmt: skip
_CHAINS = ("and", "or", "concat")
"""Chains of these become one call with many arguments, so that a long one is not a deep one."""

_WORDS = {
    "SimilarTo": "SIMILAR TO", "RegexpLike": "~", "RegexpFullMatch": "~", "Pow": "^", "Select": "SELECT", "Subquery": "a subquery",
    "Window": "OVER", "Star": "*", "Placeholder": "a parameter", "Parameter": "a parameter", "Order": "ORDER BY",
    "Bracket": "x[...]", "Array": "a list", "Struct": "a struct", "Lambda": "a lambda", "JSONExtract": "->",
    "Exists": "EXISTS", "JSONExtractScalar": "->>", "AtTimeZone": "AT TIME ZONE", "Tuple": "a list", "ByteString": "E'...'",
    "BitwiseAnd": "&", "BitwiseOr": "|", "BitwiseXor": "xor", "BitwiseNot": "~", "BitwiseLeftShift": "<<", "BitwiseRightShift": ">>",
    "Collate": "COLLATE", "Distinct": "DISTINCT",
}  # fmt: skip
_HINTS = {
    "Pow": "power(x, y)", "RegexpLike": "regexp_matches(x, '^(pattern)$')",
    "RegexpFullMatch": "regexp_matches(x, '^(pattern)$')",
}  # fmt: skip


class TreeReader:
    """Takes sqlglot's tree over, node by node.  ``room``: how many levels may still follow."""

    def read(self, node: Any, room: int) -> Expression:
        if room <= 0:
            raise ExpressionError(f"the expression is nested deeper than {MAX_DEPTH} levels")
        kind = type(node).__name__
        if kind in _BINARY:
            return self.binary(node, room)
        reader: Callable[[Any, int], Expression] | None = getattr(self, f"read_{kind.lower()}", None)
        if reader is None:
            raise _unsupported(node)
        return reader(node, room)

    def binary(self, node: Any, room: int) -> Expression:
        """A run of operators that lean left is read in a loop: its depth in the text may be large, and its first part is deepest."""
        run = []
        while type(node).__name__ in _BINARY:
            run.append(node)
            node = node.this
        names = [_BINARY[type(part).__name__] for part in reversed(run)]
        levels = 1 + sum(left != right or right not in _CHAINS for left, right in pairwise(names))
        if levels >= room:
            raise ExpressionError(
                f"the expression is nested deeper than {MAX_DEPTH} levels", "use parentheses to balance it"
            )
        result = self.read(node, room - levels)
        for name, part in zip(names, reversed(run), strict=True):
            right = self.read(part.expression, room - 1)
            result = Call(name, (*_links(name, result), *_links(name, right)))
        return result

    # -- leaves ------------------------------------------------------------------------------------------------------

    def read_literal(self, node: Any, room: int) -> Expression:
        if node.is_string:
            return Literal(str(node.this), DataType.STRING)
        return _number(str(node.this))

    def read_boolean(self, node: Any, room: int) -> Expression:
        return Literal(bool(node.this), DataType.BOOL)

    def read_null(self, node: Any, room: int) -> Expression:
        return Literal(None, None)

    def read_column(self, node: Any, room: int) -> Expression:
        parts = [node.args.get(key) for key in ("catalog", "db", "table", "this")]
        return ColumnRef(".".join(_name(part) for part in parts if part is not None))

    def read_dot(self, node: Any, room: int) -> Expression:
        left = self.read(node.this, room - 1) if type(node.this).__name__ in ("Dot", "Column") else None
        if not isinstance(left, ColumnRef):
            raise _unsupported(node.expression)
        return ColumnRef(f"{left.name}.{_name(node.expression)}")

    def read_interval(self, node: Any, room: int) -> Expression:
        unit = str(node.args["unit"].name).upper() if node.args.get("unit") is not None else ""
        amount = node.this
        negative = type(amount).__name__ == "Neg"
        amount = amount.this if negative else amount
        if unit not in _UNITS_NS or type(amount).__name__ != "Literal":
            raise ExpressionError(
                "cannot read the interval", "write it like INTERVAL '5' SECOND (ns us ms s m h d)"
            )
        try:
            ns = Decimal(str(amount.this)) * _UNITS_NS[unit]
            if not abs(ns) < 2**63:
                raise ExpressionError(f"the interval {amount.this} {unit} is too long")
        except InvalidOperation:
            raise ExpressionError(
                f"cannot read the interval {str(amount.this)!r}", "write it like INTERVAL '5' SECOND"
            ) from None
        return Interval(-int(ns) if negative else int(ns))

    # -- operators ---------------------------------------------------------------------------------------------------

    def read_paren(self, node: Any, room: int) -> Expression:
        while type(node).__name__ == "Paren":
            node = node.this
        return self.read(node, room)

    def read_neg(self, node: Any, room: int) -> Expression:
        if (
            type(node.this).__name__ == "Literal"
            and not node.this.is_string
            and _is_whole(str(node.this.this))
        ):
            return _number("-" + str(node.this.this))
        inner = self.read(node.this, room - 1)
        return Interval(-inner.ns) if isinstance(inner, Interval) else Call("neg", (inner,))

    def read_not(self, node: Any, room: int) -> Expression:
        return Call("not", (self.read(node.this, room - 1),))

    def read_nullsafeeq(self, node: Any, room: int) -> Expression:
        sides = self.read(node.this, room - 2), self.read(node.expression, room - 2)
        return Call("not", (Call("is_distinct", sides),))

    def read_is(self, node: Any, room: int) -> Expression:
        left, right = self.read(node.this, room - 2), self.read(node.expression, room - 1)
        if right == Literal(None, None):
            return Call("is_null", (left,))
        if isinstance(right, Literal) and right.type is DataType.BOOL:
            test = left if right.value else Call("not", (left,))
            return Call("coalesce", (test, Literal(False, DataType.BOOL)))
        raise _unsupported(node)

    def read_in(self, node: Any, room: int) -> Expression:
        candidates = node.expressions
        if (
            node.args.get("query") is not None
            or node.args.get("unnest") is not None
            or node.args.get("field") is not None
        ):
            raise ExpressionError("IN takes a list of values in parentheses, not a query")
        if not candidates:
            raise ExpressionError("IN () needs at least one value")
        return Call(
            "in", (self.read(node.this, room - 1), *(self.read(part, room - 1) for part in candidates))
        )

    def read_between(self, node: Any, room: int) -> Expression:
        if node.args.get("symmetric"):
            raise ExpressionError("BETWEEN SYMMETRIC is not supported in an expression")
        value = self.read(node.this, room - 2)
        low, high = self.read(node.args["low"], room - 2), self.read(node.args["high"], room - 2)
        return Call("and", (Call("ge", (value, low)), Call("le", (value, high))))

    def read_like(self, node: Any, room: int) -> Expression:
        call = Call("like", (self.read(node.this, room - 2), self.read(node.expression, room - 2)))
        return Call("not", (call,)) if node.args.get("negate") else call

    def read_ilike(self, node: Any, room: int) -> Expression:
        """As DuckDB has it: LIKE of both in small letters."""
        sides = self.read(node.this, room - 3), self.read(node.expression, room - 3)
        call = Call("like", tuple(Call("lower", (side,)) for side in sides))
        return Call("not", (call,)) if node.args.get("negate") else call

    def read_escape(self, node: Any, room: int) -> Expression:
        inner = self.read(node.this, room)
        negated = inner.args[0] if isinstance(inner, Call) and inner.function == "not" else inner
        if not isinstance(negated, Call) or negated.function != "like":
            raise _unsupported(node)
        call = Call("like", (*negated.args, self.read(node.expression, room - 2)))
        return call if negated is inner else Call("not", (call,))

    def read_case(self, node: Any, room: int) -> Expression:
        operand = None if node.this is None else self.read(node.this, room - 2)
        whens = []
        for branch in node.args["ifs"]:
            condition = self.read(branch.this, room - 2)
            if operand is not None:
                condition = Call("eq", (operand, condition))
            whens.append((condition, self.read(branch.args["true"], room - 1)))
        default = node.args.get("default")
        return Case(tuple(whens), Literal(None, None) if default is None else self.read(default, room - 1))

    def read_cast(self, node: Any, room: int) -> Expression:
        if any(node.args.get(key) for key in ("format", "action", "default")):
            raise ExpressionError("CAST takes a type and nothing else", "CAST(x AS int64)")
        type_ = _type(node.to)
        arg = self.read(node.this, room - 1)
        if type_ is DataType.TIMESTAMP and isinstance(arg, Literal) and isinstance(arg.value, str):
            try:
                return Literal(parse_timestamp(arg.value), type_)
            except ValueError as error:
                raise ExpressionError(str(error)) from None
        return Cast(arg, type_)

    def read_trycast(self, node: Any, room: int) -> Expression:
        """CAST gives null where a value does not fit; a constant that does not fit is null here and a mistake there."""
        try:
            return self.read_cast(node, room)
        except ExpressionError:
            if _type(node.to) is DataType.TIMESTAMP and getattr(node.this, "is_string", False):
                return Literal(None, DataType.TIMESTAMP)
            raise

    def read_extract(self, node: Any, room: int) -> Expression:
        field = Literal(str(node.this.name), DataType.STRING)
        return Call("extract", (field, self.read(node.expression, room - 1)))

    # -- calls -------------------------------------------------------------------------------------------------------

    def read_anonymous(self, node: Any, room: int) -> Expression:
        written = node.this if isinstance(node.this, str) else node.this.name
        name = ALIASES.get(written.lower(), written.lower())
        args = node.expressions
        if name in AGGREGATES:
            return self.aggregate(name, args, room)
        if name == "if" and len(args) in (2, 3):
            default = self.read(args[2], room - 1) if len(args) == 3 else Literal(None, None)
            return Case(((self.read(args[0], room - 1), self.read(args[1], room - 1)),), default)
        if name in OPERATORS and name not in SCALARS:
            raise ExpressionError(f"there is no function {written!r}", f"write {OPERATORS[name].operator}")
        if len(args) == 1 and type(args[0]).__name__ == "Star":
            known = name in SCALARS
            said = f"{written}(*) is not a function" if known else f"there is no function {written!r}"
            raise ExpressionError(said, "" if known else nearest(name, ("count",)))
        return Call(name, tuple(self.read(arg, room - 1) for arg in args))

    def aggregate(self, name: str, args: list[Any], room: int) -> Expression:
        distinct = len(args) == 1 and type(args[0]).__name__ == "Distinct"
        if distinct:
            if args[0].args.get("on") is not None:
                raise ExpressionError("DISTINCT ON is not supported in an expression")
            args = args[0].expressions
        if len(args) == 1 and type(args[0]).__name__ == "Star":
            if name != "count" or distinct:
                raise ExpressionError(f"{name}(*) is not an aggregate", "count(*)")
            args = []
        return Aggregate(name, tuple(self.read(arg, room - 1) for arg in args), distinct)

    def read_filter(self, node: Any, room: int) -> Expression:
        inner = self.read(node.this, room)
        if (
            isinstance(inner, Call)
            and type(node.this).__name__ == "Anonymous"
            and inner.function not in SCALARS
        ):
            inner = Aggregate(inner.function, inner.args)  # one of someone else's, or none: checking knows
        if not isinstance(inner, Aggregate) or inner.filter is not None:
            raise ExpressionError("FILTER (WHERE ...) belongs to one aggregate")
        return Aggregate(
            inner.function, inner.args, inner.distinct, self.read(node.expression.this, room - 1)
        )


def shown(text: str) -> str:
    """The text in quotes, cut short where it is long."""
    return repr(text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 3] + "...")


def _links(name: str, expression: Expression) -> tuple[Expression, ...]:
    """What a chain of ``name`` gets of a part of it: the part's own links where it is such a chain itself."""
    if name in _CHAINS and isinstance(expression, Call) and expression.function == name:
        return expression.args
    return (expression,)


def _unsupported(node: Any) -> ExpressionError:
    kind = type(node).__name__
    word = _WORDS.get(kind) or getattr(node, "key", kind).upper()
    return ExpressionError(f"{word} is not supported in an expression", _HINTS.get(kind, ""))


def _name(node: Any) -> str:
    """The text of one part of a column's name."""
    if type(node).__name__ not in ("Identifier", "Var", "Literal"):
        raise _unsupported(node)
    return str(node.this)


def _is_whole(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _number(text: str) -> Literal:
    if _is_whole(text.removeprefix("-")):
        value = int(text) if len(text) <= 30 else 2**64
        if not -(2**63) <= value < 2**63:
            raise ExpressionError(f"{shown(text)} is beyond the range of int64", "write it as a float: 1e20")
        return Literal(value, DataType.INT64)
    try:
        number = float(text)
    except ValueError:
        raise ExpressionError(f"not a number: {shown(text)}") from None
    if number in (inf, -inf):
        raise ExpressionError(f"{shown(text)} is beyond the range of float64", "CAST('inf' AS float64)")
    return Literal(number, DataType.FLOAT64)


def _type(node: Any) -> DataType:
    this = node.this
    name = str(getattr(this, "name", this)).upper()
    if name == "USERDEFINED":
        kind = node.args.get("kind")
        name = str(getattr(kind, "name", kind)).upper()
    if name not in _TYPES or node.expressions:
        named = name.lower() if name and not node.expressions else str(node.sql("duckdb")).lower()
        hint = (
            "write double"
            if name in ("FLOAT", "REAL", "DECIMAL")
            else "write timestamp"
            if name == "DATE" or name.startswith("TIMESTAMP")
            else nearest(named, [t.value for t in DataType])
        )
        raise ExpressionError(f"there is no type {named!r}", hint)
    return _TYPES[name]
