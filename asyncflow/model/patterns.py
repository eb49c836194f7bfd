"""Text patterns as compiled regular expressions: ``LIKE`` and the ``regexp_`` functions.

Regular expressions are Python's ``re`` with the reading of RE2 where they differ quietly: ``\\d \\w \\s \\b`` are ASCII, ``$`` is the
very end, and character classes in ``[[:...:]]`` are refused.  What ``re`` has and RE2 has not (look-around, back-references) works; a
pattern that backtracks without end is the pattern writer's to avoid.  ``LIKE`` never backtracks over a ``%``.
"""

from __future__ import annotations

import re
import warnings
from functools import lru_cache


@lru_cache(maxsize=256)
def regexp(pattern: str) -> re.Pattern[str]:
    """The compiled pattern.  Raises ValueError that says what is wrong with it."""
    if "[[:" in pattern:
        raise ValueError(
            f"[[:class:]] is not supported in a pattern: {pattern!r} (write [A-Za-z], \\d, \\w or \\s)"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return re.compile(_with_re2_ends(pattern), re.ASCII)
    except (re.error, OverflowError, RecursionError, Warning) as error:
        raise ValueError(f"bad pattern {pattern!r}: {error}") from None


def _with_re2_ends(pattern: str) -> str:
    """Turns ``$`` (which in ``re`` also stands before a last newline) and ``\\z`` into the very end of the text."""
    if ("$" not in pattern and "\\z" not in pattern) or re.search(r"\(\?[a-zA-Z]*m", pattern):
        return pattern
    parts, position, in_class = [], 0, False
    while position < len(pattern):
        char = pattern[position]
        if char == "\\":
            pair = pattern[position : position + 2]
            parts.append("\\Z" if pair == "\\z" and not in_class else pair)
            position += 2
            continue
        if in_class:
            in_class = char != "]"
        elif char == "[":
            in_class = True
            skip = 2 if pattern[position + 1 : position + 2] == "^" else 1
            if (
                pattern[position + skip : position + skip + 1] == "]"
            ):  # a bracket that stands first is a member
                parts.append(pattern[position : position + skip])
                position += skip
                char = "]"
        elif char == "$":
            char = "\\Z"
        parts.append(char)
        position += 1
    return "".join(parts)


@lru_cache(maxsize=256)
def like(pattern: str, escape: str = "") -> re.Pattern[str]:
    """A regular expression whose ``fullmatch`` is ``LIKE pattern``.  Raises ValueError where the escape ends the pattern.

    Text between two ``%`` is matched where it first occurs and never tried elsewhere (atomic groups): that loses no match, and
    keeps the time within length of text times length of pattern.
    """
    pieces = like_pieces(pattern, escape)
    first, last = pieces[0], pieces[-1]
    source = [_piece_source(first)]
    if len(pieces) > 1:
        source += [f"(?>.*?{_piece_source(piece)})" for piece in pieces[1:-1] if piece]
        source.append(f".*{_piece_source(last)}")
    return re.compile("".join(source), re.DOTALL)


def like_pieces(pattern: str, escape: str = "") -> list[list[str | None]]:
    """The pattern cut at each ``%``: characters, and None for ``_``.  One piece: there is no ``%``."""
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


def _piece_source(piece: list[str | None]) -> str:
    return "".join("." if char is None else re.escape(char) for char in piece)
