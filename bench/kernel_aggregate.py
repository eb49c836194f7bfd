"""Cases for the kernels between decoding and encoding: CSV to columns, keys to groups, rows into windows, windows out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import cycle
from typing import Any

import numpy as np
from data import events_csv, stations_csv, wide_csv

from asyncflow._kernels import kernel

ROWS = 1 << 19
BLOCK_BYTES = 1 << 20
SECOND_NS = 1_000_000_000
EVENTS = [(0, "timestamp[ms]", True), (1, "string", False), (2, "float64", False)]
WIDE = [(1, "timestamp[ms]", True), (4, "string", False), (6, "float64", False)]
STATIONS = [(0, "string", False), (1, "float64", False)]

Block = np.ndarray[Any, np.dtype[np.uint8]]


def _plan(delimiter: str, fields: int, columns: list[tuple[int, str, bool]]) -> Any:
    return kernel("csv").Plan(
        delimiter=ord(delimiter),
        quote=ord('"'),
        null_text=b"",
        max_record_bytes=1 << 20,
        fields=fields,
        columns=columns,
        rejects_kept=5,
    )


def _blocks(parts: Iterator[bytes], plan: Any, header: bool) -> list[Block]:
    """The file as the engine cuts it: blocks of about a MiB of whole records."""
    data = np.frombuffer(b"".join(parts), np.uint8)
    at = int(np.flatnonzero(data[:4096] == 10)[0]) + 1 if header else 0
    blocks, cutter = [], kernel("csv").Cutter(plan)
    while at < len(data):
        final = at + BLOCK_BYTES >= len(data)
        end = at + cutter.cut(data[at : at + BLOCK_BYTES], final)[0]
        blocks.append(data[at:end].copy())
        at = end
    return blocks


def _string_raw(block: Block, array: tuple[Any, Any, Any]) -> tuple[Any, Any, Any, Any]:
    return block, array[0], array[1], array[2]


def cases() -> list[tuple[str, Callable[[], object], int]]:
    found: list[tuple[str, Callable[[], object], int]] = []
    shapes = [
        (f"csv, {keys:,} keys", ",", 3, EVENTS, events_csv(ROWS, 1, keys, 16_000_000 / 3_600_000), True, 60)
        for keys in (100, 10_000, 1_000_000)
    ]
    shapes.append(("csv, 3 of 10 columns", ",", 10, WIDE, wide_csv(ROWS, 1, 10_000, 4.0), True, 60))
    shapes.append(("csv, 1brc", ";", 2, STATIONS, stations_csv(ROWS, 1), False, None))
    for name, delimiter, fields, columns, parts, header, window_s in shapes:
        plan = _plan(delimiter, fields, columns)
        blocks = _blocks(parts, plan, header)
        decoded = [plan.decode(block) for block in blocks]
        rows = sum(entry[0] for entry in decoded) // len(blocks)
        turn = cycle(blocks)
        found.append((f"decode: {name}", lambda plan=plan, turn=turn: plan.decode(next(turn)), rows))
        key = 1 if window_s else 0
        keys = [(_string_raw(b, entry[4][key]), entry[0]) for b, entry in zip(blocks, decoded, strict=True)]
        table = kernel("groups").GroupTable(["string"])
        groups = [table.assign([raw], count) for raw, count in keys]
        turn_keys = cycle(keys)
        found.append((f"groups: {name}", partial(_assign, table, turn_keys), rows))
        times = [entry[4][0][0] if window_s else None for entry in decoded]
        values = [entry[4][key + 1][0] for entry in decoded]
        turn_rows = cycle(list(zip(groups, times, values, strict=True)))
        found.append((f"window: {name}", _adding(table.size, window_s, turn_rows), rows))
    return found


def _assign(table: Any, turn: Iterator[Any]) -> object:
    raw, count = next(turn)
    return table.assign([raw], count)


def _adding(group_count: int, window_s: int | None, turn: Iterator[Any]) -> Callable[[], object]:
    """Rows into count, sum, min, max and mean; nothing is closed, so the same rows can come again."""
    aggregates = [
        ("count", (), (), None),
        *((function, (0,), ("float64",), None) for function in ("sum", "min", "max", "mean")),
    ]
    size = None if window_s is None else window_s * SECOND_NS
    state = kernel("window").WindowState(size, size or 1, 0, aggregates)

    def add() -> object:
        groups, time, values = next(turn)
        return state.add(groups, group_count, time, None, -(2**63), 5 * SECOND_NS, [(values, None)], ())

    return add
