"""The twin law for CSV: the compiled kernel and its twin give the same for any bytes, and so do streams cut anywhere."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from asyncflow._kernels.csv import compiled
from asyncflow._kernels.csv import reference as twin

TYPES = [
    "bool",
    "int64",
    "float64",
    "string",
    "timestamp",
    "timestamp[s]",
    "timestamp[ms]",
    "timestamp[us]",
    "timestamp[ns]",
]
PIECES = st.sampled_from(
    [
        b'"',
        b'""',
        b'"""',
        b",",
        b",",
        b"\n",
        b"\n",
        b"\r\n",
        b"\r",
        b'",',
        b',"',
        b'"\n',
        b"NA",
        b"\x00",
        b"\xff",
        b"\xc3\xa9",
        b"\xed\xa0\x80",
        b"a",
        b" ",
        b"1",
        b"-",
        b"12.5",
        b"1e5",
        b"2024-02-29T23:59:59.5Z",
        b"true",
        b"0" * 17,
        b"9223372036854775808",
        b"x" * 70,
        b",,,",
        b"\n\n",
    ]
)
DATA = st.lists(PIECES, max_size=60).map(b"".join)
TYPED = st.lists(
    st.tuples(
        st.one_of(
            st.integers(-(2**64), 2**64).map(str),
            st.floats().map(repr),
            st.datetimes().map(lambda t: t.isoformat()),
            st.sampled_from(
                ["", "NA", "nan", "-inf", "t", "FALSE", " 7 ", '"8"', '""', "1e400", "9999-12-31"]
            ),
        ),
        st.text(max_size=12).map(
            lambda text: '"' + text.replace('"', '""') + '"' if set(text) & set(',"\r\n') else text
        ),
        st.floats(-1e6, 1e6).map(lambda x: f"{x:.2f}"),
    ),
    max_size=40,
).map(lambda rows: "\n".join(",".join(row) for row in rows).encode("utf-8", "surrogatepass"))


def array(data: bytes) -> np.ndarray:
    return np.frombuffer(bytearray(data), np.uint8)


def read_block(module: Any, arguments: dict[str, Any], data: bytes) -> tuple[Any, ...]:
    """What a block decodes to, as plain values that compare."""
    block = array(data)
    rows, lines, rejected, rejects, columns = module.Plan(**arguments).decode(block)
    found = []
    for (_, type_, _), (values, lengths, valid) in zip(arguments["columns"], columns, strict=True):
        assert len(values) == rows
        assert valid is None or (valid.dtype == np.bool_ and len(valid) == rows and not valid.all())
        if type_ == "string":
            assert values.dtype == lengths.dtype == np.int32
            texts: list[Any] = [block[s : s + n].tobytes() for s, n in zip(values, lengths, strict=True)]
        else:
            assert lengths is None
            texts = values.view(np.uint64).tolist() if type_ == "float64" else values.tolist()
        found.append(texts)
        found.append(None if valid is None else valid.tolist())
    return rows, lines, rejected, rejects, found


def read_stream(module: Any, arguments: dict[str, Any], data: bytes, sizes: list[int]) -> tuple[Any, ...]:
    """Rows and rejects of a stream that comes in pieces, with positions of the stream."""
    plan = module.Plan(**arguments)
    cutter = module.Cutter(plan)
    rows: list[Any] = []
    rejected: list[Any] = []
    held, offset, line, at = b"", 0, 0, 0
    for size in [*sizes, len(data)]:
        held, at = held + data[at : at + size], at + size
        final = at >= len(data)
        while held:
            end, resume, lines, dropped = cutter.cut(array(held), final)
            assert 0 <= end <= resume <= len(held)
            if end:
                block = array(held[:end])
                count, block_lines, wrong, rejects, columns = plan.decode(block)
                assert wrong == len(rejects)
                names = [
                    [block[s : s + n].tobytes() for s, n in zip(v, lengths, strict=True)]
                    if lengths is not None
                    else v.view(np.uint64).tolist()
                    if v.dtype == np.float64
                    else v.tolist()
                    for v, lengths, _ in columns
                ]
                nulls = [[True] * count if valid is None else valid.tolist() for _, _, valid in columns]
                before = len(rows)
                rows += zip(*names, *nulls, strict=True)
                for r_line, r_offset, after_row, *why in rejects:
                    rejected.append((line + r_line, offset + r_offset, before + after_row, *why))
                line += block_lines
            if dropped is not None:
                rejected.append((line, offset, len(rows), 0, 0, -1, b"", dropped))
            line += lines
            held, offset = held[resume:], offset + resume
            if resume == 0:
                break
        if final:
            break
    assert not held
    return rows, rejected


def plan_of(
    columns: list[tuple[int, str, bool]], fields: int, max_bytes: int, null: bytes = b""
) -> dict[str, Any]:
    return {
        "delimiter": ord(","),
        "quote": ord('"'),
        "null_text": null,
        "max_record_bytes": max_bytes,
        "fields": fields,
        "columns": columns,
        "rejects_kept": 10**6,
    }


