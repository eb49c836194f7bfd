"""Cases for the joins: rows held and swept, as they come from two inputs in step."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from asyncflow._kernels import kernel

ROWS = 1 << 15
KEYS = 1 << 20
REACH_NS = 1 << 19  # as many rows as wait on each side: one comes a nanosecond


class _Interval:
    """Batches of both sides, one after another for ever: keys near the row's number, as names or as numbers."""

    def __init__(self, numbers: bool = False) -> None:
        self.state = kernel("interval").IntervalState("inner", -REACH_NS, REACH_NS)
        self.first, self.numbers = 0, numbers
        self.dice = np.random.default_rng(1)

    def step(self) -> object:
        times = np.arange(self.first, self.first + ROWS)
        late = self.dice.integers(0, REACH_NS, ROWS)
        for port, near in enumerate((times, np.maximum(times - late, 0))):
            keys, rows = (near * 7) % KEYS, (times, None, self.first, 0)
            if self.numbers:
                self.state.hold_numbers(port, keys, None, *rows)
            else:
                self.state.hold(port, keys.astype(np.int32), KEYS, *rows)
        self.first += ROWS
        return self.state.sweep(self.first, 1 << 30)


class _AsOf:
    """Batches of both sides, one after another for ever: keys of so many symbols."""

    def __init__(self, direction: str, tolerance_ns: int | None, symbols: int = 1000) -> None:
        self.state = kernel("as_of").AsOfState(direction, "inner", tolerance_ns)
        self.dice = np.random.default_rng(1)
        self.keys = [self.dice.integers(0, symbols, ROWS).astype(np.int32) for _ in range(2)]
        self.first, self.symbols = 0, symbols

    def step(self) -> object:
        times = np.arange(self.first, self.first + ROWS)
        for port, keys in enumerate(self.keys):
            self.state.settle(port)
            self.state.hold(port, keys, self.symbols, times, None, self.first, 0)
        self.first += ROWS
        met = self.state.sweep(self.first, 1 << 30)
        for port in (0, 1):
            self.state.recycle(port)
        return met


def cases() -> list[tuple[str, Callable[[], object], int]]:
    return [
        ("join: interval, 512k rows wait on each side", _Interval().step, 2 * ROWS),
        ("join: interval of numbers, 512k rows wait on each side", _Interval(numbers=True).step, 2 * ROWS),
        ("join: as of backward, 1,000 keys", _AsOf("backward", None).step, 2 * ROWS),
        ("join: as of backward, 1,000,000 keys", _AsOf("backward", None, 1_000_000).step, 2 * ROWS),
        ("join: as of nearest, 512k right rows wait", _AsOf("nearest", REACH_NS // 2).step, 2 * ROWS),
    ]
