"""The crash law: a run that is frozen at any border between two items, thrown away, and rebuilt from the snapshot gives the same bytes.

For every flow here, and random data: the bytes that the sinks had got at the barrier and those that the restored run adds are the bytes of
the run without a barrier, and the ledgers are equal.  By default a sample of the borders is taken, with ``CI_LONG=1`` every border.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

import asyncflow as af
import asyncflow.runtime.base.workers
from asyncflow.formats import json as json_format
from asyncflow.plan.tables import Component, Plan, Sink
from asyncflow.runtime.checkpoint.coordinator import Coordinator, Snapshot
from asyncflow.runtime.run.run import iterate
from asyncflow.runtime.wiring import wires
from asyncflow.testing import one_by_one
from tests.laws import flows, test_join_laws, test_keyed_law
from tests.laws.crash import Case, Data, Objects, resumed, snapshots, step, whole, written
from tests.own_aggregates import GeometricMean
from tests.runtime.flows_runtime import batches_of

LONG = os.environ.get("CI_LONG") == "1"
SEEDS = range(8 if LONG else 2)
BORDERS = 1000 if LONG else 4
"""How many borders of a run are tried, at most."""

Make = Callable[[random.Random], Data]
SCHEMA = {"ts": "timestamp[ms]", "key": "string", "value": "float64", "qty": "int64"}
READ = {"format": "csv", "schema": SCHEMA, "time": "ts", "watermark_delay": "2s"}


def rows(chance: random.Random, most: int = 10) -> list[tuple[int, str, float | None, int | None]]:
    """Times at random, many of them late, and values that are hard to add up."""
    return [
        (
            chance.randrange(-5_000, 60_000),
            chance.choice(["a", "b", "c", "", "naïve", "x,y"]),
            chance.choice([None, 0.1, 0.3, 1e16, -1e16, 1.0, float("nan")]),
            chance.choice([None, -3, 0, 1, 2, 5, 2**62]),
        )
        for _ in range(chance.randint(1, most))
    ]


def of(*names: str) -> Make:
    """Rows of CSV for each of these sources, with a line here and there that is none."""

    def make(chance: random.Random) -> Data:
        data = {}
        for name in names:
            lines = one_by_one(flows.csv_bytes(rows(chance)))
            if chance.random() < 0.5:
                lines.insert(chance.randint(1, len(lines)), b"not,a,row\n")
            data[name] = lines
        return data

    return make


def of_joins(chance: random.Random) -> Data:
    def table() -> list[tuple[int, str, int]]:
        return [
            (chance.randrange(40_000), chance.choice(["a", "b", "", "é,x"]), chance.randrange(-5, 5))
            for _ in range(chance.randint(0, 7))
        ]

    return {
        "orders": one_by_one(test_join_laws.csv(table(), "key")),
        "payments": one_by_one(test_join_laws.csv(table(), "ref")),
    }


def source(name: str, **options: Any) -> af.Flow:
    return af.source([b""], name=name, **{**READ, **options})


def case(flow: af.Flow, *tables: str, **options: Any) -> Case:
    """The flow with the rows of these tables, and of its end, in sinks."""
    return Case(plan=with_sinks(flow.checked(), *tables), **options)


def with_sinks(plan: Plan, *tables: str) -> Plan:
    last = plan.stages[-1].name if plan.stages else plan.sources[-1].name
    sinks = tuple(
        Sink(f"out_{number}", (table,), Component("list"), Component("json", json_format.EncoderOptions()))
        for number, table in enumerate((last, *tables))
    )
    return replace(plan, sinks=sinks)


def loaded(text: str, **options: Any) -> Case:
    return Case(plan=af.load(text.replace('type = "stdin"', 'type = "file"\npath = "x"')).plan, **options)


def doubled(batch: af.Batch) -> dict[str, Any]:
    return {"ts": batch["ts"].astype("datetime64[ns]"), "key": batch["key"], "twice": batch["value"] * 2}


async def slow_row(row: dict[str, Any]) -> dict[str, Any] | None:
    if row["qty"] == 5:
        raise ValueError("five")
    return None if row["qty"] == 0 else {"ts": row["ts"], "qty": row["qty"]}


def joins() -> dict[str, tuple[Case, Make]]:
    found: dict[str, tuple[Case, Make]] = {}
    for how, words in test_join_laws.HOW.items():
        for kind in ("inner", "full", "semi"):
            if how == "backward" and kind == "full":
                continue
            text = test_join_laws.PIPELINE.format(kind=kind, how=words)
            later = ("orders",) if how == "lookup" else ()
            found[f"join {how} {kind}"] = loaded(text, later=later), of_joins
            live = ("orders",) if how == "lookup" else ("orders", "payments")
            found[f"join {how} {kind} live"] = loaded(text, later=later, live=live), of_joins
            if how == "lookup" and kind != "full":
                plan = loaded(text).plan
                stages = (replace(plan.stages[0], refresh_ns=3600 * 10**9), *plan.stages[1:])
                again = Case(plan=replace(plan, stages=stages), later=later, live=live)
                found[f"join {how} {kind}, read again"] = again, of_joins
    return found


def unions() -> dict[str, tuple[Case, Make]]:
    both = af.union(source("a"), source("b"))
    one = source("a")
    twice = af.union(one.filter("qty > 0"), one.derive(qty="qty * 2"))
    other = source("b").filter("qty > 0").named("right")
    joined = one.join(other, on=["key"], kind="semi", within="5s").named("j")
    timeless = {"time": None, "watermark_delay": "0s"}
    by_arrival = af.union(source("a", **timeless), source("b", **timeless))
    window = {"n": "count(*)", "s": "sum(value)", "l": "last(key)"}
    return {
        "union": (case(both.filter("qty >= 0").named("w"), "a.rejected", "b.rejected"), of("a", "b")),
        "union, windows": (
            case(both.window(af.tumbling("10s"), **window).named("w"), "w.late"),
            of("a", "b"),
        ),
        "diamond": (case(twice.window(af.tumbling("10s"), **window).named("w"), "w.late"), of("a")),
        "union with a join of the same": (
            case(
                af.union(one.derive(n="1"), joined.derive(n="2"))
                .window(af.tumbling("10s"), n="sum(n)")
                .named("w"),
                "w.late",
            ),
            of("a", "b"),
        ),
        "union by arrival": (case(by_arrival.filter("qty > 0").named("w")), of("a", "b")),
        "sink of several": (several_in_one_sink(both.filter("qty > 0").named("w").checked()), of("a", "b")),
    }


def several_in_one_sink(plan: Plan) -> Case:
    plan = with_sinks(plan, "a.rejected")
    return Case(
        plan=replace(plan, sinks=(plan.sinks[0], replace(plan.sinks[1], inputs=("a.rejected", "b.rejected"))))
    )


def functions() -> dict[str, tuple[Case, Make]]:
    a = source("a")
    rows_out: dict[str, Any] = {"schema": {"ts": "timestamp[ns]", "qty": "int64"}, "on_error": "reject"}
    window = {"n": "count(*)"}
    return {
        "map": (case(a.map(doubled).window(af.tumbling("10s"), **window).named("w"), "w.late"), of("a")),
        "map of rows": (case(a.map_rows(slow_row, **rows_out).named("m"), "m.rejected"), of("a")),
        "map of rows, several at once": (
            case(
                a.map_rows(slow_row, concurrency=3, **rows_out)
                .named("m")
                .window(af.tumbling("10s"), **window)
                .named("w"),
                "m.rejected",
                "w.late",
            ),
            of("a"),
        ),
        "map, several at once": (
            case(
                a.map(doubled, concurrency=4).named("m").window(af.tumbling("10s"), **window).named("w"),
                "w.late",
            ),
            of("a"),
        ),
        "derive of the time": (
            case(
                a.derive(ts="CASE WHEN qty > 0 THEN ts + interval '3 seconds' ELSE ts END")
                .named("d")
                .window(af.tumbling("10s"), **window)
                .named("w"),
                "w.late",
            ),
            of("a"),
        ),
        "own aggregate": (
            case(
                a.window(
                    af.hopping("10s", every="4s"), by=["key"], g=af.aggregate(GeometricMean, "abs(value)")
                ).named("w"),
                "w.late",
            ),
            of("a"),
        ),
    }


SEQUENCE = """
name = "law"
[sources.history]
type = "stdin"
format = "csv"
schema = { ts = "timestamp[ms]", key = "string", value = "float64", qty = "int64" }
time = "ts"
watermark_delay = "2s"
[sources.live]
type = "file"
path = "-"
format = "csv"
schema = { ts = "timestamp[ms]", key = "string", value = "float64", qty = "int64" }
time = "ts"
watermark_delay = "3s"
[sources.rows]
type = "sequence"
of = ["history", "live"]
%s
[stages.w]
type = "window"
window = { tumbling = "10s" }
by = ["key"]
aggregates = { n = "count(*)", s = "sum(value)" }
[sinks.rows_out]
type = "null"
format = "json"
inputs = ["rows"]
[sinks.w_out]
type = "null"
format = "json"
inputs = ["w"]
"""
SIDES = """
[sinks.sides]
type = "null"
format = "json"
inputs = ["rows.late", "rows.duplicate"]
[sinks.rejected]
type = "null"
format = "json"
inputs = ["live.rejected"]
"""


def of_dicts(chance: random.Random) -> Data:
    """Rows as dicts, one of them without a time here and there."""
    table = [dict(zip(SCHEMA, row, strict=True)) for row in rows(chance)]
    return {"a": [{**row, "ts": None} if chance.random() < 0.1 else row for row in table]}


def of_batches(chance: random.Random) -> Data:
    given = [dict(zip(SCHEMA, row, strict=True)) for row in rows(chance)]
    return {"a": [batch for row in given for batch in batches_of([row], SCHEMA)]}


def python_sources() -> dict[str, tuple[Case, Make]]:
    window: dict[str, Any] = {"n": "count(*)", "s": "sum(value)", "l": "last(key)"}
    flow = (
        af.source([{}], name="a", schema=SCHEMA, time="ts", watermark_delay="2s")
        .window(af.tumbling("10s"), **window)
        .named("w")
    )
    return {
        "dicts": (case(flow, "a.rejected", "w.late"), of_dicts),
        "batches": (case(flow, "w.late"), of_batches),
    }


def sequences() -> dict[str, tuple[Case, Make]]:
    of_both = of("history", "live")
    return {
        f"sequence{name}": (loaded(SEQUENCE % words + sinks, later=later), of_both)
        for name, words, sinks, later in (
            (" by time", "", "", ()),
            (" by keys", 'unique = ["ts", "key"]', "", ("history",)),
            (" by time, with side outputs", "", SIDES, ("live",)),
            (" by keys, with side outputs", 'unique = ["ts", "key"]', SIDES, ("live",)),
        )
    }


FLOWS: dict[str, tuple[Case, Make]] = {
    **joins(),
    **unions(),
    **functions(),
    **sequences(),
    **python_sources(),
    **{
        f"{name} to {sink}": (loaded(flows.pipeline(name, sink_format=sink)), of("rows"))
        for name in flows.STAGES
        for sink in (("json", "csv", "table") if name == "tumbling" else ("json",))
    },
    **{name: (loaded(test_keyed_law.pipeline(name)), of("rows")) for name in test_keyed_law.STAGES},
}


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("flow", FLOWS)
def test_any_border(flow: str, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """From every snapshot of one run, a run each; with workers that do all the work that they may."""
    (case, make), chance = FLOWS[flow], random.Random(f"{flow}/{seed}")
    data, workers = make(chance), chance.choice([1, 2, 3])
    expected = whole(case, data)
    monkeypatch.setattr(asyncflow.runtime.base.workers, "INLINE_BYTES", 0)
    with_barriers, found = snapshots(case, data, workers)
    assert with_barriers == expected, "barriers change what comes out"
    assert found, "no barrier passed"
    for snapshot in chance.sample(found, min(BORDERS, len(found))):
        rest = resumed(case, data, snapshot, workers)
        for sink, data_before in expected.sinks.items():
            assert data_before[: written(snapshot, sink)] + rest.sinks[sink] == data_before, snapshot.epoch
        assert rest.ledger == expected.ledger, snapshot.epoch


@pytest.mark.parametrize("flow", FLOWS)
def test_thrown_away_again_and_again(flow: str) -> None:
    """Each run goes on from the snapshot of the one before and lives for some items only."""
    (case, make), chance = FLOWS[flow], random.Random(flow)
    data = make(chance)
    expected = whole(case, data)
    got = dict.fromkeys(expected.sinks, b"")
    snapshot, lives = None, 0
    while True:
        outcome, reached = step(case, data, snapshot)
        lives += 1
        if reached is None:
            break
        for sink, data_added in outcome.sinks.items():
            got[sink] += data_added[: written(reached, sink) - written(snapshot, sink)]
        snapshot = reached
    assert lives > 1, "no barrier passed"
    assert {sink: got[sink] + data_added for sink, data_added in outcome.sinks.items()} == expected.sinks
    assert outcome.ledger == expected.ledger


def random_case(chance: random.Random) -> Case:
    """Unions, diamonds, and unions over joins of the same tables."""
    tables = [source("a"), source("b")]
    for number in range(chance.randint(2, 6)):
        one, other = chance.choice(tables), chance.choice(tables)
        match chance.randrange(3):
            case 0:
                made = one.filter(f"qty IS NULL OR qty <> {chance.randint(-3, 5)}")
            case 1:
                made = af.union(
                    one.filter("qty > 0").named(f"l{number}"), other.derive(qty="qty + 1").named(f"r{number}")
                ).filter("qty < 5")
            case _:
                kind = chance.choice(["semi", "anti"])
                made = one.join(
                    other.filter("qty >= 0").named(f"r{number}"), on=["key"], kind=kind, within="5s"
                )
        tables.append(made.named(f"t{number}"))
    joined = af.union(tables[-1].filter("true"), tables[-2].filter("true"))
    return case(joined.window(af.tumbling("10s"), by=["key"], n="count(*)").named("w"), "w.late")


@pytest.mark.parametrize("seed", range(200 if LONG else 12))
def test_barriers_pass_through_channels_of_one_message(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """No two tables wait for one another, and nothing comes out otherwise than without barriers."""
    monkeypatch.setattr(wires, "CHANNEL_BYTES", 1)
    chance = random.Random(seed)
    flow = random_case(chance)
    data = {name: pieces for name, pieces in of("a", "b")(chance).items() if name in names(flow.plan)}
    expected = whole(flow, data)
    with_barriers, found = snapshots(flow, data)
    assert with_barriers == expected
    assert [snapshot.epoch for snapshot in found] == list(range(1, len(found) + 1))
    assert len(found) >= sum(map(len, data.values())), "a barrier before each read"
    for snapshot in found:
        assert snapshot.states.keys() == {
            *names(flow.plan),
            *(stage.name for stage in flow.plan.stages),
            "out_0",
            "out_1",
        }


def names(plan: Plan) -> set[str]:
    return {source.name for source in plan.sources}


@pytest.mark.parametrize("seed", range(4))
def test_rows_taken_in_a_loop(seed: int) -> None:
    """``async for``: a snapshot is complete once the loop has asked for more, and what follows comes from the run that goes on from it."""
    chance = random.Random(seed)
    data = [
        {"ts": time_ms, "v": number}
        for number, time_ms in enumerate(sorted(chance.choices(range(9_000), k=12)))
    ]
    window = af.tumbling("1s")

    async def taken(begin: Snapshot | None, every: list[tuple[Snapshot, int]] | None) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        coordinator = Coordinator(
            begin, lambda found: every.append((found, len(rows))) if every is not None else None
        )

        async def before_read() -> None:
            if every is not None:
                await coordinator.trigger()

        objects = Objects(data, before_read)
        schema = {"ts": "timestamp[ms]", "v": "int64"}
        flow = af.source(objects, schema=schema, time="ts").window(window, n="count(*)", s="sum(v)")
        async for batch in iterate(flow.plan, coordinator=coordinator):
            rows += batch.to_pylist()
        return rows

    whole = asyncio.run(taken(None, None))
    every: list[tuple[Snapshot, int]] = []
    assert asyncio.run(taken(None, every)) == whole
    assert len(every) > len(data)
    for snapshot, count in every:
        assert whole[:count] + asyncio.run(taken(snapshot, None)) == whole
