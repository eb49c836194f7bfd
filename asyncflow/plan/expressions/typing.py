"""Types of expressions: all problems of an expression, and the resolved form that an engine runs.

Doors and validation call ``check_expression`` for the problems.  An engine calls ``resolve_expression`` for a tree of :class:`Typed`
nodes: each names the function that its argument types chose, and every cast is a node.

Implicit casts: int64 to float64; a text constant to a timestamp beside a timestamp; NULL to any type; any type to text in ``||``.
"""

from __future__ import annotations

from collections.abc import Sequence

from asyncflow.model.instants import EXTRACT_FIELDS, parse_timestamp
from asyncflow.model.schema import DataType, Schema
from asyncflow.plan.expressions.aggregates import (
    aggregate_names,
    find_aggregate,
    is_aggregate,
    python_aggregate,
)
from asyncflow.plan.expressions.constant_arguments import CONSTANT_CHECKS, constant_of
from asyncflow.plan.expressions.expression_print import name_text
from asyncflow.plan.expressions.functions import (
    ALIASES,
    SCALARS,
    Function,
    Signature,
    find_function,
)
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
from asyncflow.plan.expressions.problems import ExpressionError, ExpressionProblem
from asyncflow.plan.expressions.typed import (
    INTERVAL,
    NULL,
    AggregateCall,
    Found,
    Kind,
    Typed,
    as_condition,
    bind,
    common_kind,
    data_type,
    node_of,
    result_kind,
    to_one_type,
    word_of,
)
from asyncflow.plan.names import nearest
from asyncflow.printable import hidden_name

BOOL, INT64, FLOAT64 = DataType.BOOL, DataType.INT64, DataType.FLOAT64
STRING, TIMESTAMP = DataType.STRING, DataType.TIMESTAMP


def check_expression(
    node: Expression, schema: Schema | None, *, aggregates: bool = False
) -> tuple[DataType | None, list[ExpressionProblem]]:
    """The type of an expression over a table's columns, and all its problems.  The type is None where it is unknown.

    ``schema`` None: the columns are not known yet, so nothing that depends on a column is checked.  ``aggregates``: aggregates are allowed,
    and columns only inside an aggregate.
    """
    typed, problems = _check(node, schema, aggregates)
    return (None if typed is None else typed.type), problems


def resolve_expression(node: Expression, schema: Schema, *, aggregates: bool = False) -> Typed:
    """The resolved form of an expression over ``schema``.  Raises :class:`ExpressionError` with all problems."""
    typed, problems = _check(node, schema, aggregates)
    if problems or typed is None:
        first = problems[0]
        raise ExpressionError(first.message, first.hint, problems)
    return typed


def _check(
    node: Expression, schema: Schema | None, aggregates: bool
) -> tuple[Typed | None, list[ExpressionProblem]]:
    typing = _Typing(schema, aggregates)
    try:
        found = typing.visit(node)
    except RecursionError:
        return None, [
            ExpressionProblem("the expression is nested too deeply", "compute parts of it in a derive stage")
        ]
    problems = list(dict.fromkeys(typing.problems))
    if problems or found is None:
        return None, problems
    if found.kind == INTERVAL:
        return None, [ExpressionProblem("an interval alone is not a value", "add it to a timestamp")]
    if found.kind == NULL:
        return None, [
            ExpressionProblem("the type of NULL is not known here", "write CAST(NULL AS int64), for example")
        ]
    return typing.cast(found, data_type(found.kind)), []


