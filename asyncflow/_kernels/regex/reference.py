"""The plain twin of ``regex``: runs the threads of a program in the order of their priority, one step per byte (Thompson 1968, Pike)."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

MATCH, BYTES, SPLIT, SAVE, ASSERT = range(5)
_WORD = frozenset(b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz")
_LINE_END = 10

Int32s: TypeAlias = NDArray[np.int32]
Slots: TypeAlias = dict[int, int]
"""Positions in the text by slot; slots 0 and 1 are begin and end of group 0."""


class Machine:
    """Runs one program over columns of texts.  ``asyncflow.model.patterns.program`` describes the instructions."""

    def __init__(
        self, code: Int32s, moves: Int32s, start: int, anchored: bool, prefix: bytes, literal: bool
    ) -> None:
        self._code: list[list[int]] = code.tolist()
        self._moves: list[list[int]] = moves.tolist()
        self._start = start

    def matches(
        self, data: NDArray[np.uint8], starts: Int32s, lengths: Int32s, found: NDArray[np.bool_]
    ) -> None:
        """``found[i]`` = the program matches somewhere in the text of row i."""
        for row, (start, length) in enumerate(_views(data, starts, lengths, len(found))):
            found[row] = self._search(data[start : start + length].tobytes()) is not None

    def spans(
        self,
        data: NDArray[np.uint8],
        starts: Int32s,
        lengths: Int32s,
        groups: Int32s,
        found: NDArray[np.bool_],
        begins: Int32s,
        sizes: Int32s,
    ) -> None:
        """Begin in ``data`` and size of the groups of each row's first match, shape (groups, rows).  A size of -1: the group took
        no part."""
        for row, (start, length) in enumerate(_views(data, starts, lengths, len(found))):
            slots = self._search(data[start : start + length].tobytes())
            found[row] = slots is not None
            for number, group in enumerate(groups.tolist()):
                begin, end = (slots or {}).get(2 * group, -1), (slots or {}).get(2 * group + 1, -1)
                there = begin >= 0 and end >= 0
                begins[number, row] = start + begin if there else start
                sizes[number, row] = end - begin if there else -1

    def _search(self, text: bytes) -> Slots | None:
        """The slots of the first match."""
        threads: list[tuple[int, Slots]] = []
        best: Slots | None = None
        for at in range(len(text) + 1):
            if best is None:
                threads.append((self._start, {0: at}))
            following: list[tuple[int, Slots]] = []
            for instruction, slots in self._closure(threads, text, at):
                operation, x, y = self._code[instruction]
                if operation == MATCH:
                    best = slots | {1: at}
                    break
                for low, high, target in self._moves[x : x + y]:
                    if at < len(text) and low <= text[at] <= high:
                        following.append((target, slots))
            threads = following
        return best

    def _closure(self, threads: list[tuple[int, Slots]], text: bytes, at: int) -> list[tuple[int, Slots]]:
        """The instructions that the threads reach without a byte, each once, by the first thread that reaches it."""
        seen: set[int] = set()
        found: list[tuple[int, Slots]] = []
        pending = threads[::-1]
        while pending:
            instruction, slots = pending.pop()
            if instruction in seen:
                continue
            seen.add(instruction)
            operation, x, y = self._code[instruction]
            if operation in (MATCH, BYTES):
                found.append((instruction, slots))
            elif operation == SPLIT:
                pending += [(y, slots), (x, slots)]
            elif operation == SAVE:
                pending.append((y, slots | {x: at}))
            elif not x & ~_places(text, at):
                pending.append((y, slots))
        return found


def _views(data: NDArray[np.uint8], starts: Int32s, lengths: Int32s, rows: int) -> list[tuple[int, int]]:
    """Start and length of each text; ValueError where a text lies outside ``data``."""
    if not len(starts) == len(lengths) == rows:
        raise ValueError("columns of different lengths")
    views = list(zip(starts.tolist(), lengths.tolist(), strict=True))
    if any(length < 0 or (length and not 0 <= start <= len(data) - length) for start, length in views):
        raise ValueError("a text lies outside its data")
    return views


def _places(text: bytes, at: int) -> int:
    """The assertions that hold at a place of the text, as bits: begin and end of a line, begin and end of the text, word boundary
    or not."""
    first, last = at == 0, at == len(text)
    word = (not first and text[at - 1] in _WORD) != (not last and text[at] in _WORD)
    begin_line, end_line = first or text[at - 1] == _LINE_END, last or text[at] == _LINE_END
    return begin_line | end_line << 1 | first << 2 | last << 3 | (16 if word else 32)
