r"""Patterns on texts: regular expressions and ``LIKE``, compiled once and matched in time linear in the text.

A regular expression has RE2's syntax and gives RE2's results: leftmost, alternatives and repetitions in the order that Perl tries
them; ``\d \w \s \b`` and ``[[:alpha:]]`` are ASCII, ``.`` and ``\p{Greek}`` characters, ``(?i)`` folds every letter, ``$`` is the very end
of the text.  Look-around and back-references are refused: they cannot be matched in linear time.  ``syntax`` parses the pattern to a
tree, ``program`` compiles the tree to instructions, the kernel ``regex`` runs the instructions over whole columns without the GIL.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from asyncflow.model.columns import BoolArray, ByteArray, Int32Array, StringColumn

if TYPE_CHECKING:
    from asyncflow.model.patterns.syntax import Tree

MOST_SHOWN = 100


class Pattern:
    """A compiled pattern.  ``groups``: how many capture; ``names``: the number of each named group, in the pattern's order.

    May be used by several threads at once.
    """

    def __init__(self, tree: Tree) -> None:
        from asyncflow._kernels.regex import Machine
        from asyncflow.model.patterns.program import compiled

        program = compiled(tree.root)
        self.groups = tree.groups
        self.names = MappingProxyType(tree.names)
        self._machine = Machine(
            program.code, program.moves, program.start, program.anchored, program.prefix, program.literal
        )

    def matches(self, data: ByteArray, starts: Int32Array, lengths: Int32Array) -> BoolArray:
        """Whether each text has a match (bool).  Texts are views, as in a StringColumn."""
        found = np.empty(len(starts), np.bool_)
        self._machine.matches(data, starts, lengths, found)
        return found

    def spans(
        self, data: ByteArray, starts: Int32Array, lengths: Int32Array, groups: Sequence[int]
    ) -> tuple[BoolArray, Int32Array, Int32Array]:
        """Whether each text has a match, and the spans of ``groups`` in its first match (group 0: the whole match).

        The second and third are int32 arrays of ``(len(groups), len(starts))``: where a group's text begins in ``data``, and its
        length, -1 where the group took no part or there is no match.
        """
        shape = (len(groups), len(starts))
        found, begins, sizes = (
            np.empty(len(starts), np.bool_),
            np.empty(shape, np.int32),
            np.empty(shape, np.int32),
        )
        self._machine.spans(data, starts, lengths, np.array(groups, np.int32), found, begins, sizes)
        return found, begins, sizes

    def found_in(self, text: str) -> bool:
        """Whether one text has a match."""
        column = StringColumn.from_values([text.encode("utf-8", "surrogateescape")])
        return bool(self.matches(column.data, column.starts, column.lengths)[0])

    def extract(self, text: str, group: int) -> str | None:
        """The text of a group in the first match; None without a match, or where the group took no part in it."""
        column = StringColumn.from_values([text.encode("utf-8", "surrogateescape")])
        _, begins, sizes = self.spans(column.data, column.starts, column.lengths, [group])
        begin, size = int(begins[0, 0]), int(sizes[0, 0])
        return (
            None
            if size < 0
            else column.data[begin : begin + size].tobytes().decode("utf-8", "surrogateescape")
        )


@lru_cache(maxsize=256)
def regexp(pattern: str) -> Pattern:
    """The compiled regular expression; ValueError says what is wrong with it."""
    from asyncflow.model.patterns.syntax import parse

    try:
        return Pattern(parse(pattern))
    except ValueError as error:
        shown = pattern if len(pattern) <= MOST_SHOWN else f"{pattern[:MOST_SHOWN]}..."
        raise ValueError(f"bad pattern {shown!r}: {error}") from None


@lru_cache(maxsize=256)
def like(pattern: str, escape: str = "") -> Pattern:
    """The compiled ``LIKE`` pattern; ValueError where the pattern ends with its escape character."""
    from asyncflow.model.patterns import charsets, syntax

    anything = syntax.chars(charsets.ANY)
    parts = [syntax.assertion(syntax.BEGIN_TEXT)]
    for number, piece in enumerate(like_pieces(pattern, escape)):
        if number:
            parts.append(syntax.repeat(anything, 0, None, greedy=False))
        parts += [anything if char is None else syntax.chars(((ord(char), ord(char)),)) for char in piece]
    parts.append(syntax.assertion(syntax.END_TEXT))
    try:
        return Pattern(syntax.Tree(syntax.concat(parts), 0, {}))
    except ValueError as error:
        raise ValueError(f"bad LIKE pattern: {error}") from None


def like_pieces(pattern: str, escape: str = "") -> list[list[str | None]]:
    """The pieces of a LIKE pattern between ``%``; each piece is characters, and None for ``_``."""
    if len(escape) > 1:
        raise ValueError("ESCAPE takes one character")
    pieces: list[list[str | None]] = [[]]
    chars = iter(pattern)
    for char in chars:
        if char == escape:
            taken = next(chars, None)
            if taken is None:
                raise ValueError(f"a LIKE pattern must not end with its escape character: {pattern!r}")
            pieces[-1].append(taken)
        elif char == "%":
            pieces.append([])
        else:
            pieces[-1].append(None if char == "_" else char)
    return pieces
