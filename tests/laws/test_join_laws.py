"""The laws for joins, in whole runs: chunk, door, ledger and oracle law, live inputs, windows after a join, tables that share a source."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

import asyncflow as af
from asyncflow.errors import PipelineError, StageError
from asyncflow.plan.tables import Component
from asyncflow.runtime import Run
from asyncflow.testing import ListSink, chunks, one_by_one

few = settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
SECOND = 10**9

PIPELINE = """
[sources.orders]
type = "stdin"
format = "csv"
schema = {{ ts = "timestamp[ms]", key = "string", n = "int64" }}
time = "ts"
watermark_delay = "3s"

[sources.payments]
type = "stdin"
format = "csv"
schema = {{ ts = "timestamp[ms]", ref = "string", n = "int64" }}
time = "ts"
watermark_delay = "1s"

[stages.paid]
type = "join"
left = "orders"
right = "payments"
on = {{ key = "ref" }}
kind = "{kind}"
{how}

[stages.w]
type = "window"
window = {{ tumbling = "10s" }}
by = ["key"]
aggregates = {{ n = "count(*)", s = "sum(n)" }}

[sinks.rows]
type = "null"
format = "json"
inputs = ["paid"]
[sinks.late]
type = "null"
format = "json"
inputs = ["paid.late"]
[sinks.windows]
type = "null"
format = "json"
inputs = ["w"]
[sinks.w_late]
type = "null"
format = "json"
inputs = ["w.late"]
"""
HOW = {
    "within": 'within = ["-2s", "5s"]',
    "hopping": 'window = { hopping = "10s", every = "4s" }',
    "tumbling": 'window = { tumbling = "10s" }',
    "backward": 'as_of = "backward"',
    "nearest": 'as_of = "nearest"\ntolerance = "4s"',
    "forward": 'as_of = "forward"\ntolerance = "4s"',
    "lookup": "",
}
rows = st.lists(
    st.tuples(st.integers(0, 40_000), st.sampled_from(["a", "b", "", "é,x"]), st.integers(-5, 5)), max_size=40
)
Table = list[tuple[int, str, int]]


def csv(table: Table, key: str) -> bytes:
    lines = [f'{ts},"{text}",{n}' if "," in text else f"{ts},{text},{n}" for ts, text, n in table]
    return "\n".join([f"ts,{key},n", *lines, ""]).encode()


def bound(text: str, pieces: dict[str, Any]) -> tuple[Any, dict[str, ListSink]]:
    """The pipeline with its sources fed from memory and its sinks kept in memory."""
    flow = af.load(text.replace('type = "stdin"', 'type = "file"\npath = "x"'))
    sinks = {sink.name: ListSink() for sink in flow.plan.sinks}
    plan = replace(
        flow.plan,
        sources=tuple(
            replace(s, connector=Component("python", object=pieces[s.name])) for s in flow.plan.sources
        ),
        sinks=tuple(replace(s, connector=Component("list", object=sinks[s.name])) for s in flow.plan.sinks),
    )
    return plan, sinks


def outcome(text: str, pieces: dict[str, Any]) -> tuple[dict[str, bytes], dict[str, Any]]:
    plan, sinks = bound(text, pieces)
    counts = asyncio.run(Run(plan).execute()).to_dict()
    del counts["seconds"]
    return {name: sink.data for name, sink in sinks.items()}, counts


async def live(pieces: Sequence[bytes], waits: Sequence[int]) -> AsyncIterator[bytes]:
    """An input that may never end, as far as anyone knows: it is taken as it comes."""
    for number, piece in enumerate(pieces):
        for _ in range(waits[number % len(waits)]):
            await asyncio.sleep(0)
        yield piece


@pytest.mark.parametrize("kind", ["inner", "full", "semi", "anti"])
@pytest.mark.parametrize("how", HOW)
@few
@given(
    left=rows,
    right=rows,
    seed=st.integers(0, 1000),
    waits=st.lists(st.integers(0, 5), min_size=1, max_size=5),
)
def test_cut_anywhere_and_live_or_not(
    how: str, kind: str, left: Table, right: Table, seed: int, waits: list[int]
) -> None:
    if how == "backward" and kind == "full":
        return
    text = PIPELINE.format(kind=kind, how=HOW[how])
    data = {"orders": csv(left, "key"), "payments": csv(right, "ref")}
    whole = outcome(text, {name: [each] for name, each in data.items()})
    cut = {name: chunks(each, seed, 30) for name, each in data.items()}
    assert outcome(text, cut) == whole
    assert outcome(text, {name: one_by_one(each) for name, each in data.items()}) == whole
    quiet = {"orders": live(cut["orders"], waits), "payments": live(cut["payments"], waits[::-1])}
    assert outcome(text, quiet)[0] == whole[0]
    sinks, ledger = whole
    counts = ledger["stages"]["paid"]
    assert counts["rows_in"] == len(left) + len(right)
    assert counts["rows_out"] == len(sinks["rows"].splitlines())
    assert counts["left_matched"] + counts["left_unmatched"] + counts.get("late", 0) == len(left)
    assert counts.get("late", 0) == len(sinks["late"].splitlines())
    if how != "lookup":
        assert sinks["w_late"] == b"", "no result of a join is late for what follows"
    if kind in ("semi", "anti") and how != "hopping":
        assert counts["rows_out"] == counts["left_matched" if kind == "semi" else "left_unmatched"]


WINDOWED = {
    "key and number": 'by = ["key"]\naggregates = { n = "count(*)", s = "sum(n)" }',
    "of the right side": 'aggregates = { s = "sum(n_right)" }',
    "of the left side, not the key": 'by = ["n"]\naggregates = { c = "count(*)" }',
    "no column": 'aggregates = { n = "count(*)" }',
}


@pytest.mark.parametrize("kind", ["inner", "full", "semi"])
@pytest.mark.parametrize("how", ["within", "nearest"])
@pytest.mark.parametrize("read", WINDOWED)
@settings(few, max_examples=3)
@given(left=rows, right=rows, seed=st.integers(0, 1000))
def test_columns_that_nobody_reads_do_not_matter(
    read: str, how: str, kind: str, left: Table, right: Table, seed: int
) -> None:
    if kind == "semi" and "right" in read:
        return
    text = PIPELINE.format(kind=kind, how=HOW[how])
    text = text.replace(WINDOWED["key and number"], WINDOWED[read])
    alone = text[: text.index("[sinks.rows]")] + text[text.index("[sinks.windows]") :]
    assert WINDOWED[read] in alone
    data = {"orders": csv(left, "key"), "payments": csv(right, "ref")}
    whole = outcome(text, {name: [each] for name, each in data.items()})[0]
    narrow = outcome(alone, {name: chunks(each, seed, 200) for name, each in data.items()})[0]
    assert narrow == {name: whole[name] for name in ("windows", "w_late")}


# -- oracle ----------------------------------------------------------------------------------------------------------------

values = st.lists(
    st.tuples(
        st.integers(0, 60),
        st.one_of(st.none(), st.sampled_from(["a", "b", "é"])),
        st.one_of(st.none(), st.integers(0, 2)),
    ),
    max_size=30,
)
SCHEMA = {"ts": "timestamp[ns]", "key": "string", "n": "int64", "id": "int64"}
ON = "l.key = r.key AND l.n = r.m"
MEET: dict[str, tuple[dict[str, Any], str]] = {
    "within": ({"within": ["-3s", "7s"]}, f"{ON} AND r.ts BETWEEN l.ts - 3 AND l.ts + 7"),
    "tumbling": ({"window": {"tumbling": "10s"}}, f"{ON} AND l.ts // 10 = r.ts // 10"),
    "lookup": ({}, ON),
}
KINDS = {kind: f"{kind.upper()} JOIN" for kind in ("inner", "left", "right", "full", "semi", "anti")}


def source(name: str, table: Sequence[tuple[Any, ...]], schema: dict[str, str]) -> af.Flow:
    dicts = [
        dict(zip(schema, (ts * SECOND, *rest, number), strict=True))
        for number, (ts, *rest) in enumerate(table)
    ]
    return af.source(dicts, schema=schema, time="ts", watermark_delay="1h", name=name)


def joined(
    left: Sequence[tuple[Any, ...]], right: Sequence[tuple[Any, ...]], **how: Any
) -> list[tuple[Any, ...]]:
    right_schema = {"m" if name == "n" else name: type_ for name, type_ in SCHEMA.items()}
    flow = source("l", left, SCHEMA).join(
        source("r", right, right_schema), on={"key": "key", "n": "m"}, **how
    )

    async def found() -> list[tuple[Any, ...]]:
        return [(row["id"], row.get("id_right")) async for batch in flow for row in batch.to_pylist()]

    return asyncio.run(found())


def database(left: Sequence[tuple[Any, ...]], right: Sequence[tuple[Any, ...]]) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect()
    for name, number, table in (("l", "n", left), ("r", "m", right)):
        connection.execute(f"CREATE TABLE {name} (ts BIGINT, key VARCHAR, {number} BIGINT, id BIGINT)")
        if table:
            numbered = [(*row, position) for position, row in enumerate(table)]
            connection.executemany(f"INSERT INTO {name} VALUES (?, ?, ?, ?)", numbered)
    return connection


def in_order(found: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    return sorted(found, key=lambda row: tuple((value is None, value or 0) for value in row))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("meet", MEET)
@few
@given(left=values, right=values)
def test_joins_equal_the_oracle(meet: str, kind: str, left: list[Any], right: list[Any]) -> None:
    how, condition = MEET[meet]
    other = "NULL" if kind in ("semi", "anti") else "r.id"
    query = f"SELECT l.id, {other} FROM l {KINDS[kind]} r ON {condition}"
    expected = database(left, right).execute(query).fetchall()
    assert in_order(joined(left, right, kind=kind, **how)) == in_order(expected)


@pytest.mark.parametrize("kind", ["inner", "left"])
@pytest.mark.parametrize(("direction", "operator"), [("backward", ">="), ("forward", "<=")])
@few
@given(left=values, right=values)
def test_as_of_equals_the_oracle(
    kind: str, direction: str, operator: str, left: list[Any], right: list[Any]
) -> None:
    # Of rows at one time DuckDB takes any: there are no two.
    right = list({row: row for row in right}.values())
    how = f"l {'ASOF JOIN' if kind == 'inner' else 'ASOF LEFT JOIN'} r ON {ON} AND l.ts {operator} r.ts"
    expected = database(left, right).execute(f"SELECT l.id, r.id FROM {how}").fetchall()
    found = joined(left, right, kind=kind, as_of=direction, tolerance="10m")
    assert in_order(found) == in_order(expected)


# -- whole runs ------------------------------------------------------------------------------------------------------------


async def collected(flow: af.Flow) -> list[dict[str, Any]]:
    return [row async for batch in flow for row in batch.to_pylist()]


ORDERS = {"ts": "timestamp[ns]", "id": "int64", "note": "string"}


def orders(count: int) -> af.Flow:
    table = [{"ts": i * SECOND, "id": i % 7, "note": f"note {i}"} for i in range(count)]
    return af.source(table, schema=ORDERS, time="ts", name="orders")


async def test_a_table_is_joined_with_itself() -> None:
    """Both sides hang on one source: neither may wait for the other for ever."""
    flow = orders(5000)
    both = flow.join(flow.filter("id = 3"), on=["id"], within="7s")
    found = await collected(both)
    expected = [(i, j) for i in range(3, 5000, 7) for j in (i - 7, i, i + 7) if 3 <= j < 5000]
    assert sorted((row["ts"] // SECOND, row["ts_right"] // SECOND) for row in found) == expected
    again = await collected(flow.join(flow, on=["id"], window=af.tumbling("1s")))
    assert len(again) == 5000


async def test_one_side_of_a_shared_source_may_have_no_rows_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """The side without rows gives no watermark either once times go back: the other must not fill up and stop the source."""
    monkeypatch.setattr("asyncflow.runtime.wiring.wires.CHANNEL_BYTES", 1)
    table = [{"ts": 10**6 * SECOND, "id": 1, "note": "x"}] * 2
    table += [{"ts": SECOND, "id": 1, "note": "y"} for _ in range(3_000)]
    flow = af.source(table, schema=ORDERS, time="ts", watermark_delay="12d", name="orders")
    both = flow.filter("note = 'none'").join(flow, on=["id"], kind="full", within="1s")
    found = await asyncio.wait_for(collected(both), 60)
    assert len(found) == 3_002


async def test_names_do_not_depend_on_what_is_read() -> None:
    right = orders(3).named("payments")
    flow = orders(3).join(right, on=["id"], within="0s").derive(only="note_right").to("null")
    assert "note_right" in flow.explain()
    rows = await collected(orders(3).join(right, on=["id"], within="0s").derive(both="note || note_right"))
    assert [row["both"] for row in rows] == [f"note {i}note {i}" for i in range(3)]
    counted = orders(3).join(right, on=["id"], within="0s").window(by=["note_right"], n="count(*)")
    assert [row["note_right"] for row in await collected(counted)] == ["note 0", "note 1", "note 2"]


async def test_keys_of_the_right_side_stand_in_rows_without_a_left_one() -> None:
    left, right = orders(1), orders(3).named("payments")
    for how in ({"within": "0s"}, {}):
        found = await collected(left.join(right, on=["id"], kind="full", suffix="2", **how))
        assert [(row["id"], row["note"], row["note2"]) for row in found] == [
            (0, "note 0", "note 0"),
            (1, None, "note 1"),
            (2, None, "note 2"),
        ]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "how", [{"within": "1s"}, {"as_of": "nearest", "tolerance": "1s"}, {}, {"window": af.tumbling("1s")}]
)
async def test_empty_inputs(kind: str, how: dict[str, Any]) -> None:
    right = orders(0).named("payments")
    assert await collected(orders(0).join(right, on=["id"], kind=kind, **how)) == []
    kept = 2 if kind in ("left", "full", "anti") else 0
    assert len(await collected(orders(2).join(right, on=["id"], kind=kind, **how))) == kept


async def test_more_state_than_allowed_fails_the_run_and_names_the_table() -> None:
    flow = (
        orders(5000)
        .join(orders(5000).named("payments"), on=["id"], within="3d", max_state="100KiB")
        .named("paid")
    )
    with pytest.raises(StageError, match=r"^paid: it holds 7 keys in .*KiB.* more than max_state = 100KiB"):
        await collected(flow)


async def test_columns_that_are_not_known_are_told() -> None:
    mapped = orders(2).map(lambda batch: batch)
    with pytest.raises(
        PipelineError, match=r"stages\.stage_2\.right: the columns of 'stage_1' are not known"
    ):
        await collected(orders(2).named("more").join(mapped, on=["id"], within="1s"))
