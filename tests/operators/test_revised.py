"""Windows with corrections and cumulating windows: against their plain twin, however the input is cut."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from revised_twin import Shape, Twin

sys.path.insert(0, str(Path(__file__).parents[1] / "laws"))
from flows import outcome

Rows = list[tuple[int, str, int]]
few = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])

PIPELINE = """
[sources.rows]
type = "stdin"
format = "csv"
schema = {{ ts = "timestamp[s]", key = "string", value = "int64" }}
time = "ts"
watermark_delay = "{delay}s"
[stages.w]
type = "window"
window = {window}
by = ["key"]
aggregates = {{ n = "count(*)", s = "sum(value)" }}
{more}
[sinks.out]
type = "null"
format = {{ type = "json", timestamps = "s" }}
[sinks.late]
type = "null"
format = {{ type = "json", timestamps = "s" }}
inputs = ["w.late"]
"""


def pipeline(shape: Shape, lateness: int = 0, emit: int | None = None, delay: int = 0) -> str:
    every = f', every = "{shape.every}s"' if shape.kind != "tumbling" else ""
    window = f'{{ {shape.kind} = "{shape.size}s"{every}, offset = "{shape.offset}s" }}'
    more = f'allowed_lateness = "{lateness}s"\n' + (f'emit = {{ every = "{emit}s" }}\n' if emit else "")
    return PIPELINE.format(window=window, delay=delay, more=more)


def csv(rows: Rows) -> bytes:
    return ("ts,key,value\n" + "".join(f"{ts},{key},{value}\n" for ts, key, value in rows)).encode()


def lines(data: bytes) -> list[tuple[Any, ...]]:
    return [tuple(json.loads(line).values()) for line in data.splitlines()]


def cut(data: bytes, row_ends: list[int]) -> list[bytes]:
    """Cuts after some of the lines."""
    parts = data.splitlines(keepends=True)
    places = sorted({0, *(end % (len(parts) + 1) for end in row_ends), len(parts)})
    return [b"".join(parts[a:b]) for a, b in zip(places, places[1:], strict=False)]


@st.composite
def shapes(draw: st.DrawFn) -> Shape:
    kind = draw(st.sampled_from(["tumbling", "hopping", "cumulate"]))
    every = draw(st.integers(1, 8))
    size = every if kind == "tumbling" else every * draw(st.integers(1, 4))
    if kind == "hopping":
        size += draw(st.integers(0, 3))
    return Shape(kind, size, every, draw(st.integers(-5, 20)))


rows = st.lists(st.tuples(st.integers(-20, 60), st.sampled_from("abc"), st.integers(-9, 9)), max_size=40)
some_order = st.one_of(
    rows,
    rows.map(sorted),
    rows.map(lambda table: [(ts + place * 2, key, value) for place, (ts, key, value) in enumerate(table)]),
)


@few
@given(
    shape=shapes(),
    table=some_order,
    lateness=st.sampled_from([0, 0, 1, 5, 30]),
    emit=st.sampled_from([None, 1, 3, 50]),
    delay=st.sampled_from([0, 0, 4]),
    places=st.lists(st.integers(0, 100), max_size=8),
)
def test_it_sends_what_the_twin_says(
    shape: Shape, table: Rows, lateness: int, emit: int | None, delay: int, places: list[int]
) -> None:
    twin = Twin(shape, lateness, emit, delay).run(table)
    sinks, ledger = outcome(pipeline(shape, lateness, emit, delay), cut(csv(table), places))
    revised = lateness > 0 or emit is not None
    assert lines(sinks["out"]) == [row if revised else row[:-2] for row in twin.sent]
    assert lines(sinks["late"]) == twin.late
    counts = ledger["stages"]["w"]
    assert counts["late"] == len(twin.late)
    assert counts["aggregated"] == len(table) - len(twin.late)
    assert counts["rows_out"] == len(twin.sent)
