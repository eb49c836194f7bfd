"""Reads the table of a top."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from asyncflow.doors.components import Problems
from asyncflow.doors.expressions.named import key
from asyncflow.doors.expressions.sort_keys import sort_key
from asyncflow.doors.windows import window_shape
from asyncflow.doors.words import ExpressionText, Inputs, Key
from asyncflow.plan.stages.top import Top
from asyncflow.plan.windows import WindowShape


class TopTable(msgspec.Struct, kw_only=True, frozen=True):
    """Keeps the first rows of each window and key, with their rank."""

    type: Literal["top"]
    inputs: Inputs | None = None
    n: Annotated[int, Meta(description="How many rows of each window and key.", ge=1)]
    order: Annotated[
        list[ExpressionText],
        Meta(
            description="What goes first: expressions, each with ASC or DESC and NULLS FIRST or NULLS LAST. Ties go by arrival.",
            extra_json_schema={"examples": [["revenue DESC", "store"]]},
        ),
    ]
    by: Key = []
    window: Annotated[
        dict[str, Any] | str | None,
        Meta(
            description='{ tumbling = "1m" }, { hopping = "5m", every = "1m" } or "all". Left out: the windows the input comes from.',
            extra_json_schema={"examples": [{"tumbling": "1m"}, {"hopping": "5m", "every": "1m"}, "all"]},
        ),
    ] = None


Table = TopTable
MADE = {"window": WindowShape}


def read(name: str, inputs: tuple[str, ...], values: Mapping[str, Any], path: str, problems: Problems) -> Top:
    order = [
        sort_key(text, f"{path}.order.{position}", problems)
        for position, text in enumerate(values.get("order", ()))
    ]
    shape = values.get("window")
    return Top(
        name,
        inputs,
        values.get("n", 1),
        tuple(part for part in order if part is not None),
        key(values.get("by", ()), f"{path}.by", problems),
        None if shape is None else window_shape(shape, f"{path}.window", problems),
    )
