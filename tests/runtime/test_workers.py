"""How many workers ``auto`` is: by the processors that the process may run on, and by the time that its cgroups leave it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import asyncflow as af
from asyncflow.cli import run_command
from asyncflow.runtime.base import workers
from asyncflow.runtime.base.workers import MOST_WORKERS, PARTS_VARIABLE, parts_for, processors, worker_count


@pytest.mark.parametrize(
    ("lines", "files", "expected"),
    [
        ("0::/", {}, 8),
        ("0::/", {"cpu.max": "max 100000"}, 8),
        ("0::/", {"cpu.max": "200000 100000\n"}, 2),
        ("0::/", {"cpu.max": "150000 100000"}, 2),
        ("0::/", {"cpu.max": "1000 100000"}, 1),
        ("0::/", {"cpu.max": "900000 100000"}, 8),
        (
            "0::/a/b",
            {"a/b/cpu.max": "400000 100000", "a/cpu.max": "250000 100000", "cpu.max": "max 100000"},
            3,
        ),
        ("0::/outside/of/the/container", {"cpu.max": "200000 100000"}, 2),
        ("0::/", {"cpu.max": "nonsense"}, 8),
        ("0::/", {"cpu.max": "200000 0"}, 8),
        (
            "4:cpu,cpuacct:/",
            {"cpu,cpuacct/cpu.cfs_quota_us": "-1", "cpu,cpuacct/cpu.cfs_period_us": "100000"},
            8,
        ),
        (
            "5:memory:/\n4:cpu,cpuacct:/a",
            {"cpu,cpuacct/a/cpu.cfs_quota_us": "250000", "cpu,cpuacct/a/cpu.cfs_period_us": "100000"},
            3,
        ),
        ("3:cpuset:/a", {"cpuset/a/cpu.cfs_quota_us": "1", "cpuset/a/cpu.cfs_period_us": "1"}, 8),
    ],
)
def test_the_share_that_a_cgroup_leaves(
    lines: str, files: dict[str, str], expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    (tmp_path / "own").write_text(lines)
    for name, text in files.items():
        (tmp_path / "root" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "root" / name).write_text(text)
    assert processors(str(tmp_path / "root"), str(tmp_path / "own")) == expected


def test_no_cgroups_no_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 3, 5}, raising=False)
    assert processors(str(tmp_path), str(tmp_path / "none")) == 3
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(1000)), raising=False)
    assert processors(str(tmp_path), str(tmp_path / "none")) == MOST_WORKERS
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    assert processors(str(tmp_path), str(tmp_path / "none")) == 4


def test_numbers_stand_and_others_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "processors", lambda: 5)
    assert [worker_count(each) for each in ("auto", 1, MOST_WORKERS)] == [5, 1, MOST_WORKERS]
    for wrong in (0, -1, MOST_WORKERS + 1, "four", 2.0, True, None):
        with pytest.raises(ValueError, match='from 1 to 256, or "auto"'):
            worker_count(wrong)  # type: ignore[arg-type]


def test_as_many_parts_as_workers_from_three_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PARTS_VARIABLE, raising=False)
    assert [parts_for(each) for each in (1, 2, 3, 4, 5, 64, MOST_WORKERS)] == [1, 1, 4, 4, 8, 64, 64]
    assert [parts_for(each, least=2) for each in (1, 2, 3, 4)] == [1, 2, 4, 4]
    monkeypatch.setenv(PARTS_VARIABLE, "2")
    assert [parts_for(each) for each in (1, 8)] == [2, 2]
    for wrong in ("0", "3", "128", "two"):
        monkeypatch.setenv(PARTS_VARIABLE, wrong)
        with pytest.raises(ValueError, match="a power of two from 1 to 64"):
            parts_for(4)


async def test_python_takes_auto() -> None:
    flow = af.source([{"x": 1}, {"x": 2}])
    assert (await flow.collect(workers="auto")).to_pylist() == [{"x": 1}, {"x": 2}]
    with pytest.raises(ValueError, match="workers"):
        await flow.collect(workers=0)


@pytest.mark.parametrize(("options", "told"), [((), "5 workers"), (("--workers", "1"), "1 worker\n")])
def test_the_command_goes_by_the_processors(
    options: tuple[str, ...],
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(workers, "processors", lambda: 5)
    (tmp_path / "in.csv").write_text("x\n1\n")
    (tmp_path / "p.toml").write_text(
        f'[sources.s]\ntype = "file"\npath = "{tmp_path / "in.csv"}"\nformat = "csv"\n[sinks.out]\ntype = "null"\n'
    )
    assert run_command(["run", str(tmp_path / "p.toml"), "-v", *options]) == 0
    assert told in capfd.readouterr().err
