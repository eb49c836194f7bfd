"""The JSON format on the way in: rows, rejects with their place and reason, whatever the cuts."""

from __future__ import annotations

import json
import math
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncflow.formats import json as format_json
from asyncflow.formats.contract import DecodeRequest
from asyncflow.model.batch import Batch
from asyncflow.model.columns import column_from_values
from asyncflow.model.schema import DataType, Field, Schema
from tests.formats.reading import Rejected, block, read

OPTIONS = format_json.DecoderOptions()
SCHEMA = Schema(tuple(
    Field.parse(name, type_)
    for name, type_ in {"ts": "timestamp[ms]", "name": "string", "qty": "int64", "price": "float64", "user.id": "int64"}.items()
))  # fmt: skip


def read_json(
    data: bytes,
    sizes: list[int] | None = None,
    *,
    schema: Schema = SCHEMA,
    columns: tuple[str, ...] | None = None,
    required: tuple[str, ...] = (),
    max_bytes: int = 1 << 20,
) -> tuple[list[list[Any]], Rejected]:
    request = DecodeRequest(schema, columns or schema.names, required, max_bytes, keep_rejects=True)
    return read(format_json.decoder(OPTIONS, request), data, sizes or [])


def reasons(data: bytes, **request: Any) -> list[str]:
    return [reason for _, _, reason, _ in read_json(data, **request)[1]]


def infer(data: bytes, final: bool = True) -> dict[str, str]:
    return {field.name: field.type_text for field in format_json.infer(OPTIONS, block(data), final)}


def test_records_become_rows() -> None:
    data = (
        b'{"ts":1,"name":"a\\u00e9","qty":2,"price":1.5,"user":{"id":7,"x":[1]},"more":null}\r\n\n{"qty":3}'
    )
    assert read_json(data) == ([[1_000_000, "aé", 2, 1.5, 7], [None, None, 3, None, None]], [])


def test_projection_and_order() -> None:
    data = b'{"name":"a","qty":1,"price":2}\n'
    assert read_json(data, columns=("price", "name")) == ([[2.0, "a"]], [])


def test_rejects_have_place_record_and_reason() -> None:
    data = b'{"qty":"abc"}\n{"qty":1}\r\n[1]\r\n{"ts":null}\n{"ts":5,"name":"\\ud800"}\n{"qty":1.5,"ts":1}\n{"a":\xff}\n{"a":1\n'
    rows, rejected = read_json(data, required=("ts",))
    assert rows == []
    assert rejected == [
        (0, 0, "ts: null", b'{"qty":"abc"}'),
        (1, 14, "ts: null", b'{"qty":1}'),
        (2, 25, "not a JSON object", b"[1]"),
        (3, 30, "ts: null", b'{"ts":null}'),
        (4, 42, 'name: half of a surrogate pair: "\\ud800"', b'{"ts":5,"name":"\\ud800"}'),
        (5, 67, "qty: not an int64: 1.5", b'{"qty":1.5,"ts":1}'),
        (6, 86, "not UTF-8", b'{"a":\xff}'),
        (7, 94, "malformed JSON", b'{"a":1'),
    ]


def test_reasons_show_the_value_as_written() -> None:
    assert reasons(b'{"qty":"a\\n\\"b"}') == ['qty: not an int64: "a\\n\\"b"']
    assert reasons(b'{"price":[1, 2]}') == ["price: not a float64: [1, 2]"]
    assert reasons(b'{"ts":true}') == ["ts: not a timestamp[ms]: true"]
    assert reasons(b'{"qty":"' + "é".encode() * 50 + b'"}') == ['qty: not an int64: "' + "é" * 29 + "..."]
    assert reasons(b'{"a":' + b"[" * 100_000) == ["JSON nested deeper than 1000 levels"]


def test_only_the_first_rejects_are_kept_unless_asked() -> None:
    decoder = format_json.decoder(OPTIONS, DecodeRequest(SCHEMA, ("qty",)))
    decoded = decoder.decode(block(b"x\n" * 100 + b'{"qty":1}\n'))
    assert (decoded.num_rows, decoded.lines, decoded.rejected) == (1, 101, 100)
    assert [reject.line for reject in decoded.rejects] == list(range(8))


def test_bad_input() -> None:
    assert read_json(b"") == ([], [])
    assert read_json(b"\n \n\r\n") == ([], [])
    assert read_json(b'\xef\xbb\xbf{"qty":1}\n', [1, 1]) == ([[None, None, 1, None, None]], [])
    assert reasons(b"\xef\xbb") == ["not UTF-8"]
    assert reasons(b"\x00\n\x01\x02") == ["not a JSON object"] * 2
    assert reasons(b'{"name":"\x00"}') == ["malformed JSON"]
    assert reasons(b'{"qty":1}{"qty":2}') == ["malformed JSON"]
    assert read_json(b'{"price":1e999}\n{"price":-0.0}')[0][0][3] == math.inf
    assert math.copysign(1, read_json(b'{"price":-0.0}')[0][0][3]) == -1
    assert read_json(b'{"ts":0}\n{"ts":-1}\n')[0] == [[0] + [None] * 4, [-1_000_000] + [None] * 4]
    assert reasons(b'{"ts":NaN}\n{"ts":1e400}\n{"ts":9300000000000000}') == [
        "ts: not a timestamp[ms]: NaN", "ts: not a timestamp[ms]: 1e400", "ts: not a timestamp[ms]: 9300000000000000",
    ]  # fmt: skip


