"""Oracle law: results equal those of an independent engine (DuckDB) for the same rows."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import asyncflow as af

SECOND = 1_000_000_000
SCHEMA = {"ts": "timestamp[ns]", "key": "string", "value": "float64", "qty": "int64", "flag": "bool"}
AGGREGATES = {
    "n": "count(*)",
    "c": "count(value)",
    "s": "sum(value)",
    "t": "sum(qty)",
    "lo": "min(value)",
    "hi": "max(value)",
    "klo": "min(key)",
    "khi": "max(key)",
    "qlo": "min(qty)",
    "m": "mean(value)",
    "mq": "mean(qty)",
    "v": "var(value)",
    "sd": "stddev_pop(qty)",
    "d": "count(DISTINCT key)",
    "dq": "count(DISTINCT qty)",
    "every": "bool_and(flag)",
    "some": "bool_or(flag)",
    "co": "covar(value, qty)",
    "big": "sum(value) FILTER (WHERE qty > 0)",
    "ratio": "sum(value * qty) / count(*)",
    "md": "median(value)",
    "q9": "quantile(qty, 0.9) FILTER (WHERE flag)",
    "q0": "quantile(value, 0) + quantile(value, 1)",
    "qd": "quantile_disc(qty, 0.4)",
    "vd": "quantile_disc(value, 0.75)",
    "ad": "approx_count_distinct(value)",
}
ORACLE = {
    **AGGREGATES,
    "v": "var_samp(value)",
    "sd": "stddev_pop(qty::DOUBLE)",
    "mq": "sum(qty) / count(qty)",
    "m": "avg(value)",
    "co": "covar_samp(value, qty)",
    "t": "TRY_CAST(sum(qty::HUGEINT) AS BIGINT)",
    "q9": "quantile_cont(qty, 0.9) FILTER (WHERE flag)",
    "q0": "min(value) + max(value)",
    "ad": "count(DISTINCT value)",
}

rows = st.lists(
    st.tuples(
        st.integers(-40 * SECOND, 80 * SECOND),
        st.one_of(st.none(), st.sampled_from(["a", "b", "", "é", "zz"])),
        st.one_of(st.none(), st.integers(-1000, 1000).map(lambda n: n / 8)),
        st.one_of(st.none(), st.integers(-5, 9)),
        st.one_of(st.none(), st.booleans()),
    ),
    min_size=1,
    max_size=50,
)


async def ours(table: list[tuple[Any, ...]], shape: Any, where: str, by: list[str]) -> list[tuple[Any, ...]]:
    source = af.source(
        [dict(zip(SCHEMA, row, strict=True)) for row in table], schema=SCHEMA, time="ts", watermark_delay="1h"
    )
    flow = source.filter(where).window(shape, by=by, aggregates=AGGREGATES)
    return [tuple(row.values()) async for batch in flow for row in batch.to_pylist()]


def theirs(
    table: list[tuple[Any, ...]], size: int, every: int, offset: int, where: str, by: list[str]
) -> list[tuple[Any, ...]]:
    connection = duckdb.connect()
    connection.execute("CREATE TABLE t (ts BIGINT, key VARCHAR, value DOUBLE, qty BIGINT, flag BOOLEAN)")
    if table:
        connection.executemany("INSERT INTO t VALUES (?, ?, ?, ?, ?)", table)
    # The windows of a row begin at the multiples of `every` (plus offset) in (ts - size, ts]; k counts them from the last.
    start = f"(ts - {offset} - (((ts - {offset}) % {every}) + {every}) % {every} + {offset} - k * {every})"
    keys = "".join(f", {name}" for name in by)
    columns = ", ".join(f"{text} AS {name}" for name, text in ORACLE.items())
    order = "".join(f", {name} NULLS LAST" for name in by)
    steps = -(-size // every)
    query = f"""
        WITH w AS (SELECT t.*, {start} AS w0 FROM t, range({steps}) AS r(k) WHERE {where})
        SELECT w0, w0 + {size} AS w1{keys}, {columns} FROM w WHERE ts < w0 + {size} GROUP BY w0{keys}
        ORDER BY w1, w0{order}"""
    return connection.execute(query).fetchall()


def same(one: Any, other: Any) -> bool:
    if isinstance(one, float) and isinstance(other, float | int):
        return math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-9) or (math.isnan(one) and math.isnan(other))
    return bool(one == other)


def agree(
    table: list[tuple[Any, ...]], size: int, every: int, offset: int, where: str, by: list[str]
) -> None:
    shape = af.hopping(f"{size}ns", f"{every}ns", offset=f"{offset}ns")
    got = asyncio.run(ours(table, shape, where, by))
    expected = theirs(table, size, every, offset, where, by)
    assert len(got) == len(expected)
    for mine, reference in zip(got, expected, strict=True):
        names = ("window_start", "window_end", *by, *AGGREGATES)
        assert all(same(a, b) for a, b in zip(mine, reference, strict=True)), dict(
            zip(names, zip(mine, reference, strict=True), strict=True)
        )


@pytest.mark.parametrize("by", [["key"], [], ["flag", "key"], ["qty"]], ids=lambda by: "+".join(by) or "none")
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    table=rows,
    size=st.integers(1, 30),
    parts=st.integers(1, 30),
    offset=st.integers(0, 20),
    where=st.sampled_from(
        ["TRUE", "qty > 2 OR key = 'a'", "value IS NOT NULL AND NOT flag", "key LIKE '%z'"]
    ),
)
def test_windows_equal_the_oracle(
    by: list[str], table: list[tuple[Any, ...]], size: int, parts: int, offset: int, where: str
) -> None:
    every = max(1, size * min(parts, size) // size)
    agree(table, size * SECOND, min(every, size) * SECOND, offset * SECOND, where, by)
