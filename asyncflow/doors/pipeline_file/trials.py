"""``[[tests]]`` of a pipeline file, as written, to the plan's trials; every problem with its path, as ``tests[0].feed[1].advance``."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from asyncflow.doors.components import Problems, convert_fields
from asyncflow.doors.words import Duration
from asyncflow.model.durations import parse_duration
from asyncflow.plan.tables import Advance, Expect, Feed, Row, Trial

_STEPS = '{ table = "NAME", rows = [...] } or { advance = "2m" }'


class RowsTable(msgspec.Struct, kw_only=True, frozen=True):
    """Rows of one table."""

    table: Annotated[str, Meta(description="The table's name.")]
    rows: Annotated[list[dict[str, Any]], Meta(description="Rows, as columns and their values.")]


class AdvanceTable(msgspec.Struct, kw_only=True, frozen=True):
    """Time moves on."""

    advance: Annotated[
        Duration,
        Meta(
            description="Moves every watermark, and the clock, to the greatest event time so far and this much more."
        ),
    ]


class TrialTable(msgspec.Struct, kw_only=True, frozen=True):
    """A test of the pipeline on virtual time (asyncflow test): after the last of feed the input ends."""

    name: Annotated[str, Meta(description="What the test shows.")] = ""
    feed: Annotated[
        list[dict[str, Any]], Meta(description="What happens, in order: rows come, time moves on.")
    ] = []
    expect: Annotated[
        list[RowsTable], Meta(description="All rows of a table, in order; columns left out are not compared.")
    ] = []


def trials(written: object, problems: Problems) -> tuple[Trial, ...]:
    """The trials of a document's ``tests``."""
    if not isinstance(written, list):
        problems.add("tests", "expected tables", "[[tests]]")
        return ()
    return tuple(_trial(each, number, problems) for number, each in enumerate(written))


def _trial(written: object, number: int, problems: Problems) -> Trial:
    path = f"tests[{number}]"
    if not isinstance(written, Mapping):
        problems.add(path, "expected a table", "[[tests]]")
        return Trial("")
    lists = {key: written.get(key, []) for key in ("feed", "expect")}
    for key, steps in lists.items():
        if not isinstance(steps, list):
            problems.add(f"{path}.{key}", "expected a list")
            lists[key] = []
    others = {key: value for key, value in written.items() if key not in lists}
    values = convert_fields(TrialTable, others, path, problems, also_known=lists)
    feed = [_step(each, f"{path}.feed[{n}]", problems) for n, each in enumerate(lists["feed"])]
    expect = [_rows(each, f"{path}.expect[{n}]", problems) for n, each in enumerate(lists["expect"])]
    name = values.get("name", "") or f"test {number + 1}"
    return Trial(name, tuple(feed), tuple(Expect(*rows) for rows in expect))


def _step(written: object, path: str, problems: Problems) -> Feed | Advance:
    if not isinstance(written, Mapping) or not {"advance", "table", "rows"} & written.keys():
        problems.add(path, "expected rows or an advance", _STEPS)
        return Advance(0)
    if "advance" not in written:
        return Feed(*_rows(written, path, problems))
    values = convert_fields(AdvanceTable, written, path, problems)
    try:
        by_ns = parse_duration(values.get("advance", "0s"))
    except ValueError as error:
        problems.add(f"{path}.advance", str(error))
        return Advance(0)
    if by_ns < 0:
        problems.add(f"{path}.advance", "time does not go back")
    return Advance(by_ns)


def _rows(written: object, path: str, problems: Problems) -> tuple[str, tuple[Row, ...]]:
    """The table and its rows; no table, with a problem added, where they cannot be read."""
    if not isinstance(written, Mapping):
        problems.add(path, "expected a table", '{ table = "NAME", rows = [...] }')
        return "", ()
    known = len(problems.found)
    values = convert_fields(RowsTable, written, path, problems)
    if len(problems.found) > known:
        return "", ()
    rows: list[Row] = [{name: _value(each) for name, each in row.items()} for row in values["rows"]]
    return values["table"], tuple(rows)


def _value(written: Any) -> Any:
    """A day alone is its first moment."""
    if isinstance(written, date) and not isinstance(written, datetime):
        return datetime(written.year, written.month, written.day)
    return written
