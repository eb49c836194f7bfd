"""The small text kernels against their twins: lines of a block, texts anywhere in a block."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncflow._kernels.lines import compiled as lines
from asyncflow._kernels.lines import reference as lines_twin
from asyncflow._kernels.spans import compiled as spans
from asyncflow._kernels.spans import reference as spans_twin

BYTES = st.lists(
    st.sampled_from([b"a", b"\r", b"\n", b"\r\n", b"\xff", "é€😀".encode(), b"x" * 40]), max_size=24
).map(b"".join)


def array(data: bytes) -> np.ndarray[Any, Any]:
    return np.frombuffer(data, np.uint8)


def split(module: ModuleType, data: bytes, max_bytes: int) -> tuple[Any, ...]:
    count = module.count_lines(array(data))
    starts, lengths, faults = np.empty(count, np.int32), np.empty(count, np.int32), np.empty(count, np.uint8)
    bad = module.split_lines(array(data), max_bytes, starts, lengths, faults)
    return bad, starts.tolist(), lengths.tolist(), faults.tolist(), module.last_line_end(array(data))


@settings(max_examples=200, deadline=None)
@given(BYTES, st.integers(0, 50))
def test_lines(data: bytes, max_bytes: int) -> None:
    assert split(lines, data, max_bytes) == split(lines_twin, data, max_bytes)


def test_many_lines_are_counted() -> None:
    for count in (239, 240, 241, 5000):
        assert lines.count_lines(array(b"\n" * count)) == count
        assert lines.count_lines(array(b"\n" * count + b"x")) == count + 1
    with pytest.raises(ValueError, match="too short"):
        lines.split_lines(
            array(b"a\nb\n"), 9, np.empty(1, np.int32), np.empty(1, np.int32), np.empty(1, np.uint8)
        )


@settings(max_examples=100, deadline=None)
@given(st.lists(st.none() | st.binary(max_size=9), max_size=8))
def test_join_lines(texts: list[bytes | None]) -> None:
    data = array(b"".join(text or b"" for text in texts))
    lengths = np.array([len(text or b"") for text in texts], np.int32)
    starts = np.concatenate([[0], np.cumsum(lengths)])[: len(texts)].astype(np.int32)
    valid = np.array([text is not None for text in texts], np.bool_)
    for mask in (valid, None):
        assert lines.join_lines(data, starts, lengths, mask) == lines_twin.join_lines(
            data, starts, lengths, mask
        )
    if texts:
        for module in (lines, lines_twin):
            with pytest.raises(ValueError, match="outside"):
                module.join_lines(data, starts, lengths + 100, None)


TYPES = [
    "bool",
    "int64",
    "float64",
    "timestamp",
    "timestamp[s]",
    "timestamp[ms]",
    "timestamp[us]",
    "timestamp[ns]",
]
NUMBERS = (
    st.integers(-(2**65), 2**65).map(str)
    | st.floats().map(repr)
    | st.decimals(allow_nan=False, allow_infinity=False).map(str)
)
TIMES = st.datetimes().map(lambda time: time.isoformat()) | st.sampled_from(
    [
        "2024-02-29",
        "2023-02-29",
        "1677-09-21T00:12:43.145224193Z",
        "2262-04-11T23:47:16.854775807+00:00",
        "2262-04-11T23:47:17Z",
    ]
)
TEXTS = (
    NUMBERS
    | TIMES
    | st.sampled_from(["true", "F", "1", " 12 ", "-", "", "1e400", "-0.0", "nan", "+inf", "1_0", "٣"])
    | st.text(max_size=6)
)


def parse(module: ModuleType, type_: str, texts: list[str | None]) -> tuple[Any, ...]:
    encoded = [b"" if text is None else text.encode("utf-8", "replace") for text in texts]
    lengths = np.array([len(text) for text in encoded], np.int32)
    starts = np.concatenate([[0], np.cumsum(lengths)])[: len(texts)].astype(np.int32)
    lengths -= np.array([text is None for text in texts], np.int32)
    values = np.empty(len(texts), {"bool": np.bool_, "float64": np.float64}.get(type_, np.int64))
    valid, failed = np.empty(len(texts), np.bool_), np.empty(len(texts), np.bool_)
    counts = module.parse_spans(type_, array(b"".join(encoded)), starts, lengths, values, valid, failed)
    return counts, repr(values.tolist()), valid.tolist(), failed.tolist()


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(TYPES), st.lists(st.none() | TEXTS, max_size=6))
def test_spans(type_: str, texts: list[str | None]) -> None:
    assert parse(spans, type_, texts) == parse(spans_twin, type_, texts)


def test_spans_that_cannot_be_are_errors() -> None:
    for module in (spans, spans_twin):
        with pytest.raises(ValueError, match="type"):
            parse(module, "string", ["a"])
        out = np.empty(1, np.int64), np.empty(1, np.bool_), np.empty(1, np.bool_)
        for start, length in ((0, 4), (-1, 2), (3, 1)):
            with pytest.raises(ValueError, match="outside"):
                module.parse_spans(
                    "int64", array(b"123"), np.array([start], np.int32), np.array([length], np.int32), *out
                )
