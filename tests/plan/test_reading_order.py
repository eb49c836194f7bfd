"""In what order a plan's tables take the rows of their inputs: answered by the plan, so that every engine gives the same results."""

from __future__ import annotations

import pytest

from asyncflow.doors.pipeline_file.document import read_document
from asyncflow.plan.reading_order import ReadingOrder
from asyncflow.plan.schemas import table_schemas

SOURCE = {
    "type": "file",
    "format": "csv",
    "time": "ts",
    "schema": {"ts": "timestamp", "sent": "timestamp", "x": "int64"},
}
PLAN = read_document(
    {
        "sources": {
            "a": {**SOURCE, "path": "a.csv"},
            "b": {**SOURCE, "path": "b.csv"},
            "c": {**{key: value for key, value in SOURCE.items() if key != "time"}, "path": "c.csv"},
        },
        "stages": {
            "kept": {"type": "filter", "inputs": ["a"], "where": "x > 0"},
            "moved": {"type": "derive", "inputs": ["a"], "columns": {"ts": "sent"}},
            "both": {"type": "filter", "inputs": ["a", "b"], "where": "x > 0"},
            "windows": {
                "type": "window",
                "inputs": ["both"],
                "window": {"tumbling": "1m"},
                "aggregates": {"n": "count(*)"},
            },
            "first": {"type": "top", "inputs": ["a"], "n": 1, "order": ["x"], "window": {"tumbling": "1m"}},
            "once": {"type": "dedup", "inputs": ["both"], "by": ["x"], "within": "1m"},
        },
        "sinks": {"out": {"type": "null", "inputs": ["once"]}},
    }
)


def order(*bounded: str) -> ReadingOrder:
    return ReadingOrder(PLAN, table_schemas(PLAN), bounded)


@pytest.mark.parametrize(
    ("inputs", "bounded", "in_step", "ends"),
    [
        (("a", "b"), "abc", True, True),
        (("a", "b"), "a", False, False),
        (("kept", "both"), "ab", True, True),
        (("kept", "both"), "a", False, False),
        (("a", "c"), "abc", False, True),  # the rows of one of the two have no time in the data
        (("c", "c.future"), "c", True, True),  # the times at which one source's rows arrived
    ],
)
def test_bounded_inputs_with_times_are_read_in_step(
    inputs: tuple[str, ...], bounded: str, in_step: bool, ends: bool
) -> None:
    assert order(*bounded).in_step(inputs) is in_step
    assert order(*bounded).bounded(inputs) is ends


@pytest.mark.parametrize(
    ("inputs", "bounded", "by_rows"),
    [
        (("a",), "", True),
        (("a", "b"), "ab", True),
        (("a", "b"), "", False),  # taken as they come
        (("both",), "ab", True),
        (("both",), "", False),
        (("once",), "", False),
        (("windows",), "", True),  # a window's rows carry watermarks of the window
        (("moved",), "", True),
        (("first",), "", True),
    ],
)
def test_rows_carry_the_watermarks_of_the_table_that_reads_them(
    inputs: tuple[str, ...], bounded: str, by_rows: bool
) -> None:
    assert order(*bounded).by_rows(inputs) is by_rows


@pytest.mark.parametrize(
    ("read", "rising"),
    [
        ("a", True),
        ("kept", True),
        ("moved", True),
        ("both", False),  # two inputs met
        ("once", False),
        ("windows", False),
        ("first", False),
        ("first.late", True),
    ],
)
def test_watermarks_that_rows_carry_rise_where_one_input_was_passed_on(read: str, rising: bool) -> None:
    assert order("a", "b", "c").rising(read) is rising
