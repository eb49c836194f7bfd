"""What an operator that can be a part of another has beside the contract of operators: rows in without their batch."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from asyncflow._kernels.groups import GroupTable
from asyncflow.model.batch import Batch
from asyncflow.model.columns import BoolArray, Column, IndexArray, Int32Array, Int64Array
from asyncflow.model.snapshot import Frozen, Plain, Saved
from asyncflow.operators.contract import Operator


class Prepared(Struct, frozen=True, eq=False):
    """What a stage reads of a batch: its key columns, other columns (a window's: the aggregates' inputs) and masks."""

    keys: tuple[Column, ...]
    inputs: tuple[Column, ...]
    masks: tuple[BoolArray, ...]


Prepare: TypeAlias = Callable[[Batch, dict[str, int]], Prepared]
"""Computes what a stage reads of a batch, and adds what is lost in computing to the counts that are given; any thread may do so."""


class Origin(Struct, frozen=True, eq=False):
    """Where rows that a part takes come from.  ``hashes``: of their keys; ``before``: rows of the stage before their batch; ``places``: of
    each row in the batch, ascending."""

    hashes: NDArray[np.uint64]
    before: int
    places: Int32Array


class Share(Struct, frozen=True, eq=False):
    """Which keys of a batch that was added up a part takes: their places, and their hashes.  ``before``: rows of the stage before the
    batch."""

    keys: Int32Array
    hashes: NDArray[np.uint64]
    before: int


class Told(NamedTuple):
    """What counts for all parts together: rows that came, and windows that were closed, each once."""

    arrivals: int = 0
    windows_closed: int = 0


class Part(Operator):
    """An operator whose state is kept by key, so that several of them can share the keys of a stage."""

    @abstractmethod
    def take(self, batch: Batch, prepared: Prepared, origin: Origin | None = None) -> IndexArray:
        """Takes rows, of whose batch only times and watermarks are read; gives the positions, ascending, of those that leave at once by the
        side output.  ``origin``: None for an operator that has all rows."""

    def folded(self, batch: Batch, prepared: Prepared) -> Any:
        """A batch's rows added up, where they are of few keys; else None.  Called by any thread, for several batches at once."""
        return None

    def absorbs(self, batch: Batch, folded: Any, share: Share | None = None) -> bool:
        """Takes the rows as they were added up; False, and nothing has changed, where one of them is late.  ``share``: None for an operator
        that has all keys."""
        raise NotImplementedError

    @abstractmethod
    def watermarks_matter(self, batch: Batch) -> bool:
        """Whether what comes of the batch's rows may depend on the watermark before each of them.  Reads nothing that changes."""

    @abstractmethod
    def fields(self) -> dict[str, Plain]:
        """The fields of the saved state."""

    @staticmethod
    @abstractmethod
    def told(saved: Saved) -> Told:
        """What a saved state says of all parts together."""

    @property
    def open_spans(self) -> list[tuple[int, int]] | None:
        """The open windows by number, as spans from a first to a last one, ascending; None where windows belong to one key each."""
        return None


class KeyedPart(Part):
    """A part whose saved state has its keys as a table, and what is kept of them by their places in it."""

    @property
    @abstractmethod
    def keys(self) -> GroupTable:
        """The keys that are held, and their groups."""

    @abstractmethod
    def forget(self) -> None:
        """Drops keys that hold nothing."""

    @staticmethod
    @abstractmethod
    def frozen_as_one(parts: Sequence[Any], ranks: Sequence[Int32Array], told: Told) -> dict[str, Frozen]:
        """The states of several as the state of one, beside its keys.  ``ranks``: of each part, the places of its keys among all."""

    @staticmethod
    @abstractmethod
    def split(whole: Saved, new: Int64Array, *, first: bool) -> dict[str, Saved]:
        """Of the saved state of one, beside its keys, what a part takes.  ``new``: of each key its number there, -1 for those of other
        parts; ``first``: the part that goes on with what is counted."""
