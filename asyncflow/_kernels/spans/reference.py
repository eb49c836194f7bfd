"""The plain twin of ``spans``: texts at any place of a block to the values of one column, by the rules of ``columns/reference.py``."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from asyncflow._kernels.columns import reference as texts


def parse_spans(
    type_text: str,
    block: NDArray[np.uint8],
    starts: NDArray[np.int32],
    lengths: NDArray[np.int32],
    values: NDArray[Any],
    valid: NDArray[np.bool_],
    failed: NDArray[np.bool_],
) -> tuple[int, int]:
    """Reads row *i* from the text ``block[starts[i] : starts[i] + lengths[i]]``; a length of 0 or below is null.

    ``type_text``: ``bool int64 float64 timestamp timestamp[s|ms|us|ns]``.  ``block``: uint8; ``starts``, ``lengths``: int32. Fills
    ``values`` (bool, int64 or float64; times in ns; 0 where null or failed), ``valid`` (bool: neither null nor failed) and
    ``failed`` (bool: the text is no value of the type).  Returns the number of null rows and of failed rows.  ValueError where a
    text lies outside the block, or for another type.
    """
    if type_text not in ("bool", "int64", "float64") and not type_text.startswith("timestamp"):
        raise ValueError(f"no type of a span: {type_text!r}")
    raw, nulls, wrong = bytes(block), 0, 0
    for row, (start, length) in enumerate(zip(starts.tolist(), lengths.tolist(), strict=True)):
        values[row], valid[row], failed[row] = 0, False, False
        if length <= 0:
            nulls += 1
            continue
        if start < 0 or start + length > len(raw):
            raise ValueError("a text lies outside the block")
        try:
            values[row], valid[row] = texts.parse(type_text, raw[start : start + length]), True
        except ValueError:
            failed[row] = True
            wrong += 1
    return nulls, wrong
