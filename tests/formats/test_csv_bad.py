"""Bad CSV: each broken record is one reject with its place, the good ones around it are rows, however the bytes arrive."""

from __future__ import annotations

import math
import os
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncflow.errors import DataError
from asyncflow.formats import csv
from asyncflow.formats.contract import DecodeRequest
from asyncflow.model.schema import Field, Schema
from tests.formats.reading import Rejected, Rows, block, read

SCHEMA = Schema((Field.parse("k", "string"), Field.parse("n", "int64"), Field.parse("x", "float64")))
HEADER = b"k,n,x\n"


def read_csv(
    data: bytes, sizes: list[int] | None = None, max_bytes: int = 1 << 20, header: bool = True
) -> tuple[Rows, Rejected]:
    request = DecodeRequest(SCHEMA, SCHEMA.names, ("n",), max_bytes, keep_rejects=True)
    return read(csv.decoder(csv.DecoderOptions(header=header), request), data, sizes or [])


GOOD = b"a,1,1.5\n"
ROW = ["a", 1, 1.5]
LONG = b"x" * (2 << 20)
# one broken record, why it is rejected, what is kept of it
BROKEN: dict[str, tuple[bytes, str, bytes | None]] = {
    "few fields": (b"a,1\n", "expected 3 fields, found 2", None),
    "many fields": (b"a,1,1.5,\n", "expected 3 fields, found 4", None),
    "binary": (bytes(range(14, 34)) + b"\n", "expected 3 fields, found 1", None),
    "no integer": (b"a,one,1.5\n", "n: not an int64: 'one'", None),
    "beyond int64": (b"a,9223372036854775808,1\n", "n: not an int64: out of range: '9223372036854775808'", None),
    "no float": (b"a,1,1.5.5\n", "x: not a float64: '1.5.5'", None),
    "required null": (b"a,,1.5\n", "n: null", None),
    "not UTF-8": (b"\xff\xfe,1,1.5\n", "not UTF-8", None),
    "surrogate in UTF-8": (b"\xed\xa0\x80,1,1.5\n", "not UTF-8", None),
    "UTF-8 cut short": (b"\xe2\x82,1,1.5\n", "not UTF-8", None),
    "NUL in a number": (b"a,1\0,1.5\n", "n: not an int64: '1\0'", None),
    "byte order mark in a number": (b"a,\xef\xbb\xbf1,1.5\n", "n: not an int64: '\ufeff1'", None),
    "text after a quote": (b'"a"b,1,1.5\n', "text after closing quote", None),
    "2 MiB line": (LONG + b"\n", "longer than 1048576 bytes", LONG[:4096]),
    "2 MiB field": (b"a,1," + LONG + b"\n", "longer than 1048576 bytes", (b"a,1," + LONG)[:4096]),
}  # fmt: skip


