"""`asyncflow verify`: the same bytes however the input is cut, or the exit code says that they are not."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

import asyncflow as af
from asyncflow.cli import run_command
from asyncflow.runtime import Run
from asyncflow.runtime.checks.verify import MANNERS, Manner, verify
from asyncflow.runtime.ingest.way_out import WayOut

PIPELINE = """
[sources.hits]
type = "file"
path = "{path}"
format = "csv"
schema = {{ ts = "timestamp[ms]", host = "string", ms = "int64" }}
{time}

[stages.w]
type = "window"
window = {{ tumbling = "10s" }}
by = ["host"]
aggregates = {{ n = "count(*)", mean = "mean(ms)" }}

[sinks.out]
type = "file"
path = "{out}"

[sinks.late]
type = "null"
inputs = ["w.late"]
"""


@pytest.fixture
def pipeline(tmp_path: Path) -> Path:
    rows = (f"{n * 7 - (n % 13) * 900},{'abc'[n % 3]},{n}\n" for n in range(5000))
    (tmp_path / "hits.csv").write_text("ts,host,ms\n" + "".join(rows))
    path = tmp_path / "p.toml"
    path.write_text(
        PIPELINE.format(path=tmp_path / "hits.csv", out=tmp_path / "out.json", time='time = "ts"')
    )
    return path


def test_every_run_gives_the_same_and_nothing_is_written(
    pipeline: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["verify", str(pipeline)]) == 0
    out, err = capsys.readouterr()
    assert err.endswith(f"the same bytes in all {len(MANNERS)} runs\n")
    lines = out.splitlines()
    assert [line for line in lines if not line.startswith(" ")] == [str(manner) for manner in MANNERS]
    for name in ("out", "late"):
        told = {line for line in lines if line.startswith(f"  {name}: ")}
        assert len(told) == 1 and " 0 rows" not in told.pop()
    assert not (pipeline.parent / "out.json").exists()


def test_rows_without_a_time_get_the_same_one_in_every_run(
    pipeline: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pipeline.write_text(pipeline.read_text().replace('time = "ts"', ""))
    assert run_command(["verify", str(pipeline)]) == 0, capsys.readouterr().out


def test_a_run_that_differs_is_told(
    pipeline: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The input itself changes between two runs."""
    execute = Run.execute

    async def and_grows(run: Run, result: str | None = None) -> object:
        ledger = await execute(run, result)
        with (pipeline.parent / "hits.csv").open("a") as file:
            file.write("90000,d,1\n")
        return ledger

    monkeypatch.setattr(Run, "execute", and_grows)
    assert run_command(["verify", str(pipeline)]) == 1
    out, err = capsys.readouterr()
    assert err.endswith("p.toml: differs: out\n")
    assert out.count("DIFFERS") == len(MANNERS) - 1


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('type = "file"', 'type = "stdin"', "sources.hits.type: the source can be read only once"),
        (
            'format = "csv"',
            'format = "csv"\nfollow = true',
            "sources.hits.type: the source does not end by itself",
        ),
    ],
)
def test_input_that_cannot_be_read_twice(
    old: str, new: str, told: str, pipeline: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = pipeline.read_text().replace(old, new, 1)
    if "stdin" in new:
        text = text.replace(f'path = "{pipeline.parent / "hits.csv"}"\n', "")
    pipeline.write_text(text)
    assert run_command(["verify", str(pipeline)]) == 2
    assert told in capsys.readouterr().err


def test_a_manner_in_words() -> None:
    assert str(Manner(1, None)) == "1 worker, reads as they come"
    assert str(Manner(7, 4099)) == "7 workers, reads of at most 4,099 bytes"
    assert (
        str(Manner(1, 9, one_by_one=True))
        == "1 worker, the first records one by one, then reads of at most 9 bytes"
    )
    assert str(Manner(1, None, plain=True)) == "1 worker, reads as they come, the plainest instructions"


async def test_records_come_one_by_one(pipeline: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each in a batch of its own, as long as there is patience for it."""
    sizes: list[int] = []
    taken = WayOut.hand_on_decoded

    async def watched(
        way: WayOut, item: object, schema: object, result: object, *rest: object, **more: object
    ) -> None:
        if item.rows:  # type: ignore[attr-defined]  # a header alone is no record
            sizes.append(result.num_rows)  # type: ignore[attr-defined]
        await taken(way, item, schema, result, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(WayOut, "hand_on_decoded", watched)
    async for _ in verify(af.load(pipeline).plan, [Manner(1, None, one_by_one=True)]):
        pass
    assert set(sizes[:500]) == {1}
    assert sum(sizes) == 5000
    assert max(sizes) > 1000


async def test_rows_of_a_connector_come_one_by_one_too() -> None:
    text = '[sources.g]\ntype = "generate"\nrows = 100\nstart = "2024-01-01T00:00:00Z"\n[sinks.o]\ntype = "null"\n'
    run = [
        each async for each in verify(af.load(text).plan, [Manner(1, None), Manner(1, None, one_by_one=True)])
    ]
    assert run[1].differing == ()


async def test_a_run_elsewhere_has_the_plainest_instructions(
    pipeline: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environments: list[dict[str, str]] = []
    start = asyncio.create_subprocess_exec

    async def watched(*arguments: str, env: dict[str, str], **options: int) -> asyncio.subprocess.Process:
        environments.append(env)
        return await start(*arguments, env=env, **options)

    monkeypatch.setattr(asyncio, "create_subprocess_exec", watched)
    plan = af.load(pipeline).plan
    (here, there) = [each async for each in verify(plan, [Manner(1, None), Manner(1, None, plain=True)])]
    assert there.differing == () and there.sinks == here.sinks
    (environment,) = environments
    assert environment["ASYNCFLOW_CPU"] == "portable"
    assert "NPY_DISABLE_CPU_FEATURES" in environment
