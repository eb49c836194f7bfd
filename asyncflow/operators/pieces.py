"""Cuts results into batches that are bounded in bytes as well as in rows.

The texts of a batch are one array below 2 GiB, and a batch is held whole until it is sent.  So rows with long keys or texts leave
in batches of about ``MAX_OUTPUT_BYTES``, however few rows that is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol

import numpy as np

from asyncflow._kernels.columns.raw import RawColumn
from asyncflow.model.batch import Batch
from asyncflow.model.columns import MAX_TEXT_BYTES, Column, Int32Array
from asyncflow.operators.contract import Output
from asyncflow.operators.raw import column_of_raw

MAX_OUTPUT_ROWS = 1 << 15
MAX_OUTPUT_BYTES = 1 << 26
"""Bytes of the texts of a batch of results, about; one row may have more."""


class KeyTable(Protocol):
    """The ``groups`` kernel, as far as it is used here."""

    def columns(self, groups: Int32Array, max_bytes: int = ...) -> Sequence[RawColumn]: ...


def key_columns(keys: KeyTable, groups: Int32Array, max_bytes: int) -> list[Column]:
    """The key columns of these groups; a text that many of them have is copied once where all copies would come to more than
    ``max_bytes``.  OverflowError where they still do."""
    try:
        return [column_of_raw(each) for each in keys.columns(groups, max_bytes)]
    except OverflowError:
        named, places = np.unique(groups, return_inverse=True)
        if len(named) == len(groups):
            raise
    return [column_of_raw(each).take(places) for each in keys.columns(named.astype(np.int32), max_bytes)]


def key_pieces(keys: KeyTable, groups: Int32Array) -> Iterator[tuple[slice, list[Column]]]:
    """The key columns of these groups, in pieces: which of the groups, and their columns."""
    pending = [slice(0, len(groups))] if len(groups) else []
    while pending:
        part = pending.pop()
        count = part.stop - part.start
        try:
            columns = key_columns(keys, groups[part], MAX_OUTPUT_BYTES if count > 1 else MAX_TEXT_BYTES)
        except OverflowError:
            if count == 1:
                raise
            middle = part.start + count // 2
            pending += [slice(middle, part.stop), slice(part.start, middle)]
        else:
            yield part, columns


def whole_or_halves(
    process: Callable[[Batch, dict[str, int]], list[Output]], batch: Batch, counts: dict[str, int]
) -> Iterable[Output]:
    """What ``process`` makes of a batch; where the texts of that are more than a column holds, what it makes of the halves.

    ``counts``: ``process`` is given them and adds to them; they are set back before the halves.  OverflowError where one row is too much.
    """
    before = counts.copy()
    try:
        return process(batch, counts)
    except OverflowError:
        if batch.num_rows == 1:
            raise
    counts.clear()
    counts.update(before)
    middle = batch.num_rows // 2
    halves = (batch.slice(0, middle), batch.slice(middle, batch.num_rows))
    return (output for half in halves for output in whole_or_halves(process, half, counts))
