"""Reads the table of a dedup."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from asyncflow.doors.components import Problems
from asyncflow.doors.expressions.named import key
from asyncflow.doors.words import Duration, Inputs, Key, duration
from asyncflow.plan.stages.dedup import Dedup


class DedupTable(msgspec.Struct, kw_only=True, frozen=True):
    """Lets the first row of each key pass, by arrival; the others go to NAME.duplicate."""

    type: Literal["dedup"]
    inputs: Inputs | None = None
    by: Key
    within: Annotated[
        Duration,
        Meta(
            description="Rows of a key at most this far, in event time, from one that passed are its duplicates."
        ),
    ]


Table = DedupTable


def read(
    name: str, inputs: tuple[str, ...], values: Mapping[str, Any], path: str, problems: Problems
) -> Dedup:
    within = duration(values.get("within", "0s"), f"{path}.within", problems)
    return Dedup(name, inputs, key(values.get("by", ()), f"{path}.by", problems), within or 0)
