"""Reads the table of a sequence: a source that reads two others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from asyncflow.doors.components import Problems
from asyncflow.plan.stages.sequence import Sequence


class SequenceTable(msgspec.Struct, kw_only=True, frozen=True):
    """Reads two sources one after the other as one table: the past, then what is live."""

    type: Literal["sequence"]
    of: Annotated[
        list[str],
        Meta(description="The two sources. The second is opened first and kept until the first has ended."),
    ]
    unique: Annotated[
        list[str],
        Meta(
            description="Columns that tell which live rows the past had; it is read once live has sent a row. Left out: told by event time."
        ),
    ] = []


Table = SequenceTable
ROOM = "sources"


def read(
    name: str, inputs: tuple[str, ...], values: Mapping[str, Any], path: str, problems: Problems
) -> Sequence:
    return Sequence(name, tuple(values.get("of", ())), tuple(values.get("unique", ())))
