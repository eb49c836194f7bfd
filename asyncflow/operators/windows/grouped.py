"""What window operators share: the columns and counts of their results, and the state of groups and their accumulators."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from asyncflow._kernels import groups as groups_kernel
from asyncflow.model.batch import Batch
from asyncflow.model.columns import Int32Array
from asyncflow.model.schema import DataType, Field, Schema
from asyncflow.operators.aggregates.table import AggregateSpec
from asyncflow.operators.contract import Ahead, Operator
from asyncflow.operators.parts.part import Origin, Prepare, Prepared
from asyncflow.operators.raw import raw_column

if TYPE_CHECKING:
    from asyncflow.operators.aggregates.python_aggregates import State

FEW_GROUPS = 1 << 16
"""Groups that no open window holds are looked for only where there are more groups than this."""
BOUNDS = (Field("window_start", DataType.TIMESTAMP), Field("window_end", DataType.TIMESTAMP))
COUNTS = ("aggregated", "late", "late_partly", "windows_opened", "windows_closed", "overflow")


def prepared_ahead(operator: Operator, prepare: Prepare, batch: Batch) -> Ahead:
    """The preparation of a batch before its turn."""
    losses: dict[str, int] = {}
    made = prepare(batch, losses)
    arrays = sum(column.nbytes for column in (*made.keys, *made.inputs))
    return Ahead(operator, batch.columns, made, losses, arrays)


def result_schema(
    bounds: Iterable[Field],
    keys: Schema,
    aggregates: Sequence[AggregateSpec],
    names: Sequence[str],
    more: Iterable[Field] = (),
) -> Schema:
    """The columns of results: bounds, keys, aggregates by their names, and ``more``."""
    results = (Field(name, spec.result_type) for name, spec in zip(names, aggregates, strict=True))
    return Schema((*bounds, *keys.fields, *results, *more))


class GroupedWindow(Operator):
    """A window operator that gives each row its group (``groups`` kernel) and folds the row into accumulators of a window state.

    ``counts``: rows ``aggregated``, ``late`` (also given as output of that kind), of the aggregated rows ``late_partly``;
    ``windows_opened``, ``windows_closed``; ``overflow``: sums of int64 that do not fit and are null.
    """

    state_version = 1
    output: Schema

    def __init__(self, output: Schema, keys: Schema, state: State, prepare: Prepare) -> None:
        super().__init__()
        self.output = output
        self.counts = dict.fromkeys(COUNTS, 0)
        self._kinds = [field.type.value for field in keys]
        self._groups = groups_kernel.GroupTable(self._kinds)
        self._state = state
        self._prepare = prepare
        self._collect_above = FEW_GROUPS

    @property
    def state_bytes(self) -> int:
        return int(self._groups.nbytes + self._state.nbytes)

    @property
    def waiting_rows(self) -> int | None:
        return self._state.held_rows

    @property
    def open_keys(self) -> int:
        return int(self._groups.size)

    def ahead(self, batch: Batch) -> Ahead:
        return prepared_ahead(self, self._prepare, batch)

    def _prepared(self, batch: Batch) -> Prepared:
        """What the stage reads of the batch."""
        prepared: Prepared | None = self._done_ahead(batch)
        return self._prepare(batch, self.counts) if prepared is None else prepared

    @property
    def keys(self) -> groups_kernel.GroupTable:
        return self._groups

    def forget(self) -> None:
        self._keep(self._live_groups())

    def _groups_of(self, prepared: Prepared, num_rows: int, origin: Origin | None = None) -> Int32Array:
        """The group of each row."""
        if origin is not None:
            self._state.number(origin.before, origin.places)
        keys = [raw_column(column) for column in prepared.keys]
        return self._groups.assign(keys, num_rows, None if origin is None else origin.hashes)

    def _forget_groups(self) -> None:
        """Drops groups that no open window holds once they are the greater part; looks again when the table has doubled."""
        if self._groups.size <= self._collect_above:
            return
        live = self._live_groups()
        if 2 * len(live) < self._groups.size:
            self._keep(live)
        self._collect_above = max(FEW_GROUPS, 2 * len(live))

    @abstractmethod
    def _live_groups(self) -> Int32Array:
        """The groups that open windows hold, ascending."""

    @abstractmethod
    def _keep(self, live: Int32Array) -> None:
        """Group ``live[i]`` is called i from now on; the others are gone."""
