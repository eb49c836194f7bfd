"""What window operators share: the columns and counts of their results, and the state of groups and their accumulators."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec import Struct

from asyncflow._kernels import groups as groups_kernel
from asyncflow.model.columns import BoolArray, Column
from asyncflow.model.schema import DataType, Field, Schema
from asyncflow.operators.aggregates.python_aggregates import State
from asyncflow.operators.aggregates.table import AggregateSpec
from asyncflow.operators.contract import Operator

FEW_GROUPS = 1 << 16
"""Groups that no open window holds are looked for only where there are more groups than this."""
BOUNDS = (Field("window_start", DataType.TIMESTAMP), Field("window_end", DataType.TIMESTAMP))
COUNTS = ("aggregated", "late", "late_partly", "windows_opened", "windows_closed", "overflow")


class Prepared(Struct, frozen=True, eq=False):
    """What a window stage reads of a batch: its key columns, the aggregates' inputs and the masks of their filters."""

    keys: tuple[Column, ...]
    inputs: tuple[Column, ...]
    masks: tuple[BoolArray, ...]


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

    def __init__(self, output: Schema, keys: Schema, state: State) -> None:
        super().__init__()
        self.output = output
        self.counts = dict.fromkeys(COUNTS, 0)
        self._kinds = [field.type.value for field in keys]
        self._groups = groups_kernel.GroupTable(self._kinds)
        self._state = state

    @property
    def state_bytes(self) -> int:
        return int(self._groups.nbytes + self._state.nbytes)

    @property
    def waiting_rows(self) -> int | None:
        return self._state.held_rows

    @property
    def open_keys(self) -> int:
        return int(self._groups.size)
