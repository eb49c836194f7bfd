"""Kernels inside an operator's state: frozen beside the operator's own fields, and loaded again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from asyncflow.model.snapshot import Array, Frozen, Piece, Plain, Saved

Ranks = NDArray[np.int32]
"""By group number: the place of the group among the saved groups."""


class SavedKernel(Protocol):
    """What every kernel with state has, beside a ``freeze`` that copies the state and returns its fields."""

    def pieces(self, budget: int, /) -> list[tuple[str, Array]] | None: ...

    def drop(self) -> None: ...

    def load(self, fields: Mapping[str, Plain], parts: Mapping[str, Array], /) -> None: ...


class FrozenKernel(Frozen):
    """The state that ``kernel`` has just frozen; ``fields``: as its ``freeze`` returned them."""

    def __init__(self, kernel: SavedKernel, fields: Mapping[str, Plain]) -> None:
        self._kernel = kernel
        self.fields = fields

    def pieces(self, budget_bytes: int) -> Sequence[Piece] | None:
        given = self._kernel.pieces(budget_bytes)
        return None if given is None else [Piece(part, data) for part, data in given]

    def drop(self) -> None:
        self._kernel.drop()


def load_kernel(kernel: SavedKernel, saved: Saved, name: str) -> None:
    """Gives a new kernel the state that was saved as ``name``.  ValueError says which field or part of it does not fit."""
    within = saved.within(name)
    try:
        kernel.load(dict(within.fields), dict(within.parts))
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
