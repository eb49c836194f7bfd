"""Tables handed over in Python, objects that are none, and what functions give back: rows, or rejected rows, never the end of a run."""

from __future__ import annotations

import asyncio
import collections
import datetime as dt
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import asyncflow as af
from tests.runtime.flows_runtime import batches_of, given_rows, read_given

UTC = dt.UTC
NOON = dt.datetime(2024, 1, 1, 12, 0, 0, 5)
NOON_NS = 1_704_110_400_000_005_000


class Evil:
    def __repr__(self) -> str:
        raise RuntimeError("no words")

    __str__ = __repr__


# -- tables ---------------------------------------------------------------------------------------------------------------

XY = {"x": "int64", "y": "string"}
TWO = [{"x": 1, "y": "a"}, {"x": 2, "y": None}]


def structured() -> Any:
    return np.array([(1, "a"), (2, "b")], [("x", "i4"), ("y", "U3")])


@pytest.mark.parametrize(
    ("item", "wanted"),
    [
        ({"x": np.array([1, 2]), "y": ["a", None]}, TWO),
        ({"x": np.array([1, 2]), "y": "k"}, [{"x": 1, "y": "k"}, {"x": 2, "y": "k"}]),
        ({"x": np.array([1, 2])}, [{"x": 1, "y": None}, {"x": 2, "y": None}]),
        ({"z": np.array([1, 2])}, [{"x": None, "y": None}] * 2),
        ({"x": np.array([1, 2]), "y": np.array(["a", None], object), "z": np.zeros(2)}, TWO),
        ({"x": np.array([], np.int64), "y": []}, []),
        (structured(), [{"x": 1, "y": "a"}, {"x": 2, "y": "b"}]),
        (structured()[0], [{"x": 1, "y": "a"}]),
        (structured().view(np.recarray), [{"x": 1, "y": "a"}, {"x": 2, "y": "b"}]),
        (pd.DataFrame(TWO), TWO),
        (pd.DataFrame({"x": [1, None], "y": ["a", "b"]}), [{"x": 1, "y": "a"}, {"x": None, "y": "b"}]),
        (pd.DataFrame([[1, 5, "a"]], columns=["x", "x", "y"]), [{"x": 5, "y": "a"}]),
        (pd.DataFrame({"x": [], "y": []}), []),
        (pa.table([[1], [2], ["a"]], names=["x", "x", "y"]), [{"x": 2, "y": "a"}]),
        (pd.DataFrame({("x", "z"): [1]}), [{"x": None, "y": None}]),
        (pa.Table.from_pylist(TWO), TWO),
        (pa.RecordBatch.from_pylist(TWO), TWO),
        (pa.RecordBatchReader.from_batches(pa.Table.from_pylist(TWO).schema, pa.Table.from_pylist(TWO).to_batches()), TWO),
        (collections.UserDict({"x": 1, "y": "a"}), TWO[:1]),
        ({}, [{"x": None, "y": None}]),
    ],
)  # fmt: skip
def test_tables(item: Any, wanted: list[Any]) -> None:
    async def read() -> list[Any]:
        return [row async for b in af.source([item], schema=XY) for row in b.to_pylist()]

    assert asyncio.run(read()) == wanted


def test_types_of_polars_that_arrow_has_otherwise_or_not_at_all() -> None:
    pl = pytest.importorskip("polars")
    frame = pl.DataFrame(
        {
            "i": [2**100, 7, None],
            "c": ["a", None, "b"],
            "e": ["b", "a", None],
            "d": [dt.date(2024, 2, 29)] * 3,
        },
        {"i": pl.Int128, "c": pl.Categorical, "e": pl.Enum(["a", "b"]), "d": pl.Date},
    )
    schema = {"i": "int64", "c": "string", "e": "string", "d": "string"}
    wanted = [("7", None, "a"), (None, "b", None)]
    for given in (frame, {name: frame[name] for name in frame.columns}):
        rows, rejected = given_rows([given], schema)
        assert rows == [
            {"i": None if i is None else int(i), "c": c, "e": e, "d": "2024-02-29"} for i, c, e in wanted
        ]
        assert [reason for _, reason in rejected] == [f"i: not an int64: {2**100}"]


def test_records_in_a_column_are_read_by_their_fields() -> None:
    async def read() -> list[Any]:
        return (await af.source([{"a": structured()}]).collect()).to_pylist()

    assert asyncio.run(read()) == [{"a.x": 1, "a.y": "a"}, {"a.x": 2, "a.y": "b"}]


class Broken(collections.UserDict[str, Any]):
    def __iter__(self) -> Any:
        raise RuntimeError("no keys today")


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        ({"x": np.array([1, 2, 3]), "y": np.array(["a"])}, "the arrays differ in length: x 3, y 1"),
        (None, "not a dict, a batch or a table: NoneType"),
        ("text", "not a dict, a batch or a table: str"),
        (["x", 1], "not a dict, a batch or a table: list"),
        (np.arange(3), "not a dict, a batch or a table: ndarray"),
        (b"x", "bytes are records only with a format: say format=..."),
        (Evil(), "not a dict, a batch or a table: Evil"),
        (Broken({"x": 1}), "RuntimeError: no keys today"),
    ],
)
def test_an_object_that_holds_no_rows_is_one_rejected_row(item: Any, reason: str) -> None:
    row = {"x": 1, "y": "a"}
    flow = af.source([row, item, row], schema=XY)

    async def read() -> Any:
        rows = [each async for batch in flow for each in batch.to_pylist()]
        rejected = [each async for b in flow["source_1.rejected"] for each in b.to_pylist()]
        return rows, rejected, (await flow.to("null").run()).to_dict()["sources"]["source_1"]

    rows, [rejected], counts = asyncio.run(read())
    assert rows == [row, row]
    assert (rejected["reason"], rejected["position"]) == (reason, "row 2")
    assert (counts["rows"], counts["rejected"], counts["rows_out"]) == (3, 1, 2)


