"""The regex format: named groups become columns."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncflow.errors import PipelineError
from asyncflow.formats import regex
from asyncflow.formats.contract import DecodeRequest
from asyncflow.model.schema import DataType, Field, Schema
from tests.formats.reading import Rejected, block, read

ACCESS = r"^(?P<host>\S+) \[(?P<at>[^]]+)\] (?P<status>\d+)(?: (?P<ms>\S*))?$"
SCHEMA = Schema((
    Field("host", DataType.STRING), Field("at", DataType.TIMESTAMP), Field("status", DataType.INT64), Field("ms", DataType.FLOAT64),
))  # fmt: skip


def options(pattern: str) -> regex.DecoderOptions:
    return msgspec.convert({"pattern": pattern}, regex.DecoderOptions)


def read_regex(
    pattern: str, schema: Schema, data: bytes, sizes: list[int] | None = None, columns: tuple[str, ...] | None = None,
    required: tuple[str, ...] = (), max_bytes: int = 1 << 20,
) -> tuple[list[list[Any]], Rejected]:  # fmt: skip
    request = DecodeRequest(schema, columns or schema.names, required, max_bytes, keep_rejects=True)
    return read(regex.decoder(options(pattern), request), data, sizes or [])


def test_groups_are_typed_columns() -> None:
    data = "é [1970-01-01T00:00:01Z] 200 1.5\r\nb [1970-01-01] 404\nc [1970-01-01 00:00] 500 \n".encode()
    assert read_regex(ACCESS, SCHEMA, data) == (
        [["é", 10**9, 200, 1.5], ["b", 0, 404, None], ["c", 0, 500, None]],
        [],
    )
    assert read_regex(ACCESS, SCHEMA, data, columns=("status", "host"))[0] == [
        [200, "é"],
        [404, "b"],
        [500, "c"],
    ]


def test_lines_that_do_not_fit_are_rejected_with_the_reason() -> None:
    data = b"nonsense\na [never] 1\na [1970-01-01] 99999999999999999999\na [1970-01-01] 1\n\xff\na [1970-01-01] 1 x\n"
    rows, rejected = read_regex(ACCESS, SCHEMA, data, required=("ms",))
    assert rows == []
    assert [(line, reason) for line, _, reason, _ in rejected] == [
        (0, "does not match pattern"),
        (1, "at: not a timestamp: never"),
        (2, "status: not an int64: 99999999999999999999"),
        (3, "ms: null"),
        (4, "not UTF-8"),
        (5, "ms: not a float64: x"),
    ]
    assert [offset for _, offset, _, _ in rejected] == [0, 9, 21, 57, 74, 76]


def test_an_empty_group_is_the_empty_text_and_no_group_is_null() -> None:
    schema = Schema.of([("a", DataType.STRING), ("b", DataType.STRING)])
    assert read_regex(r"(?P<a>x*)(?:-(?P<b>y*))?", schema, "xx-yy\n-\n\nü-y\n".encode())[0] == [
        ["xx", "yy"],
        ["", ""],
        ["", None],
        ["", None],
    ]


def test_a_pattern_that_cannot_be_is_an_error() -> None:
    for pattern, message in (
        ("(?P<a>", r"bad pattern .* missing \)"),
        ("(a)", "no named group"),
        ("(?P<a b>a)", "bad name of a group"),
        (r"(?P<a>.)\1", "back-references are not supported"),
    ):
        with pytest.raises(msgspec.ValidationError, match=message):
            options(pattern)


def test_a_column_without_a_group_is_an_error() -> None:
    schema = Schema.of([("a", DataType.STRING), ("b", DataType.STRING)])
    with pytest.raises(PipelineError, match=r"schema\.b: the pattern has no group of this name"):
        regex.decoder(options("(?P<a>.)"), DecodeRequest(schema, ("a",)))


def test_types_are_inferred_from_the_lines_that_match() -> None:
    head = b"a [2024-01-01T00:00:00Z] 200 1.5\n?\nb [2024-01-02] 404\n\xff\nc [1] x"
    assert regex.infer(options(ACCESS), block(head), False) == SCHEMA
    assert [field.type for field in regex.infer(options(ACCESS), block(b""), True)] == [DataType.STRING] * 4


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.sampled_from([b"a", b"1", b"-2", b"\n", b"\r\n", b" ", b"\xff", "é".encode(), b"9" * 20]),
        max_size=30,
    ),
    st.lists(st.integers(0, 12), max_size=12),
    st.integers(1, 24),
)
def test_chunk_law(pieces: list[bytes], sizes: list[int], max_bytes: int) -> None:
    schema = Schema.of([("word", DataType.STRING), ("n", DataType.INT64)])
    pattern, data = r"(?P<word>[aé]+)? ?(?P<n>-?\d+)", b"".join(pieces)
    assert read_regex(pattern, schema, data, sizes, max_bytes=max_bytes) == read_regex(
        pattern, schema, data, max_bytes=max_bytes
    )
