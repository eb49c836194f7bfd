"""Windows with corrections and cumulating windows: against their plain twin, however the input is cut."""

from __future__ import annotations

import asyncio
import json
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

import asyncflow as af
from asyncflow.model.batch import END_OF_TIME, NO_TIME, Batch
from asyncflow.model.columns import column_from_values
from asyncflow.model.schema import DataType, Schema
from asyncflow.operators.aggregates.table import AggregateSpec
from asyncflow.operators.bounds import WindowLattice
from asyncflow.operators.contract import Output
from asyncflow.operators.windows import revised, slots
from asyncflow.operators.windows.revised import RevisedWindowOperator
from asyncflow.operators.windows.window import Prepared
from asyncflow.plan.tables import Component
from tests.laws.flows import bind, execute, outcome
from tests.operators.revised_twin import Shape, Twin

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
    return [b"".join(parts[a:b]) for a, b in pairwise(places)]


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


@few
@given(
    shape=shapes(),
    table=some_order,
    lateness=st.sampled_from([0, 5, 30]),
    emit=st.sampled_from([None, 3]),
    entries=st.sampled_from([1, 3, 7]),
)
def test_small_pieces_and_forgotten_slots_change_nothing(
    shape: Shape, table: Rows, lateness: int, emit: int | None, entries: int
) -> None:
    text = pipeline(shape, lateness, emit)
    whole = outcome(text, [csv(table)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(revised, "MAX_ENTRIES", entries)
        patch.setattr(revised, "MAX_OUTPUT_ROWS", 2)
        patch.setattr(slots, "FEW_SLOTS", 0)
        patch.setattr(slots, "NEAR_WINDOWS", 2)
        assert outcome(text, cut(csv(table), list(range(100)))) == whole


@few
@given(shape=shapes(), table=some_order, emit=st.sampled_from([None, 2]))
def test_last_revisions_are_what_a_run_without_late_rows_gives(
    shape: Shape, table: Rows, emit: int | None
) -> None:
    sent = lines(outcome(pipeline(shape, 1000, emit), [csv(table)])[0]["out"])
    last = {row[:3]: row for row in sent}
    in_time = lines(outcome(pipeline(shape), [csv(sorted(table))])[0]["out"])
    assert sorted(row[:5] for row in last.values()) == sorted(in_time)
    assert all(row[-1] for row in last.values())
    assert sorted(row[:3] for row in sent if row[-1]) == sorted(last)
    for place in last:
        assert [row[-2] for row in sent if row[:3] == place] == list(range(last[place][-2] + 1))


def test_a_late_row_sends_its_window_again() -> None:
    table = [
        (5, "a", 1),
        (6, "b", 1),
        (12, "a", 1),
        (7, "a", 10),
        (7, "a", 20),
        (14, "b", 1),
        (4, "b", 5),
        (15, "a", 1),
        (8, "a", 9),
    ]
    sinks, ledger = outcome(pipeline(Shape("tumbling", 10, 10), lateness=5), [csv(table)])
    assert lines(sinks["out"]) == [
        (0, 10, "a", 1, 1, 0, False),
        (0, 10, "b", 1, 1, 0, False),
        (0, 10, "a", 2, 11, 1, False),
        (0, 10, "a", 3, 31, 2, False),
        (0, 10, "b", 2, 6, 1, False),
        (0, 10, "a", 3, 31, 3, True),
        (0, 10, "b", 2, 6, 2, True),
        (10, 20, "a", 2, 2, 0, True),
        (10, 20, "b", 1, 1, 0, True),
    ]
    assert lines(sinks["late"]) == [(8, "a", 9)]
    counts = ledger["stages"]["w"]
    assert (counts["late"], counts["corrections"], counts["aggregated"]) == (1, 3, 8)


def test_windows_are_sent_before_their_end_where_they_changed() -> None:
    table = [(1, "a", 1), (2, "b", 1), (4, "a", 1), (7, "b", 1), (8, "b", 1), (31, "c", 1)]
    sinks, _ = outcome(pipeline(Shape("tumbling", 20, 20), emit=5), [csv(table)])
    assert lines(sinks["out"]) == [
        (0, 20, "a", 2, 2, 0, False),
        (0, 20, "b", 2, 2, 0, False),  # the row of 7 is in: it came before the watermark passed 5
        (0, 20, "b", 3, 3, 1, False),
        (20, 40, "c", 1, 1, 0, False),
        (0, 20, "a", 2, 2, 1, True),
        (0, 20, "b", 3, 3, 2, True),
        (20, 40, "c", 1, 1, 1, True),
    ]


def test_cumulating_windows_grow_until_they_are_full() -> None:
    table = [(0, "a", 1), (3, "b", 2), (5, "a", 4), (2, "a", 8), (13, "a", 16), (6, "b", 32)]
    sinks, ledger = outcome(pipeline(Shape("cumulate", 12, 4)), [csv(table)])
    assert lines(sinks["out"]) == [
        (0, 4, "a", 1, 1),
        (0, 4, "b", 1, 2),
        (0, 8, "a", 3, 13),
        (0, 8, "b", 1, 2),
        (0, 12, "a", 3, 13),
        (0, 12, "b", 1, 2),
        (12, 16, "a", 1, 16),
        (12, 20, "a", 1, 16),
        (12, 24, "a", 1, 16),
    ]
    assert lines(sinks["late"]) == [(6, "b", 32)]
    counts = ledger["stages"]["w"]
    assert (counts["late_partly"], counts["windows_opened"], counts["windows_closed"]) == (1, 6, 6)


def test_nothing_comes_of_nothing() -> None:
    for shape in (Shape("cumulate", 4, 2), Shape("tumbling", 4, 4)):
        sinks, ledger = outcome(pipeline(shape, 5, 1), [b"ts,key,value\n"])
        assert sinks == {"out": b"", "late": b""} and ledger["stages"]["w"]["rows_out"] == 0


@few
@given(table=rows.map(sorted), lateness=st.integers(0, 9), emit=st.integers(1, 9))
def test_final_rows_arrive_in_time_for_windows_over_them(table: Rows, lateness: int, emit: int) -> None:
    """A window over the final rows of windows of 5 s has all of them, however long those waited for corrections."""
    above = """
[stages.done]
type = "filter"
where = "final"
[stages.total]
type = "window"
window = { tumbling = "10s" }
by = ["key"]
aggregates = { n = "sum(n)", s = "sum(s)" }
[sinks.out]"""
    text = pipeline(Shape("tumbling", 5, 5), lateness, emit).replace("[sinks.out]", above.lstrip(), 1)
    sinks, ledger = outcome(text, [csv(table)])
    assert sinks["out"] == outcome(pipeline(Shape("tumbling", 10, 10)), [csv(table)])[0]["out"]
    assert ledger["stages"]["total"]["late"] == 0


@few
@given(
    left=some_order,
    right=some_order,
    lateness=st.sampled_from([0, 5]),
    emit=st.sampled_from([None, 3]),
    delays=st.tuples(st.integers(0, 4), st.integers(0, 4)),
    places=st.lists(st.integers(0, 100), max_size=8),
)
def test_several_inputs_that_end_are_cut_anywhere(
    left: Rows, right: Rows, lateness: int, emit: int | None, delays: tuple[int, int], places: list[int]
) -> None:
    """Rows of several inputs are merged by event time; what is sent depends on neither's batches, and no row is lost."""
    text = pipeline(Shape("tumbling", 6, 6), lateness, emit, delays[0])
    other = text[: text.index("[stages.w]")].replace(f'"{delays[0]}s"', f'"{delays[1]}s"')
    other = other.replace("rows]", "more]").replace('"stdin"', '"file"\npath = "more.csv"')

    def run(*pieces: list[bytes]) -> tuple[dict[str, bytes], dict[str, Any]]:
        plan, sinks = bind(other + text, [])
        sources = [
            replace(s, connector=Component("python", object=p))
            for s, p in zip(plan.sources, pieces, strict=True)
        ]
        ledger = asyncio.run(execute(replace(plan, sources=tuple(sources)))).to_dict()
        return {name: sink.data for name, sink in sinks.items()}, ledger["stages"]["w"]

    whole = run([csv(right)], [csv(left)])
    assert run(cut(csv(right), places), cut(csv(left), places[::2])) == whole
    finals = [row for row in lines(whole[0]["out"]) if (lateness == 0 and emit is None) or row[-1]]
    assert sum(row[3] for row in finals) == len(left) + len(right) - len(lines(whole[0]["late"]))


# -- the operator by itself --------------------------------------------------------------------------------------------

ROWS = Schema.of([("key", DataType.STRING), ("value", DataType.INT64)])


def operator(**options: Any) -> RevisedWindowOperator:
    return RevisedWindowOperator(
        keys=Schema.of([("key", DataType.STRING)]),
        aggregates=[AggregateSpec("count", (), ()), AggregateSpec("sum", (0,), (DataType.INT64,))],
        names=["n", "s"],
        prepare=lambda batch, _: Prepared((batch.columns[0],), (batch.columns[1],), ()),
        **options,
    )


def batch(table: list[tuple[int, str | None, int | None]], **more: Any) -> Batch:
    columns = tuple(
        column_from_values(field.type, [row[k + 1] for row in table]) for k, field in enumerate(ROWS)
    )
    return Batch(ROWS, columns, len(table), np.array([row[0] for row in table], np.int64), **more)


def rows_of(outputs: list[Output]) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for output in outputs if not output.kind for row in output.batch.to_pylist()]


def test_keys_are_ordered_nulls_last() -> None:
    made = operator(lattice=WindowLattice(10, 10), revisions=False)
    made.process(batch([(1, None, 1), (2, "b", None), (3, "", 2), (4, "a", 2)]))
    assert rows_of(made.advance(10)) == [
        (0, 10, "", 1, 2),
        (0, 10, "a", 1, 2),
        (0, 10, "b", 1, None),
        (0, 10, None, 1, 1),
    ]


def test_where_inputs_are_taken_as_they_come_only_the_stage_moves_the_watermark() -> None:
    made = operator(lattice=WindowLattice(10, 10), lateness_ns=10, by_rows=False)
    assert rows_of(made.process(batch([(1, "a", 1), (99, "a", 1)]))) == []
    assert rows_of(made.process(batch([(2, "a", 1)], watermark_before=99))) == []
    assert rows_of(made.advance(12)) == [(0, 10, "a", 2, 2, 0, False)]
    assert rows_of(made.process(batch([(3, "a", 1)]))) == [(0, 10, "a", 3, 3, 1, False)]
    assert rows_of(made.advance(20)) == [(0, 10, "a", 3, 3, 2, True)]


def test_rows_carry_the_watermark_at_which_they_are_sent() -> None:
    made = operator(lattice=WindowLattice(10, 10), lateness_ns=4, emit_every_ns=6)
    outputs = made.process(
        batch([(1, "a", 1), (8, "a", 1), (11, "a", 1), (3, "a", 1), (14, "a", 1), (30, "a", 1)])
    )
    sent = outputs[0].batch
    assert sent.watermarks is not None and sent.time is not None
    marks = list(zip(sent.time.tolist(), sent.watermarks.tolist(), strict=True))
    assert marks == [(9, 6 - 4 - 1), (9, 11 - 4), (19, 12 - 4 - 1), (9, 10 - 1)]
    assert made.held_ns == 4


def test_state_goes_with_the_watermark() -> None:
    made = operator(lattice=WindowLattice(10, 10), lateness_ns=10, emit_every_ns=7)
    sizes = []
    for step in range(12):
        table: list[tuple[int, str | None, int | None]] = [
            (step * 100 + k % 90, f"{step}:{k}", k) for k in range(20_000)
        ]
        made.process(batch(sorted(table)))
        made.advance(step * 100 + 99)
        sizes.append(made.state_bytes)
    assert made.open_windows < 5 and made.open_keys < 150_000
    assert max(sizes[6:]) < 1.5 * max(sizes[:6])


def test_overflow_is_null_and_counted() -> None:
    made = operator(lattice=WindowLattice(10, 10), lateness_ns=5)
    made.process(batch([(1, "a", 2**63 - 1), (2, "a", 1)]))
    assert rows_of(made.advance(10)) == [(0, 10, "a", 2, None, 0, False)]
    assert made.counts["overflow"] == 1


def test_rows_that_are_sent_twice_say_so() -> None:
    with pytest.raises(ValueError, match="more than once"):
        operator(lattice=WindowLattice(10, 10), lateness_ns=1, revisions=False)


@pytest.mark.parametrize("time", [NO_TIME + 1, 0, END_OF_TIME - 2, END_OF_TIME - 1])
async def test_windows_of_a_nanosecond_at_either_end_of_time(time: int) -> None:
    rows = [{"t": time + step, "x": step} for step in (0, 1, 0)]
    flow = af.source(
        rows,
        time="t",
        schema={"t": "timestamp[ns]", "x": "int64"},
        watermark_delay="9ns",
        max_future="100000d",
    ).window(af.tumbling("1ns"), n="count(*)", emit="updates")
    found = [row["n"] async for batch in flow for row in batch.to_pylist() if row["final"]]
    assert found == [2, 1]
