"""Checks the delimiter, the quote and the text of a null, for reading and for writing CSV."""

from __future__ import annotations


def check_dialect(delimiter: str, quote: str, null: str) -> None:
    """ValueError where records in this dialect would be ambiguous."""
    for option, text in (("delimiter", delimiter), ("quote", quote)):
        if len(text) != 1 or not text.isascii() or text in "\r\n\0":
            raise ValueError(f"{option} must be one ASCII character, not {text!r}")
    if delimiter == quote:
        raise ValueError("delimiter and quote must differ")
    if any(character in null for character in (delimiter, quote, "\r", "\n")):
        raise ValueError("the null text must not hold the delimiter, the quote or a line end")
