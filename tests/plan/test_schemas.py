"""Schemas of every table, and which columns of a source the plan reads."""

from __future__ import annotations

from msgspec.structs import replace

from asyncflow.doors.expressions.expression_text import parse_expression
from asyncflow.model.schema import DataType, Field, Schema
from asyncflow.plan.schemas import read_columns, table_schemas
from asyncflow.plan.stages.derive import Derive
from asyncflow.plan.stages.filter import Filter
from asyncflow.plan.stages.map import MapBatches
from asyncflow.plan.stages.window import Window
from asyncflow.plan.tables import Component, Plan, Sink, Source, Stage
from asyncflow.plan.windows import AllRows, Tumbling

COLUMNS = Schema(
    (
        Field("ts", DataType.TIMESTAMP, "ms"),
        Field("store", DataType.STRING),
        Field("qty", DataType.INT64),
        Field("price", DataType.FLOAT64),
    )
)
SALES = Source("sales", Component("stdin"), Component("csv"), COLUMNS, "ts")
KEEP = Filter("keep", ("sales",), parse_expression("qty > 0"))
MORE = Derive(
    "more", ("keep",), (("revenue", parse_expression("qty * price")), ("qty", parse_expression("qty + 0.5")))
)
COUNT = Window(
    "count",
    ("more",),
    Tumbling(60),
    (("store", parse_expression("store")),),
    (("n", parse_expression("sum(revenue)")),),
)
OUT = Sink("out", ("count",), Component("stdout"))


def plan(*stages: Stage, sinks: tuple[Sink, ...] = (), source: Source = SALES) -> Plan:
    return Plan("p", (source,), stages, sinks)


def types(schema: Schema | None) -> list[tuple[str, DataType]]:
    assert schema is not None
    return [(field.name, field.type) for field in schema]


def test_schemas_of_all_tables() -> None:
    schemas = table_schemas(plan(KEEP, MORE, COUNT, sinks=(OUT,)))
    assert schemas["sales"] == schemas["sales.future"] == COLUMNS
    assert types(schemas["keep"]) == types(COLUMNS)
    assert types(schemas["sales.rejected"]) == [
        (n, DataType.STRING) for n in ("record", "reason", "position")
    ]
    more = [
        ("ts", DataType.TIMESTAMP),
        ("store", DataType.STRING),
        ("qty", DataType.FLOAT64),
        ("price", DataType.FLOAT64),
        ("revenue", DataType.FLOAT64),
    ]
    assert types(schemas["more"]) == types(schemas["count.late"]) == more
    assert types(schemas["count"]) == [
        ("window_start", DataType.TIMESTAMP),
        ("window_end", DataType.TIMESTAMP),
        ("store", DataType.STRING),
        ("n", DataType.FLOAT64),
    ]


def test_a_window_without_bounds_has_no_bounds_columns() -> None:
    schemas = table_schemas(plan(KEEP, MORE, replace(COUNT, shape=AllRows())))
    assert types(schemas["count"])[0] == ("store", DataType.STRING)


def test_what_is_not_known_stays_unknown() -> None:
    schemas = table_schemas(plan(KEEP, MORE, COUNT, source=replace(SALES, schema=None)))
    assert schemas["sales"] is schemas["more"] is schemas["count"] is schemas["count.late"] is None
    assert schemas["sales.rejected"] is not None
    schemas = table_schemas(plan(KEEP, MORE, COUNT), incomplete={"more"})
    assert schemas["keep"] is not None and schemas["more"] is None and schemas["count"] is None
    mapped = MapBatches("more", ("sales",), len)
    assert table_schemas(plan(mapped, COUNT))["count"] is None
    assert table_schemas(plan(replace(mapped, schema=COLUMNS)))["more"] == COLUMNS


def test_an_inferred_schema_fills_in_what_was_left_out() -> None:
    inferred = Schema.of([("ts", DataType.INT64), ("store", DataType.STRING)])
    left_out = replace(SALES, schema=None)
    assert table_schemas(plan(source=left_out), {"sales": inferred})["sales"] == inferred
    schema = table_schemas(plan(source=replace(left_out, time_unit="s")), {"sales": inferred})["sales"]
    assert schema is not None and schema["ts"] == Field("ts", DataType.TIMESTAMP, "s")
    assert table_schemas(plan(), {"sales": inferred})["sales"] == COLUMNS


def reads(made: Plan) -> tuple[str, ...]:
    return read_columns(made, table_schemas(made))["sales"]


def test_only_columns_that_are_used_are_read() -> None:
    count = replace(COUNT, inputs=("sales",), aggregates=(("n", parse_expression("count(*)")),))
    assert reads(plan(count, sinks=(OUT,))) == ("ts", "store")
    assert reads(plan(replace(count, by=()), sinks=(OUT,))) == ("ts",)
    assert reads(plan(replace(count, by=()), source=replace(SALES, time=None))) == ()
    filtered = replace(count, aggregates=(("n", parse_expression("count(*) FILTER (WHERE price > 1)")),))
    assert reads(plan(filtered)) == ("ts", "store", "price")
    assert reads(plan(KEEP, replace(count, inputs=("keep",)))) == ("ts", "store", "qty")
    assert reads(plan(KEEP, MORE, COUNT)) == ("ts", "store", "qty", "price")


def test_a_derived_column_is_not_read_from_the_source() -> None:
    source = replace(
        SALES,
        schema=Schema((*COLUMNS.fields, Field("revenue", DataType.STRING), Field("x", DataType.STRING))),
    )
    assert reads(plan(KEEP, MORE, COUNT, source=source)) == ("ts", "store", "qty", "price")


def test_a_table_that_is_taken_whole_is_read_whole() -> None:
    assert reads(plan()) == COLUMNS.names
    assert reads(plan(KEEP)) == COLUMNS.names
    out = replace(OUT, inputs=("sales",))
    count = replace(COUNT, inputs=("sales",), aggregates=(("n", parse_expression("count(*)")),))
    assert reads(plan(count, sinks=(OUT, out))) == COLUMNS.names
    for name in ("sales.future", "count.late"):
        assert reads(plan(count, sinks=(OUT, replace(out, inputs=(name,))))) == COLUMNS.names
    assert reads(plan(count, sinks=(OUT, replace(out, inputs=("sales.rejected",))))) == ("ts", "store")
    mapped = MapBatches("m", ("sales",), len, schema=COLUMNS)
    assert reads(plan(mapped, replace(count, inputs=("m",)))) == COLUMNS.names


def test_a_stage_written_before_what_it_reads() -> None:
    assert reads(plan(COUNT, MORE, KEEP, sinks=(OUT,))) == ("ts", "store", "qty", "price")