@pytest.mark.parametrize("sizes", [[], [1 << 16] * 40, [7] * 50 + [1 << 20, 1, 1 << 19]])
def test_long_lines_are_dropped_and_reading_goes_on(sizes: list[int]) -> None:
    data = b'{"qty":1}\n' + b'{"name":"' + b"x" * 2_000_000 + b'"}\n{"qty":2}\n'
    rows, rejected = read_json(data, sizes)
    assert [row[2] for row in rows] == [1, 2]
    assert rejected == [(1, 10, "longer than 1048576 bytes", data[10 : 10 + 4096])]


LINES = st.lists(
    st.sampled_from([
        b'{"ts":1,"name":"a","qty":2}', b'{"ts":2, "name":"\\n\\ud83d\\ude00"}', b'{"ts":"x"}', b'{"user":{"id":4},"ts":3}', b"{}",
        b"", b" ", b"nope", b'{"ts":1', "{\"name\":\"é\"}".encode(), b'{"name":"\xc3"}', b'{"name":"' + b"y" * 50 + b'"}',
    ]),
    max_size=12,
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(
    LINES,
    st.sampled_from([b"\n", b"\r\n"]),
    st.booleans(),
    st.lists(st.integers(0, 60), max_size=12),
    st.integers(20, 60),
)
def test_chunk_law(lines: list[bytes], ending: bytes, ended: bool, sizes: list[int], max_bytes: int) -> None:
    data = ending.join(lines) + ending * ended
    whole = read_json(data, required=("ts",), max_bytes=max_bytes)
    assert read_json(data, sizes, required=("ts",), max_bytes=max_bytes) == whole
    assert len(whole[0]) + len(whole[1]) == sum(
        1 for line in lines if line.strip() or len(line + ending) - 1 > max_bytes
    )


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.none() | st.booleans(),
            st.none() | st.integers(-(2**63), 2**63 - 1),
            st.none() | st.floats(allow_nan=False),
            st.none() | st.text(st.characters(exclude_categories=["Cs"])),
            st.none() | st.integers(-(2**63) + 1, 2**63 - 1),
        ),
        max_size=20,
    )
)
def test_reads_back_what_the_encoder_writes(rows: list[tuple[Any, ...]]) -> None:
    types = (DataType.BOOL, DataType.INT64, DataType.FLOAT64, DataType.STRING, DataType.TIMESTAMP)
    schema = Schema.of(zip("bifst", types, strict=True))
    columns = tuple(column_from_values(type_, [row[at] for row in rows]) for at, type_ in enumerate(types))
    encoder = format_json.encoder(format_json.EncoderOptions(), schema)
    data = bytes(encoder.encode(Batch(schema, columns, len(rows))))
    assert read_json(data, schema=schema) == ([list(row) for row in rows], [])


def test_infer_types_and_order() -> None:
    data = b"""{"b":true,"i":1,"f":1.5,"s":"x","t":"2024-01-01T00:00:00Z","n":{"x":1,"y":{"z":"a"}},"l":[1]}
{"i":2.5,"t":"2024-01-02","s":"2024-01-01","new":null,"b":false,"n":null}
{"m":1}
{"m":"a"}
"""
    assert infer(data) == {
        "b": "bool", "i": "float64", "f": "float64", "s": "string", "t": "timestamp", "n.x": "int64", "n.y.z": "string",
        "l": "string", "new": "string", "m": "string",
    }  # fmt: skip
    assert infer(b'{"a":9223372036854775808}') == {"a": "string"}
    assert infer(b'{"a":9007199254740993}\n{"a":1.5}') == {"a": "string"}
    assert infer(b'{"a":9007199254740992}\n{"a":1.5}') == {"a": "float64"}
    assert infer(b'{"a":"NaN"}\n{"a":1}\n{"a":"-Infinity"}') == {"a": "float64"}
    assert infer(b'{"a":"NaN"}') == {"a": "string"}
    assert infer(b'{"a":"nan"}\n{"a":1}') == {"a": "string"}
    assert infer(b'{"a":"9999-12-31"}') == infer(b'{"a":"5012-34-78"}') == {"a": "string"}
    assert infer(b'{"a":"20240101T000000Z"}\n{"a":"2024-01-01T24:00:00Z"}') == {"a": "timestamp"}
    assert infer(b'{"a":"12"}') == {"a": "string"}
    assert infer(b'{"a":true}\n{"a":1}') == {"a": "string"}


def test_infer_reads_what_is_whole() -> None:
    assert infer(b'\xef\xbb\xbf{"a":1}\n{"b":2}', final=False) == {"a": "int64"}
    assert infer(b'{"a":1}\n{"b":2}', final=True) == {"a": "int64", "b": "int64"}
    assert infer(b'nope\n[1]\n{"a":\xff}\n{"a":1}\n' + b"[" * 100_000) == {"a": "int64"}
    assert infer(b"") == {}
    assert infer(b'{"\\ud800":1,"a":1}') == {"a": "int64"}
    assert [name.count(".") for name in infer(b'{"a":' * 500 + b"1" + b"}" * 500)] == [32]
    many = b"".join(b'{"a":%d}\n' % i for i in range(1000)) + b'{"a":"x"}\n'
    assert infer(many) == {"a": "int64"}


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.dictionaries(
            st.sampled_from("abc"), st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
                                                 lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from("xy"), inner)),
        ),
        max_size=6,
    )
)  # fmt: skip
def test_what_was_inferred_can_be_read(records: list[dict[str, Any]]) -> None:
    data = "\n".join(json.dumps(record) for record in records).encode()
    schema = format_json.infer(OPTIONS, block(data), True)
    rows, rejected = read_json(data, schema=schema)
    assert len(rows) == len(records) or all("surrogate" in reason for _, _, reason, _ in rejected)


def test_there_are_no_options() -> None:
    with pytest.raises(msgspec.ValidationError, match="unknown field"):
        msgspec.convert({"depth": 3}, format_json.DecoderOptions)
