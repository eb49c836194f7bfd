"""The saved form of a window state that the kernel and its twin share: which fields and parts there are, and what they must be.

``fields``: the shape and the accumulators, which must be those of the state that takes them; ``advanced`` (the watermark), ``arrivals``
(rows that came), ``windows_closed`` and ``closed`` (the last window closed, two words of 64 bits, None for none).

``parts``: ``panes`` by number and first window, ``cells`` by pane and place of their group, ``blocks`` by cell, and ``block_bytes``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from asyncflow._kernels.accumulators.table import BLOCK, BYTES, PANE, Accumulator, cell_dtype
from asyncflow._kernels.base.saved import Array, array, nothing_else, number, same

Plain: TypeAlias = "bool | int | float | str | bytes | list[Plain] | dict[str, Plain] | None"

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
    """The fields of a saved state, checked against the shape and accumulators of the state that takes them; ValueError names the field."""

    def __init__(
        self, fields: Mapping[str, Any], shape: Sequence[int], accumulators: Iterable[Accumulator]
    ) -> None:
        same(fields, shape=list(shape), accumulators=[accumulator.described for accumulator in accumulators])
        self.advanced = number(fields, "advanced", -(2**63), 2**63 - 1)
        self.arrivals = number(fields, "arrivals", 0, MOST_ROWS)
        self.windows_closed = number(fields, "windows_closed", 0, MOST_ROWS)
        self.closed: int | None = None
        if "closed" not in fields or fields["closed"] is not None:
            words = fields.get("closed")
            if not isinstance(words, list) or len(words) != 2:
                raise ValueError(f"closed: {words!r} is neither a window of two words nor none")
            of_words = dict(zip(("closed high", "closed low"), words, strict=True))
            self.closed = wide(
                number(of_words, "closed high", -4, 3), number(of_words, "closed low", 0, _WORD - 1)
            )


def checked_parts(parts: Mapping[str, Array], accumulators: Iterable[Accumulator]) -> tuple[Array, ...]:
    """Panes, cells, blocks and bytes, contiguous.  ValueError for another dtype, part or shape."""
    dtypes = {"panes": PANE, "cells": cell_dtype(accumulators), "blocks": BLOCK, "block_bytes": BYTES}
    nothing_else(parts, dtypes)
    return tuple(array(parts, name, dtype) for name, dtype in dtypes.items())
