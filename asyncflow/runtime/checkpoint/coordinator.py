"""The coordinator: sends barriers through a run and collects the state of every part at each of them.

An epoch: all sources send a barrier between two of their items (``trigger``); each stage and sink hands in its state when the barrier has
come by all of its open inputs.  A part that has ended hands in its last state, which stands for it in every later epoch.  When all parts
have handed in theirs the snapshot of the epoch is complete.  There is one epoch at a time; nothing times out.

The live side of a sequence takes no part before the past has ended: it is read again from its start (see ``stages.sequence``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from msgspec import Struct

from asyncflow.model.snapshot import Frozen, Saved, saved
from asyncflow.runtime.ingest.source import SourceStage
from asyncflow.runtime.stages.sink import SinkStage
from asyncflow.runtime.stages.stage import Seam, Stage


class Snapshot(Struct, frozen=True, eq=False):
    """The state of a run at one epoch: by the name of each source, stage and sink.  A source that is not in it starts anew."""

    epoch: int
    states: Mapping[str, Saved]


class Coordinator:
    """One run's.  ``resume``: the snapshot of another run of the same plan, to go on from.

    ``on_snapshot``: called with each complete snapshot.
    """

    def __init__(
        self, resume: Snapshot | None = None, on_snapshot: Callable[[Snapshot], None] = lambda _: None
    ) -> None:
        self.resume = resume
        self._on_snapshot = on_snapshot
        self._sources: dict[str, SourceStage] = {}
        self._stages: Sequence[Stage] = ()
        self._sinks: Sequence[SinkStage] = ()
        self._epoch = 0 if resume is None else resume.epoch
        self._expected: set[str] = set()
        self._given: dict[str, Saved] = {}
        self._last: dict[str, Saved] = {}
        self._one = asyncio.Lock()
        self._complete = asyncio.Event()
        self._running = self._all_sent = False
        self._anew: set[str] = set()
        """Live sides that take no part in this epoch."""

    def collect(self, name: str, epoch: int | None, state: Frozen) -> None:
        """Takes the state of a part: see :data:`~asyncflow.runtime.base.snapshots.Collect`."""
        if epoch is None:
            self._last[name] = saved(state)
        else:
            assert epoch == self._epoch, f"{name}: a barrier of epoch {epoch} in epoch {self._epoch}"
            self._given[name] = saved(state)
        self._look()

    def saved_source(self, name: str) -> Saved | None:
        """The state to go on from, where there is one."""
        return None if self.resume is None else self.resume.states.get(name)

    def start(
        self,
        sources: Sequence[SourceStage],
        stages: Sequence[Stage],
        sinks: Sequence[SinkStage],
        others: Iterable[str] = (),
    ) -> None:
        """The parts of the run, before they run: gives stages and sinks the states to go on from.  ``others``: parts that hand in a state
        and keep none.

        Raises ValueError where a state does not fit; it begins with the part's name.
        """
        self._sources = {stage.source.name: stage for stage in sources}
        self._stages, self._sinks = stages, sinks
        parts: dict[str, Stage | SinkStage] = {stage.name: stage for stage in stages}
        parts |= {sink.sink.name: sink for sink in sinks}
        self._expected = {*self._sources, *parts, *others}
        if self.resume is not None:
            for name, part in parts.items():
                try:
                    part.restore(self.resume.states[name])
                except ValueError as error:
                    raise ValueError(f"{name}: {error}") from error
            self._last = {
                name: state for name, state in self.resume.states.items() if state.fields.get("ended")
            }
        self._running = True

    async def birth(self) -> Snapshot:
        """The state of all parts before any of them runs."""
        self._epoch += 1
        self._given = {}
        for source in self._sources.values():
            source.hand_in(self._epoch)
        for stage in self._stages:
            stage.hand_in(self._epoch)
        for sink in self._sinks:
            await sink.hand_in(self._epoch)
        return self._taken(self._expected)

    def last(self) -> Snapshot:
        """The state at the end of the run, when all parts have ended."""
        self._epoch += 1
        self._given = {}
        return self._taken(self._expected)

    def _taken(self, names: Iterable[str]) -> Snapshot:
        snapshot = Snapshot(self._epoch, {name: self._given.get(name) or self._last[name] for name in names})
        self._on_snapshot(snapshot)
        return snapshot

    @property
    def ready(self) -> bool:
        """A barrier can pass through all of the run now."""
        return self._running and all(map(self._can_pass, self._stages))

    async def trigger(self) -> Snapshot | None:
        """One epoch; None where the run is not ready for it.  Returns when the snapshot is complete."""
        async with self._one:
            if not self.ready:
                return None
            self._epoch += 1
            self._given = {}
            self._complete.clear()
            self._anew = {seam.after for seam in self._seams() if not seam.passed.is_set()}
            taking_part = [stage for name, stage in self._sources.items() if name not in self._anew]
            await asyncio.gather(*map(self._send, taking_part))
            self._all_sent = True
            self._look()
            await self._complete.wait()
            self._all_sent = False
            return self._taken(self._expected - self._anew)

    async def _send(self, stage: SourceStage) -> None:
        """The barrier of a source.  If the past of a sequence has ended, but its stage has not seen that yet, the live side follows."""
        if await stage.barrier(self._epoch):
            return
        for seam in self._seams():
            if seam.before == stage.source.name and seam.after in self._anew:
                self._anew.discard(seam.after)
                await seam.passed.wait()
                await self._sources[seam.after].barrier(self._epoch)

    def _can_pass(self, stage: Stage) -> bool:
        """A table that only the live side of a sequence feeds gets no barrier before the past has ended."""
        if not stage.ready:
            return False
        if (seam := stage.seam) is None or seam.passed.is_set():
            return True
        live = self._sources[seam.after]
        return live.outlet.readers == 1 and not live.rejected.used and not live.future.used

    def _seams(self) -> Iterator[Seam]:
        return (seam for stage in self._stages if (seam := stage.seam) is not None)

    def _look(self) -> None:
        if self._all_sent and self._expected <= self._given.keys() | self._last.keys() | self._anew:
            self._complete.set()
