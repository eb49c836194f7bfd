"""The stage ``top``: the first rows of each window and key, by an order."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from msgspec import Struct

from asyncflow.errors import Problem
from asyncflow.model.schema import DataType, Schema
from asyncflow.plan.expressions.expression_print import expression_text
from asyncflow.plan.expressions.named import (
    Named,
    column_problems,
    expression_problems,
    read_by,
    texts_of,
)
from asyncflow.plan.expressions.nodes import Expression
from asyncflow.plan.revisions import revision_problems
from asyncflow.plan.tables import WINDOW_TIMES, Plan, Read, Stage, TimeColumns, Wanted
from asyncflow.plan.windows import (
    BOUNDS,
    AllRows,
    Hopping,
    Tumbling,
    WindowShape,
    shape_problems,
    window_text,
)

RANK = "rank"
"""The last column of a top stage."""


class SortKey(Struct, frozen=True):
    """One part of an order.  Nulls come last in either direction unless ``nulls_first``."""

    expression: Expression
    descending: bool = False
    nulls_first: bool = False

    def text(self) -> str:
        """``revenue DESC``."""
        text = expression_text(self.expression) + (" DESC" if self.descending else "")
        return f"{text} NULLS FIRST" if self.nulls_first else text


class Top(Stage, frozen=True):
    """The ``n`` first rows by ``order`` of each window and key ``by``, with their ``rank``.

    ``shape`` None: over the windows of its input (rows of one ``window_end``), or over everything where the input has no such column.
    """

    n: int
    order: tuple[SortKey, ...]
    by: Named = ()
    shape: WindowShape | None = None

    type: ClassVar[str] = "top"
    side_outputs: ClassVar[tuple[str, ...]] = ("late",)
    makes_rows: ClassVar[bool] = True

    @property
    def ways(self) -> tuple[str, ...]:
        return ("ranked", "late")

    @property
    def bounds(self) -> tuple[str, ...]:
        """The bounds columns that it adds."""
        return BOUNDS if isinstance(self.shape, Tumbling | Hopping) else ()

    def over_windows(self, read: Schema | None) -> bool:
        """Whether it groups its input's rows by the window that they come from."""
        return (
            self.shape is None
            and read is not None
            and BOUNDS[1] in read
            and read[BOUNDS[1]].type is DataType.TIMESTAMP
        )

    def output(self, read: Read) -> Schema | None:
        if read[0] is None:
            return None
        added = [(name, DataType.TIMESTAMP) for name in self.bounds]
        columns = [*added, *((field.name, field.type) for field in read[0]), (RANK, DataType.INT64)]
        return Schema.of(columns) if len(dict(columns)) == len(columns) else None

    def reads(self, wanted: Wanted, read: Read, times: TimeColumns) -> tuple[Wanted, ...]:
        if wanted is None:
            return (None,)
        used = read_by(self.by, tuple(("", key.expression) for key in self.order))
        if self.over_windows(read[0]):
            used |= {BOUNDS[1]}
        return (wanted - {RANK, *self.bounds} | used,)

    def problems(self, read: Read, plan: Plan) -> Iterable[Problem]:
        if self.n < 1:
            yield Problem(self.path("n"), "it must be at least 1")
        if not self.order:
            yield Problem(self.path("order"), "there is nothing to sort by", 'for example ["revenue DESC"]')
        yield from column_problems(self.path("by"), self.by, read[0])
        for position, key in enumerate(self.order):
            yield from expression_problems(self.path("order", position), key.expression, read[0])
        if isinstance(self.shape, Tumbling | Hopping):
            yield from shape_problems(self.shape, self.path("window"))
        elif self.shape is not None and not isinstance(self.shape, AllRows):
            yield Problem(self.path("window"), 'a top is of tumbling or hopping windows, or of "all"')
        for name in (*self.bounds, RANK):
            if read[0] is not None and name in read[0]:
                hint = (
                    "leave window out: the top is then of the windows that the rows come from"
                    if name in BOUNDS
                    else ""
                )
                yield Problem(self.path(), f"its input has a column {name!r} already", hint)
        yield from revision_problems(self, plan)

    def describe(self, read: Read) -> dict[str, Any]:
        return {
            "n": self.n,
            "order": [key.text() for key in self.order],
            "window": self._window(read[0]),
            "by": texts_of(self.by),
        }

    def summary(self) -> str:
        return f"first {self.n} by {', '.join(key.text() for key in self.order)}"

    def _window(self, read: Schema | None) -> str:
        if self.shape is not None:
            return window_text(self.shape)
        if read is None:
            return "that of its input"
        return "that of its input: window_end" if self.over_windows(read) else "all"

    def state_text(self) -> str:
        per = " per key" if self.by else ""
        return f"at most {self.n} rows{per} in each open window, until the watermark reaches the window's end"

    def times(self, before: tuple[TimeColumns, ...], read: Read) -> TimeColumns:
        return WINDOW_TIMES if self.bounds or before[0] == WINDOW_TIMES else ()

    @property
    def closes(self) -> str:
        return "end" if isinstance(self.shape, AllRows) else "time"
