"""The lines format: every line a row, whatever the cuts."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncflow.errors import PipelineError
from asyncflow.formats import lines
from asyncflow.formats.contract import DecodeRequest
from asyncflow.model.batch import Batch
from asyncflow.model.columns import StringColumn
from asyncflow.model.schema import DataType, Schema
from tests.formats.reading import Rejected, block, read

SCHEMA = Schema.of([("line", DataType.STRING)])


def lines_of(
    data: bytes, sizes: list[int] | None = None, max_bytes: int = 1 << 20
) -> tuple[list[object], Rejected]:
    request = DecodeRequest(SCHEMA, ("line",), max_record_bytes=max_bytes, keep_rejects=True)
    rows, rejected = read(lines.decoder(lines.DecoderOptions(), request), data, sizes or [])
    return [row[0] for row in rows], rejected


def test_every_line_is_a_row() -> None:
    assert lines_of(b"a\r\n\n  b \nc") == (["a", "", "  b ", "c"], [])
    assert lines_of(b"") == ([], [])
    assert lines_of(b"\n") == ([""], [])
    assert lines_of(b"\r\n\r") == (["", "\r"], [])


def test_a_byte_order_mark_is_skipped() -> None:
    assert lines_of(b"\xef\xbb\xbfa\n", [1, 1]) == (["a"], [])
    assert lines_of(b"\xef\xbb", [1])[1] == [(0, 0, "not UTF-8", b"\xef\xbb")]


def test_bad_utf8_and_long_lines_are_rejected_with_their_place() -> None:
    rows, rejected = lines_of(b"ok\n\xff\xfe\n" + b"x" * 11 + b"\nend\n", max_bytes=10)
    assert rows == ["ok", "end"]
    assert rejected == [
        (1, 3, "not UTF-8", b"\xff\xfe"),
        (2, 6, "longer than 10 bytes", b"x" * 10),
    ]


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.sampled_from([b"a", b"bc", b"\n", b"\r\n", b"\r", b"\xff", "é".encode(), b"x" * 9]), max_size=30
    ),
    st.lists(st.integers(0, 12), max_size=12),
    st.integers(1, 12),
)
def test_chunk_law(pieces: list[bytes], sizes: list[int], max_bytes: int) -> None:
    data = b"".join(pieces)
    assert lines_of(data, sizes, max_bytes) == lines_of(data, [], max_bytes)


def test_the_column_may_have_another_name_or_not_be_read() -> None:
    schema = Schema.of([("text", DataType.STRING)])
    decoder = lines.decoder(lines.DecoderOptions(), DecodeRequest(schema, ()))
    result = decoder.decode(block(b"a\nb\n"))
    assert (result.columns, result.num_rows, result.lines) == ((), 2, 2)
    assert lines.infer(lines.DecoderOptions(), block(b""), True) == SCHEMA


def test_any_other_schema_is_an_error() -> None:
    for columns in ([("line", DataType.INT64)], [("a", DataType.STRING), ("b", DataType.STRING)], []):
        with pytest.raises(PipelineError, match='line = "string"'):
            lines.decoder(lines.DecoderOptions(), DecodeRequest(Schema.of(columns), ()))


@settings(max_examples=80, deadline=None)
@given(
    st.lists(
        st.none() | st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), max_size=12)
    )
)
def test_written_lines_read_back(texts: list[str | None]) -> None:
    column = StringColumn.from_values(texts)
    encoder = lines.encoder(lines.EncoderOptions(), SCHEMA)
    written = encoder.encode(Batch(SCHEMA, (column,), len(texts))) + encoder.finish()
    assert written == "".join((text or "") + "\n" for text in texts).encode()
    if not written.startswith(b"\xef\xbb\xbf"):
        assert lines_of(written) == ([text or "" for text in texts], [])


def test_the_encoder_takes_the_only_column_or_the_one_named_line() -> None:
    schema = Schema.of([("n", DataType.INT64), ("line", DataType.STRING)])
    lines.encoder(lines.EncoderOptions(), schema)
    for columns in ([("n", DataType.INT64)], [("a", DataType.STRING), ("b", DataType.STRING)], []):
        with pytest.raises(PipelineError, match="one string column"):
            lines.encoder(lines.EncoderOptions(), Schema.of(columns))
