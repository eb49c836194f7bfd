"""A CSV header is held to the same length however its bytes arrive."""

import pytest

from asyncflow.errors import DataError
from asyncflow.formats import csv
from asyncflow.formats.contract import DecodeRequest
from asyncflow.model.schema import Field, Schema
from tests.formats.reading import read

SCHEMA = Schema((Field.parse("key", "string"), Field.parse("n", "int64")))
HEADER = b"key,n," + b"x" * 58  # 64 bytes


@pytest.mark.parametrize("sizes", [[], [1] * 70, [64], [65], [66]])
@pytest.mark.parametrize(
    ("header", "end"), [(HEADER, b"\na,1,\n"), (HEADER, b""), (b"\n" + HEADER[:63], b"\n")]
)
def test_the_longest_header_is_read(header: bytes, end: bytes, sizes: list[int]) -> None:
    decoder = csv.decoder(csv.DecoderOptions(), DecodeRequest(SCHEMA, SCHEMA.names, max_record_bytes=64))
    rows, rejected = read(decoder, header + end, sizes)
    assert rows == ([["a", 1]] if b"a,1" in end else [])
    assert not rejected


@pytest.mark.parametrize("sizes", [[], [1] * 70, [64], [65], [66]])
@pytest.mark.parametrize("end", [b"\na,1,\n", b""])
def test_a_longer_one_is_refused(end: bytes, sizes: list[int]) -> None:
    decoder = csv.decoder(csv.DecoderOptions(), DecodeRequest(SCHEMA, SCHEMA.names, max_record_bytes=64))
    with pytest.raises(DataError, match="no end of the header in the first 64 bytes"):
        read(decoder, HEADER + b"x" + end, sizes)
