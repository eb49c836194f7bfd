"""Expressions to array operations: the plan's trees become closures over columns, once per plan.

A resolved tree (``plan.expressions.typing``) is compiled bottom up.  Constants stay columns of one row and are spread only where a
whole column is asked for; a call of constants is computed at once; a part that occurs several times is computed once per batch.
All branches of a CASE are computed over all rows, but a value lost in a branch that a row does not take is not counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeAlias

import numpy as np

from asyncflow.model.batch import Batch
from asyncflow.model.columns import BoolArray, Column, FixedColumn, column_from_values
from asyncflow.model.schema import DataType, Schema
from asyncflow.operators.functions.arrays import choose, expand, rows_of
from asyncflow.operators.functions.logic import is_true
from asyncflow.plan.expressions.nodes import Expression
from asyncflow.plan.expressions.typed import Typed
from asyncflow.plan.expressions.typing import resolve_expression


class Frame:
    """One batch's evaluation: what was computed so far, and which rows count where values are lost (None: all)."""

    __slots__ = ("active", "batch", "losses", "memo")

    def __init__(self, batch: Batch, losses: dict[str, int]) -> None:
        self.batch = batch
        self.losses = losses
        self.memo: dict[Typed, Column] = {}
        self.active: BoolArray | None = None

    def within(self, active: BoolArray) -> Frame:
        """The same batch, where only rows that are ``active`` here and there count."""
        frame = Frame(self.batch, self.losses)
        frame.memo = dict(self.memo)
        frame.active = active if self.active is None else active & self.active
        return frame

    def count(self, reason: str, lost: BoolArray) -> None:
        if self.active is not None:
            lost = lost & self.active
        rows = np.broadcast_to(lost, self.batch.num_rows) if len(lost) == 1 else lost
        if number := int(np.count_nonzero(rows)):
            self.losses[reason] = self.losses.get(reason, 0) + number


Evaluate: TypeAlias = Callable[[Frame], Column]


class Compiled:
    """A compiled expression: a batch in, a column of as many rows out.  ``type``: its type."""

    def __init__(self, typed: Typed, evaluate: Evaluate, losses: dict[str, int]) -> None:
        self.type = typed.type
        self.plain = typed.operation == "column"
        self._evaluate = evaluate
        self.losses = losses

    def __call__(self, batch: Batch) -> Column:
        return self.within(Frame(batch, self.losses))

    def within(self, frame: Frame) -> Column:
        """The column, sharing what the frame already holds."""
        column = self._evaluate(frame)
        return column if self.plain else expand(column, frame.batch.num_rows)

    def truth(self, frame: Frame) -> BoolArray:
        """A bool expression as a mask: null counts as false."""
        column = self._evaluate(frame)
        assert isinstance(column, FixedColumn)
        mask = is_true(column)
        return mask if len(mask) == frame.batch.num_rows else np.repeat(mask, frame.batch.num_rows)


def compile_expression(node: Expression, schema: Schema, losses: dict[str, int] | None = None) -> Compiled:
    """One expression over the columns of ``schema``.  ``losses`` counts values lost (``overflow``, ``invalid_cast``).

    Raises :class:`~asyncflow.plan.expressions.problems.ExpressionError` for an expression that does not check.
    """
    return compile_typed([resolve_expression(node, schema)], schema, losses)[0]


def compile_predicate(node: Expression, schema: Schema) -> Callable[[Batch, dict[str, int]], BoolArray]:
    """A condition as a mask of a batch's rows; null counts as false; values lost are counted in the dict that is given with the batch.
    TypeError where it is no bool."""
    compiled = compile_expression(node, schema)
    if compiled.type is not DataType.BOOL:
        raise TypeError(f"a condition is a bool, not {compiled.type.value}")
    return lambda batch, losses: compiled.truth(Frame(batch, losses))


