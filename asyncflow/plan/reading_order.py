"""In what order a table reads several inputs, and whether the watermarks that their rows carry are the table's.

Inputs that end by themselves are read in one order that depends on the data alone: in step with event time, or where the times of their
rows give no order, one after the other.  Inputs that may never end are taken as they come.  Every engine asks here, so that all give the
same results.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from asyncflow.model.schema import Schema
from asyncflow.plan import graph
from asyncflow.plan.tables import Plan
from asyncflow.plan.times import re_timed


class ReadingOrder:
    """Of the tables of ``plan``.  ``schemas``: of all tables; ``bounded``: the sources that end by themselves."""

    def __init__(self, plan: Plan, schemas: Mapping[str, Schema | None], bounded: Collection[str]) -> None:
        self._plan, self._bounded = plan, frozenset(bounded)
        self._re_timed = re_timed(plan, schemas)

    def in_step(self, inputs: tuple[str, ...]) -> bool:
        """All inputs end by themselves, and the times of their rows give one order: they are in the data, or those at which the rows of one
        source arrived."""
        if not self.bounded(inputs):
            return False
        names = self._sources_of(inputs)
        read = [source for source in self._plan.sources if source.name in names]
        return all(source.time is not None for source in read) or len(read) == 1

    def bounded(self, inputs: tuple[str, ...]) -> bool:
        """All inputs end by themselves."""
        return self._sources_of(inputs) <= self._bounded

    def by_rows(self, inputs: tuple[str, ...]) -> bool:
        """The watermarks that rows of these inputs carry are those of the table that reads them."""
        if len(inputs) > 1 and not self.in_step(inputs):
            return False
        stages = {stage.name: stage for stage in self._plan.stages}
        above = [stages[name] for read in inputs if (name := graph.owner(read)) in stages]
        return all(
            stage.own_watermarks
            or (stage.passes_rows and stage.name in self._re_timed)
            or self.by_rows(stage.inputs)
            for stage in above
        )

    def rising(self, read: str) -> bool:
        """The watermarks that this table's rows carry never fall, as they may where several inputs met: then they say sooner than the table
        itself how far it is.  Not known of all tables."""
        stage = next((stage for stage in self._plan.stages if stage.name == graph.owner(read)), None)
        if stage is None:
            return True
        passed_on = stage.passes_rows or read.endswith(".late")
        alone = len(stage.inputs) == 1 or stage.apart
        return passed_on and alone and self.rising(stage.inputs[0])

    def _sources_of(self, inputs: tuple[str, ...]) -> frozenset[str]:
        return frozenset(source.name for read in inputs for source in graph.sources_of(self._plan, read))
