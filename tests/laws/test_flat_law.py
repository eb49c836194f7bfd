"""Flat law: memory does not grow with rows, only with open state.

Ever new keys, each of two rows, pass every kind of stage that keeps state by key.  Two measures stay flat: the bytes of state that the
stages report, and the bytes that the C library has allocated, for kernels and numpy among others.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import pkgutil
import re
from collections.abc import AsyncIterator, Callable
from statistics import fmean
from typing import Any

import numpy as np
import pytest

import asyncflow as af
import asyncflow.operators
import asyncflow.runtime.base.workers
from asyncflow._kernels import MODE
from asyncflow.runtime import Run
from asyncflow.runtime.wiring import wires
from tests.own_aggregates import GeometricMean

BATCHES, ROWS = 400, 500
PER_SECOND = 10 * ROWS
"""Rows in a second of event time: ten batches, so that a window of a second is open for ten of them."""
SCHEMA = {"ts": "timestamp[ns]", "key": "string", "value": "float64"}


def windowed(shape: Any, **options: Any) -> Callable[[af.Flow, af.Flow], af.Flow]:
    return lambda rows, _: rows.window(shape, by=["key"], **({"n": "count(*)"} | options))


KEYS, EACH_ROW = BATCHES * ROWS // 2, BATCHES * ROWS
SECOND = af.tumbling("1s")
STAGES: dict[str, tuple[Callable[[af.Flow, af.Flow], af.Flow], int]] = {  # and how many rows come out
    "tumbling": (windowed(SECOND), KEYS),
    "hopping": (windowed(af.hopping("1s", "500ms"), m="mean(value)"), 2 * KEYS),
    "session": (windowed(af.session("1s")), KEYS),
    "count": (windowed(af.count(2)), KEYS),
    "updates": (windowed(SECOND, emit="updates", allowed_lateness="500ms"), 2 * KEYS),
    "distinct": (windowed(SECOND, d="count(DISTINCT value)", t="count(DISTINCT key)"), KEYS),
    "sketches": (windowed(SECOND, q="quantile(value, 0.9)", d="approx_count_distinct(key)", k="approx_top_k(key, 3)"), KEYS),
    "texts": (windowed(SECOND, f="first(key)", m="max(key)", x="arg_max(key, value)"), KEYS),
    "Python aggregate": (windowed(SECOND, g=af.aggregate(GeometricMean, "value")), KEYS),
    "dedup": (lambda rows, _: rows.dedup(by=["key"], within="1s"), KEYS),
    "top": (lambda rows, _: rows.top(1, order=["value DESC"], by=["key"], window=SECOND), KEYS),
    "join within": (lambda rows, others: rows.join(others, on=["key"], within="1s", kind="left"), 2 * EACH_ROW),
    "join in windows": (lambda rows, others: rows.join(others, on=["key"], window=SECOND, kind="full"), 2 * EACH_ROW),
    "join as of": (lambda rows, others: rows.join(others, on=["key"], as_of="backward", tolerance="1s"), EACH_ROW),
}  # fmt: skip


def allocated_bytes() -> int:
    """Bytes that are allocated in the C library, in the areas of all threads; 0 where it is not glibc."""
    libc = ctypes.CDLL(None)
    try:
        malloc_info = libc.malloc_info
    except AttributeError:
        return 0
    libc.open_memstream.restype = ctypes.c_void_p
    text, size = ctypes.c_void_p(), ctypes.c_size_t()
    stream = ctypes.c_void_p(libc.open_memstream(ctypes.byref(text), ctypes.byref(size)))
    malloc_info(0, stream)
    libc.fclose(stream)
    of_all = ctypes.string_at(text.value or 0, size.value).decode().rpartition("</heap>")[2]
    libc.free(text)
    told = {
        name: int(number)
        for name, number in re.findall(r'type="(\w+)"(?: count="\d+")? size="(\d+)"', of_all)
    }
    return told["current"] - told["fast"] - told["rest"] + told["mmap"]


def few_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stages drop keys that have passed once they hold some hundreds of keys, not tens of thousands."""
    for found in pkgutil.walk_packages(asyncflow.operators.__path__, "asyncflow.operators."):
        module = importlib.import_module(found.name)  # a run loads some of them only where it needs them
        for name in [name for name in vars(module) if name.startswith("FEW_")]:
            monkeypatch.setattr(module, name, 1 << 9)


ON_WORKERS = ("tumbling", "session", "dedup", "top", "join within")


@pytest.mark.parametrize(
    ("kind", "workers"), [*((kind, 1) for kind in STAGES), *((kind, 8) for kind in ON_WORKERS)]
)
async def test_ever_new_keys_run_flat(kind: str, workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    if MODE == "reference" and kind not in ("tumbling", "session"):
        pytest.skip("the twins forget as the kernels do, and take minutes for it")
    # State grows for as long as 120 batches, then keys are forgotten: a quarter is longer.  Eight workers take longer to hold all that they
    # ever will.
    times = 2 if workers == 1 else 4
    batches_in = times * BATCHES
    few_are_few(monkeypatch)
    monkeypatch.setattr(asyncflow.runtime.base.workers, "INLINE_BYTES", 0)
    monkeypatch.setattr(wires, "CHANNEL_BYTES", 1 << 16)  # so that a stage is never far behind its input
    held: list[int] = []
    allocated: list[int] = []
    run: Run | None = None

    async def batches(watched: bool) -> AsyncIterator[dict[str, Any]]:
        for first in range(0, batches_in * ROWS, ROWS):
            numbers = np.arange(first, first + ROWS)
            keys = np.array([f"device-{number // 2}" for number in numbers], object)
            yield {"ts": numbers * (10**9 // PER_SECOND), "key": keys, "value": 1 + numbers % 7.0}
            if watched:
                assert run is not None
                held.append(run.state_bytes)
                allocated.append(allocated_bytes())

    stage, rows_out = STAGES[kind]
    sides = [af.source(batches(watched), schema=SCHEMA, time="ts") for watched in (True, False)]
    run = Run(stage(*sides).to("null").checked(), workers=workers)
    gc.collect()  # what tests before this one left does not go meanwhile
    ledger = (await run.execute()).to_dict()
    came = list(ledger["stages"].values())[-1]["rows_out"]
    assert came == times * rows_out or (
        kind == "updates" and times * KEYS < came < times * rows_out
    )  # the last windows are final at once
    quarter = batches_in // 4
    if workers == 1:
        assert max(held[2 * quarter :]) <= 1.5 * max(held[: 2 * quarter])
    else:  # a worker may be anywhere between two looks, so not every look sees the most
        assert min(held[3 * quarter :]) <= 1.5 * min(held[quarter : 2 * quarter])
    if MODE == "compiled":  # the twins keep their state in objects of Python
        # Memory rises and falls as keys are forgotten.  Of one worker each fall is seen.  Eight are anywhere at a look: there the mean.
        level = min if workers == 1 else fmean
        grown = level(allocated[3 * quarter :]) - level(allocated[quarter : 2 * quarter])
        # A worker may be a batch or two further on at one look than at the other, and what a table has room for grows in steps.
        each_row = 2 if workers == 1 else 4
        assert grown < each_row * ROWS * 2 * quarter, "bytes for each row that passed"
