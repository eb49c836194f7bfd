"""A join as written to its table in the plan."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from asyncflow.doors.components import Problems
from asyncflow.doors.windows import window_shape
from asyncflow.model.durations import parse_duration, parse_size
from asyncflow.plan.stages.join import Join


def join_stage(name: str, values: Mapping[str, Any], path: str, problems: Problems) -> Join:
    """``values``: the keys of a :class:`~asyncflow.doors.pipeline_file.tables.JoinTable` that fit."""
    on = values.get("on", ())
    window = values.get("window")
    settings: dict[str, Any] = {
        key: values[key] for key in ("kind", "as_of", "suffix") if values.get(key) is not None
    }
    for key in ("tolerance", "refresh"):
        if values.get(key) is not None:
            settings[f"{key}_ns"] = _duration(values[key], f"{path}.{key}", problems)
    if values.get("max_state") is not None:
        settings["max_state_bytes"] = _size(values["max_state"], f"{path}.max_state", problems)
    return Join(
        name,
        (str(values.get("left", "")), str(values.get("right", ""))),
        tuple(on.items()) if isinstance(on, Mapping) else tuple((column, column) for column in on),
        within_ns=_within(values.get("within"), f"{path}.within", problems),
        window=None if window is None else window_shape(window, f"{path}.window", problems),
        **settings,
    )


def _within(written: object, path: str, problems: Problems) -> tuple[int, int] | None:
    if written is None:
        return None
    if isinstance(written, str):
        length = _duration(written, path, problems)
        if length < 0:
            problems.add(path, "it cannot be negative", 'two ends are written ["-1m", "10m"]')
        return (-length, length)
    if not isinstance(written, list | tuple) or len(written) != 2:
        problems.add(path, "it is a duration, or two in a list", '"10m" or ["-1m", "10m"]')
        return (0, 0)
    return _duration(written[0], path, problems), _duration(written[1], path, problems)


def _duration(text: str, path: str, problems: Problems) -> int:
    try:
        return parse_duration(text)
    except ValueError as error:
        problems.add(path, str(error))
        return 0


def _size(value: int | str, path: str, problems: Problems) -> int:
    try:
        return value if isinstance(value, int) else parse_size(value)
    except ValueError as error:
        problems.add(path, str(error))
        return 1
