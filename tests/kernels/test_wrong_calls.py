"""Wrong calls of kernels are refused or harmless: no access outside of an array (sanitizers check)."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from asyncflow._kernels import MODE, kernel

pytestmark = pytest.mark.skipif(
    MODE == "reference", reason="the twins are Python: they cannot read elsewhere"
)

NO_TIME, END = -(2**63), 2**63 - 1


def bytes_of(text: bytes) -> Any:
    return np.frombuffer(text, np.uint8)


def ints(*values: int) -> Any:
    return np.array(values, np.int32)


def longs(*values: int) -> Any:
    return np.array(values, np.int64)


ABC = bytes_of(b"abc"), ints(0), ints(3)
"""One text; many rows are asked for."""


def window(size: int | None = 1000, aggregate: tuple[Any, ...] = ("count", (), (), None)) -> Any:
    return kernel("window").WindowState(size, 1000, 0, [aggregate])


def add(state: Any, groups: Any, count: int, inputs: Any = ()) -> Any:
    state.add(groups, count, np.zeros(len(groups), np.int64), None, NO_TIME, 0, inputs, [])
    return state


def first_text(start: int, length: int) -> Any:
    state = window(aggregate=("first", (0,), ("string",), None))
    return add(state, ints(0), 1, [(np.zeros(4, np.uint8), ints(start), ints(length), None)])


def texts_of_keys(start: int, length: int, valid: Any = None) -> Any:
    table = kernel("groups").GroupTable(["string"])
    return table.assign([(np.zeros(400, np.uint8), ints(start), ints(length), valid)], 1)


def interval_loaded(bounds: Any = (-10, 10), **parts: Any) -> Any:
    """An interval join of one left row, and of parts as given (``left_key`` is the part ``left.key``)."""
    state = kernel("interval").IntervalState("inner", *bounds)
    state.freeze(ints())
    saved = dict(state.pieces(1 << 20))
    row = {"key": ints(0), "time": longs(1), "seen": longs(NO_TIME), "arrival": longs(0)}
    row |= {"matched": np.array([False]), "ahead": np.array([False])}
    saved |= {f"left.{name}": value for name, value in row.items()} | {
        name.replace("_", "."): value for name, value in parts.items()
    }
    fields = {"kind": "inner", "lower_ns": bounds[0], "upper_ns": bounds[1]}
    fields |= {"clock_ns": 5, "arrived": [1, 1], "ways": [0] * 4, "numbered": False, "groups": 1}
    state.load(fields, saved)
    return state


def interval_held(count: int) -> Any:
    """An interval join that holds so many rows of one side."""
    state = kernel("interval").IntervalState("full", -10, 10)
    state.hold(0, np.zeros(count, np.int32), 1, np.arange(count), None, NO_TIME, 0)
    return state


def close_with(order: Any) -> Any:
    state = add(window(), ints(0), len(order))
    return state.close(5000, order, 10)


def cut_less() -> Any:
    csv = kernel("csv")
    plan = csv.Plan(
        delimiter=44, quote=34, null_text=b"", max_record_bytes=1 << 20, fields=2, columns=[(0, "int64", False)],
        rejects_kept=9,
    )  # fmt: skip
    cutter = csv.Cutter(plan)
    cutter.cut(bytes_of(b"1,2" * 1000), False)
    return cutter.cut(bytes_of(b"1,2"), False)


def sessions() -> Any:
    state = kernel("sessions").Sessions(10)
    state.assign(ints(0), 1, longs(0), None, NO_TIME, 0)
    return state


def counts() -> Any:
    state = kernel("sessions").CountWindows(10)
    state.assign(ints(0), 1, None)
    return state


def dedup() -> Any:
    state = kernel("dedup").DedupState(10)
    state.add(ints(0), 1, longs(0), longs(0), 0)
    return state


def sessions_loaded(group: int, first: Any, last: Any, **fields: Any) -> Any:
    state = kernel("sessions").Sessions(10)
    given = {
        "gap_ns": 10, "watermark_ns": NO_TIME, "greatest_watermark_ns": NO_TIME, "mixed": True, "windows_closed": 0, "groups": 1,
    }  # fmt: skip
    state.load(given | fields, {"group": np.full(len(first), group, np.int32), "first": first, "last": last})


def dedup_loaded(group: int, time: Any, **fields: Any) -> Any:
    state = kernel("dedup").DedupState(10)
    given = {"within_ns": 10, "watermark_ns": 0, "groups": 1}
    state.load(given | fields, {"group": np.full(len(time), group, np.int32), "time": time})


def as_of_state() -> Any:
    return kernel("as_of").AsOfState("backward", "inner", 10)


def as_of_loaded(**parts: Any) -> Any:
    """A join of a left row and a known right one, and of parts as given (``left_key`` is the part ``left.key``)."""
    state = as_of_state()
    saved = {"left.key": ints(0), "left.time": longs(6), "left.arrival": longs(0)}
    saved |= {f"right.{name}": longs(value) for name, value in (("time", 1), ("moment", 1), ("arrival", 0))}
    saved |= {"right.key": ints(0), "right.matched": np.array([False]), "right.ahead": np.array([False])}
    fields = {"direction": "backward", "kind": "inner", "tolerance_ns": 10, "clock_ns": 5}
    fields |= {"arrived": [1, 2], "ways": [0] * 4, "groups": 1}
    state.load(fields, saved | {name.replace("_", ".", 1): value for name, value in parts.items()})
    return state


def frozen_in_a_sweep() -> Any:
    state = interval_held(200)
    assert state.sweep(1000, 1)[-1]
    return state.freeze(ints(0))


def keys_loaded(lengths: Any, size: int = 1, nulls: Any = (False,)) -> Any:
    table = kernel("groups").GroupTable(["string"])
    fields = {"kinds": ["string"], "size": size, "nulls": list(nulls)}
    return table.load(fields, {"0.text": bytes_of(b"abc"), "0.lengths": lengths})


REFUSED: dict[str, Callable[[], Any]] = {
    "among, one text for many rows": lambda: kernel("strings").among(*ABC, *ABC, np.empty(100_000, bool)),
    "among, wanted texts beyond the bytes": lambda: kernel("strings").among(
        *ABC, np.zeros(4, np.uint8), ints(0, 2), ints(4, 3), np.empty(1, bool)
    ),
    "split_part, a start beyond the bytes": lambda: kernel("texts").split_part(
        np.zeros(4, np.uint8), ints(1 << 30), ints(8), *ABC, longs(1), np.empty(1, np.int32), np.empty(1, np.int32)
    ),
    "split_part, a mark without bytes": lambda: kernel("texts").split_part(
        *ABC, np.empty(0, np.uint8), ints(0), ints(1), longs(1), np.empty(1, np.int32), np.empty(1, np.int32)
    ),
    "substring, no position": lambda: kernel("texts").substring(
        *ABC, longs(), None, np.empty(2, np.int32), np.empty(2, np.int32)
    ),
    "replace, no room": lambda: kernel("texts").replace(
        *ABC, *ABC, np.zeros(90, np.uint8), ints(0), ints(90), np.empty(100, np.uint8), np.empty(1, np.int32),
        np.empty(1, np.int32),
    ),
    "concat, a length below 0": lambda: kernel("texts").concat(
        [(np.zeros(4, np.uint8), ints(0), ints(-1))], np.empty(100, np.uint8), np.empty(1, np.int32), np.empty(1, np.int32)
    ),
    "change_case, no room": lambda: kernel("texts").change_case(
        *ABC, None, True, np.empty(3, np.uint8), np.empty(1, np.int32), np.empty(1, np.int32)
    ),
    "hash64, one text for many rows": lambda: kernel("strings").hash64(*ABC, np.empty(100_000, np.uint64)),
    "count_characters, one text for many rows": lambda: kernel("strings").count_characters(
        *ABC, np.empty(100_000, np.int64)
    ),
    "distinct, one text for many rows": lambda: kernel("strings").distinct(
        *ABC, np.empty(100_000, np.int32), np.empty(100_000, np.int32)
    ),
    "distinct, no room for the first rows": lambda: kernel("strings").distinct(
        *ABC, np.empty(1, np.int32), np.empty(0, np.int32)
    ),
    "equal, a start beyond the bytes": lambda: kernel("strings").equal(
        np.zeros(4, np.uint8), ints(1 << 30), ints(8), np.zeros(9, np.uint8), ints(0), ints(8), np.empty(1, bool)
    ),
    "compare, a length below 0": lambda: kernel("strings").compare(
        np.zeros(4, np.uint8), ints(0), ints(-1), np.zeros(9, np.uint8), ints(0), ints(8), np.empty(1, np.int8)
    ),
    "find, a length without bytes": lambda: kernel("texts").find(
        np.empty(0, np.uint8), ints(0, 0), ints(3, 3), *ABC, 0, np.empty(2, bool)
    ),
    "add, a group beyond the count": lambda: add(window(), ints(1 << 20), 1),
    "add, a group below 0": lambda: add(window(), ints(-1), 1),
    "close, an order with an id that is none": lambda: close_with(
        np.where(np.arange(2560) == 5, 1 << 30, np.arange(2560)).astype(np.int32)
    ),
    "close, no rows wanted": lambda: add(window(), ints(0), 1).close(5000, ints(0), 0),
    "keep, a live group left out": lambda: add(window(), ints(0, 1), 2).keep(ints(0)),
    "keep, a group twice": lambda: add(window(), ints(0, 1), 2).keep(ints(0, 0, 1)),
    "keep, more groups than there are": lambda: add(window(), ints(0), 1).keep(np.arange(9, dtype=np.int32)),
    "first(text), a start beyond the bytes": lambda: first_text(1 << 28, 8),
    "first(text), a length below 0": lambda: first_text(0, -8),
    "a slot below 0": lambda: add(window(None), ints(0), 1).peek(ints(-1)),
    "sessions, a group beyond the count": lambda: sessions().assign(ints(1 << 20), 1, longs(0), None, NO_TIME, 0),
    "sessions, a group below 0": lambda: sessions().assign(ints(-5), 1, longs(0), None, NO_TIME, 0),
    "sessions.keep, more groups than there are": lambda: sessions().keep(np.arange(100_000, dtype=np.int32)),
    "count windows, a group below 0": lambda: counts().assign(ints(-5), 1, None),
    "count windows.keep, more groups than there are": lambda: counts().keep(np.arange(100_000, dtype=np.int32)),
    "keys, a start beyond the bytes": lambda: texts_of_keys(1 << 28, 8),
    "keys, a length below 0": lambda: texts_of_keys(0, -8),
    "keys.keep, a group twice": lambda: kernel("groups").GroupTable(["int64"]).keep(ints(0, 0)),
    "interval.load, a key beyond the count": lambda: interval_loaded(left_key=ints(1 << 20)),
    "interval.load, a key below null": lambda: interval_loaded(left_key=ints(-2)),
    "interval.load, a row that has not arrived": lambda: interval_loaded(left_arrival=longs(1)),
    "interval.load, columns of other lengths": lambda: interval_loaded(left_seen=longs(0, 0)),
    "interval.load, a row that came before its time": lambda: interval_loaded(left_time=longs(9)),
    "interval.load, a row that was to leave": lambda: interval_loaded(left_time=longs(-9)),
    "interval.load, a watermark that is not beyond its row": lambda: interval_loaded(left_seen=longs(1)),
    "interval.load, a row that was late for all": lambda: interval_loaded(left_seen=longs(22)),
    "interval.load, a row that was passed and not met": lambda: interval_loaded(left_ahead=np.array([True])),
    "interval.load, rows twice": lambda: interval_loaded(
        left_key=ints(0, 0), left_time=longs(1, 2), left_seen=longs(NO_TIME, NO_TIME), left_arrival=longs(0, 0),
        left_matched=np.array([False, False]), left_ahead=np.array([False, False]),
    ),
    "interval.freeze, a key without a place": lambda: interval_held(3).freeze(ints()),
    "interval.freeze, in a sweep": frozen_in_a_sweep,
    "interval.hold, watermarks of other rows": lambda: interval_held(3).hold(0, ints(0), 1, longs(1), longs(), 0, 0),
    "interval.keep_keys, a key that rows have": lambda: interval_held(3).keep_keys(ints()),
    "an interval without a lower bound": lambda: kernel("interval").IntervalState("inner", NO_TIME, 10),
    "an interval that falls": lambda: kernel("interval").IntervalState("inner", 1, 0),
    "take_spans, a text that ends before it starts": lambda: kernel("interval").take_spans(longs(5, 3), longs(0), 0),
    "take_places, no ring": lambda: kernel("interval").take_places(longs(), longs(0)),
    "take_texts, a start near the last integer": lambda: kernel("interval").take_texts(
        np.zeros(4, np.uint8), longs(END - 1), ints(4)
    ),
    "put_texts, no room": lambda: kernel("interval").put_texts(
        np.zeros(4, np.uint8), 1, np.zeros(4, np.uint8), ints(0), ints(4)
    ),
    "put_texts, before the beginning": lambda: kernel("interval").put_texts(
        np.zeros(4, np.uint8), -1, np.zeros(4, np.uint8), ints(0), ints(1)
    ),
    "sessions.load, a group beyond the count": lambda: sessions_loaded(1 << 20, longs(0), longs(0)),
    "sessions.load, a group below 0": lambda: sessions_loaded(-1, longs(0), longs(0)),
    "sessions.load, two sessions with one last row": lambda: sessions_loaded(0, longs(0, 1), longs(5, 5)),
    "sessions.load, a session that is over": lambda: sessions_loaded(0, longs(0), longs(5), watermark_ns=15),
    "sessions.load, sessions in reach of each other": lambda: sessions_loaded(0, longs(0, 5), longs(5, 8), mixed=False),
    "sessions.load, columns of other lengths": lambda: sessions_loaded(0, longs(0, 1), longs(5)),
    "sessions.freeze, a group without a place": lambda: sessions().freeze(ints()),
    "sessions.freeze, a rank that is none": lambda: sessions().freeze(None),
    "count windows.freeze, a group without a place": lambda: counts().slot_ranks(ints(-7)),
    "dedup.load, a group beyond the count": lambda: dedup_loaded(1 << 20, longs(0)),
    "dedup.load, a group below 0": lambda: dedup_loaded(-1, longs(0)),
    "dedup.load, times in no order": lambda: dedup_loaded(0, longs(5, 0)),
    "dedup.load, a time that is forgotten": lambda: dedup_loaded(0, longs(-11)),
    "dedup.freeze, a group without a place": lambda: dedup().freeze(ints()),
    "as_of.load, a key beyond the count": lambda: as_of_loaded(left_key=ints(1 << 20)),
    "as_of.load, a key below null": lambda: as_of_loaded(left_key=ints(-2)),
    "as_of.load, a row that has not arrived": lambda: as_of_loaded(left_arrival=longs(1)),
    "as_of.load, columns of other lengths": lambda: as_of_loaded(right_moment=longs(1, 1)),
    "as_of.load, a left row that the clock has passed": lambda: as_of_loaded(left_time=longs(4)),
    "as_of.load, a known row without a key": lambda: as_of_loaded(right_key=ints(-1)),
    "as_of.load, two known rows of a key": lambda: as_of_loaded(
        right_key=ints(0, 0), right_time=longs(1, 2), right_moment=longs(1, 2), right_arrival=longs(0, 1),
        right_matched=np.array([False, False]), right_ahead=np.array([False, False]),
    ),
    "as_of.load, a right row of a moment before its time": lambda: as_of_loaded(
        right_time=longs(9), right_moment=longs(8), right_ahead=np.array([True])
    ),
    "as_of.hold, a key beyond the count": lambda: as_of_state().hold(0, ints(1), 1, longs(1), None, NO_TIME, 0),
    "as_of.hold, a key below null": lambda: as_of_state().hold(0, ints(-2), 1, longs(1), None, NO_TIME, 0),
    "as_of.keep_keys, a key that is held is left out": lambda: as_of_loaded().keep_keys(ints()),
    "as_of.keep_keys, a key twice": lambda: as_of_loaded().keep_keys(ints(0, 0)),
    "as_of.freeze, a key without a place": lambda: as_of_loaded().freeze(ints()),
    "pick, a reference to no row": lambda: kernel("as_of").pick(np.zeros(8, np.uint8), np.zeros(8, np.uint8), 8, longs(-1)),
    "pick_texts, a text outside of its bytes": lambda: kernel("as_of").pick_texts(
        (np.zeros(4, np.uint8), longs(END - 1), ints(4)), (np.zeros(4, np.uint8), ints(0), ints(4)), longs(0)
    ),
    "keys.load, a text longer than the bytes": lambda: keys_loaded(ints(1 << 30)),
    "keys.load, a length below 0": lambda: keys_loaded(ints(-1, 4), 2),
    "keys.load, lengths that are no array": lambda: keys_loaded([3]),
    "keys.load, more groups than keys": lambda: keys_loaded(ints(3), 1 << 20),
    "keys.load, fewer groups than keys": lambda: keys_loaded(ints(3), 1, [True]),
    "keys.load, fields of no table": lambda: kernel("groups").GroupTable(["string"]).load({}, {}),
    "keys.load, nothing": lambda: kernel("groups").GroupTable(["string"]).load(None, None),
    "a cutter given less than before": cut_less,
    "a csv plan made without its settings": lambda: (
        kernel("csv").Plan.__new__(kernel("csv").Plan).decode(np.zeros(4, np.uint8))
    ),
    "a cutter made without its plan": lambda: (
        kernel("csv").Cutter.__new__(kernel("csv").Cutter).cut(np.zeros(4, np.uint8), False)
    ),
    "a json decoder made without its settings": lambda: (
        kernel("json").Decoder.__new__(kernel("json").Decoder).decode(bytes_of(b'{"a":1}').copy())
    ),
    "a group table made without its kinds": lambda: (
        kernel("groups").GroupTable.__new__(kernel("groups").GroupTable).assign([], 3)
    ),
    "copy_texts, a start near the last integer": lambda: kernel("strings").copy_texts(
        np.zeros(4, np.uint8), longs(END - 1), ints(4), None
    ),
    "a string outside of its bytes": lambda: kernel("encode").csv_rows(
        1, [("string", np.zeros(4, np.uint8), ints(2), ints(9), None)], b",", b'"', b"", 0
    ),
    "dedup, a group below 0": lambda: dedup().add(ints(-1), 1, longs(0), longs(0), 0),
    "dedup.keep, a group three times": lambda: dedup().keep(ints(0, 0, 0)),
    "split_lines, no room": lambda: kernel("lines").split_lines(
        bytes_of(b"a\nb\nc"), 10, np.empty(1, np.int32), np.empty(1, np.int32), np.empty(1, np.uint8)
    ),
    "approx_top_k of very many": lambda: window(aggregate=("approx_top_k", (0,), ("int64",), None, 400_000_000)),
    "approx_top_k of none": lambda: window(aggregate=("approx_top_k", (0,), ("int64",), None, 0)),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_refused(what: str) -> None:
    with pytest.raises((ValueError, IndexError, TypeError)):
        REFUSED[what]()


def test_where_an_empty_text_stands_does_not_matter() -> None:
    for start in (-1, -(1 << 30), 1 << 30):
        assert texts_of_keys(start, 0).tolist() == [0]
        assert texts_of_keys(start, 0, np.array([False])).tolist() == [0]
        columns = first_text(start, 0).close(5000, ints(0), 10)[3]
        assert columns[0][2].tolist() == [0]
        found = np.empty(1, bool)
        kernel("texts").find(np.zeros(4, np.uint8), ints(start), ints(0), *ABC, 2, found)
        assert not found[0]


def test_a_right_call_is_no_error() -> None:
    assert interval_loaded().rows == (1, 0)
    assert as_of_loaded().rows == (1, 1)


def test_two_threads_at_once_are_refused_or_take_turns() -> None:
    table = kernel("groups").GroupTable(["int64", "int64"])
    failures: list[BaseException] = []

    def use(seed: int) -> None:
        draw = np.random.default_rng(seed)
        for _ in range(30):
            column = (draw.integers(0, 1 << 40, 20_000), None)
            try:
                table.assign([column, column], 20_000)
            except RuntimeError:
                continue
            except BaseException as error:
                failures.append(error)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    threads = [threading.Thread(target=use, args=(seed,)) for seed in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sys.setswitchinterval(interval)
    assert not failures and len(table.order()) == table.size
