"""Aggregates written in Python at every door: by name, as classes, in lists, in explain, and in errors."""

from __future__ import annotations

import asyncio
import importlib
import importlib.metadata
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import asyncflow as af
from asyncflow.cli import run_command
from asyncflow.doors.expressions.expression_text import parse_expression
from asyncflow.errors import PipelineError, StageError
from asyncflow.model.batch import Batch
from asyncflow.model.columns import column_from_values
from asyncflow.model.components import registered
from asyncflow.model.schema import DataType, Schema
from asyncflow.plan.expressions.nodes import ColumnRef
from asyncflow.plan.stages.window import Window
from asyncflow.plan.windows import PerMessage
from asyncflow.testing import check_aggregate
from tests import strangers
from tests.operators_of import operator_of
from tests.own_aggregates import GeometricMean, Rows, Sum, Trace, Values, installed

ROWS = [{"ts": i * 1000, "key": "ab"[i % 2], "price": float(1 + i % 4), "qty": i} for i in range(40)]
SCHEMA = {"ts": "timestamp[ms]", "key": "string", "price": "float64", "qty": "int64"}
PIPELINE = """
[sources.rows]
type = "file"
path = "{path}"
time = "ts"
schema = {{ ts = "timestamp[ms]", key = "string", price = "float64", qty = "int64" }}
[stages.w]
type = "window"
window = {{ tumbling = "10s" }}
by = ["key"]
aggregates = {{ g = "{g}" }}
[sinks.out]
type = "stdout"
"""


@pytest.fixture
def _site(tmp_path: Path) -> Iterator[None]:
    (tmp_path / "site").mkdir()
    with installed(tmp_path / "site"):
        yield


def pipeline(folder: Path, g: str) -> str:
    (folder / "rows.ndjson").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    path = folder / "rows.toml"
    path.write_text(PIPELINE.format(path=folder / "rows.ndjson", g=g))
    return str(path)


def flow() -> af.Flow:
    return af.source(ROWS, schema=SCHEMA, time="ts")


async def rows_of(built: af.Flow) -> list[dict[str, Any]]:
    return [row async for batch in built for row in batch.to_pylist()]


def problem(g: Any) -> str:
    with pytest.raises(PipelineError) as caught:
        flow().window(af.tumbling("10s"), g=g).checked()
    return str(caught.value)


G = "geometric_mean(price) FILTER (WHERE qty > 3) / sum(qty)"


