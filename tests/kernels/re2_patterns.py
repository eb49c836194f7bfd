"""Seeded random patterns and texts for the tests of patterns: small alphabets, deep in what engines get wrong."""

from __future__ import annotations

from random import Random

_LETTERS = "aabbcAK_1 .\n\u00e9\u017f\u212a\u03c3\u1e9e\u65e5\U0001f600"
_ATOMS = [
    "a", "a", "b", "ab", "c", ".", ".", r"\d", r"\w", r"\W", r"\s", r"\S", r"\pL", r"\p{Lu}", r"\P{L}", r"\p{^Greek}",
    "[ab]", "[^a]", "[a-c]",
    "[^\\w]", "[[:alpha:]]", "[[:^lower:]]", r"[\d\pN]", "[é-日]", "[^é]", "é", "k", "s", "ß", "σ", "日", "\U0001f600", r"\x61", r"\x{17F}",
    r"\Qa.b\E", r"\.", "_", "()", "(|a)", "K", "[k-z]", "[^s]", "\\n", "1",
]  # fmt: skip
_PLACES = ["^", "$", r"\b", r"\B", r"\A", r"\z"]
_COUNTS = ["*", "+", "?", "*?", "+?", "??", "{2}", "{0,2}", "{1,}", "{2,3}?", "{0}", "{1,}?"]
_FLAGS = ["i", "s", "m", "U", "im", "-i", "s-m", "i-s"]


def pattern(random: Random, depth: int = 3) -> str:
    """A pattern that RE2 takes, mostly."""
    kind = random.random()
    if depth == 0 or kind < 0.25:
        return random.choice(_ATOMS)
    if kind < 0.35:
        return random.choice(_PLACES)
    if kind < 0.6:
        return "".join(pattern(random, depth - 1) for _ in range(random.randint(1, 4)))
    if kind < 0.72:
        choices = [pattern(random, depth - 1) for _ in range(random.randint(2, 3))]
        return "(?:" + "|".join(choices) + ")" if random.random() < 0.6 else "(" + "|".join(choices) + ")"
    if kind < 0.9:
        part = pattern(random, depth - 1)
        part = f"({part})" if random.random() < 0.4 else f"(?:{part})"
        return part + random.choice(_COUNTS)
    return f"(?{random.choice(_FLAGS)}:{pattern(random, depth - 1)})"


def text(random: Random, longest: int = 12) -> str:
    return "".join(random.choice(_LETTERS) for _ in range(random.randint(0, longest)))


_SOUP = [
    *"()[]{}|*+?^$.\\-:,!=>#", "(?", "(?i", "(?P<n>", "[[:", "alpha", ":]]", "\\p", "\\P{", "{^",
    "Greek", "}", "{2}", "{2,", "3}", "{,3}", "{0}",
    *"ab107éKismU_ \n", "\\Q", "\\E", "\\x", "\\x{", "41", "\\d", "\\b", "\\z", "[^", "\\1", "\\07", "{1000}", "{1001}", "{02}",
    "&&", "\\pL", "\\.",
    "\\_", "\\é",
]  # fmt: skip


def soup(random: Random) -> str:
    """Pieces of the syntax in any order: mostly no pattern."""
    return "".join(random.choice(_SOUP) for _ in range(random.randint(1, 8)))
