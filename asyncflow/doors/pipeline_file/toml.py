"""The pipeline file: TOML text to tables, ``${VAR}`` from the environment, ``--set`` over both; then ``document`` makes the plan.

Variables are replaced inside string values after parsing, so what the environment holds can never change the shape of the file.  Their
values are hidden from then on in all that is told (``printable``).
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from typing import Any

from asyncflow.doors.components import FromEnvironment, Problems
from asyncflow.doors.pipeline_file.document import read_document
from asyncflow.errors import PipelineError, Problem
from asyncflow.plan.names import nearest
from asyncflow.plan.tables import Plan
from asyncflow.printable import hide

_VARIABLE = r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}"
"""Compiled at first use, as most files name no variable."""


def load(
    path_or_text: str | os.PathLike[str],
    *,
    overrides: Iterable[str] = (),
    environ: Mapping[str, str] = os.environ,
    sink_required: bool = False,
) -> Plan:
    """The plan in a pipeline file, or in its text (a string with a line break); PipelineError with every problem.

    ``overrides``: ``"sources.sales.path=x.csv"``, each replacing one value.  ``environ``: where ``${VAR}`` is looked up.
    ``sink_required``: a file without a sink is a problem (its rows would go nowhere).
    """
    if isinstance(path_or_text, str) and "\n" in path_or_text:
        text, name = path_or_text, "pipeline"
    else:
        name = os.fspath(path_or_text)
        text = _text(name)
    return _plan_of(text, name, overrides, environ, sink_required)


def load_file(path: str, *, overrides: Iterable[str], sink_required: bool) -> Plan:
    """The plan in the pipeline file at ``path``, whatever its name: see :func:`load`."""
    return _plan_of(_text(path), path, overrides, os.environ, sink_required)


def _plan_of(
    text: str, name: str, overrides: Iterable[str], environ: Mapping[str, str], sink_required: bool
) -> Plan:
    problems = Problems()
    try:
        document = _substituted(tomllib.loads(text), "", environ, problems)
    except tomllib.TOMLDecodeError as error:
        raise PipelineError([Problem(name, f"not TOML: {_lower(str(error))}")]) from None
    except RecursionError:
        raise PipelineError([Problem(name, "nested too deeply")]) from None
    for override in overrides:
        _override(document, override, problems)
    if sink_required and not document.get("sinks"):
        problems.add(
            "sinks", "there is no sink: the rows would go nowhere", "add a table [sinks.NAME] with a type"
        )
    plan = None
    try:
        plan = read_document(document, name=os.path.splitext(os.path.basename(name))[0] or "pipeline")
    except PipelineError as error:
        problems.found += error.problems
    if problems.found or plan is None:
        raise PipelineError(problems.found)
    return plan


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except UnicodeDecodeError as error:
        raise PipelineError([Problem(path, f"not UTF-8 text at byte {error.start}")]) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise PipelineError([Problem(path, f"cannot be read: {_lower(reason)}")]) from None


def _substituted(value: Any, path: str, environ: Mapping[str, str], problems: Problems) -> Any:
    if isinstance(value, dict):
        prefix = f"{path}." if path else ""
        return {key: _substituted(each, prefix + key, environ, problems) for key, each in value.items()}
    if isinstance(value, list):
        return [
            _substituted(each, f"{path}.{position}", environ, problems) for position, each in enumerate(value)
        ]
    if not isinstance(value, str) or "${" not in value:
        return value

    def replace(match: re.Match[str]) -> str:
        name, default = match.groups()
        if name in environ:
            hide(name, environ[name])
            return environ[name]
        if default is None:
            near = nearest(name, environ)
            hint = near if near.startswith("did") else f"or give a default: ${{{name}:-...}}"
            problems.add(path, f"the environment variable {name} is not set", hint)
            return ""
        return str(default)

    return FromEnvironment(re.sub(_VARIABLE, replace, value))


def _override(document: dict[str, Any], override: str, problems: Problems) -> None:
    target, separator, text = override.partition("=")
    keys = target.strip().split(".")
    if not separator or not all(keys):
        problems.add("--set", f"{override!r} is not PATH=VALUE", "--set sources.sales.path=x.csv")
        return
    table: Any = document
    for depth, key in enumerate(keys[:-1]):
        inner = table.setdefault(key, {})
        if not isinstance(inner, dict):
            problems.add("--set", f"{'.'.join(keys[: depth + 1])} is a value, not a table")
            return
        table = inner
    table[keys[-1]] = _value(text)


def _value(text: str) -> Any:
    """As TOML where it is one value of it, else as text: ``5``, ``true``, ``["a", "b"]``, but also ``x.csv``."""
    try:
        parsed = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    return parsed["value"] if len(parsed) == 1 else text
