"""Reads the table of a window stage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from asyncflow.doors.components import Problems
from asyncflow.doors.expressions.named import expressions, key
from asyncflow.doors.windows import emit_every, window_shape
from asyncflow.doors.words import AggregateText, Duration, Inputs, Key, duration
from asyncflow.plan.expressions.nodes import Expression
from asyncflow.plan.stages.window import Window
from asyncflow.plan.windows import WindowShape


class WindowTable(msgspec.Struct, kw_only=True, frozen=True):
    """Groups rows by window and key and aggregates each group."""

    type: Literal["window"]
    inputs: Inputs | None = None
    window: Annotated[
        dict[str, Any] | str,
        Meta(
            description='{ tumbling = "1m" }, { hopping = "5m", every = "1m" }, { cumulate = "1d", every = "1h" }, '
            '{ session = "30s" }, { count = 100 }, "all" or "message"; offset = "15m" moves the bounds of the first three.',
            extra_json_schema={
                "examples": [
                    {"tumbling": "1m"},
                    {"hopping": "5m", "every": "1m"},
                    {"cumulate": "1d", "every": "1h"},
                    {"session": "30s"},
                    {"count": 100},
                    "all",
                    "message",
                ]
            },
        ),
    ] = "all"
    by: Key = []
    aggregates: Annotated[
        dict[str, AggregateText], Meta(description="New columns and their aggregate expressions.")
    ] = {}
    allowed_lateness: Annotated[
        Duration,
        Meta(
            description="For how long after its end late rows still change a window: its row is sent again, with the next revision."
        ),
    ] = "0s"
    emit: Annotated[
        str | dict[str, Any],
        Meta(
            description='When windows are sent: "final" (at their end); "updates" or { every = "5s" }: also before, as they change.',
            extra_json_schema={"examples": ["final", "updates", {"every": "5s"}]},
        ),
    ] = "final"


Table = WindowTable
MADE = {"window": WindowShape, "aggregates": Expression}


def read(
    name: str, inputs: tuple[str, ...], values: Mapping[str, Any], path: str, problems: Problems
) -> Window:
    shape = window_shape(values.get("window", "all"), f"{path}.window", problems)
    lateness = duration(values.get("allowed_lateness", "0s"), f"{path}.allowed_lateness", problems)
    return Window(
        name,
        inputs,
        shape,
        key(values.get("by", ()), f"{path}.by", problems),
        expressions(values.get("aggregates", {}), f"{path}.aggregates", problems),
        lateness or 0,
        emit_every(values.get("emit", "final"), shape, f"{path}.emit", problems),
    )