class _Typing:
    """One walk over one expression.  A node with a problem gives None; the nodes above it report no further problem."""

    def __init__(self, schema: Schema | None, aggregates: bool) -> None:
        self.schema = schema
        self.aggregates = aggregates
        self.inside_aggregate = False
        self.columns_stand = not aggregates
        self.problems: list[ExpressionProblem] = []

    def problem(self, message: str, hint: str = "") -> None:
        self.problems.append(ExpressionProblem(message, hint))

    def visit(self, node: Expression) -> Found | None:
        match node:
            case Literal():
                return self.literal(node)
            case Interval(ns=ns):
                if not -(2**63) <= ns < 2**63:
                    self.problem("the interval is longer than 292 years, the longest there is")
                    return None
                return Found(INTERVAL, Typed("literal", (), INT64, ns))
            case ColumnRef(name=name):
                return self.column(name)
            case Call():
                return self.call(node)
            case Case():
                return self.case(node)
            case Cast(arg=arg, type=type_):
                return self.explicit_cast(arg, type_)
            case Aggregate():
                return self.aggregate(node)

    # -- leaves ------------------------------------------------------------------------------------------------------

    def literal(self, node: Literal) -> Found | None:
        if node.type is None or node.value is None:
            return (
                Found(NULL, None) if node.type is None else Found(node.type, Typed("literal", (), node.type))
            )
        if node.type in (INT64, TIMESTAMP) and not -(2**63) <= int(node.value) < 2**63:
            self.problem(
                f"{node.value} is beyond the range of {node.type.value}", "write it as a float: 1e20"
            )
            return None
        text = node.value if isinstance(node.value, str) else None
        return Found(node.type, Typed("literal", (), node.type, node.value), text)

    def column(self, name: str) -> Found | None:
        if self.schema is not None and name not in self.schema:
            self.problem(f"there is no column {hidden_name(name)!r}", nearest(name, self.schema.names))
            return None
        if not self.columns_stand:
            self.problem(
                f"column {name!r} stands outside an aggregate",
                f"write any_value({name_text(name)}), or add it to by",
            )
            return None
        if self.schema is None:
            return None
        type_ = self.schema[name].type
        return Found(type_, Typed("column", (), type_, name))

    # -- calls -------------------------------------------------------------------------------------------------------

    def call(self, node: Call) -> Found | None:
        name = ALIASES.get(node.function, node.function)
        function = find_function(name)
        if function is None and is_aggregate(name):
            return self.aggregate(Aggregate(name, node.args))
        columns_stand, self.columns_stand = self.columns_stand, self.columns_stand or function is None
        parts = [self.visit(arg) for arg in node.args]
        self.columns_stand = columns_stand
        if function is None:
            self.problem(
                f"there is no function {hidden_name(name)!r}", nearest(name, (*SCALARS, *aggregate_names()))
            )
            return None
        found = [part for part in parts if part is not None]
        if len(found) < len(parts):
            return None
        if name == "sub" and [part.kind for part in found] == [TIMESTAMP, TIMESTAMP]:
            self.problem("timestamps cannot be subtracted", "epoch_ms(a) - epoch_ms(b) gives milliseconds")
            return None
        match = self.match(function, found)
        if match is None:
            return None
        signature, kinds = match
        result = result_kind(signature, kinds)
        if name in ("add", "sub") and result == TIMESTAMP:
            return self.shift(name, found)
        if name == "concat":
            kinds = tuple(STRING for _ in kinds)
        args = tuple(
            self.cast(part, data_type(INT64 if kind == NULL else kind))
            for part, kind in zip(found, kinds, strict=True)
        )
        if name == "nullif":
            equal = Typed("eq", args, BOOL)
            kept = found[0]
            if kept.kind == NULL:
                return kept
            type_ = data_type(kept.kind)
            null = Typed("literal", (), type_)
            return Found(type_, Typed("case", (equal, null, self.cast(kept, type_)), type_))
        if result == NULL:
            return Found(NULL, None)
        check = CONSTANT_CHECKS.get(name)
        if check is not None:
            problem = check(args)
            if problem is not None:
                self.problem(*problem)
                return None
        type_ = data_type(result)
        if name == "extract" and EXTRACT_FIELDS[args[0].value.lower()] == "epoch":
            type_ = FLOAT64
        operation = _BY_TYPE.get((name, args[0].type), name)
        return Found(type_, Typed(operation, args, type_))

    def shift(self, name: str, found: Sequence[Found]) -> Found:
        """A timestamp plus or minus a constant interval."""
        instant, interval = found if found[0].kind != INTERVAL else (found[1], found[0])
        length = interval.node
        ns = None if length is None else (-length.value if name == "sub" else length.value)
        args = (self.cast(instant, TIMESTAMP), Typed("literal", (), INT64, ns))
        return Found(TIMESTAMP, Typed("shift", args, TIMESTAMP))

    def case(self, node: Case) -> Found | None:
        conditions = [self.visit(when) for when, _ in node.whens]
        values = [self.visit(then) for _, then in node.whens]
        values.append(self.visit(node.default))
        for condition in conditions:
            if condition is not None and condition.kind not in (BOOL, NULL):
                self.problem(
                    f"WHEN takes a bool, not {word_of(condition.kind)}", as_condition(condition.kind)
                )
                return None
        whens = [part for part in conditions if part is not None]
        thens = [part for part in values if part is not None]
        if len(whens) < len(conditions) or len(thens) < len(values):
            return None
        common = common_kind(thens)
        if common is None:
            kinds = ", ".join(dict.fromkeys(word_of(part.kind) for part in thens))
            hint = to_one_type(part.kind for part in thens)
            self.problem(f"the branches of CASE have no common type: {kinds}", hint)
            return None
        if common == NULL:
            return Found(NULL, None)
        type_ = data_type(common)
        args: list[Typed] = []
        for when, then in zip(whens, thens[:-1], strict=True):
            args += (self.cast(when, BOOL), self.cast(then, type_))
        return Found(type_, Typed("case", (*args, self.cast(thens[-1], type_)), type_))

    def explicit_cast(self, arg: Expression, type_: DataType) -> Found | None:
        found = self.visit(arg)
        if found is None:
            return None
        if found.kind in (NULL, type_):
            return Found(type_, self.cast(found, type_))
        if found.kind == INTERVAL or (TIMESTAMP in (found.kind, type_) and STRING not in (found.kind, type_)):
            hint = _IN_PLACE_OF_CAST.get((found.kind, type_), "")
            self.problem(f"cannot CAST {word_of(found.kind)} to {type_.value}", hint)
            return None
        if found.text is not None and type_ == TIMESTAMP:
            return self.instant(found.text)
        return Found(type_, Typed("cast", (node_of(found),), type_))

    def instant(self, text: str) -> Found | None:
        try:
            return Found(TIMESTAMP, Typed("literal", (), TIMESTAMP, parse_timestamp(text)))
        except ValueError as error:
            self.problem(str(error))
            return None

    # -- aggregates --------------------------------------------------------------------------------------------------

    def aggregate(self, node: Aggregate) -> Found | None:
        name = node.function if node.python else ALIASES.get(node.function, node.function)
        try:
            function = python_aggregate(name, node.python) if node.python else find_aggregate(name)
        except ValueError as error:
            self.problem(str(error))
            return None
        if function is None:
            self.problem(f"there is no aggregate {name!r}", nearest(name, aggregate_names()))
            return None
        if not self.aggregates:
            self.problem(f"the aggregate {name} cannot stand here", "aggregates belong to a window stage")
            return None
        if self.inside_aggregate:
            self.problem(
                f"the aggregate {name} stands inside another aggregate",
                "compute the inner one in a window stage of its own",
            )
            return None
        if node.distinct and (function.python or name not in ("count", "min", "max")):
            self.problem(f"DISTINCT is not supported in {name}", "only count(DISTINCT x)")
            return None
        if node.distinct and len(node.args) != 1:
            self.problem("count(DISTINCT ...) takes one argument", "join them: count(DISTINCT a || ',' || b)")
            return None
        self.inside_aggregate = self.columns_stand = True
        parts = [self.visit(arg) for arg in node.args]
        condition = None if node.filter is None else self.visit(node.filter)
        self.inside_aggregate = self.columns_stand = False
        if condition is not None and condition.kind not in (BOOL, NULL):
            self.problem(f"FILTER takes a bool, not {word_of(condition.kind)}", as_condition(condition.kind))
            return None
        found = [part for part in parts if part is not None]
        if len(found) < len(parts) or (condition is None and node.filter is not None):
            return None
        match = self.match(function, found)
        if match is None:
            return None
        signature, kinds = match
        kinds = tuple(INT64 if kind == NULL else kind for kind in kinds)
        args = tuple(self.cast(part, data_type(kind)) for part, kind in zip(found, kinds, strict=True))
        constant = None if function.python else constant_of(name, args)
        if isinstance(constant, tuple):
            self.problem(*constant)
            return None
        if constant is not None:
            name, args = "quantile" if name == "median" else name, args[:1]
        if condition is not None:
            args = (*args, self.cast(condition, BOOL))
        type_ = data_type(result_kind(signature, kinds))
        distinct = node.distinct and name == "count"  # the least of the different values is the least
        call = AggregateCall(name, distinct, condition is not None, constant, function.python)
        return Found(type_, Typed("aggregate", args, type_, call))

    # -- matching and casting ----------------------------------------------------------------------------------------

    def match(self, function: Function, found: Sequence[Found]) -> tuple[Signature, tuple[Kind, ...]] | None:
        """The signature that fits with the fewest casts, and each argument's kind under it; None, after noting a problem, if none fits."""
        best: tuple[int, Signature, tuple[Kind, ...]] | None = None
        fits_in_number = False
        for signature in function.signatures:
            words = signature.expand(len(found))
            if words is None:
                continue
            fits_in_number = True
            kinds = bind(words, found)
            if kinds is None:
                continue
            casts = sum(part.kind != kind for part, kind in zip(found, kinds, strict=True))
            if best is None or casts < best[0]:
                best = (casts, signature, kinds)
        shown = function.operator or function.name
        if best is None:
            given = ", ".join(word_of(part.kind) for part in found)
            usage = "; ".join(function.usage.splitlines())
            if not fits_in_number:
                many = "argument" if len(found) == 1 else "arguments"
                self.problem(f"{shown} does not take {len(found)} {many}", usage)
            elif function.name in _COMPARISONS:
                self.problem(
                    f"cannot compare {' with '.join(dict.fromkeys(given.split(', ')))} ({shown})",
                    to_one_type(part.kind for part in found),
                )
            else:
                self.problem(f"{shown} does not take ({given})", usage)
            return None
        _, signature, kinds = best
        for part, kind in zip(found, kinds, strict=True):
            if kind == TIMESTAMP and part.text is not None and self.instant(part.text) is None:
                return None
        return signature, kinds

    def cast(self, found: Found, type_: DataType) -> Typed:
        """The part as ``type_``; the caller has checked that the cast is allowed."""
        if found.node is None:
            return Typed("literal", (), type_)
        if found.kind == type_:
            return found.node
        if type_ == TIMESTAMP and found.text is not None:
            return Typed("literal", (), TIMESTAMP, parse_timestamp(found.text))
        return Typed("cast", (found.node,), type_)


_BY_TYPE = {("epoch_ms", TIMESTAMP): "to_epoch_ms", ("epoch_ms", INT64): "from_epoch_ms"}
"""Functions with two operations, chosen by the type of the argument."""

_COMPARISONS = ("eq", "ne", "lt", "le", "gt", "ge", "in", "is_distinct")

_IN_PLACE_OF_CAST: dict[tuple[Kind, DataType], str] = {
    (TIMESTAMP, INT64): "epoch_ms(x) gives milliseconds",
    (TIMESTAMP, FLOAT64): "epoch_ms(x) gives milliseconds",
    (INT64, TIMESTAMP): "epoch_ms(x) reads milliseconds",
    (FLOAT64, TIMESTAMP): "epoch_ms(CAST(x AS int64)) reads milliseconds",
}
