"""The laws for sketches past the sizes at which they stop being exact: chunks and workers, memory, and error bounds."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest

import asyncflow as af
import asyncflow.runtime.base.workers
from asyncflow.runtime import Run
from asyncflow.testing import chunks, one_by_one
from tests.laws.flows import csv_bytes, outcome, pipeline

Table = list[tuple[int, str, float | None, int | None]]


def table_of(seed: int, rows: int = 5000) -> Table:
    """Two keys, times out of order (some late), values over many magnitudes, some of them null."""
    rng = random.Random(seed)
    return [
        (
            number * 5 - rng.choice([0, 1000, rng.randrange(20_000)]),
            rng.choice("ab"),
            rng.choice([None, rng.lognormvariate(0, 9), -rng.lognormvariate(0, 9)]),
            int(rng.paretovariate(0.4)),
        )
        for number in range(rows)
    ]


@pytest.mark.parametrize("seed", range(3))
def test_chunks_and_workers_change_nothing(seed: int) -> None:
    data, text = csv_bytes(table_of(seed)), pipeline("sketches")
    whole = outcome(text, [data])
    stage = whole[1]["stages"]["w"]
    assert stage["late"] > 0 and stage["late_partly"] > 0
    assert outcome(text, chunks(data, seed, 3000)) == whole
    assert outcome(text, chunks(data, seed, 200)) == whole
    assert outcome(text, one_by_one(data)) == whole
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(asyncflow.runtime.base.workers, "INLINE_BYTES", 1)
        assert outcome(text, chunks(data, seed, 5000), workers=2) == whole


def test_what_they_say_is_true_of_the_rows() -> None:
    """One window over everything, by key: against numpy and a plain count."""
    table = table_of(9, 20_000)
    text = pipeline("sketches").replace('window = { hopping = "10s", every = "4s" }\n', "")
    text = text.replace("quantile(value, 0.9) - median(qty)", "quantile(value, 0.9)")
    (written, _) = outcome(text, [csv_bytes(table)])
    found = [json.loads(line) for line in written["out"].splitlines()]
    assert {row["key"] for row in found} == {key for _, key, _, _ in table}
    for row in found:
        mine = [(value, qty) for _, key, value, qty in table if key == row["key"]]
        values = np.array([value for value, _ in mine if value is not None])
        assert row["d"] == pytest.approx(len(set(values.tolist())), rel=0.02)
        assert row["a"] == pytest.approx(np.quantile(values, 0.9), rel=0.01)
        assert abs(np.mean(values <= row["q"]) - 0.9) <= 0.01
        chosen = [value for value, qty in mine if value is not None and qty is not None and qty > 0]
        assert abs(np.mean(np.array(chosen) <= row["m"]) - 0.5) <= 0.01
        assert row["v"] in {qty for _, qty in mine}
        assert json.loads(row["k"]) == [{"value": row["key"], "count": len(mine)}]
        known = Counter(qty for _, qty in mine).most_common(2)
        top = json.loads(row["t"])
        assert [item["value"] for item in top] == [value for value, _ in known]
        assert all(
            0 <= item["count"] - count <= len(mine) / 100 for item, (_, count) in zip(top, known, strict=True)
        )


async def test_they_leave_with_their_windows() -> None:
    """Ever new keys, each with enough values for every sketch to be at its largest: what is held stays that of the open windows."""
    held: list[int] = []
    run: Run | None = None
    rng = np.random.default_rng(0)
    per_window = 4000

    async def rows() -> AsyncIterator[dict[str, Any]]:
        for number in range(48):
            times = np.full(per_window, number * 1_000_000_000)
            keys = np.full(per_window, f"key-{number}", object)
            yield {"ts": times, "key": keys, "value": np.exp(rng.uniform(-300, 300, per_window))}
            assert run is not None
            held.append(run.state_bytes)

    flow = af.source(
        rows(), schema={"ts": "timestamp[ns]", "key": "string", "value": "float64"}, time="ts"
    ).window(
        af.hopping("2s", "1s"),
        by=["key"],
        d="approx_count_distinct(value)",
        q="quantile(value, 0.99)",
        t="approx_top_k(value, 10)",
    )
    run = Run(flow.to("null").checked())
    ledger = await run.execute()
    assert ledger.to_dict()["stages"]["stage_1"]["rows_out"] == 96
    names = 64 * 48  # what the keys themselves may take, which go once there are many
    assert max(held[24:]) <= 1.2 * max(held[:24]) + names
    assert max(held) < 1 << 20
