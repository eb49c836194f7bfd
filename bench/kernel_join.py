"""Cases for the joins: rows held and swept, as they come from two inputs in step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from asyncflow._kernels import kernel

ROWS = 1 << 15
KEYS = 1 << 20
REACH_NS = 1 << 19  # as many rows as wait on each side: one comes a nanosecond


class _Stream:
    """Batches of both sides, one after another for ever: keys near the row's number (interval) or of a few symbols (as of)."""

    def __init__(self, mode: str, upper_ns: int | None) -> None:
        self.state = kernel("join").JoinState(mode, "inner", -REACH_NS, upper_ns)
        self.few = mode != "interval"
        self.first = 0
        self.dice = np.random.default_rng(1)

    def step(self) -> object:
        numbers = np.arange(self.first, self.first + ROWS)
        self.first += ROWS
        keys = self.dice.integers(0, 1000, ROWS) if self.few else (numbers * 7) % KEYS
        late = self.dice.integers(0, REACH_NS, ROWS)
        others = self.dice.integers(0, 1000, ROWS) if self.few else (np.maximum(numbers - late, 0) * 7) % KEYS
        ready: list[Any] = []
        for port, ids in enumerate((keys, others)):
            slots = self.state.hold(port, ids.astype(np.int32), KEYS, numbers, numbers)
            ready.append((slots, numbers))
        self.state.begin(self.first, *ready)
        met = self.state.sweep(1 << 30)
        for port in (0, 1):
            self.state.recycle(port)
        return met


def cases() -> list[tuple[str, Callable[[], object], int]]:
    return [
        ("join: interval, 512k rows wait on each side", _Stream("interval", REACH_NS).step, 2 * ROWS),
        ("join: as of, 1,000 keys", _Stream("backward", None).step, 2 * ROWS),
    ]
