"""Text for people: makes values from the data and the environment safe before a terminal, a log or an error shows them.

All lines on stderr go through :func:`tell`; errors and explained plans go through :func:`hidden`.  This module stands below all rooms.

* Control characters and characters that change the direction of text become escapes: no value moves a cursor or forges a line.
* A value that a pipeline file took from the environment (``${VAR}``) is shown as ``${VAR}``, because secrets come that way.
* A stderr that is closed or full never fails a run.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import suppress

SHORTEST_HIDDEN = 4
"""Characters.  Shorter values are not hidden: they are no secrets, and hiding them would make other text unreadable."""
NO_SECRETS = ("true", "false", "null", "none")
"""Words that stand in every message, so they are not hidden."""
SHORTEST_ANYWHERE = 8
"""Characters.  Shorter values are hidden only as whole words."""
SHORTEST_START = 6
"""Characters.  Where text was cut (``...``), the start of a value is hidden from this length on."""
MOST_FOLDERS = 8
"""How many folders of a path are hidden, from the innermost outwards."""

# Patterns are compiled at first use: most commands never use them.
_UNSAFE = "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
_NAMED = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
_LITERAL = "'((?:[^']|'')+)'"
_DATE = r"\d{4}-\d\d-\d\d."
_from_environment: dict[str, str] = {}
"""Texts that are hidden, and what is shown in their place."""


def hide(variable: str, value: str) -> None:
    """From now on this process shows ``value``, which came from the environment variable, as ``${variable}``."""
    import json  # imported here because most commands do not need it

    for form, shown in _forms(value, f"${{{variable}}}"):
        if len(form) < SHORTEST_HIDDEN or form.lower() in NO_SECRETS:
            continue
        for written in (
            form,
            json.dumps(form)[1:-1],
            json.dumps(form, ensure_ascii=False)[1:-1],
            repr(form)[1:-1],
        ):
            for quoted in (written, written.replace("'", "''")):
                if form == value or quoted not in _from_environment:
                    _from_environment[quoted] = shown


def _forms(value: str, name: str) -> Iterator[tuple[str, str]]:
    """The forms in which the value may be shown, each with the text to show in its place.

    The forms: the value; the literals in it, where it is an expression; its normalized path and the folders of the path; its number and its
    instant, as explained plans write them.
    """
    yield value, name
    for literal in re.findall(_LITERAL, value):
        yield literal.replace("''", "'"), name
    if "/" in value:
        path, up = re.sub("/+", "/", value), name
        yield path, name
        for end in [match.start() for match in re.finditer("/", path)][: -MOST_FOLDERS - 1 : -1]:
            up = f"{up}/.."
            if end >= SHORTEST_ANYWHERE:
                yield path[:end], up
    if value[:1] in "+-.0123456789":
        yield from ((form, name) for form in _numbers(value))


def _numbers(value: str) -> Iterator[str]:
    for number in (int, float):
        with suppress(ValueError):
            yield str(number(value)).lstrip("-")
    if re.match(_DATE, value):
        from datetime import UTC, datetime

        try:
            instant = datetime.fromisoformat(value)
        except ValueError:
            return
        instant = instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)
        yield from (instant.strftime(f"%Y-%m-%d{between}%H:%M:%S") for between in " T")


def hidden_name(name: str) -> str:
    """A name that does not exist, for a message.  Hidden also where the name is only a word of a value from the environment."""
    for value, shown in _from_environment.items():
        if name in value and re.search(rf"\b{re.escape(name)}\b", value):
            return shown
    return name


def hidden(text: str) -> str:
    """``text`` with the values from the environment replaced by the names of their variables."""
    if not _from_environment:
        return text
    for value in sorted(_from_environment, key=len, reverse=True):
        name = _from_environment[value]
        if len(value) >= SHORTEST_ANYWHERE:
            text = text.replace(value, name)
        elif value in text:
            text = re.sub(rf"(?<![^\W_]){re.escape(value)}(?![^\W_])", name.replace("\\", r"\\"), text)
        if "..." in text:
            text = _start_hidden(text, value, name)
    return text


def _start_hidden(text: str, value: str, name: str) -> str:
    for length in range(len(value) - 1, SHORTEST_START - 1, -1):
        text = text.replace(f"{value[:length]}...", f"{name}...")
    return text


def printable(text: str) -> str:
    """The text as one safe line: control characters, changes of direction and lone surrogates become ``\\n``, ``\\x1b``, ``\\u202e``."""
    return text if text.isprintable() else re.sub(_UNSAFE, _escaped, text)


def _escaped(match: re.Match[str]) -> str:
    character = match[0]
    code = ord(character)
    return _NAMED.get(character) or (f"\\x{code:02x}" if code < 0x20 else f"\\u{code:04x}")


def printable_lines(text: str) -> str:
    """Lines of text, each made :func:`printable`, with values from the environment :func:`hidden`."""
    return "\n".join(printable(line) for line in hidden(text).split("\n"))


def tell(text: str) -> None:
    """Writes one safe line to stderr.  Where stderr is closed or full, the line is lost without an error."""
    write_error(printable(hidden(text)) + "\n")


def write_error(text: str) -> None:
    """Writes the text to stderr unchanged.  Where stderr is closed or full, the text is lost without an error."""
    try:
        if sys.stderr is not None:
            sys.stderr.write(text)
            sys.stderr.flush()
    except (OSError, ValueError):
        pass
