"""The encode kernel gives the bytes of its twin, and those read back: numbers, times, text, nulls."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncflow._kernels.encode import compiled
from asyncflow._kernels.encode import reference as twin

Cells = tuple[str, Any, Any, Any, Any]

INT64 = st.integers(-(2**63), 2**63 - 1)
EDGES = st.sampled_from(
    [
        0,
        1,
        -1,
        9,
        10,
        99_999_999,
        10**8,
        10**16 - 1,
        10**16,
        2**63 - 1,
        -(2**63),
        10**9,
        -(10**9),
        999_999_999,
    ]
)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20) | st.text(
    'ab"\\,;\r\n\t\x00\x1f é', max_size=40
)
VALUES: dict[str, Any] = {
    "bool": st.booleans(),
    "int64": INT64 | EDGES,
    "float64": st.floats() | st.integers(-(10**6), 10**6).map(lambda n: n / 100),
    "string": TEXT,
    "timestamp": INT64
    | EDGES
    | st.integers(-(10**6), 10**6).map(lambda n: n * 10**9)
    | st.integers(0, 10**9).map(lambda n: n * 10**6),
}


def cells(kind: str, values: list[Any]) -> Cells:
    valid = None if None not in values else np.array([value is not None for value in values], np.bool_)
    if kind == "string":
        texts = [(value or "").encode() for value in values]
        lengths = np.array([len(text) for text in texts], np.int32)
        starts = np.zeros(len(texts), np.int32)
        np.cumsum(lengths[:-1], out=starts[1:])
        return (kind, np.frombuffer(b"".join(texts), np.uint8), starts, lengths, valid)
    dtype = {"bool": np.bool_, "float64": np.float64}.get(kind, np.int64)
    return (
        kind,
        np.array([0 if value is None else value for value in values], dtype),
        None,
        None,
        valid,
    )


@st.composite
def tables(draw: Callable[[Any], Any]) -> tuple[int, list[str], list[list[Any]]]:
    rows = draw(st.integers(0, 6))
    kinds = draw(st.lists(st.sampled_from(sorted(VALUES)), max_size=5))
    columns = [draw(st.lists(st.none() | VALUES[kind], min_size=rows, max_size=rows)) for kind in kinds]
    return rows, kinds, columns


@settings(max_examples=200, deadline=None)
@given(tables(), st.sampled_from([0, 1, 1_000, 1_000_000, 1_000_000_000]))
def test_json_is_the_twins_and_reads_back(
    table: tuple[int, list[str], list[list[Any]]], tick_ns: int
) -> None:
    rows, kinds, columns = table
    keys = [json.dumps(f"a column {position} \n").encode() + b":" for position in range(len(kinds))]
    arrays = [cells(kind, values) for kind, values in zip(kinds, columns, strict=True)]
    written = bytes(compiled.json_rows(rows, arrays, keys, tick_ns))
    assert written == twin.json_rows(rows, arrays, keys, tick_ns)
    lines = written.decode().split("\n")[:-1]
    assert len(lines) == rows
    for row, line in enumerate(lines):
        for kind, value, read in zip(
            kinds, (c[row] for c in columns), json.loads(line).values(), strict=True
        ):
            if value is None or kind in ("bool", "int64", "string"):
                assert read == value
            elif kind == "float64":
                assert repr(float(read)) == repr(value)
            elif tick_ns:
                assert read == value // tick_ns
            else:
                assert np.datetime64(read.removesuffix("Z"), "ns").astype(np.int64) == value


@settings(max_examples=200, deadline=None)
@given(
    tables(),
    st.sampled_from([",", ";", "\t", " ", "|"]),
    st.sampled_from(['"', "'"]),
    st.sampled_from(["", "NULL", "a", "-"]),
)
def test_csv_is_the_twins_and_reads_back(
    table: tuple[int, list[str], list[list[Any]]], delimiter: str, quote: str, null: str
) -> None:
    rows, kinds, columns = table
    arrays = [cells(kind, values) for kind, values in zip(kinds, columns, strict=True)]
    dialect = (delimiter.encode(), quote.encode(), null.encode(), 0)
    written = bytes(compiled.csv_rows(rows, arrays, *dialect))
    assert written == twin.csv_rows(rows, arrays, *dialect)
    if len(kinds) < 2:  # Python's reader skips a blank line, which is what one null alone looks like
        return
    reader = csv.reader(
        io.StringIO(written.decode(), newline=""), delimiter=delimiter, quotechar=quote, strict=True
    )
    for row, fields in enumerate(reader):
        for kind, value, field in zip(kinds, (c[row] for c in columns), fields, strict=True):
            if value is None:
                assert field == null
            elif kind == "string":
                assert field == value
            elif kind == "float64":
                assert repr(float(field)) == repr(value)
            elif kind == "int64":
                assert int(field) == value


def test_what_the_bytes_are() -> None:
    columns = [
        cells("timestamp", [1_700_000_000 * 10**9, -1, None]),
        cells("string", ["", 'say "hi"\n', "NA"]),
        cells("float64", [20.0, math.nan, -math.inf]),
        cells("bool", [True, None, False]),
    ]
    assert bytes(compiled.csv_rows(3, columns, b",", b'"', b"", 0)).decode() == (
        '2023-11-14T22:13:20Z,"",20.0,true\n1969-12-31T23:59:59.999999999Z,"say ""hi""\n",NaN,\n,NA,-inf,false\n'
    )
    assert compiled.csv_rows(1, [cells("string", ["NA"])], b",", b'"', b"NA", 0) == b'"NA"\n'
    assert bytes(compiled.json_rows(3, columns, [b'"t":', b'"s":', b'"f":', b'"b":'], 10**9)).decode() == (
        '{"t":1700000000,"s":"","f":20.0,"b":true}\n'
        '{"t":-1,"s":"say \\"hi\\"\\n","f":"NaN","b":null}\n'
        '{"t":null,"s":"NA","f":"-Infinity","b":false}\n'
    )
    assert compiled.json_rows(2, [], [], 0) == b"{}\n{}\n"


def test_every_day_of_the_range_and_every_digit_of_a_second() -> None:
    days = np.arange(-106_751, 106_752, dtype=np.int64) * 86_400_000_000_000
    fractions = np.concatenate([np.array([1, 10, 999, 10**6 - 1]) * 10**power for power in range(6)])
    for values in (days, fractions, -fractions, days[::97] + 86_399_999_999_999):
        column = ("timestamp", np.ascontiguousarray(values), None, None, None)
        assert compiled.csv_rows(len(values), [column], b",", b'"', b"", 0) == twin.csv_rows(
            len(values), [column], b",", b'"', b"", 0
        )


def test_rows_that_outgrow_the_first_guess() -> None:
    texts = ["\x01" * (1 << 16), "", '"' * 5000, "x" * 100_000]
    columns = [cells("string", texts), cells("int64", [1, 2, 3, 4])]
    keys = [b'"' + b"k" * 500 + b'":', b'"n":']
    assert compiled.json_rows(4, columns, keys, 0) == twin.json_rows(4, columns, keys, 0)
    dialect = (b",", b'"', b"a null text of more than sixteen bytes", 0)
    columns.append(cells("float64", [None, 1.5, None, None]))
    assert compiled.csv_rows(4, columns, *dialect) == twin.csv_rows(4, columns, *dialect)


def test_arrays_that_do_not_belong_together_are_errors_not_crashes() -> None:
    number = cells("int64", [1, 2])
    kind, text, starts, lengths, _ = cells("string", ["ab", "c"])
    for module in (compiled, twin):
        for broken in (
            [(*number[:1], number[1][:1], *number[2:])],
            [(kind, text, starts, lengths + 2, None)],
            [(kind, text, starts - 1, lengths, None)],
        ):
            with pytest.raises(ValueError):
                module.csv_rows(2, broken, b",", b'"', b"", 0)
    for broken in (
        [("int64", number[1].astype(np.int32), None, None, None)],
        [("int64", np.arange(4)[::2], None, None, None)],
        [("int64", number[1], None, None, np.ones(1, np.bool_))],
    ):
        with pytest.raises(ValueError):
            compiled.csv_rows(2, broken, b",", b'"', b"", 0)
    with pytest.raises(ValueError):
        compiled.json_rows(2, [number], [], 0)
    with pytest.raises(ValueError):
        compiled.csv_rows(2, [number], b"", b'"', b"", 0)


def test_rows_stay_as_they_were_while_somebody_looks_at_them() -> None:
    numbers = [cells("int64", [number] * 3) for number in range(10)]
    held = [compiled.csv_rows(3, [column], b",", b'"', b"", 0) for column in numbers]
    assert [bytes(view) for view in held] == [b"%d\n" % number * 3 for number in range(10)]
