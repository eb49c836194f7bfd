"""A kind of stage of another distribution: one module, without a change to any file of asyncflow."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

import asyncflow as af
from asyncflow.cli import run_command
from asyncflow.doors.pipeline_file.json_schema import json_schema
from asyncflow.errors import PipelineError
from tests import strangers

EVERY = '''"""The stage ``every``: one row of so many."""

from functools import partial
from typing import Annotated, ClassVar, Literal

import msgspec
import numpy as np

from asyncflow.errors import Problem
from asyncflow.operators.contract import CountsOnly, Output
from asyncflow.plan.tables import Stage


class Every(Stage, frozen=True):
    """The first of each ``rows`` rows goes on."""

    rows: int

    type: ClassVar[str] = "every"
    side_outputs: ClassVar[tuple[str, ...]] = ("skipped",)
    by_time: ClassVar[bool] = False
    passes_rows: ClassVar[bool] = True

    @property
    def ways(self):
        return ("skipped", "rows_out")

    def output(self, read):
        return None if read[0] is None else read[0].plain()

    def reads(self, wanted, read, times):
        return (wanted,)

    def problems(self, read, plan):
        if self.rows < 1:
            yield Problem(self.path("rows"), "it must be at least 1")

    def describe(self, read):
        return {"every": f"{self.rows} rows"}

    def state_text(self):
        return None


class EveryTable(msgspec.Struct, kw_only=True, frozen=True):
    """Lets one row of so many pass; the others go to NAME.skipped."""

    type: Literal["every"]
    inputs: list[str] | None = None
    rows: Annotated[int, msgspec.Meta(description="Of how many rows one.")]


Table = EveryTable


def read(name, inputs, values, path, problems):
    return Every(name, inputs, values["rows"]) if "rows" in values else None


class EveryOperator(CountsOnly):
    def __init__(self, rows, output):
        super().__init__()
        self.output = output
        self._rows = rows
        self.counts = {"skipped": 0, "seen": 0}

    def process(self, batch):
        places = np.arange(self.counts["seen"], self.counts["seen"] + batch.num_rows)
        keep = places % self._rows == 0
        self.counts["seen"] += batch.num_rows
        self.counts["skipped"] += int(np.count_nonzero(~keep))
        yield Output(batch.take(np.flatnonzero(keep)))
        yield Output(batch.take(np.flatnonzero(~keep)), "skipped")


def build(table, site):
    return site.one_input(partial(EveryOperator, table.rows))
'''


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Path]:
    points = {
        "asyncflow.stages": {
            "every": "toy_stages.every",
            "half": "toy_stages.half",
            "misnamed": "toy_stages.misnamed",
            "broken": "toy_stages.broken",
        }
    }
    modules = {
        "toy_stages/__init__.py": "",
        "toy_stages/every.py": EVERY,
        "toy_stages/misnamed.py": EVERY.replace('Literal["every"]', 'Literal["misnamed"]'),
        "toy_stages/half.py": '"""Not whole."""\nTable = dict\n',
        "toy_stages/broken.py": "raise RuntimeError('no licence')\n",
    }
    folder = strangers.distribution(tmp_path / "site", points, modules)
    with strangers.installed(folder):
        yield folder


def pipeline(folder: Path, stage: str = 'type = "every"\nrows = 4', rows: int = 10) -> str:
    (folder / "numbers.csv").write_text("n\n" + "".join(f"{number}\n" for number in range(rows)))
    path = folder / "pipeline.toml"
    path.write_text(f"""
[sources.numbers]
type = "file"
path = "{folder}/numbers.csv"
schema = {{ n = "int64" }}
[stages.few]
{stage}
[stages.sum]
type = "window"
aggregates = {{ total = "sum(n)", rows = "count(*)" }}
[sinks.out]
type = "file"
path = "{folder}/out.jsonl"
[sinks.others]
type = "file"
path = "{folder}/others.jsonl"
inputs = ["few.skipped"]
""")
    return str(path)


@pytest.mark.usefixtures("site")
def test_it_runs_from_a_pipeline_file_with_its_side_output(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["run", pipeline(tmp_path), "--stats", str(tmp_path / "stats.json")]) == 0
    assert json.loads((tmp_path / "out.jsonl").read_text()) == {"total": 0 + 4 + 8, "rows": 3}
    others = [json.loads(line)["n"] for line in (tmp_path / "others.jsonl").read_text().splitlines()]
    assert others == [1, 2, 3, 5, 6, 7, 9]
    counts = json.loads((tmp_path / "stats.json").read_text())["stages"]["few"]
    assert (counts["rows_in"], counts["skipped"], counts["rows_out"]) == (10, 7, 3)


@pytest.mark.usefixtures("site")
async def test_it_runs_from_python() -> None:
    flow = af.source([{"n": number} for number in range(10)]).stage("every", rows=4)
    assert [row["n"] for row in (await flow.collect()).to_pylist()] == [0, 4, 8]
    with pytest.raises(PipelineError, match="did you mean 'every'"):
        af.source([{"n": 1}]).stage("evry", rows=4)


@pytest.mark.usefixtures("site")
def test_it_is_checked_explained_and_listed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = pipeline(tmp_path)
    assert run_command(["check", path]) == 0
    capfd.readouterr()
    assert run_command(["explain", path]) == 0
    shown = capfd.readouterr().out
    assert "few: every" in shown and "every 4 rows" in shown and "← few.skipped" in shown
    assert run_command(["list", "stages"]) == 0
    listed = capfd.readouterr().out
    assert (
        "Lets one row of so many pass" in listed
        and "rows (integer) required: Of how many rows one." in listed
    )
    kinds = [each["properties"]["type"].get("enum") for each in json_schema()["$defs"]["stage"]["oneOf"]]
    assert ["every"] in kinds


@pytest.mark.usefixtures("site")
@pytest.mark.parametrize(
    ("stage", "told"),
    [
        ('type = "every"\nrows = 0', "stages.few.rows: it must be at least 1"),
        ('type = "every"\nrow = 4', "stages.few.row: unknown key 'row' (did you mean 'rows'?)"),
        ('type = "every"\nrows = "four"', "stages.few.rows: expected a whole number"),
        ('type = "evry"\nrows = 4', "stages.few.type: unknown stage 'evry' (did you mean 'every'?)"),
        ('type = "misnamed"\nrows = 4', "stages.few.type: the stage 'misnamed' makes a 'every'"),
        ('type = "half"', "stages.few.type: the stage 'half' (toy_stages.half) has no 'read'"),
        (
            'type = "broken"',
            "stages.few.type: the stage 'broken' (toy_stages.broken) cannot be imported: RuntimeError: no licence",
        ),
    ],
)
def test_what_is_wrong_is_told(
    stage: str, told: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["check", pipeline(tmp_path, stage)]) == 2
    err = capfd.readouterr().err
    assert told in err and "Traceback" not in err


@pytest.mark.usefixtures("site")
def test_one_that_cannot_be_used_is_listed_with_the_reason(capfd: pytest.CaptureFixture[str]) -> None:
    assert run_command(["list", "stages"]) == 0
    listed = capfd.readouterr().out
    assert "has no 'read'" in listed and "no licence" in listed and "Keeps the rows" in listed


def test_it_is_gone_with_its_distribution(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run_command(["check", pipeline(tmp_path)]) == 2
    assert "unknown stage 'every'" in capfd.readouterr().err
