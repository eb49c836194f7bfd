"""The parts of the benchmark: stable data, compared results, a comparison that runs.  Nothing is timed."""

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).resolve().parent.parent / "bench"
GROUPS = "window,key,n,total,low,high,average\n60000,b,2,0.30000000000000004,0.1,0.2,0.15\n60000,a,1,5.0,5.0,5.0,5.0\n"


def python(script: str, *arguments: object, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    """``path``: the only folder that commands are looked for in."""
    command = [sys.executable, str(BENCH / script), *map(str, arguments)]
    environment = None if path is None else {**os.environ, "PATH": str(path)}
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)


def test_data_has_the_shape_that_the_cases_count_on(tmp_path: Path) -> None:
    for _ in range(2):  # the second time it is only looked up
        made = python("data.py", "--rows", 2000, "--directory", tmp_path)
        assert made.returncode == 0, made.stderr
    texts = {
        path.name.rpartition("-2000-")[0]: (gzip.decompress if path.suffix == ".gz" else bytes)(
            path.read_bytes()
        )
        for path in tmp_path.iterdir()
    }
    assert texts["gzip"] == texts["csv-10k"]
    header, *rows = texts["csv-10k"].decode().splitlines()
    assert header == "ts,key,value"
    assert len(rows) == 2000
    newest = 0
    for row in rows:
        ts, key, value = row.split(",")
        assert len(ts) == 13
        assert int(ts) > newest - 5000
        newest = max(newest, int(ts))
        assert 3 <= len(key) <= 20
        assert abs(float(value)) < 1000
    assert all(len(row.split(";")) == 2 for row in texts["1brc"].decode().splitlines())
    assert len(texts["wide"].splitlines()[1].split(b",")) == 10
    assert b'""' in texts["wide"]
    for name in ("ndjson", "ndjson-mixed"):
        records = [json.loads(line) for line in texts[name].splitlines()]
        assert len(records) == 2000
        assert all({"ts", "key", "value", "extra"} <= record.keys() for record in records)
    assert len({tuple(record) for record in records}) == 5


def test_rows_to_join_come_in_order_of_time(tmp_path: Path) -> None:
    tables = {}
    for name in ("orders", "payments", "trades", "quotes"):
        path = python("data.py", name, "--rows", 2000, "--directory", tmp_path).stdout.partition("  ")[0]
        _header, *rows = Path(path).read_text().splitlines()
        tables[name] = [row.split(",") for row in rows]
        times = [int(ts) for ts, *_rest in tables[name]]
        assert len(times) == 2000
        assert times == sorted(times)
    ordered = {number for _ts, number, *_rest in tables["orders"]}
    assert len(ordered) == 2000
    assert {number for _ts, number, *_rest in tables["payments"]} & ordered
    quoted = [(ts, symbol) for ts, symbol, _bid in tables["quotes"]]
    assert len(set(quoted)) == 2000, "which of two quotes at once is the last is not said by every engine"


def test_data_is_the_same_every_time(tmp_path: Path) -> None:
    for directory in ("one", "two"):
        assert (
            python("data.py", "csv-1m", "--rows", 1000, "--directory", tmp_path / directory).returncode == 0
        )
    (one,), (two,) = (list((tmp_path / directory).iterdir()) for directory in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()


@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        (("", ""), "ok"),
        (("0.30000000000000004", "0.3"), "ok"),
        (("0.30000000000000004", "0.300001"), "total differs"),
        ((",a,1,", ",a,2,"), "n differs"),
        ((",b,", ",c,"), "other keys"),
        (("60000,a", "120000,a"), "other windows"),
        (("60000,a,1,5.0,5.0,5.0,5.0\n", ""), "1 groups, not 2"),
    ],
)
def test_results_are_compared_group_by_group(tmp_path: Path, change: tuple[str, str], verdict: str) -> None:
    first, other = tmp_path / "first.csv", tmp_path / "other.csv"
    first.write_text(GROUPS)
    header, *rows = GROUPS.replace(*change).splitlines(keepends=True)
    other.write_text(header + "".join(reversed(rows)))
    checked = python("results.py", first, other)
    assert checked.stdout.startswith(verdict), checked.stderr


