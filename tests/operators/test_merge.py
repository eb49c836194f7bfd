"""Reading inputs in step: the merged order depends on the rows alone."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from asyncflow.model.batch import END_OF_TIME, NO_TIME, Batch
from asyncflow.model.columns import FixedColumn
from asyncflow.model.schema import DataType, Schema
from asyncflow.operators.merge import InStepMerge

SCHEMA = Schema.of([("input", DataType.INT64), ("row", DataType.INT64)])
Rows = list[tuple[int, int, int]]


def batches_of(number: int, times: list[int], cuts: list[int], delay_ns: int) -> list[Batch]:
    """One input's rows, cut at ``cuts``, as a source would give them."""
    edges = sorted({0, len(times), *(cut % (len(times) + 1) for cut in cuts)})
    batches, watermark = [], NO_TIME
    for start, stop in pairwise(edges):
        part = np.array(times[start:stop], np.int64)
        rows = np.arange(start, stop)
        columns = (FixedColumn(np.full(len(part), number)), FixedColumn(rows))
        batches.append(Batch(SCHEMA, columns, len(part), part, None, watermark, delay_ns))
        watermark = max(watermark, int(part.max()) - delay_ns)
    return batches


def merged(
    inputs: list[list[Batch]], delay_ns: int, ahead: Callable[[int], int] | None = None
) -> tuple[Rows, list[int]]:
    """Drives a merge to its end, by what is wanted or of the input ``ahead(inputs)``;
    gives (input, row, watermark before it) and the watermarks as they rose."""
    merge = InStepMerge(len(inputs), delay_ns, range(len(inputs)))
    pending = [list(batches) for batches in inputs]
    rows: Rows = []
    watermarks = []
    while (number := merge.wanted) is not None:
        if ahead is not None and pending[other := ahead(len(inputs))]:
            number = other
        released = (
            merge.feed_batch(number, pending[number].pop(0)) if pending[number] else merge.feed_end(number)
        )
        for batch in released:
            rows += zip(
                batch["input"].tolist(), batch["row"].tolist(), batch.row_watermarks().tolist(), strict=True
            )
        watermarks.append(merge.watermark)
    return rows, watermarks


times = st.lists(st.integers(-20, 20), max_size=12)
cuts = st.lists(st.integers(0, 12), max_size=4)


@given(
    st.lists(times, min_size=1, max_size=3),
    st.lists(cuts, min_size=6, max_size=6),
    st.integers(0, 5),
    st.data(),
)
def test_order_depends_neither_on_batches_nor_on_which_input_is_fed(
    inputs: list[list[int]], cut: list[list[int]], delay_ns: int, data: st.DataObject
) -> None:
    one, _ = merged([batches_of(n, t, cut[n], delay_ns) for n, t in enumerate(inputs)], delay_ns)
    other, watermarks = merged(
        [batches_of(n, t, cut[n + 3], delay_ns) for n, t in enumerate(inputs)],
        delay_ns,
        lambda count: data.draw(st.integers(0, count - 1)),
    )
    assert one == other
    assert watermarks == sorted(watermarks)
    assert watermarks[-1] == END_OF_TIME
    for number, rows in enumerate(inputs):
        assert [row for source, row, _ in one if source == number] == list(range(len(rows)))


@given(st.lists(times, min_size=2, max_size=3), st.lists(cuts, min_size=3, max_size=3), st.data())
def test_no_row_comes_after_the_watermark_passed_its_own(
    inputs: list[list[int]], cut: list[list[int]], data: st.DataObject
) -> None:
    """The watermark given out never passes the watermark that a waiting row was judged by."""
    merge = InStepMerge(len(inputs), 0, range(len(inputs)))
    pending = [batches_of(n, t, cut[n], 0) for n, t in enumerate(inputs)]
    risen = NO_TIME
    while (number := merge.wanted) is not None:
        if pending[other := data.draw(st.integers(0, len(inputs) - 1))]:
            number = other
        for batch in (
            merge.feed_batch(number, pending[number].pop(0)) if pending[number] else merge.feed_end(number)
        ):
            assert int(batch.row_watermarks().min()) >= risen
            assert merge.watermark >= risen
            risen = merge.watermark
        risen = merge.watermark


