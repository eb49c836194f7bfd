"""Where the Python door meets the engine: a flow is a built pipeline that can be iterated and run inside anyone's event loop.

Nothing here touches the loop's policy or signal handlers; ``run`` alone makes a loop of its own, for plain scripts.
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


class Flow(FlowBuilder, frozen=True, eq=False):
    """A pipeline: an immutable value to build on, to iterate (``async for batch in flow``) and to run (``await flow.run()``).

    Iterating gives the rows of its last stage as batches, closed windows as they close.  Leaving the loop, or cancelling the task, stops
    the flow and closes every socket and file.  Each iteration and each run starts anew.
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

    def batches(self, *, workers: int = 1, memory: str | int | None = None) -> AsyncIterator[Batch]:
        """The batches, decoded by ``workers`` threads (1: none, all in this loop).  ``memory``: bounds what the run holds (``"2GiB"``)."""
        plan = self.checked(rows=True)
        table = self.head[0] if len(self.head) == 1 else plan.stages[-1].name
        return iterate(_bounded(plan, memory), workers=workers, table=table)

    async def collect(self, *, workers: int = 1, memory: str | int | None = None) -> Batch:
        """All rows as one batch, once the input has ended: ``(await flow.collect()).to_pylist()``."""
        batches = [batch async for batch in self.batches(workers=workers, memory=memory)]
        if batches:
            return concat_batches(batches)
        plan = self.checked(rows=True)
        schema = table_schemas(plan)[self.head[0] if len(self.head) == 1 else plan.stages[-1].name]
        columns = (column_from_values(field.type, []) for field in schema or ())
        return Batch(schema or Schema(()), tuple(columns), 0)

    async def run(self, *, workers: int = 1, memory: str | int | None = None) -> Ledger:
        """Runs it into its sinks to the end of its input and gives the ledger; raises the first failure.

        ``memory``: bounds what the run holds (``"2GiB"``); beyond it the run fails with OutOfMemoryError."""
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
    return plan if memory is None else replace(plan, memory_bytes=memory_bytes(memory))


def source(connector: object, /, *, name: str | None = None, **options: Any) -> Flow:
    """A flow of one source.

    ``connector``: the name of one (``af.source("file", path="a.csv", time="ts")``), or an (async) iterable of dicts, of tables
    (batches, dicts of arrays, pandas, Polars, Arrow), or with ``format`` of bytes; or one table.
    ``options``: as in ``[sources.NAME]`` of a pipeline file.
    """
    return cast(Flow, build_source(Flow, connector, name=name, **options))


def union(first: Flow, *others: Flow) -> Flow:
    """One flow of the rows of several, which have the same columns: what comes next reads them all."""
    return cast(Flow, build_union(first, *others))


def sequence(past: Flow, live: Flow, *, unique: Sequence[str] = (), name: str | None = None) -> Flow:
    """One flow of two sources read one after the other as one table, the live one opened first: ``af.sequence(history, live)``.

    ``unique``: columns that tell rows of the overlap which came from both; left out, live rows not after the past's last are dropped.
    """
    return cast(Flow, build_sequence(past, live, unique=unique, name=name))


def load(
    path: str | os.PathLike[str],
    *,
    overrides: Sequence[str] = (),
    environ: Mapping[str, str] = os.environ,
) -> Flow:
    """The flow of a pipeline file (or of its text); ``overrides`` as ``--set``.  PipelineError with every problem in it."""
    return cast(Flow, build_loaded(Flow, path, overrides=overrides, environ=environ))


def run(flow: Flow, *, workers: int = 1, memory: str | int | None = None) -> Ledger:
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
