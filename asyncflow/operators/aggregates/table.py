"""Aggregates as a window operator takes them: which there are, what they read, what type they give.

Adding one: its accumulator in the window kernel and in the kernel's twin, and its row here.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from asyncflow.model.schema import DataType

_NUMBERS = frozenset({DataType.INT64, DataType.FLOAT64})
_ORDERED = _NUMBERS | {DataType.TIMESTAMP}
_ANY = frozenset(DataType)
_BOOL = frozenset({DataType.BOOL})


class Aggregate(Struct, frozen=True):
    """``inputs``: the types each input may have.  ``result``: the type it gives, None for that of its first input.
    ``constant``: the bounds of the constant it goes by, None where it takes none."""

    inputs: tuple[frozenset[DataType], ...]
    result: DataType | None = None
    constant: tuple[float, float] | None = None


AGGREGATES: dict[str, Aggregate] = {
    "count": Aggregate((_ANY,), DataType.INT64),  # without an input: count(*)
    "count_distinct": Aggregate((_ANY,), DataType.INT64),
    "sum": Aggregate((_NUMBERS,)),
    "min": Aggregate((_ANY,)),
    "max": Aggregate((_ANY,)),
    "mean": Aggregate((_NUMBERS,), DataType.FLOAT64),
    "var": Aggregate((_NUMBERS,), DataType.FLOAT64),
    "stddev": Aggregate((_NUMBERS,), DataType.FLOAT64),
    "var_pop": Aggregate((_NUMBERS,), DataType.FLOAT64),
    "stddev_pop": Aggregate((_NUMBERS,), DataType.FLOAT64),
    "first": Aggregate((_ANY,)),
    "last": Aggregate((_ANY,)),
    "any_value": Aggregate((_ANY,)),
    "bool_and": Aggregate((_BOOL,)),
    "bool_or": Aggregate((_BOOL,)),
    "covar": Aggregate((_NUMBERS, _NUMBERS), DataType.FLOAT64),
    "corr": Aggregate((_NUMBERS, _NUMBERS), DataType.FLOAT64),
    "arg_min": Aggregate((_ANY, _ANY)),
    "arg_max": Aggregate((_ANY, _ANY)),
    "approx_count_distinct": Aggregate((_ANY,), DataType.INT64),
    "quantile": Aggregate((_NUMBERS,), DataType.FLOAT64, (0.0, 1.0)),
    "quantile_disc": Aggregate((_ORDERED,), None, (0.0, 1.0)),
    "approx_quantile": Aggregate((_NUMBERS,), DataType.FLOAT64, (0.0, 1.0)),
    "approx_top_k": Aggregate((_ANY,), DataType.STRING, (1, 1000)),
}


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
        fits = len(self.inputs) == len(self.types) == len(known.inputs) and all(
            type_ in allowed for type_, allowed in zip(self.types, known.inputs, strict=True)
        )
        if not fits:
            raise ValueError(
                f"{self.function} does not take ({', '.join(type_.value for type_ in self.types)})"
            )
        bounds = known.constant
        if bounds is None and self.constant is None:
            return
        if bounds is None or self.constant is None or not bounds[0] <= self.constant <= bounds[1]:
            raise ValueError(f"{self.function} does not go by {self.constant}")

    @property
    def raw(self) -> tuple[Any, ...]:
        """As the kernels take it; they know of none that is written in Python."""
        constants = () if self.constant is None else (self.constant,)
        return self.function, self.inputs, tuple(type_.value for type_ in self.types), self.mask, *constants

    @property
    def result_type(self) -> DataType:
        return self.returns or AGGREGATES[self.function].result or self.types[0]
