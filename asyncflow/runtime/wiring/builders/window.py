"""Builds windows: the columns to prepare of a batch, the primitive aggregates, and arithmetic over their results.

Aggregate expressions are taken apart.  Each distinct aggregate becomes an :class:`AggregateSpec`; its distinct arguments and filters become
columns and masks to prepare; the expression around it is computed on the rows of closed windows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from msgspec.structs import replace

from asyncflow.model.batch import Batch
from asyncflow.model.schema import Field, Schema
from asyncflow.model.snapshot import Frozen, Saved
from asyncflow.operators.bounds import WindowLattice
from asyncflow.operators.contract import Ahead, Operator, Output
from asyncflow.operators.windows.window import AggregateSpec, Prepared, WindowOperator
from asyncflow.plan.expressions.typed import AggregateCall, Typed
from asyncflow.plan.expressions.typing import resolve_expression
from asyncflow.plan.stages.window import REVISIONS, Window
from asyncflow.plan.windows import (
    AllRows,
    Count,
    Cumulate,
    Hopping,
    PerMessage,
    Session,
    TimeWindow,
    Tumbling,
    WindowShape,
)
from asyncflow.runtime.stages.stage import Stage
from asyncflow.runtime.wiring.compile_expressions import Frame, compile_typed
from asyncflow.runtime.wiring.site import Site

if TYPE_CHECKING:
    from asyncflow.operators.windows.revised import RevisedWindowOperator
    from asyncflow.operators.windows.slot_window import CountWindowOperator, SessionOperator

    AnyWindow: TypeAlias = WindowOperator | SessionOperator | CountWindowOperator | RevisedWindowOperator


def build(table: Window, site: Site) -> Stage:
    return site.one_input(partial(operator, table, by_rows=site.by_rows))


def operator(stage: Window, schema: Schema, *, by_rows: bool = True) -> Operator:
    """The operator over rows of ``schema``.  Raises ExpressionError for an expression that does not check.

    ``by_rows``: the watermarks that rows carry are those of the stage (not so where inputs without end are read as they come)."""
    keys = [(name, resolve_expression(node, schema)) for name, node in stage.by]
    parts = _Parts()
    results = [
        (name, parts.split(resolve_expression(node, schema, aggregates=True)))
        for name, node in stage.aggregates
    ]
    plain = [tree.value for _, tree in results] == [parts.name(k) for k in range(len(parts.specs))]
    prepare = _Preparation([tree for _, tree in keys], parts, schema)
    common: dict[str, Any] = {
        "keys": Schema.of((name, tree.type) for name, tree in keys),
        "aggregates": parts.specs,
        "names": [name for name, _ in results] if plain else [parts.name(k) for k in range(len(parts.specs))],
        "prepare": prepare,
    }
    made = (
        _revised(stage, stage.shape, by_rows=by_rows, **common)
        if isinstance(stage.shape, TimeWindow) and (stage.revised or isinstance(stage.shape, Cumulate))
        else _operator(stage.shape, **common)
    )
    made.on_any_thread = all(spec.python is None for spec in parts.specs)
    if plain:
        return made
    return ProjectedWindow(made, results, len(parts.specs), len(REVISIONS) if stage.revised else 0)


def _revised(stage: Window, shape: TimeWindow, **common: Any) -> RevisedWindowOperator:
    from asyncflow.operators.windows.revised import (
        RevisedWindowOperator,  # only where a stage has such windows
    )

    match shape:
        case Tumbling(size_ns=size_ns, offset_ns=offset_ns):
            lattice = WindowLattice(size_ns, size_ns, offset_ns)
        case Hopping(size_ns=size_ns, every_ns=every_ns, offset_ns=offset_ns):
            lattice = WindowLattice(size_ns, every_ns, offset_ns)
        case Cumulate(size_ns=size_ns, every_ns=every_ns, offset_ns=offset_ns):
            lattice = WindowLattice(size_ns, every_ns, offset_ns, growing=True)
    return RevisedWindowOperator(
        lattice=lattice,
        lateness_ns=stage.allowed_lateness_ns,
        emit_every_ns=stage.emit_every_ns,
        revisions=stage.revised,
        **common,
    )


def _operator(shape: WindowShape, **common: Any) -> AnyWindow:
    match shape:
        case Tumbling(size_ns=size_ns, offset_ns=offset_ns):
            return WindowOperator(size_ns=size_ns, offset_ns=offset_ns, **common)
        case Hopping(size_ns=size_ns, every_ns=every_ns, offset_ns=offset_ns):
            return WindowOperator(size_ns=size_ns, every_ns=every_ns, offset_ns=offset_ns, **common)
        case Session(gap_ns=gap_ns):
            from asyncflow.operators.windows.slot_window import SessionOperator

            return SessionOperator(gap_ns=gap_ns, **common)
        case Count(size=size):
            from asyncflow.operators.windows.slot_window import CountWindowOperator

            return CountWindowOperator(size=size, **common)
        case AllRows():
            return WindowOperator(size_ns=None, **common)
        case PerMessage():
            return WindowOperator(size_ns=None, per_message=True, **common)
        case Cumulate():
            raise TypeError("growing windows are windows that may be sent again")


class _Parts:
    """What the aggregates of a stage come down to, equal things once.  A result's column is called ``name(k)`` until it is projected."""

    def __init__(self) -> None:
        self.specs: list[AggregateSpec] = []
        self.inputs: list[Typed] = []
        self.masks: list[Typed] = []

    @staticmethod
    def name(position: int) -> str:
        return f"\0{position}"  # no name that a user can write

    def split(self, tree: Typed) -> Typed:
        """The tree with each aggregate replaced by the column of its result."""
        if tree.operation != "aggregate":
            return replace(tree, args=tuple(self.split(arg) for arg in tree.args)) if tree.args else tree
        call: AggregateCall = tree.value
        args = tree.args[:-1] if call.filtered else tree.args
        spec = AggregateSpec(
            "count_distinct" if call.distinct else call.function,
            tuple(_position(self.inputs, arg) for arg in args),
            tuple(arg.type for arg in args),
            _position(self.masks, tree.args[-1]) if call.filtered else None,
            call.constant,
            call.python,
            None if call.python is None else tree.type,
        )
        return Typed("column", (), tree.type, self.name(_position(self.specs, spec)))


