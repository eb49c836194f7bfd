"""Plain command lines of ``run`` and ``agg``, read by hand: importing click costs a tenth of a small run.

Plain: the options below in full, their values as the next argument or after ``=``, each once but ``--set`` and ``--input``.  Anything else,
mistakes and ``--help`` among it, is click's to read (``commands``).  Invariant: a command line that is plain means to click the same.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

MOST_WORKERS = 256
AUTO = "auto"
PROGRESS = ("auto", "on", "off")
RUN_DEFAULTS: dict[str, Any] = {
    "stats": None,
    "progress": "auto",
    "workers": AUTO,
    "quiet": False,
    "verbose": False,
}
"""Of the options of every command that runs a plan."""
AGG_DEFAULTS: dict[str, Any] = {
    "by": "",
    "window": None,
    "hop": None,
    "session": None,
    "time": None,
    "delay": None,
    "where": None,
    "inputs": (),
    "format": None,
    "output": "json",
}
_PARAMETERS = {"set": "overrides", "input": "inputs"}
"""Of the options that are not called as their parameter is."""


def call(args: list[str]) -> Callable[[], int] | None:
    """What a plain command line does; None where it is not plain."""
    match args:
        case ["run", *rest]:
            read = _read(rest, RUN_DEFAULTS | {"overrides": (), "fresh": False})
            if read is not None and len(read[0]) == 1:
                from asyncflow.cli.running import run_file

                return partial(run_file, read[0][0], **read[1])
        case ["agg", *rest]:
            read = _read(rest, RUN_DEFAULTS | AGG_DEFAULTS)
            if read is not None:
                from asyncflow.cli.running import aggregate

                return partial(aggregate, tuple(read[0]), **read[1])
    return None


def _read(args: list[str], defaults: dict[str, Any]) -> tuple[list[str], dict[str, Any]] | None:
    """Positional arguments, and the value of each option by its parameter's name."""
    positional: list[str] = []
    given: dict[str, Any] = {}
    left = iter(args)
    for argument in left:
        if not argument.startswith("-"):
            positional.append(argument)
            continue
        option, equals, value = argument.partition("=")
        option = "--verbose" if option == "-v" else option
        name = _PARAMETERS.get(option[2:], option[2:])
        if not option.startswith("--") or name not in defaults or option[2:] in _PARAMETERS.values():
            return None
        if isinstance(defaults[name], bool):
            if equals:
                return None
            given[name] = True
            continue
        if not equals:
            value = next(left, "")
        if not value or (value.startswith("-") and value != "-") or not _fits(name, value):
            return None
        if isinstance(defaults[name], tuple):
            given[name] = (*given.get(name, ()), value)
        elif name in given:
            return None
        else:
            given[name] = workers(value) if name == "workers" else value
    return positional, defaults | given


def workers(text: str) -> int | str | None:
    """The value of ``--workers``; None where it is none."""
    if text == AUTO:
        return AUTO
    if text.isascii() and text.isdecimal() and len(text) <= 3 and 1 <= int(text) <= MOST_WORKERS:
        return int(text)
    return None


def _fits(name: str, value: str) -> bool:
    if name == "workers":
        return workers(value) is not None
    return name != "progress" or value in PROGRESS
