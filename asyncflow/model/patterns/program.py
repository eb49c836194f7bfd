"""Compiles the tree of a pattern to instructions on bytes, the program of the kernel ``regex``.

Thompson's construction, from the end to the start: each part is compiled with its successor known and returns its first instruction, so
that only loops are patched.  A set of characters becomes a small graph of byte ranges; equal ends of encodings share nodes.  ``x*`` of an
``x`` that can be empty is ``(x+)?``, as in RE2: the groups then hold what Perl's would.  Repetitions are copies, and a program of more than
``MOST_INSTRUCTIONS`` is refused.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TypeAlias

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from asyncflow.model.patterns.charsets import Charset
from asyncflow.model.patterns.syntax import BEGIN_TEXT, Node

MOST_INSTRUCTIONS = 400_000

MATCH, BYTES, SPLIT, SAVE, ASSERT = range(5)
"""Operations; the kernel has the same numbers (see ``_kernels/regex``)."""

_HALF_PAIRS = (0xD800, 0xDFFF)
_LENGTH_ENDS = (0x7F, 0x7FF, 0xFFFF, 0x10FFFF)

Sequence: TypeAlias = tuple[tuple[int, int], ...]
"""Ranges of bytes that follow one another."""

Graph: TypeAlias = list[list[tuple[int, int, int]]]
"""A set of characters as nodes, the last one the first byte's: ranges of bytes and the node they lead to, -1: the character ends."""

Int32s: TypeAlias = NDArray[np.int32]


class Program(Struct, frozen=True):
    """Instructions and their transitions.

    ``code``: int32, a row ``(operation, x, y)`` an instruction.  MATCH; BYTES: transitions ``x`` to ``x + y``; SPLIT: ``x`` is
    tried before ``y``; SAVE: slot ``x`` is the place here, then ``y``; ASSERT: the place fits all of ``x``, then ``y``.
    ``moves``: int32, a row ``(first byte, last byte, instruction)`` a transition, those of an instruction ascending and disjoint.
    ``start``: the first instruction.  ``anchored``: a match begins at the begin of the text.  ``prefix``: what every match begins
    with; ``literal``: the matches are exactly ``prefix``.
    """

    code: Int32s
    moves: Int32s
    start: int
    anchored: bool
    prefix: bytes
    literal: bool


def compiled(root: Node) -> Program:
    """The program of a tree.  Raises ValueError where it would be too large."""
    writer = _Writer()
    start = writer.part(root, writer.add(MATCH))
    prefix, literal = writer.prefix(start)
    return Program(
        np.array(writer.code, np.int32).reshape(-1, 3),
        np.array(writer.moves, np.int32).reshape(-1, 3),
        start,
        writer.anchored(start),
        prefix,
        literal,
    )