def fed(merge: InStepMerge, number: int, message: Batch | int | None) -> list[Batch | int | None]:
    """What a table that reads these inputs sends on: the rows, the watermark between them where it rose, None at its end."""
    if isinstance(message, Batch):
        released = merge.feed_batch(number, message)
    elif message is None:
        released = merge.feed_end(number)
    else:
        released = merge.feed_watermark(number, message)
    sent: list[Batch | int | None] = []
    for batch in released:
        sent += [batch, merge.watermark]
    sent.append(merge.watermark)
    return [each for each in sent if each != END_OF_TIME] + ([None] if merge.wanted is None else [])


def held_back(number: int, times: list[int], cuts: list[int], hold: int) -> list[Batch | int | None]:
    """One input as a join gives it: what its rows carry, and what it says, lies ``hold`` behind their times."""
    messages: list[Batch | int | None] = []
    for batch in batches_of(number, sorted(times), cuts, 0):
        assert batch.time is not None
        marks = batch.time - hold
        messages += [replace(batch, watermarks=marks), int(marks[-1])]
    return [*messages, None]


@given(st.lists(times, min_size=3, max_size=3), st.lists(cuts, min_size=3, max_size=3), st.data())
def test_no_row_comes_after_the_watermark_passed_its_own_where_tables_hold_back_or_were_merged(
    inputs: list[list[int]], cut: list[list[int]], data: st.DataObject
) -> None:
    """An input that holds back is merged with one that does not, and what comes out with another one."""
    inner, outer = InStepMerge(2, 0, {1}), InStepMerge(2, 0, {1})
    plain: list[list[Batch | int | None]] = [
        [*batches_of(n, inputs[n], cut[n], n), None] for n in range(1, 3)
    ]
    pending = [held_back(0, inputs[0], cut[0], data.draw(st.integers(0, 30))), *plain]
    risen, rows = NO_TIME, 0
    while any(pending):
        number = data.draw(st.sampled_from([n for n in range(3) if pending[n]]))
        message = pending[number].pop(0)
        passed = fed(inner, number, message) if number < 2 else [message]
        for sent in [sent for each in passed for sent in fed(outer, number == 2, each)]:
            if isinstance(sent, Batch):
                rows += sent.num_rows
                assert int(sent.row_watermarks().min()) >= risen
            elif sent is not None:
                assert sent >= risen
                risen = sent
    assert outer.watermark == END_OF_TIME
    assert rows == sum(map(len, inputs))


def test_a_table_that_holds_back_holds_the_watermark_back() -> None:
    merge = InStepMerge(2, 0, {1})
    assert list(merge.feed_end(1)) == []
    batch, *_ = held_back(0, [5001], [], 5000)
    assert isinstance(batch, Batch)
    (rows,) = merge.feed_batch(0, batch)
    assert rows.row_watermarks().tolist() == [1]
    assert merge.watermark == NO_TIME, "a row at 5002 may still come with less than 5001 before it"
    list(merge.feed_watermark(0, 2))
    assert merge.watermark == 2


def test_the_one_behind_is_read_first() -> None:
    merge = InStepMerge(2, 0)
    assert merge.wanted == 0
    assert list(merge.feed_batch(0, batches_of(0, [100], [], 0)[0])) == []
    assert merge.wanted == 1
    (rows,) = merge.feed_batch(1, batches_of(1, [5, 200], [], 0)[0])
    assert rows["input"].tolist() == [1, 0]
    assert merge.wanted == 0
    assert [batch["row"].tolist() for batch in merge.feed_end(0)] == [[1]]


def test_what_an_input_is_ahead_by_is_held_and_counted() -> None:
    merge = InStepMerge(2, 0)
    for batch in batches_of(0, list(range(100)), list(range(0, 100, 10)), 0):
        assert list(merge.feed_batch(0, batch)) == []
    assert (merge.ports[0].rows, merge.held_bytes(1)) == (100, 0)
    held = merge.held_bytes(0)
    assert held >= 100 * 40
    (first, *_) = released = list(merge.feed_watermark(1, 50))
    assert first.num_rows == 10, "batches go on one by one, however much is released at once"
    assert [row for batch in released for row in batch["row"].tolist()] == list(range(51))
    assert 0 < merge.held_bytes(0) < held
    assert sum(batch.num_rows for batch in merge.feed_end(1)) == 49
    assert merge.held_bytes(0) == 0
