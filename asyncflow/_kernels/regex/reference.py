"""The plain twin of ``regex``: the program's threads, one step a byte, in the order of their priority (Thompson 1968, Pike)."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

MATCH, BYTES, SPLIT, SAVE, ASSERT = range(5)
_WORD = frozenset(b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz")
_LINE_END = 10

Int32s: TypeAlias = NDArray[np.int32]
Slots: TypeAlias = dict[int, int]
"""Where the slots of a thread stand; those of group 0 are 0 and 1."""


class Machine:
    """Runs one program over columns of texts; see ``asyncflow.model.patterns.program`` for its instructions."""

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
        """Where the groups of each row's first match stand in ``data``; a size of -1 is no text.  ``begins``: (groups, rows)."""
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
        """What the threads come to without taking a byte, each instruction once, by the first thread that comes to it."""
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
    """Where the texts stand; ValueError where one of them lies outside ``data``."""
    if not len(starts) == len(lengths) == rows:
        raise ValueError("columns of different lengths")
    views = list(zip(starts.tolist(), lengths.tolist(), strict=True))
    if any(length < 0 or (length and not 0 <= start <= len(data) - length) for start, length in views):
        raise ValueError("a text lies outside its data")
    return views


def _places(text: bytes, at: int) -> int:
    """What holds at a place of the text: begin and end of a line, of the text, a word boundary or none."""
    first, last = at == 0, at == len(text)
    word = (not first and text[at - 1] in _WORD) != (not last and text[at] in _WORD)
    begin_line, end_line = first or text[at - 1] == _LINE_END, last or text[at] == _LINE_END
    return begin_line | end_line << 1 | first << 2 | last << 3 | (16 if word else 32)
