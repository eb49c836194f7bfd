"""The one-liner: the options of ``asyncflow agg`` to a plan, by writing the pipeline file that they stand for."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from asyncflow.doors.pipeline_file.document import read_document
from asyncflow.errors import PipelineError, Problem
from asyncflow.model.schema import TIMESTAMP_UNITS
from asyncflow.plan.names import nearest
from asyncflow.plan.tables import Plan


class AggOptions(Struct, frozen=True):
    """What was given on the command line, as text; see ``asyncflow agg --help``."""

    aggregates: Sequence[str] = ()
    by: str = ""
    window: str | None = None
    hop: str | None = None
    session: str | None = None
    time: str | None = None
    delay: str | None = None
    where: str | None = None
    inputs: Sequence[str] = ()
    format: str | None = None
    output: str = "json"


_OPTION_OF_PATH = (
    ("sources.input.format", "--format"),
    ("sources.input.path", "--input"),
    ("sources.input.time", "--time"),
    ("sources.input.watermark_delay", "--delay"),
    ("stages.where.where", "--where"),
    ("stages.agg.window.tumbling", "--window"),
    ("stages.agg.window.hopping", "--window"),
    ("stages.agg.window.every", "--hop"),
    ("stages.agg.window.session", "--session"),
    ("stages.agg.by", "--by"),
    ("stages.agg.aggregates", "AGG"),
    ("sinks.output.format", "--output"),
)


def plan_of(options: AggOptions) -> Plan:
    """The plan; PipelineError whose problems name the option (``--where``) in place of a TOML path."""
    problems: list[Problem] = []
    document = _document(options, problems)
    time, unit = _time(options.time, problems)
    if time is not None:
        document["sources"]["input"]["time"] = time
    try:
        plan = read_document(document, name="agg")
    except PipelineError as error:
        problems += error.problems
    if problems:
        raise in_options(PipelineError(problems))
    return replace(plan, sources=tuple(replace(source, time_unit=unit) for source in plan.sources))


def in_options(error: PipelineError) -> PipelineError:
    """The same problems, told of the options: ``stages.where.where`` is ``--where``."""
    return PipelineError([_in_options(problem) for problem in error.problems])


def _in_options(problem: Problem) -> Problem:
    hint = problem.hint
    if problem.path == "sources.input.time" and "timestamp[" in hint:
        hint = "for a number say its unit: --time COL:ms (s, ms, us or ns)"
    return replace(problem, path=_option(problem.path), hint=hint)


def _option(path: str) -> str:
    for prefix, option in _OPTION_OF_PATH:
        if path == prefix:
            return option
        if path.startswith(f"{prefix}."):
            return f"{option} {path[len(prefix) + 1 :]}"
    return path


def _document(options: AggOptions, problems: list[Problem]) -> dict[str, Any]:
    source: dict[str, Any] = {"type": "stdin"}
    if options.inputs and list(options.inputs) != ["-"]:
        source = {
            "type": "file",
            "path": list(options.inputs) if len(options.inputs) > 1 else options.inputs[0],
        }
    if options.format is not None:
        source["format"] = options.format
    if options.delay is not None:
        source["watermark_delay"] = options.delay
    stages: dict[str, Any] = {}
    if options.where is not None:
        stages["where"] = {"type": "filter", "where": options.where}
    stages["agg"] = {
        "type": "window",
        "window": _window(options, problems),
        "by": _by(options.by),
        "aggregates": _aggregates(options.aggregates, problems),
    }
    sinks = {"output": {"type": "stdout", "format": options.output}}
    return {"sources": {"input": source}, "stages": stages, "sinks": sinks}


def _window(options: AggOptions, problems: list[Problem]) -> Any:
    if options.session is not None:
        for given, option in ((options.window, "--window"), (options.hop, "--hop")):
            if given is not None:
                problems.append(
                    Problem(option, "it cannot be given together with --session", "leave one out")
                )
        return {"session": options.session}
    if options.window is None:
        if options.hop is not None:
            problems.append(
                Problem("--hop", "there is no window to hop", "give its length too: --window 5m --hop 1m")
            )
        return "all"
    if options.window in ("all", "message"):
        return options.window
    if options.hop is None:
        return {"tumbling": options.window}
    return {"hopping": options.window, "every": options.hop}


def _time(text: str | None, problems: list[Problem]) -> tuple[str | None, str]:
    if text is None:
        return None, ""
    column, separator, unit = text.rpartition(":")
    if not separator:
        return text, ""
    if unit not in TIMESTAMP_UNITS:
        hint = nearest(unit, TIMESTAMP_UNITS)
        problems.append(Problem("--time", f"unknown unit {unit!r}", hint))
        return column, ""
    return column, unit


_NAMED = re.compile(r"\s*([A-Za-z_][A-Za-z0-9_]*)\s*=(?!=)\s*(.+)\Z", re.DOTALL)


def _by(text: str) -> list[str] | dict[str, str]:
    """``host,level`` as a list; with ``name=expression`` among them, as a table."""
    parts = [part.strip() for part in _split_commas(text) if part.strip()]
    if not any(_NAMED.match(part) for part in parts):
        return parts
    named = {}
    for part in parts:
        match = _NAMED.match(part)
        named[match[1] if match else part] = match[2] if match else '"' + part.replace('"', '""') + '"'
    return named


def _aggregates(texts: Sequence[str], problems: list[Problem]) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in texts or ("count(*)",):
        match = _NAMED.match(text)
        name, expression = (match[1], match[2]) if match else (_derived_name(text), text)
        if name in found:
            problems.append(
                Problem("AGG", f"two aggregates have the name {name!r}", f"name one: 'NAME={text}'")
            )
        found.setdefault(name, expression)
    return found


def _derived_name(text: str) -> str:
    """``count(*)`` is ``count``, ``sum(x)`` is ``sum_x``, ``quantile(ms, 0.99)`` is ``quantile_ms_0_99``."""
    return re.sub(r"[^A-Za-z0-9]+", "_", text).strip("_").lower() or "value"


def _split_commas(text: str) -> list[str]:
    """Cuts at commas outside brackets and quotes."""
    parts, depth, quote, start = [], 0, "", 0
    for position, character in enumerate(text):
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        elif character in "()":
            depth += 1 if character == "(" else -1
        elif character == "," and depth <= 0:
            parts.append(text[start:position])
            start = position + 1
    parts.append(text[start:])
    return parts
