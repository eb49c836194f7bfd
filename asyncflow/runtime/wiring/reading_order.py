"""In what order a table that reads several inputs takes their rows, and what the watermarks say that these carry.

Inputs that end by themselves are read in one order that depends on the data alone: in step with event time, or where the times of their
rows tell no order, one after the other.  Inputs that may never end are taken as they come.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from asyncflow.plan import graph
from asyncflow.plan.tables import Plan
from asyncflow.plan.tables import Stage as PlanStage
from asyncflow.runtime.ingest.source import SourceStage


class ReadingOrder:
    """Of the tables of ``plan``.  ``sources``: those of the run, once they are made; ``re_times``: whether a stage gives its rows times of
    their own."""

    def __init__(
        self, plan: Plan, sources: Sequence[SourceStage], re_times: Callable[[PlanStage], bool]
    ) -> None:
        self._plan, self._sources, self._re_times = plan, sources, re_times

    def in_step(self, inputs: tuple[str, ...]) -> bool:
        """All inputs end by themselves, and the times of their rows tell one order: they are in the data, or those at which the rows of one
        source arrived."""
        if not self.bounded(inputs):
            return False
        names = self._sources_of(inputs)
        read = [source for source in self._plan.sources if source.name in names]
        return all(source.time is not None for source in read) or len(read) == 1

    def bounded(self, inputs: tuple[str, ...]) -> bool:
        """All inputs end by themselves."""
        names = self._sources_of(inputs)
        return all(stage.connector.bounded for stage in self._sources if stage.source.name in names)

    def by_rows(self, inputs: tuple[str, ...]) -> bool:
        """The watermarks that rows of these inputs carry are those of the table that reads them."""
        if len(inputs) > 1 and not self.in_step(inputs):
            return False
        stages = {stage.name: stage for stage in self._plan.stages}
        above = [stages[name] for read in inputs if (name := graph.owner(read)) in stages]
        return all(
            stage.own_watermarks
            or (stage.passes_rows and self._re_times(stage))
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

    def _sources_of(self, inputs: tuple[str, ...]) -> set[str]:
        return {source.name for read in inputs for source in graph.sources_of(self._plan, read)}
