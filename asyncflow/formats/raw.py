"""Raw: fixed-width binary records, laid out as a numpy dtype says.

``dtype = "<f8"`` is one column named ``value``; ``dtype = [["ts", "<M8[ns]"], ["ms", "<f4"]]`` is a packed record of named
fields.  A field's type is a boolean, a whole number, a float, text of a fixed number of bytes (UTF-8, filled up with NULs)
or a time.  On the way in a whole number may also be declared as ``timestamp[s|ms|us|ns]``.

A record whose value does not fit its column (an unsigned number beyond int64, a time beyond int64 nanoseconds, bytes that are not UTF-8)
is rejected, and so is a record that the end of the stream cuts off.  Positions count records where other formats count lines.
"""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from asyncflow.errors import DataError, PipelineError, Problem
from asyncflow.formats.contract import (
    RECORD_KEPT_BYTES,
    Block,
    Cut,
    Decoded,
    Decoder,
    DecodeRequest,
    DescribesRecords,
    Encoder,
    Reject,
    RejectLog,
)
from asyncflow.model.batch import Batch
from asyncflow.model.columns import BoolArray, Column, FixedColumn, StringColumn
from asyncflow.model.held import Held
from asyncflow.model.schema import TIMESTAMP_UNITS, DataType, Field, Schema

COLUMN = "value"
INT64_MAX = 2**63 - 1
NOT_A_TIME = -(2**63)
_TIME_UNITS_NS = {"D": 86_400 * 10**9, "h": 3_600 * 10**9, "m": 60 * 10**9, **TIMESTAMP_UNITS}

RecordType: TypeAlias = str | tuple[tuple[str, str], ...]


