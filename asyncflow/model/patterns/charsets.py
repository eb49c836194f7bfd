"""Sets of characters: sorted, disjoint ranges of code points, and the named sets that a pattern may use.

A set is a tuple of ``(first, last)``; the sets here are those of RE2: ``\\d \\s \\w`` and ``[[:name:]]`` are ASCII, ``\\p{Name}`` is a
general category or a script.  ``unicode.txt`` beside this file has the ranges and the groups of letters
that differ in case only; it is read when a pattern first needs it.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import TypeAlias

Charset: TypeAlias = tuple[tuple[int, int], ...]

GREATEST = 0x10FFFF
ANY: Charset = ((0, GREATEST),)
NOT_A_LINE_END: Charset = ((0, 9), (11, GREATEST))


def _ranges(text: str) -> Charset:
    return tuple((ord(text[at]), ord(text[at + 1])) for at in range(0, len(text), 2))


PERL: Mapping[str, Charset] = MappingProxyType(
    {"d": _ranges("09"), "s": _ranges("\t\n\f\r  "), "w": _ranges("09AZ__az")}
)
"""``\\d \\s \\w`` by their letter."""

POSIX: Mapping[str, Charset] = MappingProxyType(
    {
        "alnum": _ranges("09AZaz"), "alpha": _ranges("AZaz"), "ascii": _ranges("\0\x7f"), "blank": _ranges("\t\t  "),
        "cntrl": _ranges("\0\x1f\x7f\x7f"), "digit": _ranges("09"), "graph": _ranges("!~"), "lower": _ranges("az"),
        "print": _ranges(" ~"), "punct": _ranges("!/:@[`{~"), "space": _ranges("\t\r  "), "upper": _ranges("AZ"),
        "word": _ranges("09AZ__az"), "xdigit": _ranges("09AFaf"),
    }
)  # fmt: skip
"""The sets of ``[[:name:]]``."""


def union(ranges: Iterable[tuple[int, int]]) -> Charset:
    """The set of all characters in some of ``ranges``, which may overlap and stand in any order."""
    merged: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if merged and first <= merged[-1][1] + 1:
            if last > merged[-1][1]:
                merged[-1] = (merged[-1][0], last)
        else:
            merged.append((first, last))
    return tuple(merged)


def complement(chars: Charset) -> Charset:
    """The complement of the set."""
    gaps, free = [], 0
    for first, last in chars:
        if first > free:
            gaps.append((free, first - 1))
        free = last + 1
    if free <= GREATEST:
        gaps.append((free, GREATEST))
    return tuple(gaps)


def folded(chars: Charset) -> Charset:
    """The set with every letter that differs from one of its own in case alone (simple folding: ``k``, ``K`` and the Kelvin sign)."""
    letters, partners = _folding()
    more: list[tuple[int, int]] = []
    for first, last in chars:
        for at in range(bisect_left(letters, first), bisect_right(letters, last)):
            more += partners[at]
    return union([*chars, *more]) if more else chars


def unicode_set(name: str) -> Charset | None:
    """The characters of a general category (``L``, ``Lu``), of a script (``Greek``) or ``Any``; None for an unknown name."""
    if name == "Any":
        return ANY
    table = _table()
    if len(name) == 1:
        parts = [_decoded(ranges) for key, ranges in table.items() if len(key) == 2 and key[0] == name]
        # Surrogates (Cs) have no UTF-8, so the table leaves them out.
        return union(part for ranges in parts for part in ranges) if parts else None
    if name == "Cs":
        return ()
    return _decoded(table[name]) if name in table and name != "fold" else None


@cache
def _table() -> dict[str, list[str]]:
    """The lines of ``unicode.txt``: the words after each name."""
    table: dict[str, list[str]] = {}
    words: list[str] = []
    for line in files(__package__).joinpath("unicode.txt").read_text("utf-8").splitlines():
        if line.startswith("#"):
            continue
        if not line.startswith(" "):
            name, _, line = line.partition(" ")
            words = table[name] = []
        words += line.split()
    return table


def _decoded(words: Iterable[str]) -> Charset:
    ranges, end = [], 0
    for word in words:
        gap, _, count = word.partition(":")
        first = end + int(gap, 16)
        end = first + int(count or "1", 16)
        ranges.append((first, end - 1))
    return tuple(ranges)


@cache
def _folding() -> tuple[list[int], list[list[tuple[int, int]]]]:
    """Every letter that has another case, ascending, and all letters of its group."""
    groups = {
        char: [(ord(other), ord(other)) for other in word] for word in _table()["fold"] for char in word
    }
    letters = sorted(groups)
    return [ord(char) for char in letters], [groups[char] for char in letters]
