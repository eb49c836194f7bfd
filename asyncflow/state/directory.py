"""The directory of a pipeline's checkpoints: who owns it, which checkpoints are in it, how one is published and read again.

::

    lock                  held by the one run that writes here: process, host and run, as JSON
    chk-0000000042.af     the checkpoint of epoch 42, published and never changed again
    .tmp-RUN-EPOCH        a checkpoint being written, or left by a run that was ended while it wrote

A rename publishes a checkpoint: before the rename there is no checkpoint of that epoch, afterwards there is a whole one.  The newest
published checkpoint is the state of the pipeline.  If it is not as it was written it is refused, never skipped.  Temporary files are never
read; they are removed once a state was read.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

import numpy as np
from msgspec import Struct

from asyncflow.errors import StateError
from asyncflow.model.snapshot import Array, Piece, Plain, Saved
from asyncflow.state.disk import Disk
from asyncflow.state.format import (
    CHECKPOINT,
    About,
    Bytes,
    Contents,
    Identity,
    Link,
    Part,
    Reader,
    Writer,
    dtype_of,
)
from asyncflow.state.lock import Lock

LEAST_KEPT = 2
"""A checkpoint is kept beside the newest one: to go back to when the newest is damaged."""
MOST_LINKS = 16
_PUBLISHED = re.compile(r"chk-([0-9]{10})\.af")
_TEMPORARY = re.compile(r"\.tmp-[0-9a-f]{32}-([0-9]{1,10})")
LAST_EPOCH = 10**10 - 1


class Loaded(Struct, frozen=True, eq=False):
    """A checkpoint that was read; ``states``: by the name of each source, stage and sink."""

    epoch: int
    contents: Contents
    states: Mapping[str, Saved]


class StateDirectory:
    """Checkpoints in the directory ``path``.  Only its owner (``lock``) publishes, tidies and removes; anybody may read."""

    def __init__(self, path: str, disk: Disk | None = None) -> None:
        self.path = os.path.abspath(os.path.expanduser(path))
        self.disk = disk or Disk()
        self._lock: Lock | None = None
        self._needs: dict[int, frozenset[int]] = {}

    # -- the owner -------------------------------------------------------------------------------------------------------------------

    def lock(self, run: bytes) -> None:
        """Makes the directory where it is missing and takes it for this run (16 bytes).

        StateError: another run has it, or others may write in it."""
        try:
            self.disk.make_folder("recover.folder", self.path)
            open_to_others = self.disk.others_may_write(self.path)
            if not open_to_others:
                self._lock = Lock(self.disk, os.path.join(self.path, "lock"), run)
        except OSError as error:
            raise StateError(f"{self.path}: {os.strerror(error.errno or 0).lower()}") from error
        if open_to_others:
            raise StateError(
                f"{self.path}: others may write in this directory: chmod 700 it, or choose another one"
            )

    def unlock(self) -> None:
        """Lets another run have the directory."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    # -- what is there ---------------------------------------------------------------------------------------------------------------

    def epochs(self) -> list[int]:
        """The epochs of the published checkpoints, ascending."""
        return [int(found[1]) for name in self.disk.names(self.path) if (found := _PUBLISHED.fullmatch(name))]

    def next_epoch(self) -> int:
        """The epoch after all that were published or begun."""
        names = self.disk.names(self.path)
        begun = [int(found[1]) for name in names if (found := _TEMPORARY.fullmatch(name))]
        return max((*self.epochs(), *begun, 0)) + 1

    def file(self, epoch: int) -> str:
        """The path of a published checkpoint."""
        return os.path.join(self.path, f"chk-{epoch:010d}.af")

    def read(self, epoch: int) -> tuple[Reader, dict[int, Bytes]]:
        """A published checkpoint and the bytes of its parts.  StateError where it is damaged or not there."""
        try:
            with self.disk.open(self.file(epoch)) as file:
                reader = self._reader(epoch, Reader(file))
                return reader, reader.parts()
        except FileNotFoundError:
            there = ", ".join(map(str, self.epochs())) or "none"
            raise StateError(f"{self.path}: there is no checkpoint {epoch} (there are: {there})") from None

    def contents(self, epoch: int) -> Contents:
        """What a published checkpoint says of itself; its rows are not read."""
        with self.disk.open(self.file(epoch)) as file:
            return self._reader(epoch, Reader(file)).contents

    def check(self, epoch: int) -> None:
        """Reads a published checkpoint, and the parts of others that it names, and keeps nothing.  StateError where anything is damaged."""
        with self.disk.open(self.file(epoch)) as file:
            reader = self._reader(epoch, Reader(file))
            reader.check()
        for needed in sorted(_needed(reader.contents) - {epoch}):
            self.read(needed)

    def load(self, epoch: int | None = None) -> Loaded | None:
        """The states of the newest checkpoint, or of the one of ``epoch``; None where nothing was ever published."""
        if epoch is None:
            epochs = self.epochs()
            if not epochs:
                return None
            epoch = epochs[-1]
        reader, own = self.read(epoch)
        files = {epoch: (reader, own)}
        for needed in _needed(reader.contents) - {epoch}:
            files[needed] = self.read(needed)
        self._needs[epoch] = _needed(reader.contents)
        states = {
            owner: Saved(state.fields, {part.name: _rows(reader, part, files) for part in state.parts})
            for owner, state in reader.contents.states.items()
        }
        return Loaded(epoch, reader.contents, states)

    def _reader(self, epoch: int, reader: Reader) -> Reader:
        if reader.identity.epoch != epoch:
            raise StateError(
                f"{reader.path}: holds the checkpoint {reader.identity.epoch}, not {epoch}: was the file renamed?"
            )
        return reader

    # -- the owner's work ------------------------------------------------------------------------------------------------------------

    def begin(self, epoch: int, pipeline: bytes) -> Unpublished:
        """A checkpoint to be written and published.  ``pipeline``: 16 bytes that tell it from others."""
        lock = self._owned()
        if not 0 < epoch <= LAST_EPOCH:
            raise StateError(f"{self.path}: epoch {epoch} has no file name")
        return Unpublished(self, Identity(CHECKPOINT, epoch, lock.run, pipeline))

    def publish(self, temporary: str, epoch: int, contents: Contents) -> None:
        """Gives a whole and synced file its name.  The rename is the instant from which the checkpoint stands."""
        lock = self._owned()
        target = self.file(epoch)
        if not lock.held():
            raise StateError(
                f"{self.path}: another run has taken this directory; the checkpoint {epoch} is given up"
            )
        if self.disk.place(target) is not None:
            raise StateError(f"{target}: there is a checkpoint of this epoch already")
        self.disk.rename("publish.rename", temporary, target)
        self.disk.sync_folder("publish.dirsync", self.path)
        self._needs[epoch] = _needed(contents)

    def tidy(self, retain: int) -> None:
        """Removes all but the last ``retain`` checkpoints (at least 2) and those that they name."""
        self._owned()
        epochs = self.epochs()
        kept = epochs[-max(retain, LEAST_KEPT) :]
        needed = set(kept).union(*(self._needed_by(epoch) for epoch in kept))
        gone = [epoch for epoch in epochs if epoch not in needed]
        for epoch in gone:
            self.disk.unlink("tidy.unlink", self.file(epoch))
            self._needs.pop(epoch, None)
        if gone:
            self.disk.sync_folder("tidy.dirsync", self.path)

    def remove_temporaries(self) -> None:
        """Removes what runs left that were ended while they wrote.  To be called when the state was read."""
        self._owned()
        left = [name for name in self.disk.names(self.path) if _TEMPORARY.fullmatch(name)]
        for name in left:
            self.disk.unlink("recover.unlink", os.path.join(self.path, name))
        if left:
            self.disk.sync_folder("recover.dirsync", self.path)

    def _needed_by(self, epoch: int) -> frozenset[int]:
        if epoch not in self._needs:
            self._needs[epoch] = _needed(self.contents(epoch))
        return self._needs[epoch]

    def _owned(self) -> Lock:
        assert self._lock is not None, "only the owner of the directory changes it"
        return self._lock


