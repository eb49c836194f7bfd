"""Runs a pipeline on its input several times and compares the bytes that its sinks would get.

The runs differ in how the input is cut into reads (down to single records), in the number of workers, and in the processor's instructions
(one run uses only those that every machine has).  The output must depend on none of them.

Sources are the real ones: they must end by themselves and be rereadable (``model.capabilities``).  Sinks take a digest of their bytes and
write nothing.  The clock stands at one instant for all runs, so arrival times are the same in each.
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib
import os
import pickle
import sys
import time
from collections.abc import AsyncIterator, Iterable
from typing import Any, TypeAlias

import msgspec
import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from asyncflow.connectors.contract import Buffer, SinkConnector
from asyncflow.errors import InternalError, PipelineError, Problem
from asyncflow.plan import capabilities
from asyncflow.plan.tables import Component, Plan
from asyncflow.runtime.base.clock import VirtualClock
from asyncflow.runtime.ingest.source import Reads
from asyncflow.runtime.run.run import Run


class Manner(Struct, frozen=True):
    """How a run differs: its workers, and the most bytes of one read (None: all at hand).  ``one_by_one``: the first records come one by
    one.  ``plain``: in a process of its own, with only the instructions that every machine of its kind has."""

    workers: int
    read_bytes: int | None
    one_by_one: bool = False
    plain: bool = False

    def __str__(self) -> str:
        reads = (
            "reads as they come" if self.read_bytes is None else f"reads of at most {self.read_bytes:,} bytes"
        )
        reads = f"the first records one by one, then {reads}" if self.one_by_one else reads
        plain = ", the plainest instructions" if self.plain else ""
        return f"{self.workers} worker{'' if self.workers == 1 else 's'}, {reads}{plain}"


MANNERS = (
    Manner(1, None),
    Manner(1, 4_099),
    Manner(1, 4_099, one_by_one=True),
    Manner(2, None),
    Manner(2, 65_521),
    Manner(7, 16_381),
    Manner(3, None, one_by_one=True),
    Manner(1, None, plain=True),
)

Digests: TypeAlias = dict[str, tuple[str, int, int]]
"""Digest (SHA-256, hex), bytes and rows of every sink."""


class Sameness(Struct, frozen=True):
    """The output of one run's sinks, and the names of sinks that differ from the first run."""

    manner: Manner
    sinks: Digests
    differing: tuple[str, ...]


async def verify(plan: Plan, manners: Iterable[Manner] = MANNERS) -> AsyncIterator[Sameness]:
    """Each run as it ends.  PipelineError where the input cannot be read more than once.

    A plan that cannot be pickled (it holds Python objects) has no runs in a process of their own."""
    if problems := list(_problems(plan)):
        raise PipelineError(problems)
    now_ns = time.time_ns()
    first: Digests | None = None
    for manner in manners:
        found = await (_elsewhere if manner.plain else _here)(plan, manner, now_ns)
        if found is None:
            continue
        first = first or found
        yield Sameness(manner, found, tuple(name for name in found if found[name] != first[name]))


async def _here(plan: Plan, manner: Manner, now_ns: int) -> Digests | None:
    sinks = {sink.name: DigestSink() for sink in plan.sinks}
    digested = replace(plan, sinks=tuple(_digested(sink, sinks[sink.name]) for sink in plan.sinks))
    reads = Reads(manner.read_bytes, manner.one_by_one)
    run = Run(digested, workers=manner.workers, clock=VirtualClock(now_ns), reads=reads)
    ledger = await run.execute()
    return {
        name: (sink.digest.hexdigest(), sink.num_bytes, ledger.sinks[name].rows)
        for name, sink in sinks.items()
    }


async def _elsewhere(plan: Plan, manner: Manner, now_ns: int) -> Digests | None:
    """The same in a process of its own; None where the plan cannot be pickled."""
    try:
        sent = pickle.dumps((plan, replace(manner, plain=False), now_ns))
    except Exception:
        return None
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        "from asyncflow.runtime.checks.verify import answer; answer()",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=os.environ
        | {"ASYNCFLOW_CPU": "portable", "NPY_DISABLE_CPU_FEATURES": " ".join(_numpy_features())},
    )
    try:
        out, err = await process.communicate(sent)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        told = err.decode(errors="replace").strip().splitlines() or [f"exit code {process.returncode}"]
        raise InternalError(f"the run with the plainest instructions failed: {told[-1]}")
    return msgspec.json.decode(out, type=Digests)


def answer() -> None:
    """Entry of that process: reads a plan from stdin, runs it, and writes the output of its sinks to stdout."""
    plan, manner, now_ns = pickle.load(sys.stdin.buffer)  # from the process that started this one
    sys.stdout.buffer.write(msgspec.json.encode(asyncio.run(_here(plan, manner, now_ns))))


def _numpy_features() -> list[str]:
    """The instruction sets that numpy chooses at run time on this machine."""
    inside = "_core" if np.__version__ >= "2" else "core"
    module = importlib.import_module(f"numpy.{inside}._multiarray_umath")
    return [name for name in module.__cpu_dispatch__ if module.__cpu_features__.get(name)]


def _digested(sink: Any, connector: SinkConnector) -> Any:
    format_ = sink.format if sink.format is not None else Component("json")
    return replace(sink, connector=Component("", object=connector), format=format_)


def _problems(plan: Plan) -> Iterable[Problem]:
    for source in plan.sources:
        path, can = f"sources.{source.name}.type", capabilities.of_source(source.connector)
        if can.bounded is False:
            yield Problem(path, "the source does not end by itself", "verify bounded input, such as a file")
        elif not can.rereadable:
            yield Problem(
                path, "the source can be read only once", "verify input that is there, such as a file"
            )
    if not plan.sinks:
        yield Problem("sinks", "there is no sink whose output could be compared")


class DigestSink(SinkConnector):
    """A sink that keeps the digest and the size of its bytes."""

    def __init__(self) -> None:
        self.digest = hashlib.sha256()
        self.num_bytes = 0

    async def write(self, data: Buffer, *, origin: Any = None) -> None:
        self.digest.update(data)
        self.num_bytes += len(data)

    async def aclose(self, *, failed: bool = False) -> None:
        pass
