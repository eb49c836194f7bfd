"""A run that is frozen at a barrier, thrown away, and rebuilt from the snapshot in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from asyncflow.connectors.contract import ByteSource, ByteStream
from asyncflow.plan.tables import Component, Plan
from asyncflow.runtime import Run
from asyncflow.runtime.checkpoint.coordinator import Coordinator, Snapshot
from asyncflow.testing import ListSink

Data = Mapping[str, Sequence[bytes]]
"""The pieces of each source, each of which is read at a time."""


class Pieces(ByteSource, ByteStream):
    """Gives one piece a read; ``before_read`` is awaited before each, so every item border is one of its calls."""

    name = "pieces"

    def __init__(
        self, pieces: Sequence[bytes], before_read: Callable[[], Awaitable[object]], bounded: bool
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

    async def stop(self) -> None:
        self._left = []

    async def aclose(self) -> None:
        self._left = []


class Outcome(Struct, frozen=True):
    """What every sink got, and the ledger without what depends on the clock."""

    sinks: dict[str, bytes]
    ledger: dict[str, Any]


class Thrown(Exception):
    """The run is thrown away here."""


def whole(plan: Plan, data: Data, workers: int = 1, live: Sequence[str] = ()) -> Outcome:
    """The run without a barrier."""
    return _run(plan, data, workers, live, None, _never)


def snapshots(
    plan: Plan, data: Data, workers: int = 1, live: Sequence[str] = ()
) -> tuple[Outcome, list[Snapshot]]:
    """The run with a barrier before every read of every source, and all that was collected."""
    found: list[Snapshot] = []
    coordinator = Coordinator(on_snapshot=found.append)
    return _run(plan, data, workers, live, coordinator, coordinator.trigger), found


def resumed(
    plan: Plan, data: Data, snapshot: Snapshot, workers: int = 1, live: Sequence[str] = ()
) -> Outcome:
    """What a new run makes of the rest: with what the sinks had got at the barrier before it."""
    return _run(plan, data, workers, live, Coordinator(snapshot), _never)


def written(snapshot: Snapshot, sink: str) -> int:
    """How many bytes the sink had got at the barrier."""
    return snapshot.states[f"sinks.{sink}"].integer("bytes", 0)


def step(
    plan: Plan, data: Data, snapshot: Snapshot | None, workers: int = 1, live: Sequence[str] = ()
) -> tuple[Outcome, Snapshot | None]:
    """Goes on from a snapshot for some items, to a new one, and is thrown away; None: it came to its end before."""
    found: list[Snapshot] = []
    reads = 0
    coordinator = Coordinator(snapshot, found.append)
    start = sum(len(pieces) for pieces in data.values()) if snapshot is None else 0
    del start

    async def freeze_and_throw() -> None:
        nonlocal reads
        reads += 1
        if await coordinator.trigger() is not None and _has_moved(snapshot, found[-1]):
            raise Thrown

    sinks, failed = {}, False
    sinks, ledger = asyncio.run(_execute(plan, data, workers, live, coordinator, freeze_and_throw))
    failed = ledger is None
    return Outcome(sinks, ledger or {}), found[-1] if failed else None


def _has_moved(before: Snapshot | None, now: Snapshot) -> bool:
    """A source has handed something on since."""
    positions = [
        None
        if snapshot is None
        else {name: state.fields.get("way") for name, state in snapshot.states.items()}
        for snapshot in (before, now)
    ]
    return positions[0] != positions[1]


async def _never() -> None:
    pass


def _run(
    plan: Plan,
    data: Data,
    workers: int,
    live: Sequence[str],
    coordinator: Coordinator | None,
    before_read: Callable[[], Awaitable[object]],
) -> Outcome:
    sinks, ledger = asyncio.run(_execute(plan, data, workers, live, coordinator, before_read))
    assert ledger is not None
    return Outcome(sinks, ledger)


async def _execute(
    plan: Plan,
    data: Data,
    workers: int,
    live: Sequence[str],
    coordinator: Coordinator | None,
    before_read: Callable[[], Awaitable[object]],
) -> tuple[dict[str, bytes], dict[str, Any] | None]:
    sinks = {sink.name: ListSink() for sink in plan.sinks}
    sources = {name: Pieces(pieces, before_read, name not in live) for name, pieces in data.items()}
    bound = replace(
        plan,
        sources=tuple(
            replace(s, connector=Component("python", object=sources[s.name])) for s in plan.sources
        ),
        sinks=tuple(replace(s, connector=Component("list", object=sinks[s.name])) for s in plan.sinks),
    )
    run = Run(bound, workers=workers, coordinator=coordinator)
    try:
        async with asyncio.timeout(60):
            counts = (await run.execute()).to_dict()
    except Thrown:
        return {name: sink.data for name, sink in sinks.items()}, None
    except Exception as error:
        if not isinstance(error.__cause__, Thrown):
            raise
        return {name: sink.data for name, sink in sinks.items()}, None
    del counts["seconds"]
    return {name: sink.data for name, sink in sinks.items()}, counts
