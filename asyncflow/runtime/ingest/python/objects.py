"""Objects to rows: what a source in Python gives, and what a user's function gives back, as batches of a schema.

An object is a row (a dict) or a table of rows (a batch, a dict of arrays, pandas, Arrow, ...; see ``table_objects``).  A row is read as the
JSON format reads an object: the column ``a.b`` is the member ``a.b``, or ``b`` of the member ``a``; of several the last one counts; what is
missing is null, and what no column names is not looked at.  A row that does not fit is rejected with its reason, and an object that
holds no rows at all is one rejected row.  Nothing here ends the run.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any

import numpy as np
from msgspec import Struct

from asyncflow.errors import AsyncflowError, described, safe_repr
from asyncflow.formats import json as json_format
from asyncflow.model.batch import Batch
from asyncflow.model.columns import Column, IndexArray, column_from_values, concat_columns
from asyncflow.model.schema import DataType, Field, Schema
from asyncflow.model.values import MisfitError, fitted, json_default, json_text, token
from asyncflow.runtime.base.rejected import KEPT_CHARACTERS, Rejected
from asyncflow.runtime.ingest.python.table_objects import (
    UNCHANGING,
    Columns,
    MisshapenError,
    NoRecordError,
    Values,
    arrow_table,
    columns_of,
    is_frame,
    is_row,
    key_text,
    members_of,
    rows_of,
)

INFERRED_ROWS = 1000
MAX_DEPTH = 1000


class Converted(Struct, frozen=True, eq=False):
    """Objects as a batch, and those of their rows that do not fit, in order."""

    batch: Batch
    rejects: tuple[Rejected, ...] = ()

    @property
    def kept(self) -> IndexArray:
        """Which of all the rows are in the batch."""
        return np.delete(np.arange(self.batch.num_rows + len(self.rejects), dtype=np.intp), self.rejected)

    @property
    def rejected(self) -> list[int]:
        """Which are not."""
        return [reject.after_row + number for number, reject in enumerate(self.rejects)]


class Converter:
    """Reads objects; counts their rows, which are told by number where they are rejected.  ``whole``: an object that holds no rows at all
    is not rejected but a TypeError, or what it raised."""

    def __init__(self, *, whole: bool = False) -> None:
        self._whole = whole
        self._rows = 0
        self._good = 0
        self._parts: list[Batch] = []
        self._rejects: list[Rejected] = []

    def convert(self, objects: Sequence[Any], schema: Schema, required: str | None) -> Converted:
        """One batch of all the objects, in order.  ``required``: the column that must not be null."""
        self._good, self._parts, self._rejects = 0, [], []
        rows: list[Mapping[Any, Any]] = []
        for item in objects:
            if is_row(item):
                rows.append(item)
                continue
            self._take_rows(rows, schema, required)
            rows = []
            self._take_table(item, schema, required)
        self._take_rows(rows, schema, required)
        if not self._parts:
            return Converted(_batch(schema, [[] for _ in schema], 0), tuple(self._rejects))
        columns = tuple(
            concat_columns([part.columns[place] for part in self._parts]) for place in range(len(schema))
        )
        return Converted(Batch(schema, columns, self._good), tuple(self._rejects))

    def _take_rows(self, rows: Sequence[Mapping[Any, Any]], schema: Schema, required: str | None) -> None:
        if not rows:
            return
        values, broken = _row_values(rows, schema.names)
        self._take(values, len(rows), schema, required, lambda row: record_text(rows[row]), broken)

    def _take_table(self, item: Any, schema: Schema, required: str | None) -> None:
        try:
            if isinstance(item, Batch):
                item.check()
                columns: Columns = {}
                values: list[Column | Values] = [_of_batch(item, field) for field in schema]
                count = item.num_rows
            else:
                columns = _columns(item)
                count = len(next(iter(columns.values()))) if columns else rows_of(item)
                values = [_path(columns, name, count) for name in schema.names]
        except AsyncflowError:
            raise
        except Exception as error:
            if self._whole:
                raise
            self._reject_whole(
                safe_repr(item),
                str(error) if isinstance(error, MisshapenError | NoRecordError) else described(error),
            )
            return
        if isinstance(item, Batch):
            columns = {}

        def text(row: int) -> str:
            held = columns or {name: item[name] for name in item.schema.names}
            return json_text((name, each[row]) for name, each in held.items())

        self._take(values, count, schema, required, text, {})

    def _take(
        self,
        values: Sequence[Column | Values],
        count: int,
        schema: Schema,
        required: str | None,
        text: Callable[[int], str],
        broken: Mapping[int, str],
    ) -> None:
        """Rows by column; ``text``: of a row, for its rejection; ``broken``: those that could not be looked at."""
        wrong = dict(broken)
        columns = []
        for field, each in zip(schema, values, strict=True):
            if isinstance(each, list | np.ndarray):
                fit = fitted(each, field)
                column = fit.column
                for row, reason in fit.misfits.items():
                    wrong.setdefault(row, reason)
            else:
                column = each
            if field.name == required and column.valid is not None:
                for row in np.flatnonzero(~column.valid).tolist():
                    wrong.setdefault(row, f"{field.name}: null")
            columns.append(column)
        part = Batch(schema, tuple(columns), count)
        if wrong:
            rows = sorted(wrong)
            for number, row in enumerate(rows):
                self._reject(text(row), wrong[row], row, row - number)
            part = part.take(np.delete(np.arange(count, dtype=np.intp), rows))
        self._parts.append(part)
        self._rows += count
        self._good += part.num_rows

    def _reject_whole(self, record: str, reason: str) -> None:
        self._reject(record, reason, 0, 0)
        self._rows += 1

    def _reject(self, record: str, reason: str, row: int, good: int) -> None:
        kept = record[:KEPT_CHARACTERS].encode("utf-8", "replace")
        self._rejects.append(Rejected(kept, reason, f"row {self._rows + row + 1}", self._good + good))


def _batch(schema: Schema, values: Sequence[Sequence[Any]], count: int) -> Batch:
    columns = (column_from_values(field.type, each) for field, each in zip(schema, values, strict=True))
    return Batch(schema, tuple(columns), count)


def _columns(item: Any) -> Columns:
    if (columns := columns_of(item)) is not None:
        return columns
    if isinstance(item, bytes | bytearray | memoryview):
        raise NoRecordError("bytes are records only with a format: say format=...")
    raise NoRecordError(f"not a dict, a batch or a table: {type(item).__name__}")


def record_text(row: Mapping[Any, Any]) -> str:
    """A row as its rejection shows it: its JSON text, as far as it has one."""
    try:
        return token(row)
    except MisfitError:
        pass
    try:
        return json_text((str(key), value) for key, value in row.items())
    except Exception:
        return safe_repr(row)


# -- rows ------------------------------------------------------------------------------------------------------------


def _row_values(
    rows: Sequence[Mapping[Any, Any]], names: Sequence[str]
) -> tuple[list[list[Any]], dict[int, str]]:
    """The values of each column, and why some rows could not be looked at."""
    if not any("." in name for name in names) and all(type(row) is dict for row in rows):
        try:
            return [[row[name] for row in rows] for name in names], {}
        except KeyError:
            pass
    wanted, broken = frozenset(names), {}
    found: list[dict[str, Any]] = []
    for number, row in enumerate(rows):
        try:
            found.append(_members(row, wanted))
        except Exception as error:
            found.append({})
            broken[number] = described(error)
    return [[each.get(name) for each in found] for name in names], broken


def _members(row: Mapping[Any, Any], wanted: frozenset[str]) -> dict[str, Any]:
    """The wanted paths of a row, of several mentions the last; a mention of ``a`` makes ``a.b`` null first."""
    found: dict[str, Any] = {}
    nested = any("." in name for name in wanted)

    def walk(members: Mapping[Any, Any], prefix: str, depth: int) -> None:
        if depth > MAX_DEPTH:
            raise ValueError("nested deeper than 1000 levels")
        for key, value in members.items():
            name = key if type(key) is str else key_text(key)
            if name is None:
                continue
            path = prefix + name
            if nested:
                for gone in [each for each in found if each.startswith(path + ".")]:
                    del found[gone]
                value = members_of(value)
                if isinstance(value, Mapping) and any(each.startswith(path + ".") for each in wanted):
                    walk(value, path + ".", depth + 1)
            if path in wanted:
                found[path] = value

    walk(row, "", 1)
    return found


# -- tables ----------------------------------------------------------------------------------------------------------


def _of_batch(batch: Batch, field: Field) -> Column | Values:
    if field.name not in batch.schema:
        return [None] * batch.num_rows
    same = batch.schema[field.name].type is field.type
    return batch.column(field.name) if same else batch[field.name]


def _path(columns: Columns, name: str, count: int) -> Values:
    """A table's column, or a member of the objects in one; null where there is none."""
    if name in columns:
        return columns[name]
    parts = name.split(".")
    for length in range(len(parts) - 1, 0, -1):
        root = ".".join(parts[:length])
        if root in columns:
            wanted = frozenset({name})
            return [_members({root: value}, wanted).get(name) for value in columns[root]]
    return [None] * count


