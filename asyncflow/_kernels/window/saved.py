"""The saved form of a window state that the kernel and its twin share: which fields and parts there are, and what they must be.

``fields``: the shape and the accumulators, which must be those of the state that takes them; ``advanced`` (the watermark), ``arrivals``
(rows that came), ``windows_closed`` and ``closed`` (the last window closed, two words of 64 bits, None for none).

``parts``: ``panes`` by number and first window, ``cells`` by pane and place of their group, ``blocks`` by cell, and ``block_bytes``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from asyncflow._kernels.accumulators.table import BLOCK, BYTES, PANE, Accumulator, cell_dtype

Plain: TypeAlias = "bool | int | float | str | bytes | list[Plain] | dict[str, Plain] | None"
Array: TypeAlias = NDArray[Any]

MOST_ROWS = 1 << 56
_WORD = 1 << 64


def fields_of(
    shape: Sequence[int],
    accumulators: Iterable[Accumulator],
    *,
    advanced: int,
    arrivals: int,
    windows_closed: int,
    closed: int | None,
) -> dict[str, Plain]:
    return {
        "shape": list(shape),
        "accumulators": [accumulator.described for accumulator in accumulators],
        "advanced": advanced,
        "arrivals": arrivals,
        "windows_closed": windows_closed,
        "closed": None if closed is None else [*_words(closed)],
    }


def _words(value: int) -> tuple[int, int]:
    return value >> 64, value % _WORD


def wide(high: int, low: int) -> int:
    return high * _WORD + low


def pane_record(number: int, first: int, cells: int) -> tuple[int, ...]:
    return (*_words(number), *_words(first), cells)


class Fields:
    """The fields of a saved state, checked against the shape and accumulators of the one that takes them; ValueError names the field."""

    def __init__(
        self, fields: Mapping[str, Any], shape: Sequence[int], accumulators: Iterable[Accumulator]
    ) -> None:
        for name, own in (
            ("shape", list(shape)),
            ("accumulators", [accumulator.described for accumulator in accumulators]),
        ):
            if fields.get(name) != own:
                raise ValueError(f"{name}: the saved state is of {fields.get(name)!r}, this one of {own!r}")
        self.advanced = _number(fields, "advanced", -(2**63), 2**63 - 1)
        self.arrivals = _number(fields, "arrivals", 0, MOST_ROWS)
        self.windows_closed = _number(fields, "windows_closed", 0, MOST_ROWS)
        if "closed" not in fields:
            raise ValueError("closed: is missing")
        closed = fields["closed"]
        if closed is not None:
            if not isinstance(closed, list) or len(closed) != 2:
                raise ValueError(f"closed: two numbers or nothing, not {closed!r}")
            words = {"closed high": closed[0], "closed low": closed[1]}
            high, low = _number(words, "closed high", -4, 3), _number(words, "closed low", 0, _WORD - 1)
            closed = wide(high, low)
        self.closed: int | None = closed


def _number(fields: Mapping[str, Any], name: str, least: int, most: int) -> int:
    value = fields.get(name)
    if type(value) is not int or not least <= value <= most:
        raise ValueError(f"{name}: a number of {least} .. {most}, not {value!r}")
    return value


def checked_parts(parts: Mapping[str, Array], accumulators: Iterable[Accumulator]) -> tuple[Array, ...]:
    """Panes, cells, blocks and bytes, contiguous; a part without rows may be missing.  ValueError for another dtype, part or shape."""
    dtypes = {"panes": PANE, "cells": cell_dtype(accumulators), "blocks": BLOCK, "block_bytes": BYTES}
    for name in parts:
        if name not in dtypes:
            raise ValueError(f"{name}: there is no such part")
    found = []
    for name, dtype in dtypes.items():
        part = parts.get(name)
        part = np.empty(0, dtype) if part is None else part
        if not isinstance(part, np.ndarray) or part.ndim != 1 or part.dtype != dtype:
            raise ValueError(f"{name}: an array of {dtype}, not of {getattr(part, 'dtype', type(part))}")
        found.append(np.require(part, requirements=["C", "A"]))
    return tuple(found)


class Pieces:
    """Parts that were copied whole, given out in pieces."""

    def __init__(self, parts: Mapping[str, Array]) -> None:
        self._left = [(name, part) for name, part in parts.items() if len(part)]

    def take(self, budget: int) -> list[tuple[str, Array]] | None:
        """About ``budget`` bytes of what is left, at least a row; None where nothing is."""
        if not self._left:
            return None
        given: list[tuple[str, Array]] = []
        while self._left and (budget > 0 or not given):
            name, part = self._left[0]
            rows = max(1, budget // part.itemsize)
            given.append((name, part[:rows]))
            budget -= given[-1][1].nbytes
            if rows < len(part):
                self._left[0] = (name, part[rows:])
            else:
                del self._left[0]
        return given
