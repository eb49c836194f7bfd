"""Text for people: values from the data and from the environment, made safe before they reach a terminal, a log or an error.

Everything that asyncflow says on stderr goes through :func:`tell`; errors and explained plans go through :func:`hidden`.

* Control characters and what turns the direction of text are shown as escapes, so no value can move a cursor or forge a line.
* What a pipeline file took from the environment (``${VAR}``) is shown as ``${VAR}``: that is where secrets live.
* A stderr that is closed or full never fails a run.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import suppress

SHORTEST_HIDDEN = 4
"""Characters: a shorter value is no secret, and hiding it would make other text unreadable."""
NO_SECRETS = ("true", "false", "null", "none")
"""Words of every message."""
SHORTEST_ANYWHERE = 8
"""Characters: a shorter value is hidden only where it is a word of its own."""
SHORTEST_START = 6
"""Characters: the start of a value is hidden from this length on where the text was cut (``...``)."""
MOST_FOLDERS = 8
"""So many folders of a path are hidden, from the last one up."""

# Patterns are compiled when they are first needed: most commands never do.
_UNSAFE = "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
_NAMED = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
_LITERAL = "'((?:[^']|'')+)'"
_DATE = r"\d{4}-\d\d-\d\d."
_from_environment: dict[str, str] = {}
"""What is not shown, and what is shown in its place."""


def hide(variable: str, value: str) -> None:
    """From now on ``value``, which came from the environment variable, is shown as ``${variable}`` in this process."""
    import json  # not for every command

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
    """What the value may be turned into before it is told, each with what is shown for it.

    Besides itself: the literals of an expression; a path with its slashes in order, and its folders; a number and an instant as
    explained plans write them.
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
    """The name of something that does not exist: hidden where it is a word of a value from the environment, too."""
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
    """One line: control characters, changes of direction and halves of surrogate pairs as ``\\n``, ``\\x1b``, ``\\u202e``."""
    return text if text.isprintable() else re.sub(_UNSAFE, _escaped, text)


def _escaped(match: re.Match[str]) -> str:
    character = match[0]
    code = ord(character)
    return _NAMED.get(character) or (f"\\x{code:02x}" if code < 0x20 else f"\\u{code:04x}")


def printable_lines(text: str) -> str:
    """Lines of text, each :func:`printable`, with what is :func:`hidden` left out."""
    return "\n".join(printable(line) for line in hidden(text).split("\n"))


def tell(text: str) -> None:
    """One line on stderr.  Where stderr is closed or full the line is lost, and nothing else happens."""
    write_error(printable(hidden(text)) + "\n")


def write_error(text: str) -> None:
    """Text on stderr, as it is; lost where stderr is closed or full."""
    try:
        if sys.stderr is not None:
            sys.stderr.write(text)
            sys.stderr.flush()
    except (OSError, ValueError):
        pass
