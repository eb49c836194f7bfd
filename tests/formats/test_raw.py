"""The raw format: binary records by numpy dtype, both ways."""

from __future__ import annotations

import struct
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncflow.errors import DataError, PipelineError
from asyncflow.formats import raw
from asyncflow.formats.contract import DecodeRequest
from asyncflow.model.batch import Batch
from asyncflow.model.columns import column_from_values
from asyncflow.model.schema import DataType, Field, Schema
from tests.formats.reading import Rejected, block, read


def options(dtype: Any) -> raw.DecoderOptions:
    return msgspec.convert({"dtype": dtype}, raw.DecoderOptions)


def read_raw(
    dtype: Any,
    data: bytes,
    sizes: list[int] | None = None,
    schema: Schema | None = None,
    required: tuple[str, ...] = (),
) -> tuple[list[list[Any]], Rejected]:
    schema = schema or raw.infer(options(dtype), block(b""), True)
    request = DecodeRequest(schema, schema.names, required, keep_rejects=True)
    return read(raw.decoder(options(dtype), request), data, sizes or [])


def write_raw(schema: Schema, rows: list[list[Any]], dtype: Any = None) -> bytes:
    encoder = raw.encoder(msgspec.convert({"dtype": dtype}, raw.EncoderOptions), schema)
    columns = tuple(column_from_values(f.type, [row[i] for row in rows]) for i, f in enumerate(schema))
    return encoder.encode(Batch(schema, columns, len(rows))) + encoder.finish()


def test_one_column_of_floats_is_named_value() -> None:
    assert raw.infer(options("<f8"), block(b""), True) == Schema.of([("value", DataType.FLOAT64)])
    assert read_raw("<f8", struct.pack("<3d", 1.5, -0.0, float("inf"))) == (
        [[1.5], [-0.0], [float("inf")]],
        [],
    )


def test_every_kind_of_field() -> None:
    dtype = [["ok", "?"], ["i", ">i2"], ["u", "u8"], ["f", ">f4"], ["name", "S4"], ["at", "<M8[ms]"]]
    data = (
        struct.pack(">?h", True, -2)
        + struct.pack("<Q", 7)
        + struct.pack(">f", 0.5)
        + b"ab\0\0"
        + struct.pack("<q", -1)
    )
    data += (
        struct.pack(">?h", False, 9)
        + struct.pack("<Q", 8)
        + struct.pack(">f", 2)
        + "éé".encode()
        + struct.pack("<q", -(2**63))
    )
    assert read_raw(dtype, data) == (
        [[True, -2, 7, 0.5, "ab", -1_000_000], [False, 9, 8, 2.0, "éé", None]],
        [],
    )


def test_values_without_a_place_and_a_cut_record_are_rejected() -> None:
    data = struct.pack("<QQQ", 1, 2**63, 3) + b"\1\2"
    assert read_raw("<u8", data) == (
        [[1], [3]],
        [
            (1, 8, "value: out of range of int64", struct.pack("<Q", 2**63)),
            (3, 24, "truncated record", b"\1\2"),
        ],
    )
    assert read_raw("S2", b"ab\xc3\xa9\xff\xff")[1] == [(2, 4, "value: not UTF-8", b"\xff\xff")]
    beyond = struct.pack("<qq", 2**62, 5)
    assert read_raw("<M8[s]", beyond) == ([[5_000_000_000]], [(0, 0, "value: time out of range", beyond[:8])])
    missing = struct.pack("<q", -(2**63))
    assert read_raw("<M8[s]", missing, required=("value",)) == ([], [(0, 0, "value: null", missing)])


def test_a_whole_number_may_be_declared_a_time() -> None:
    schema = Schema((Field("at", DataType.TIMESTAMP, "ms"),))
    assert read_raw("<u8", struct.pack("<QQ", 3, 2**63), schema=schema) == (
        [[3_000_000]],
        [(1, 8, "at: time out of range", struct.pack("<Q", 2**63))],
    )


def test_other_columns_than_the_dtype_has_are_an_error() -> None:
    for dtype, columns in (
        ("<f8", [("x", DataType.INT64)]),
        ([["a", "<f8"]], [("b", DataType.FLOAT64)]),
        ("<i8", [("x", DataType.TIMESTAMP)]),
    ):
        schema = Schema.of(columns)
        with pytest.raises(PipelineError, match="the dtype has other columns"):
            raw.decoder(options(dtype), DecodeRequest(schema, schema.names))


