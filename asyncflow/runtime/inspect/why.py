"""Status of a run at one moment, for ``asyncflow why``: what each stage waits for, and which sources hold its watermark.

A stage's watermark is held by the lowest of its inputs that count.  Where such an input is a stage, the inputs of that stage are followed,
down to the sources.  Where messages wait in a channel on the way, the run itself holds the watermark.  Nothing is gathered before a call.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from msgspec.structs import replace

from asyncflow.model.batch import END_OF_TIME, NO_TIME
from asyncflow.plan.tables import Stage as PlanStage
from asyncflow.runtime.base.status import (
    Holder,
    InputStatus,
    RunStatus,
    SinkStatus,
    SourceStatus,
    StageStatus,
)
from asyncflow.runtime.edges.channel import FanOut
from asyncflow.runtime.ingest.source import SourceStage
from asyncflow.runtime.run.run import Run
from asyncflow.runtime.stages.sink import SinkStage
from asyncflow.runtime.stages.stage import Stage

_WAYS = ("late", "late_right", "late_partly", "duplicate")


def status(run: Run) -> RunStatus:
    """Where the run stands.  Call it from the run's own loop."""
    return _Look(run).all()


class _Look:
    """One look at a run."""

    def __init__(self, run: Run) -> None:
        self._run, self._wiring = run, run.wiring
        self._stages = {stage.name: stage for stage in run.wiring.stages}
        self._outlets: dict[str, tuple[FanOut, ...]] = {
            name: (stage.outlet, *stage.side.values()) for name, stage in self._stages.items()
        }
        self._sources = {stage.source.name: self._source(stage) for stage in run.wiring.sources}

    def all(self) -> RunStatus:
        phase, table = self._run.phase
        tables = {table.name: table for table in self._run.plan.stages}
        order = [source.name for source in self._run.plan.sources if source.name in self._sources]
        return RunStatus(
            name=self._run.plan.name,
            now_ns=self._run.clock.now_ns(),
            started_ns=self._run.started_ns,
            phase=phase,
            phase_table=table or self._wiring.head_of,
            sources=tuple(self._sources[name] for name in order),
            stages=tuple(
                self._stage(tables[name], stage)
                for name, stage in self._stages.items()
                if tables[name].closes
            ),
            sinks=tuple(map(self._sink, self._wiring.sinks)),
        )

    # -- tables ----------------------------------------------------------------------------------------------------------

    def _source(self, stage: SourceStage) -> SourceStatus:
        found = stage.status()
        if found.state != "held":
            return found
        return replace(found, waits_for=self._waits_for((stage.outlet, stage.rejected, stage.future)))

    def _stage(self, table: PlanStage, stage: Stage) -> StageStatus:
        inputs, standing = self._wiring.inputs[stage.name], stage.standing
        next_due_ns = stage.next_due_ns
        chosen, any_holder, _ = self._chosen(stage.name)
        closes = _closes(table, stage)
        by_time = chosen and closes in ("time", "at once")
        holders = _distinct(self._holders(stage.name, next_due_ns, (), False)) if by_time else ()
        rows = stage.waiting_rows
        return StageStatus(
            name=stage.name,
            kind=table.type,
            state=self._state(stage),
            waits_for=self._waits_for(self._outlets[stage.name]),
            closes=closes,
            watermark_ns=_known(stage.reached_ns),
            moved_ns=stage.moved_ns,
            inputs=inputs.status(),
            takes=inputs.wanted,
            in_step=inputs.in_step,
            holders=holders,
            any_holder=any_holder,
            next_due_ns=next_due_ns,
            revised=table.revised,
            size=table.closes_after,
            open_windows=None if standing is None else standing.open_windows,
            open_keys=stage.open_keys,
            held_rows=() if rows is None else rows if isinstance(rows, tuple) else (rows,),
            refresh=stage.refresh_status(),
            left={way: count for way in _WAYS if (count := stage.counts.ways.get(way))},
        )

    def _state(self, stage: Stage) -> str:
        if stage.outlet.ended:
            return "ended"
        if any(outlet.blocked_by for outlet in self._outlets[stage.name]):
            return "held"
        return "waits" if self._wiring.inputs[stage.name].awaited else "works"

    def _sink(self, stage: SinkStage) -> SinkStatus:
        inputs = self._wiring.inputs[stage.sink.name]
        ports = inputs.status()
        return SinkStatus(
            name=stage.sink.name,
            state="ended" if stage.ended else "waits" if inputs.awaited else "writes",
            rows=stage.counts.rows,
            waiting_rows=sum(port.waiting_rows for port in ports),
        )

    def _waits_for(self, outlets: Iterable[FanOut]) -> tuple[str, ...]:
        """The table that has no room for what these send, the one that it waits for in turn, and so on."""
        found: list[str] = []
        while (name := next((name for outlet in outlets for name in outlet.blocked_by), None)) is not None:
            if name in found:
                break
            found.append(name)
            outlets = self._outlets.get(name, ())
        return tuple(found)

    # -- who holds the watermark -----------------------------------------------------------------------------------------

    def _chosen(self, name: str) -> tuple[list[InputStatus], bool, bool]:
        """The inputs that hold a table's watermark; whether any of them can move it alone; whether others count that are further on."""
        inputs = self._wiring.inputs[name]
        status = [each for each in inputs.status() if each.state != "ended"]
        if inputs.wanted is not None:
            return [each for each in status if each.name == inputs.wanted], False, False
        counting = [each for each in status if each.state == "counts"]
        if not counting:
            return status, True, False
        lowest = min(map(_reached, counting))
        chosen = [each for each in counting if _reached(each) == lowest]
        return chosen, False, len(chosen) < len(counting) and not inputs.in_step

    def _holders(
        self, name: str, needed_ns: int | None, path: tuple[str, ...], idle_helps: bool
    ) -> Iterator[Holder]:
        if (past := self._at_seam(name)) is not None:
            yield Holder(past, path, "seam", name, needed_ns)
            return
        chosen, _, others = self._chosen(name)
        for each in chosen:
            yield from self._behind(name, each, needed_ns, (*path, each.name), idle_helps or others)

    def _behind(
        self, reader: str, read: InputStatus, needed_ns: int | None, path: tuple[str, ...], idle_helps: bool
    ) -> Iterator[Holder]:
        owner, _, side = read.name.partition(".")
        if side:
            yield Holder(read.name, path, "side output")
        elif read.waiting:
            yield Holder(owner, path, "rows wait", reader, needed_ns)
        elif owner in self._sources:
            yield Holder(owner, path, "source", "", needed_ns, idle_helps)
        else:
            stage = self._stages[owner]
            held_ns = 0 if (standing := stage.standing) is None else standing.held_ns
            if needed_ns is not None:
                needed_ns = min(needed_ns + held_ns, END_OF_TIME)
            inputs = self._wiring.inputs[owner]
            counting = [_reached(each) for each in inputs.status() if each.state == "counts"]
            if stage.keeps_rows_under_way and counting and min(counting) > stage.reached_ns:
                yield Holder(owner, path, "rows wait", owner, needed_ns)
                return
            yield from self._holders(owner, needed_ns, path, idle_helps)

    def _at_seam(self, name: str) -> str | None:
        """The input that must end first, of a stage that has come as far as it may before (a sequence and its past)."""
        stage = self._stages.get(name)
        if stage is None or (port := stage.capped_until_end_of) is None:
            return None
        past = self._wiring.inputs[name].status()[port]
        said_ns = self._sources[past.name].watermark_ns
        return past.name if not past.waiting and said_ns is not None and said_ns > stage.reached_ns else None


def _distinct(holders: Iterable[Holder]) -> tuple[Holder, ...]:
    """Each table once, with what it needs at most."""
    found: dict[str, Holder] = {}
    for each in holders:
        known = found.get(each.source)
        if known is None or (each.needed_ns or NO_TIME) > (known.needed_ns or NO_TIME):
            found[each.source] = each
    return tuple(found.values())


def _reached(port: InputStatus) -> int:
    return NO_TIME if port.watermark_ns is None else port.watermark_ns


def _known(time_ns: int) -> int | None:
    return None if time_ns in (NO_TIME, END_OF_TIME) else time_ns


def _closes(table: PlanStage, stage: Stage) -> str:
    """What lets the stage's results out; a top is of everything where its input came without windows."""
    standing = stage.standing
    return "end" if table.closes == "time" and standing is not None and not standing.timed else table.closes
