"""The Python door: a pipeline built by calls.  Each call returns a new flow and leaves the old flow unchanged.

A builder holds a plan and its *head*: the tables that the next stage or sink will read.  A call is written as a table of the pipeline file
and read by ``document`` and ``doors.stages``, so defaults, checks and messages are the same at every door.  ``asyncflow.flow`` runs it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from asyncflow.doors.components import Problems
from asyncflow.doors.merging import Originals, free_name, merged, rename, renamed
from asyncflow.doors.pipeline_file import document, toml
from asyncflow.doors.python_objects import no_function, no_source
from asyncflow.doors.stages import read_stage
from asyncflow.errors import PipelineError, Problem
from asyncflow.model.durations import parse_duration
from asyncflow.model.schema import Field, Schema
from asyncflow.plan import graph
from asyncflow.plan.explain import explain
from asyncflow.plan.expressions.nodes import Expression
from asyncflow.plan.names import nearest
from asyncflow.plan.stages.derive import Derive
from asyncflow.plan.stages.map import MapBatches
from asyncflow.plan.tables import Plan, Stage
from asyncflow.plan.windows import AllRows, WindowShape

AnyFlow = TypeVar("AnyFlow", bound="FlowBuilder")


class FlowBuilder(Struct, frozen=True, eq=False):
    """A pipeline as a value; every method returns a new flow.  A call whose text cannot be read raises PipelineError; other
    problems are raised when the flow runs.

    ``originals``: of the tables that a join or union renamed, by which flows that share them know them again."""

    plan: Plan
    head: tuple[str, ...]
    originals: Originals = {}

    # -- stages --------------------------------------------------------------------------------------------------------

    def filter(self, where: str) -> Self:
        """Keeps the rows for which the condition is true: ``.filter("qty > 0")``."""
        return self._stage({"type": "filter", "where": where})

    def derive(self, columns: Mapping[str, str] | None = None, /, **more: str) -> Self:
        """Adds columns, or replaces those of the same name: ``.derive(revenue="qty * price")``."""
        return self._stage({"type": "derive", "columns": {**(columns or {}), **more}})

    def window(
        self,
        shape: WindowShape | Mapping[str, str] | str = AllRows(),  # noqa: B008 (frozen)
        /,
        *,
        by: Sequence[str] | Mapping[str, str] = (),
        aggregates: Mapping[str, str | Expression] | None = None,
        allowed_lateness: str = "0s",
        emit: str | Mapping[str, str] = "final",
        **more: str | Expression,
    ) -> Self:
        """Groups rows by window and key: ``.window(af.tumbling("1m"), by=["store"], orders="count(*)")``.

        ``aggregates``: for names that cannot be written as keywords; for aggregates written in Python see
        :func:`asyncflow.aggregate`. ``allowed_lateness``: how long after a window's end late rows still change the window.
        ``emit``: ``"updates"`` or ``{"every": "5s"}`` also sends windows before they end.
        """
        wanted = {**(aggregates or {}), **more}
        for name, each in wanted.items():
            if isinstance(each, type):
                raise PipelineError(
                    f"the aggregate {name} is a class: write aggregate({each.__name__}, ...) with its arguments"
                )
        return self._stage(
            {
                "type": "window",
                "window": shape,
                "by": _keys(by),
                "aggregates": wanted,
                "allowed_lateness": allowed_lateness,
                "emit": emit,
            }
        )

    def dedup(self, *, by: Sequence[str] | Mapping[str, str], within: str) -> Self:
        """Passes the first row of each key, by arrival: ``.dedup(by=["id"], within="1h")``.  Later rows go to
        ``flow["NAME.duplicate"]``."""
        return self._stage({"type": "dedup", "by": _keys(by), "within": within})

    def top(
        self,
        n: int,
        *,
        order: Sequence[str],
        by: Sequence[str] | Mapping[str, str] = (),
        window: WindowShape | Mapping[str, str] | str | None = None,
    ) -> Self:
        """The first ``n`` rows of each window and key, with ``rank``: ``.top(10, order=["revenue DESC", "store"])``.

        ``window`` left out: the windows that the rows come from (rows of one ``window_end``), or one window over everything where
        there are none.
        """
        table = {"type": "top", "n": n, "order": _texts(order), "by": _keys(by)}
        return self._stage(table if window is None else table | {"window": window})

    def join(
        self,
        other: FlowBuilder,
        /,
        *,
        on: Sequence[str] | Mapping[str, str],
        kind: str = "inner",
        within: str | Sequence[str] | None = None,
        window: WindowShape | Mapping[str, str] | None = None,
        as_of: str | None = None,
        refresh: str | None = None,
        **options: Any,
    ) -> Self:
        """Joins rows of this flow (left) with rows of another (right): ``.join(payments, on=["order_id"], within="10m")``.

        ``on``: columns that are equal, or left columns with their right columns.  ``within``, ``window`` or ``as_of`` says which
        rows meet in time.  Without any of them ``other`` must end and is read whole first; ``refresh="5m"`` reads it again so long
        after each reading. ``options``: ``tolerance``, ``suffix``, ``max_state``.
        """
        if not isinstance(other, FlowBuilder):
            raise PipelineError(f"a flow is joined with another flow, not with {other!r}")
        left = self._one_table()
        both, head = _joined(left, other._one_table())
        table = {
            "left": left.head[0],
            "right": head[0],
            "on": _keys(on),
            "kind": kind,
            "as_of": as_of,
            "window": window,
            "refresh": refresh,
        }
        table |= {
            "within": list(within) if within is not None and not isinstance(within, str) else within,
            **options,
        }
        given = {key: value for key, value in table.items() if value is not None}
        return both._stage({"type": "join", **given})

    def map(
        self,
        function: Callable[..., Any],
        *,
        schema: Mapping[str, str] | Schema | None = None,
        concurrency: int = 1,
        ordered: bool = True,
        timeout: str | None = None,
        on_error: str = "fail",
    ) -> Self:
        """Calls a plain or async ``function`` for each batch; it returns a batch.  ``schema``: the columns of the results, if known.

        ``concurrency``: the most calls of an async function that are under way at once.  ``ordered`` False: batches may overtake
        one another, but never a watermark.  ``timeout``: of one call, as ``"200ms"``.  ``on_error``: ``"fail"`` stops the run with
        StageError; with ``"reject"`` the rows of a failed call go to ``NAME.rejected``, with the error as reason.  Rows of a result
        whose values do not fit its columns go to ``NAME.rejected`` in either case.

        A result may repeat rows, leave rows out, or give rows new times.  Which rows are late does not depend on where batches end
        if a function with new times leaves the values of the other columns that it returns as they were, and returns equally many
        rows for rows that are alike in these.  For any other function with new times :meth:`map_rows` is the safe choice.
        """
        calls = self._calls(concurrency, ordered, timeout, on_error)
        return self._map(function, _schema(schema), False, calls)

    def map_rows(
        self,
        function: Callable[..., Any],
        *,
        schema: Mapping[str, str] | Schema | None = None,
        concurrency: int = 1,
        ordered: bool = True,
        timeout: str | None = None,
        on_error: str = "fail",
    ) -> Self:
        """Calls a plain or async ``function`` for each row, a dict; it returns a dict, or None to take the row out.

        The other arguments are those of :meth:`map`, for rows instead of batches.
        """
        calls = self._calls(concurrency, ordered, timeout, on_error)
        return self._map(function, _schema(schema), True, calls)

    def stage(self, kind: str, /, **keys: Any) -> Self:
        """A stage of any kind by its name, with the keys of its table in a pipeline file: ``.stage("filter", where="qty > 0")``.

        For kinds that other distributions register (``asyncflow list stages``)."""
        return self._stage({"type": kind, **_plain(keys)})

    # -- ends and branches ---------------------------------------------------------------------------------------------

    def to(self, connector: str, /, *, name: str | None = None, **options: Any) -> Self:
        """The same flow, whose rows also go to a sink: ``.to("file", path="out.jsonl", format="json")``."""
        problems = Problems()
        table = {"type": connector, **_plain(options)}
        made = document.sink(name or self._free("sink"), table, self.head, problems)
        _raise(problems)
        return replace(self, plan=replace(self.plan, sinks=(*self.plan.sinks, made)))

    def __getitem__(self, name: str) -> Self:
        """The flow with another of its tables or side outputs as its head: ``flow["sales.rejected"]``."""
        names = graph.readable(self.plan)
        if name not in names:
            problems = Problems()
            problems.add(name, "there is no such table", nearest(name, names))
            _raise(problems)
        return replace(self, head=(name,))

    def named(self, name: str) -> Self:
        """The same flow, whose last stage (or source) is called ``name`` in messages, the ledger and side outputs."""
        if len(self.head) != 1 or "." in self.head[0]:
            raise PipelineError("only one table can be named: do it before the union")
        old = self.head[0]
        plan = renamed(self.plan, {old: name})
        unchanged = {id(table) for table in plan.tables}
        originals = {
            table.name: self.originals[table.name]
            for table in self.plan.tables
            if table.name in self.originals and id(table) in unchanged
        }
        return replace(self, plan=plan, head=(name,), originals=originals)

    def explain(self, form: str = "tree") -> str:
        """The plan as text: ``tree``, ``mermaid`` or ``json``."""
        return explain(self.plan, form)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {' + '.join(self.head)}: {len(self.plan.stages)} stages, {len(self.plan.sinks)} sinks>"

    def _repr_html_(self) -> str:
        from html import escape

        return f"<pre>{escape(self.explain())}</pre>"

    # -- inside --------------------------------------------------------------------------------------------------------

    def _stage(self, table: Mapping[str, Any]) -> Self:
        problems = Problems()
        made = read_stage(self._free("stage"), table, self.head, problems)
        _raise(problems)
        return self._add(made)

    def _add(self, stage: Stage) -> Self:
        return replace(self, plan=replace(self.plan, stages=(*self.plan.stages, stage)), head=(stage.name,))

    def _calls(self, concurrency: int, ordered: bool, timeout: str | None, on_error: str) -> dict[str, Any]:
        """The way in which a function is called, as the plan holds it; PipelineError where the function cannot be called so."""
        calls: dict[str, Any] = {"concurrency": concurrency, "ordered": ordered, "on_error": on_error}
        try:
            return calls if timeout is None else {**calls, "timeout_ns": parse_duration(timeout)}
        except ValueError as error:
            path = f"stages.{self._free('stage')}.timeout"
            raise PipelineError([Problem(path, str(error))]) from None

    def _map(
        self, function: Callable[..., Any], schema: Schema | None, rows: bool, calls: Mapping[str, Any]
    ) -> Self:
        if mistake := no_function(function):
            raise PipelineError([Problem(f"stages.{self._free('stage')}", mistake)])
        return self._add(
            MapBatches(self._free("stage"), self.head, function, rows=rows, schema=schema, **calls)
        )

    def _free(self, kind: str) -> str:
        return free_name(kind, {table.name for table in self.plan.tables})

    def _one_table(self) -> Self:
        """The same flow with a head of one table."""
        return self if len(self.head) == 1 else self._add(Derive(self._free("stage"), self.head, ()))

    def checked(self, *, rows: bool = False) -> Plan:
        """The plan, checked: PipelineError with all problems.  ``rows``: with the head as its last stage, so that its rows can be
        taken without a sink."""
        plan = self.plan
        if rows and (len(self.head) > 1 or self.head != graph.ends(plan)):
            plan = self._add(Derive(self._free("stage"), self.head, ())).plan
        return document.checked(plan)


def build_source(
    cls: type[FlowBuilder], connector: object, /, *, name: str | None = None, **options: Any
) -> FlowBuilder:
    """A flow of one source: a connector by name with its options, or an object made in Python: an async iterable, a list, another
    iterable."""
    problems = Problems()
    table_name = name or "source_1"
    options = _plain(options)
    if isinstance(connector, str):
        made = document.source(table_name, {"type": connector, **options}, problems)
    else:
        if mistake := no_source(connector):
            raise PipelineError([Problem(f"sources.{table_name}", mistake)])
        made = document.source(table_name, {"type": "python", **options}, problems, python_object=connector)
    _raise(problems)
    return cls(Plan("flow", (made,)), (made.name,))


def build_loaded(
    cls: type[FlowBuilder],
    path: str | os.PathLike[str],
    *,
    overrides: Sequence[str] = (),
    environ: Mapping[str, str] = os.environ,
) -> FlowBuilder:
    """The flow of a pipeline file; its head is its last stage, or all of its sources."""
    plan = toml.load(path, overrides=overrides, environ=environ)
    return cls(plan, graph.ends(plan))


def build_union(first: FlowBuilder, *others: FlowBuilder) -> FlowBuilder:
    """A flow whose next table reads all the given flows, which need the same columns and types.  Tables that they share stay one
    table."""
    flow = first
    for other in others:
        both, theirs = _joined(flow, other)
        flow = replace(both, head=flow.head + tuple(name for name in theirs if name not in flow.head))
    return flow


def build_sequence(
    past: FlowBuilder, live: FlowBuilder, *, unique: Sequence[str] = (), name: str | None = None
) -> FlowBuilder:
    """A flow of two sources, read one after the other."""
    both = build_union(past, live)
    problems = Problems()
    table = {"type": "sequence", "of": list(both.head), "unique": _texts(unique)}
    made = read_stage(name or both._free("source"), table, (), problems, room="sources")
    _raise(problems)
    return both._add(made)


def _texts(texts: Sequence[str]) -> list[str]:
    return [texts] if isinstance(texts, str) else list(texts)


def _keys(by: Sequence[str] | Mapping[str, str]) -> list[str] | dict[str, str]:
    return dict(by) if isinstance(by, Mapping) else _texts(by)


def _joined(flow: AnyFlow, other: FlowBuilder) -> tuple[AnyFlow, tuple[str, ...]]:
    """The flow with the tables of both, and the head of the other flow by the names that its tables have there."""
    plan, originals, names = merged(flow.plan, flow.originals, other.plan, other.originals)
    return replace(flow, plan=plan, originals=originals), tuple(rename(each, names) for each in other.head)


def _plain(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options as a pipeline file would hold them: paths as text, a schema as a table, no entry for None."""
    plain = {}
    for key, value in options.items():
        if value is None:
            continue
        if isinstance(value, Schema):
            value = {field.name: field.type_text for field in value}
        elif isinstance(value, os.PathLike):
            value = os.fspath(value)
        elif isinstance(value, list | tuple):
            value = [os.fspath(each) if isinstance(each, os.PathLike) else each for each in value]
        plain[key] = value
    return plain


def _schema(schema: Mapping[str, str] | Schema | None) -> Schema | None:
    if schema is None or isinstance(schema, Schema):
        return schema
    try:
        return Schema(tuple(Field.parse(name, text) for name, text in schema.items()))
    except ValueError as error:
        raise PipelineError(str(error)) from None


def _raise(problems: Problems) -> None:
    if problems.found:
        raise PipelineError(problems.found)