@pytest.mark.parametrize("kind", BROKEN)
def test_one_broken_record_among_good_ones(kind: str) -> None:
    record, reason, kept = BROKEN[kind]
    data = HEADER + GOOD + record + GOOD
    kept = record.removesuffix(b"\n") if kept is None else kept
    expected = ([ROW, ROW], [(1, len(HEADER + GOOD), reason, kept)])
    for size in (len(data), 3, 100_000):
        if len(data) // size < 5000:
            assert read_csv(data, [size] * (len(data) // size)) == expected
    assert read_csv(data.replace(b"\n", b"\r\n"))[0] == [ROW, ROW]


@pytest.mark.parametrize(
    ("end", "rows", "reasons"),
    [
        (b"b,2,2.5", [["b", 2, 2.5]], []),
        (b"b,2", [], ["expected 3 fields, found 2"]),
        (b'"b', [], ["unclosed quote"]),
        (b'"b,2,2.5\na,1,1.5\n', [ROW], ["unclosed quote"]),
        (b'b,2,"2.5"', [["b", 2, 2.5]], []),
        (b"\xe2\x82", [], ["not UTF-8"]),
        (b"\r", [], []),
        (b"\n\r\n\n", [], []),
        (b"\0", [], ["expected 3 fields, found 1"]),
    ],
)
def test_a_stream_that_ends_anywhere(end: bytes, rows: Rows, reasons: list[str]) -> None:
    for sizes in ([], [1] * 40):
        got, rejected = read_csv(HEADER + GOOD + end, sizes)
        assert (got, [reason for _, _, reason, _ in rejected]) == ([ROW, *rows], reasons)


FORGED = b"z,9,9.5\n" * 20


@pytest.mark.parametrize("record", [
    b'b,2,"' + FORGED + b'"\n',
    b'b,2,"' + FORGED + b'""' + FORGED + b'"\n',
    b'"' + FORGED + b'",2,2.5\r\n',
    b"b,2," + b"2" * 100 + b',"' + FORGED + b'"\n',  # the quotes come after it was too long
    b'"' + b"b" * 100 + b'","' + FORGED + b'"\n',
    b'b,2,"' + FORGED + b'"x\n',
])  # fmt: skip
def test_what_stands_in_quotes_of_a_record_that_is_too_long_is_never_read_as_records(record: bytes) -> None:
    for data in (HEADER + GOOD + record + GOOD, HEADER + GOOD + record):
        expected = [ROW] * (1 + data.endswith(record + GOOD))
        for size in (len(data), 1, 3, 50, 64):
            rows, rejected = read_csv(data, [size] * (len(data) // size), 64)
            assert rows == expected
            assert [(line, reason) for line, _, reason, _ in rejected] == [(1, "longer than 64 bytes")]


def test_an_empty_line_is_a_null_where_records_have_one_field() -> None:
    schema = Schema((Field.parse("v", "string"),))
    for data, options in ((b'v\na\n\n""\nb\n\r\n', {}), (b'a\n\n""\nb\n\n', {"header": False})):
        for sizes in ([], [1] * len(data)):
            request = DecodeRequest(schema, ("v",), keep_rejects=True)
            rows, rejected = read(csv.decoder(csv.DecoderOptions(**options), request), data, sizes)
            assert (rows, rejected) == ([["a"], [None], [""], ["b"], [None]], [])


def test_values_at_the_edges_are_values() -> None:
    data = b'a\0b,-9223372036854775808,1e999\n,0,-0.0\nc,9223372036854775807,nan\n"",-0,5e-324\n'
    rows, rejected = read_csv(HEADER + data)
    assert not rejected
    assert [row[0] for row in rows] == ["a\0b", None, "c", ""]
    assert [row[1] for row in rows] == [-(2**63), 0, 2**63 - 1, 0]
    assert (rows[0][2], rows[3][2]) == (math.inf, 5e-324)
    assert math.copysign(1, rows[1][2]) == -1 and rows[1][2] == 0 and math.isnan(rows[2][2])


@pytest.mark.parametrize(
    "data", [b"", b"\xef\xbb\xbf", HEADER, b"\xef\xbb\xbf" + HEADER, b"k,n,x", b"\r\nk,n,x\r\n", b"\n\n"]
)
def test_nothing_but_a_header_has_no_rows(data: bytes) -> None:
    for sizes in ([], [1] * 12):
        assert read_csv(data, sizes) == ([], [])


def test_byte_order_mark_and_crlf() -> None:
    data = b"\xef\xbb\xbf" + (HEADER + GOOD + GOOD).replace(b"\n", b"\r\n")
    for sizes in ([], [1] * len(data)):
        assert read_csv(data, sizes) == ([ROW, ROW], [])


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (b"k,n\n", "no column 'x'"),
        (b"k,n,x,n\n", "names column 'n' 2 times"),
        (b"\xff\xfek,n,x\n", "the header is not UTF-8"),
        (b"\0\1\2\n", "no column 'k'"),
        (b'k,"n', "a quote in the header is not closed"),
        (b'"k"k,n,x\n', "text after a closing quote in the header"),
        (LONG, "no end of the header in the first 1048576 bytes"),
    ],
)
def test_a_header_that_cannot_be_used_is_an_error(header: bytes, message: str) -> None:
    for sizes in ([], [1, 1, 1], [1 << 16] * 33):
        with pytest.raises(DataError, match=message):
            read_csv(header, [size for size in sizes if sum(sizes) <= max(len(header), 3)])


PIECES = st.sampled_from([
    b"a,1,1.5\n", b"a,1,1.5\r\n", b'"', b'""', b",", b"\n", b"\r", b"\0", b"\xff", b"\xc3", b"\xa9", b"\xef\xbb\xbf", b"1e999", b"-0.0",
    b"nan", b"99999999999999999999", b"x" * 40, b",,", b"12",
])  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(st.lists(PIECES | st.binary(max_size=6), max_size=30).map(b"".join), st.lists(st.integers(0, 20), max_size=20),
       st.sampled_from([8, 30, 1 << 20]))  # fmt: skip
def test_garbage_reads_the_same_however_it_is_cut(data: bytes, sizes: list[int], max_bytes: int) -> None:
    whole, pieces = read_csv(data, [], max_bytes, False), read_csv(data, sizes, max_bytes, False)
    assert repr(pieces) == repr(whole)  # of NaN too
    offsets = [offset for _, offset, _, _ in whole[1]]
    assert offsets == sorted(set(offsets)) and all(0 <= offset < len(data) for offset in offsets)


@pytest.mark.skipif(
    os.environ.get("ASYNCFLOW_KERNELS") == "reference", reason="the plain twin keeps no such memory"
)
def test_a_long_record_that_comes_in_small_pieces_is_scanned_once() -> None:
    """Were it scanned anew at each piece, this would take minutes."""
    request = DecodeRequest(SCHEMA, SCHEMA.names, (), 64 << 20)
    for text in (b"x", b'"x\n'):
        decoder: Any = csv.decoder(csv.DecoderOptions(header=False), request)
        data = np.frombuffer(
            bytearray(text + b"x" * (32 << 20) + b'"' * (len(text) > 1) + b",1,1\n"), np.uint8
        )
        for end in range(2048, len(data), 2048):
            cut = decoder.cut(data[:end], False)
            assert (cut.end, cut.resume) == (0, 0)
        assert decoder.cut(data, False).end == len(data)
    assert decoder.decode(block(b"a,1,1\n")).num_rows == 1
