"""Builds windows: the columns to prepare of a batch, the primitive aggregates, and arithmetic over their results.

Aggregate expressions are taken apart.  Each distinct aggregate becomes an :class:`AggregateSpec`; its distinct arguments and filters become
columns and masks to prepare; the expression around it is computed on the rows of closed windows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from msgspec.structs import replace

from asyncflow.model.batch import Batch
from asyncflow.model.schema import Field, Schema
from asyncflow.model.snapshot import Frozen, Saved
from asyncflow.operators.bounds import WindowLattice
from asyncflow.operators.contract import Ahead, Closing, Operator, Output, Partitioned
from asyncflow.operators.parts.part import Part, Prepared
from asyncflow.operators.raw import raw_column
from asyncflow.operators.windows.window import AggregateSpec, WindowOperator
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
    from asyncflow.operators.parts.parted import Parted
    from asyncflow.operators.windows.revised import RevisedWindowOperator
    from asyncflow.operators.windows.slot_window import CountWindowOperator, SessionOperator

    AnyWindow: TypeAlias = WindowOperator | SessionOperator | CountWindowOperator | RevisedWindowOperator


def build(table: Window, site: Site) -> Stage:
    return site.one_input(partial(operator, table, by_rows=site.by_rows, parts=site.parts))


def operator(stage: Window, schema: Schema, *, by_rows: bool = True, parts: int = 1) -> Operator:
    """The operator over rows of ``schema``.  Raises ExpressionError for an expression that does not check.

    ``by_rows``: the watermarks that rows carry are those of the stage (not so where inputs without end are read as they come).
    ``parts``: into how many parts by key it is cut, a power of two; without effect on windows that cannot be (:func:`_divisible`)."""
    keys = [(name, resolve_expression(node, schema)) for name, node in stage.by]
    primitives = _Primitives()
    results = [
        (name, primitives.split(resolve_expression(node, schema, aggregates=True)))
        for name, node in stage.aggregates
    ]
    plain = [tree.value for _, tree in results] == [primitives.name(k) for k in range(len(primitives.specs))]
    prepare = _Preparation([tree for _, tree in keys], primitives, schema)
    common: dict[str, Any] = {
        "keys": Schema.of((name, tree.type) for name, tree in keys),
        "aggregates": primitives.specs,
        "names": [name for name, _ in results]
        if plain
        else [primitives.name(k) for k in range(len(primitives.specs))],
        "prepare": prepare,
    }
    if parts > 1 and _divisible(stage, primitives.specs):
        divided = _parted(stage.shape, parts, **common)
        return divided if plain else ProjectedParts(divided, results, len(primitives.specs))
    made = (
        _revised(stage, stage.shape, by_rows=by_rows, **common)
        if isinstance(stage.shape, TimeWindow) and _sent_again(stage)
        else _operator(stage.shape, **common)
    )
    if isinstance(made, WindowOperator):
        # With two workers one decodes while the other takes rows: folding gains nothing.
        made.folds = parts > 1
    made.on_any_thread = all(spec.python is None for spec in primitives.specs)
    if plain:
        return made
    return ProjectedWindow(made, results, len(primitives.specs), len(REVISIONS) if stage.revised else 0)


def _sent_again(stage: Window) -> bool:
    return stage.revised or isinstance(stage.shape, Cumulate)


def _divisible(stage: Window, aggregates: Iterable[AggregateSpec]) -> bool:
    """Whether parts can share the window's keys: there are keys, event time alone closes windows, and no aggregate is Python."""
    return (
        bool(stage.by)
        and isinstance(stage.shape, Tumbling | Hopping | Session)
        and not _sent_again(stage)
        and all(spec.python is None for spec in aggregates)
    )


def _parted(shape: WindowShape, parts: int, **common: Any) -> Parted:
    from asyncflow.operators.parts.parted import Parted

    keys: Schema = common["keys"]
    places = (1, 0, *range(2, 2 + len(keys)))  # end, start and keys
    kinds = [field.type.value for field in keys]

    def part() -> Part:
        made = _operator(shape, **common)
        assert isinstance(made, Part)
        return made

    return Parted(
        part,
        parts,
        prepare=common["prepare"],
        key_kinds=kinds,
        kinds=["timestamp", "timestamp", *kinds],
        order=lambda batch: [raw_column(batch.columns[place]) for place in places],
    )


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


class _Primitives:
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

    def __init__(self, keys: list[Typed], parts: _Primitives, schema: Schema) -> None:
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
        self,
        window: AnyWindow | Parted,
        results: list[tuple[str, Typed]],
        num_primitives: int,
        num_last: int = 0,
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
        self.ahead_untimed = window.ahead_untimed

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

    def advance_bytes(self, watermark_ns: int, fresh_bytes: int) -> int:
        return self._window.advance_bytes(watermark_ns, fresh_bytes)

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


class ProjectedParts(ProjectedWindow, Partitioned):
    """The same over a window in parts."""

    _window: Parted

    @property
    def parts(self) -> int:  # type: ignore[override]
        return self._window.parts

    def scattered(self, batch: Batch) -> Any:
        return self._window.scattered(batch)

    def part_tasks(self, scattered: Any) -> list[Callable[[], Any]]:
        return self._window.part_tasks(scattered)

    def joined(self, scattered: Any, results: Sequence[Any]) -> list[Output]:
        return self._window.joined(scattered, results)

    def closing(self, watermark_ns: int | None) -> Closing:
        return _ProjectedClosing(self._window.closing(watermark_ns), self._project)


class _ProjectedClosing(Closing):
    def __init__(self, closing: Closing, project: Callable[[Iterable[Output]], Iterator[Output]]) -> None:
        self._closing, self._project = closing, project

    def tasks(self) -> list[Callable[[], None]]:
        return self._closing.tasks()

    def outputs(self) -> Iterator[Output]:
        return self._project(self._closing.outputs())
