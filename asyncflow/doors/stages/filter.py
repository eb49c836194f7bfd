"""Reads the table of a filter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from asyncflow.doors.components import Problems
from asyncflow.doors.expressions.named import expression
from asyncflow.doors.words import ExpressionText, Inputs
from asyncflow.plan.stages.filter import Filter


class FilterTable(msgspec.Struct, kw_only=True, frozen=True):
    """Keeps the rows for which the condition is true."""

    type: Literal["filter"]
    inputs: Inputs | None = None
    where: Annotated[
        ExpressionText, Meta(description="The condition. Rows for which it is false or null are taken out.")
    ]


Table = FilterTable


def read(
    name: str, inputs: tuple[str, ...], values: Mapping[str, Any], path: str, problems: Problems
) -> Filter | None:
    where = expression(values["where"], f"{path}.where", problems) if "where" in values else None
    return None if where is None else Filter(name, inputs, where)
