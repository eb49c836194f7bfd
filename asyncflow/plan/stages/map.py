"""The stage ``map``: the user's own function, batch to batch or row to row; of the Python door only."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, ClassVar

from asyncflow.errors import Problem
from asyncflow.model.durations import format_duration
from asyncflow.model.schema import DataType, Schema
from asyncflow.plan.names import nearest
from asyncflow.plan.tables import WINDOW_TIMES, Plan, Read, Stage, TimeColumns, Wanted

TIMES = (DataType.TIMESTAMP, DataType.INT64)
"""Types of a column of a result that may say its rows' times: ``to_pylist`` gives timestamps as integers of ns."""


class MapBatches(Stage, frozen=True):
    """Calls ``function`` with each batch, or with ``rows`` each row.  ``schema``: of its result, if known.

    ``concurrency``: calls under way at once; ``ordered`` False: rows may be swapped, but never across a watermark; ``timeout_ns``: of one
    call; ``on_error``: what a call that fails does, ``"fail"`` or ``"reject"``.
    """

    function: Callable[..., Any]
    rows: bool = False
    schema: Schema | None = None
    concurrency: int = 1
    ordered: bool = True
    timeout_ns: int | None = None
    on_error: str = "fail"

    type: ClassVar[str] = "map"
    side_outputs: ClassVar[tuple[str, ...]] = ("rejected",)
    by_time: ClassVar[bool] = False

    @property
    def ways(self) -> tuple[str, ...] | None:
        return ("filtered", "rejected", "rows_out") if self.rows else None

    def output(self, read: Read) -> Schema | None:
        return self.schema

    def reads(self, wanted: Wanted, read: Read, times: TimeColumns) -> tuple[Wanted, ...]:
        return (None,)

    def problems(self, read: Read, plan: Plan) -> Iterable[Problem]:
        if self.concurrency < 1:
            yield Problem(self.path("concurrency"), "it must be at least 1")
        if self.timeout_ns is not None and self.timeout_ns <= 0:
            yield Problem(self.path("timeout"), "it must be longer than 0s")
        if self.on_error not in ("fail", "reject"):
            hint = nearest(self.on_error, ("fail", "reject"))
            yield Problem(self.path("on_error"), f"unknown way {self.on_error!r}", hint)

    def describe(self, read: Read) -> dict[str, Any]:
        function = getattr(self.function, "__qualname__", type(self.function).__qualname__)
        description = {"type": "map_rows" if self.rows else "map", "function": function}
        if calls := self._calls():
            description["calls"] = ", ".join(calls)
        return description

    def _calls(self) -> list[str]:
        """How the function is called, where that is not one call after the other."""
        told = []
        if self.concurrency > 1:
            order = "in order" if self.ordered else "in any order"
            told.append(f"up to {self.concurrency} at once, {order}")
        if self.timeout_ns is not None:
            told.append(f"timeout {format_duration(self.timeout_ns)}")
        if self.on_error == "reject":
            told.append("failures rejected")
        return told

    def state_text(self) -> str | None:
        return None

    def re_times(self, before: TimeColumns, read: Read) -> bool:
        return bool(before)

    def lost_times(self, lost: list[str], before: TimeColumns, read: Read) -> Iterable[Problem]:
        """A function that leaves a window's bounds out is no mistake: nobody named them as the time."""
        given = self.schema
        if before == WINDOW_TIMES or given is None:
            return
        if any(name not in given or given[name].type not in TIMES for name in lost):
            yield Problem(
                self.path("schema"),
                f"the time column {lost[0]!r} is missing: rows keep their time by it",
                "the function has to return it",
            )

    def settles(self, output: str) -> bool:
        """A user's function is taken to know what it does."""
        return True