# -- what a source gives, and its schema -----------------------------------------------------------------------------


def taken_down(item: Any) -> tuple[Any, int]:
    """An object as it is now, whoever writes into it, or reads it up, later; and the bytes of its arrays."""
    if type(item) is dict and UNCHANGING.issuperset(map(type, item.values())):
        return item.copy(), 0
    held = _held(item)
    return held, _nbytes(held)


def _held(item: Any) -> Any:
    if type(item) is dict:
        return {key: _held(value) for key, value in item.items()}
    if type(item) is list:
        return [_held(value) for value in item]
    if isinstance(item, np.ndarray) or is_frame(item):
        return item.copy()
    if isinstance(item, bytearray):
        return bytes(item)
    if hasattr(item, "__arrow_c_stream__") and not isinstance(item, Batch) and not hasattr(item, "__array__"):
        return arrow_table(item)
    return item


def _nbytes(item: Any) -> int:
    if type(item) is dict:
        return sum(map(_nbytes, item.values()))
    return item.nbytes if isinstance(item, np.ndarray | Batch) else int(getattr(item, "nbytes", 0) or 0)


def infer_schema(objects: Sequence[Any], *, texts_are_texts: bool = False) -> Schema | None:
    """The schema of the first rows among these, or of the first table; None where there is neither.

    Rows are read as the JSON format reads the head of its input, so texts that all look like times are timestamps, unless
    ``texts_are_texts``; a table's arrays say by their dtype what they are.
    """
    rows: list[Mapping[Any, Any]] = []
    for item in objects[:INFERRED_ROWS]:
        if isinstance(item, Batch):
            return (
                Schema.of((field.name, field.type) for field in item.schema) if not rows else _of_rows(rows)
            )
        if is_row(item):
            rows.append(item)
            continue
        try:
            columns = columns_of(item)
        except AsyncflowError:
            raise
        except Exception:
            continue  # it is rejected later, and decides nothing
        if columns is not None and not rows:
            return _of_table(columns)
    schema = _of_rows(rows)
    if schema is None or not texts_are_texts:
        return schema
    names = [field.name for field in schema if field.type is DataType.TIMESTAMP]
    values, _ = _row_values(rows, names)
    texts = {name for name, each in zip(names, values, strict=True) if any(isinstance(v, str) for v in each)}
    return Schema.of((f.name, DataType.STRING if f.name in texts else f.type) for f in schema)


