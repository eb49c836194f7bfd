"""The Python door and the engine together: a flow is a pipeline that runs inside the caller's event loop.

``doors/fluent`` builds the plan, ``runtime/run`` runs it.  Invariant: no event loop policy and no signal handler is changed; only ``run``
makes an event loop, for plain scripts.
"""

from __future__ import annotations

import asyncio
import inspect
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, NoReturn, cast

from msgspec.structs import replace

from asyncflow.doors.fluent import FlowBuilder, build_loaded, build_sequence, build_source, build_union
from asyncflow.doors.pipeline_file.document import memory_bytes
from asyncflow.errors import PipelineError, Problem
from asyncflow.model.batch import Batch, concat_batches
from asyncflow.model.columns import column_from_values
from asyncflow.model.schema import Schema
from asyncflow.plan.schemas import table_schemas
from asyncflow.plan.tables import Plan
from asyncflow.runtime import Ledger, Run, iterate
from asyncflow.runtime.base.loop import run_in_loop
from asyncflow.runtime.base.workers import Workers


class Flow(FlowBuilder, frozen=True, eq=False):
    """A pipeline: an immutable value to build on, to iterate (``async for batch in flow``) and to run (``await flow.run()``).

    Iteration gives the rows of the last stage as batches; a window's row comes when the window closes.  Leaving the loop, or
    cancelling the task, stops the flow and closes every socket and file.  Each iteration and each run starts from the beginning.
    """

    def __aiter__(self) -> AsyncIterator[Batch]:
        return self.batches()

    def __iter__(self) -> NoReturn:
        raise TypeError(
            "a flow is read with: async for batch in flow (and run into its sinks with: await flow.run())"
        )

    def __await__(self) -> NoReturn:
        raise TypeError(
            "a flow is no awaitable: await flow.run() runs it into its sinks, async for batch in flow reads it"
        )

    def batches(self, *, workers: Workers = 1, memory: str | int | None = None) -> AsyncIterator[Batch]:
        """The batches of the last stage.  ``workers``: threads that work beside the loop's own, or ``"auto"``; ``memory``: the most
        that the run may hold (``"2GiB"``)."""
        plan = self.checked(rows=True)
        table = self.head[0] if len(self.head) == 1 else plan.stages[-1].name
        return iterate(_bounded(plan, memory), workers=workers, table=table)

    async def collect(self, *, workers: Workers = 1, memory: str | int | None = None) -> Batch:
        """All rows as one batch, once the input has ended: ``(await flow.collect()).to_pylist()``."""
        batches = [batch async for batch in self.batches(workers=workers, memory=memory)]
        if batches:
            return concat_batches(batches)
        plan = self.checked(rows=True)
        schema = table_schemas(plan)[self.head[0] if len(self.head) == 1 else plan.stages[-1].name]
        columns = (column_from_values(field.type, []) for field in schema or ())
        return Batch(schema or Schema(()), tuple(columns), 0)

    async def run(self, *, workers: Workers = 1, memory: str | int | None = None) -> Ledger:
        """Runs the flow into its sinks to the end of the input, and returns the ledger.  Raises the first failure.

        ``workers``: threads that work beside the loop's own (1: the loop's own does all); ``"auto"``: one for each processor that it may
        use.  ``memory``: the most that the run may hold (``"2GiB"``); beyond it the run fails with OutOfMemoryError."""
        if not self.plan.sinks:
            raise PipelineError(
                [
                    Problem(
                        "sinks", "there is no sink to run into", 'add .to("stdout"), or iterate over the flow'
                    )
                ]
            )
        return await Run(_bounded(self.checked(), memory), workers=workers).execute()


def _bounded(plan: Plan, memory: str | int | None) -> Plan:
    if plan.checkpoints is not None:
        raise PipelineError(
            [Problem("checkpoint", "a flow that runs in Python takes no checkpoints yet", "asyncflow run")]
        )
    return plan if memory is None else replace(plan, memory_bytes=memory_bytes(memory))


def source(connector: object, /, *, name: str | None = None, **options: Any) -> Flow:
    """A flow of one source.

    ``connector``: the name of a connector (``af.source("file", path="a.csv", time="ts")``); or an iterable or async iterable of dicts, of
    tables (batches, dicts of arrays, pandas, Polars, Arrow), or, with ``format``, of bytes; or one table.
    ``options``: the keys of ``[sources.NAME]`` in a pipeline file.
    """
    return cast(Flow, build_source(Flow, connector, name=name, **options))


def union(first: Flow, *others: Flow) -> Flow:
    """A flow of the rows of several flows with the same columns: the next stage reads them all."""
    return cast(Flow, build_union(first, *others))


def sequence(past: Flow, live: Flow, *, unique: Sequence[str] = (), name: str | None = None) -> Flow:
    """A flow of two sources as one table, first the past, then the live source: ``af.sequence(history, live)``.

    The live source is opened before the past is read, so that no row falls between them.  ``unique``: columns that identify a row
    which both sources have.  Left out: live rows whose time is not after the past's last row are dropped.
    """
    return cast(Flow, build_sequence(past, live, unique=unique, name=name))


def load(
    path: str | os.PathLike[str],
    *,
    overrides: Sequence[str] = (),
    environ: Mapping[str, str] = os.environ,
) -> Flow:
    """The flow of a pipeline file, or of the text of one.  ``overrides``: as ``--set``.  Raises PipelineError with all problems."""
    return cast(Flow, build_loaded(Flow, path, overrides=overrides, environ=environ))


def run(flow: Flow, *, workers: Workers = 1, memory: str | int | None = None) -> Ledger:
    """Runs a flow from a plain script, in an event loop of its own (uvloop where there is one)."""
    _check_flow(flow)
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return run_in_loop(lambda: flow.run(workers=workers, memory=memory))
    raise RuntimeError(
        "asyncflow.run is for scripts without an event loop; one is running here: await flow.run()"
    )


def _check_flow(given: object) -> None:
    if isinstance(given, Flow):
        return
    if inspect.iscoroutine(given):
        given.close()  # nobody will await it
    raise TypeError(
        f"asyncflow.run takes the flow itself, as in asyncflow.run(flow), not an object of {type(given).__name__}"
    )
