"""One resource, two users: ``check`` refuses what cannot be shared, with path and tables, and accepts the rest."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import asyncflow as af
from asyncflow.doors.oneliner import AggOptions, plan_of
from asyncflow.errors import PipelineError

SCHEMA = 'schema = { v = "int64" }'


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in.csv").write_text("v\n1\n")
    (tmp_path / "there").write_text("")
    (tmp_path / "d").mkdir()
    os.symlink("there", "link")
    os.symlink("missing", "dangling")
    os.link("there", "hard")
    os.symlink("d", "e")
    os.mkfifo("fifo")
    return tmp_path


def sink(name: str, text: str) -> str:
    return f"[sinks.{name}]\n{text}\n" + ("" if "null" in text else 'format = "json"\n')


def problems(*tables: str) -> list[str]:
    source = '[sources.s]\ntype = "file"\npath = "in.csv"\n' + SCHEMA + "\n"
    text = "".join(tables) if tables[0].startswith("[sources") else source + "".join(tables)
    try:
        af.load(text if "[sinks" in text else text + sink("o", 'type = "null"'))
    except PipelineError as error:
        return [str(problem) for problem in error.problems]
    return []


def file(path: Any, mode: str = "append") -> str:
    return f'type = "file"\npath = "{path}"\nmode = "{mode}"'


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("out", "./out"), ("out", "d/../out"), ("there", "link"), ("there", "hard"), ("link", "hard"), ("dangling", "missing"),
        ("d/out", "e/out"), ("out.gz", "out.gz"), ("fifo", "fifo"), ("out", "$PWD/out"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("mode", ["append", "create", "replace"])
def test_two_sinks_of_one_file(folder: Path, one: str, two: str, mode: str) -> None:
    two = two.replace("$PWD", str(folder))
    assert problems(sink("one", file(one)), sink("two", file(two, mode))) == [
        f"sinks.two.path: {two} is written by the sink 'one' already"
    ]


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("out", "out2"),
        ("out", "d/out"),
        ("/dev/null", "/dev/null"),
        ("/dev/stdout", "/dev/stderr"),
        ("there", "out"),
    ],
)
def test_what_several_sinks_may_write(one: str, two: str) -> None:
    assert problems(sink("one", file(one)), sink("two", file(two))) == []


def test_who_writes_to_standard_output_takes_turns() -> None:
    """Each batch is written whole, also where the pipe takes it in pieces."""
    flow = (
        "import asyncflow as af\n"
        "rows = af.source(({'n': n, 'v': 'x' * 1000} for n in range(20_000)))\n"
        "af.run(rows.to('stdout', format='json').to('file', path='/dev/fd/1', format='json').to('stdout', format='csv'))"
    )
    running = subprocess.Popen([sys.executable, "-c", flow], stdout=subprocess.PIPE, bufsize=0)
    assert running.stdout is not None
    with running.stdout as out:
        data = b""
        while part := out.read(100_000):
            data += part
    assert running.wait(timeout=60) == 0
    lines = data.splitlines()
    assert len(lines) == 60_001
    whole = re.compile(rb'\{"n":\d+,"v":"x{1000}"\}|\d+,x{1000}|n,v')
    assert all(map(whole.fullmatch, lines))


def test_a_sink_of_the_file_that_standard_output_goes_to() -> None:
    text = source("s", read('"in.csv"')) + sink("one", 'type = "stdout"') + sink("two", file("out"))
    Path("p.toml").write_text(text)
    with open("out", "w") as out:
        done = subprocess.run(
            [sys.executable, "-m", "asyncflow", "run", "p.toml"],
            stdout=out,
            stderr=subprocess.PIPE,
            timeout=60,
        )
    assert done.returncode == 2
    assert b"out is written by the sink 'one' already" in done.stderr


def source(name: str, text: str) -> str:
    return f'[sources.{name}]\n{text}\nformat = "csv"\n{SCHEMA}\n'


def read(path: str) -> str:
    return f'type = "file"\npath = {path}'


@pytest.mark.parametrize(
    ("paths", "path", "told"),
    [
        ('"there"', "link", True), ('["in.csv", "there"]', "hard", True), ('"d/*.csv"', "e/out.csv", True), ('"d/*"', "d/out", True),
        ('"**/*.csv"', "d/f/out.csv", True), ('"**"', "out", True), ('"d/[o]ut.?sv"', "d/out.csv", True),
        ('"d/*.csv"', "d/f/out.csv", False),
        ('"d/*.csv"', "d/out.json", False), ('"d/*.csv"', "d/.out.csv", False), ('"*/out.csv"', "out.csv", False),
        ('"in.csv"', "out", False), ('"fifo"', "fifo", True),
    ],
)  # fmt: skip
def test_a_sink_that_writes_what_a_source_reads(paths: str, path: str, told: bool) -> None:
    first = paths.strip("[]").split(", ")[-1].strip('"')
    assert problems(source("s", read(paths)), sink("o", file(path))) == [
        f"sinks.o.path: {path} is read by the source 's' already" for _ in range(told)
    ], first


def test_a_file_may_be_read_by_many() -> None:
    assert (
        problems(source("a", read('"in.csv"')), source("b", read('"*.csv"')), source("c", read('"in.csv"')))
        == []
    )


def test_a_pipe_and_standard_input_have_one_reader() -> None:
    assert problems(source("a", read('"fifo"')), source("b", read('"./fifo"'))) == [
        "sources.b.path: ./fifo is read by the source 'a' already"
    ]
    stdin = 'type = "stdin"'
    assert problems(source("a", stdin), source("b", stdin)) == [
        "sources.b.type: standard input is read by the source 'a' already"
    ]
    assert problems(source("a", stdin), source("b", read('"/dev/stdin"'))) == [
        "sources.b.path: /dev/stdin is read by the source 'a' already"
    ]


@pytest.mark.parametrize(
    ("one", "two", "told"),
    [
        ("127.0.0.1:7000", "127.0.0.1:7000", True), ("127.0.0.1:7000", "localhost:7000", True),
        ("127.0.0.1:7000", "0.0.0.0:7000", True), ("*:7000", "0.0.0.0:7000", True),
        (":7000", "127.0.0.1:7000", True), (":7000", "[::1]:7000", True), ("[::]:7000", "[::1]:7000", True),
        ("[::1]:7000", "[0:0::1]:7000", True), (":7000", "name.example:7000", True), ("NAME.example:7000", "name.example:7000", True),
        ("[::]:7000", "127.0.0.1:7000", False), ("127.0.0.1:7000", "127.0.0.2:7000", False), ("127.0.0.1:7000", "127.0.0.1:7001", False),
        ("127.0.0.1:0", "127.0.0.1:0", False), ("127.0.0.1:70", ":7000", False),
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["tcp", "udp"])
def test_two_listeners_at_one_address(one: str, two: str, told: bool, kind: str) -> None:
    listeners = [f'type = "{kind}"\nlisten = "{address}"' for address in (one, two)]
    header = 'format = { type = "csv", header = false }\n' + SCHEMA + "\n"
    found = problems(
        *(f"[sources.{name}]\n{text}\n{header}" for name, text in zip("ab", listeners, strict=True))
    )
    assert found == [f"sources.b.listen: {two} is taken by the source 'a' already" for _ in range(told)]
    if kind == "tcp":
        found = problems(f"[sources.a]\n{listeners[0]}\n{header}", sink("b", listeners[1]))
        assert found == [f"sinks.b.listen: {two} is taken by the source 'a' already" for _ in range(told)]


def test_tcp_and_udp_share_a_port() -> None:
    address = '\nlisten = "127.0.0.1:7000"'
    assert problems(source("a", 'type = "tcp"' + address), source("b", 'type = "udp"' + address)) == []


def test_two_listeners_at_one_path() -> None:
    unix = 'type = "unix"\nlisten = '
    assert problems(source("a", unix + '"d/x"'), sink("b", unix + '"e/x"')) == [
        "sinks.b.listen: e/x is taken by the source 'a' already"
    ]
    assert problems(source("a", unix + '"x"'), sink("b", file("x"))) == [
        "sinks.b.path: x is taken by the source 'a' already"
    ]
    assert problems(source("a", unix + '"x"'), sink("b", 'type = "unix"\nconnect = "x"')) == []


def test_the_python_door_and_the_one_liner_are_told_too() -> None:
    rows = af.source([{"v": 1}])
    flow = rows.to("file", path="out", format="json").to("file", path="./out", format="json")
    with pytest.raises(PipelineError, match=r"\./out is written by the sink"):
        af.run(flow)
    assert not os.path.exists("out")
    plan_of(AggOptions(inputs=("in.csv", "in.csv")))
    run = [sys.executable, "-m", "asyncflow", "agg", "--input", "in.csv"]
    before = Path("in.csv").read_text()
    with open("in.csv", "a") as out:
        done = subprocess.run(run, stdout=out, stderr=subprocess.PIPE, text=True, timeout=60)
    assert (done.returncode, Path("in.csv").read_text()) == (2, before)
    assert "standard output is read by the source 'input' already" in done.stderr


def test_set_and_stats_are_told_too() -> None:
    text = source("s", read('"in.csv"')) + sink("one", file("a")) + sink("two", file("b"))
    Path("p.toml").write_text(text)
    run = [sys.executable, "-m", "asyncflow"]
    assert subprocess.run([*run, "check", "p.toml"], timeout=60).returncode == 0
    done = subprocess.run(
        [*run, "check", "p.toml", "--set", "sinks.two.path=a"], stderr=subprocess.PIPE, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (
        2,
        "error: sinks.two.path: a is written by the sink 'one' already\n",
    )
    done = subprocess.run(
        [*run, "run", "p.toml", "--stats", "./a"], stderr=subprocess.PIPE, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (2, "error: --stats: ./a is written by the sink 'one' already\n")


def test_stats_do_not_go_over_the_pipeline_file() -> None:
    Path("p.toml").write_text(text := source("s", read('"in.csv"')) + sink("one", file("a")))
    run = [sys.executable, "-m", "asyncflow", "run", "p.toml", "--stats", "./p.toml"]
    done = subprocess.run(run, stderr=subprocess.PIPE, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (2, "error: --stats: ./p.toml is the pipeline file\n")
    assert Path("p.toml").read_text() == text and not Path("a").exists()
