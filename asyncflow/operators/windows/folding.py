"""Blocks of few keys, added up before their turn: each into a small state of its own, by any thread.

The stage's own state then takes a few hundred cells in place of the block's rows, so that rows of one hot key, or of no key, are added up
by as many threads as there are.  What comes of a block does not depend on whether it was folded.  Whether folding is worth while is
guessed from the keys that the stage holds and from the blocks before; whether it may be done is known in the block's turn: no row of it is
late for any of its windows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from msgspec import Struct

from asyncflow._kernels.accumulators.table import laid_out
from asyncflow._kernels.columns.raw import RawColumn
from asyncflow._kernels.groups import GroupTable
from asyncflow._kernels.window import WindowState
from asyncflow.model.batch import NO_TIME, Batch
from asyncflow.operators.aggregates.table import AggregateSpec
from asyncflow.operators.parts.part import Prepared
from asyncflow.operators.raw import raw_column

ROWS_A_CELL = 16
"""A block is folded where it has at least so many rows for each of its keys, and for each cell."""
FEWEST_ROWS = 1024
TRIED_AGAIN = 32
"""After a block that was folded in vain so many go by."""


class Folded(Struct, frozen=True, eq=False):
    """A block's rows added up: its keys, and under their places a state of their windows; and what was prepared of the rows, should they be
    wanted one by one."""

    prepared: Prepared
    keys: list[RawColumn]
    key_count: int
    state: WindowState
    nbytes: int


class Folding:
    """``make``: makes an empty state of the stage's shape; ``kinds``: of the keys; ``keys_held``: by the stage when it was last told."""

    def __init__(
        self, kinds: Sequence[str], make: Callable[[], WindowState], aggregates: Sequence[AggregateSpec]
    ) -> None:
        accumulators, _ = laid_out(spec.raw for spec in aggregates)
        self._kinds, self._make = list(kinds), make
        self._by_time = any(accumulator.key == "TIME" for accumulator in accumulators)
        self._let_by = 0
        self.keys_held = 0

    @staticmethod
    def possible(aggregates: Sequence[AggregateSpec]) -> bool:
        """Whether rows may be added up apart from those before."""
        if any(spec.python is not None for spec in aggregates):
            return False
        return all(accumulator.apart for accumulator in laid_out(spec.raw for spec in aggregates)[0])

    def fold(self, batch: Batch, prepared: Prepared) -> Folded | None:
        """Adds a block up; None where that is of no use, or cannot be done.  Called by any thread, for several blocks at once."""
        most = batch.num_rows // ROWS_A_CELL
        if batch.num_rows < FEWEST_ROWS or self.keys_held > most or (self._by_time and batch.time is None):
            return None
        if self._let_by > 0:
            self._let_by -= 1
            return None
        keys, state = GroupTable(self._kinds), self._make()
        groups = keys.assign([raw_column(column) for column in prepared.keys], batch.num_rows)
        if keys.size > most:
            self.in_vain()
            return None
        late, partly = state.add(
            groups,
            keys.size,
            batch.time,
            batch.watermarks,
            NO_TIME,
            batch.delay_ns,
            [raw_column(column) for column in prepared.inputs],
            prepared.masks,
        )
        if len(late) or partly or state.cell_count > most:
            self.in_vain()
            return None
        columns = keys.columns(np.arange(keys.size, dtype=np.int32))
        return Folded(prepared, columns, keys.size, state, keys.nbytes + state.nbytes)

    def in_vain(self) -> None:
        """A block was folded that is of no use."""
        self._let_by = TRIED_AGAIN
