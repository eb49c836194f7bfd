"""The joins' cores against a plain twin: all pairs looked at, however the two inputs are cut and interleaved."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncflow.errors import StageError
from asyncflow.model.batch import END_OF_TIME, NO_TIME, Batch, concat_batches
from asyncflow.model.columns import FixedColumn, column_from_values
from asyncflow.model.schema import DataType, Schema
from asyncflow.operators.contract import Output, TwoInputOperator
from asyncflow.operators.joins import as_of, interval, places, results, timed, window
from asyncflow.operators.joins.lookup import LookupJoin
from asyncflow.operators.pieces import MAX_OUTPUT_ROWS
from asyncflow.plan.stages.join import Join
from asyncflow.plan.windows import Hopping, Tumbling
from tests.operators_of import operator_of

LEFT = Schema.of([("k", DataType.STRING), ("ts", DataType.TIMESTAMP), ("l", DataType.INT64)])
RIGHT = Schema.of([("k", DataType.STRING), ("ts", DataType.TIMESTAMP), ("r", DataType.INT64)])
KINDS = ("inner", "left", "right", "full", "semi", "anti")
Row = tuple[str | None, int]


@dataclass(frozen=True)
class Input:
    """One side: rows (key, time) in their order of arrival, under a watermark ``delay`` behind the greatest time."""

    rows: list[Row]
    delay: int

    def seen(self) -> list[int]:
        times = [time for _, time in self.rows]
        return [max(times[:i]) - self.delay if i else NO_TIME for i in range(len(times))]

    def messages(self, schema: Schema, chance: random.Random) -> Iterator[Batch | int]:
        """Batches cut at random, and the watermark after each where it has risen."""
        start, watermark = 0, NO_TIME
        while start < len(self.rows):
            stop = min(len(self.rows), start + chance.randint(1, 6))
            part = self.rows[start:stop]
            columns = tuple(
                column_from_values(field.type, values)
                for field, values in zip(
                    schema,
                    ([k for k, _ in part], [t for _, t in part], list(range(start, stop))),
                    strict=True,
                )
            )
            times = np.array([t for _, t in part], np.int64)
            yield Batch(schema, columns, len(part), times, None, watermark, self.delay)
            if max(t for _, t in part) - self.delay > watermark:
                watermark = max(t for _, t in part) - self.delay
                yield watermark
            start = stop


Result = tuple[int | None, int | None, int, int]  # left row, right row, time, watermark before it


def drive(operator: TwoInputOperator, left: Input, right: Input, seed: int) -> tuple[list[Result], list[int]]:
    """What comes out of one interleaving: the results, and the left rows that were late."""
    chance = random.Random(seed)
    queues = [list(left.messages(LEFT, chance)), list(right.messages(RIGHT, chance))]
    ended = [False, False]
    watermarks = [NO_TIME, NO_TIME]
    found: list[Result] = []
    late: list[int] = []
    last = NO_TIME

    def take(outputs: Iterable[Output]) -> None:
        for output in outputs:
            batch = output.batch
            if output.kind == "late":
                late.extend(row["l"] for row in batch.to_pylist())
                continue
            assert batch.time is not None
            assert batch.num_rows <= MAX_OUTPUT_ROWS
            before = batch.row_watermarks()
            assert all(batch.time >= before), "no result is late for what follows"
            assert all(batch.time >= last), "no result is behind the watermark that was given out"
            for row, time, watermark in zip(batch.to_pylist(), batch.time, before, strict=True):
                found.append((row["l"], row.get("r"), int(time), int(watermark)))

    while not all(ended):
        port = chance.choice([port for port in (0, 1) if not ended[port]])
        for _ in range(chance.choice([1, 2, 50])):
            if not queues[port]:
                ended[port] = True
                watermarks[port] = END_OF_TIME
                take(operator.finish(port))
                if not all(ended):
                    take(operator.advance(min(watermarks)))
                break
            message = queues[port].pop(0)
            if isinstance(message, int):
                watermarks[port] = message
            take(
                operator.advance(min(watermarks))
                if isinstance(message, int)
                else operator.process(port, message)
            )
        assert operator.watermark >= last
        last = operator.watermark
    counts = operator.counts
    assert counts["left_matched"] + counts["left_unmatched"] + counts["late"] == len(left.rows)
    assert counts["right_matched"] + counts["right_unmatched"] + counts["late_right"] == len(right.rows)
    return found, late


def twin(
    stage: Join, left: Input, right: Input
) -> tuple[list[tuple[int | None, int | None, int]], list[int]]:
    """The results (left row, right row, time) in their order, and the late left rows, by the words of the contract."""
    left_seen, right_seen = left.seen(), right.seen()
    released: list[tuple[int, float, float, int | None, int | None, int]] = []
    matched: tuple[set[Any], set[Any]] = (set(), set())  # rows, or rows in a window
    pairs = []  # (release, left row, right row, window)
    if stage.within_ns is not None:
        low, high = stage.within_ns
        last = (lambda t: [(t + max(0, high), None)], lambda t: [(t + max(0, -low), None)])
        for i, j in same_keys(left, right):
            a, b = left.rows[i][1], right.rows[j][1]
            if (
                low <= b - a <= high
                and left_seen[i] <= b + max(0, -low)
                and right_seen[j] <= a + max(0, high)
            ):
                pairs.append((max(a, b, left_seen[i], right_seen[j]), i, j, None))
    elif stage.window is not None:
        last = (lambda t: windows(stage.window, t),) * 2
        for i, j in same_keys(left, right):
            for release, window in set(last[0](left.rows[i][1])) & set(last[1](right.rows[j][1])):
                if release >= max(left_seen[i], right_seen[j]):
                    pairs.append((release, i, j, window))
    else:
        tolerance = stage.tolerance_ns if stage.tolerance_ns is not None else 10**9
        wait = 0 if stage.as_of == "backward" else tolerance
        reach = tolerance + (wait if stage.as_of == "nearest" else 0)
        last = (lambda t: [(t + wait, None)], lambda t: [(t + reach, None)])
        best: dict[int, tuple[Any, int]] = {}
        for i, j in same_keys(left, right):
            a, b = left.rows[i][1], right.rows[j][1]
            sided = {"backward": b <= a, "forward": b >= a, "nearest": True}[stage.as_of or ""]
            if not sided or abs(a - b) > tolerance or a + wait < max(left_seen[i], right_seen[j]):
                continue
            looking_back = stage.as_of == "backward" or (stage.as_of == "nearest" and b <= a)
            rank = (abs(a - b), b, -j if looking_back else j)
            if i not in best or rank < best[i][0]:
                best[i] = rank, j
        pairs = [(left.rows[i][1] + wait, i, j, None) for i, (_, j) in best.items()]
    first: dict[Any, int] = {}
    for release, i, j, window in sorted(pairs, key=lambda pair: pair[:3]):
        matched[0].add((i, window))
        matched[1].add((j, window))
        first.setdefault((i, window), release)
        if stage.kind not in ("semi", "anti"):
            time = max(left.rows[i][1], right.rows[j][1])
            released.append((release, i, j, i, j, time))
    for i, (_, time) in enumerate(left.rows):
        for release, window in last[0](time):
            if stage.within_ns is not None and left_seen[i] <= time + stage.within_ns[1] + max(
                0, -stage.within_ns[0]
            ):
                release = max(release, left_seen[i])
            alone = (i, window) not in matched[0] and release >= left_seen[i]
            if stage.kind in ("left", "full", "anti") and alone:
                released.append((release, i, float("inf"), i, None, time))
            if stage.kind == "semi" and (i, window) in first:
                released.append((first[i, window], i, float("inf"), i, None, time))
    for j, (_, time) in enumerate(right.rows):
        for release, window in last[1](time):
            if stage.within_ns is not None and right_seen[j] <= time - stage.within_ns[0] + max(
                0, stage.within_ns[1]
            ):
                release = max(release, right_seen[j])
            if stage.kind in ("right", "full") and (j, window) not in matched[1] and release >= right_seen[j]:
                released.append((release, float("inf"), j, None, j, time))
    if stage.within_ns is not None:  # its last possible partner's expiry
        last = (lambda t: [(t + high + max(0, -low), None)], last[1])
    late = [i for i, (_, t) in enumerate(left.rows) if left_seen[i] > max(r for r, _ in last[0](t))]
    return [(i, j, time) for _, _, _, i, j, time in sorted(released, key=lambda row: row[:3])], late


def same_keys(left: Input, right: Input) -> Iterator[tuple[int, int]]:
    for i, (key, _) in enumerate(left.rows):
        for j, (other, _) in enumerate(right.rows):
            if key is not None and key == other:
                yield i, j


def windows(shape: Any, time: int) -> list[tuple[int, int]]:
    """(release, start) of the windows that hold a time."""
    every = shape.every_ns if isinstance(shape, Hopping) else shape.size_ns
    starts = range((time - shape.offset_ns) // every * every + shape.offset_ns, time - shape.size_ns, -every)
    return [(start + shape.size_ns - 1, start) for start in starts]


sides = st.builds(
    Input,
    st.lists(st.tuples(st.sampled_from(["a", "a", "a", "é" * 9, None]), st.integers(-3, 30)), max_size=25),
    st.sampled_from([0, 2, 5, 12, 100]),
)
MODES: dict[str, dict[str, Any]] = {
    "within": {"within_ns": (-5, 5)},
    "at once": {"within_ns": (0, 0)},
    "after": {"within_ns": (2, 9)},
    "before": {"within_ns": (-9, -2)},
    "tumbling": {"window": Tumbling(10, 3)},
    "hopping": {"window": Hopping(10, 4)},
    "backward": {"as_of": "backward", "tolerance_ns": 6},
    "backward for ever": {"as_of": "backward"},
    "forward": {"as_of": "forward", "tolerance_ns": 6},
    "nearest": {"as_of": "nearest", "tolerance_ns": 6},
    "nearest at once": {"as_of": "nearest", "tolerance_ns": 0},
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mode", MODES)
@settings(max_examples=25, deadline=None)
@given(left=sides, right=sides, seed=st.integers(0, 10_000), small=st.booleans())
def test_it_is_the_twin_for_any_interleaving(
    mode: str, kind: str, left: Input, right: Input, seed: int, small: bool
) -> None:
    if mode == "backward for ever" and kind in ("right", "full"):
        return
    stage = Join("j", ("l", "r"), (("k", "k"),), kind, **MODES[mode])
    expected, expected_late = twin(stage, left, right)
    with pytest.MonkeyPatch.context() as patch:
        if small:
            patch.setattr(results, "MAX_PAIRS", 3)
            patch.setattr(results, "MAX_OUTPUT_ROWS", 2)
            patch.setattr(interval, "MAX_OUTPUT_ROWS", 2)
            patch.setattr(as_of, "RESULT_ROWS", 2)
            patch.setattr(as_of, "FEW_PLACES", 1)
            patch.setattr(window, "MAX_PAIRS", 2)
            patch.setattr(window, "MAX_ENTRIES", 5)
            patch.setattr(timed, "FEW_KEYS", 1)
            patch.setattr(interval, "FEW_PLACES", 1)
            patch.setattr(places, "FEW_BYTES", 1)
        found, late = drive(operator_of(stage, LEFT, RIGHT), left, right, seed)
        assert [row[:3] for row in found] == expected
        assert late == expected_late
        again, _ = drive(operator_of(stage, LEFT, RIGHT), left, right, seed + 1)
        assert again == found


@pytest.mark.parametrize(
    ("direction", "time", "expected"),
    [("backward", 9, 2), ("forward", 4, 0), ("nearest", 9, 2), ("nearest", 4, 0)],
)
def test_of_right_rows_at_one_time_looking_back_takes_the_last(
    direction: str, time: int, expected: int
) -> None:
    """Also where the clock has passed the first before the others came."""
    stage = Join("j", ("l", "r"), (("k", "k"),), as_of=direction, tolerance_ns=6)
    operator = operator_of(stage, LEFT, RIGHT)
    rows = Input([("a", 5), ("b", 8), ("a", 5)], 0)
    messages = [each for each in rows.messages(RIGHT, random.Random(2)) if isinstance(each, Batch)]
    whole = messages[0] if len(messages) == 1 else concat_batches(messages)
    list(operator.process(1, whole.slice(0, 2)))
    assert list(operator.advance(8)) == []
    list(operator.process(1, whole.slice(2, 3)))
    list(operator.process(0, batch_of(LEFT, ["a"], [time])))
    found = [row["r"] for port in (0, 1) for out in operator.finish(port) for row in out.batch.to_pylist()]
    assert found == [expected]


def batch_of(schema: Schema, keys: list[str | None], times: list[int]) -> Batch:
    values = (keys, times, list(range(len(keys))))
    columns = tuple(column_from_values(f.type, v) for f, v in zip(schema, values, strict=True))
    return Batch(schema, columns, len(keys), np.array(times, np.int64))


@pytest.mark.parametrize("mode", ["within", "hopping", "backward", "forward", "nearest"])
def test_state_stays_flat_over_ever_new_keys(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand times as many rows and keys as are ever held at once."""
    monkeypatch.setattr(timed, "FEW_KEYS", 1 << 9)
    monkeypatch.setattr(interval, "FEW_PLACES", 1 << 9)
    monkeypatch.setattr(as_of, "FEW_PLACES", 1 << 9)
    operator = operator_of(Join("j", ("l", "r"), (("k", "k"),), "full", **MODES[mode]), LEFT, RIGHT)
    held = []
    moments, rows = 1500, 10
    for number in range(moments):
        times = [number] * rows
        keys = [f"key {number} {row}" for row in range(rows)]
        for port, schema in enumerate((LEFT, RIGHT)):
            assert list(operator.process(port, batch_of(schema, list(keys), times))) == []
        list(operator.advance(number))
        held.append(operator.state_bytes)
    assert max(held[moments // 2 :]) <= 1.5 * max(held[: moments // 2])
    assert max(held) < 4 << 20
    assert operator.counts["left_matched"] + operator.counts["left_unmatched"] >= 0.9 * moments * rows


def test_the_last_row_of_each_key_is_all_that_stays_without_a_tolerance() -> None:
    stage = Join("j", ("l", "r"), (("k", "k"),), "inner", as_of="backward")
    operator = operator_of(stage, LEFT, RIGHT)
    held = []
    for number in range(2000):
        list(operator.process(1, batch_of(RIGHT, [f"key {row}" for row in range(50)], [number] * 50)))
        list(operator.advance(number + 1))
        held.append(operator.state_bytes)
    assert max(held[1000:]) <= 1.5 * max(held[:1000])
    list(operator.process(0, batch_of(LEFT, ["key 7"], [5000])))
    rows = [row for port in (0, 1) for out in operator.finish(port) for row in out.batch.to_pylist()]
    assert [(row["ts"], row["ts_right"]) for row in rows] == [(5000, 1999)]


@pytest.mark.parametrize("mode", [{"within_ns": (0, 10**6)}, {}], ids=["within", "lookup"])
def test_too_much_state_names_keys_and_size(mode: dict[str, Any]) -> None:
    stage = Join("j", ("l", "r"), (("k", "k"),), max_state_bytes=100_000, **mode)
    operator = operator_of(stage, LEFT, RIGHT)
    keys: list[str | None] = [f"key {row}" for row in range(500)]
    with pytest.raises(StageError, match=r"500 keys.* KiB.*max_state = 97\.7KiB|500 keys.*KiB"):
        for _ in range(50):
            list(operator.process(1, batch_of(RIGHT, keys, [0] * 500)))


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60, deadline=None)
@given(left=sides, right=sides, seed=st.integers(0, 10_000), small=st.booleans(), crossed=st.booleans())
def test_a_lookup_gives_each_left_row_with_all_its_matches(
    kind: str, left: Input, right: Input, seed: int, small: bool, crossed: bool
) -> None:
    stage = Join("j", ("l", "r"), () if crossed else (("k", "k"),), kind)
    expected: list[tuple[int | None, int | None]] = []
    met = set()
    for i, (key, _) in enumerate(left.rows):
        found = [j for j, (k, _) in enumerate(right.rows) if crossed or (key is not None and k == key)]
        met |= set(found)
        if kind in ("semi", "anti"):
            expected += [(i, None)] if bool(found) == (kind == "semi") else []
        else:
            expected += [(i, j) for j in found] or ([(i, None)] if kind in ("left", "full") else [])
    if kind in ("right", "full"):
        expected += [(None, j) for j in range(len(right.rows)) if j not in met]
    with pytest.MonkeyPatch.context() as patch:
        if small:
            patch.setattr("asyncflow.operators.joins.lookup.MAX_OUTPUT_ROWS", 2)
            patch.setattr("asyncflow.operators.joins.lookup_table.FEW_KEYS", 1)
        operator = operator_of(stage, LEFT, RIGHT)
        chance = random.Random(seed)
        rows = []
        for port, side, schema in ((1, right, RIGHT), (0, left, LEFT)):
            for message in side.messages(schema, chance):
                if isinstance(message, Batch):
                    for output in operator.process(port, message):
                        rows += [(row["l"], row.get("r")) for row in output.batch.to_pylist()]
                        for row in output.batch.to_pylist() if kind not in ("semi", "anti") else ():
                            assert (row["r"] is None) == (row["ts_right"] is None)
            rows += [(r["l"], r.get("r")) for out in operator.finish(port) for r in out.batch.to_pylist()]
    assert rows == expected
    counts = operator.counts
    assert counts["right_matched"] == len(met)
    assert counts["right_matched"] + counts["right_unmatched"] == len(right.rows)
    assert counts["left_matched"] + counts["left_unmatched"] == len(left.rows)


@pytest.mark.parametrize("kind", ["inner", "left", "semi", "anti"])
@settings(max_examples=40, deadline=None)
@given(
    steps=st.lists(st.tuples(sides, st.lists(sides, max_size=2), st.booleans()), min_size=1, max_size=4),
    seed=st.integers(0, 10_000),
)
def test_a_lookup_that_is_read_again_is_one_lookup_after_another(
    kind: str, steps: list[tuple[Input, list[Input], bool]], seed: int
) -> None:
    """Each step: a table, left rows that come while it is the one in use, and whether its reading succeeds (the first one does)."""
    stage, chance = Join("j", ("l", "r"), (("k", "k"),), kind), random.Random(seed)

    def batches(side: Input, schema: Schema) -> list[Batch]:
        return [message for message in side.messages(schema, chance) if isinstance(message, Batch)]

    again, single, used = operator_of(stage, LEFT, RIGHT), operator_of(stage, LEFT, RIGHT), Counter[str]()
    assert isinstance(again, LookupJoin)
    for number, (table, lefts, succeeds) in enumerate(steps):
        right = batches(table, RIGHT)
        if number == 0:
            for batch in right:
                list(again.process(1, batch))
            list(again.finish(1))
        else:
            again.read_again()
            for batch in right:
                again.hold(batch)
            again.take_over() if succeeds else again.give_up()
        if number == 0 or succeeds:
            list(single.finish(0)) if number else None
            used.update(single.counts if number else {})
            single = operator_of(stage, LEFT, RIGHT)
            for batch in right:
                list(single.process(1, batch))
            list(single.finish(1))
        for batch in [each for left in lefts for each in batches(left, LEFT)]:
            found, expected = (
                [row for out in operator.process(0, batch) for row in out.batch.to_pylist()]
                for operator in (again, single)
            )
            assert found == expected
    for operator in (again, single):
        list(operator.finish(0))
    used.update(single.counts)
    assert again.counts == {name: used[name] for name in again.counts}


def test_a_lookup_forgets_keys_that_only_the_left_side_has() -> None:
    operator = operator_of(Join("j", ("l", "r"), (("k", "k"),)), LEFT, RIGHT)
    list(operator.process(1, batch_of(RIGHT, ["a", "b"], [0, 0])))
    list(operator.finish(1))
    held = []
    for number in range(60):
        keys: list[str | None] = [f"{number} {row}" for row in range(5000)]
        outputs = list(operator.process(0, batch_of(LEFT, [*keys, "b"], [0] * 5001)))
        assert [row["r"] for out in outputs for row in out.batch.to_pylist()] == [1]
        held.append(operator.state_bytes)
    assert max(held[30:]) <= max(held[:30])


@pytest.mark.parametrize("kind", ["left", "full"])
@pytest.mark.parametrize("offset", [0, 3])
def test_windows_that_reach_beyond_time_are_windows(kind: str, offset: int) -> None:
    """The first and the last instant there are lie in as many windows as any other."""
    stage = Join("j", ("l", "r"), (("k", "k"),), kind, window=Hopping(10, 5, offset))
    operator = operator_of(stage, LEFT, RIGHT)
    times = [NO_TIME + 1, NO_TIME + 6, 0, END_OF_TIME - 6, END_OF_TIME - 1]
    list(operator.process(0, batch_of(LEFT, ["a"] * 5, times)))
    list(operator.process(1, batch_of(RIGHT, ["a"], [END_OF_TIME - 1])))
    outputs = [out.batch for port in (0, 1) for out in operator.finish(port)]
    rows = [row for batch in outputs for row in batch.to_pylist()]
    assert sorted(row["l"] for row in rows if row["l"] is not None) == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    assert [row["l"] for row in rows if row.get("r") is not None].count(4) == 2


def test_many_small_batches_that_wait_for_their_window_are_few_parts() -> None:
    """The size of all parts is summed up with each batch: with one of each batch that would be ever more work."""
    operator = operator_of(Join("j", ("l", "r"), (("k", "k"),), window=Hopping(4000, 1000)), LEFT, RIGHT)
    assert isinstance(operator, window.WindowJoin)
    times = random.Random(1).choices(range(8000), k=2000)
    for time in times:
        list(operator.process(0, batch_of(LEFT, ["a"], [time])))
    assert len(operator._sides[0].parts) <= 12
    list(operator.process(1, batch_of(RIGHT, ["a"], [3500])))
    found = [row["ts"] for port in (0, 1) for out in operator.finish(port) for row in out.batch.to_pylist()]
    assert len(found) == sum(max(0, 4 - abs(time // 1000 - 3)) for time in times)


@pytest.mark.parametrize("mode", [{"within_ns": (-2, 3)}, {"as_of": "nearest", "tolerance_ns": 3}])
def test_a_row_that_comes_alone_is_paired_like_others(mode: dict[str, Any]) -> None:
    """Batches of a row, in no order of time, of a side that is far ahead."""
    operator = operator_of(Join("j", ("l", "r"), (("k", "k"),), **mode), LEFT, RIGHT)
    chance = random.Random(1)
    times = [100 + position // 3 - chance.randint(0, 4) for position in range(2000)]
    for time in times:
        list(operator.process(0, batch_of(LEFT, ["a"], [time])))
    list(operator.process(1, batch_of(RIGHT, ["a"], [300])))
    found = [row["ts"] for port in (0, 1) for out in operator.finish(port) for row in out.batch.to_pylist()]
    assert len(found) == sum(-3 <= time - 300 <= (2 if "within_ns" in mode else 3) for time in times)


@pytest.mark.parametrize("kind", ["inner", "left", "full", "semi"])
def test_pairs_of_one_window_come_in_pieces_and_only_as_they_are_taken(kind: str) -> None:
    count = 2000
    stage = Join("j", ("l", "r"), (("k", "k"),), kind, window=Tumbling(10))
    operator = operator_of(stage, LEFT, RIGHT)
    keys, times = column_from_values(DataType.STRING, ["hot"] * count), np.ones(count, np.int64)
    for port, schema in enumerate((LEFT, RIGHT)):
        columns = (keys, FixedColumn(times), FixedColumn(np.arange(count)))
        list(operator.process(port, Batch(schema, columns, count, times)))
    list(operator.finish(0))
    outputs = iter(operator.finish(1))
    first = next(outputs).batch
    assert first.num_rows <= 1 << 15
    assert operator.state_bytes >= count * 2 * 16  # what waits is held until its last pair has come
    rows = first.num_rows + sum(output.batch.num_rows for output in outputs)
    assert rows == (count if kind == "semi" else count * count)
    assert operator.waiting_rows == (0, 0)
