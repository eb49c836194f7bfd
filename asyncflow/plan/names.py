"""Names of tables, and the nearest valid name for one that is not."""

from __future__ import annotations

from collections.abc import Iterable


def is_plain_name(text: str) -> bool:
    """Whether a text matches ``[A-Za-z_][A-Za-z0-9_]*``, as names of tables must, and names of columns that need no quotes."""
    return text.isascii() and text.isidentifier()


def nearest(name: str, names: Iterable[str]) -> str:
    """A hint for an unknown name: ``did you mean 'price'?``, or what there is where that is little, or ``""``."""
    import difflib  # only who mistyped waits for it

    known = list(dict.fromkeys(names))
    folded = {candidate.lower(): candidate for candidate in reversed(known)}
    close = difflib.get_close_matches(name.lower(), folded, n=1, cutoff=0.6)
    if close:
        return f"did you mean {folded[close[0]]!r}?"
    if 0 < len(known) <= 12:
        return "there is " + ", ".join(known)
    return ""
