"""Cases for windows of event time that follow their rows and for sketches: rows to sessions, values into sketches, slots read out."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any

import numpy as np

from asyncflow._kernels import kernel

ROWS = 1 << 16
KEYS = 10_000
MS_NS = 1_000_000
ROWS_PER_MS = 16_000_000 / 3_600_000  # a key has a row every 2.25 s
DELAY_NS = 5_000 * MS_NS

Cases = list[tuple[str, Callable[[], object], int]]


def cases() -> Cases:
    rng = np.random.default_rng(1)
    keys = rng.integers(0, KEYS, ROWS).astype(np.int32)
    values = np.round(np.exp(rng.normal(3, 2, ROWS)), 2)
    moved = (np.arange(ROWS) / ROWS_PER_MS).astype(np.int64) - rng.integers(0, 5_000, ROWS)
    found: Cases = [
        (f"sessions: {name}, 10,000 keys", _sessions(keys, moved * MS_NS, gap_ms * MS_NS), ROWS)
        for name, gap_ms in (("35 rows each", 8_000), ("3 rows each", 2_500))
    ]
    for name, aggregate, number in (
        ("quantile of few values", ("quantile", (0,), ("float64",), None, 0.5), KEYS),
        ("quantile of many values", ("quantile", (0,), ("float64",), None, 0.5), 100),
        ("quantile of very many values", ("quantile", (0,), ("float64",), None, 0.5), 1),
        ("approx_quantile", ("approx_quantile", (0,), ("float64",), None, 0.5), 100),
        ("approx_count_distinct", ("approx_count_distinct", (0,), ("float64",), None), 100),
        ("approx_top_k", ("approx_top_k", (0,), ("float64",), None, 10), 100),
    ):
        found.append((f"sketches: {name}", _sketches(keys % number, number, values, aggregate), ROWS))
    found.append(("slots read out: count, sum, min, max, mean", _peeking(keys, values), KEYS))
    return found


def _sessions(keys: Any, times: Any, gap_ns: int) -> Callable[[], object]:
    """Each call takes the same rows a while later, and closes what is over by then."""
    sessions = kernel("sessions").Sessions(gap_ns)
    length = int(times.max()) + 1
    turns = count()

    def step() -> object:
        now = times + next(turns) * length
        slots = sessions.assign(keys, KEYS, now, None, -(2**63), DELAY_NS)
        return slots, sessions.close(int(now.max()) - DELAY_NS)

    return step


def _sketches(keys: Any, number: int, values: Any, aggregate: Any) -> Callable[[], object]:
    """Rows into the sketches of a window, which then comes out."""
    order = np.arange(number, dtype=np.int32)

    def step() -> object:
        state = kernel("window").WindowState(None, 1, 0, [aggregate])
        state.add(keys, number, None, None, -(2**63), 0, [(values, None)], ())
        return state.close(2**63 - 1, order, number)

    return step


def _peeking(keys: Any, values: Any) -> Callable[[], object]:
    aggregates = [
        ("count", (), (), None),
        *((function, (0,), ("float64",), None) for function in ("sum", "min", "max", "mean")),
    ]
    state = kernel("window").WindowState(None, 1, 0, aggregates)
    state.add(keys, KEYS, None, None, -(2**63), 0, [(values, None)], ())
    slots = np.random.default_rng(2).permutation(KEYS).astype(np.int32)
    return lambda: state.peek(slots)


__all__ = ["cases"]
