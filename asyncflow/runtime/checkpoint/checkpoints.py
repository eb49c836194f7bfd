"""Checkpoints of a run on disk: taken one after another, published, and gone on from.

A checkpoint is taken in this order.  The coordinator collects the state of every part; what the sinks have written lasts by then.  The
state is written and published (``state.directory``): from that instant the checkpoint stands.  The sinks are told so.  Older checkpoints
are removed.  The first checkpoint, the *birth*, is published before the first row is read.  So a run that was killed early reads the same
files again and writes behind the same bytes.

A checkpoint that cannot be written (a full disk) is given up with a warning; the run goes on, and the checkpoint before it stands.
Publishing and telling the sinks are never cut short by a cancellation.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from asyncflow.connectors._files import to_completion
from asyncflow.connectors.contract import SinkConnector
from asyncflow.errors import StateError
from asyncflow.model.snapshot import Piece
from asyncflow.plan.tables import Plan
from asyncflow.runtime.checkpoint.coordinator import Coordinator, Snapshot
from asyncflow.runtime.checkpoint.identity import changed, identity
from asyncflow.runtime.stages.sink import SinkStage
from asyncflow.state.directory import StateDirectory, Unpublished
from asyncflow.state.format import About, Status
from asyncflow.version import VERSION

if TYPE_CHECKING:
    from asyncflow.state.disk import Disk

logger = logging.getLogger("asyncflow.checkpoints")
PIECE_BYTES = 1 << 20


class Checkpoints:
    """Of one run of ``plan``, which has a folder for them.

    Opening reads the newest checkpoint.  StateError: it is damaged, of another pipeline, or another run has the folder.
    """

    def __init__(self, plan: Plan, disk: Disk | None = None) -> None:
        assert plan.checkpoints is not None
        self._settings = plan.checkpoints
        self._tables = identity(plan)
        self._pipeline = hashlib.sha256(plan.name.encode()).digest()[:16]
        self._directory = StateDirectory(self._settings.folder, disk)
        self._directory.lock(os.urandom(16))
        try:
            self.loaded = self._directory.load()
            self._compare()
        except BaseException:
            self._directory.unlock()
            raise
        loaded = self.loaded
        self.coordinator = Coordinator(None if loaded is None else Snapshot(loaded.epoch, loaded.states))
        self._sinks: Sequence[SinkStage] = ()
        self._now: Callable[[], int] = time.time_ns
        self._published = 0 if self.loaded is None else self.loaded.epoch
        self._one = asyncio.Lock()

    @property
    def finished(self) -> bool:
        """The run before this one came to the end of its input."""
        return self.loaded is not None and self.loaded.contents.about.status == "finished"

    @property
    def rows(self) -> int:
        """Rows that the sources had read at the checkpoint that is gone on from."""
        states = {} if self.loaded is None else self.loaded.states
        return sum(_rows_read(state.fields) for state in states.values())

    def close(self) -> None:
        """Lets another run have the folder."""
        self._directory.unlock()

    # -- a run ---------------------------------------------------------------------------------------------------------------------------

    async def begin(self, sinks: Sequence[SinkStage], now_ns: Callable[[], int]) -> None:
        """Called when the sinks are open and nothing was read yet."""
        self._sinks, self._now = sinks, now_ns
        try:
            if self.loaded is None:
                await self._publish(await self.coordinator.birth(), "running")
            else:
                await to_completion(asyncio.to_thread(self._directory.remove_temporaries))
        except OSError as error:
            raise self._fault(error) from error

    async def run(self) -> None:
        """Takes checkpoints until it is cancelled."""
        while True:
            await asyncio.sleep(self._settings.interval_ns / 1e9)
            await self.take("running")

    async def take(self, status: Status) -> bool:
        """Takes one; False where the run is not ready for one, or where it could not be written."""
        async with self._one:
            snapshot = await self.coordinator.trigger()
            if snapshot is None:
                return False
            try:
                await self._publish(snapshot, status)
            except OSError as error:
                if error.errno == errno.EIO:  # after it nobody knows what lasts
                    raise self._fault(error) from error
                said, before = os.strerror(error.errno or 0).lower(), self._published
                logger.warning(
                    "checkpoint %d could not be written: %s; %d stands", snapshot.epoch, said, before
                )
                return False
        return True

    async def finish(self) -> None:
        """The run has come to the end of its input, and all of it is written."""
        async with self._one:
            try:
                await self._publish(self.coordinator.last(), "finished")
            except OSError as error:
                raise self._fault(error) from error

    @property
    def published(self) -> int:
        """The epoch of the newest checkpoint that stands."""
        return self._published

    async def finish_again(self, sinks: Mapping[str, SinkConnector]) -> None:
        """The run before this one has finished; perhaps it was ended before it could tell its sinks."""
        assert self.loaded is not None
        for name, sink in sinks.items():
            if name in self.loaded.states:
                await sink.commit(self.loaded.states[name].fields.get("token"), last=True)

    async def _publish(self, snapshot: Snapshot, status: Status) -> None:
        await to_completion(self._stand(snapshot, status))

    async def _stand(self, snapshot: Snapshot, status: Status) -> None:
        await asyncio.to_thread(self._write, snapshot, status)
        self._published = snapshot.epoch
        for sink in self._sinks:
            token = snapshot.states[sink.sink.name].fields.get("token")
            if token is not None:
                await sink.connector.commit(token, last=status == "finished")
        with contextlib.suppress(OSError):  # older ones may stay
            await asyncio.to_thread(self._directory.tidy, self._settings.retain)

    def _write(self, snapshot: Snapshot, status: Status) -> None:
        about = About(
            asyncflow=VERSION,
            created_ns=time.time_ns(),
            clock_ns=self._now(),
            previous=self._published or None,
            status=status,
            plan={"tables": self._tables},
        )
        unpublished = self._directory.begin(snapshot.epoch, self._pipeline)
        try:
            for owner, piece in _pieces(snapshot):
                unpublished.add(owner, piece)
            unpublished.publish(about, {owner: state.fields for owner, state in snapshot.states.items()})
        except BaseException:
            _drop(unpublished)
            raise

    def _fault(self, error: OSError) -> StateError:
        said = os.strerror(error.errno or 0).lower()
        return StateError(f"{self._directory.path}: a checkpoint could not be written: {said}")

    def _compare(self) -> None:
        if self.loaded is None:
            return
        path = self._directory.file(self.loaded.epoch)
        before = self.loaded.contents.about.plan.get("tables")
        if not isinstance(before, dict):
            raise StateError(f"{path}: does not say of which pipeline it is")
        if found := changed(before, self._tables):
            raise StateError(
                f"{path}: is of another pipeline: {', '.join(found)}; run the pipeline as it was, or start anew with --fresh"
            )


def _pieces(snapshot: Snapshot) -> Iterator[tuple[str, Piece]]:
    for owner, state in snapshot.states.items():
        for part, data in state.parts.items():
            rows = max(1, PIECE_BYTES // data.itemsize)
            for begin in range(0, max(1, len(data)), rows):
                yield owner, Piece(part, data[begin : begin + rows])


def _drop(unpublished: Unpublished) -> None:
    with contextlib.suppress(OSError):  # the next run removes the file
        unpublished.drop()


def _rows_read(fields: Mapping[str, Any]) -> int:
    way = fields.get("way")
    counts = way.get("counts") if isinstance(way, dict) else None
    rows = counts.get("rows") if isinstance(counts, dict) else None
    return rows if isinstance(rows, int) else 0
