"""Kernels inside an operator's state: frozen beside the operator's own fields, and loaded again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from asyncflow.model.snapshot import Array, Frozen, Piece, Plain, Saved


class SavedKernel(Protocol):
    """What every kernel with state has, beside a ``freeze`` that copies the state and returns its fields."""

    def pieces(self, budget: int, /) -> list[tuple[str, NDArray[Any]]] | None: ...

    def drop(self) -> None: ...

    def load(self, fields: Mapping[str, Any], parts: Mapping[str, Array]) -> None: ...


class Keys(SavedKernel, Protocol):
    """The ``groups`` kernel, saved in the order of its keys."""

    def freeze(self) -> dict[str, Any]: ...


class ByGroup(SavedKernel, Protocol):
    """A kernel that keeps state by the numbers of groups or slots; ``rank``: the place of each among the saved, -1 for none."""

    def freeze(self, rank: NDArray[np.int32], /) -> dict[str, Any]: ...


class FrozenKernel(Frozen):
    """The state of ``kernel``, which has just been frozen into ``fields``."""

    def __init__(self, kernel: SavedKernel, fields: Mapping[str, Plain]) -> None:
        self._kernel = kernel
        self.fields = fields

    def pieces(self, budget_bytes: int) -> Sequence[Piece] | None:
        given = self._kernel.pieces(budget_bytes)
        return None if given is None else [Piece(part, data) for part, data in given]

    def drop(self) -> None:
        self._kernel.drop()


def frozen_keys(keys: Keys) -> Frozen:
    """The state of a group table as of now."""
    return FrozenKernel(keys, keys.freeze())


def frozen_by_group(kernel: ByGroup, rank: NDArray[np.int32]) -> Frozen:
    """The state of a kernel as of now; ``rank``: see :class:`ByGroup`."""
    return FrozenKernel(kernel, kernel.freeze(rank))


def load_kernel(kernel: SavedKernel, saved: Saved, name: str, *, groups: int | None = None) -> None:
    """Gives a new kernel the state that was saved as ``name``.  ``groups``: how many groups its key table has, which the state must agree
    with: a kernel makes room for as many.  ValueError says which field or part of that state does not fit."""
    within = saved.within(name)
    if groups is not None and within.fields.get("groups") != groups:
        raise ValueError(
            f"{name}.groups: {within.fields.get('groups')!r} were saved, the key table has {groups}"
        )
    try:
        kernel.load(dict(within.fields), dict(within.parts))
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
