"""The plain twin of ``strings``: the loops over columns of texts, with Python's bytes."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import repeat

import numpy as np
from numpy.typing import NDArray

_MASK = 2**64 - 1
_STEP = 0x9E3779B97F4A7C15
_LENGTH = 0xD6E8FEB86659FD93

Bytes = NDArray[np.uint8]
Int32s = NDArray[np.int32]


def _texts(data: Bytes, starts: Int32s, lengths: Int32s, rows: int | None = None) -> Iterator[bytes]:
    if rows is not None and len(lengths) == 1:
        start, length = int(starts[0]), int(lengths[0])
        yield from repeat(data[start : start + length].tobytes(), rows)
        return
    if len(starts) != len(lengths) or (rows is not None and len(lengths) != rows):
        raise ValueError("columns of different lengths")
    for start, length in zip(starts.tolist(), lengths.tolist(), strict=True):
        yield data[start : start + length].tobytes()


def equal(
    data_a: Bytes,
    starts_a: Int32s,
    lengths_a: Int32s,
    data_b: Bytes,
    starts_b: Int32s,
    lengths_b: Int32s,
    out: NDArray[np.bool_],
) -> None:
    texts_a, texts_b = (
        _texts(data_a, starts_a, lengths_a, len(out)),
        _texts(data_b, starts_b, lengths_b, len(out)),
    )
    for row, (a, b) in enumerate(zip(texts_a, texts_b, strict=True)):
        out[row] = a == b


def compare(
    data_a: Bytes,
    starts_a: Int32s,
    lengths_a: Int32s,
    data_b: Bytes,
    starts_b: Int32s,
    lengths_b: Int32s,
    out: NDArray[np.int8],
) -> None:
    texts_a, texts_b = (
        _texts(data_a, starts_a, lengths_a, len(out)),
        _texts(data_b, starts_b, lengths_b, len(out)),
    )
    for row, (a, b) in enumerate(zip(texts_a, texts_b, strict=True)):
        out[row] = (a > b) - (a < b)


def count_characters(data: Bytes, starts: Int32s, lengths: Int32s, out: NDArray[np.int64]) -> None:
    for row, value in enumerate(_texts(data, starts, lengths, len(out))):
        out[row] = sum(byte & 0xC0 != 0x80 for byte in value)


def hash64(data: Bytes, starts: Int32s, lengths: Int32s, out: NDArray[np.uint64]) -> None:
    for row, value in enumerate(_texts(data, starts, lengths, len(out))):
        out[row] = hash_text(value)


def hash_text(text: bytes) -> int:
    h = len(text) * _LENGTH & _MASK
    for start in range(0, len(text), 8):
        h = mix(h ^ int.from_bytes(text[start : start + 8], "little"))
    return mix(h)


def mix(x: int) -> int:
    x = (x + _STEP) & _MASK
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 & _MASK
    x = (x ^ x >> 27) * 0x94D049BB133111EB & _MASK
    return x ^ x >> 31


def distinct(data: Bytes, starts: Int32s, lengths: Int32s, ids: Int32s, firsts: Int32s) -> int:
    numbers: dict[bytes, int] = {}
    for row, value in enumerate(_texts(data, starts, lengths, len(ids))):
        if value not in numbers:
            firsts[len(numbers)] = row
            numbers[value] = len(numbers)
        ids[row] = numbers[value]
    return len(numbers)


def among(
    data: Bytes,
    starts: Int32s,
    lengths: Int32s,
    wanted_data: Bytes,
    wanted_starts: Int32s,
    wanted_lengths: Int32s,
    out: NDArray[np.bool_],
) -> None:
    wanted = set(_texts(wanted_data, wanted_starts, wanted_lengths))
    for row, value in enumerate(_texts(data, starts, lengths, len(out))):
        out[row] = value in wanted


def copy_texts(
    data: Bytes, starts: NDArray[np.int64], lengths: Int32s, rows: NDArray[np.int64] | None
) -> tuple[Bytes, NDArray[np.int64]]:
    """The texts of these rows (None: all), one after another: their bytes, and where each starts (int64).  An empty text may start
    anywhere."""
    chosen = range(len(starts)) if rows is None else rows.tolist()
    if len(starts) != len(lengths) or any(not 0 <= row < len(starts) for row in chosen):
        raise IndexError("a text outside of its bytes")
    places, total = np.empty(len(chosen), np.int64), 0
    for place, row in enumerate(chosen):
        start, length = int(starts[row]), int(lengths[row])
        if length < 0 or (length and (start < 0 or start + length > len(data))):
            raise IndexError("a text outside of its bytes")
        places[place] = total
        total += length
    out = np.empty(total, np.uint8)
    for place, row in zip(places.tolist(), chosen, strict=True):
        start, length = int(starts[row]), int(lengths[row])
        if length:
            out[place : place + length] = data[start : start + length]
    return out, places
