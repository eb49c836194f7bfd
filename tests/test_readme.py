"""The README's three doors run as they stand there, and give the same rows."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests import strangers

README = Path(__file__).parent.parent / "README.md"


def snippet(name: str) -> str:
    found = re.search(
        rf"<!-- snippet: {re.escape(name)} -->\n```\w+\n(.*?)```", README.read_text(), re.DOTALL
    )
    assert found is not None, name
    return found[1]


@pytest.fixture
def sales(tmp_path: Path) -> Path:
    for number in range(2):
        with (tmp_path / f"sales-{number}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(("ts", "store", "qty", "price"))
            for row in range(1000):
                writer.writerow(
                    (1_700_000_000_000 + number * 600_000 + row * 577, "nsew"[row % 4], row % 5, row / 8)
                )
    return tmp_path


def run(*command: str, cwd: Path, stdin: str | None = None) -> str:
    done = subprocess.run(
        command, cwd=cwd, input=stdin, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_three_doors(sales: Path) -> None:
    (sales / "pipeline.toml").write_text(snippet("pipeline.toml"))
    rows = [
        json.loads(line)
        for line in run(sys.executable, "-m", "asyncflow", "run", "pipeline.toml", cwd=sales).splitlines()
    ]
    assert sum(row["orders"] for row in rows) == 1600
    assert list(rows[0]) == ["window_start", "window_end", "store", "orders", "revenue", "dearest"]

    # Two files on one pipe have two headers: the second is a record like any other, and rejected as one.
    line = snippet("shell").strip().replace("asyncflow", f"{sys.executable} -m asyncflow")
    piped = [json.loads(text) for text in run("bash", "-c", line, cwd=sales).splitlines()]
    assert [{k: v for k, v in row.items() if k != "dearest"} for row in rows] == piped

    printed = run(sys.executable, "-c", snippet("python"), cwd=sales).splitlines()
    assert printed == [f"{row['store']} {row['orders']} {row['revenue']}" for row in rows]


def test_an_aggregate_of_your_own(sales: Path) -> None:
    """By class, and by the name that a distribution registers it under."""
    (sales / "mine.py").write_text(snippet("aggregate.py"))
    strangers.distribution(
        sales, {"asyncflow.aggregates": {"geometric_mean": "mine:GeometricMean"}}, name="mine"
    )
    text = """
import asyncio
import asyncflow as af
from asyncflow.testing import check_aggregate
from mine import GeometricMean

check_aggregate(GeometricMean, [1.0, 2.5, 4.0, 100.0])
flow = af.load("pipeline.toml")["priced"].window(
    g=af.aggregate(GeometricMean, "price", where="price > 0"),
    h="geometric_mean(price) FILTER (WHERE price > 0)",
    r=af.expression("G(price + 1) / sum(qty)", G=GeometricMean),
    s="geometric_mean(price + 1) / sum(qty)",
    m="exp(mean(ln(price)) FILTER (WHERE price > 0))",
)
async def main():
    async for batch in flow:
        for row in batch.to_pylist():
            assert row["g"] == row["h"] and row["r"] == row["s"]
            assert abs(row["g"] - row["m"]) < 1e-9 * row["m"], row
            print("checked")
asyncio.run(main())
"""
    (sales / "pipeline.toml").write_text(snippet("pipeline.toml").partition("[stages.per_minute]")[0])
    (sales / "own.py").write_text(text)
    assert run(sys.executable, "own.py", cwd=sales) == "checked\n"