def _of_rows(rows: Sequence[Mapping[Any, Any]]) -> Schema | None:
    lines = []
    for row in rows:
        try:
            lines.append(_lenient.encode(row))
        except Exception:
            continue
    text = "\n".join(lines).encode()
    schema = json_format.infer(json_format.DecoderOptions(), np.frombuffer(text, np.uint8), True)
    return schema if len(schema) else None


def _said(value: Any) -> Any:
    try:
        return json_default(value)
    except TypeError:
        return float(value) if isinstance(value, Decimal) else None


_lenient = json.JSONEncoder(default=_said, skipkeys=True)
"""Of a value that has no JSON text, null: it says nothing of its column's type."""

_TYPES = {
    "b": DataType.BOOL,
    "i": DataType.INT64,
    "u": DataType.INT64,
    "f": DataType.FLOAT64,
    "M": DataType.TIMESTAMP,
}


def _of_table(columns: Columns) -> Schema | None:
    fields: dict[str, DataType] = {}
    for name, values in columns.items():
        known = _TYPES.get(values.dtype.kind) if isinstance(values, np.ndarray) and values.ndim == 1 else None
        if known is not None:
            fields[name] = known
            continue
        told = _of_rows([{name: value} for value in values[:INFERRED_ROWS]])
        for field in told or (Field(name, DataType.STRING),):
            fields[field.name] = field.type
    return Schema.of(fields.items()) if fields else None
