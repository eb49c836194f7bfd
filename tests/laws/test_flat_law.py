"""Flat law: memory does not grow with rows, only with open state."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest

import asyncflow as af
from asyncflow.runtime import Run


@pytest.mark.parametrize("window", [af.tumbling("1s"), af.session("1s")], ids=["tumbling", "session"])
async def test_ever_new_keys_in_short_windows_run_flat(window: Any) -> None:
    """Two million rows (fewer on the twins), every key new, one-second windows: state stays that of the open windows."""
    held: list[int] = []
    run: Run | None = None
    batches, per_batch = 30 if os.environ.get("ASYNCFLOW_KERNELS") == "reference" else 200, 10_000

    async def rows() -> AsyncIterator[dict[str, Any]]:
        for number in range(batches):
            first = number * per_batch
            keys = np.array([f"device-{n}" for n in range(first, first + per_batch)], object)
            times = np.arange(first, first + per_batch) * 100_000  # 10 k rows a second of event time
            yield {"ts": times, "key": keys}
            assert run is not None
            held.append(run.state_bytes)

    schema = {"ts": "timestamp[ns]", "key": "string"}
    flow = af.source(rows(), schema=schema, time="ts").window(window, by=["key"], n="count(*)")
    run = Run(flow.to("null").checked())
    ledger = await run.execute()
    assert ledger.to_dict()["stages"]["stage_1"]["rows_out"] == batches * per_batch
    assert max(held[batches // 2 :]) <= 2 * max(held[: batches // 4])
    assert max(held) < 64 << 20
