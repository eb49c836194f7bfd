"""From the row that closes a window to the window's result on the wire, over loopback TCP in and out.

asyncflow runs as a process of its own; this process sends rows in step with the clock and takes the results.  Windows are 10 ms of event
time, and event time is the time a row is due: the first row of the next window closes the one before it (no watermark delay).  Rows
leave as soon as they are due, every one with all that are due beside it; a row counts as sent when its send began, or when it was due if
an earlier send was still held up by backpressure: a stall is not left out.  The load is a share of the rate found to be
held: rows sent at full speed over the same sockets.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from cases import BENCH
from numpy.typing import NDArray
from running import compile_package, installed_environment

WINDOW_MS = 10
KEYS = 8
START_MS = 1_000_000_000
ROW_BYTES = 19
LOADS = (0.1, 0.5, 0.9)
SECONDS = 4.0
FULL_SPEED_ROWS = 20_000_000
TICK_S = 0.0005
MOST_P99_MS = 5.0


def texts_of(rows: int, rows_per_s: float) -> memoryview:
    """``1000000000,k0,12.3`` and so on, ``ROW_BYTES`` each; ``ts`` counts milliseconds from ``START_MS``."""
    text = np.empty((rows, ROW_BYTES), np.uint8)
    text[:, 10:] = np.frombuffer(b",k0,12.3\n", np.uint8)
    for first in range(0, rows, 1 << 20):
        block = text[first : first + (1 << 20)]
        number = np.arange(first, first + len(block))
        ts = START_MS + (number / rows_per_s * 1000).astype(np.int64)
        for place in range(9, -1, -1):
            block[:, place] = ts % 10 + ord("0")
            ts //= 10
        block[:, 12] = number % KEYS + ord("0")
    return memoryview(text.reshape(-1))


def first_row_from(ms: int, rows_per_s: float) -> int:
    """The first row whose ``ts`` is ``ms`` after the start or later."""
    row = int(ms * rows_per_s / 1000) + 2
    while row and int((row - 1) / rows_per_s * 1000) >= ms:
        row -= 1
    return row


class Results(threading.Thread):
    """Takes result lines ``window_end,...`` and notes when each window's last line came."""

    def __init__(self, client: socket.socket) -> None:
        super().__init__(daemon=True)
        self._client = client
        self.arrived: dict[int, float] = {}
        self.rows = 0

    def run(self) -> None:
        rest = b""
        while data := self._client.recv(1 << 16):
            now = time.perf_counter()
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                fields = line.split(b",")
                if fields[1].isdigit():  # not the header
                    self.arrived[int(fields[1])] = now
                    self.rows += int(fields[3])


@contextmanager
def asyncflow_between() -> Iterator[tuple[socket.socket, Results]]:
    """A running pipeline, connected on both sides: a socket to send rows on, and the thread that takes its results."""
    with (
        socket.create_server(("127.0.0.1", 0)) as rows_in,
        socket.create_server(("127.0.0.1", 0)) as rows_out,
        tempfile.TemporaryDirectory() as directory,
    ):
        file = Path(directory, "pipeline.toml")
        file.write_text(f"""
[sources.rows]
type = "tcp"
connect = "127.0.0.1:{rows_in.getsockname()[1]}"
format = {{ type = "csv", header = false }}
schema = {{ ts = "timestamp[ms]", key = "string", value = "float64" }}
time = "ts"

[stages.result]
type = "window"
window = {{ tumbling = "{WINDOW_MS}ms" }}
by = ["key"]
aggregates = {{ n = "count(*)", total = "sum(value)" }}

[sinks.out]
type = "tcp"
connect = "127.0.0.1:{rows_out.getsockname()[1]}"
format = {{ type = "csv", timestamps = "ms" }}
""")
        cpus = sorted(os.sched_getaffinity(0))
        process = subprocess.Popen(
            [sys.executable, "-m", "asyncflow", "run", str(file), "--workers", "1", "--quiet"],
            env=installed_environment() | {"PYTHONPATH": str(BENCH.parent)},
            preexec_fn=lambda: os.sched_setaffinity(0, cpus[:1]),
        )
        try:
            for server in (rows_in, rows_out):
                server.settimeout(30)
            sender = rows_in.accept()[0]
            taker = rows_out.accept()[0]
            with sender, taker:
                sender.settimeout(60)
                sender.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                results = Results(taker)
                results.start()
                yield sender, results
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()