def compile_typed(
    trees: Iterable[Typed], schema: Schema, losses: dict[str, int] | None = None
) -> list[Compiled]:
    """Several resolved expressions that share their common parts when evaluated within one :class:`Frame`."""
    trees = list(trees)
    losses = {} if losses is None else losses
    compiler = _Compiler(schema, trees)
    return [Compiled(tree, compiler.compile(tree), losses) for tree in trees]


class _Compiler:
    def __init__(self, schema: Schema, trees: Iterable[Typed]) -> None:
        self.schema = schema
        self.constants: dict[Typed, Column] = {}
        self.done: dict[Typed, Evaluate] = {}
        uses: dict[Typed, int] = {}
        for tree in trees:
            for node in _first_walk(tree, uses):
                uses[node] = uses.get(node, 0) + 1
        self.shared = {node for node, times in uses.items() if times > 1 and node.args}

    def compile(self, node: Typed) -> Evaluate:
        known = self.done.get(node)
        if known is None:
            known = self.done[node] = self._compile(node)
        return known

    def _compile(self, node: Typed) -> Evaluate:
        if node.operation == "literal":
            return self._constant(node, column_from_values(node.type, [node.value]))
        if node.operation == "column":
            position = self.schema.index(node.value)
            return lambda frame: frame.batch.columns[position]
        parts = [self.compile(arg) for arg in node.args]
        guarded = node.operation == "case" and any(_may_lose(arg) for arg in node.args)
        evaluate = _guarded_case(parts) if guarded else _call(node, parts)
        if all(arg in self.constants for arg in node.args):
            losses: dict[str, int] = {}
            value = evaluate(Frame(Batch(Schema(()), (), 1), losses))
            if not losses:  # else the loss is to be counted for every row
                return self._constant(node, value)
        return _remembered(node, evaluate) if node in self.shared else evaluate

    def _constant(self, node: Typed, value: Column) -> Evaluate:
        self.constants[node] = value
        return lambda frame: value


def _first_walk(tree: Typed, seen: dict[Typed, int]) -> Iterator[Typed]:
    """Every node, but nothing below one that was seen already: it will be computed once."""
    pending = [tree]
    while pending:
        node = pending.pop()
        if node not in seen:
            pending.extend(node.args)
        yield node


def _may_lose(node: Typed) -> bool:
    from asyncflow.operators.functions.named import COUNTED

    return node.operation in COUNTED or node.operation == "cast" or any(_may_lose(arg) for arg in node.args)


def _remembered(node: Typed, evaluate: Evaluate) -> Evaluate:
    def recall(frame: Frame) -> Column:
        column = frame.memo.get(node)
        if column is None:
            column = frame.memo[node] = evaluate(frame)
        return column

    return recall


def _call(node: Typed, parts: list[Evaluate]) -> Evaluate:
    if node.operation == "cast":
        from asyncflow.operators.functions.casts import cast

        source, target, part = node.args[0].type, node.type, parts[0]
        return lambda frame: cast(frame.count, part(frame), source, target)
    from asyncflow.operators.functions.named import COUNTED, FUNCTIONS  # only where an expression calls one

    if node.operation in COUNTED:
        counted = COUNTED[node.operation]
        return lambda frame: counted(frame.count, *[part(frame) for part in parts])
    function = FUNCTIONS[node.operation]
    return lambda frame: function(*[part(frame) for part in parts])


def _guarded_case(parts: list[Evaluate]) -> Evaluate:
    """CASE in which a branch's losses count only for the rows that take it."""

    def evaluate(frame: Frame) -> Column:
        open_rows = np.ones(1, np.bool_)
        conditions: list[BoolArray] = []
        tests: list[Column] = []
        columns: list[Column] = []
        for when, then in zip(parts[:-1:2], parts[1::2], strict=True):
            test = when(frame.within(open_rows))
            assert isinstance(test, FixedColumn)
            tests.append(test)
            condition = is_true(test)
            conditions.append(condition)
            columns.append(then(frame.within(open_rows & condition)))
            open_rows = open_rows & ~condition
        columns.append(parts[-1](frame.within(open_rows)))
        return choose(conditions, columns, rows_of(*tests, *columns))

    return evaluate
