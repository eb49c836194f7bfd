"""The words of a pipeline file that several tables share: types of keys for reading, hints and the JSON Schema, and lengths as text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, TypeVar

from msgspec import Meta

from asyncflow.doors.components import Problems
from asyncflow.model.durations import parse_duration, parse_size

_DURATION = r"^-?(\d+(\.\d+)?(ns|us|ms|s|m|h|d))+$"

Duration = Annotated[
    str, Meta(extra_json_schema={"pattern": _DURATION, "examples": ["250ms", "5s", "1m30s", "1d"]})
]
Size = Annotated[int | str, Meta(extra_json_schema={"examples": ["64KiB", "16MiB"]})]
ExpressionText = Annotated[str, Meta(extra_json_schema={"examples": ["qty > 0 AND store IS NOT NULL"]})]
AggregateText = Annotated[str, Meta(extra_json_schema={"examples": ["count(*)", "sum(price * qty)"]})]
Key = Annotated[
    list[str] | dict[str, ExpressionText],
    Meta(description="The key: a list of columns, or names with expressions."),
]
TypeText = Annotated[
    str, Meta(extra_json_schema={"pattern": r"^(bool|int64|float64|string|timestamp(\[(s|ms|us|ns)\])?)$"})
]
FormatValue = Annotated[
    str | dict[str, Any], Meta(description="A format's name, or a table of its type and options.")
]
Inputs = Annotated[
    list[str],
    Meta(
        description="The tables or side outputs (NAME.rejected) to read; several are a union. Left out: the table before."
    ),
]

T = TypeVar("T")


def duration(written: str, path: str, problems: Problems) -> int | None:
    """The duration in ns; None, with a problem added, where the text is none."""
    return _parsed(parse_duration, written, path, problems)


def size(written: int | str, path: str, problems: Problems) -> int | None:
    """The size in bytes; None, with a problem added, where the text is none."""
    return written if isinstance(written, int) else _parsed(parse_size, written, path, problems)


def _parsed(parse: Callable[[str], T], written: str, path: str, problems: Problems) -> T | None:
    try:
        return parse(written)
    except ValueError as error:
        problems.add(path, str(error))
        return None
