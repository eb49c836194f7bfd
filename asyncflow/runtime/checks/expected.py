"""Compares the rows that a test expects with the rows that came, and shows the differences.

Only the columns that an expected row names are compared.  Integers, texts and truth values must be equal, floats to nine digits; a
timestamp may be written as a datetime, as ISO text, or as a number in the unit of the pipeline's time column.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from asyncflow.model.instants import format_timestamp
from asyncflow.model.schema import DataType, Field
from asyncflow.model.values import instant

REL_TOL = 1e-9


class Table(Struct, frozen=True):
    """The rows that came.  ``timestamps``: columns of instants (int, ns); ``unit``: of numbers written for them in the test."""

    rows: Sequence[Mapping[str, Any]]
    timestamps: Collection[str]
    unit: str


def differences(where: str, expected: Sequence[Mapping[str, Any]], table: Table) -> list[str]:
    """Empty where the rows are as expected; else a headline and every row by position, ``-`` expected, ``+`` came."""
    lines = list(_lines(expected, table))
    if all(line.startswith(" ") for line in lines):
        return []
    if len(expected) != len(table.rows):
        headline = f"{_rows(len(expected))} expected, {len(table.rows)} came"
    else:
        first = next(number for number, line in enumerate(lines) if not line.startswith(" "))
        headline = f"rows[{first}] differs"
    return [f"{where}: {headline}", *(f"    {line}" for line in lines)]


def _lines(expected: Sequence[Mapping[str, Any]], table: Table) -> Iterator[str]:
    columns = list(dict.fromkeys(name for row in expected for name in row))
    for want, got in zip_longest(expected, table.rows):
        if got is None:
            yield f"- {_written(want, table)}"
        elif want is None:
            yield f"+ {_text(got, columns or list(got), table)}"
        elif all(name in got and _equal(value, got[name], name, table) for name, value in want.items()):
            yield f"  {_text(got, list(want), table)}"
        else:
            yield f"- {_written(want, table)}"
            yield f"+ {_text(got, list(want), table)}"


def _equal(expected: Any, got: Any, name: str, table: Table) -> bool:
    if isinstance(expected, Mapping):
        equal = got is None
    elif got is None or isinstance(expected, bool) or isinstance(got, bool):
        equal = expected is got
    elif name in table.timestamps:
        equal = _instant(expected, table) == got
    elif isinstance(expected, str) or isinstance(got, str):
        equal = expected == got
    elif isinstance(expected, float) or isinstance(got, float):
        equal = math.isclose(expected, got, rel_tol=REL_TOL) or (expected != expected and got != got)
    else:
        equal = expected == got
    return equal


def _instant(value: Any, table: Table) -> int | None:
    try:
        return instant(value, Field("time", DataType.TIMESTAMP, table.unit))
    except ValueError:
        return None


def _written(row: Mapping[str, Any], table: Table) -> str:
    """An expected row as text, with its timestamps written like those that came."""
    instants = {name: _instant(value, table) for name, value in row.items() if name in table.timestamps}
    known = {name: value for name, value in instants.items() if value is not None}
    return _text({**row, **known}, list(row), replace(table, timestamps=known))


def _text(row: Mapping[str, Any], columns: Sequence[str], table: Table) -> str:
    return "{ " + ", ".join(f"{name} = {_value(row, name, table)}" for name in columns) + " }"


def _value(row: Mapping[str, Any], name: str, table: Table) -> str:
    value = row.get(name)
    if value is None or isinstance(value, Mapping):
        return "null" if name in row else "(no such column)"
    if name in table.timestamps and isinstance(value, int):
        return format_timestamp(value)
    return json.dumps(value, ensure_ascii=False, default=str)


def _rows(count: int) -> str:
    return f"{count} row" + ("" if count == 1 else "s")
