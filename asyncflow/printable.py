"""Text for people: values from the data and from the environment, made safe before they reach a terminal, a log or an error.

Everything that asyncflow says on stderr goes through :func:`tell`; errors and explained plans go through :func:`hidden`.

* Control characters and what turns the direction of text are shown as escapes, so no value can move a cursor or forge a line.
* What a pipeline file took from the environment (``${VAR}``) is shown as ``${VAR}``: that is where secrets live.
* A stderr that is closed or full never fails a run.
"""

from __future__ import annotations

import re
import sys

SHORTEST_HIDDEN = 4
"""Characters: a shorter value is no secret, and hiding it would make other text unreadable."""
NO_SECRETS = ("true", "false", "null", "none")
"""Words of every message."""
SHORTEST_ANYWHERE = 8
"""Characters: a shorter value is hidden only where it is a word of its own."""
SHORTEST_START = 6
"""Characters: the start of a value is hidden from this length on where the text was cut (``...``)."""

_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)
_NAMED = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
_from_environment: dict[str, str] = {}


def hide(variable: str, value: str) -> None:
    """From now on ``value``, which came from the environment variable, is shown as ``${variable}`` in this process."""
    import json  # not for every command

    if len(value) < SHORTEST_HIDDEN or value.lower() in NO_SECRETS:
        return
    for written in (
        value,
        json.dumps(value)[1:-1],
        json.dumps(value, ensure_ascii=False)[1:-1],
        repr(value)[1:-1],
    ):
        _from_environment[written] = variable
        _from_environment[written.replace("'", "''")] = variable


def hidden(text: str) -> str:
    """``text`` with the values from the environment replaced by the names of their variables."""
    if not _from_environment:
        return text
    for value in sorted(_from_environment, key=len, reverse=True):
        name = f"${{{_from_environment[value]}}}"
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
    return _UNSAFE.sub(_escaped, text)


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
