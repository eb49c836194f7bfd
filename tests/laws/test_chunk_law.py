"""Chunk law and worker law: however the bytes are cut and however many threads decode, every sink gets the same bytes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import asyncflow.runtime.base.workers
from asyncflow._kernels.window import WindowState
from asyncflow.operators.aggregates import state
from asyncflow.operators.windows import folding, window
from asyncflow.testing import chunks, one_by_one
from tests.laws.flows import STAGES, csv_bytes, json_bytes, outcome, pipeline, rows

Table = list[tuple[int, str, float | None, int | None]]
few = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.mark.parametrize("stage", STAGES)
@few
@given(table=rows, seed=st.integers(0, 1000), at_most=st.sampled_from([1, 5, 40, 300]))
def test_csv_cut_anywhere(stage: str, table: Table, seed: int, at_most: int) -> None:
    data = csv_bytes(table, "\r\n" if seed % 2 else "\n")
    whole = outcome(pipeline(stage), [data])
    assert outcome(pipeline(stage), chunks(data, seed, at_most)) == whole
    assert outcome(pipeline(stage), one_by_one(data)) == whole


@pytest.mark.parametrize("stage", STAGES)
@few
@given(table=rows, seed=st.integers(0, 1000), order=st.lists(st.integers(0, 3), min_size=1, max_size=4))
def test_json_cut_anywhere(stage: str, table: Table, seed: int, order: list[int]) -> None:
    data = json_bytes(table, order)
    text = pipeline(stage, source_format="json", sink_format="csv")
    whole = outcome(text, [data])
    assert outcome(text, chunks(data, seed)) == whole
    assert outcome(text, one_by_one(data)) == whole


@few
@given(table=rows, junk=st.lists(st.binary(max_size=12), max_size=6), seed=st.integers(0, 1000))
def test_garbage_among_the_rows(table: Table, junk: list[bytes], seed: int) -> None:
    lines = csv_bytes(table).splitlines(keepends=True)
    for number, piece in enumerate(junk):
        lines.insert(1 + (seed + number * 7) % len(lines), piece + b"\n")
    data = b"".join(lines)
    whole = outcome(pipeline("tumbling"), [data])
    assert outcome(pipeline("tumbling"), chunks(data, seed)) == whole
    assert outcome(pipeline("tumbling"), one_by_one(data)) == whole


@pytest.mark.parametrize("workers", [2, 7])
@few
@given(table=rows, seed=st.integers(0, 1000))
def test_any_number_of_workers(workers: int, table: Table, seed: int) -> None:
    data = csv_bytes(table * 3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(asyncflow.runtime.base.workers, "INLINE_BYTES", 1)
        several = outcome(pipeline("hopping"), chunks(data, seed, 200), workers)
    assert several == outcome(pipeline("hopping"), [data])


@pytest.mark.parametrize("stage", ["tumbling", "all"])
def test_blocks_that_workers_add_up(stage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each block of each input is added up by the worker that decodes it, where that may be done."""
    monkeypatch.setattr(asyncflow.runtime.base.workers, "INLINE_BYTES", 1)
    for name, number in (("FEWEST_ROWS", 1), ("ROWS_A_CELL", 1), ("TRIED_AGAIN", 0)):
        monkeypatch.setattr(folding, name, number)
    taken: list[bool] = []

    class Watched(WindowState):
        def absorb(self, *arguments: Any) -> int | None:
            rows = super().absorb(*arguments)
            taken.append(rows is not None)
            return rows

    monkeypatch.setattr(state.window_kernel, "WindowState", Watched)
    monkeypatch.setattr(window, "WindowState", Watched)

    @few
    @given(table=rows, seed=st.integers(0, 1000))
    @example(table=[(100 * number, "hot", 0.5, number) for number in range(200)], seed=1)
    def law(table: Table, seed: int) -> None:
        data = csv_bytes(table * 3)
        assert outcome(pipeline(stage), chunks(data, seed, 200), 3) == outcome(pipeline(stage), [data])

    law()
    assert taken.count(True) >= 5