_T = TypeVar("_T")


def _position(known: list[_T], wanted: _T) -> int:
    """Where ``wanted`` stands among the known; it is added where it is new."""
    if wanted not in known:
        known.append(wanted)
    return known.index(wanted)


class _Preparation:
    """Computes keys, inputs and masks of a batch, common parts once; values lost are counted in ``losses``."""

    def __init__(self, keys: list[Typed], parts: _Parts, schema: Schema) -> None:
        compiled = compile_typed([*keys, *parts.inputs, *parts.masks], schema)
        first_mask = len(keys) + len(parts.inputs)
        self._keys, self._inputs = compiled[: len(keys)], compiled[len(keys) : first_mask]
        self._masks = compiled[first_mask:]

    def __call__(self, batch: Batch, losses: dict[str, int]) -> Prepared:
        frame = Frame(batch, losses)
        return Prepared(
            tuple(key.within(frame) for key in self._keys),
            tuple(argument.within(frame) for argument in self._inputs),
            tuple(mask.truth(frame) for mask in self._masks),
        )


class ProjectedWindow(Operator):
    """A window operator whose closed rows are computed further: arithmetic over aggregates, in the order written.

    Columns before the aggregates (bounds and keys) and the ``num_last`` after them stay as they are.
    """

    state_version = 1
    output: Schema

    def __init__(
        self, window: AnyWindow, results: list[tuple[str, Typed]], num_primitives: int, num_last: int = 0
    ) -> None:
        super().__init__()
        self._window = window
        self._last = len(window.output) - num_last
        self._first = self._last - num_primitives
        fields = window.output.fields
        self._results = compile_typed([tree for _, tree in results], window.output)
        computed = (Field(name, tree.type) for name, tree in results)
        self.output = Schema((*fields[: self._first], *computed, *fields[self._last :]))
        self.counts = window.counts
        self.on_any_thread = window.on_any_thread

    def freeze(self) -> Frozen:
        return self._window.freeze()

    def restore(self, saved: Saved) -> None:
        self._window.restore(saved)

    def ahead(self, batch: Batch) -> Ahead | None:
        return self._window.ahead(batch)

    def done_ahead(self, batch: Batch) -> bool:
        return self._window.done_ahead(batch)

    def process(self, batch: Batch) -> Iterator[Output]:
        return self._project(self._window.process(batch))

    def advance(self, watermark_ns: int) -> Iterator[Output]:
        return self._project(self._window.advance(watermark_ns))

    def finish(self) -> Iterator[Output]:
        return self._project(self._window.finish())

    @property
    def held_ns(self) -> int:
        return self._window.held_ns

    @property
    def state_bytes(self) -> int:
        return self._window.state_bytes

    @property
    def timed(self) -> bool:
        return self._window.timed

    @property
    def open_windows(self) -> int | None:
        return self._window.open_windows

    @property
    def next_due_ns(self) -> int | None:
        return self._window.next_due_ns

    @property
    def waiting_rows(self) -> int | None:
        return self._window.waiting_rows

    @property
    def open_keys(self) -> int | None:
        return self._window.open_keys

    def _project(self, outputs: Iterable[Output]) -> Iterator[Output]:
        return (output if output.kind else Output(self._rows(output.batch)) for output in outputs)

    def _rows(self, batch: Batch) -> Batch:
        frame = Frame(batch, self.counts)
        computed = (result.within(frame) for result in self._results)
        columns = (*batch.columns[: self._first], *computed, *batch.columns[self._last :])
        return batch.with_columns(self.output, columns)