class DecoderOptions(msgspec.Struct, DescribesRecords, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How binary records are laid out."""

    dtype: Annotated[
        RecordType,
        msgspec.Meta(
            description='a numpy dtype ("<f8": one column `value`), or a list of [name, dtype] pairs'
        ),
    ]

    def __post_init__(self) -> None:
        record_dtype(self.dtype)

    def fixed_schema(self) -> Schema:
        return schema_of(record_dtype(self.dtype))


class EncoderOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How rows are laid out as binary records."""

    dtype: Annotated[
        RecordType | None,
        msgspec.Meta(
            description="a numpy dtype for the only column, or a list of [name, dtype] pairs for the columns to write; "
            "left out: `?`, `<i8`, `<f8`, `<M8[ns]` by the column's type"
        ),
    ] = None

    def __post_init__(self) -> None:
        if self.dtype is not None:
            record_dtype(self.dtype)


def record_dtype(spec: RecordType) -> np.dtype[Any]:
    """The packed structured dtype of a record; ValueError where a part of it cannot be a column."""
    pairs = [(COLUMN, spec)] if isinstance(spec, str) else list(spec)
    names = [name for name, _ in pairs]
    if not pairs or len(set(names)) != len(names) or "" in names:
        raise ValueError("dtype needs at least one field, and each a name of its own")
    return np.dtype([(name, _field_dtype(text)) for name, text in pairs])


def _field_dtype(text: str) -> np.dtype[Any]:
    try:
        dtype = np.dtype(text)
    except (TypeError, ValueError, SyntaxError) as error:
        raise ValueError(f"not a numpy dtype: {text!r}") from error
    column_type(dtype, text)
    return dtype


def column_type(dtype: np.dtype[Any], text: str) -> DataType:
    """The type of the column that such a field becomes; ValueError where there is none."""
    kind, bytes_ = dtype.kind, dtype.itemsize
    if kind == "b":
        return DataType.BOOL
    if kind in "iu":
        return DataType.INT64
    if kind == "f" and bytes_ <= 8:
        return DataType.FLOAT64
    if kind == "S" and bytes_:
        return DataType.STRING
    if kind == "M" and 0 < _unit_ns(dtype) <= INT64_MAX:
        return DataType.TIMESTAMP
    raise ValueError(
        f"dtype {text!r} has no column type: use ? i1-i8 u1-u8 f2-f8 S<n> or M8[D|h|m|s|ms|us|ns]"
    )


def schema_of(dtype: np.dtype[Any]) -> Schema:
    """The columns of a record."""
    assert dtype.names is not None
    return Schema.of([(name, column_type(dtype[name], str(dtype[name]))) for name in dtype.names])


class RawDecoder(Decoder):
    """Records to columns; text columns are views into the block."""

    def __init__(self, dtype: np.dtype[Any], fields: tuple[Field, ...], request: DecodeRequest) -> None:
        assert dtype.names is not None
        self._dtype = dtype
        self._required = frozenset(request.required)
        self._keep_rejects = request.keep_rejects
        self._parts = dict(zip((field.name for field in fields), dtype.names, strict=True))
        self.output = request.schema.select(request.columns)

    def cut(self, data: Block, final: bool) -> Cut:
        end = len(data) - len(data) % self._dtype.itemsize
        if end or not final or not len(data):
            return Cut(end, end)
        return Cut(
            0, len(data), (Reject(0, 0, 0, "truncated record", data[:RECORD_KEPT_BYTES].tobytes()),), 1
        )

    def decode(self, block: Block) -> Decoded:
        records = block.view(self._dtype)
        wrong: dict[int, str] = {}
        columns: list[Column] = []
        for field in self.output:
            column, misfits, reason = self._column(field, records, block)
            columns.append(column)
            if misfits is not None:
                self._note(misfits, f"{field.name}: {reason}", wrong)
            if field.name in self._required and column.valid is not None:
                self._note(~column.valid, f"{field.name}: null", wrong)
        if not wrong:
            return Decoded(tuple(columns), len(records), len(records))
        log = RejectLog(self._keep_rejects)
        size = self._dtype.itemsize
        for earlier, row in enumerate(sorted(wrong)):
            record = block[row * size : row * size + min(size, RECORD_KEPT_BYTES)].tobytes()
            log.add(Reject(row, row * size, row - earlier, wrong[row], record))
        good = np.delete(np.arange(len(records)), sorted(wrong))
        kept = tuple(column.take(good) for column in columns)
        return Decoded(kept, len(good), len(records), log.count, tuple(log.kept))

    @staticmethod
    def _note(misfits: BoolArray, reason: str, wrong: dict[int, str]) -> None:
        for row in np.flatnonzero(misfits).tolist():
            wrong.setdefault(row, reason)

    def _column(
        self, field: Field, records: NDArray[Any], block: Block
    ) -> tuple[Column, BoolArray | None, str]:
        """The column, the rows whose value does not fit (None: all fit), and the reason."""
        part = self._parts[field.name]
        dtype = self._dtype[part]
        values = records[part]
        if dtype.kind in "bS":
            assert self._dtype.fields is not None
            offset = self._dtype.fields[part][1]
            bytes_ = block.reshape(len(records), -1)[:, offset : offset + dtype.itemsize]
            if dtype.kind == "S":
                return *_text_column(bytes_, block, offset, self._dtype.itemsize), "not UTF-8"
            return FixedColumn(bytes_[:, 0] != 0), None, ""
        if dtype.kind == "f":
            with np.errstate(invalid="ignore"):  # a signalling NaN is a NaN
                return FixedColumn(values.astype(np.float64)), None, ""
        numbers = values.astype(dtype.newbyteorder("=")).astype(np.int64)
        beyond = numbers < 0 if dtype.kind == "u" else np.zeros(len(numbers), np.bool_)
        if field.type is DataType.INT64:
            return FixedColumn(numbers), beyond, "out of range of int64"
        missing = numbers == NOT_A_TIME if dtype.kind == "M" else np.zeros(len(numbers), np.bool_)
        unit_ns = _unit_ns(dtype) if dtype.kind == "M" else TIMESTAMP_UNITS[field.unit]
        limit = INT64_MAX // unit_ns
        beyond |= ~missing & ((numbers > limit) | (numbers < -limit))
        times = np.where(missing | beyond, 0, numbers) * unit_ns
        return FixedColumn(times, ~missing if missing.any() else None), beyond, "time out of range"


def _unit_ns(dtype: np.dtype[Any]) -> int:
    unit, count = np.datetime_data(dtype)
    return _TIME_UNITS_NS.get(unit, 0) * count


def _text_column(
    matrix: NDArray[np.uint8], block: Block, offset: int, record_bytes: int
) -> tuple[StringColumn, BoolArray]:
    """Views of the texts of one field, whose bytes are the rows of ``matrix``, and which of them are not UTF-8."""
    rows, width = matrix.shape
    places = np.arange(1, width + 1, dtype=np.int32)
    lengths = np.where(matrix != 0, places, np.int32(0)).max(axis=1, initial=0)
    starts = np.arange(rows, dtype=np.int32) * np.int32(record_bytes) + np.int32(offset)
    misfits = np.zeros(rows, np.bool_)
    for row in np.flatnonzero((matrix >= 0x80).any(axis=1)).tolist():
        try:
            matrix[row, : lengths[row]].tobytes().decode()
        except UnicodeDecodeError:
            misfits[row] = True
    return StringColumn(block, starts, lengths), misfits


class RawEncoder(Encoder):
    """Columns to packed records."""

    def __init__(self, dtype: np.dtype[Any], positions: list[int]) -> None:
        assert dtype.names is not None
        self._dtype = dtype
        self._writes = list(zip(dtype.names, positions, strict=True))

    def continues(self, held: Held) -> bytes:
        """DataError where the file ends within a record: all that came behind it would be read askew."""
        if torn := held.size_bytes % self._dtype.itemsize:
            raise DataError(
                f"{held.name}: ends {torn} bytes into a record of {self._dtype.itemsize}: nothing can be added"
            )
        return b""

    def encode(self, batch: Batch) -> bytes:
        """DataError where a value has no place: a null that is neither float nor time, a number or text that is too large."""
        records = np.zeros(batch.num_rows, self._dtype)
        for name, position in self._writes:
            field = batch.schema.fields[position]
            records[name] = _field_values(field, batch.columns[position], self._dtype[name])
        return records.tobytes()


def _field_values(field: Field, column: Column, dtype: np.dtype[Any]) -> Any:
    null = None if column.valid is None or column.valid.all() else ~column.valid
    if null is not None and dtype.kind not in "fM":
        raise DataError(f"column {field.name!r}: {dtype.str!r} cannot hold a null")
    if isinstance(column, StringColumn):
        if len(column) and column.lengths.max() > dtype.itemsize:
            raise DataError(f"column {field.name!r}: a text is longer than {dtype.itemsize} bytes")
        return column.to_bytes_list()
    values = column.values
    if dtype.kind in "iu" and len(values):
        limits = np.iinfo(dtype)
        if values.min() < limits.min or values.max() > limits.max:
            raise DataError(f"column {field.name!r}: a number does not fit {dtype.str!r}")
    if dtype.kind == "M":
        values = values // _unit_ns(dtype)
    elif dtype.kind == "f":
        with np.errstate(over="ignore"):  # beyond float32 is infinite, as everywhere
            values = values.astype(dtype)
    if null is not None:
        nothing = np.nan if dtype.kind == "f" else NOT_A_TIME
        values = np.where(null, nothing, values).astype(values.dtype)
    return values.view(dtype.newbyteorder("=")) if dtype.kind == "M" else values


_WRITES = {
    DataType.BOOL: "b",
    DataType.INT64: "iuf",
    DataType.FLOAT64: "f",
    DataType.STRING: "S",
    DataType.TIMESTAMP: "M",
}
_DEFAULTS = {
    DataType.BOOL: "?",
    DataType.INT64: "<i8",
    DataType.FLOAT64: "<f8",
    DataType.TIMESTAMP: "<M8[ns]",
}


def decoder(options: DecoderOptions, request: DecodeRequest) -> RawDecoder:
    """A decoder for the declared columns; PipelineError where they are not those of the dtype."""
    dtype = record_dtype(options.dtype)
    fields = request.schema.fields
    expected = schema_of(dtype)
    named = isinstance(options.dtype, str) or request.schema.names == expected.names
    if not named or len(fields) != len(expected) or not all(map(_reads_as, expected, fields)):
        columns = ", ".join(f'{field.name} = "{field.type_text}"' for field in expected)
        raise PipelineError([Problem("schema", f"the dtype has other columns: {{ {columns} }}")])
    return RawDecoder(dtype, fields, request)


def _reads_as(found: Field, declared: Field) -> bool:
    if found.type is DataType.INT64 and declared.type is DataType.TIMESTAMP:
        return declared.unit != ""
    return found.type is declared.type


def infer(options: DecoderOptions, head: Block, final: bool) -> Schema:
    """The columns of the dtype; the bytes say nothing more."""
    return options.fixed_schema()


def encoder(options: EncoderOptions, schema: Schema) -> RawEncoder:
    """An encoder for the columns of the dtype; PipelineError where one is not there or its type does not go into its field."""
    spec = options.dtype if options.dtype is not None else _default_spec(schema)
    if isinstance(spec, str):
        if len(schema) != 1:
            raise PipelineError(
                [Problem("format.dtype", "several columns need a list of [name, dtype] pairs")]
            )
        spec = ((schema.names[0], spec),)
    dtype = record_dtype(spec)
    assert dtype.names is not None
    for name in dtype.names:
        if name not in schema:
            raise PipelineError([Problem("format.dtype", f"there is no column {name!r}")])
        if dtype[name].kind not in _WRITES[schema[name].type]:
            text = f"column {name!r} of type {schema[name].type.value} does not go into {dtype[name].str!r}"
            raise PipelineError([Problem("format.dtype", text)])
    return RawEncoder(dtype, [schema.index(name) for name in dtype.names])


def _default_spec(schema: Schema) -> RecordType:
    texts = [field.name for field in schema if field.type is DataType.STRING]
    if texts or not len(schema):
        what = f"column {texts[0]!r} is text: say its width" if texts else "there is no column to write"
        raise PipelineError([Problem("format.dtype", f'{what} (dtype = [["name", "S16"], ...])')])
    return tuple((field.name, _DEFAULTS[field.type]) for field in schema)