class Unpublished:
    """A checkpoint that is being written."""

    def __init__(self, directory: StateDirectory, identity: Identity) -> None:
        self._directory, self.epoch = directory, identity.epoch
        self._path = os.path.join(directory.path, f".tmp-{identity.run.hex()}-{identity.epoch}")
        self._file = directory.disk.create("publish.create", self._path)
        self._writer = Writer(self._file, identity, "publish")

    def add(self, owner: str, piece: Piece) -> None:
        """Rows of a part of the state of ``owner``: the first ones, or those that follow."""
        self._writer.add(owner, piece)

    def keep(self, owner: str, part: Part) -> None:
        """The rows of a part of an earlier checkpoint stand as they are.  Rows that are added to the part follow them."""
        self._writer.keep(owner, part)

    def publish(self, about: About, fields: Mapping[str, Mapping[str, Plain]]) -> Contents:
        """All rows are in: the checkpoint lasts when this returns.  After an error it is to be dropped; it may stand nevertheless where the
        error came from the last sync of the directory."""
        contents = self._writer.finish(about, fields)
        self._file.sync("publish.fsync")
        self._file.close()
        self._directory.publish(self._path, self.epoch, contents)
        return contents

    def drop(self) -> None:
        """Gives the checkpoint up."""
        self._file.close()
        self._directory.disk.unlink("publish.drop", self._path)


