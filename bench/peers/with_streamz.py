"""The query on streamz, from a pipe or a socket: one row an item.

streamz has no windows on event time, so the step that keeps them is plain Python: a dictionary of open windows that closes those which
the greatest time seen so far, less 5 s, has passed.
"""

import csv
from typing import Any

from query import Query, line_batches, open_input
from streamz import Stream

DELAY_MS = 5_000

query = Query.from_argv()
assert query.window_ms is not None
window_ms = query.window_ms
Windows = dict[int, dict[str, list[float]]]


def parse(line: bytes) -> tuple[int, str, float]:
    ts, key, value = line.split(b",")
    return int(ts), key.decode(), float(value)


def closed(windows: Windows, watermark: float) -> list[tuple[Any, ...]]:
    rows: list[tuple[Any, ...]] = []
    for start in sorted(start for start in windows if start + window_ms <= watermark):
        for key, (n, total, low, high) in windows.pop(start).items():
            rows.append((start, key, int(n), total, low, high, total / n))
    return rows


def step(state: tuple[Windows, int], row: tuple[int, str, float]) -> tuple[Any, list[tuple[Any, ...]]]:
    windows, newest = state
    ts, key, value = row
    window = windows.setdefault(ts - ts % window_ms, {})
    found = window.get(key)
    if found is None:
        window[key] = [1, value, value, value]
    else:
        found[0] += 1
        found[1] += value
        found[2] = min(found[2], value)
        found[3] = max(found[3], value)
    if (
        ts // window_ms > newest // window_ms
        or (ts - DELAY_MS) // window_ms > (newest - DELAY_MS) // window_ms
    ):
        return (windows, ts), closed(windows, ts - DELAY_MS)
    return (windows, max(ts, newest)), []


with open(query.out, "w", newline="") as file:
    writer = csv.writer(file)
    writer.writerow(["window", "key", "n", "total", "low", "high", "average"])
    open_windows: Windows = {}
    lines = Stream()
    lines.map(parse).accumulate(step, start=(open_windows, 0), returns_state=True).flatten().sink(
        writer.writerow
    )
    source = open_input(query.path)
    source.readline()  # the header
    for batch in line_batches(source):
        for line in batch:
            lines.emit(line)
    writer.writerows(closed(open_windows, float("inf")))
