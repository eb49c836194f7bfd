"""Checks of constant arguments whose value decides whether a call is valid: units, fields, patterns, shares of quantiles.

``typing`` calls the checks once the types of a call fit, so a wrong unit or pattern is a problem of the plan, not of a run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TypeAlias

from asyncflow.model.instants import EXTRACT_FIELDS, TRUNC_UNITS
from asyncflow.plan.expressions.typed import Typed
from asyncflow.plan.names import nearest

Problem: TypeAlias = tuple[str, str]
"""A message and a hint."""

Check: TypeAlias = Callable[[tuple[Typed, ...]], Problem | None]
"""Takes the arguments of a call; returns the problem, or None."""


def _unit(words: Sequence[str], function: str, what: str, example: str) -> Check:
    """The first argument is a constant text, one of ``words``."""

    def check(args: tuple[Typed, ...]) -> Problem | None:
        unit = args[0].value if args[0].operation == "literal" else None
        if not isinstance(unit, str):
            return f"the {what} in {function} must be a constant text", example
        if unit.lower() not in words:
            return f"{function} has no {what} {unit!r}", nearest(unit, words) or f"for example {example}"
        return None

    return check


def _pattern(kind: str) -> Check:
    """The constants after the first argument compile as a pattern: ``like`` or ``regexp``."""

    def check(args: tuple[Typed, ...]) -> Problem | None:
        texts = [arg.value for arg in args[1:] if arg.operation == "literal" and isinstance(arg.value, str)]
        if texts:
            from asyncflow.model import patterns

            try:
                getattr(patterns, kind)(*texts)
            except ValueError as error:
                return str(error), ""
        return None

    return check


CONSTANT_BOUNDS: Mapping[str, tuple[str, int, int, str]] = MappingProxyType(
    {
        "quantile": ("share", 0, 1, "quantile(x, 0.99)"),
        "quantile_disc": ("share", 0, 1, "quantile_disc(x, 0.99)"),
        "approx_quantile": ("share", 0, 1, "approx_quantile(x, 0.99)"),
        "approx_top_k": ("number", 1, 1000, "approx_top_k(x, 10)"),
    }
)
"""Aggregates whose second argument is a constant: the word for the constant, its least and greatest value, and an example."""


def constant_of(name: str, args: Sequence[Typed]) -> float | Problem | None:
    """The constant argument of an aggregate, None where the aggregate takes none; or the problem of the argument."""
    if name == "median":
        return 0.5
    if name not in CONSTANT_BOUNDS:
        return None
    what, least, greatest, example = CONSTANT_BOUNDS[name]
    arg, sign = args[1], 1
    while arg.operation in ("cast", "neg"):
        arg, sign = arg.args[0], -sign if arg.operation == "neg" else sign
    if arg.operation != "literal" or arg.value is None:
        return f"the {what} in {name} must be a constant from {least} to {greatest}", example
    value = sign * arg.value
    if not least <= value <= greatest:
        return f"the {what} in {name} must be from {least} to {greatest}, not {value}", example
    return float(value) if what == "share" else int(value)


CONSTANT_CHECKS: Mapping[str, Check] = MappingProxyType(
    {
        "date_trunc": _unit(tuple(TRUNC_UNITS), "date_trunc", "unit", "date_trunc('hour', t)"),
        "extract": _unit(tuple(EXTRACT_FIELDS), "extract", "field", "extract(hour FROM t)"),
        "regexp_matches": _pattern("regexp"),
        "regexp_extract": _pattern("regexp"),
        "like": _pattern("like"),
    }
)
