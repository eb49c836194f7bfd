"""Sessions and count windows against DuckDB and against a row-by-row model in Python."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from typing import Any

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import asyncflow as af

SCHEMA = {"ts": "timestamp[ns]", "key": "string", "value": "float64", "qty": "int64"}
AGGREGATES = {
    "n": "count(*)",
    "c": "count(value)",
    "s": "sum(value)",
    "t": "sum(qty)",
    "lo": "min(value)",
    "khi": "max(key)",
    "v": "var(value)",
    "d": "count(DISTINCT qty)",
    "f": "first(qty)",
    "l": "last(qty)",
    "at": "arg_max(qty, value)",
    "big": "sum(value) FILTER (WHERE qty > 0)",
}
NAMES = ("window_start", "window_end", "key", *AGGREGATES)
Row = tuple[int, str | None, float | None, int]
few = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])

# `qty` and `value` differ from row to row, so that no first, last or greatest is tied.
events = st.lists(
    st.tuples(st.integers(0, 300), st.one_of(st.none(), st.sampled_from(["a", "b", "", "é"])), st.booleans()),
    max_size=60,
)


def table_of(drawn: list[tuple[int, str | None, bool]]) -> list[Row]:
    return [
        (ts, key, None if null else (number * 7 % 61) / 8 - 3, number - 20)
        for number, (ts, key, null) in enumerate(drawn)
    ]


def source(table: Sequence[Row], delay: int) -> af.Flow:
    rows = [dict(zip(SCHEMA, row, strict=True)) for row in table]
    return af.source(rows, schema=SCHEMA, time="ts", watermark_delay=f"{delay}ns")


async def collect(flow: af.Flow) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) async for batch in flow for row in batch.to_pylist()]


def run(table: Sequence[Row], window: Any, delay: int) -> list[tuple[Any, ...]]:
    return asyncio.run(collect(source(table, delay).window(window, by=["key"], aggregates=AGGREGATES)))


def same(one: Any, other: Any) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-9)
    return bool(one == other)


def equal(got: list[tuple[Any, ...]], expected: list[tuple[Any, ...]]) -> None:
    assert len(got) == len(expected)
    for mine, reference in zip(got, expected, strict=True):
        pairs = dict(zip(NAMES, zip(mine, reference, strict=True), strict=True))
        assert all(same(*pair) for pair in pairs.values()), pairs


def duckdb_rows(table: Sequence[Row], numbered: str, end: str, order: str) -> list[tuple[Any, ...]]:
    """Groups the rows by key and the number ``w`` that the query ``numbered`` gives them."""
    connection = duckdb.connect()
    connection.execute("CREATE TABLE t (i BIGINT, ts BIGINT, key VARCHAR, value DOUBLE, qty BIGINT)")
    if table:
        connection.executemany(
            "INSERT INTO t VALUES (?, ?, ?, ?, ?)", [(i, *row) for i, row in enumerate(table)]
        )
    oracle = AGGREGATES | {
        "v": "var_samp(value)",
        "f": "arg_min(qty, (ts, i))",
        "l": "arg_max(qty, (ts, i))",
    }
    columns = ", ".join(f"{text} AS {name}" for name, text in oracle.items())
    query = f"WITH {numbered} SELECT {end}, key, {columns} FROM numbered GROUP BY key, w ORDER BY {order}"
    return connection.execute(query).fetchall()


def duckdb_sessions(table: Sequence[Row], gap: int) -> list[tuple[Any, ...]]:
    numbered = f"""
        steps AS (SELECT *, ts - lag(ts) OVER (PARTITION BY key ORDER BY ts, i) > {gap} AS new FROM t),
        numbered AS (SELECT *, sum(coalesce(new, TRUE)::INT) OVER (PARTITION BY key ORDER BY ts, i) AS w FROM steps)"""
    order = f"max(ts) + {gap}, min(ts), key NULLS LAST"
    return duckdb_rows(table, numbered, f"min(ts), max(ts) + {gap}", order)


@few
@given(drawn=events, gap=st.sampled_from([1, 2, 5, 20, 400]), in_order=st.booleans())
def test_sessions_equal_the_oracle(drawn: list[Any], gap: int, in_order: bool) -> None:
    table = table_of(sorted(drawn, key=lambda row: row[0]) if in_order else drawn)
    # With no delay at all a row at just the gap may find its session closed, by a row of another key at the same time.
    equal(run(table, af.session(f"{gap}ns"), 1 if in_order else 300), duckdb_sessions(table, gap))


@few
@given(drawn=events, size=st.sampled_from([1, 2, 3, 7, 100]))
def test_count_windows_equal_the_oracle(drawn: list[Any], size: int) -> None:
    table = table_of(drawn)
    numbered = f"""
        numbered AS (SELECT *, (row_number() OVER (PARTITION BY key ORDER BY i) - 1) // {size} AS w FROM t)"""
    # Full ones by the row that filled them, then the others by key.
    order = f"count(*) < {size}, CASE WHEN count(*) = {size} THEN max(i) END, key NULLS LAST"
    expected = duckdb_rows(table, numbered, "arg_min(ts, i), arg_max(ts, i)", order)
    equal(run(table, af.count(size), 0), expected)


def sessions_row_by_row(
    table: Sequence[Row], gap: int, delay: int
) -> tuple[list[tuple[int, int, str | None, list[int]]], list[int]]:
    """Sessions as (start, end, key, numbers of rows), and the numbers of late rows."""
    open_: list[tuple[int, int, str | None, list[int]]] = []
    done: list[tuple[int, int, str | None, list[int]]] = []
    late: list[int] = []
    watermark = -math.inf
    for ts, key, _, number in table:
        done += [session for session in open_ if session[1] <= watermark]
        open_ = [session for session in open_ if session[1] > watermark]
        near = [s for s in open_ if s[2] == key and s[0] - gap <= ts <= s[1]]
        if near or ts + gap > watermark:
            members = [number, *(row for session in near for row in session[3])]
            start, end = min([ts, *(s[0] for s in near)]), max([ts + gap, *(s[1] for s in near)])
            open_ = [session for session in open_ if session not in near]
            open_.append((start, end, key, sorted(members)))
        else:
            late.append(number)
        watermark = max(watermark, ts - delay)
    done += open_
    return sorted(done, key=lambda s: (s[1], s[0], s[2] is None, (s[2] or "").encode())), late


@few
@given(drawn=events, gap=st.sampled_from([1, 5, 20, 60]), delay=st.sampled_from([0, 3, 20, 70]))
def test_late_rows_and_merges_row_by_row(drawn: list[Any], gap: int, delay: int) -> None:
    table = table_of(drawn)
    sessions, late = sessions_row_by_row(table, gap, delay)

    aggregates = {"n": "count(*)", "least": "min(qty)", "greatest": "max(qty)", "total": "sum(qty)"}
    flow = source(table, delay).window(af.session(f"{gap}ns"), by=["key"], aggregates=aggregates).named("w")
    expected = [(*s[:3], len(s[3]), s[3][0], s[3][-1], sum(s[3])) for s in sessions]
    assert asyncio.run(collect(flow)) == expected
    assert [row[3] for row in asyncio.run(collect(flow["w.late"]))] == late


@pytest.mark.parametrize(("delay", "sessions"), [(0, [(0, 10), (10, 20)]), (1, [(0, 20)])])
def test_a_session_is_closed_as_soon_as_any_row_reaches_its_end(
    delay: int, sessions: list[tuple[int, int]]
) -> None:
    got = run(table_of([(0, "a", False), (10, "b", False), (10, "a", False)]), af.session("10ns"), delay)
    assert [row[:2] for row in got if row[2] == "a"] == sessions


def test_nothing_in_gives_nothing_out() -> None:
    assert run([], af.session("1s"), 0) == run([], af.count(3), 0) == []


@pytest.mark.parametrize("count", [1, 2, 3])
def test_what_is_left_comes_by_key(count: int) -> None:
    table = table_of([(5, key, False) for key in ("b", None, "a", "b", "a", None, "a")])
    keys = [row[2] for row in run(table, af.count(count), 0)]
    assert (
        keys
        == {
            1: ["b", None, "a", "b", "a", None, "a"],
            2: ["b", "a", None, "a"],
            3: ["a", "b", None],
        }[count]
    )