PLANS = st.builds(
    plan_of,
    st.lists(
        st.tuples(st.integers(0, 2), st.sampled_from(TYPES), st.booleans()),
        min_size=1,
        max_size=3,
        unique_by=lambda c: c[0],
    ),
    st.just(3),
    st.sampled_from([1, 5, 20, 63, 64, 100, 300, 1 << 20]),
    st.sampled_from([b"", b"NA", b"1"]),
)
ONE_FIELD = st.builds(
    plan_of,
    st.sampled_from(TYPES).map(lambda t: [(0, t, False)]),
    st.just(1),
    st.sampled_from([3, 80, 1 << 20]),
)


@settings(max_examples=400, deadline=None)
@given(st.one_of(DATA, TYPED), st.one_of(PLANS, ONE_FIELD))
@example(b'a,"b\nc', plan_of([(0, "string", False)], 3, 5))
@example(b'"a\r\nb",1,\r\n', plan_of([(0, "string", False)], 3, 1 << 20))
def test_a_block_decodes_as_its_twin_says(data: bytes, arguments: dict[str, Any]) -> None:
    assert read_block(compiled, arguments, data) == read_block(twin, arguments, data)


@settings(max_examples=400, deadline=None)
@given(st.one_of(DATA, TYPED), PLANS, st.lists(st.integers(0, 50), max_size=30))
def test_a_stream_reads_the_same_however_it_is_cut(
    data: bytes, arguments: dict[str, Any], sizes: list[int]
) -> None:
    whole = read_stream(twin, arguments, data, [])
    assert read_stream(compiled, arguments, data, []) == whole
    assert read_stream(compiled, arguments, data, sizes) == whole
    assert read_stream(twin, arguments, data, sizes) == whole


@settings(max_examples=100, deadline=None)
@given(
    st.lists(PIECES, min_size=1, max_size=12).map(b"".join),
    st.integers(1, 3000),
    st.lists(st.integers(1, 40_000), max_size=5),
)
def test_many_tiles_read_as_the_twin_says(piece: bytes, repeat: int, sizes: list[int]) -> None:
    """Blocks of more than one tile, records longer than a tile, and open quotes in them."""
    data = (piece * repeat)[:150_000]
    for max_bytes in (2_000, 100_000):
        arguments = plan_of([(1, "string", False), (0, "float64", False)], 3, max_bytes)
        arguments["rejects_kept"] = 50
        if max_bytes == 2_000 and len(data) < 40_000:
            assert read_block(compiled, arguments, data) == read_block(twin, arguments, data)
        arguments["rejects_kept"] = 10**6
        assert read_stream(compiled, arguments, data, sizes) == read_stream(compiled, arguments, data, [])


def test_open_quotes_cost_linear_time() -> None:
    """Every line leaves a quote open, whichever state it begins in, so every line is lost; each byte is still scanned about once."""
    data = b'x","""\n' * 300_000
    # The data ends inside quotes, whichever line a record begins on.
    arguments = plan_of([], 3, 1 << 22)
    arguments["rejects_kept"] = 3
    rows, lines, rejected, rejects, _ = compiled.Plan(**arguments).decode(array(data))
    assert (rows, lines, rejected) == (0, 300_000, 300_000)
    assert [reject[3] for reject in rejects] == [compiled_unclosed] * 3
    rows_, rejected_ = read_stream(compiled, arguments | {"rejects_kept": 10**6}, data[:70_000], [1_460] * 60)
    assert not rows_ and len(rejected_) == 10_000


compiled_unclosed = twin.UNCLOSED


def test_minus_zero_and_nan_keep_their_bits() -> None:
    arguments = plan_of([(0, "float64", False)], 2, 1 << 20)
    values = compiled.Plan(**arguments).decode(array(b"-0.0,\n-0,\nnan,\n-NaN,\n1e999,\n"))[4][0][0]
    assert [math.copysign(1, value) for value in values[:2]] == [-1, -1]
    assert np.isnan(values[2:4]).all()
    assert values[4] == math.inf


SHORT = st.from_regex(r"\A-?[0-9]{1,16}\Z") | st.from_regex(r"\A-?[0-9]{0,9}\.[0-9]{0,8}\Z")
STRANGE = st.sampled_from(
    [
        "",
        "-",
        ".",
        "-.",
        "1.2.3",
        "1-2",
        "--1",
        "1e5",
        " 7",
        "+3",
        "x",
        "12345678901234567",
        "9" * 19,
        "-0",
        "-.0",
        "\xe9",
    ]
)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.lists(SHORT, min_size=1, max_size=40), min_size=2, max_size=4),
    st.lists(STRANGE, max_size=2),
    st.sampled_from(TYPES),
    st.integers(1, 6).flatmap(lambda fields: st.tuples(st.just(fields), st.integers(0, fields - 1))),
)
def test_rows_that_are_read_together(
    parts: list[list[str]], strange: list[str], kind: str, place: tuple[int, int]
) -> None:
    """Runs of short numbers, a strange text between them; records of one to six fields."""
    fields, field = place
    texts = [text for i, part in enumerate(parts) for text in [*part, *strange[i : i + 1]]]
    records = [",".join(text if i == field else "ab" for i in range(fields)) for text in ["0" * 60, *texts]]
    data = "\n".join(records).encode()
    for required in (False, True):
        arguments = plan_of([(field, kind, required)], fields, 1 << 20)
        assert read_block(compiled, arguments, data) == read_block(twin, arguments, data)
