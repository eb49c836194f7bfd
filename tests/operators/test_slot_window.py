"""Sessions and count windows as operators: order, memory, rows without a time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from asyncflow.model.batch import NO_TIME, Batch
from asyncflow.model.columns import StringColumn
from asyncflow.model.schema import DataType, Schema
from asyncflow.operators.aggregates.table import AggregateSpec
from asyncflow.operators.windows.slot_window import CountWindowOperator, SessionOperator
from asyncflow.operators.windows.window import Prepared

KEYS = Schema.of([("key", DataType.STRING)])
COMMON: dict[str, Any] = {
    "keys": KEYS,
    "aggregates": [
        AggregateSpec("count", (), ()),
        AggregateSpec("count_distinct", (0,), (DataType.STRING,)),
        AggregateSpec("max", (0,), (DataType.STRING,)),
    ],
    "names": ["n", "d", "most"],
    "prepare": lambda batch, _: Prepared(batch.columns, batch.columns, ()),
}


def rows(keys: list[str | None], times: list[int] | None, delay: int = 0, before: int = NO_TIME) -> Batch:
    time = None if times is None else np.array(times, np.int64)
    return Batch(KEYS, (StringColumn.from_values(keys),), len(keys), time, None, before, delay)


def shown(outputs: list[Any]) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for output in outputs for row in output.batch.to_pylist()]


def test_sessions_of_the_same_bounds_come_by_key() -> None:
    operator = SessionOperator(gap_ns=10, **COMMON)
    operator.process(rows(["b", None, "a", "", "c"], [0, 0, 0, 0, 5]))
    assert [(row[:3]) for row in shown(operator.advance(100))] == [
        (0, 10, ""),
        (0, 10, "a"),
        (0, 10, "b"),
        (0, 10, None),
        (5, 15, "c"),
    ]


@pytest.mark.parametrize("turned", [False, True])
def test_thousands_that_end_at_once_come_in_order(turned: bool) -> None:
    rng = np.random.default_rng(5)
    times = np.concatenate([rng.integers(-(10**6), 10**6, 3000), [-(2**62), 2**62, *[7] * 50]])
    keys = [f"{(n * 7919) % 3052:04}" for n in range(3052)]
    operator = SessionOperator(gap_ns=1, **COMMON)
    order = rng.permutation(3052) if turned else np.arange(3052)
    operator.process(rows([keys[i] for i in order], times[order].tolist(), delay=2**62 + 10**9))
    expected = sorted((time + 1, time, key) for time, key in zip(times.tolist(), keys, strict=True))
    assert [(row[1], row[0], row[2]) for row in shown(operator.finish())] == expected


def test_late_rows_leave_no_trace() -> None:
    operator = SessionOperator(gap_ns=10, **COMMON)
    operator.process(rows(["a"], [100]))
    late = operator.process(rows(["zzz", "a", "yyy"], [0, 105, 1], before=100))
    assert [output.kind for output in late] == ["late"]
    assert shown(late) == [("zzz",), ("yyy",)]
    assert shown(operator.finish()) == [(100, 115, "a", 2, 1, "a")]
    assert (operator.counts["late"], operator.counts["aggregated"]) == (2, 2)


def test_what_a_crowd_of_keys_held_is_given_back() -> None:
    operator = SessionOperator(gap_ns=10, **COMMON)
    operator.process(rows([f"key-{n}" for n in range(200_000)], [0] * 200_000))
    assert (operator.open_windows, operator.open_keys) == (200_000, 200_000)
    full = operator.state_bytes
    sent = 0
    for turn in range(1, 40):
        operator.process(rows(["a", "b"], [turn * 100] * 2))
        sent += sum(output.batch.num_rows for output in operator.advance(turn * 100))
    assert sent == 200_000 + 2 * 38
    assert operator.open_windows == 2
    assert operator.open_keys < 1000
    assert operator.state_bytes < full / 10
    assert shown(operator.finish()) == [(3900, 3910, "a", 1, 1, "a"), (3900, 3910, "b", 1, 1, "b")]


def test_sessions_go_on_through_the_renaming_of_keys_and_slots() -> None:
    operator = SessionOperator(gap_ns=1000, **COMMON)
    outputs = operator.process(rows(["stays", *(f"{n}" for n in range(100_000))], [0] * 100_001))
    for turn in range(1, 20):
        outputs += operator.process(rows(["stays"], [turn * 1000]))
        outputs += operator.advance(turn * 1000)
    outputs += operator.finish()
    assert shown(outputs)[-1] == (0, 20_000, "stays", 20, 1, "stays")
    assert operator.counts["windows_closed"] == 100_001


def test_count_windows_of_rows_without_a_time() -> None:
    operator = CountWindowOperator(size=2, **COMMON)
    outputs = operator.process(rows(["a", "b", "a", "a"], None))
    assert shown(outputs) == [(None, None, "a", 2, 1, "a")]
    assert shown(operator.finish()) == [(None, None, "a", 1, 1, "a"), (None, None, "b", 1, 1, "b")]


def test_a_full_window_has_the_watermark_before_the_row_that_filled_it() -> None:
    operator = CountWindowOperator(size=2, **COMMON)
    (output,) = operator.process(rows(["a", "b", "a", "b"], [50, 90, 10, 20], delay=5))
    assert shown([output]) == [(50, 10, "a", 2, 1, "a"), (90, 20, "b", 2, 1, "b")]
    assert output.batch.time is not None
    assert output.batch.time.tolist() == [10, 20]
    assert output.batch.row_watermarks().tolist() == [85, 85]


def test_keys_of_full_windows_are_forgotten() -> None:
    operator = CountWindowOperator(size=1, **COMMON)
    for turn in range(4):
        keys = [f"{turn}-{n}" for n in range(70_000)]
        assert sum(output.batch.num_rows for output in operator.process(rows(keys, [0] * 70_000))) == 70_000
    assert operator.open_windows == 0
    assert operator.open_keys <= 140_000
