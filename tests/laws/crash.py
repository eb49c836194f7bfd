"""A run that is frozen at a barrier, thrown away, and rebuilt from the snapshot in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from asyncflow.connectors.contract import BatchSource, ByteSource, ByteStream
from asyncflow.model.batch import Batch
from asyncflow.plan.tables import Component, Plan
from asyncflow.runtime import Run
from asyncflow.runtime.checkpoint.coordinator import Coordinator, Snapshot
from asyncflow.testing import FakeClock, ListSink

PATIENCE = 20_000
"""How many turns of the loop a read waits for the run to be ready for a barrier."""

Data = Mapping[str, Sequence[Any]]
"""The pieces of each source; a read gives one: bytes, a dict, or a batch."""


class Case(Struct, frozen=True, kw_only=True):
    """A flow.  ``live``: its sources that may never end, as far as anyone knows.  ``later``: its sources of which nothing is read before a
    barrier can pass (the left side of a lookup)."""

    plan: Plan
    live: tuple[str, ...] = ()
    later: tuple[str, ...] = ()


class Outcome(Struct, frozen=True):
    """What every sink got, and the ledger without what depends on the clock."""

    sinks: dict[str, bytes]
    ledger: dict[str, Any]


class Thrown(Exception):
    """The run is thrown away here."""


class Pieces(ByteSource, ByteStream):
    """Gives one piece a read.  ``before_read`` is awaited before each, when all items before have been handed on: so every border
    between two items is one of its calls."""

    name = "pieces"

    def __init__(
        self, pieces: Sequence[bytes], before_read: Callable[[], Awaitable[object]], *, bounded: bool
    ) -> None:
        self.bounded = bounded
        self._left = [piece for piece in reversed(pieces) if piece]
        self._before_read = before_read

    async def streams(self) -> AsyncIterator[ByteStream]:
        yield self

    async def read_into(self, buffer: memoryview) -> int:
        await asyncio.sleep(0)
        await self._before_read()
        if not self._left:
            return 0
        piece = self._left.pop()
        count = min(len(piece), len(buffer))
        buffer[:count] = piece[:count]
        if count < len(piece):
            self._left.append(piece[count:])
        return count

    async def aclose(self) -> None:
        self._left = []


class Objects:
    """The same for dicts, given by an iterable that may never end."""

    def __init__(self, pieces: Sequence[Any], before_read: Callable[[], Awaitable[object]]) -> None:
        self._pieces, self._before_read = pieces, before_read

    async def __aiter__(self) -> AsyncIterator[Any]:
        for piece in self._pieces:
            await self._before_read()
            yield piece
        await self._before_read()


class Batches(BatchSource):
    """The same for batches."""

    def __init__(self, pieces: Sequence[Batch], before_read: Callable[[], Awaitable[object]]) -> None:
        self._pieces, self._before_read = pieces, before_read

    async def batches(self) -> AsyncIterator[Batch]:
        for piece in self._pieces:
            await self._before_read()
            yield piece
        await self._before_read()

    async def aclose(self) -> None:
        pass


def whole(case: Case, data: Data, workers: int = 1) -> Outcome:
    """The run without a barrier."""
    return _finished(_execute(case, data, workers, None, None))


def snapshots(case: Case, data: Data, workers: int = 1) -> tuple[Outcome, list[Snapshot]]:
    """The run with a barrier before every read of every source, and all that was collected."""
    found: list[Snapshot] = []
    coordinator = Coordinator(on_snapshot=found.append)
    return _finished(_execute(case, data, workers, coordinator, coordinator.trigger)), found


def resumed(case: Case, data: Data, snapshot: Snapshot, workers: int = 1) -> Outcome:
    """What a new run makes of the rest."""
    return _finished(_execute(case, data, workers, Coordinator(snapshot), None))


def step(
    case: Case, data: Data, snapshot: Snapshot | None, workers: int = 1
) -> tuple[Outcome, Snapshot | None]:
    """Goes on from a snapshot to the next barrier that some items have come before, and is thrown away there; None: came to its end."""
    found: list[Snapshot] = []
    coordinator = Coordinator(snapshot, found.append)

    async def freeze_and_throw() -> None:
        if await coordinator.trigger() is not None and positions(found[-1]) != positions(snapshot):
            raise Thrown

    sinks, ledger = asyncio.run(_execute(case, data, workers, coordinator, freeze_and_throw))
    return Outcome(sinks, ledger or {}), found[-1] if ledger is None else None


def positions(snapshot: Snapshot | None) -> dict[str, object]:
    """How far the sources had come."""
    states = {} if snapshot is None else snapshot.states
    sources = {name: state.within("way").fields.get("position") for name, state in states.items()}
    start = {"stream": 0, "offset": 0, "lines": 1, "count": 0}
    return {name: position for name, position in sources.items() if position not in (None, start)}


def written(snapshot: Snapshot | None, sink: str) -> int:
    """How many bytes the sink had got at the barrier."""
    return 0 if snapshot is None else snapshot.states[sink].integer("bytes", 0)


def _given(pieces: Sequence[Any], before_read: Callable[[], Awaitable[object]], *, bounded: bool) -> Any:
    if isinstance(pieces[0], bytes):
        return Pieces(pieces, before_read, bounded=bounded)
    return Batches(pieces, before_read) if isinstance(pieces[0], Batch) else Objects(pieces, before_read)


def _finished(execution: Any) -> Outcome:
    sinks, ledger = asyncio.run(execution)
    assert ledger is not None
    return Outcome(sinks, ledger)


async def _execute(
    case: Case,
    data: Data,
    workers: int,
    coordinator: Coordinator | None,
    at_border: Callable[[], Awaitable[object]] | None,
) -> tuple[dict[str, bytes], dict[str, Any] | None]:
    """The sinks' bytes, and the ledger; None where it was thrown away."""

    async def before_read() -> None:
        if at_border is not None:
            await at_border()

    async def once_ready() -> None:
        if coordinator is not None:
            for _ in range(PATIENCE):
                if coordinator.ready:
                    break
                await asyncio.sleep(0)
        await before_read()

    plan = case.plan
    sinks = {sink.name: ListSink() for sink in plan.sinks}
    sources = {
        name: _given(pieces, once_ready if name in case.later else before_read, bounded=name not in case.live)
        for name, pieces in data.items()
    }
    bound = replace(
        plan,
        sources=tuple(
            replace(s, connector=Component("python", object=sources[s.name])) for s in plan.sources
        ),
        sinks=tuple(replace(s, connector=Component("list", object=sinks[s.name])) for s in plan.sinks),
    )
    run = Run(bound, workers=workers, clock=FakeClock(10**18), coordinator=coordinator)
    ledger = None
    try:
        async with asyncio.timeout(60):
            ledger = (await run.execute()).to_dict()
            del ledger["seconds"]
            for name, pieces in data.items():
                if not isinstance(
                    pieces[0], bytes
                ):  # what a batch counts for depends on how many rows come at once
                    del ledger["sources"][name]["bytes"]
            if any(len(stage.inputs) > 1 for stage in plan.stages):
                # Which input ends first, and so the last watermark before the end, depends on the order in which inputs are read.
                for counts in ledger["stages"].values():
                    del counts["watermark"]
    except Exception as error:
        if not isinstance(error.__cause__, Thrown):
            raise
    return {name: sink.data for name, sink in sinks.items()}, ledger
