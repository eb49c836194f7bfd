"""A CSV header without an end costs linear time to wait for, and waiting never changes what is read."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncflow.errors import DataError
from asyncflow.formats import csv
from asyncflow.formats.contract import DecodeRequest
from asyncflow.model.schema import Field, Schema
from tests.formats.reading import block, read

SCHEMA = Schema((Field.parse("key", "string"), Field.parse("n", "int64")))
MOST = 1 << 18


class Counting(np.ndarray):
    """Counts the bytes that are taken out of it to be parsed."""

    taken = 0

    def tobytes(self, order: object = "C") -> bytes:
        Counting.taken += len(self)
        return super().tobytes()


@pytest.mark.parametrize(
    ("begin", "piece"),
    [
        (b"", b"x" * 64),
        (b"", b"a," * 32),
        (b"", b"\n" * 64),
        (b'"', b"\n" * 64),
        (b'"', b'""\n' * 21 + b"x"),
        (b'"', b'"",\r\n' * 12 + b"xxxx"),
    ],
)
def test_a_header_without_an_end_is_parsed_in_linear_time(begin: bytes, piece: bytes) -> None:
    decoder = csv.decoder(csv.DecoderOptions(), DecodeRequest(SCHEMA, SCHEMA.names, max_record_bytes=MOST))
    data = block(begin + piece * (MOST // len(piece))).view(Counting)
    Counting.taken = 0
    for size in range(64, MOST, 64):
        assert decoder.prepare(data[:size], False) is None
    assert Counting.taken <= 4 * MOST


NAMES = st.lists(st.text('ab,"\n\r é', max_size=6), max_size=3, unique=True)


@given(names=NAMES, sizes=st.lists(st.integers(1, 9)), rows=st.sampled_from([b"", b"1,x\n", b'2,"a\nb"']))
def test_a_header_reads_the_same_however_it_comes(names: list[str], sizes: list[int], rows: bytes) -> None:
    texts = [f'"{name.replace(chr(34), chr(34) * 2)}"' for name in ["n", "key", *names]]
    data = ",".join(texts).encode() + b"\r\n" + rows
    results = []
    for cuts in ([], sizes):
        decoder = csv.decoder(csv.DecoderOptions(), DecodeRequest(SCHEMA, SCHEMA.names))
        results.append(read(decoder, data, cuts))
    assert results[0] == results[1]


@pytest.mark.parametrize("lines", [10, 1000, 10_000])
def test_a_long_header_of_many_lines_is_found_once_more_has_come(lines: int) -> None:
    """The result is that of the whole; what is allowed is only to look for it later."""
    data = b'key,n,"' + b"line\n" * lines + b'"\n' + b"a,1,\n" * (3 * lines)
    decoder = csv.decoder(csv.DecoderOptions(), DecodeRequest(SCHEMA, SCHEMA.names))
    rows, rejected = read(decoder, data, [100] * (len(data) // 100))
    assert rows == [["a", 1]] * (3 * lines)
    assert not rejected


def test_one_too_long_is_refused_as_soon_as_that_is_known() -> None:
    decoder = csv.decoder(csv.DecoderOptions(), DecodeRequest(SCHEMA, SCHEMA.names, max_record_bytes=64))
    assert decoder.prepare(block(b"x" * 64), False) is None
    with pytest.raises(DataError, match="no end of the header in the first 64 bytes"):
        decoder.prepare(block(b"x" * 65), False)
