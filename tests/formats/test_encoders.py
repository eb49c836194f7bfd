"""The CSV and JSON encoders: headers, options, names."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from asyncflow.formats import csv
from asyncflow.formats import json as json_format
from asyncflow.model.batch import Batch
from asyncflow.model.columns import column_from_values
from asyncflow.model.schema import DataType, Schema

SCHEMA = Schema.of([("a", DataType.INT64), ('odd, "name"', DataType.STRING), ("é\n", DataType.FLOAT64)])


def batch(rows: list[list[Any]], schema: Schema = SCHEMA) -> Batch:
    columns = tuple(column_from_values(f.type, [row[i] for row in rows]) for i, f in enumerate(schema))
    return Batch(schema, columns, len(rows))


def csv_options(**options: Any) -> csv.EncoderOptions:
    return msgspec.convert(options, csv.EncoderOptions)


def test_the_csv_header_comes_once_and_also_without_rows() -> None:
    header = 'a,"odd, ""name""","é\n"\n'.encode()
    encoder = csv.encoder(csv_options(), SCHEMA)
    assert encoder.encode(batch([[1, "x", 2.5]])) == header + b"1,x,2.5\n"
    assert encoder.encode(batch([[None, None, None]])) == b",,\n"
    assert encoder.finish() == b""
    assert csv.encoder(csv_options(), SCHEMA).finish() == header
    assert csv.encoder(csv_options(header=False), SCHEMA).finish() == b""


def test_csv_options() -> None:
    encoder = csv.encoder(csv_options(header=False, delimiter=";", quote="'", null="-"), SCHEMA)
    assert (
        encoder.encode(batch([[1, "a;b", None], [2, "-", 1.0], [3, "", 1.0]]))
        == b"1;'a;b';-\n2;'-';1.0\n3;'';1.0\n"
    )
    for wrong in (
        {"delimiter": ";;"},
        {"delimiter": "é"},
        {"delimiter": "\n"},
        {"quote": ""},
        {"quote": ","},
        {"null": "a,b"},
        {"timestamps": "minutes"},
        {"separator": ";"},
    ):
        with pytest.raises(msgspec.ValidationError):
            csv_options(**wrong)


def test_json_names_are_escaped() -> None:
    encoder = json_format.encoder(json_format.EncoderOptions(), SCHEMA)
    row = bytes(encoder.encode(batch([[1, "x", float("inf")]])))
    assert json.loads(row) == {"a": 1, 'odd, "name"': "x", "é\n": "Infinity"}
    assert list(json.loads(row)) == list(SCHEMA.names)
    assert encoder.finish() == b""


def test_timestamps_as_numbers_round_down() -> None:
    schema = Schema.of([("t", DataType.TIMESTAMP)])
    for unit, number in (("s", -2), ("ms", -1001), ("us", -1_000_001), ("ns", -1_000_000_001)):
        options = msgspec.convert({"timestamps": unit}, json_format.EncoderOptions)
        encoder = json_format.encoder(options, schema)
        assert encoder.encode(batch([[-1_000_000_001]], schema)) == b'{"t":%d}\n' % number


def test_a_batch_whose_text_is_a_view_writes_only_its_rows() -> None:
    schema = Schema.of([("s", DataType.STRING)])
    rows = batch([["one"], [None], ["three"], ["four"]], schema).slice(1, 3)
    encoder = json_format.encoder(json_format.EncoderOptions(), schema)
    assert encoder.encode(rows) == b'{"s":null}\n{"s":"three"}\n'
