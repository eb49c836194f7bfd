"""One kernel's work while allocations fail: ``python -m tests.kernels.failing_allocations SHIM WORK MOST SEED``, with the shim preloaded.

The work is done once to count its allocations, then again and again with the n-th failing, alone or with all after it (of all n, or
``MOST`` of them): each time it ends as before or with MemoryError, and what it leaves behind can be asked, used and freed.
"""

from __future__ import annotations

import contextlib
import ctypes
import random
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from asyncflow._kernels import kernel
from asyncflow._kernels.accumulators.table import laid_out

NO_TIME, END = -(2**63), 2**63 - 1
ROWS, GROUPS = 400, 60
draw = np.random.default_rng(5)
KEYS = draw.integers(0, GROUPS, ROWS).astype(np.int32)
TIMES = np.sort(draw.integers(0, 6000, ROWS))
TIMES[::17] -= 900
INTS, FLOATS = draw.integers(-(10**12), 10**12, ROWS), draw.normal(size=ROWS)
WIDE = FLOATS * 10.0 ** draw.integers(-200, 200, ROWS)
TEXTS = [bytes(draw.integers(97, 122, int(length)).astype(np.uint8)) for length in draw.integers(0, 90, ROWS)]
LENGTHS = np.array([len(text) for text in TEXTS], np.int32)
TEXT = (
    np.frombuffer(b"".join(TEXTS), np.uint8),
    (np.cumsum(LENGTHS) - LENGTHS).astype(np.int32),
    LENGTHS,
    None,
)
AGGREGATES = [
    ("count", (), (), None), ("sum", (0,), ("int64",), None), ("sum", (3,), ("float64",), None), ("stddev", (1,), ("float64",), None),
    ("var", (3,), ("float64",), None), ("corr", (1, 3), ("float64", "float64"), None),
    ("first", (2,), ("string",), None), ("arg_max", (2, 1), ("string", "float64"), None),
    ("count_distinct", (2,), ("string",), None), ("approx_count_distinct", (2,), ("string",), None),
    ("quantile", (1,), ("float64",), None, 0.5), ("approx_top_k", (2,), ("string",), None, 2),
]  # fmt: skip
ORDER = np.arange(GROUPS, dtype=np.int32)
made: list[Any] = []
"""The objects of the work that is being done."""


def _part(start: int, stop: int) -> list[Any]:
    text = (TEXT[0], TEXT[1][start:stop], TEXT[2][start:stop], None)
    return [(INTS[start:stop], None), (FLOATS[start:stop], None), text, (WIDE[start:stop], None)]


def moved(state: Any, into: Any, *rank: Any) -> Any:
    """What ``state`` holds, in the new state ``into``, by way of a snapshot."""
    made.append(into)
    fields, parts = state.freeze(*rank), dict[str, Any]()
    while (given := state.pieces(1 << 20)) is not None:
        parts |= given
    into.load(fields, parts)
    return into


def window(size: int | None, every: int) -> None:
    state = kernel("window").WindowState(size, every, 0, AGGREGATES)
    made.append(state)
    for start in range(0, ROWS, 100):
        rows = slice(start, start + 100)
        state.add(KEYS[rows], GROUPS, TIMES[rows], None, NO_TIME, 300, _part(start, start + 100), [])
        while size and state.close(int(TIMES[start]) - 300, ORDER, 17, 500) is not None:
            pass
    if size is None:
        state.merge(np.array([1, 2], np.int32), np.array([3, 4], np.int32))
        state.peek(ORDER)
        state.keep(ORDER)
    state = moved(state, kernel("window").WindowState(size, every, 0, AGGREGATES), ORDER)
    while state.close(END, ORDER, 17) is not None:
        pass


