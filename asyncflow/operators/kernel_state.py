"""Kernels inside an operator's state: frozen beside the operator's own fields, and loaded again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asyncflow.model.snapshot import Frozen, Piece, Saved

SavedKernel = Any
"""A kernel with state: ``freeze``, ``pieces``, ``drop`` and ``load``."""


def ranks(keys: SavedKernel) -> NDArray[np.int32]:
    """By group number of a group table: the place of the group among the saved groups, which are in the order of their keys."""
    found: NDArray[np.int32] = keys.ranks()
    return found


def slot_ranks(kernel: SavedKernel, *of: Any) -> NDArray[np.int32]:
    """By slot of a kernel: the slot after the state was loaded; -1 for a slot that is free."""
    found: NDArray[np.int32] = kernel.slot_ranks(*of)
    return found


class FrozenKernel(Frozen):
    """The state of ``kernel`` as of now; ``ranks``: of state that is kept by group number, the place of each group among those saved."""

    def __init__(self, kernel: SavedKernel, *ranks: NDArray[np.int32]) -> None:
        self._kernel = kernel
        self.fields = kernel.freeze(*ranks)

    def pieces(self, budget_bytes: int) -> Sequence[Piece] | None:
        given = self._kernel.pieces(budget_bytes)
        return None if given is None else [Piece(part, data) for part, data in given]

    def drop(self) -> None:
        self._kernel.drop()


def load_kernel(kernel: SavedKernel, saved: Saved, name: str) -> None:
    """Gives a new kernel the state that was saved as ``name``.  ValueError says which field or part of that state does not fit."""
    within = saved.within(name)
    try:
        kernel.load(dict(within.fields), dict(within.parts))
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