@pytest.mark.parametrize(
    "dtype",
    [
        "O",
        "U4",
        "V8",
        "c16",
        "f16",
        "M8",
        "M8[Y]",
        "M8[99999999D]",
        "S",
        "no",
        "f8,f8",
        "",
        [],
        [["a", "O"]],
        [["a", "f8"], ["a", "f8"]],
    ],
)
def test_a_dtype_that_is_no_column_is_an_error(dtype: Any) -> None:
    with pytest.raises(msgspec.ValidationError, match="dtype"):
        options(dtype)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=60), st.lists(st.integers(0, 9), max_size=8))
def test_chunk_law(data: bytes, sizes: list[int]) -> None:
    dtype = [["f", ">f4"], ["t", "S3"], ["u", "u8"]]
    assert repr(read_raw(dtype, data, sizes)) == repr(read_raw(dtype, data))


INT64 = st.integers(-(2**63), 2**63 - 1)
ROW = st.tuples(
    st.booleans(),
    INT64,
    st.none() | st.floats(allow_nan=False),
    st.none() | st.integers(-(2**63) + 1, 2**63 - 1),
)
SCHEMA = Schema.of(
    [("b", DataType.BOOL), ("i", DataType.INT64), ("f", DataType.FLOAT64), ("t", DataType.TIMESTAMP)]
)


@settings(max_examples=60, deadline=None)
@given(st.lists(ROW, max_size=8))
def test_written_records_read_back(rows: list[tuple[Any, ...]]) -> None:
    data = write_raw(SCHEMA, [list(row) for row in rows])
    assert len(data) == 25 * len(rows)
    back, rejected = read_raw([["b", "?"], ["i", "<i8"], ["f", "<f8"], ["t", "<M8[ns]"]], data)
    expected = [[b, i, float("nan") if f is None else f, t] for b, i, f, t in rows]
    assert repr(back) == repr(expected)
    assert rejected == []


def test_the_encoder_writes_the_named_columns_in_the_given_layout() -> None:
    schema = Schema.of([("n", DataType.INT64), ("s", DataType.STRING), ("t", DataType.TIMESTAMP)])
    rows = [[300, "ab", 1_999_999_999], [-1, "", -1]]
    data = write_raw(schema, rows, [["t", ">M8[s]"], ["s", "S3"], ["n", "<i2"]])
    assert data == struct.pack(">q3s", 1, b"ab") + struct.pack("<h", 300) + struct.pack(
        ">q3s", -1, b""
    ) + struct.pack("<h", -1)
    assert write_raw(Schema.of([("mean", DataType.FLOAT64)]), [[2.5], [None]], "<f4")[:4] == struct.pack(
        "<f", 2.5
    )
    assert write_raw(Schema.of([("n", DataType.INT64)]), [[None]], "<f8") == struct.pack("<d", float("nan"))


def test_what_has_no_place_in_a_record_is_an_error() -> None:
    number, text = Schema.of([("n", DataType.INT64)]), Schema.of([("s", DataType.STRING)])
    for schema, rows, dtype, message in (
        (number, [[128]], "i1", "does not fit"),
        (number, [[-1]], "u8", "does not fit"),
        (number, [[None]], "<i8", "cannot hold a null"),
        (text, [["abc"]], "S2", "longer than 2 bytes"),
        (text, [[None]], "S2", "cannot hold a null"),
    ):
        with pytest.raises(DataError, match=message):
            write_raw(schema, rows, dtype)
    for schema, dtype, message in (
        (text, None, "say its width"),
        (Schema.of([]), None, "no column to write"),
        (SCHEMA, "<f8", "several columns"),
        (number, [["m", "<i8"]], "no column 'm'"),
        (text, "<f8", "does not go into"),
        (Schema.of([("f", DataType.FLOAT64)]), "<i8", "does not go into"),
    ):
        with pytest.raises(PipelineError, match=message):
            write_raw(schema, [], dtype)


def test_empty_batches_are_empty_bytes() -> None:
    assert write_raw(SCHEMA, []) == b""