def full_speed(rows: int) -> float:
    """Rows a second that go through when sent without a pause."""
    text = texts_of(rows, 10_000_000)
    with asyncflow_between() as (sender, results):
        begin = time.perf_counter()
        sender.sendall(text)
        sender.shutdown(socket.SHUT_WR)
        results.join(120)
        seconds = max(results.arrived.values()) - begin
    if results.rows != rows:
        raise RuntimeError(f"{rows} rows were sent, the results hold {results.rows}")
    return rows / seconds


def at_rate(rows_per_s: float, seconds: float) -> NDArray[np.float64]:
    """Latency in seconds of every window but the last, in order."""
    rows = int(rows_per_s * seconds)
    text = texts_of(rows, rows_per_s)
    # Of each send: its first row, when it began, whether the one before it was held up.
    sends: list[tuple[int, float, bool]] = []
    with asyncflow_between() as (sender, results):
        time.sleep(0.5)  # connected; let the start-up be over
        begin = time.perf_counter()
        row, held_up = 0, False
        while row < rows:
            now = time.perf_counter()
            due = min(rows, int((now - begin) * rows_per_s) + 1)
            if due <= row:
                time.sleep(TICK_S)
                continue
            sends.append((row, now, held_up))
            sender.sendall(text[row * ROW_BYTES : due * ROW_BYTES])
            held_up = time.perf_counter() - now > 2 * TICK_S
            row = due
            if not held_up:
                time.sleep(TICK_S)
        sender.shutdown(socket.SHUT_WR)
        results.join(60)
    if results.rows != rows:
        raise RuntimeError(f"{rows} rows were sent, the results hold {results.rows}")
    first_rows = np.array([first for first, _began, _held in sends])
    taken = []
    for end_ms, arrived in sorted(results.arrived.items())[:-1]:
        closing = first_row_from(end_ms - START_MS, rows_per_s)
        _first, began, held = sends[int(np.searchsorted(first_rows, closing, "right")) - 1]
        taken.append(arrived - (begin + closing / rows_per_s if held else began))
    return np.array(taken)


def measure(scale: float = 1.0, quick: bool = False) -> dict[str, Any]:
    """Measures in a process of its own, which holds gigabytes of rows to send."""
    options = ["--json", f"--scale={scale}", *(["--quick"] if quick else [])]
    done = subprocess.run([sys.executable, __file__, *options], stdout=subprocess.PIPE, check=True)
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def measure_here(scale: float, quick: bool) -> dict[str, Any]:
    compile_package()
    sys.setswitchinterval(0.0005)
    rows = max(100_000, int(FULL_SPEED_ROWS * scale))
    try:
        most = max(full_speed(rows) for _ in range(1 if quick else 3))
        loads = []
        for share in LOADS:
            taken_ms = at_rate(most * share, 1.0 if quick else SECONDS) * 1000
            p50, p99 = np.percentile(taken_ms, [50, 99])
            loads.append({"load": share, "rows_per_s": most * share, "windows": len(taken_ms)})
            loads[-1] |= {"p50_ms": float(p50), "p99_ms": float(p99), "max_ms": float(taken_ms.max())}
    except (OSError, RuntimeError, ValueError) as error:
        return {"failed": f"{type(error).__name__}: {error}"}
    return {"held_rows_per_s": most, "loads": loads}


def table(report: dict[str, Any]) -> str:
    if "failed" in report:
        return f"### latency: failed: {report['failed']}"
    lines = [
        f"### latency: TCP in to TCP out, windows of {WINDOW_MS} ms; holds {report['held_rows_per_s'] / 1e6:.2f} Mrows/s",
        "",
        "| load | Mrows/s | windows | p50 ms | p99 ms | max ms |",
        "|--:|--:|--:|--:|--:|--:|",
    ]
    for load in report["loads"]:
        figures = " | ".join(f"{load[name]:.2f}" for name in ("p50_ms", "p99_ms", "max_ms"))
        lines.append(
            f"| {load['load']:.0%} | {load['rows_per_s'] / 1e6:.2f} | {load['windows']} | {figures} |"
        )
    return "\n".join(lines)


def floors(report: dict[str, Any]) -> list[str]:
    half = [load for load in report.get("loads", []) if load["load"] == 0.5]
    return [
        f"latency at half load: p99 {load['p99_ms']:.2f} ms, floor {MOST_P99_MS} ms: "
        + ("reached" if load["p99_ms"] <= MOST_P99_MS else "NOT reached")
        for load in half
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--quick", action="store_true", help="a second at each load")
    parser.add_argument("--scale", type=float, default=1.0, help="of the rows that find the rate held")
    parser.add_argument("--json", action="store_true", help="prints the figures as JSON")
    arguments = parser.parse_args()
    report = measure_here(arguments.scale, arguments.quick)
    print(json.dumps(report) if arguments.json else table(report))


if __name__ == "__main__":
    main()
