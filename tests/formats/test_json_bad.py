"""Bad JSON, and lines of any kind: each broken record is one reject with its place, the good ones around it are rows, however the bytes
arrive; long lines cost linear time, and many tiny ones bounded memory."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncflow.formats import json as json_format
from asyncflow.formats import lines
from asyncflow.formats.contract import DecodeRequest
from asyncflow.model.schema import Field, Schema
from tests.formats.reading import Rejected, Rows, block, read

SCHEMA = Schema((Field.parse("k", "string"), Field.parse("n", "int64"), Field.parse("x", "float64")))
DEEP = 100_000


def json_decoder(max_bytes: int = 1 << 20, schema: Schema = SCHEMA, keep_rejects: bool = True) -> Any:
    request = DecodeRequest(schema, schema.names, (), max_bytes, keep_rejects)
    return json_format.decoder(json_format.DecoderOptions(), request)


def read_json(data: bytes, sizes: list[int] | None = None, max_bytes: int = 1 << 20) -> tuple[Rows, Rejected]:
    return read(json_decoder(max_bytes), data, sizes or [])


GOOD = b'{"k":"a","n":1,"x":1.5}\n'
ROW = ["a", 1, 1.5]
TOO_DEEP = "JSON nested deeper than 1000 levels"
BROKEN: dict[str, tuple[bytes, str]] = {
    "truncated": (b'{"k":"a","n":', "malformed JSON"),
    "binary": (bytes(range(14, 34)), "not a JSON object"),
    "a number": (b"12", "not a JSON object"),
    "an array": (b"[{}]", "not a JSON object"),
    "null": (b"null", "not a JSON object"),
    "two objects": (b"{}{}", "malformed JSON"),
    "a comma too many": (b'{"n":1,}', "malformed JSON"),
    "single quotes": (b"{'n':1}", "malformed JSON"),
    "a leading zero": (b'{"n":01}', "malformed JSON"),
    "NUL": (b'{"n":1\0}', "malformed JSON"),
    "NUL in text": (b'{"k":"a\0b"}', "malformed JSON"),
    "a tab in text": (b'{"k":"a\tb"}', "malformed JSON"),
    "a byte order mark": (b'\xef\xbb\xbf{"n":1}', "not a JSON object"),
    "not UTF-8": (b'{"k":"\xff"}', "not UTF-8"),
    "surrogate in UTF-8": (b'{"k":"\xed\xa0\x80"}', "not UTF-8"),
    "half a surrogate pair": (b'{"k":"\\ud800"}', 'k: half of a surrogate pair: "\\ud800"'),
    "a pair the wrong way round": (
        b'{"k":"\\udc00\\ud800"}',
        'k: half of a surrogate pair: "\\udc00\\ud800"',
    ),
    "beyond int64": (b'{"n":9223372036854775808}', "n: not an int64: 9223372036854775808"),
    "a fraction": (b'{"n":1.5}', "n: not an int64: 1.5"),
    "an integer that is infinite": (b'{"n":1e999}', "n: not an int64: 1e999"),
    "arrays without end": (b'{"x":' + b"[" * DEEP, TOO_DEEP),
    "deep arrays": (b'{"x":' + b"[" * DEEP + b"]" * DEEP + b"}", TOO_DEEP),
    "deep objects": (b'{"other":' * DEEP + b"1" + b"}" * DEEP, TOO_DEEP),
    "2 MiB of text": (b'{"k":"' + b"x" * (2 << 20) + b'"}', "longer than 1048576 bytes"),
    "2 MiB of nothing": (b" " * (2 << 20), "longer than 1048576 bytes"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_one_broken_record_among_good_ones(kind: str) -> None:
    record, reason = BROKEN[kind]
    for ending in (b"\n", b"\r\n"):
        good = GOOD.replace(b"\n", ending)
        data = good + record + ending + good
        expected = ([ROW, ROW], [(1, len(good), reason, record[:4096])])
        for size in (len(data), 100_000, 3):
            if len(data) // size < 5000:
                assert read_json(data, [size] * (len(data) // size)) == expected
    assert read_json(GOOD + record)[1] == [(1, len(GOOD), reason, record[:4096])]  # its end is the stream's


def test_values_at_the_edges_are_values() -> None:
    rows, rejected = read_json(
        b'{"k":"a\\u0000b","n":-9223372036854775808,"x":1e999}\n{"k":"\\ud83d\\ude00","n":9223372036854775807,"x":-0.0}\n'
        b'{"n":1e3,"x":NaN}\n{"x":"-Infinity"}\n{"x":"NaN","x":5e-324}\n{}\n'
    )
    assert not rejected
    assert [row[0] for row in rows] == ["a\0b", "\U0001f600", None, None, None, None]
    assert [row[1] for row in rows] == [-(2**63), 2**63 - 1, 1000, None, None, None]
    assert math.isnan(rows[2][2]) and math.copysign(1, rows[1][2]) == -1
    assert [rows[row][2] for row in (0, 1, 3, 4, 5)] == [math.inf, 0.0, -math.inf, 5e-324, None]


def test_a_thousand_levels_are_read() -> None:
    inner = b"[" * 999 + b"]" * 999
    assert read_json(b'{"k":' + inner + b"}\n") == ([[inner.decode(), None, None]], [])
    assert read_json(b'{"k":[' + inner + b"]}\n")[1][0][2] == TOO_DEEP


@pytest.mark.parametrize("data", [b"", b"\xef\xbb\xbf", b"\n\r\n \t\n", b"\xef\xbb\xbf\n", b"  "])
def test_nothing_has_no_rows(data: bytes) -> None:
    for sizes in ([], [1] * 8):
        assert read_json(data, sizes) == ([], [])


PIECES = st.sampled_from([
    GOOD, b'{"k":"', b'"}', b"{", b"}", b"[", b"]", b"\n", b"\r\n", b"\0", b"\xff", b"\xc3", b"\xef\xbb\xbf", b"\\ud800", b"\\u0000", b'"',
    b"1e999", b"-0.0", b"NaN", b'"n":', b",", b"x" * 40, b"[" * 1200,
])  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(
    st.lists(PIECES | st.binary(max_size=6), max_size=30).map(b"".join),
    st.lists(st.integers(0, 40), max_size=20),
    st.sampled_from([8, 60, 1 << 20]),
    st.sampled_from([1, 100, 16 << 20]),
)
def test_garbage_reads_the_same_however_it_is_cut(
    data: bytes, sizes: list[int], max_bytes: int, output_bytes: int
) -> None:
    whole = read_json(data, [], max_bytes)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_format, "OUTPUT_BYTES", output_bytes)
        pieces = read_json(data, sizes, max_bytes)
    assert repr(pieces) == repr(whole)  # of NaN too
    told = [line for line, _, _, _ in whole[1]]
    assert told == sorted(set(told))
    assert len(whole[0]) + len(whole[1]) <= data.count(b"\n") + 1


def test_every_line_is_a_row_or_a_reject_or_blank() -> None:
    records = [GOOD.strip(), b"", *(record for record, _ in BROKEN.values() if len(record) < 1000)] * 40
    rows, rejected = read_json(b"\n".join(records))
    assert (len(rows), len(rejected)) == (40, 40 * sum(len(record) < 1000 for record, _ in BROKEN.values()))


def test_columns_of_a_block_are_bounded_however_short_its_records_are() -> None:
    """A record of two bytes is a row of 200 nulls: 70 000 of them in one block would be 126 MB."""
    schema = Schema(tuple(Field.parse(f"c{number}", "float64") for number in range(200)))
    decoder = json_decoder(schema=schema, keep_rejects=False)
    data = block(b"{}\n" * 70_000)
    rows = largest = 0
    while len(data):
        cut = decoder.cut(data, True)
        assert cut.end == cut.resume > 0
        result = decoder.decode(data[: cut.end])
        largest = max(largest, sum(c.values.nbytes + c.valid.nbytes for c in result.columns))
        rows += result.num_rows
        data = data[cut.resume :]
    assert rows == 70_000
    assert json_format.OUTPUT_BYTES / 4 < largest <= json_format.OUTPUT_BYTES


def test_lines_left_for_the_next_block_are_cut_before_an_unfinished_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(json_format, "OUTPUT_BYTES", 1)
    decoder = json_decoder()
    data = block(b'{}\n{}\n{"k":"' + b"x" * 50)
    assert [decoder.cut(data[at:], False).end for at in (0, 3, 6)] == [3, 3, 0]


def test_ordinary_blocks_are_decoded_whole() -> None:
    data = block(GOOD * 40_000)
    assert json_decoder().cut(data, False).end == len(data)


@pytest.mark.parametrize("format_", ["json", "lines"])
def test_a_long_line_that_comes_in_small_pieces_is_scanned_once(format_: str) -> None:
    """Were it scanned anew at each piece, this would take minutes."""
    decoder = json_decoder(64 << 20)
    if format_ == "lines":
        schema = Schema((Field.parse("line", "string"),))
        decoder = lines.decoder(lines.DecoderOptions(), DecodeRequest(schema, schema.names, (), 64 << 20))
    data = block(b"{}\n{}\n" + b"x" * (32 << 20) + b"\n{}\n{")
    assert decoder.cut(data[:3], False).end == 3
    assert decoder.cut(data[3:5], False).end == 0
    data = data[3:]
    first = decoder.cut(data[:100], False)
    assert (first.end, first.resume) == (3, 3)
    data = data[3:]
    whole = len(data) - 5
    for end in range(100, whole, 2048):
        cut = decoder.cut(data[:end], False)
        assert (cut.end, cut.resume) == (0, 0)
    assert decoder.cut(data, False).end == len(data) - 1
    assert decoder.cut(data[-1:], False).end == 0
    assert decoder.cut(block(b"{}\n"), False).end == 3
    assert decoder.cut(block(b"{}"), True).end == 2


def test_written_values_read_back() -> None:
    """What other programs write for odd text."""
    texts = ["\0", "\ud7ff", "\ue000", "\uffff", "\U0010ffff", "\u2028", '"\\/', "\x7f", "\x1f"]
    for escaped in (True, False):
        data = "".join(json.dumps({"k": text}, ensure_ascii=escaped) + "\n" for text in texts).encode()
        assert [row[0] for row in read_json(data)[0]] == texts
