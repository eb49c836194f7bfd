"""Rows of a ``NAME.rejected`` table: the record, the reason and its position in the input.  They have times and watermarks like
other rows."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from asyncflow.model.batch import Batch
from asyncflow.model.columns import Int64Array, StringColumn
from asyncflow.plan.schemas import REJECTED

KEPT_CHARACTERS = 4096
"""How much of a rejected row is kept."""


class Rejected(Struct, frozen=True):
    """A rejected record, and the number of good rows of its batch that come before it."""

    record: bytes
    reason: str
    position: str
    after_row: int


def rejected_batch(
    rows: Sequence[tuple[bytes, str, str]],
    times: Int64Array | None,
    marks: Int64Array | None,
    delay_ns: int,
) -> Batch:
    """A batch of at least one (record, reason, position).  ``marks``: the watermark before each."""
    texts = (StringColumn.from_values(list(column)) for column in zip(*rows, strict=True))
    columns = tuple(_valid_text(column) for column in texts)
    return Batch(REJECTED, columns, len(rows), times, marks, delay_ns=delay_ns)


def _valid_text(column: StringColumn) -> StringColumn:
    """A rejected record may be any bytes; as a string it must be UTF-8, so what is not becomes U+FFFD."""
    if column.data.size == 0 or int(column.data.max()) < 0x80:
        return column
    return StringColumn.from_values(
        [None if t is None else t.decode("utf-8", "replace") for t in column.to_bytes_list()]
    )