@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        (("", ""), "ok"),
        (("8000,b", "8001,b"), "window_end differs"),
        (("10.0,99.0", "10.000000001,99.0"), "ok"),
        (("10.0,99.0", "10.0,99.001"), "high_tail differs"),
        (("high_tail", "low_tail"), "other columns"),
    ],
)
def test_ends_are_compared_exactly_and_quantiles_to_the_last_digits(
    tmp_path: Path, change: tuple[str, str], verdict: str
) -> None:
    first, other = tmp_path / "first.csv", tmp_path / "other.csv"
    text = "window,window_end,key,n,median,high_tail\n0,8000,b,2,10.0,99.0\n"
    first.write_text(text)
    other.write_text(text.replace(*change))
    checked = python("results.py", first, other)
    assert checked.stdout.startswith(verdict), checked.stdout + checked.stderr


def test_a_comparison_runs_and_agrees(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    names = (
        "csv-10k",
        "1brc",
        "tcp",
        "session",
        "hopping-300",
        "quantile",
        "quantile-100",
        "interval-join",
        "as-of",
    )
    cases = [argument for name in names for argument in ("--case", name)]
    done = python(
        "compare.py", *cases, "--quick", "--rows", 5000, "--peers", "duckdb,pyarrow", "--json", report
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for entries in json.loads(report.read_text())["cases"].values():
        for entry in entries:
            assert entry["check"] in ("ok", "reference", "absent"), entry
        assert entries[0]["engine"] == "asyncflow"
        assert len(entries[0]["runs"]) == 1


def test_every_kernel_case_runs() -> None:
    done = python("kernels.py", "--quick")
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) > 1


def test_updates_end_in_the_rows_of_final() -> None:
    done = python("compare.py", "--case", "updates", "--quick", "--scale", 0.001)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(" ok |") == 2


def test_a_profile_is_of_the_case_and_names_what_is_hot(tmp_path: Path) -> None:
    """With a sampler that runs the command, as py-spy does, and has always seen the same."""
    sampler = tmp_path / "py-spy"
    stacks = "main;read 1\nmain;read;fill (csv.so) 6\nmain;fill (csv.so) 1\n"
    sampler.write_text(
        f"""#!{sys.executable}
import subprocess, sys
command = sys.argv[sys.argv.index("--") + 1 :]
done = subprocess.run(command)
open(sys.argv[sys.argv.index("--output") + 1], "w").write({stacks!r})
pipeline = open(command[command.index("run") + 1]).read()
sys.exit(done.returncode or "csv-10k" not in pipeline)
"""
    )
    sampler.chmod(0o755)
    done = python("profiling.py", "--case", "csv-10k", "--rows", 5000, path=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[:2] == [" 87.5%  fill (csv.so)", " 12.5%  read"]
    absent = python("profiling.py", "--case", "csv-10k", "--rows", 5000, path=tmp_path / "nothing")
    assert absent.returncode == 1
    assert "pip install -e '.[bench]'" in absent.stderr


def test_a_case_is_scaled_to_more_processors(tmp_path: Path) -> None:
    done = python("scaling.py", "--case", "as-of", "--rows", 2000, "--rounds", 1)
    assert done.returncode == 0, done.stderr
    head, _line, cells = done.stdout.strip().splitlines()
    assert cells.startswith("| as-of | 4,000 | ")
    assert head.count("processors") == cells.count(" ns/row, ") == 4


def test_the_loop_bounds_every_machine() -> None:
    code = (
        "from scaling import Cost, seconds_per_row as t; cost = Cost(2.0, 18.0).per_row(Cost(1.0, 8.0), 1);"
        "print(cost.loop_s, cost.rest_s, t(cost, 4), t(cost, 8), t(cost, 32))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd=BENCH, check=True
    )
    assert [float(each) for each in done.stdout.split()] == pytest.approx([1, 10, 3.025, 1.5125, 1])