def absorbed() -> None:
    """Small states of the aggregates that may be added up apart, into one of windows that overlap."""
    rules = [rule for rule in AGGREGATES if all(each.apart for each in laid_out([rule])[0])]
    make = partial(kernel("window").WindowState, 500, 130, 0, rules)
    state = make()
    made.append(state)
    for start in range(0, ROWS, 100):
        small, rows = make(), slice(start, start + 100)
        made.append(small)
        small.add(KEYS[rows], GROUPS, TIMES[rows], None, NO_TIME, 10**9, _part(start, start + 100), [])
        state.absorb(small, ORDER[::-1].copy(), GROUPS, NO_TIME)
    while state.close(END, ORDER, 17) is not None:
        pass


def sessions() -> None:
    state = kernel("sessions").Sessions(40)
    made.append(state)
    for start in range(0, ROWS, 100):
        state.assign(KEYS[start : start + 100], GROUPS, TIMES[start : start + 100], None, NO_TIME, 300)
        state.close(int(TIMES[start]) - 300)
    state.keep(ORDER)
    state.keep_slots()
    state.slot_ranks(ORDER)
    moved(state, kernel("sessions").Sessions(40), ORDER).close(END)


def counts() -> None:
    state = kernel("sessions").CountWindows(4)
    made.append(state)
    state.assign(KEYS, GROUPS, TIMES)
    state.keep(ORDER)
    state.keep_slots()
    moved(state, kernel("sessions").CountWindows(4), ORDER).rest()


def groups() -> None:
    kinds = ["string", "int64", "float64"]
    table = kernel("groups").GroupTable(kinds)
    made.append(table)
    for start in range(0, ROWS, 200):
        text, (ints, floats) = _part(start, start + 200)[2], _part(start, start + 200)[:2]
        ids = table.assign([text, ints, floats], 200)
        table.order()
        table.columns(ids)
    table.keep(np.arange(0, table.size, 2, dtype=np.int32))
    moved(table, kernel("groups").GroupTable(kinds)).order()


def interval(*, numbers: bool, parts: int) -> None:
    """Rows in order, then such that are late and out of order, of both sides; the half of them waits."""
    state = kernel("interval").IntervalState("full", -50, 50, parts)
    made.append(state)
    for times in (np.sort(TIMES), TIMES, TIMES[::-1].copy()):
        for port in (0, 1):
            keyed = (INTS % 50, None) if numbers else (KEYS, GROUPS)
            (state.hold_numbers if numbers else state.hold)(port, *keyed, times, None, NO_TIME, 20)
    while state.sweep(3000, 100)[-1]:
        pass
    state.compact(0)
    if not numbers:
        state.keep_keys(ORDER)
    other = moved(state, kernel("interval").IntervalState("full", -50, 50, parts), ORDER)
    while other.sweep(END, 100)[-1]:
        pass


