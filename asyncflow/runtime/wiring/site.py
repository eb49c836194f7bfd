"""What the builder of one stage is given: the columns that flow in, readers and channels, and the run's clock and memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypedDict

from msgspec import Struct

from asyncflow.model.batch import END_OF_TIME
from asyncflow.model.schema import Schema
from asyncflow.operators.contract import Operator
from asyncflow.plan import graph, times
from asyncflow.plan.reading_order import ReadingOrder
from asyncflow.plan.tables import Plan, Read, Stage, TimeColumns, Wanted
from asyncflow.runtime.base.clock import Clock
from asyncflow.runtime.base.memory import Memory
from asyncflow.runtime.base.snapshots import Collect
from asyncflow.runtime.base.workers import Offload, parts_for
from asyncflow.runtime.edges.channel import Reader
from asyncflow.runtime.stages.stage import OneInputStage
from asyncflow.runtime.wiring.wires import Flowing, Wires

if TYPE_CHECKING:
    from asyncflow.runtime.stages.refresh import Tables
    from asyncflow.runtime.stages.retiming import Retiming


class OfRun(TypedDict):
    """What every stage of a run is made with."""

    clock: Clock
    memory: Memory
    offload: Offload
    collect: Collect | None


class Site(Struct, frozen=True, eq=False):
    """``read``: the columns that flow into the stage, as of :data:`~asyncflow.plan.tables.Read`.  ``wanted``: of each of ``read`` the
    columns that the stage or those that read its rows need.  ``given``: the columns that others need of the stage's rows (None: all).
    ``flowing``: the columns of all tables so far.

    ``times``: the time columns of the (first) input; ``re_timed``: results have times of their own.  ``tables``: those of the run, of which
    a part can be read again.
    """

    table: Stage
    plan: Plan
    wires: Wires
    order: ReadingOrder
    read: Read
    wanted: tuple[Wanted, ...]
    given: Wanted
    flowing: Flowing
    times: TimeColumns
    re_timed: bool
    of_run: OfRun
    tables: Tables

    def one_input(
        self, make: Callable[[Schema], Operator], *, retiming: Retiming | None = None
    ) -> OneInputStage:
        """The stage over one union; ``make``: the operator for rows of a schema, called once, when that is known."""
        table = self.table
        return OneInputStage(
            table.name, self.reader(), make, self.read[0], table.ways, retiming=retiming, **self.of_run
        )

    @property
    def parts(self) -> int:
        """Into how many parts the stage's state is to be cut, where it can be."""
        return parts_for(self.of_run["offload"].workers)

    @property
    def join_parts(self) -> int:
        """The same for a join, which gains by two already: each worker looks for rows in tables half as large."""
        return parts_for(self.of_run["offload"].workers, least=2)

    def reader(self) -> Reader:
        """The reader of the stage's inputs, as a union."""
        return self.wires.reader(self.table, self.read[0], self.flowing, self.order)

    @property
    def by_rows(self) -> bool:
        """The watermarks that rows carry are those of the stage (not so where inputs without end are read as they come)."""
        return self.order.by_rows(self.table.inputs)

    def retiming(self, *, ordered: bool = True, moved: bool | None = None) -> Retiming | None:
        """Where results have times of their own: what gives them; ``ordered`` and ``moved`` as of Retiming."""
        if not self.re_timed:
            return None
        from asyncflow.runtime.stages.retiming import Retiming

        clock = self.of_run["clock"]
        ahead_ns = max(source.max_future_ns for source in graph.sources_of(self.plan, self.table.name))
        return Retiming(
            self.times,
            times.delay_ns(self.plan, self.table.name),
            lambda: min(clock.now_ns() + ahead_ns, END_OF_TIME),
            ordered=ordered,
            moved=moved,
        )
