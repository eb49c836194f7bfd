"""One value model: the same objects as JSON text, dicts, arrays, batches, pandas, Polars and Arrow give the same rows.

What does not fit is a rejected row with its reason, the same one wherever it came from.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import decimal
import enum
import fractions
import json
import types
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import asyncflow as af
from tests.runtime.flows_runtime import REJECTED, Given, batches_of, given_rows, outcome

SCHEMA = {
    "b": "bool",
    "i": "int64",
    "f": "float64",
    "s": "string",
    "t": "timestamp",
    "ts": "timestamp[s]",
    "tm": "timestamp[ms]",
    "a.b": "int64",
    "a.c.d": "string",
}


def as_json(objects: list[Any], schema: Any = None, **options: Any) -> Given:
    text = "".join(json.dumps(each) + "\n" for each in objects)
    return given_rows([text.encode()] if text else [], schema, format="json", **options)


def same(one: Given, other: Given) -> bool:
    return repr(one) == repr(other)  # of NaN, too


# -- the same objects ---------------------------------------------------------------------------------------------------

NUMBERS = st.one_of(
    st.integers(-(2**70), 2**70),
    st.integers(-5, 5),
    st.floats(),
    st.floats(-1e19, 1e19),
    st.sampled_from([10**400, 2**53 + 1, 1e18, 9.3e18, 2.0**63, -(2.0**63), 1700000000.123456, 0.1, -0.0]),
)
TEXTS = st.one_of(
    st.text(st.characters(exclude_categories=())),
    st.sampled_from(
        ["7", " 8 ", "+9", "7.5", "7.0", "1e3", "nan", "inf", "t", "False", "2024-01-01", "a\ud800", "\ud83d"]
    ),
    st.sampled_from(["2024-01-01T10:00:00.123456789+02:00", "1500-01-01", "2024-13-01", "1700000000", ""]),
)
PLAIN = st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS)
VALUES = st.recursive(
    PLAIN,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("bcdxé"), inner),
    max_leaves=6,
)
KEYS = st.sampled_from([*SCHEMA, "a", "a.c", "x", "é"])
ROWS = st.lists(st.dictionaries(KEYS, VALUES, max_size=8), max_size=6)
FITTING = st.fixed_dictionaries(
    {
        "b": st.none() | st.booleans(),
        "i": st.none() | st.integers(-(2**63), 2**63 - 1),
        "f": st.none() | st.floats(),
        "s": st.none() | st.text(),
        "ts": st.none() | st.integers(-(2**33), 2**33),
        "a": st.none() | st.fixed_dictionaries({"b": st.none() | st.integers(-9, 9)}),
    }
)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(ROWS, st.sampled_from([None, "t", "ts", "tm"]))
def test_dicts_are_read_as_their_json_text(objects: list[dict[str, Any]], time: str | None) -> None:
    options = {} if time is None else {"time": time, "max_future": "100000d"}
    for each in objects:
        if type(each.get("t")) is int:  # ns in Python, which JSON has no words for
            del each["t"]
    assert same(given_rows(objects, SCHEMA, **options), as_json(objects, SCHEMA, **options))


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(*[VALUES] * 3), min_size=1, max_size=6))
def test_arrays_of_objects_are_read_as_rows(rows: list[tuple[Any, ...]]) -> None:
    for names in (("i", "s", "ts"), ("f", "b", "tm"), ("t", "a.b", "s")):
        schema = {name: SCHEMA[name] for name in names}
        arrays = {}
        for name, values in zip(names, zip(*rows, strict=True), strict=True):
            arrays[name] = np.empty(len(values), object)
            arrays[name][:] = values
        objects = [dict(zip(names, row, strict=True)) for row in rows]
        assert same(given_rows([arrays], schema), given_rows(objects, schema))


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(FITTING, min_size=1, max_size=6))
def test_tables_are_read_as_rows(objects: list[dict[str, Any]]) -> None:
    polars = pytest.importorskip("polars")
    schema = {name: SCHEMA[name] for name in ("b", "i", "f", "s", "ts", "a.b")}
    wanted = as_json(objects, schema)
    arrow = pa.schema(
        {
            "b": pa.bool_(),
            "i": pa.int64(),
            "f": pa.float64(),
            "s": pa.string(),
            "ts": pa.int64(),
            "a": pa.struct([("b", pa.int64())]),
        }
    )
    table = pa.Table.from_pylist(objects, arrow)
    assert same(given_rows([table], schema), wanted)
    assert same(given_rows(table, schema), wanted)
    assert same(given_rows(table.to_batches() or [table], schema), wanted)
    chunked = pa.concat_tables([table.slice(0, 1), table.slice(1)])
    assert same(given_rows([chunked], schema), wanted)
    assert same(given_rows(polars.from_arrow(table), schema), wanted)
    whole = as_json(objects, schema)[0]
    batch = next(iter(batches_of(objects, schema)))
    assert same(given_rows([batch], schema), (whole, []))


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(
        st.dictionaries(
            st.sampled_from(["p", "q", "r.s"]), PLAIN | st.dictionaries(st.sampled_from("uv"), PLAIN)
        ),
        min_size=1,
        max_size=5,
    )
)
def test_schemas_are_inferred_as_of_json(objects: list[dict[str, Any]]) -> None:
    try:
        wanted = as_json(objects)
    except (af.DataError, af.PipelineError):  # nothing to tell a column from
        with pytest.raises(af.DataError):
            given_rows(objects)
    else:
        assert same(given_rows(objects), wanted)


# -- values that JSON has no words for ----------------------------------------------------------------------------------

DAY = 86_400_000_000_000
UTC = dt.UTC
NOON = dt.datetime(2024, 1, 1, 12, 0, 0, 5)
NOON_NS = 1_704_110_400_000_005_000
BERLIN = dt.timezone(dt.timedelta(hours=1))


class Colour(enum.Enum):
    RED = "red"
    TWO = 2


class Number(enum.IntEnum):
    THREE = 3


class Text(str):
    def __str__(self) -> str:
        return "another"


class Evil:
    def __repr__(self) -> str:
        raise RuntimeError("no words")

    __str__ = __repr__


VALUES_OF_PYTHON: list[tuple[Any, str, Any]] = [
    (decimal.Decimal("1.5"), "float64", 1.5),
    (decimal.Decimal("1.50"), "string", "1.50"),
    (decimal.Decimal("1E+3"), "int64", 1000),
    (decimal.Decimal("1.5"), "int64", REJECTED),
    (decimal.Decimal("9223372036854775808"), "int64", REJECTED),
    (decimal.Decimal("NaN"), "int64", REJECTED),
    (decimal.Decimal("sNaN"), "float64", REJECTED),
    (decimal.Decimal("-Infinity"), "float64", float("-inf")),
    (decimal.Decimal("1700000000.000000001"), "timestamp[s]", 1_700_000_000_000_000_001),
    (fractions.Fraction(1, 2), "float64", 0.5),
    (fractions.Fraction(4, 2), "int64", 2),
    (fractions.Fraction(1, 2), "int64", REJECTED),
    (Colour.RED, "string", "red"),
    (Colour.TWO, "int64", 2),
    (Number.THREE, "int64", 3),
    (Number.THREE, "string", "3"),
    (Text("mine"), "string", "mine"),
    (b"abc", "string", "abc"),
    (b"\xff", "string", REJECTED),
    (bytearray(b"7"), "int64", 7),
    (memoryview(b"abcd")[::2], "string", "ac"),
    (NOON, "timestamp", NOON_NS),
    (NOON, "timestamp[ms]", NOON_NS),
    (NOON.replace(tzinfo=BERLIN), "timestamp", NOON_NS - 3_600_000_000_000),
    (NOON, "string", "2024-01-01T12:00:00.000005Z"),
    (NOON, "int64", REJECTED),
    (dt.date(2024, 1, 1), "timestamp", 1_704_067_200_000_000_000),
    (dt.date(2024, 1, 1), "string", "2024-01-01"),
    (dt.datetime(1, 1, 1), "timestamp", REJECTED),
    (dt.datetime(9999, 1, 1, tzinfo=UTC), "timestamp", REJECTED),
    (dt.time(12), "timestamp", REJECTED),
    (dt.timedelta(1), "int64", REJECTED),
    (dt.timedelta(1), "timestamp", REJECTED),
    (np.int8(-3), "int64", -3),
    (np.uint64(2**63), "int64", REJECTED),
    (np.uint64(2**63), "float64", 2.0**63),
    (np.uint64(2**63), "string", "9223372036854775808"),
    (np.float32(0.5), "float64", 0.5),
    (np.float16(2), "int64", 2),
    (np.float32(2.5), "int64", REJECTED),
    (np.longdouble("1e4000"), "float64", REJECTED),
    (np.longdouble("inf"), "float64", float("inf")),
    (np.complex128(1), "float64", REJECTED),
    (np.bool_(True), "bool", True),
    (np.bool_(True), "int64", REJECTED),
    (np.str_("x"), "string", "x"),
    (np.bytes_(b"x"), "string", "x"),
    (np.datetime64("1970-01-02"), "timestamp", DAY),
    (np.datetime64("1970-01-02"), "timestamp[s]", DAY),
    (np.datetime64("NaT", "s"), "timestamp", None),
    (np.datetime64("3000-01-01"), "timestamp", REJECTED),
    (np.datetime64("1970", "Y"), "timestamp", 0),
    (np.datetime64(10**9, "Y"), "timestamp", REJECTED),
    (np.datetime64(5, "ps"), "timestamp", 0),
    (np.timedelta64(5, "s"), "int64", REJECTED),
    (np.timedelta64(5, "ns"), "timestamp", REJECTED),
    (np.array(5), "int64", 5),
    (np.ma.masked, "int64", None),
    (pd.NA, "string", None),
    (pd.NaT, "timestamp", None),
    (pd.Timestamp("2024-01-01 12:00:00.000005001"), "timestamp", NOON_NS + 1),
    (10, "timestamp", 10),
    (2**63, "timestamp", REJECTED),
    (-(2**63), "timestamp", REJECTED),
    (10**12, "timestamp[s]", REJECTED),
    (True, "timestamp", REJECTED),
    (10**5000, "float64", REJECTED),
    (float("nan"), "float64", float("nan")),
    (float("nan"), "int64", REJECTED),
    ("a\ud800", "string", REJECTED),
    ("a\ud800", "int64", REJECTED),
    (["x", 1], "string", '["x", 1]'),
    (("x", None), "string", '["x", null]'),
    (
        [decimal.Decimal("0.5"), NOON, np.int64(3), b"b"],
        "string",
        '[0.5, "2024-01-01T12:00:00.000005Z", 3, "b"]',
    ),
    ([decimal.Decimal("0.12345678901234567890")], "string", REJECTED),
    ({"k": [1]}, "string", '{"k": [1]}'),
    (types.MappingProxyType({"k": 1}), "string", '{"k": 1}'),
    ({"x"}, "string", REJECTED),
    (object(), "string", REJECTED),
    (Evil(), "string", REJECTED),
    (Evil(), "timestamp", REJECTED),
    (len, "float64", REJECTED),
]


def circle() -> list[Any]:
    items: list[Any] = []
    items.append(items)
    return items


def deep() -> list[Any]:
    items: list[Any] = []
    for _ in range(100_000):
        items = [items]
    return items


@pytest.mark.parametrize(("value", "kind", "wanted"), VALUES_OF_PYTHON, ids=lambda each: type(each).__name__)
def test_values_of_python(value: Any, kind: str, wanted: Any) -> None:
    """Alone in a row, in a list of rows with others, in an array of objects, and given back by a function: all the same."""
    assert repr(outcome(given_rows([{"x": value}], {"x": kind}))) == repr(wanted)
    array = np.empty(1, object)
    array[0] = value
    assert repr(outcome(given_rows([{"x": array}], {"x": kind}))) == repr(wanted)
    flow = af.source([{"n": 1}], schema={"n": "int64"}).map_rows(lambda _: {"x": value}, schema={"x": kind})

    async def mapped() -> Given:
        rows = [row async for batch in flow for row in batch.to_pylist()]
        rejected = [(r["record"], r["reason"]) async for b in flow["stage_1.rejected"] for r in b.to_pylist()]
        return rows, rejected

    assert repr(outcome(asyncio.run(mapped()))) == repr(wanted)


@pytest.mark.parametrize("make", [circle, deep])
def test_lists_without_an_end(make: Callable[[], Any]) -> None:
    assert outcome(given_rows([{"x": tuple(make())}], {"x": "string"})) is REJECTED


# -- arrays -------------------------------------------------------------------------------------------------------------

S, MS = "M8[s]", "M8[ms]"
ARRAYS: list[tuple[Any, str, list[Any]]] = [
    (np.array([2**64 - 1, 5], np.uint64), "int64", [REJECTED, 5]),
    (np.array([2**63 - 1, 5], ">u8"), "int64", [2**63 - 1, 5]),
    (np.array([1, -2], ">i4"), "int64", [1, -2]),
    (np.arange(6, dtype=np.int16)[::2], "int64", [0, 2, 4]),
    (
        np.array([1.5, 2.0, np.nan, np.inf, 2.0**63, 1e18]),
        "int64",
        [REJECTED, 2, REJECTED, REJECTED, REJECTED, 10**18],
    ),
    (np.array([0.5, np.nan], np.float32), "float64", [0.5, float("nan")]),
    (np.array([0.5], np.float16), "float64", [0.5]),
    (np.array([2.0, 0.5, np.inf], np.float16), "int64", [2, REJECTED, REJECTED]),
    (np.array([2.0, -60000], np.float16), "int64", [2, -60000]),
    (np.array(["1e4000", "0.5", "nan"], np.longdouble), "float64", [REJECTED, 0.5, float("nan")]),
    (np.array([1 + 0j]), "float64", [REJECTED]),
    (np.array([True, False]), "bool", [True, False]),
    (np.array([True, False]), "string", ["true", "false"]),
    (np.array([1, 0]), "bool", [REJECTED, REJECTED]),
    (np.array([1, 2]), "string", ["1", "2"]),
    (np.array([0.1]), "string", ["0.1"]),
    (np.array([b"abc", b"\xff"]), "string", ["abc", REJECTED]),
    (np.array(["7", "x"]), "int64", [7, REJECTED]),
    (np.array(["3000-01-01", "1970-01-01", "NaT"], S), "timestamp", [REJECTED, 0, None]),
    (np.array(["1500-01-01", "1970-01-02"], "M8[D]"), "timestamp", [REJECTED, DAY]),
    (np.array(["1970-01-02", "NaT"], ">M8[h]"), "timestamp[s]", [DAY, None]),
    (np.array(["1971-01", "9000-01"], "M8[M]"), "timestamp", [365 * DAY, REJECTED]),
    (np.array(["1970-01-15"], "M8[W]"), "timestamp", [14 * DAY]),
    (np.array([3, 4], "M8[25s]"), "timestamp", [75_000_000_000, 100_000_000_000]),
    (np.array([1, 2], "M8[us]"), "string", ["1970-01-01T00:00:00.000001Z", "1970-01-01T00:00:00.000002Z"]),
    (np.array(["2024-02-29", "NaT"], "M8[D]"), "string", ["2024-02-29", None]),
    (np.array([7, -(2**63)]).view("M8"), "timestamp", [REJECTED, None]),
    (np.array([(1, 0.5)], [("a", "i4"), ("b", "f8")]), "string", ['{"a": 1, "b": 0.5}']),
    (np.array([1, 2], "m8[s]"), "int64", [REJECTED, REJECTED]),
    (np.array([1, "NaT"], "m8[s]"), "string", [REJECTED, None]),
    (np.array([1, 2], "m8[ns]"), "timestamp", [REJECTED, REJECTED]),
    (np.array([10**12, 1, -(10**12)]), "timestamp[s]", [REJECTED, 10**9, REJECTED]),
    (np.array([10**16, 1]), "timestamp[ms]", [REJECTED, 10**6]),
    (np.array([2**63, 1], np.uint64), "timestamp[ns]", [REJECTED, 1]),
    (np.array([0.0, np.nan, 1.5]), "timestamp[s]", [0, REJECTED, 1_500_000_000]),
    (np.array([0.0, 1.5, 2.0]), "timestamp[ms]", [0, REJECTED, 2_000_000]),
    (np.array([1.0]), "timestamp", [REJECTED]),
    (np.zeros((2, 2)), "float64", [REJECTED, REJECTED]),
    (np.zeros((2, 2)), "string", ["[0.0, 0.0]", "[0.0, 0.0]"]),
    (np.ma.masked_array([1, 2], [True, False]), "int64", [None, 2]),
    (np.ma.masked_array([2**64 - 1, 2], [True, False], np.uint64), "int64", [None, 2]),
    (np.ma.masked_array(["x", "y"], [True, False]), "string", [None, "y"]),
    (np.ma.masked_array([1.5, 2.0], [True, False]), "int64", [None, 2]),
    (pd.array([1, None], "Int64"), "int64", [1, None]),
    (pd.Series([1.5, None]), "float64", [1.5, None]),
    (pd.Series(["a", None, "a"], dtype="category"), "string", ["a", None, "a"]),
    (pd.Series([True, None], dtype="boolean"), "bool", [True, None]),
    (pd.Series(pd.to_datetime(["2024-01-01 12:00", None])), "timestamp", [NOON_NS - 5000, None]),
    (
        pd.Series(pd.to_datetime(["2024-01-01"]).tz_localize("Europe/Berlin")),
        "timestamp",
        [1_704_063_600_000_000_000],
    ),
    (pd.Series(["x", np.nan, None, pd.NA], dtype=object), "string", ["x", None, None, None]),
    (pd.Series([1, None], dtype="int64[pyarrow]"), "int64", [1, None]),
    (pa.array([2**64 - 1, 5, None], pa.uint64()), "int64", [REJECTED, 5, None]),
    (pa.array([decimal.Decimal("1.50")]), "string", ["1.50"]),
    (pa.array([decimal.Decimal("1.50"), None]), "float64", [1.5, None]),
    (pa.array([19_723, None], pa.date32()), "timestamp", [1_704_067_200_000_000_000, None]),
    (
        pa.array([32_503_680_000, 1, None], pa.timestamp("s", "Europe/Berlin")),
        "timestamp",
        [REJECTED, 10**9, None],
    ),
    (pa.array([0], pa.date64()), "string", ["1970-01-01"]),
    (pa.array(["a", None, "a"]).dictionary_encode(), "string", ["a", None, "a"]),
    (pa.array([5, None, 5]).dictionary_encode(), "int64", [5, None, 5]),
    (pa.array(["a", None], pa.large_string()), "string", ["a", None]),
    (pa.array([b"a", b"\xff"]), "string", ["a", REJECTED]),
    (pa.array([1, 2], pa.duration("s")), "int64", [REJECTED, REJECTED]),
    (pa.array([1, None], pa.time64("us")), "timestamp", [REJECTED, None]),
    (pa.array([0.5, None], pa.float16()), "float64", [0.5, None]),
    (pa.array([[1], None]), "string", ["[1]", None]),
    (pa.array([None, None]), "int64", [None, None]),
    (pa.chunked_array([[1], [None, 2]]), "int64", [1, None, 2]),
]


@pytest.mark.parametrize(("values", "kind", "wanted"), ARRAYS)
def test_arrays(values: Any, kind: str, wanted: list[Any]) -> None:
    rows, rejected = given_rows([{"x": values}], {"x": kind})
    assert repr([row["x"] for row in rows]) == repr([each for each in wanted if each is not REJECTED])
    assert len(rejected) == wanted.count(REJECTED)
    assert all(reason.startswith("x: not ") for _, reason in rejected)


@pytest.mark.parametrize(("values", "kind", "wanted"), ARRAYS)
def test_arrays_given_back_by_a_function(values: Any, kind: str, wanted: list[Any]) -> None:
    async def read() -> tuple[list[Any], list[Any], Any]:
        rows = [{"n": each} for each in range(len(wanted))]
        flow = (
            af.source(rows, schema={"n": "int64"}).map(lambda _: {"x": values}, schema={"x": kind}).named("m")
        )
        got = [row["x"] async for batch in flow for row in batch.to_pylist()]
        positions = [row["position"] async for b in flow["m.rejected"] for row in b.to_pylist()]
        return got, positions, (await flow.to("null").run()).to_dict()["stages"]["m"]

    rows, positions, counts = asyncio.run(read())
    assert repr(rows) == repr([each for each in wanted if each is not REJECTED])
    assert positions == [f"row {n}" for n, each in enumerate(wanted, 1) if each is REJECTED]
    assert (counts["rejected"], counts["rows_out"]) == (len(positions), len(rows))
