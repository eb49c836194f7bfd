"""Door law: the same bytes by file, pipe, socket or async iterable, the same plan by TOML, one line or Python: byte-identical output."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import asyncflow as af
from asyncflow.runtime import Run
from asyncflow.testing import chunks
from tests.laws.flows import csv_bytes, outcome, pipeline

DATA = csv_bytes([(n * 37 % 9000 + n * 5, "abc"[n % 3], n / 7, n % 11 - 3) for n in range(3000)]) + b"1,two\n"
COMMAND = [sys.executable, "-m", "asyncflow"]


@pytest.fixture(params=["tumbling", "hopping", "session", "count", "filtered", "no stage"])
def stage(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def expected(stage: str) -> bytes:
    return outcome(pipeline(stage), [DATA])[0]["out"]


def with_source(stage: str, out: Path, source: str) -> str:
    """The law's pipeline with another source, and its result in a file."""
    text = pipeline(stage).replace('type = "stdin"', source, 1)
    head, _, tail = text.partition("[sinks.out]")
    return head + "[sinks.out]" + tail.replace('type = "null"', f'type = "file"\npath = "{out}"', 1)


async def test_a_file(stage: str, expected: bytes, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_bytes(DATA)
    text = with_source(stage, tmp_path / "out", f'type = "file"\npath = "{tmp_path}/in.csv"')
    await Run(af.load(text).plan, workers=2).execute()
    assert (tmp_path / "out").read_bytes() == expected


def test_a_pipe(stage: str, expected: bytes, tmp_path: Path) -> None:
    (tmp_path / "pipeline.toml").write_text(with_source(stage, tmp_path / "out", 'type = "stdin"'))
    done = subprocess.run(
        [*COMMAND, "run", "pipeline.toml", "--quiet"],
        cwd=tmp_path,
        input=DATA,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out").read_bytes() == expected


@pytest.mark.parametrize("kind", ["tcp", "unix"])
async def test_a_socket(stage: str, expected: bytes, tmp_path: Path, kind: str) -> None:
    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for piece in chunks(DATA, 3, 5000):
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        writer.close()
        await writer.wait_closed()

    if kind == "tcp":
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        where = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    else:
        where = str(tmp_path / "s")
        server = await asyncio.start_unix_server(serve, where)
    async with server:
        text = with_source(stage, tmp_path / "out", f'type = "{kind}"\nconnect = "{where}"')
        await asyncio.wait_for(Run(af.load(text).plan).execute(), 60)
    assert (tmp_path / "out").read_bytes() == expected


@pytest.mark.parametrize(
    ("written", "option", "shape"),
    [
        ('{ tumbling = "5s" }', "--window", af.tumbling("5s")),
        ('{ session = "5s" }', "--session", af.session("5s")),
    ],
)
def test_toml_one_line_and_python_say_the_same(written: str, option: str, shape: Any, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_bytes(DATA)
    toml = outcome(
        pipeline("no stage").split("[sinks.out]")[0]
        + f'[stages.w]\ntype = "window"\nwindow = {written}\nby = ["key"]\naggregates = {{ n = "count(*)", s = "sum(value)" }}\n'
        + '[sinks.out]\ntype = "null"\nformat = "json"\n',
        [DATA],
    )[0]["out"]
    aggregates = ["n=count(*)", "s=sum(value)"]
    options = ["--time", "ts:ms", "--delay", "2s", option, "5s", "--by", "key", "--input", "in.csv"]
    line = subprocess.run(
        [*COMMAND, "agg", *options, *aggregates], cwd=tmp_path, capture_output=True, timeout=60, check=False
    )
    assert line.returncode == 0, line.stderr
    assert line.stdout == toml
    schema = {"ts": "timestamp[ms]", "key": "string", "value": "float64", "qty": "int64"}
    out = tmp_path / "out.json"
    af.run(
        af.source("file", path=tmp_path / "in.csv", schema=schema, time="ts", watermark_delay="2s")
        .window(shape, by=["key"], n="count(*)", s="sum(value)")
        .to("file", path=out, format="json")
    )
    assert out.read_bytes() == toml
