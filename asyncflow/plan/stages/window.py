"""The stage ``window``: groups of rows by window and key, and aggregates of each group."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from asyncflow.errors import Problem
from asyncflow.model.durations import format_duration
from asyncflow.model.schema import DataType, Schema
from asyncflow.plan import capabilities, graph
from asyncflow.plan.expressions.aggregates import python_classes
from asyncflow.plan.expressions.named import Named, column_problems, read_by, texts_of, types_of
from asyncflow.plan.revisions import revision_problems
from asyncflow.plan.tables import WINDOW_TIMES, Plan, Read, Stage, TimeColumns, Wanted
from asyncflow.plan.windows import (
    BOUNDED,
    BOUNDS,
    AllRows,
    Count,
    Cumulate,
    Hopping,
    PerMessage,
    Session,
    TimeWindow,
    Tumbling,
    WindowShape,
    shape_problems,
    window_text,
)

REVISIONS = (("revision", DataType.INT64), ("final", DataType.BOOL))
"""Columns that stand last in the rows of a window that may be sent more than once."""


class Window(Stage, frozen=True):
    """Groups rows by window and ``by``; ``aggregates`` are expressions over aggregate calls.

    ``allowed_lateness_ns``: for how long after its end late rows still change a window.  ``emit_every_ns``: windows are also sent before
    they end, whenever the watermark passes a multiple of it; None: not before.
    """

    shape: WindowShape
    by: Named = ()
    aggregates: Named = ()
    allowed_lateness_ns: int = 0
    emit_every_ns: int | None = None

    type: ClassVar[str] = "window"
    side_outputs: ClassVar[tuple[str, ...]] = ("late",)
    own_watermarks: ClassVar[bool] = True
    makes_rows: ClassVar[bool] = True

    @property
    def ways(self) -> tuple[str, ...]:
        return ("aggregated", "late")

    @property
    def bounds(self) -> tuple[str, ...]:
        """The bounds columns of its rows."""
        return BOUNDS if isinstance(self.shape, BOUNDED) else ()

    def output(self, read: Read) -> Schema | None:
        if read[0] is None:
            return None
        keys, values = types_of(self.by, read[0]), types_of(self.aggregates, read[0], aggregates=True)
        if keys is None or values is None:
            return None
        bounds = [(name, DataType.TIMESTAMP) for name in self.bounds]
        columns = [*bounds, *keys, *values, *(REVISIONS if self.revised else ())]
        return Schema.of(columns) if len(dict(columns)) == len(columns) else None

    def reads(self, wanted: Wanted, read: Read, times: TimeColumns) -> tuple[Wanted, ...]:
        return (read_by(self.by, self.aggregates),)

    # -- problems and words --------------------------------------------------------------------------------------------

    def problems(self, read: Read, plan: Plan) -> Iterable[Problem]:
        yield from shape_problems(self.shape, self.path("window"))
        yield from self._emission()
        yield from revision_problems(self, plan)
        yield from column_problems(self.path("by"), self.by, read[0])
        yield from column_problems(self.path("aggregates"), self.aggregates, read[0], aggregates=True)
        if not self.by and not self.aggregates:
            hint = 'for example { n = "count(*)" }'
            yield Problem(self.path("aggregates"), "there is nothing to compute", hint)
        taken = dict.fromkeys(self.bounds, "the window's bounds")
        taken |= dict.fromkeys((name for name, _ in REVISIONS if self.revised), "the window's revisions")
        for key, columns in (("by", self.by), ("aggregates", self.aggregates)):
            for name, _ in columns:
                if name in taken:
                    yield Problem(
                        self.path(key, name),
                        f"the column name {name!r} is taken by {taken[name]}",
                        "give it another name",
                    )
                taken.setdefault(name, self.path(key))

    def _emission(self) -> Iterable[Problem]:
        if self.allowed_lateness_ns < 0:
            yield Problem(self.path("allowed_lateness"), "it cannot be negative")
        if self.emit_every_ns is not None and self.emit_every_ns <= 0:
            yield Problem(self.path("emit.every"), "it must be longer than 0s")
        if isinstance(self.shape, TimeWindow):
            return
        hint = "it is for tumbling, hopping and cumulate windows"
        for key, given in (
            ("allowed_lateness", self.allowed_lateness_ns != 0),
            ("emit", self.emit_every_ns is not None),
        ):
            if given:
                yield Problem(self.path(key), "a window of this kind has no fixed time", hint)

    def source_problems(self, plan: Plan) -> Iterable[Problem]:
        """A window for each message needs the rows of sources that have messages, just as they came."""
        if not isinstance(self.shape, PerMessage):
            return
        for source in graph.sources_of(plan, self.name):
            if source.connector.type and not capabilities.of_source(source.connector).messages:
                yield Problem(
                    self.path("window"),
                    f"the source {source.name!r} ({source.connector.type}) has no messages",
                    "udp has them",
                )
        before = [stage for name in self.inputs for stage in graph.part(plan, name).stages]
        if any(stage.makes_rows for stage in before):
            yield Problem(
                self.path("window"),
                "rows of another window do not belong to a message",
                "it must read the source's own rows",
            )

    def describe(self, read: Read) -> dict[str, Any]:
        description: dict[str, Any] = {"window": window_text(self.shape), "by": texts_of(self.by)}
        description["aggregates"] = texts_of(self.aggregates)
        if classes := self._python():
            description["python"] = classes
        if self.allowed_lateness_ns:
            description["allowed_lateness"] = format_duration(self.allowed_lateness_ns)
        if self.emit_every_ns is not None:
            description["emit"] = f"every {format_duration(self.emit_every_ns)}"
        return description

    def state_text(self) -> str:
        classes = self._python()
        return f"{self._state()}; with each an object of {', '.join(classes)}" if classes else self._state()

    def _python(self) -> dict[str, str]:
        return python_classes(each for _, each in self.aggregates)

    def _state(self) -> str:
        per = "one group per key" if self.by else "one group"
        until = "until the watermark reaches the window's end"
        if self.allowed_lateness_ns:
            until += f" and {format_duration(self.allowed_lateness_ns)} more"
        match self.shape:
            case Tumbling():
                return f"{per} in each open window, {until}"
            case Cumulate(every_ns=every) if not self.revised:
                return f"{per} in each open step of {format_duration(every)}, carried on until the watermark reaches the last window's end"
            case Hopping(size_ns=size, every_ns=every) | Cumulate(size_ns=size, every_ns=every):
                windows = -(-size // every) if every > 0 else 1
                at_most = "" if isinstance(self.shape, Hopping) else "up to "
                return f"{per} in each open window ({at_most}{windows} over any moment), {until}"
            case Session():
                each = "one group per session of a key" if self.by else "one group per session"
                return f"{each}, until the watermark reaches its end"
            case Count(size=rows):
                return f"{per}, until it has {rows} rows"
            case AllRows():
                return f"{per}, until the end of the input"
            case PerMessage():
                return f"{per}, until the end of the message"

    # -- event time and revisions --------------------------------------------------------------------------------------

    def times(self, before: tuple[TimeColumns, ...], read: Read) -> TimeColumns:
        return WINDOW_TIMES if self.bounds and not isinstance(self.shape, Count) else ()

    @property
    def closes(self) -> str:
        match self.shape:
            case AllRows():
                return "end"
            case Count():
                return "count"
            case PerMessage():
                return "message"
            case _:
                return "time"

    @property
    def closes_after(self) -> int:
        return self.shape.size if isinstance(self.shape, Count) else 0

    @property
    def revised(self) -> bool:
        """Rows of a revised window say which ``revision`` they are and whether it is ``final``."""
        return self.allowed_lateness_ns != 0 or self.emit_every_ns is not None

    def settles(self, output: str) -> bool:
        return not output
