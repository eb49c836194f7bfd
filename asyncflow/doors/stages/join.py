"""Reads the table of a join."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from asyncflow.doors.components import Problems
from asyncflow.doors.windows import window_shape
from asyncflow.doors.words import Duration, Size, duration, size
from asyncflow.plan.stages.join import SIDES, Join
from asyncflow.plan.stages.unreadable import Unreadable
from asyncflow.plan.windows import WindowShape


class JoinTable(msgspec.Struct, kw_only=True, frozen=True):
    """Puts rows of two tables together: by time (within, window or as_of), or each left row with its matches in a bounded right table."""

    type: Literal["join"]
    left: Annotated[str, Meta(description="The left table.")]
    right: Annotated[
        str,
        Meta(
            description="The right table. Without within, window or as_of it must end: it is read whole first."
        ),
    ]
    on: Annotated[
        list[str] | dict[str, str],
        Meta(
            description="Columns that must be equal: a list, or left columns with their right ones. []: every pair."
        ),
    ]
    kind: Annotated[
        Literal["inner", "left", "right", "full", "semi", "anti"],
        Meta(
            description="Which rows without a partner come out too; semi and anti: left rows with and without one."
        ),
    ] = "inner"
    within: Annotated[
        Duration | list[Duration] | None,
        Meta(
            description='How far apart in time: "10m", or ["-1m", "10m"] for right time - left time.',
            extra_json_schema={"examples": ["10m", ["-1m", "10m"]]},
        ),
    ] = None
    window: Annotated[
        dict[str, Any] | str | None,
        Meta(
            description="Both in the same window.",
            extra_json_schema={"examples": [{"tumbling": "1m"}, {"hopping": "5m", "every": "1m"}]},
        ),
    ] = None
    as_of: Annotated[
        Literal["backward", "forward", "nearest"] | None,
        Meta(description="Each left row with the one right row that is nearest in time."),
    ] = None
    tolerance: Annotated[
        Duration | None, Meta(description="How far apart the two of an as-of join may be.")
    ] = None
    refresh: Annotated[
        Duration | None,
        Meta(
            description="A right table that is read whole is read again so long after its last reading; the new one takes the old one's "
            "place once it is whole. Where the left table may never end."
        ),
    ] = None
    suffix: Annotated[
        str, Meta(description="What is added to the name of a right column that the left side has too.")
    ] = "_right"
    max_state: Annotated[
        Size,
        Meta(
            description="The run fails when the rows held take more; with refresh the old and the new table count, and "
            "only that reading fails."
        ),
    ] = "1GiB"


Table = JoinTable
MADE = {"window": WindowShape}


def read(
    name: str, inputs: tuple[str, ...], values: Mapping[str, Any], path: str, problems: Problems
) -> Join | Unreadable:
    sides = tuple(str(values[side]) for side in SIDES if side in values)
    if len(sides) < len(SIDES):
        return Unreadable(name, sides or inputs[:1])
    settings: dict[str, Any] = {
        key: values[key] for key in ("kind", "as_of", "suffix") if values.get(key) is not None
    }
    for key in ("tolerance", "refresh"):
        if values.get(key) is not None:
            settings[f"{key}_ns"] = duration(values[key], f"{path}.{key}", problems) or 0
    if values.get("max_state") is not None:
        most = size(values["max_state"], f"{path}.max_state", problems)
        settings["max_state_bytes"] = 1 if most is None else most
    on, window = values.get("on", ()), values.get("window")
    return Join(
        name,
        sides,
        tuple(on.items()) if isinstance(on, Mapping) else tuple((column, column) for column in on),
        within_ns=_within(values.get("within"), f"{path}.within", problems),
        window=None if window is None else window_shape(window, f"{path}.window", problems),
        **settings,
    )


def _within(written: object, path: str, problems: Problems) -> tuple[int, int] | None:
    if written is None:
        return None
    if isinstance(written, str):
        length = duration(written, path, problems) or 0
        if length < 0:
            problems.add(path, "it cannot be negative", 'two ends are written ["-1m", "10m"]')
        return (-length, length)
    if not isinstance(written, list | tuple) or len(written) != 2:
        problems.add(path, "it is a duration, or two in a list", '"10m" or ["-1m", "10m"]')
        return (0, 0)
    return duration(written[0], path, problems) or 0, duration(written[1], path, problems) or 0