class NoArray:
    def __array__(self, *_: Any, **__: Any) -> Any:
        raise RuntimeError("not today")


def test_results_that_hold_no_rows_are_told_and_values_that_are_none_are_rejected() -> None:
    async def mapped(kind: str, result: Any) -> Any:
        flow = af.source([{"n": 1}], schema={"n": "int64"})
        return (await getattr(flow, kind)(lambda _: result, schema=XY).collect()).to_pylist()

    for result in (5, [{"x": 1}], {"x": np.array([1, 2]), "y": np.array(["a"])}, NoArray()):
        with pytest.raises(af.StageError, match="the function of map gives a batch, a table or None: "):
            asyncio.run(mapped("map", result))
    for result in (5, [{"x": 1}], {"x": np.array([1, 2])}):
        with pytest.raises(af.StageError, match="the function of map_rows gives a dict or None, not"):
            asyncio.run(mapped("map_rows", result))
    assert asyncio.run(mapped("map_rows", {"x": NoArray()})) == []
    assert asyncio.run(mapped("map", pd.DataFrame(TWO))) == TWO


def test_columns_of_a_batch_that_have_another_type_are_converted() -> None:
    [batch] = batches_of([{"x": "7", "y": "a"}, {"x": "no", "y": "b"}], {"x": "string", "y": "string"})
    assert given_rows([batch], XY) == (
        [{"x": 7, "y": "a"}],
        [('{"x": "no", "y": "b"}', 'x: not an int64: "no"')],
    )
    [times] = batches_of([{"t": NOON}], {"t": "timestamp"})
    assert given_rows([times], {"t": "string"})[0] == [{"t": "2024-01-01T12:00:00.000005Z"}]
    assert given_rows([times], {"t": "int64"})[0] == []


def test_one_object_filled_again_and_again_gives_what_it_held() -> None:
    async def source() -> AsyncIterator[Any]:
        row: dict[str, Any] = {"x": 0, "y": ["a"]}
        for number in range(3):
            row["x"] = number
            row["y"][0] = str(number)
            yield row
        arrays = {"x": np.zeros(1, np.int64), "y": np.array(["b"])}
        for number in range(3):
            arrays["x"][:] = number
            yield arrays

    rows, _ = asyncio.run(read_given(source(), XY, {}))
    assert [row["x"] for row in rows] == [0, 1, 2, 0, 1, 2]
    assert [row["y"] for row in rows] == ['["0"]', '["1"]', '["2"]', "b", "b", "b"]


def test_a_strange_first_object_decides_nothing() -> None:
    rows, rejected = given_rows([None, {}, {"x": None}, {"x": 5, "y": {"z": 1.5}}, {"x": 2.5}])
    assert rows[1:] == [{"x": None, "y.z": None}, {"x": 5.0, "y.z": 1.5}, {"x": 2.5, "y.z": None}]
    assert rejected == [("None", "not a dict, a batch or a table: NoneType")]


def test_objects_of_which_none_shows_a_column_are_told() -> None:
    with pytest.raises(
        af.DataError, match=r"none of its first 2 objects shows columns \(a NoneType came first\)"
    ):
        given_rows([None, 5])


def test_texts_that_a_function_gives_stay_texts() -> None:
    flow = af.source([{"x": 1}]).map_rows(lambda row: {**row, "day": "2024-01-01"})

    async def read() -> Any:
        return [row async for batch in flow for row in batch.to_pylist()]

    assert asyncio.run(read()) == [{"x": 1, "day": "2024-01-01"}]


def test_all_rows_as_one_batch() -> None:
    rows = [{"t": NOON_NS + 7, "x": 1}, {"t": None, "x": 2}]
    schema = {"t": "timestamp", "x": "int64"}
    batch = asyncio.run(af.source(rows, schema=schema).filter("x > 0").collect())
    assert batch.to_pylist() == rows
    assert batch.to_pylist(times="datetime")[0]["t"] == NOON.replace(tzinfo=UTC)
    empty = asyncio.run(af.source(rows, schema=schema).filter("x > 2").collect())
    assert (empty.num_rows, empty.schema.names) == (0, ("t", "x"))
    assert asyncio.run(af.source([]).collect()).num_rows == 0


def test_a_missing_library_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    class Foreign:
        def __arrow_c_stream__(self, requested_schema: object = None) -> object:
            raise AssertionError

    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(af.MissingExtraError, match=r"pip install 'asyncflow-streams\[arrow\]'"):
        asyncio.run(read_given([Foreign()], XY, {}))
