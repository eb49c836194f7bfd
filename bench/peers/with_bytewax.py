"""The query on bytewax, from a pipe or a socket: one row an item, ``fold_window`` on event time."""

import csv
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import bytewax.operators as op
from bytewax.dataflow import Dataflow
from bytewax.inputs import DynamicSource, StatelessSourcePartition
from bytewax.operators import windowing
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from bytewax.testing import run_main
from query import Query, line_batches, open_input

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
Row = tuple[datetime, float]

query = Query.from_argv()
assert query.window_ms is not None


class Lines(StatelessSourcePartition[bytes]):
    def __init__(self) -> None:
        file = open_input(query.path)
        file.readline()  # the header
        self._batches = line_batches(file)

    def next_batch(self) -> Iterable[bytes]:
        try:
            return next(self._batches)
        except StopIteration:
            raise StopIteration from None


class Input(DynamicSource[bytes]):
    def build(self, _step: str, _worker: int, _workers: int) -> Lines:
        return Lines()


class Rows(StatelessSinkPartition[tuple[Any, ...]]):
    def __init__(self) -> None:
        self._file = open(query.out, "w", newline="")  # noqa: SIM115
        self._writer = csv.writer(self._file)
        self._writer.writerow(["window", "key", "n", "total", "low", "high", "average"])

    def write_batch(self, items: list[tuple[Any, ...]]) -> None:
        self._writer.writerows(items)

    def close(self) -> None:
        self._file.close()


class Output(DynamicSink[tuple[Any, ...]]):
    def build(self, _step: str, _worker: int, _workers: int) -> Rows:
        return Rows()


def parse(line: bytes) -> tuple[str, Row]:
    ts, key, value = line.split(b",")
    return key.decode(), (EPOCH + timedelta(milliseconds=int(ts)), float(value))


def fold(state: list[float], row: Row) -> list[float]:
    value = row[1]
    state[0] += 1
    state[1] += value
    state[2] = min(state[2], value)
    state[3] = max(state[3], value)
    return state


def merge(left: list[float], right: list[float]) -> list[float]:
    return [left[0] + right[0], left[1] + right[1], min(left[2], right[2]), max(left[3], right[3])]


def result(item: tuple[str, tuple[int, list[float]]]) -> tuple[Any, ...]:
    key, (window, (n, total, low, high)) = item
    return window * query.window_ms, key, int(n), total, low, high, total / n


# Its watermark also moves with the wall clock: ask it to wait far longer than the 5 s of disorder.
clock: windowing.EventClock[Row] = windowing.EventClock(
    ts_getter=lambda row: row[0], wait_for_system_duration=timedelta(seconds=60)
)
windower = windowing.TumblingWindower(length=timedelta(milliseconds=query.window_ms), align_to=EPOCH)
flow = Dataflow("query")
keyed = op.map("parse", op.input("in", flow, Input()), parse)
windows = windowing.fold_window(
    "window", keyed, clock, windower, lambda: [0, 0.0, float("inf"), float("-inf")], fold, merge
)
op.output("out", op.map("result", windows.down, result), Output())
run_main(flow)
