"""Runs a pipeline on its input several times, each time cut and spread differently, and compares what its sinks would have been given.

Sources are the real ones and must end by themselves; sinks take a digest of their bytes and write nothing.  The clock stands still, at the
same instant for every run, so also rows that have no time of their own get the same one each time.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import AsyncIterator, Iterable
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from asyncflow.connectors.contract import Buffer, SinkConnector
from asyncflow.errors import PipelineError, Problem
from asyncflow.plan.tables import Component, Plan
from asyncflow.runtime.clock import VirtualClock
from asyncflow.runtime.run import Run
from asyncflow.runtime.wiring import open_source


class Manner(Struct, frozen=True):
    """How a run is made: its workers, and how many bytes a read may give at most (None: as many as there are)."""

    workers: int
    read_bytes: int | None

    def __str__(self) -> str:
        reads = (
            "reads as they come" if self.read_bytes is None else f"reads of at most {self.read_bytes:,} bytes"
        )
        return f"{self.workers} worker{'' if self.workers == 1 else 's'}, {reads}"


MANNERS = (Manner(1, None), Manner(1, 4_099), Manner(2, None), Manner(2, 65_521), Manner(7, 16_381))


class Sameness(Struct, frozen=True):
    """One run's digest (SHA-256, hex), bytes and rows of every sink, and the sinks that differ from the first run's."""

    manner: Manner
    sinks: dict[str, tuple[str, int, int]]
    differing: tuple[str, ...]


async def verify(plan: Plan, manners: Iterable[Manner] = MANNERS) -> AsyncIterator[Sameness]:
    """Each run as it is done.  PipelineError where the input cannot be read more than once."""
    if problems := list(_problems(plan)):
        raise PipelineError(problems)
    now_ns = time.time_ns()
    first: dict[str, tuple[str, int, int]] | None = None
    for manner in manners:
        sinks = {sink.name: DigestSink() for sink in plan.sinks}
        digested = replace(plan, sinks=tuple(_digested(sink, sinks[sink.name]) for sink in plan.sinks))
        run = Run(digested, workers=manner.workers, clock=VirtualClock(now_ns), read_bytes=manner.read_bytes)
        ledger = await run.execute()
        found = {
            name: (sink.digest.hexdigest(), sink.num_bytes, ledger.sinks[name].rows)
            for name, sink in sinks.items()
        }
        first = first or found
        yield Sameness(manner, found, tuple(name for name in found if found[name] != first[name]))


def _digested(sink: Any, connector: SinkConnector) -> Any:
    format_ = sink.format if sink.format is not None else Component("json")
    return replace(sink, connector=Component("", object=connector), format=format_)


def _problems(plan: Plan) -> Iterable[Problem]:
    for source in plan.sources:
        path = f"sources.{source.name}.type"
        if source.connector.type == "stdin":
            yield Problem(path, "standard input can be read only once", "verify a file")
        elif not open_source(source).bounded:
            yield Problem(path, "it does not end by itself", "verify bounded input, such as a file")
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
