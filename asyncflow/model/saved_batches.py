"""Batches and columns inside a state: to arrays that can be written as they are, and back.

A column of a fixed type is the part ``values``; a column of texts is ``bytes``, the texts one after another, and ``lengths`` (int32); a
column with nulls has the part ``valid`` (bool) beside these.  The parts of column 2 of a batch are called ``2.values`` and so on.

Invariants: equal columns have equal parts.  A null row is saved as zero or as an empty text, and a ``valid`` without a null is left out.
A batch is saved with the watermark before each of its rows; ``origin`` is not saved, as a reply to its sender is lost with the process.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from asyncflow.model.batch import Batch
from asyncflow.model.columns import (
    MAX_TEXT_BYTES,
    BoolArray,
    ByteArray,
    Column,
    FixedColumn,
    Int32Array,
    StringColumn,
    check_text_bytes,
)
from asyncflow.model.schema import DataType, Schema
from asyncflow.model.snapshot import Array, Copied, Frozen, Saved, plain_schema, schema_of

# -- columns -------------------------------------------------------------------------------------------------------------


def column_parts(columns: Sequence[Column]) -> dict[str, Array]:
    """The parts of columns, by their position; a later write to the arrays of a column does not show in them."""
    return parts_of_runs([[column] for column in columns])


def parts_of_runs(columns: Sequence[Sequence[Column]]) -> dict[str, Array]:
    """The parts of columns, each given as runs of its rows: for columns that are too large to be one."""
    return {
        f"{position}.{name}": data for position, runs in enumerate(columns) for name, data in _parts(runs)
    }


def _parts(runs: Sequence[Column]) -> Iterator[tuple[str, Array]]:
    """The parts of one column, given as runs of its rows."""
    valid: BoolArray | None = None
    if any(run.valid is not None for run in runs):
        valid = np.concatenate(
            [np.ones(len(run), np.bool_) if run.valid is None else run.valid for run in runs]
        )
        valid = None if valid.all() else valid
    if isinstance(runs[0], StringColumn):
        texts = [_nulls_emptied(run) for run in runs if isinstance(run, StringColumn)]
        yield "bytes", np.concatenate([_texts(run) for run in texts])
        yield "lengths", np.concatenate([run.lengths for run in texts])
    else:
        values = np.concatenate([run.values for run in runs if isinstance(run, FixedColumn)])
        if valid is not None:
            values[~valid] = 0
        yield "values", values
    if valid is not None:
        yield "valid", valid


def _nulls_emptied(column: StringColumn) -> StringColumn:
    if column.valid is None:
        return column
    lengths = np.where(column.valid, column.lengths, np.int32(0))
    return StringColumn(column.data, column.starts, lengths, column.valid)


def _texts(column: StringColumn) -> ByteArray:
    """The texts one after another, also where they come to more than a column holds."""
    ends = np.cumsum(column.lengths, dtype=np.int64)
    done, pieces = 0, []
    while done < len(column):
        room = MAX_TEXT_BYTES + (int(ends[done - 1]) if done else 0)
        stop = max(int(np.searchsorted(ends, room, "right")), done + 1)
        pieces.append(column.slice(done, stop).compact().data)
        done = stop
    return pieces[0] if len(pieces) == 1 else np.concatenate([np.empty(0, np.uint8), *pieces])


def restored_columns(saved: Saved, types: Sequence[DataType], rows: int) -> tuple[Column, ...]:
    """The columns whose parts were saved, of these types.  ValueError names the part that does not fit; TooLargeError where different
    texts of one column come to more than a column holds."""
    known = {f"{position}.{name}" for position in range(len(types)) for name in _PARTS}
    for name in saved.parts:
        if name[:1].isdigit() and name not in known:
            raise ValueError(f"{name}: there is no such column")
    return tuple(_restored(saved, f"{position}.", type_, rows) for position, type_ in enumerate(types))


_PARTS = ("values", "bytes", "lengths", "valid")


def _restored(saved: Saved, name: str, type_: DataType, rows: int) -> Column:
    valid: BoolArray | None = None
    if f"{name}valid" in saved.parts:
        valid = saved.array(f"{name}valid", np.bool_, rows)
        valid = None if valid.all() else valid
    if type_ is not DataType.STRING:
        return FixedColumn(saved.array(f"{name}values", type_.dtype, rows), valid)
    lengths = saved.array(f"{name}lengths", np.int32, rows)
    data = saved.array(f"{name}bytes", np.uint8)
    if (lengths < 0).any() or int(lengths.sum(dtype=np.int64)) != len(data):
        raise ValueError(f"{name}lengths: the lengths of the texts do not add up to their bytes")
    _check_texts(name, data, lengths)
    if len(data) > MAX_TEXT_BYTES:
        return _shared(data, lengths, valid)
    ends = np.cumsum(lengths, dtype=np.int64)
    return StringColumn(data, (ends - lengths).astype(np.int32), lengths, valid)


def _check_texts(name: str, data: ByteArray, lengths: Int32Array) -> None:
    """ValueError where a text is not UTF-8."""
    starts = np.cumsum(lengths, dtype=np.int64) - lengths
    first = data[starts[lengths > 0]]
    try:
        str(data.data, "utf-8")
    except UnicodeDecodeError:
        torn = True
    else:
        torn = bool(((first & 0xC0) == 0x80).any())
    if torn:
        raise ValueError(f"{name}bytes: a text is not UTF-8")


def _shared(data: ByteArray, lengths: Int32Array, valid: BoolArray | None) -> StringColumn:
    """A column of which all texts together exceed its limit: equal texts are views of the same bytes."""
    found: dict[bytes, int] = {}
    starts = np.empty(len(lengths), np.int32)
    begin = total = 0
    for row, length in enumerate(lengths.tolist()):
        text = data[begin : begin + length].tobytes()
        begin += length
        if text not in found:
            found[text] = total
            total += length
            check_text_bytes(total)
        starts[row] = found[text]
    return StringColumn(np.frombuffer(b"".join(found), np.uint8), starts, lengths, valid)


# -- batches -------------------------------------------------------------------------------------------------------------


def frozen_batches(batches: Sequence[Batch]) -> Frozen:
    """The state of batches of one table that wait, in order; there may be none, and batches may be empty."""
    if not batches:
        return Copied({"columns": None})
    schema = _without_units(batches[0].schema)
    timed = batches[0].time is not None
    if any(_without_units(batch.schema) != schema or (batch.time is not None) != timed for batch in batches):
        raise ValueError("batches of different tables are different states")
    columns = plain_schema(schema)
    parts = {
        f"{position}.{name}": data
        for position in range(len(schema))
        for name, data in _parts([batch.columns[position] for batch in batches])
    }
    parts["batch.rows"] = np.array([batch.num_rows for batch in batches], np.int64)
    parts["batch.watermark_before"] = np.array([batch.watermark_before for batch in batches], np.int64)
    parts["batch.delay_ns"] = np.array([batch.delay_ns for batch in batches], np.int64)
    if timed:
        parts["time"] = np.concatenate([batch.time for batch in batches if batch.time is not None])
        parts["watermarks"] = np.concatenate([batch.row_watermarks() for batch in batches])
    return Copied({"columns": columns, "timed": timed}, parts)


def _without_units(schema: Schema) -> Schema:
    """Past the decoder every time is in ns; a union may give the same columns with and without the unit of their source."""
    return Schema.of((field.name, field.type) for field in schema)


def restored_batches(saved: Saved) -> list[Batch]:
    """The batches that :func:`frozen_batches` saved.  ValueError names the field or part that does not fit."""
    if "columns" in saved.fields and saved.fields["columns"] is None:
        return []
    schema = schema_of(saved.fields.get("columns"))
    rows = saved.array("batch.rows", np.int64)
    if (rows < 0).any() or (rows > 2**31).any():
        raise ValueError("batch.rows: a number of rows is wanted")
    total = int(rows.sum())
    befores = saved.array("batch.watermark_before", np.int64, len(rows)).tolist()
    delays = saved.array("batch.delay_ns", np.int64, len(rows)).tolist()
    timed = saved.flag("timed")
    whole = Batch(
        schema,
        restored_columns(saved, [field.type for field in schema], total),
        total,
        saved.array("time", np.int64, total) if timed else None,
        saved.array("watermarks", np.int64, total) if timed else None,
    )
    batches, start = [], 0
    for count, before, delay in zip(rows.tolist(), befores, delays, strict=True):
        part = whole if count == total else whole.slice(start, start + count)
        batches.append(Batch(schema, part.columns, count, part.time, part.watermarks, before, delay))
        start += count
    return batches
