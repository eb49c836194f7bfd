"""A top in parts: its state is that of one operator, which has no table of keys.

The rows of all parts are merged by window and key, whose rows are all of one part, in the order that one operator gives.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

import numpy as np

from asyncflow._kernels.columns.raw import RawColumn
from asyncflow.model.batch import Batch, concat_batches
from asyncflow.model.columns import BoolArray, Column, StringColumn
from asyncflow.model.snapshot import Frozen, Plain, Saved
from asyncflow.operators.contract import Closing
from asyncflow.operators.parts.part import Part, Told
from asyncflow.operators.parts.parted import Parted
from asyncflow.operators.parts.runs import RunMerge, Stream
from asyncflow.operators.pieces import MAX_OUTPUT_BYTES, MAX_OUTPUT_ROWS
from asyncflow.operators.raw import raw_column
from asyncflow.operators.top import TopOperator


class PartedTop(Parted):
    """``make``: makes a part, always the same.  ``keys``: computes the key columns, of types ``key_kinds``, of a batch of the columns that
    are kept."""

    def __init__(
        self,
        make: Callable[[], TopOperator],
        parts: int,
        *,
        key_kinds: Sequence[str],
        keys: Callable[[Batch], tuple[Column, ...]],
    ) -> None:
        first = make()
        super().__init__(
            make,
            parts,
            prepare=lambda batch, losses: first.prepared(batch),
            key_kinds=key_kinds,
            kinds=[*first.window_kinds, *key_kinds],
            order=lambda batch: [
                raw_column(column) for column in (*first.windows_of(batch), *keys(first.kept_of(batch)))
            ],
        )
        self._tops = [part for part in self._parts if isinstance(part, TopOperator)]
        self._keys = keys

    def closing(self, watermark_ns: int | None) -> Closing:
        self._agree()
        return super().closing(watermark_ns)

    def _agree(self) -> None:
        """The greatest time of all rows is that of every part."""
        for time_ns in [top.greatest_time for top in self._tops]:
            for top in self._tops:
                if time_ns is not None:
                    top.reach(time_ns)

    # -- state -------------------------------------------------------------------------------------------------------

    def freeze(self) -> Frozen:
        self._agree()
        return super().freeze()

    def _frozen(self, fields: Mapping[str, Plain], told: Told) -> Frozen:
        return self._tops[0].frozen({**fields, "arrivals": told.arrivals}, _cut(list(self._held())))

    def _held(self) -> Iterator[Batch]:
        """The rows that all parts hold, in the order in which one operator holds them."""
        streams = [Stream(top.held(), MAX_OUTPUT_BYTES) for top in self._tops]
        merge = RunMerge(streams, ["int64", *self._key_kinds], self._held_order)
        while any(stream.wanting for stream in streams):
            for stream in streams:
                stream.pull()
            yield from merge.merged()

    def _held_order(self, batch: Batch) -> list[RawColumn]:
        keys = self._keys(self._tops[0].kept_of(batch))
        return [raw_column(column) for column in (batch.columns[0], *keys)]

    def _share_out(self, saved: Saved, whole: Part) -> None:
        for place, top in enumerate(self._tops):
            top.restore_some(saved, partial(self._of, place))

    def _of(self, part: int, keys: Sequence[RawColumn], num_rows: int) -> BoolArray:
        chosen: BoolArray = self._part_of(keys, num_rows) == part
        return chosen


def _cut(batches: Sequence[Batch]) -> list[Batch]:
    """The same rows in the pieces in which one operator gives them."""
    if not batches:
        return []
    begins = np.cumsum([0, *(batch.num_rows for batch in batches)])
    texts = [
        np.cumsum(np.concatenate([[0], *(column.lengths for column in columns)]), dtype=np.int64)
        for columns in zip(*(batch.columns for batch in batches), strict=True)
        if all(isinstance(column, StringColumn) for column in columns)
    ]

    def piece(start: int, stop: int) -> Batch:
        first, last = np.searchsorted(begins, start, "right") - 1, np.searchsorted(begins, stop, "left")
        return concat_batches(
            [
                batches[at].slice(max(start - begins[at], 0), min(stop - begins[at], batches[at].num_rows))
                for at in range(first, last)
            ]
        )

    found, rows = [], int(begins[-1])
    pending = [(start, min(start + MAX_OUTPUT_ROWS, rows)) for start in range(0, rows, MAX_OUTPUT_ROWS)][::-1]
    while pending:
        start, stop = pending.pop()
        if stop - start > 1 and any(ends[stop] - ends[start] > MAX_OUTPUT_BYTES for ends in texts):
            middle = start + (stop - start) // 2
            pending += [(middle, stop), (start, middle)]
        else:
            found.append(piece(start, stop))
    return found
