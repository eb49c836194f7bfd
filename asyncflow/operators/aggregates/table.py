"""One aggregate of a window stage, checked.

Which aggregates there are, what they take and what type they give stands in ``_kernels/accumulators/table.py``, for the kernel, its
twin and this module.  To add an aggregate:

- its line in that table; and where it needs an accumulator of a new family, that family's header and its line in
  ``_kernels/accumulators/list.h``, and its class in the twin, ``_kernels/accumulators/reference.py``;
- its signature and its line of doc in ``plan/expressions/functions.py``, by which expressions are checked.  A test holds the types that the
  signature gives to those of the table.
"""

from __future__ import annotations

from msgspec import Struct

from asyncflow._kernels import window as window_kernel
from asyncflow._kernels.accumulators.table import AGGREGATES, result_kind
from asyncflow.model.schema import DataType


class AggregateSpec(Struct, frozen=True):
    """One aggregate of a window stage.

    ``inputs``: positions in ``Prepared.inputs``, () for ``count(*)``; ``types``: their types; ``mask``: position in
    ``Prepared.masks`` of its ``FILTER (WHERE ...)``, or None; ``constant``: which quantile, how many of the top.  ``python``: the class
    of one written in Python, which gives values of type ``returns``.
    Raises ValueError for what no aggregate takes.
    """

    function: str
    inputs: tuple[int, ...]
    types: tuple[DataType, ...]
    mask: int | None = None
    constant: float | None = None
    python: type | None = None
    returns: DataType | None = None

    def __post_init__(self) -> None:
        if self.python is not None:
            if self.returns is None:
                raise ValueError(f"{self.function} does not say what it returns")
            return
        known = AGGREGATES.get(self.function)
        if known is None:
            raise ValueError(f"unknown aggregate {self.function!r}")
        if self.function == "count" and not self.inputs and not self.types:
            return
        fits = len(self.inputs) == len(self.types) == len(known.takes) and all(
            type_.value in allowed for type_, allowed in zip(self.types, known.takes, strict=True)
        )
        if not fits:
            raise ValueError(
                f"{self.function} does not take ({', '.join(type_.value for type_ in self.types)})"
            )
        bounds = known.constant
        if bounds is None and self.constant is None:
            return
        if bounds is None or self.constant is None or not bounds[0] <= self.constant <= bounds[1]:
            raise ValueError(f"{self.function} has the constant {self.constant}; it takes {_bounds(bounds)}")

    @property
    def raw(self) -> window_kernel.Aggregate:
        """As the kernels take it; they know of none that is written in Python."""
        constants = () if self.constant is None else (self.constant,)
        return self.function, self.inputs, tuple(type_.value for type_ in self.types), self.mask, *constants

    @property
    def result_type(self) -> DataType:
        return self.returns or DataType(
            result_kind(self.function, tuple(type_.value for type_ in self.types))
        )


def _bounds(bounds: tuple[float, float] | None) -> str:
    return "none" if bounds is None else f"one from {bounds[0]} to {bounds[1]}"
