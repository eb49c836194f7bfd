"""Runs a pipeline on its input several times, each time cut and spread differently, and compares what its sinks would have been given.

The input is cut down to one record, spread over workers, and read once with no more than the instructions that every machine has: what
comes out must hang on none of it.

Sources are the real ones and must end by themselves; sinks take a digest of their bytes and write nothing.  The clock stands still, at the
same instant for every run, so also rows that have no time of their own get the same one each time.
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
    """How a run is made: its workers, and how many bytes a read may give at most (None: as many as there are); ``one_by_one``: the first
    records come one by one; ``plain``: in a process of its own, without any instructions that not every machine of its kind has."""

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

Found: TypeAlias = dict[str, tuple[str, int, int]]
"""Digest (SHA-256, hex), bytes and rows of every sink."""


class Sameness(Struct, frozen=True):
    """What one run's sinks were given, and those that differ from the first run's."""

    manner: Manner
    sinks: Found
    differing: tuple[str, ...]


async def verify(plan: Plan, manners: Iterable[Manner] = MANNERS) -> AsyncIterator[Sameness]:
    """Each run as it is done.  PipelineError where the input cannot be read more than once.

    A plan that cannot be sent to another process (it has objects of Python in it) has no runs that need one."""
    if problems := list(_problems(plan)):
        raise PipelineError(problems)
    now_ns = time.time_ns()
    first: Found | None = None
    for manner in manners:
        found = await (_elsewhere if manner.plain else _here)(plan, manner, now_ns)
        if found is None:
            continue
        first = first or found
        yield Sameness(manner, found, tuple(name for name in found if found[name] != first[name]))


async def _here(plan: Plan, manner: Manner, now_ns: int) -> Found | None:
    sinks = {sink.name: DigestSink() for sink in plan.sinks}
    digested = replace(plan, sinks=tuple(_digested(sink, sinks[sink.name]) for sink in plan.sinks))
    reads = Reads(manner.read_bytes, manner.one_by_one)
    run = Run(digested, workers=manner.workers, clock=VirtualClock(now_ns), reads=reads)
    ledger = await run.execute()
    return {
        name: (sink.digest.hexdigest(), sink.num_bytes, ledger.sinks[name].rows)
        for name, sink in sinks.items()
    }


async def _elsewhere(plan: Plan, manner: Manner, now_ns: int) -> Found | None:
    """The same in a process of its own; None where the plan cannot be sent there."""
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
    return msgspec.json.decode(out, type=Found)


def answer() -> None:
    """In that process: takes a plan, runs it, tells what its sinks were given."""
    plan, manner, now_ns = pickle.load(sys.stdin.buffer)  # from the process that started this one
    sys.stdout.buffer.write(msgspec.json.encode(asyncio.run(_here(plan, manner, now_ns))))


def _numpy_features() -> list[str]:
    """What numpy chooses among at run time and this machine has."""
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
    """Keeps the digest of what it is given."""

    def __init__(self) -> None:
        self.digest = hashlib.sha256()
        self.num_bytes = 0

    async def write(self, data: Buffer, *, origin: Any = None) -> None:
        self.digest.update(data)
        self.num_bytes += len(data)

    async def aclose(self, *, failed: bool = False) -> None:
        pass