def as_of(direction: str) -> None:
    make = partial(kernel("as_of").AsOfState, direction, "left", 50)
    state = make()
    made.append(state)
    for half in (slice(0, ROWS // 2), slice(ROWS // 2, ROWS)):
        for port in (0, 1):
            state.settle(port)
            state.hold(port, KEYS[half], GROUPS, TIMES[half][::-1].copy(), None, NO_TIME, 3000)
        while state.sweep(int(TIMES[half][40]), 30)[-1]:
            pass
    for port in (0, 1):
        state.recycle(port)
        state.settle(port)
        state.compact(port)
    other = moved(state, make(), ORDER)
    while other.sweep(END, 30)[-1]:
        pass


def dedup() -> None:
    state = kernel("dedup").DedupState(50)
    made.append(state)
    state.add(KEYS, GROUPS, TIMES, np.full(ROWS, NO_TIME), NO_TIME)
    state.live_groups(3000)
    state.keep(ORDER)
    moved(state, kernel("dedup").DedupState(50), ORDER).live_groups(END)


def top(windowed: bool) -> None:
    order = [("string", False, False), ("float64", True, True)]
    state = kernel("top").TopState(6, ["int64", "string"], order, windowed)
    made.append(state)
    for start in range(0, ROWS, 100):
        ints, floats, text, _ = _part(start, start + 100)
        rows, arrivals = slice(start, start + 100), np.arange(start, start + 100)
        windows = (TIMES[rows] // 700, TIMES[rows] // 500) if windowed else None
        state.add(KEYS[rows], GROUPS, windows, [ints, text], [text, floats], arrivals)
        found = state.ranking(3, ORDER)
        state.columns(0, len(found[0]))
        if windowed:
            state.release(start // 100)
            state.keep(ORDER)
    state.release(END)


def csv() -> None:
    csv = kernel("csv")
    rows = b"".join(b'%d,"%s",1.5\n' % (number, text) for number, text in enumerate(TEXTS))
    columns = [(0, "int64", False), (1, "string", False), (2, "float64", False)]
    plan = csv.Plan(
        delimiter=44,
        quote=34,
        null_text=b"",
        max_record_bytes=3000,
        fields=3,
        columns=columns,
        rejects_kept=9,
    )
    plan.decode(np.frombuffer(rows + b"1,2\n" * 50, np.uint8).copy())


def json() -> None:
    rows = b"".join(b'{"a":%d,"b":"%s\\n","c":{"d":1.5}}\n' % (n, text) for n, text in enumerate(TEXTS))
    decoder = kernel("json").Decoder(["a", "b", "c.d"], ["int64", "string", "float64"], [False] * 3, 3000)
    decoder.decode(np.frombuffer(rows + b"nope\n" * 50, np.uint8).copy())


def texts() -> None:
    ids, firsts = np.empty(ROWS, np.int32), np.empty(ROWS, np.int32)
    kernel("strings").distinct(*TEXT[:3], ids, firsts)
    kernel("encode").json_rows(ROWS, [("string", *TEXT[:3], None)], [b'"a":'], 0)


WORK: dict[str, Callable[[], None]] = {
    "tumbling": lambda: window(500, 500),
    "hopping": lambda: window(500, 130),
    "absorbed": absorbed,
    "slots": lambda: window(None, 1),
    "sessions": sessions,
    "counts": counts,
    "groups": groups,
    "interval": lambda: interval(numbers=False, parts=1),
    "numbers": lambda: interval(numbers=True, parts=1),
    "interval in parts": lambda: interval(numbers=False, parts=2),
    "numbers in parts": lambda: interval(numbers=True, parts=4),
    "as of backward": lambda: as_of("backward"),
    "as of nearest": lambda: as_of("nearest"),
    "dedup": dedup,
    "top": lambda: top(False),
    "top of windows": lambda: top(True),
    "csv": csv,
    "json": json,
    "texts": texts,
}
ASKED = (
    "nbytes",
    "open_windows",
    "windows_closed",
    "next_end",
    "held_rows",
    "slot_count",
    "size",
    "rows",
    "keys",
)


def look(each: Any) -> None:
    """Asks what was left behind, and uses it once more."""
    for name in ASKED:
        getattr(each, name, None)
    for call in (
        lambda: each.close(END),
        lambda: each.close(END, ORDER, 9),
        lambda: each.order(),
        lambda: each.keep(ORDER),
    ):
        with contextlib.suppress(
            AttributeError, IndexError, MemoryError, RuntimeError, TypeError, ValueError
        ):
            call()


def main() -> None:
    shim = ctypes.CDLL(sys.argv[1])
    work, most, chance = WORK[sys.argv[2]], int(sys.argv[3]), random.Random(int(sys.argv[4]))
    work()
    shim.arm(ctypes.c_long(1 << 40), 0)
    work()
    total = int(shim.counted())
    shim.arm(ctypes.c_long(0), 0)
    made.clear()
    numbers = list(range(1, total + 1))
    failed = 0
    for number in numbers if most >= total else sorted(chance.sample(numbers, most)):
        for more in (0, 1):
            print(number, more, flush=True)  # the last line says where it ended
            shim.arm(ctypes.c_long(number), more)
            try:
                work()
            except MemoryError:
                failed += 1
            finally:
                shim.arm(ctypes.c_long(0), 0)
            for each in made:
                look(each)
            made.clear()
    print("done", total, failed)


if __name__ == "__main__":
    main()
