"""Reads the table of a derive."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from asyncflow.doors.components import Problems
from asyncflow.doors.expressions.named import expressions
from asyncflow.doors.words import ExpressionText, Inputs
from asyncflow.plan.stages.derive import Derive


class DeriveTable(msgspec.Struct, kw_only=True, frozen=True):
    """Adds columns, or replaces those of the same name; to replace the time column gives rows another time (null: NAME.rejected)."""

    type: Literal["derive"]
    inputs: Inputs | None = None
    columns: Annotated[
        dict[str, ExpressionText],
        Meta(description="New columns and their expressions over the input's columns."),
    ]


Table = DeriveTable


def read(
    name: str, inputs: tuple[str, ...], values: Mapping[str, Any], path: str, problems: Problems
) -> Derive:
    columns = values.get("columns", {})
    if not columns and "columns" in values:
        problems.add(f"{path}.columns", "there is no column to add", 'for example { twice = "qty * 2" }')
    return Derive(name, inputs, expressions(columns, f"{path}.columns", problems))