class _Writer:
    def __init__(self) -> None:
        self.code: list[list[int]] = []
        self.moves: list[tuple[int, int, int]] = []

    def add(self, operation: int, x: int = 0, y: int = 0) -> int:
        if len(self.code) + len(self.moves) >= MOST_INSTRUCTIONS:
            raise ValueError(
                f"the pattern is too large: more than {MOST_INSTRUCTIONS} instructions (lower its counts, or split it)"
            )
        self.code.append([operation, x, y])
        return len(self.code) - 1

    def part(self, node: Node, after: int) -> int:
        """Compiles a part with the successor ``after``; returns the part's first instruction."""
        match node.kind:
            case "chars":
                return self.chars(node.chars, after)
            case "assert":
                return self.add(ASSERT, node.number, after)
            case "group":
                end = self.add(SAVE, 2 * node.number + 1, after)
                return self.add(SAVE, 2 * node.number, self.part(node.parts[0], end))
            case "concat":
                for part in reversed(node.parts):
                    after = self.part(part, after)
                return after
            case "either":
                first = self.part(node.parts[-1], after)
                for part in reversed(node.parts[:-1]):
                    first = self.add(SPLIT, self.part(part, after), first)
                return first
            case _:
                return self.repeat(node, after)

    def repeat(self, node: Node, after: int) -> int:
        part, least, most = node.parts[0], node.least, node.most
        if most is None:
            # x{3,} is xx(x+); x* of an x that can be empty is (x+)?.
            if least == 0 and not part.empty:
                return self.loop(part, after, node.greedy, enter=False)
            first = self.loop(part, after, node.greedy, enter=True)
            if least == 0:
                return self.split(first, after, node.greedy)
            optional, least = 0, least - 1
            after = first
        else:
            # x{2,4} is xx(x(x)?)?: whoever leaves one copy leaves all that follow.
            optional = most - least
            end = after
            for _ in range(optional):
                after = self.split(self.part(part, after), end, node.greedy)
        for _ in range(least):
            after = self.part(part, after)
        return after

    def loop(self, part: Node, after: int, greedy: bool, enter: bool) -> int:
        again = self.add(SPLIT)
        first = self.part(part, again)
        self.code[again][1:] = (first, after) if greedy else (after, first)
        return first if enter else again

    def split(self, first: int, after: int, greedy: bool) -> int:
        return self.add(SPLIT, first, after) if greedy else self.add(SPLIT, after, first)

    # -- sets of characters ----------------------------------------------------------------------------------------

    def chars(self, members: Charset, after: int) -> int:
        if len(members) == 1 and members[0][1] < 0x80:
            self.moves.append((*members[0], after))
            return self.add(BYTES, len(self.moves) - 1, 1)
        graph = _graph(members)
        base = len(self.code)
        for node in graph:
            first = len(self.moves)
            self.add(BYTES, first, len(node))
            self.moves += [(low, high, base + to if to >= 0 else after) for low, high, to in node]
        return len(self.code) - 1

    # -- what a match begins with ----------------------------------------------------------------------------------

    def anchored(self, at: int) -> bool:
        while self.code[at][0] == SAVE:
            at = self.code[at][2]
        operation, places, _ = self.code[at]
        return operation == ASSERT and bool(places & BEGIN_TEXT)

    def prefix(self, at: int) -> tuple[bytes, bool]:
        """The bytes that every match begins with, and whether they are all of the pattern."""
        taken = bytearray()
        whole = True
        while True:
            operation, x, y = self.code[at]
            if operation == SAVE:
                whole = False
                at = y
            elif operation == BYTES and y == 1 and self.moves[x][0] == self.moves[x][1]:
                taken.append(self.moves[x][0])
                at = self.moves[x][2]
            else:
                return bytes(taken), whole and operation == MATCH and bool(taken)


@lru_cache(maxsize=256)
def _graph(members: Charset) -> Graph:
    """The nodes that match one character of a set.  Cached: callers must not change the result."""
    graph: Graph = []
    _add_node(graph, tuple(piece for low, high in members for piece in _sequences(low, high)), {})
    return graph


def _add_node(graph: Graph, sequences: tuple[Sequence, ...], known: dict[tuple[Sequence, ...], int]) -> int:
    """Adds the node that takes the first bytes of ``sequences``, and before it those that it leads to; returns its number.

    The sequences are sorted; each two are either alike in their first range or apart there.
    """
    moves: list[tuple[int, int, int]] = []
    at = 0
    while at < len(sequences):
        low, high = sequences[at][0]
        end = at + 1
        while end < len(sequences) and sequences[end][0] == (low, high):
            end += 1
        rest = tuple(sequence[1:] for sequence in sequences[at:end])
        if not rest[0]:
            target = -1
        elif rest in known:
            target = known[rest]
        else:
            target = known[rest] = _add_node(graph, rest, known)
        if moves and moves[-1][1] + 1 == low and moves[-1][2] == target:
            moves[-1] = (moves[-1][0], high, target)
        else:
            moves.append((low, high, target))
        at = end
    graph.append(moves)
    return len(graph) - 1


def _sequences(low: int, high: int) -> list[Sequence]:
    """The UTF-8 of the code points from ``low`` to ``high``, as sequences of byte ranges in ascending order."""
    pieces: list[Sequence] = []
    pending = [(low, high)]
    while pending:
        low, high = pending.pop()
        if low > high:
            continue
        if low <= _HALF_PAIRS[1] and high >= _HALF_PAIRS[0]:
            pending += [(_HALF_PAIRS[1] + 1, high), (low, _HALF_PAIRS[0] - 1)]
            continue
        cut = _cut(low, high)
        if cut is not None:
            pending += [(cut + 1, high), (low, cut)]
            continue
        pieces.append(tuple(zip(chr(low).encode(), chr(high).encode(), strict=True)))
    return pieces


def _cut(low: int, high: int) -> int | None:
    """The code point at which a range is cut so that its pieces are sequences of byte ranges; None where no cut is needed."""
    for end in _LENGTH_ENDS:
        if low <= end < high:
            return end
    if high < 0x80:
        return None
    for bits in (6, 12, 18):
        mask = (1 << bits) - 1
        if low & ~mask != high & ~mask:
            if low & mask:
                return low | mask
            if high & mask != mask:
                return (high & ~mask) - 1
    return None
