"""Results whose texts are long come in pieces bounded in bytes, and are the same rows."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

import asyncflow as af
from asyncflow._kernels import kernel
from asyncflow.errors import TooLargeError
from asyncflow.model.batch import Batch, iter_pieces
from asyncflow.model.columns import StringColumn, column_from_values, text_starts
from asyncflow.model.schema import DataType, Schema
from asyncflow.operators import pieces
from asyncflow.operators.windows import slot_window, window
from asyncflow.runtime.stages import sink

ROWS = [{"ts": second, "k": chr(97 + second % 3) * 50, "t": str(second) * 30} for second in range(40)]
SCHEMA = {"ts": "timestamp[s]", "k": "string", "t": "string"}
WINDOWS = {
    "tumbling": af.tumbling("10s"),
    "hopping": af.hopping("10s", "1s"),
    "session": af.session("4s"),
    "count": af.count(3),
    "all": af.all_rows(),
}
AGGREGATES = {
    "n": "count(*)",
    "first": "first(t)",
    "top": "approx_top_k(t, 2)",
    "sum": "sum(extract(second FROM ts))",
}


async def rows_of(shape: object, **options: object) -> tuple[list[dict[str, object]], int]:
    flow = af.source(ROWS, schema=SCHEMA, time="ts").window(shape, by=["k"], aggregates=AGGREGATES, **options)  # type: ignore[arg-type]
    found = [batch async for batch in flow]
    return [row for batch in found for row in batch.to_pylist()], len(found)


@pytest.mark.parametrize("shape", WINDOWS)
async def test_pieces_are_the_same_rows(shape: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, _ = await rows_of(WINDOWS[shape])
    for module in (pieces, window, slot_window):
        monkeypatch.setattr(module, "MAX_OUTPUT_BYTES", 200)
    cut, count = await rows_of(WINDOWS[shape])
    assert cut == whole and count > 1


@pytest.mark.parametrize("shape", ["tumbling", "hopping"])
async def test_pieces_of_windows_that_are_sent_again(shape: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, _ = await rows_of(WINDOWS[shape], allowed_lateness="5s")
    monkeypatch.setattr(pieces, "MAX_OUTPUT_BYTES", 200)
    assert (await rows_of(WINDOWS[shape], allowed_lateness="5s"))[0] == whole


def test_a_key_of_many_rows_is_copied_once() -> None:
    table = kernel("groups").GroupTable(["string"])
    text = StringColumn.from_values([b"x" * 1000])
    table.assign([(text.data, text.starts, text.lengths, None)], 1)
    (column,) = pieces.key_columns(table, np.zeros(100, np.int32), 2000)
    assert isinstance(column, StringColumn)
    assert len(column) == 100 and len(column.data) == 1000 and column.to_list() == ["x" * 1000] * 100
    with pytest.raises(OverflowError):
        pieces.key_columns(table, np.zeros(1, np.int32), 500)


def test_what_is_written_in_one_go_is_bounded_in_bytes() -> None:
    texts = column_from_values(DataType.STRING, ["a" * 100, "", "b" * 5000, *["c" * 40] * 10])
    batch = Batch(Schema.of([("t", DataType.STRING)]), (texts,), 13)
    parts = list(iter_pieces(batch, 6, 300))
    assert [row for part in parts for row in part.to_pylist()] == batch.to_pylist()
    assert all(part.num_rows <= 6 and (part.num_rows == 1 or part.nbytes <= 400) for part in parts)
    assert sink.MAX_ENCODED_BYTES <= 1 << 28


def test_lengths_are_summed_in_64_bits() -> None:
    lengths = np.full(5, 1 << 30, np.int32)
    with pytest.raises(TooLargeError, match="5GiB, more than the 2GiB"):
        text_starts(lengths)
    assert text_starts(np.array([3, 0, 4], np.int32)).tolist() == [0, 3, 3]
    data = np.zeros(1 << 20, np.uint8)
    wide = StringColumn(data, np.zeros(1 << 13, np.int32), np.full(1 << 13, 1 << 20, np.int32))
    assert wide.nbytes == (1 << 33) + (8 << 13)
    with pytest.raises(TooLargeError):
        wide.compact()


def test_texts_get_bytes_of_their_own() -> None:
    texts = [None, b"", b"abc", b"x" * 40, b"de", b"", b"f", None]
    rows = np.array([3, 2, 2, 0, 1, 6, 4, 3, 5, 7, 1])
    column = StringColumn.from_values(texts).take(rows).compact()
    assert column.to_bytes_list() == [texts[row] for row in rows]
    assert len(column.data) == 89
    assert StringColumn.from_values([]).compact().to_list() == []


def test_few_rows_of_a_batch_do_not_keep_its_texts() -> None:
    column = StringColumn.from_values([b"0123456789"] * 100)
    batch = Batch(Schema.of([("k", DataType.STRING)]), (column,), 100)
    few, many = batch.take(np.arange(3)), batch.take(np.arange(50))
    assert few["k"].tolist() == ["0123456789"] * 3
    assert [len(part.columns[0].data) for part in (few, many)] == [30, 1000]  # type: ignore[union-attr]
    same = StringColumn(column.data[:10], np.zeros(100, np.int32), np.full(100, 10, np.int32))
    again = Batch(batch.schema, (same,), 100).take(np.arange(3)).columns[0]
    assert again.data is same.data  # type: ignore[union-attr]


def test_moving_texts_takes_little_beside_them() -> None:
    column = StringColumn.from_values([b"0123456789" * 10] * 100_000)
    tracemalloc.start()
    column.compact()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 * len(column.data)


@pytest.mark.parametrize(
    ("starts", "lengths", "told"),
    [
        ([1 << 30], [8], "outside"),
        ([0], [-1], "outside"),
        ([-1], [1], "outside"),
        ([2], [2], "outside"),
        ([0, 0], [1], "as long"),
    ],
)
async def test_a_batch_that_is_none_is_told_at_the_stage_that_gave_it(
    starts: list[int], lengths: list[int], told: str
) -> None:
    def wild(batch: af.Batch) -> af.Batch:
        column = StringColumn(np.zeros(3, np.uint8), np.array(starts, np.int32), np.array(lengths, np.int32))
        return af.Batch(batch.schema, (column,), 1)

    flow = af.source([{"s": "x"}], schema={"s": "string"}).map(wild).named("wild").derive(h="hash(s)")
    with pytest.raises(af.StageError, match=rf"wild: .*{told}"):
        async for _ in flow:
            pass
