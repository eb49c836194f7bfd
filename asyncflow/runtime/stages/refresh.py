"""A lookup whose right table is read again while the flow runs: what it means is said at :class:`~asyncflow.plan.stages.join.Join`.

A reading is a run of a part of the plan: the tables that the right one comes from are made anew (``Reopened.part``), with channels and a
ledger of their own, and run to their end beside the flow.  The rows go into a new table of the operator.  Only when all of it is there, and
its ledger adds up, does it take the old one's place, between two messages of the left side, and its counts become part of the run's.

All of it is a child of the stage: it ends with the stage, however that ends, and closes what it opened.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from asyncflow.errors import ConnectorError
from asyncflow.model.batch import Batch
from asyncflow.model.durations import format_duration
from asyncflow.model.messages import Barrier, End
from asyncflow.model.snapshot import Frozen, Saved, nested
from asyncflow.operators.contract import Output
from asyncflow.operators.joins.lookup import LookupJoin
from asyncflow.plan.stages.join import Join
from asyncflow.runtime.base.clock import Clock
from asyncflow.runtime.base.failures import together
from asyncflow.runtime.base.ledger import Ledger
from asyncflow.runtime.base.memory import Memory
from asyncflow.runtime.base.snapshots import Collect
from asyncflow.runtime.base.status import RefreshStatus
from asyncflow.runtime.base.workers import Offload
from asyncflow.runtime.edges.channel import CHANNEL_BYTES, Channel, FanOut
from asyncflow.runtime.ingest.source import SourceStage
from asyncflow.runtime.stages.join import LEFT, RIGHT, TwoInputStage
from asyncflow.runtime.stages.readers import OneAfterOther

TELL_AGAIN_NS = 600_000_000_000
"""While one reading after the other fails, a warning is given no more often."""

_log = logging.getLogger("asyncflow.refresh")


class Reopened(Protocol):
    """Tables of a run, opened again: what the right table comes from, to be read from its start once more."""

    @property
    def memory(self) -> Memory: ...
    @property
    def ledger(self) -> Ledger: ...
    @property
    def outlets(self) -> Mapping[str, FanOut]: ...
    @property
    def sources(self) -> Sequence[SourceStage]: ...
    def coroutines(self) -> Iterator[tuple[str, Coroutine[Any, Any, None], object]]: ...


class Tables(Reopened, Protocol):
    """Those of the run that the join is part of: a part of them can be opened again, and counted."""

    def part(self, table: str) -> Tables: ...
    def add(self, part: Any) -> None: ...


class RefreshedStage(TwoInputStage):
    """``tables``: those of the run which the join is part of.  ``columns``: those to take of the right table, None: all.

    ``counts`` have ``refreshed`` and ``refresh_failed``: later readings that became the table, and that did not."""

    def __init__(
        self,
        table: Join,
        reader: OneAfterOther,
        operator: LookupJoin,
        kept: tuple[str, ...],
        tables: Tables,
        columns: tuple[str, ...] | None = None,
        *,
        clock: Clock,
        memory: Memory,
        offload: Offload | None = None,
        collect: Collect | None = None,
    ) -> None:
        # Later readings fill a table of the operator meanwhile, so all its work is done by the loop's thread: no ``offload``.
        super().__init__(table.name, reader, operator, kept, clock=clock, memory=memory, collect=collect)
        assert table.refresh_ns is not None
        self._every_ns = table.refresh_ns
        self._right = table.inputs[RIGHT]
        self._tables = tables
        self._columns = columns
        self._lookup = operator
        operator.counts |= {"refreshed": 0, "refresh_failed": 0}
        self._inputs_read = reader
        self._read_first = asyncio.Event()
        self._between = asyncio.Lock()
        self._reading = False
        self._read_ns: int | None = None
        self._due_ns: int | None = None
        self._failure = ""
        self._told_ns: int | None = None
        self._read_again_tables: set[str] = set()

    def refresh_status(self) -> RefreshStatus:
        """When the table was read, and when it will be again."""
        return RefreshStatus(self._right, self._read_ns, self._due_ns, self._reading, self._failure)

    async def run(self) -> None:
        if self.outlet.ended:
            return
        async with asyncio.TaskGroup() as tasks:
            refreshing = tasks.create_task(self._refresh(), name=f"asyncflow:{self.name}.refresh")
            await super().run()
            refreshing.cancel()

    async def _hand_on(self, outputs: Iterable[Output]) -> None:
        async with self._between:
            await super()._hand_on(outputs)

    async def _finish(self, port: int) -> None:
        await super()._finish(port)
        if port == RIGHT:
            self._read_ns = self._clock.now_ns()
            self._read_first.set()

    async def _on_barrier(self, barrier: Barrier) -> None:
        async with self._between:
            await super()._on_barrier(barrier)

    def _freeze(self) -> Frozen:
        """With the counts of the tables that are read again: they ended before, and have grown since.  A reading under way is not part of
        the state."""
        ledger = self._tables.ledger
        again: dict[str, Frozen] = {name: ledger.of(name).freeze() for name in self._read_again_tables}
        counts = nested({"names": [*sorted(again)]}, again)
        return nested({"read_ns": self._read_ns}, {"join": super()._freeze(), "tables": counts})

    def _restore(self, saved: Saved) -> None:
        super()._restore(saved.within("join"))
        if saved.fields.get("read_ns") is not None:
            self._read_ns = saved.integer("read_ns")
            self._due_ns = self._read_ns + self._every_ns
            self._read_first.set()
        tables = saved.within("tables")
        names = tables.fields.get("names")
        for name in names if isinstance(names, list) else ():
            assert isinstance(name, str)
            self._read_again_tables.add(name)
            self._tables.ledger.of(name).restore(tables.within(name))

    async def _refresh(self) -> None:
        await self._read_first.wait()
        while True:
            now_ns = self._clock.now_ns()
            if self._due_ns is None:
                self._due_ns = now_ns + self._every_ns
            await self._clock.sleep(max(0, self._due_ns - now_ns) / 1e9)
            self._reading = True
            await self._read_again()
            self._reading, self._due_ns = False, None

    async def _read_again(self) -> None:
        try:
            part = self._tables.part(self._right)
            num_rows = await self._read(part)
        except Exception as error:  # whatever it is, there is a table to go on with
            self._failed(str(error) or type(error).__name__)
        else:
            await self._take_over(part, num_rows)

    async def _read(self, part: Reopened) -> int:
        """Fills the operator's new table; gives how many rows it has."""
        channel = Channel(1, CHANNEL_BYTES, self.name, part.memory)
        part.outlets[self._right].connect(channel, 0, self._columns)
        self._lookup.read_again()
        num_rows = 0

        async def hold() -> None:
            nonlocal num_rows
            while not isinstance(message := (await channel.receive())[1], End):
                if isinstance(message, Batch):
                    self._lookup.hold(message)
                    num_rows += message.num_rows

        await together((*part.coroutines(), (self.name, hold(), None)))
        for stage in part.sources:
            if stage.cut_short:
                raise ConnectorError(stage.cut_short, table=stage.source.name)
        return num_rows

    async def _take_over(self, part: Reopened, num_rows: int) -> None:
        part.ledger.check()
        async with self._between:
            if self._inputs_read.ports[LEFT].ended:
                return
            self._lookup.take_over()
            self.counts.rows_in += num_rows
            self._tables.add(part)
            self._read_again_tables |= {*part.ledger.sources, *part.ledger.stages}
        self._lookup.counts["refreshed"] += 1
        self._read_ns = self._clock.now_ns()
        if self._failure:
            _log.info("%s: %s is read again", self.name, self._right)
        self._failure, self._told_ns = "", None

    def _failed(self, failure: str) -> None:
        self._lookup.give_up()
        self._lookup.counts["refresh_failed"] += 1
        self._failure = failure
        elapsed_ns = self._clock.elapsed_ns()
        if self._told_ns is None or elapsed_ns - self._told_ns >= TELL_AGAIN_NS:
            self._told_ns = elapsed_ns
            every = format_duration(self._every_ns)
            _log.warning(
                "%s: %s could not be read again, the table stays as it was (next in %s): %s",
                self.name,
                self._right,
                every,
                failure,
            )
