"""Runs with checkpoints as a user starts them: killed, stopped, changed, damaged, finished."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from asyncflow._kernels import MODE

ROWS, GENERATED_ROWS = (500_000, 400_000) if MODE == "compiled" else (10_000, 8_000)
"""So many that a run takes longer than some checkpoints are apart, with the twins of the kernels too."""
PIPELINE = """
[checkpoint]
dir = "state"
interval = "100ms"

[sources.events]
type = "file"
path = "in*.csv"
format = "csv"
schema = { ts = "timestamp[ms]", key = "string", value = "float64" }
time = "ts"
watermark_delay = "1s"

[stages.per_second]
type = "window"
window = { hopping = "5s", every = "1s" }
by = ["key"]
aggregates = { n = "count(*)", total = "sum(value)", middle = "median(value)", last = "last(value)" }

[sinks.out]
type = "file"
path = "out.csv"
mode = "MODE"
format = "csv"

[sinks.bad]
type = "file"
inputs = ["events.rejected"]
path = "bad.json.gz"
mode = "append"
format = "json"

[sinks.late]
type = "file"
inputs = ["per_second.late"]
path = "late.csv"
mode = "append"
format = "csv"
"""
STEPS = [
    *(f"publish.{step}" for step in ("create", "directory", "footer", "fsync", "rename", "dirsync")),
    *(f"sink.{step}" for step in ("create", "write", "sync", "dirsync", "truncate", "rename")),
    *(f"tidy.{step}" for step in ("unlink", "dirsync")),
    *(f"recover.{step}" for step in ("folder", "unlink", "dirsync")),
]


def make_input(folder: Path) -> None:
    """Two files, with rows that are late and records that cannot be read."""
    chance = np.random.default_rng(7)
    times = 1_700_000_000_000 + np.arange(ROWS) * 2 - chance.integers(0, 3000, ROWS)
    keys, values = chance.integers(0, 50, ROWS), chance.integers(0, 10_000, ROWS) / 100
    lines = [
        f"{t},k{k},{v}\n" for t, k, v in zip(times.tolist(), keys.tolist(), values.tolist(), strict=True)
    ]
    for place in range(500, ROWS, ROWS // 6):
        lines[place] = "not a time,k1,1\n"
    (folder / "in1.csv").write_text("ts,key,value\n" + "".join(lines[: ROWS // 3]))
    (folder / "in2.csv").write_text("ts,key,value\n" + "".join(lines[ROWS // 3 :]))


@pytest.fixture(scope="module")
def wanted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, bytes]]:
    """A folder with the input, and what a run without checkpoints writes."""
    folder = tmp_path_factory.mktemp("wanted")
    make_input(folder)
    text = PIPELINE.replace("MODE", "create")
    (folder / "p.toml").write_text(text[text.index("[sources.events]") :])
    run(folder)
    return folder, outputs(folder)


def start(folder: Path, *options: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "asyncflow", "run", "p.toml", *options],
        cwd=folder,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | environment,
    )


def run(folder: Path, *options: str, code: int = 0, **environment: str) -> str:
    process = start(folder, *options, **environment)
    told = process.communicate(timeout=120)[1]
    assert process.returncode == code, told
    return told


def outputs(folder: Path) -> dict[str, bytes]:
    import gzip

    plain = {name: (folder / f"{name}.csv").read_bytes() for name in ("out", "late")}
    return {**plain, "bad": gzip.decompress((folder / "bad.json.gz").read_bytes())}


def prepared(folder: Path, wanted: tuple[Path, dict[str, bytes]], mode: str = "append") -> Path:
    for name in ("in1.csv", "in2.csv"):
        shutil.copy(wanted[0] / name, folder / name)
    (folder / "p.toml").write_text(PIPELINE.replace("MODE", mode))
    return folder


def test_a_run_that_nobody_kills(tmp_path: Path, wanted: tuple[Path, dict[str, bytes]]) -> None:
    folder = prepared(tmp_path, wanted)
    assert "resumed" not in run(folder)
    assert outputs(folder) == wanted[1]
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.name != "lock"}
    assert "this pipeline has finished: checkpoint" in run(folder)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    told = run(folder, "--fresh", code=0)
    assert "the checkpoints of earlier runs are in" in told
    assert outputs(folder)["out"].count(b"window_start") == 1, (
        "a header stands once in a file that is continued"
    )


@pytest.mark.parametrize("mode", ["append", "create", "replace"])
def test_killed_at_every_step(
    tmp_path: Path, wanted: tuple[Path, dict[str, bytes]], mode: str, request: pytest.FixtureRequest
) -> None:
    """Before and after each step that lasts, at its first and at a later time, and again while it recovers."""
    chance = random.Random(os.environ.get("CI_SEED", "1"))
    points = [(f"{step}.{side}", hit) for step in STEPS for side in ("before", "after") for hit in (1, 2)]
    chosen = points if os.environ.get("CI_LONG") else [("publish.rename.after", 1), *chance.sample(points, 3)]
    kills = 0
    for number, (point, hit) in enumerate(chosen):
        folder = tmp_path / str(number)
        folder.mkdir()
        prepared(folder, wanted, mode)
        again = chance.choice(points)
        for at in (f"{point}:{hit}", f"{again[0]}:{again[1]}"):
            process = start(folder, "--workers", chance.choice("12"), ASYNCFLOW_CRASH=at)
            told = process.communicate(timeout=120)[1]
            assert process.returncode in (0, -signal.SIGKILL), (at, told)
            kills += process.returncode != 0
        run(folder)
        assert outputs(folder) == wanted[1], (mode, point, hit, again)
        left = {path.name for path in folder.iterdir()} - {"in1.csv", "in2.csv", "p.toml"}
        assert left == {"out.csv", "late.csv", "bad.json.gz", "state"}, (point, again)
    assert kills


def test_killed_and_stopped_at_any_time(tmp_path: Path, wanted: tuple[Path, dict[str, bytes]]) -> None:
    chance = random.Random(os.environ.get("CI_SEED", "1"))
    for number in range(40 if os.environ.get("CI_LONG") else 3):
        folder = tmp_path / str(number)
        folder.mkdir()
        prepared(folder, wanted, chance.choice(("append", "create", "replace")))
        for _ in range(60):
            process = start(folder, "--workers", chance.choice("17"))
            try:
                process.communicate(timeout=chance.uniform(0.1, 1.2))
                break
            except subprocess.TimeoutExpired:
                process.send_signal(chance.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGTERM)))
                process.communicate()
        else:
            run(folder)
        assert process.returncode == 0
        assert outputs(folder) == wanted[1]


def test_pipes_are_refused(tmp_path: Path, wanted: tuple[Path, dict[str, bytes]]) -> None:
    folder = prepared(tmp_path, wanted)
    os.unlink(folder / "in2.csv")
    os.mkfifo(folder / "in2.csv")
    assert "in2.csv: a run with checkpoints reads regular files only" in run(folder, code=1)


def killed(folder: Path) -> None:
    process = start(folder, ASYNCFLOW_CRASH="publish.rename.after:1")
    process.communicate()
    assert process.returncode == -signal.SIGKILL


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: text.replace('every = "1s"', 'every = "2s"'), "stages.per_second has changed"),
        (lambda text: text.replace("[sinks.out]", "[sinks.other]"), "sinks.other is new, sinks.out is gone"),
        (
            lambda text: text.replace('time = "ts"', 'time = "ts"\nmax_record_bytes = "2MiB"'),
            "sources.events has changed",
        ),
    ],
)
def test_another_pipeline_is_refused(
    tmp_path: Path, wanted: tuple[Path, dict[str, bytes]], change: Callable[[str], str], said: str
) -> None:
    folder = prepared(tmp_path, wanted)
    killed(folder)
    (folder / "p.toml").write_text(change(PIPELINE.replace("MODE", "append")))
    told = run(folder, code=1)
    assert f"is of another pipeline: {said}" in told and "--fresh" in told
    (folder / "p.toml").write_text(
        PIPELINE.replace("MODE", "append")
        .replace("100ms", "10s")
        .replace('"1s"\n\n', '"1s"\nidle_timeout = "5s"\n\n')
    )
    run(folder)
    assert outputs(folder) == wanted[1], "how long to wait may change"


def test_damage_is_told(tmp_path: Path, wanted: tuple[Path, dict[str, bytes]]) -> None:
    folder = prepared(tmp_path, wanted)
    killed(folder)
    newest = max((folder / "state").glob("chk-*.af"))
    data = bytearray(newest.read_bytes())
    data[len(data) // 2] ^= 1
    newest.write_bytes(data)
    assert f"{newest.name}: damaged at byte" in run(folder, code=1)
    newest.write_bytes(data[: len(data) // 2])
    assert "the end of the file is missing" in run(folder, code=1)


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("in1.csv", b"ts,key,value\n", "is not the file any more that was read up to byte 0"),
        ("in2.csv", None, "no such file"),
    ],
)
def test_input_that_has_changed_is_told(
    tmp_path: Path, wanted: tuple[Path, dict[str, bytes]], name: str, data: bytes | None, said: str
) -> None:
    folder = prepared(tmp_path, wanted)
    killed(folder)  # when nothing was read
    if data is None:
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(data)
    assert said in run(folder, code=1)


GENERATED = f"""
[sources.sensors]
type = "generate"
rows = {GENERATED_ROWS}
rate = {GENERATED_ROWS * 5 // 8}
disorder = "0s"
start = "WHEN"
time = "ts"

[sinks.out]
type = "file"
path = "out.csv"
mode = "append"
format = "csv"
"""


WINDOWS = """
[stages.per_key]
type = "window"
window = { tumbling = "100ms" }
by = ["key"]
aggregates = { n = "count(*)", total = "sum(value)", middle = "median(value)" }

"""


def killed_at(folder: Path, checkpoint: int) -> None:
    """As its run has published so many checkpoints, of a rate that takes longer."""
    process = start(folder, ASYNCFLOW_CRASH=f"publish.rename.after:{checkpoint}")
    process.communicate()
    assert process.returncode == -signal.SIGKILL


def test_output_that_has_changed_is_told(tmp_path: Path) -> None:
    text = GENERATED.replace("WHEN", "2024-01-01")
    (tmp_path / "p.toml").write_text('[checkpoint]\ndir = "state"\ninterval = "100ms"\n' + text)
    killed_at(tmp_path, 3)
    whole = (tmp_path / "out.csv").read_bytes()
    (tmp_path / "out.csv").write_bytes(b"others")
    assert "has 6 bytes; the checkpoint needs its first" in run(tmp_path, code=1)
    (tmp_path / "out.csv").write_bytes(b"x" * len(whole))
    assert "are not those that were written up to the checkpoint" in run(tmp_path, code=1)
    (tmp_path / "out.csv").write_bytes(whole)
    run(tmp_path)
    assert len((tmp_path / "out.csv").read_text().splitlines()) == GENERATED_ROWS + 1


@pytest.mark.parametrize("when", ["2024-01-01", "now"])
def test_generated_rows_go_on(tmp_path: Path, when: str) -> None:
    text = GENERATED.replace("WHEN", when)
    (tmp_path / "p.toml").write_text('[checkpoint]\ndir = "state"\ninterval = "100ms"\n' + text)
    for checkpoint in (2, 3):
        killed_at(tmp_path, checkpoint)
    run(tmp_path)
    lines = (tmp_path / "out.csv").read_text().splitlines()
    assert len(lines) == GENERATED_ROWS + 1
    times = np.array([line[: line.index(",")].rstrip("Z") for line in lines[1:]], "M8[ns]")
    assert set(np.diff(times.astype(np.int64)).tolist()) == {8 * 10**9 // (GENERATED_ROWS * 5)}, (
        "one row every 4 us, none twice, none left out"
    )
    if when != "now":
        os.rename(tmp_path / "out.csv", tmp_path / "resumed.csv")
        (tmp_path / "p.toml").write_text(text)
        run(tmp_path)
        assert (tmp_path / "resumed.csv").read_bytes() == (tmp_path / "out.csv").read_bytes()


def test_stopped_it_keeps_its_windows(tmp_path: Path) -> None:
    text = GENERATED.replace("WHEN", "2024-01-01").replace("[sinks.out]", WINDOWS + "[sinks.out]")
    (tmp_path / "p.toml").write_text(text)
    run(tmp_path)
    os.rename(tmp_path / "out.csv", tmp_path / "wanted.csv")
    (tmp_path / "p.toml").write_text('[checkpoint]\ndir = "state"\ninterval = "100ms"\n' + text)
    process = start(tmp_path)
    while len(list((tmp_path / "state").glob("chk-*.af"))) < 3:
        assert process.poll() is None
        time.sleep(0.005)
    process.send_signal(signal.SIGTERM)
    told = process.communicate(timeout=60)[1]
    assert process.returncode == 0 and "stopped: checkpoint" in told
    wanted = (tmp_path / "wanted.csv").read_bytes()
    assert wanted.startswith((tmp_path / "out.csv").read_bytes()), "no window is sent before its end"
    assert len((tmp_path / "out.csv").read_bytes()) < len(wanted)
    assert "resumed from checkpoint" in run(tmp_path)
    assert (tmp_path / "out.csv").read_bytes() == wanted


def asked(*arguments: str) -> tuple[int, str, str]:
    found = subprocess.run(
        [sys.executable, "-m", "asyncflow", "state", *arguments], capture_output=True, text=True, check=False
    )
    return found.returncode, found.stdout, found.stderr


def test_the_folder_is_looked_at(tmp_path: Path, wanted: tuple[Path, dict[str, bytes]]) -> None:
    folder = prepared(tmp_path, wanted)
    state = str(folder / "state")
    assert asked("list", state)[0] == 2, "there is no such folder"
    run(folder)
    code, out, _ = asked("list", state)
    epochs = [int(line.split()[0]) for line in out.splitlines()]
    assert code == 0 and epochs == sorted(epochs) and " finished " in out.splitlines()[-1]
    assert asked("verify", state) == (0, "".join(f"{epoch:>10}  whole\n" for epoch in epochs), "")
    newest = folder / "state" / f"chk-{epochs[-1]:010d}.af"
    newest.write_bytes(newest.read_bytes()[:-1])
    for command in ("list", "verify"):
        code, out, _ = asked(command, state)
        assert code == 1 and "damaged at byte" in out.splitlines()[-1]
    shutil.rmtree(state)
    os.mkdir(state)
    for command in ("list", "verify"):
        assert asked(command, state) == (1, "", "there are no checkpoints\n")


def test_two_runs_at_once(tmp_path: Path, wanted: tuple[Path, dict[str, bytes]]) -> None:
    folder = prepared(tmp_path, wanted)
    both = [start(folder), start(folder)]
    told = [process.communicate(timeout=120)[1] for process in both]
    codes = sorted(process.returncode for process in both)
    assert codes in ([0, 1], [0, 0]), told
    if codes == [0, 1]:
        refused = "".join(text for process, text in zip(both, told, strict=True) if process.returncode)
        other = next(process for process in both if not process.returncode)
        assert f"in use by process {other.pid} on" in refused
    assert outputs(folder) == wanted[1]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[checkpoint]\n", "checkpoint.dir: 'dir' is missing"),
        ('[checkpoint]\ndir = ""\n', "checkpoint.dir: a folder is wanted"),
        ("[checkpoint]\ndir = 7\n", "checkpoint.dir"),
        (
            '[checkpoint]\ndir = "s"\ninterval = "10ms"\n',
            "checkpoint.interval: checkpoints are at least 100ms apart",
        ),
        ('[checkpoint]\ndir = "s"\ninterval = "x"\n', "checkpoint.interval"),
        ('[checkpoint]\ndir = "s"\nretain = 1\n', "checkpoint.retain: at least 2 are kept"),
        (
            '[checkpoint]\ndir = "s"\nretian = 3\n',
            "checkpoint.retian: unknown key 'retian' (did you mean 'retain'?)",
        ),
        ("checkpoint = 5\n", "checkpoint"),
    ],
)
def test_problems_of_the_table(tmp_path: Path, text: str, said: str) -> None:
    rest = PIPELINE[PIPELINE.index("[sources.events]") :].replace("MODE", "append")
    (tmp_path / "p.toml").write_text(text + rest)
    told = run(tmp_path, code=2)
    assert said.split(" (did")[0] in told


def test_a_folder_that_cannot_be_used(tmp_path: Path, wanted: tuple[Path, dict[str, bytes]]) -> None:
    folder = prepared(tmp_path, wanted)
    (folder / "state").write_text("a file")
    assert "state: not a directory" in run(folder, code=1)
    os.unlink(folder / "state")
    (folder / "p.toml").write_text(PIPELINE.replace("MODE", "append").replace('"state"', '"no/where"'))
    assert "no/where: no such file or directory" in run(folder, code=1)


def test_python_says_that_it_takes_none(tmp_path: Path, wanted: tuple[Path, dict[str, Any]]) -> None:
    import asyncflow as af

    folder = prepared(tmp_path, wanted)
    flow = af.load(folder / "p.toml")
    with pytest.raises(af.PipelineError, match="takes no checkpoints yet"):
        flow.batches()
