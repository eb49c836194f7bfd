"""A batch for people: schema and first rows as text (``repr``) and as HTML (notebooks).  Control characters and markup are escaped."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from asyncflow.model.instants import format_timestamp
from asyncflow.model.schema import DataType
from asyncflow.printable import printable

if TYPE_CHECKING:
    from asyncflow.model.batch import Batch

ROWS_SHOWN = 10
WIDEST = 40
"""Most characters of a value; a longer value is cut and ends in ``...``."""


def text(batch: Batch) -> str:
    """``<Batch of 2 rows: a int64, b string>`` and the first rows in columns."""
    head, rows = _cells(batch)
    told = f"<Batch of {batch.num_rows:,} row{'s' * (batch.num_rows != 1)}: {', '.join(head)}>"
    names = [printable(name) for name in batch.schema.names]
    widths = [max(map(len, column)) for column in zip(names, *rows, strict=True)]
    lines = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in ((names, *rows) if rows else ())]
    return "\n".join([told, *lines, *_more(batch)])


def html(batch: Batch) -> str:
    """The same as an HTML table."""
    from html import escape

    head, rows = _cells(batch)
    cells = "".join(f"<th>{escape(each)}</th>" for each in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(each)}</td>" for each in row) + "</tr>" for row in rows)
    more = "".join(f"<p>{escape(line)}</p>" for line in _more(batch))
    return f"<table><thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table>{more}"


def _more(batch: Batch) -> list[str]:
    left = batch.num_rows - ROWS_SHOWN
    return [f"... and {left:,} more"] if left > 0 else []


def _cells(batch: Batch) -> tuple[list[str], list[list[str]]]:
    """The columns with their types, and the texts of the first rows."""
    head = [printable(f"{field.name} {field.type_text}") for field in batch.schema]
    times = [field.type is DataType.TIMESTAMP for field in batch.schema]
    first = batch.slice(0, min(batch.num_rows, ROWS_SHOWN)).to_pylist()
    return head, [[_cell(*pair) for pair in zip(row.values(), times, strict=True)] for row in first]


def _cell(value: Any, is_time: bool) -> str:
    if value is None:
        return "null"
    written = printable(format_timestamp(value) if is_time else str(value))
    return written if len(written) <= WIDEST else written[: WIDEST - 3] + "..."
