"""Cases for the encode kernel: ``cases()`` gives (name, callable, rows).  Run it alone for ns a row."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from asyncflow._kernels import kernel

ROWS = 8192
SECOND_NS = 1_000_000_000


def _strings(texts: list[bytes]) -> tuple[str, Any, Any, Any, Any]:
    lengths = np.array([len(text) for text in texts], np.int32)
    starts = np.zeros(len(texts), np.int32)
    np.cumsum(lengths[:-1], out=starts[1:])
    return ("string", np.frombuffer(b"".join(texts), np.uint8), starts, lengths, None)


def cases() -> list[tuple[str, Callable[[], bytes], int]]:
    """Window results (two times, a key, a count, a sum) as JSON and CSV, then each kind of column alone as CSV."""
    encode = kernel("encode")
    rng = np.random.default_rng(7)
    starts = (np.arange(ROWS) // 1000 * 60 + 1_700_000_000) * SECOND_NS

    def fixed(kind: str, values: Any) -> tuple[str, Any, Any, Any, Any]:
        return (kind, np.ascontiguousarray(values), None, None, None)

    keys = _strings([b"store-%d" % number for number in rng.integers(0, 10_000, ROWS)])
    cents = fixed("float64", rng.integers(0, 10**7, ROWS) / 100)
    rows = [
        fixed("timestamp", starts),
        fixed("timestamp", starts + 60 * SECOND_NS),
        keys,
        fixed("int64", rng.integers(0, 100_000, ROWS)),
        cents,
    ]
    names = [b'"window_start":', b'"window_end":', b'"store":', b'"orders":', b'"revenue":']
    alone = {
        "int64 small": rows[3],
        "int64 any": fixed("int64", rng.integers(-(2**63), 2**63 - 1, ROWS)),
        "float64 cents": cents,
        "float64 whole": fixed("float64", rng.integers(0, 10**6, ROWS).astype(np.float64)),
        "float64 uniform": fixed("float64", rng.random(ROWS)),
        "float64 any bits": fixed("float64", rng.integers(0, 2**62, ROWS).view(np.float64)),
        "timestamp ms in order": fixed("timestamp", starts[0] + np.arange(ROWS) * 37_000_000),
        "timestamp any": fixed("timestamp", rng.integers(-(2**62), 2**62, ROWS)),
        "string key": keys,
        "string 100 bytes": _strings([b"x" * 100] * ROWS),
    }
    found: list[tuple[str, Callable[[], bytes], int]] = [
        ("encode: json, 5 columns", lambda: encode.json_rows(ROWS, rows, names, 0), ROWS),
        ("encode: csv, 5 columns", lambda: encode.csv_rows(ROWS, rows, b",", b'"', b"", 0), ROWS),
    ]
    for name, cells in alone.items():
        found.append(
            (
                f"encode: csv, {name}",
                lambda cells=cells: encode.csv_rows(ROWS, [cells], b",", b'"', b"", 0),
                ROWS,
            )
        )
    return found


if __name__ == "__main__":
    for name, run, rows in cases():
        best = float("inf")
        for _ in range(300):
            before = time.perf_counter()
            out = run()
            best = min(best, time.perf_counter() - before)
        print(f"{name:40} {best / rows * 1e9:8.1f} ns/row  {len(out) / rows:6.1f} B/row")
