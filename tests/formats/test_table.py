"""The table format: aligned, one line a row, the same however rows come in batches."""

from __future__ import annotations

import itertools
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from asyncflow.formats import table
from asyncflow.model.batch import Batch
from asyncflow.model.columns import column_from_values
from asyncflow.model.schema import DataType, Schema

SCHEMA = Schema.of(
    [
        ("window_start", DataType.TIMESTAMP),
        ("store", DataType.STRING),
        ("orders", DataType.INT64),
        ("revenue", DataType.FLOAT64),
        ("ok", DataType.BOOL),
    ]
)


def batch(rows: list[tuple[Any, ...]], schema: Schema = SCHEMA) -> Batch:
    columns = tuple(column_from_values(f.type, [row[i] for row in rows]) for i, f in enumerate(schema))
    return Batch(schema, columns, len(rows))


def show(rows: list[tuple[Any, ...]], cuts: list[int] | None = None, **options: Any) -> str:
    encoder = table.encoder(table.EncoderOptions(**options), SCHEMA)
    edges = [0, *sorted(min(cut, len(rows)) for cut in cuts or []), len(rows)]
    parts = [encoder.encode(batch(rows[a:b])) for a, b in itertools.pairwise(edges)]
    return (b"".join(parts) + encoder.finish()).decode()


def test_rows_are_aligned() -> None:
    rows = [
        (1_700_000_000_000_000_000, "paris", 3, 20.0, True),
        (None, None, None, None, None),
        (0, "a name that is longer than its column", -1, float("nan"), False),
        (0, "東京", 1, 0.1, None),
    ]
    assert show(rows).split("\n") == [
        "window_start          store                   orders       revenue  ok",
        "2023-11-14T22:13:20Z  paris                        3          20.0  true",
        "",
        "1970-01-01T00:00:00Z  a name that is longer than its column            -1           NaN  false",
        "1970-01-01T00:00:00Z  東京                         1           0.1",
        "",
    ]


def test_no_row_still_gives_the_header_unless_unwanted() -> None:
    assert show([]).startswith("window_start ")
    assert show([], header=False) == ""


def test_control_characters_are_shown_escaped() -> None:
    line = show([(0, "a\nb\t\x1b[31m\u2028", 1, 1.0, True)], header=False, timestamps="s")
    assert line.split() == ["0", "a\\nb\\t\\x1b[31m\\u2028", "1", "1.0", "true"]
    assert line.count("\n") == 1


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.none() | st.integers(-(2**63) + 1, 2**63 - 1),
            st.none() | st.text(st.characters(exclude_categories=["Cs"])),
            st.none() | st.integers(-(2**63), 2**63 - 1),
            st.none() | st.floats(),
            st.none() | st.booleans(),
        ),
        max_size=8,
    ),
    st.lists(st.integers(0, 8), max_size=4),
)
def test_the_text_does_not_depend_on_batches(rows: list[tuple[Any, ...]], cuts: list[int]) -> None:
    text = show(rows, cuts)
    assert text == show(rows)
    assert text.count("\n") == len(rows) + 1