def move_aside(path: str, disk: Disk | None = None) -> str | None:
    """Renames a state directory to ``PATH.old-N``; gives the new path, or None where there is none to move.  StateError: a run uses it."""
    directory = StateDirectory(path, disk)
    disk, path = directory.disk, directory.path
    if disk.place(path) is None:
        return None
    directory.lock(bytes(16))
    try:
        number = 1
        while disk.place(f"{path}.old-{number}") is not None:
            number += 1
        disk.rename("fresh.rename", path, f"{path}.old-{number}")
        disk.sync_folder("fresh.dirsync", os.path.dirname(path))
    finally:
        directory.unlock()
    return f"{path}.old-{number}"


def _needed(contents: Contents) -> frozenset[int]:
    """The epochs whose files hold the rows."""
    return frozenset(
        link.epoch for state in contents.states.values() for part in state.parts for link in part.chain
    )


def _rows(reader: Reader, part: Part, files: Mapping[int, tuple[Reader, dict[int, Bytes]]]) -> Array:
    """The rows of a part, from all of its links."""
    dtype = dtype_of(part.dtype)
    if not 0 < len(part.chain) <= MOST_LINKS or [link.kind == "full" for link in part.chain] != [
        not place for place in range(len(part.chain))
    ]:
        raise StateError(
            f"{reader.path}: {part.name}: a chain is one whole part and at most {MOST_LINKS - 1} tails"
        )
    found = [_link(reader, part, link, *files[link.epoch]) for link in part.chain]
    joined = found[0] if len(found) == 1 else np.concatenate(found)
    rows = joined.view(dtype)
    return rows if dtype.isnative else rows.astype(dtype.newbyteorder("="))


def _link(reader: Reader, part: Part, link: Link, source: Reader, parts: Mapping[int, Bytes]) -> Bytes:
    named = {own.part: own for _, own in source.own_links()}
    if source.identity.run != link.run or link.part not in parts or named[link.part].crc != link.crc:
        raise StateError(f"{reader.path}: {part.name}: {source.path} is not the file that it was saved in")
    data = parts[link.part]
    if len(data) != link.rows * dtype_of(part.dtype).itemsize:
        raise StateError(f"{reader.path}: {part.name}: {source.path} has another number of its rows")
    return data
