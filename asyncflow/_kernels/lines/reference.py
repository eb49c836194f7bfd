"""The plain twin of ``lines``: lines end at LF, CRLF or the end of the block.

``data`` and ``block`` are uint8, 1-d, contiguous.  A line is the bytes before its LF; one CR right before the LF is not part of the line.
Bytes after the last LF are a line.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

GOOD, TOO_LONG, NOT_UTF8 = 0, 1, 2


def last_line_end(data: NDArray[np.uint8]) -> int:
    """The position after the last LF; 0 where there is none."""
    return bytes(data).rfind(b"\n") + 1


def count_lines(block: NDArray[np.uint8]) -> int:
    """The number of lines, with an unfinished last line."""
    raw = bytes(block)
    return raw.count(b"\n") + (not raw.endswith(b"\n") and raw != b"")


def split_lines(
    block: NDArray[np.uint8],
    max_bytes: int,
    starts: NDArray[np.int32],
    lengths: NDArray[np.int32],
    faults: NDArray[np.uint8],
) -> int:
    """Finds and checks each line: fills ``starts``, ``lengths`` (int32, without the line end) and ``faults`` (uint8).

    A fault is ``TOO_LONG`` (more than ``max_bytes`` before the LF), ``NOT_UTF8``, or ``GOOD``.  The three arrays hold at
    least ``count_lines(block)`` items.  Returns how many lines are not ``GOOD``.
    """
    raw = bytes(block)
    at = bad = 0
    for row in range(count_lines(block)):
        end = raw.find(b"\n", at)
        terminated = end >= 0
        end = end if terminated else len(raw)
        line = raw[at:end]
        fault = TOO_LONG if len(line) > max_bytes else GOOD
        if terminated:
            line = line.removesuffix(b"\r")
        if fault == GOOD:
            try:
                line.decode()
            except UnicodeDecodeError:
                fault = NOT_UTF8
        starts[row], lengths[row], faults[row] = at, len(line), fault
        bad += fault != GOOD
        at = end + 1
    return bad


def join_lines(
    data: NDArray[np.uint8],
    starts: NDArray[np.int32],
    lengths: NDArray[np.int32],
    valid: NDArray[np.bool_] | None,
) -> bytes:
    """Each text ``data[start : start + length]`` with a LF; a null (``valid`` False) is an empty line.

    Raises ValueError where a text lies outside ``data``.
    """
    raw, joined = bytes(data), []
    for row, (start, length) in enumerate(zip(starts.tolist(), lengths.tolist(), strict=True)):
        if start < 0 or length < 0 or start + length > len(raw):
            raise ValueError("a string lies outside its text")
        joined.append(raw[start : start + length] if valid is None or valid[row] else b"")
    return b"".join(text + b"\n" for text in joined)
