"""The state of a window stage: the kernel's, with what its Python aggregates need where there are any."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from asyncflow._kernels import window as window_kernel
from asyncflow.operators.aggregates.table import AggregateSpec

if TYPE_CHECKING:
    from asyncflow.operators.aggregates.python_aggregates import State


def window_state(
    aggregates: Sequence[AggregateSpec], size_ns: int | None = None, every_ns: int = 1, offset_ns: int = 0
) -> State:
    """The state for these aggregates.  ``size_ns`` None: of no size."""
    raw = [spec.raw for spec in aggregates if spec.python is None]
    state = window_kernel.WindowState(size_ns, every_ns, offset_ns, raw)
    if len(raw) == len(aggregates):
        return state
    from asyncflow.operators.aggregates.python_aggregates import PythonWindowState
    from asyncflow.operators.bounds import WindowLattice

    lattice = None if size_ns is None else WindowLattice(size_ns, every_ns, offset_ns)
    return PythonWindowState(state, aggregates, lattice)
