"""Reading inputs in step: the merged order depends on the rows alone."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

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


def merged(inputs: list[list[Batch]], delay_ns: int) -> tuple[Rows, list[int]]:
    """Drives a merge to its end; gives (input, row, watermark before it) and the watermarks as they rose."""
    merge = InStepMerge(len(inputs), delay_ns)
    pending = [list(batches) for batches in inputs]
    rows: Rows = []
    watermarks = []
    while (number := merge.wanted) is not None:
        batch = (
            merge.feed_batch(number, pending[number].pop(0)) if pending[number] else merge.feed_end(number)
        )
        if batch is not None:
            rows += zip(
                batch["input"].tolist(), batch["row"].tolist(), batch.row_watermarks().tolist(), strict=True
            )
        watermarks.append(merge.watermark)
    return rows, watermarks


times = st.lists(st.integers(-20, 20), max_size=12)
cuts = st.lists(st.integers(0, 12), max_size=4)


@given(st.lists(times, min_size=1, max_size=3), st.lists(cuts, min_size=6, max_size=6), st.integers(0, 5))
def test_order_does_not_depend_on_batches(
    inputs: list[list[int]], cut: list[list[int]], delay_ns: int
) -> None:
    one, _ = merged([batches_of(n, t, cut[n], delay_ns) for n, t in enumerate(inputs)], delay_ns)
    other, watermarks = merged(
        [batches_of(n, t, cut[n + 3], delay_ns) for n, t in enumerate(inputs)], delay_ns
    )
    assert one == other
    assert watermarks == sorted(watermarks)
    assert watermarks[-1] == END_OF_TIME
    for number, rows in enumerate(inputs):
        assert [row for source, row, _ in one if source == number] == list(range(len(rows)))


@given(st.lists(times, min_size=2, max_size=3), st.lists(cuts, min_size=3, max_size=3))
def test_no_row_comes_after_the_watermark_passed_its_own(
    inputs: list[list[int]], cut: list[list[int]]
) -> None:
    """The watermark given out never passes the watermark that a waiting row was judged by."""
    merge = InStepMerge(len(inputs), 0)
    pending = [batches_of(n, t, cut[n], 0) for n, t in enumerate(inputs)]
    risen = NO_TIME
    while (number := merge.wanted) is not None:
        batch = (
            merge.feed_batch(number, pending[number].pop(0)) if pending[number] else merge.feed_end(number)
        )
        if batch is not None and batch.num_rows:
            assert int(batch.row_watermarks().min()) >= risen
        risen = merge.watermark


def test_the_one_behind_is_read_first() -> None:
    merge = InStepMerge(2, 0)
    assert merge.wanted == 0
    assert merge.feed_batch(0, batches_of(0, [100], [], 0)[0]) is None
    assert merge.wanted == 1
    rows = merge.feed_batch(1, batches_of(1, [5, 200], [], 0)[0])
    assert rows is not None
    assert rows["input"].tolist() == [1, 0]
    assert merge.wanted == 0
    assert merge.feed_end(0) is not None