@pytest.mark.usefixtures("_site")
def test_three_doors(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = pipeline(tmp_path, G)
    assert run_command(["run", path]) == 0
    written = capfd.readouterr().out
    assert len(written.splitlines()) == 8
    options = f"--time ts:ms --window 10s --by key --input {tmp_path / 'rows.ndjson'}".split()
    assert run_command(["agg", *options, f"g={G}"]) == 0
    assert capfd.readouterr().out == written
    shape = af.tumbling("10s")
    by_name = asyncio.run(rows_of(flow().window(shape, by=["key"], g=G)))
    by_class = asyncio.run(
        rows_of(flow().window(shape, by=["key"], g=af.expression(G, geometric_mean=GeometricMean)))
    )
    assert by_name == by_class
    assert [row["g"] for row in by_name] == [json.loads(text)["g"] for text in written.splitlines()]
    filtered = flow().window(
        shape, by=["key"], g=af.aggregate(GeometricMean, "price", where="qty > 3"), s="sum(qty)"
    )
    assert [row["g"] / row["s"] for row in asyncio.run(rows_of(filtered))] == [row["g"] for row in by_name]


SPREAD = '''
import asyncflow as af

class Spread(af.Aggregate):
    """The distance from the least to the greatest value."""
    takes = returns = "int64"

    def __init__(self):
        self.ends = ()

    def update(self, x):
        self.ends = min((*self.ends, *x.tolist())), max((*self.ends, *x.tolist()))

    def merge(self, other):
        self.ends = self.ends and other.ends and (min(self.ends + other.ends), max(self.ends + other.ends)) or self.ends or other.ends

    def finish(self):
        return self.ends[1] - self.ends[0] if self.ends else None
'''


def test_a_new_aggregate_is_new_files_alone(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A package that nothing here knows: found by its entry point, run, listed, saved and held to its contract."""
    site = strangers.distribution(
        tmp_path / "site",
        {"asyncflow.aggregates": {"toy_spread": "toys.spread:Spread"}},
        {"toys/__init__.py": "", "toys/spread.py": SPREAD},
    )
    with strangers.installed(site):
        assert run_command(["run", pipeline(tmp_path, "toy_spread(qty) + count(*)")]) == 0
        written = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
        assert [row["g"] for row in written] == [8 + 5] * 8
        assert run_command(["list", "aggregates"]) == 0
        assert "toy_spread" in capfd.readouterr().out
        check_aggregate(importlib.import_module("toys.spread").Spread, [3, -1, 4, 1, -5, 9])


@pytest.mark.usefixtures("_site")
def test_what_is_shown(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = pipeline(tmp_path, G)
    assert run_command(["explain", path]) == 0
    shown = capfd.readouterr().out
    assert "aggregate g = geometric_mean(price) FILTER (WHERE qty > 3) / sum(qty)" in shown
    assert "python geometric_mean = tests.own_aggregates.GeometricMean" in shown
    assert "until the watermark reaches the window's end; with each an object of geometric_mean" in shown
    assert run_command(["list", "aggregates"]) == 0
    listed = capfd.readouterr().out
    assert "geometric_mean(float64) -> float64" in listed and "The geometric mean\n" in listed
    assert "trace(any, any) -> string" in listed
    assert "sum(int64) -> int64" in listed


@pytest.mark.usefixtures("_site")
@pytest.mark.parametrize(
    ("g", "said"),
    [
        ("geometric_maen(price)", "there is no function 'geometric_maen' (did you mean 'geometric_mean'?)"),
        (
            "geometric_maen(price) FILTER (WHERE qty > 1)",
            "there is no aggregate 'geometric_maen' (did you mean 'geometric_mean'?)",
        ),
        ("geometric_mean(key)", "geometric_mean does not take (string) (geometric_mean(float64) -> float64)"),
        ("geometric_mean(price, qty)", "geometric_mean does not take 2 arguments"),
        ("geometric_mean(DISTINCT price)", "DISTINCT is not supported in"),
        ("sum(own_sum(qty))", "the aggregate own_sum stands inside another aggregate"),
        ("geometric_mean(price) + qty", "column 'qty' stands outside an aggregate"),
        ("trace(price, key) * 2", "* does not take (string, int64)"),
    ],
)
def test_check(tmp_path: Path, capfd: pytest.CaptureFixture[str], g: str, said: str) -> None:
    assert run_command(["check", pipeline(tmp_path, g)]) == 2
    told = capfd.readouterr().err
    assert f"stages.w.aggregates.g: {said}" in told
    assert len(told.splitlines()) == 1


@pytest.mark.usefixtures("_site")
def test_not_in_a_condition() -> None:
    with pytest.raises(PipelineError, match="the aggregate own_sum cannot stand here"):
        flow().filter("own_sum(qty) > 1").checked()


def test_registered_ones_that_cannot_be_used(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    points = {
        "missing": "tests.own_aggregates:NotThere",
        "nowhere": "no_such_module_of_mine:X",
        "no_class": "tests.own_aggregates:installed",
        "sum": "tests.own_aggregates:GeometricMean",
    }
    with installed(tmp_path, points):
        assert (
            "the aggregate 'missing' cannot be imported (tests.own_aggregates:NotThere): AttributeError"
            in problem("missing(qty)")
        )
        assert "ModuleNotFoundError" in problem("nowhere(qty)")
        assert "an aggregate is a class with update, merge and finish" in problem("no_class(qty)")
        flow().window(g="sum(qty)").checked()  # our own comes first
        assert run_command(["list", "aggregates"]) == 0
        assert "ModuleNotFoundError" in capfd.readouterr().out


def test_nothing_is_looked_up_where_all_names_are_ours(tmp_path: Path) -> None:
    path = pipeline(tmp_path, "sum(qty)")
    code = f"import sys\nfrom asyncflow.cli import run_command\nassert run_command(['run', {path!r}]) == 0\n"
    code += "assert 'importlib.metadata' not in sys.modules"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


class NoMerge(af.Aggregate):
    returns = "int64"

    def update(self, x: Any) -> None: ...

    def finish(self) -> int:
        return 0


class Whole(Sum):
    returns = "integer"


class Untyped(Sum):
    returns = None  # type: ignore[assignment]


class Strange(Sum):
    takes = "number"


class NoArgument(Sum):
    takes = ""

    def update(self) -> None:  # type: ignore[override]
        ...


@pytest.mark.parametrize(
    ("cls", "said"),
    [
        (NoMerge, "NoMerge has no method merge"),
        (
            Whole,
            "Whole returns 'integer', which is no type: there is bool, int64, float64, string, timestamp",
        ),
        (Untyped, "Untyped does not say what it returns"),
        (Strange, "Strange takes 'number', which is no type"),
        (NoArgument, "NoArgument has no argument"),
        (GeometricMean(), "an aggregate is a class with update, merge and finish, not <"),
    ],
)
def test_classes_that_are_none(cls: Any, said: str) -> None:
    with pytest.raises(PipelineError) as caught:
        af.aggregate(cls, "price")
    assert said in str(caught.value)


def test_what_is_wrong_with_an_expression_of_classes() -> None:
    with pytest.raises(PipelineError, match=r"there is no g\(\.\.\.\) in 'sum\(qty\)'"):
        af.expression("sum(qty)", g=GeometricMean)
    with pytest.raises(PipelineError, match="cannot read"):
        af.aggregate(GeometricMean, "price +")
    assert "stages.stage_1.aggregates.g: GeometricMean does not take (string)" in problem(
        af.aggregate(GeometricMean, "key")
    )
    assert "there is no column 'pirce' (did you mean 'price'?)" in problem(
        af.aggregate(GeometricMean, "pirce")
    )


def test_classes_in_every_part_of_an_expression() -> None:
    text = "CASE WHEN g(price) IS NULL THEN CAST(s(qty) AS float64) ELSE coalesce(g(price), s(qty)) END"
    built = flow().window(x=af.expression(text, g=GeometricMean, S=Sum))
    assert "python s = tests.own_aggregates.Sum" in built.explain()
    built.checked()


# -- while it runs -----------------------------------------------------------------------------------------------------


def broken(method: str) -> type:
    def fail(self: Any, *args: Any) -> Any:
        raise ValueError(f"no {method} today")

    return type("Broken", (Sum,), {method: fail, "__module__": "mine"})


@pytest.mark.parametrize(
    ("method", "shape"),
    [
        ("__init__", af.tumbling("10s")),
        ("update", af.session("5s")),
        ("update", af.tumbling("10s")),
        ("merge", af.hopping("10s", "2s")),
        ("merge", af.cumulate("20s", "5s")),
        ("finish", af.tumbling("10s")),
        ("finish", af.all_rows()),
        ("finish", af.count(3)),
    ],
)
async def test_what_a_class_raises_is_told_with_its_place(method: str, shape: Any) -> None:
    built = flow().window(shape, x=af.aggregate(broken(method), "qty")).named("sums")
    with pytest.raises(StageError) as caught:
        await rows_of(built)
    assert (
        str(caught.value)
        == f"sums: the aggregate Broken (mine.Broken): {method} raised ValueError: no {method} today"
    )
    assert isinstance(caught.value.__cause__, ValueError)


def giving(value: Any, type_: str) -> type:
    return type("Giving", (Sum,), {"finish": lambda self: value, "returns": type_, "__module__": "mine"})


@pytest.mark.parametrize(
    ("value", "type_", "said"),
    [
        ("abc", "float64", "'abc' (str), not float64 or None"),
        (1.0, "int64", "1.0 (float), not int64 or None"),
        (True, "int64", "True (bool), not int64 or None"),
        (1, "bool", "1 (int), not bool or None"),
        (1, "string", "1 (int), not string or None"),
        (2**63, "int64", "9223372036854775808, which is beyond the range of int64"),
        (10**400, "float64", "which is beyond the range of float64"),
        ("\ud800", "string", "which is no text: it cannot be written as UTF-8"),
        (np.zeros(2), "float64", "array([0., 0.]) (ndarray), not float64 or None"),
        ("2024-01-01", "timestamp", "'2024-01-01' (str), not timestamp or None"),
    ],
)
async def test_a_result_of_another_type(value: Any, type_: str, said: str) -> None:
    with pytest.raises(StageError) as caught:
        await rows_of(flow().window(af.tumbling("10s"), x=af.aggregate(giving(value, type_), "qty")))
    assert str(caught.value).startswith("stage_1: the aggregate Giving (mine.Giving): finish gave ")
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("value", "type_", "given"),
    [
        (np.float32(0.5), "float64", 0.5),
        (3, "float64", 3.0),
        (np.int8(-1), "int64", -1),
        (np.bool_(True), "bool", True),
        (np.str_("x"), "string", "x"),
        (np.ma.masked, "float64", None),
        (None, "string", None),
        (np.datetime64("1970-01-01T00:00:01"), "timestamp", 10**9),
        (np.datetime64("NaT"), "timestamp", None),
        (7, "timestamp", 7),
    ],
)
async def test_results_that_fit(value: Any, type_: str, given: Any) -> None:
    [row] = await rows_of(flow().window(x=af.aggregate(giving(value, type_), "qty")))
    assert row == {"x": given} and type(row["x"]) is type(given)


def test_the_command_says_it_in_a_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    site = tmp_path / "site"
    site.mkdir()
    (site / "mine_that_fails.py").write_text(
        "class Fails:\n    returns = 'int64'\n    def update(self, x): raise OSError('gone')\n"
        "    def merge(self, other): pass\n    def finish(self): return 0\n"
    )
    with installed(site, {"fails": "mine_that_fails:Fails"}):
        path = pipeline(tmp_path, "fails(qty)")
        assert run_command(["run", path]) == 1
        told = capfd.readouterr().err
        assert told == "error: w: the aggregate fails (mine_that_fails.Fails): update raised OSError: gone\n"
        assert run_command(["run", "-v", path]) == 1
        assert "Traceback" in capfd.readouterr().err
    sys.modules.pop("mine_that_fails", None)


def test_a_window_for_each_message() -> None:
    schema = Schema.of([("key", DataType.STRING), ("qty", DataType.INT64)])
    stage = Window(
        "w", ("s",), PerMessage(), (("key", ColumnRef("key")),), (("s", af.aggregate(Sum, "qty")),)
    )
    window = operator_of(stage, schema)

    def message(*pairs: tuple[str, int | None]) -> list[Any]:
        columns = [[key for key, _ in pairs], [qty for _, qty in pairs]]
        made = tuple(column_from_values(field.type, c) for field, c in zip(schema, columns, strict=True))
        return [
            row
            for output in window.process(Batch(schema, made, len(pairs)))
            for row in output.batch.to_pylist()
        ]

    assert message(("b", 1), ("a", 2), ("b", 3)) == [{"key": "a", "s": 2}, {"key": "b", "s": 4}]
    assert message(("b", None)) == [{"key": "b", "s": None}]
    assert [*window.finish()] == []


async def test_a_class_may_keep_its_arrays_and_write_to_them() -> None:
    class Keeps(af.Aggregate):
        returns = "float64"

        def __init__(self) -> None:
            self.kept: list[Any] = []

        def update(self, x: Any) -> None:
            x += 1
            self.kept.append(x)

        def merge(self, other: Keeps) -> None:
            self.kept += other.kept

        def finish(self) -> float:
            return float(sum(x.sum() for x in self.kept))

    built = flow().window(
        af.hopping("10s", "5s"),
        k=af.aggregate(Keeps, "price"),
        again=af.aggregate(Keeps, "price", where="TRUE"),
        s="sum(price + 1)",
    )
    rows = await rows_of(built)
    assert len(rows) > 1
    for row in rows:
        assert row["k"] == row["again"] == row["s"]


# -- the check for authors ---------------------------------------------------------------------------------------------


def test_check_aggregate_passes_what_is_right() -> None:
    check_aggregate(GeometricMean, [1.5, 2.0, 8.0, 0.25] * 5)
    check_aggregate(Sum, np.arange(30))  # type: ignore[arg-type]
    check_aggregate(Values, [])
    check_aggregate(Rows, ["a", "b", "c"])


class KeepsTheOther(Values):
    def merge(self, other: Values) -> None:
        if self.values:
            self.values.extend(other.values)
        else:
            self.values = other.values


class Drains(Values):
    def finish(self) -> Any:
        values, self.values = self.values, []
        return sum(values)


class LastOnly(Values):
    def update(self, x: Any) -> None:
        self.values = x.tolist()


class Text(Values):
    def finish(self) -> str:
        return "x"


@pytest.mark.parametrize(
    ("cls", "said"),
    [
        (KeepsTheOther, "merging changed what was merged"),
        (Drains, "finish changed the object"),
        (LastOnly, "cut at"),
        (Text, "finish gave 'x' \\(str\\), not float64"),
    ],
)
def test_check_aggregate_finds_what_is_wrong(cls: Any, said: str) -> None:
    with pytest.raises(AssertionError, match=said):
        check_aggregate(cls, [1.0, 2.0, 3.5, 4.0, 8.0])


def test_check_aggregate_finds_order() -> None:
    with pytest.raises(AssertionError, match=r"cut at|merged of"):
        check_aggregate(Trace, [1, 2, 3], ["a", "b", "c"])


def test_the_registry_is_what_the_interpreter_knows() -> None:
    registered.cache_clear()
    known = {point.name for point in importlib.metadata.entry_points(group="asyncflow.aggregates")}
    assert set(registered("asyncflow.aggregates")) == known


async def test_their_rows_go_on_as_any_window_s() -> None:
    """Through a top, and through a window over windows."""
    shape = af.tumbling("10s")
    own = flow().window(shape, by=["key"], v=af.aggregate(Sum, "qty"))
    built_in = flow().window(shape, by=["key"], v="sum(qty)")
    for more in (
        lambda each: each.top(1, order=["v DESC"]),
        lambda each: each.window(af.tumbling("20s"), most="max(v)", n="count(*)"),
    ):
        found = await rows_of(more(own))
        assert found and found == await rows_of(more(built_in))
    over = built_in.window(af.tumbling("20s"), t=af.aggregate(Sum, "v"), e="sum(v)")
    rows = await rows_of(over)
    assert rows and [row["t"] for row in rows] == [row["e"] for row in rows]


async def test_what_a_run_holds_can_be_asked() -> None:
    """State, open windows and the rows in them, with a class as without one."""
    schema = Schema.of([("key", DataType.STRING), ("qty", DataType.INT64)])
    columns = (column_from_values(DataType.STRING, ["a", "b"]), column_from_values(DataType.INT64, [1, 2]))
    times = np.array([1, 2]) * 1_000_000_000
    for shape in (af.tumbling("10s"), af.session("1s"), af.count(3)):
        held = []
        for made in (af.aggregate(Sum, "qty"), af.expression("g(qty)", g=Sum), parse_expression("sum(qty)")):
            stage = Window("w", ("s",), shape, (("key", ColumnRef("key")),), (("v", made),))
            operator = operator_of(stage, schema)
            operator.process(Batch(schema, columns, 2, times))
            assert operator.state_bytes > 0
            held.append((operator.open_windows, operator.waiting_rows, operator.next_due_ns))
        assert held[0] == held[1] == held[2] and held[0][0] > 0
