"""Rows of the parts, each in order, to rows in one order, in batches that are bounded.

A part gives its rows as batches, one after the other.  Each part's first batch that waits is a run.  The runs are merged up to the end of
one that more follows, because what follows may come before the rest of the others; so a part needs only few batches at a time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from asyncflow._kernels import scatter as scatter_kernel
from asyncflow._kernels.columns.raw import RawColumn
from asyncflow.model.batch import Batch
from asyncflow.model.columns import Column, Int64Array, StringColumn
from asyncflow.operators.pieces import MAX_OUTPUT_BYTES, MAX_OUTPUT_ROWS
from asyncflow.operators.raw import column_of_raw, raw_column

AHEAD = 2
"""So many batches of a part are made in one round: with one alone, most rounds would be work for one part."""


class Stream:
    """The rows of one part, in order; ``rows`` makes batches as they are asked for."""

    def __init__(self, rows: Iterator[Batch], most_bytes: int) -> None:
        self._rows, self._most_bytes = rows, most_bytes
        self.waiting: deque[Batch] = deque()
        self.ended = False

    @property
    def wanting(self) -> bool:
        return not self.ended and len(self.waiting) < AHEAD

    def pull(self) -> None:
        """Makes the next batches."""
        while self.wanting and (
            not self.waiting or sum(batch.nbytes for batch in self.waiting) < self._most_bytes
        ):
            batch = next(self._rows, None)
            if batch is None:
                self.ended = True
            elif batch.num_rows:
                self.waiting.append(batch)


class RunMerge:
    """``order``: gives the columns that a batch's rows are sorted by, of types ``kinds``."""

    def __init__(
        self, streams: Sequence[Stream], kinds: Sequence[str], order: Callable[[Batch], list[RawColumn]]
    ) -> None:
        self._streams, self._kinds, self._order = streams, list(kinds), order

    def merged(self) -> Iterator[Batch]:
        """The rows that are next, as far as the streams have been pulled."""
        while True:
            live = [stream for stream in self._streams if stream.waiting or not stream.ended]
            if not live or not all(stream.waiting for stream in live):
                return
            heads = [stream.waiting[0] for stream in live]
            if len(live) == 1:
                live[0].waiting.popleft()
                yield heads[0]
                continue
            more = [len(stream.waiting) > 1 or not stream.ended for stream in live]
            runs = [self._order(batch) for batch in heads]
            sources = scatter_kernel.merge_runs(self._kinds, runs, more, MAX_OUTPUT_ROWS)
            while len(sources):
                some = _within(heads, sources)
                counts = np.bincount(some, minlength=len(heads)).tolist()
                yield _interleaved(
                    [_cut(batch, 0, count) for batch, count in zip(heads, counts, strict=True)], some
                )
                heads = [
                    _cut(batch, count, batch.num_rows) for batch, count in zip(heads, counts, strict=True)
                ]
                sources = sources[len(some) :]
            for stream, rest in zip(live, heads, strict=True):
                stream.waiting.popleft()
                if rest.num_rows:
                    stream.waiting.appendleft(rest)


def _within(heads: Sequence[Batch], sources: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """As many of the rows, one at least, as have about ``MAX_OUTPUT_BYTES``."""
    while len(sources) > 1:
        counts = np.bincount(sources, minlength=len(heads)).tolist()
        size = sum(
            int(column.lengths[:count].sum(dtype=np.int64))
            for batch, count in zip(heads, counts, strict=True)
            for column in batch.columns
            if isinstance(column, StringColumn)
        )
        if size <= MAX_OUTPUT_BYTES:
            break
        sources = sources[: len(sources) // 2]
    return sources


def _cut(batch: Batch, start: int, stop: int) -> Batch:
    time = None if batch.time is None else batch.time[start:stop]
    marks = batch.watermarks
    if marks is not None:
        marks = time if marks is batch.time else marks[start:stop]
    columns = tuple(column.slice(start, stop) for column in batch.columns)
    return replace(batch, columns=columns, num_rows=stop - start, time=time, watermarks=marks)


def _interleaved(batches: Sequence[Batch], sources: NDArray[np.uint8]) -> Batch:
    """One batch of the rows of several, in the order of ``sources``."""
    first = batches[0]

    def column(columns: Sequence[Column]) -> Column:
        return column_of_raw(scatter_kernel.interleave([raw_column(each) for each in columns], sources))

    def array(arrays: Sequence[Int64Array | None]) -> Int64Array | None:
        known = [each for each in arrays if each is not None]
        if not known:
            return None
        return scatter_kernel.interleave([(each, None) for each in known], sources)[0].view(np.int64)

    time = array([batch.time for batch in batches])
    same = all(batch.watermarks is batch.time for batch in batches)
    return replace(
        first,
        columns=tuple(column(columns) for columns in zip(*(batch.columns for batch in batches), strict=True)),
        num_rows=len(sources),
        time=time,
        watermarks=time if same else array([batch.watermarks for batch in batches]),
    )


def spans_count(spans: Sequence[Sequence[tuple[int, int]]]) -> int:
    """How many numbers there are in any of the spans."""
    count, upto = 0, None
    for first, last in sorted(span for each in spans for span in each):
        begin = first if upto is None else max(first, upto + 1)
        count += max(0, last - begin + 1)
        upto = last if upto is None else max(upto, last)
    return count
