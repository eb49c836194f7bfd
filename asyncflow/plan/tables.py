"""The tables of a plan: sources, stages and sinks, as the doors write them down.

``inputs`` names tables or side outputs (``sales.rejected``, ``per_minute.late``).  Component options are frozen msgspec
structs that belong to their connector or format; the plan only carries them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from msgspec import Struct

from asyncflow.model.schema import Schema
from asyncflow.plan.expressions.nodes import Expression
from asyncflow.plan.windows import WindowShape

DAY_NS = 86_400_000_000_000


@dataclass(frozen=True, slots=True)
class Component:
    """A connector or format with its options: ``type`` is its name (``"file"``, ``"csv"``), ``options`` its msgspec struct.

    ``object``: for connectors made in Python, the thing itself (an async iterable, a writer).
    """

    type: str
    options: Any = None
    object: Any = field(default=None, compare=False)


class Source(Struct, frozen=True):
    """Where rows come from.  ``schema`` None is inferred when the run starts; ``time`` None is arrival time.

    ``time_unit`` (``s ms us ns``): reads the time column of an *inferred* schema as an epoch number; a declared schema says so itself.
    """

    name: str
    connector: Component
    format: Component | None = None
    schema: Schema | None = None
    time: str | None = None
    time_unit: str = ""
    watermark_delay_ns: int = 0
    max_future_ns: int = DAY_NS
    on_error: str = "reject"  # or "fail"
    max_record_bytes: int = 1 << 20
    idle_timeout_ns: int | None = None


class Filter(Struct, frozen=True):
    name: str
    inputs: tuple[str, ...]
    where: Expression


class Derive(Struct, frozen=True):
    """Adds columns, or replaces those of the same name; each expression sees the input's columns only.

    One that replaces the time column re-times its rows (``plan.times``); a row whose new time is null is rejected."""

    name: str
    inputs: tuple[str, ...]
    columns: tuple[tuple[str, Expression], ...]


class Window(Struct, frozen=True):
    """Groups rows by window and ``by``; ``aggregates`` are expressions over :class:`Aggregate` nodes.

    ``allowed_lateness_ns``: for how long after its end late rows still change a window.  ``emit_every_ns``: windows are also sent before
    they end, whenever the watermark passes a multiple of it; None: not before.
    """

    name: str
    inputs: tuple[str, ...]
    shape: WindowShape
    by: tuple[tuple[str, Expression], ...] = ()
    aggregates: tuple[tuple[str, Expression], ...] = ()
    allowed_lateness_ns: int = 0
    emit_every_ns: int | None = None

    @property
    def revised(self) -> bool:
        """Whether a window may be sent more than once: its rows then say which ``revision`` they are and whether it is ``final``."""
        return self.allowed_lateness_ns != 0 or self.emit_every_ns is not None


class MapBatches(Struct, frozen=True):
    """The user's own function, batch to batch (or row to row); Python door only.  ``schema``: of its result, if known.

    ``concurrency``: calls under way at once; ``ordered`` False: rows may be swapped, but never across a watermark; ``timeout_ns``: of one
    call; ``on_error``: what a call that fails does, ``"fail"`` or ``"reject"``.
    """

    name: str
    inputs: tuple[str, ...]
    function: Callable[..., Any]
    rows: bool = False
    schema: Schema | None = None
    concurrency: int = 1
    ordered: bool = True
    timeout_ns: int | None = None
    on_error: str = "fail"


class Dedup(Struct, frozen=True):
    """The first row by arrival of each key ``by`` goes on; others within ``within_ns`` of event time of it are duplicates."""

    name: str
    inputs: tuple[str, ...]
    by: tuple[tuple[str, Expression], ...]
    within_ns: int


class SortKey(Struct, frozen=True):
    """One part of an order.  Nulls come last in either direction unless ``nulls_first``."""

    expression: Expression
    descending: bool = False
    nulls_first: bool = False


class Top(Struct, frozen=True):
    """The ``n`` first rows by ``order`` of each window and key ``by``, with their ``rank``.

    ``shape`` None: over the windows of its input (rows of one ``window_end``), or over everything where the input has no such column.
    """

    name: str
    inputs: tuple[str, ...]
    n: int
    order: tuple[SortKey, ...]
    by: tuple[tuple[str, Expression], ...] = ()
    shape: WindowShape | None = None


class Sequence(Struct, frozen=True):
    """Two sources read one after the other as one table; written as ``[sources.NAME]``, its ``inputs`` as ``of``.

    ``unique``: rows of the overlap are told by these columns; none: by event time.
    """

    name: str
    inputs: tuple[str, ...]
    unique: tuple[str, ...] = ()


class Join(Struct, frozen=True):
    """Two tables into one; ``inputs`` are the left and the right one.  At most one of ``within_ns`` (right time - left time lies between
    the two, with them), ``window`` and ``as_of`` is given; with none of them the right table is read whole first.

    ``on``: pairs of a left and a right column, equal in rows that meet.

    ``refresh_ns``: a right table that is read whole is read again, so long by the wall clock after its last reading ended, beside the
    running flow.  Once the new table is whole it takes the old one's place, between two batches of the left table: no row ever sees half a
    table, and rows that came before have seen the old one.  Where a reading fails (the file is gone or broken off, a record is bad and the
    source says ``on_error = "fail"``, ``max_state_bytes`` does not hold the old and the new table together) the old one stays, a warning
    says so, and the run goes on.  Whatever can be read is a table: a file is best replaced by renaming another over it.  Where the left
    table ends the join ends, whatever is being read again.  Which rows see which table hangs on the clock, so a left side that is sure to
    end is refused, as is a kind whose right rows without a partner would come at the end.
    """

    name: str
    inputs: tuple[str, ...]
    on: tuple[tuple[str, str], ...]
    kind: str = "inner"
    within_ns: tuple[int, int] | None = None
    window: WindowShape | None = None
    as_of: str | None = None
    tolerance_ns: int | None = None
    suffix: str = "_right"
    max_state_bytes: int = 1 << 30
    refresh_ns: int | None = None

    @property
    def is_lookup(self) -> bool:
        return self.within_ns is None and self.window is None and self.as_of is None


Stage: TypeAlias = Filter | Derive | Window | Join | Dedup | Top | Sequence | MapBatches


class Sink(Struct, frozen=True):
    name: str
    inputs: tuple[str, ...]
    connector: Component
    format: Component | None = None


Row: TypeAlias = Mapping[str, Any]
"""A row of a test as written: numbers, texts, truth values, datetimes; what is expected may be ``{ null = true }``, for null."""


class Feed(Struct, frozen=True):
    """These rows come into a source, together: one message where it has messages."""

    table: str
    rows: tuple[Row, ...]


class Advance(Struct, frozen=True):
    """Time moves on: every watermark, and the wall clock, to the greatest event time so far and this much more."""

    by_ns: int


class Expect(Struct, frozen=True):
    """All rows of a table, in order; columns left out of a row are not compared."""

    table: str
    rows: tuple[Row, ...]


class Trial(Struct, frozen=True):
    """One test.  After the last of ``feed`` the input ends."""

    name: str
    feed: tuple[Feed | Advance, ...] = ()
    expect: tuple[Expect, ...] = ()


DEFAULT_STOP_TIMEOUT_NS = 30_000_000_000


class Plan(Struct, frozen=True):
    """A whole pipeline, tables in the order written.  Inputs are always spelled out: the doors have filled in what was left out.

    ``trials``: the tests that its file holds.  ``stop_timeout_ns``: how long what was read may flow out once a run is asked to stop.
    ``memory_bytes``: what a run may hold; None: the process's default, in Python no bound.
    """

    name: str
    sources: tuple[Source, ...]
    stages: tuple[Stage, ...] = ()
    sinks: tuple[Sink, ...] = ()
    trials: tuple[Trial, ...] = ()
    stop_timeout_ns: int = DEFAULT_STOP_TIMEOUT_NS
    memory_bytes: int | None = None

    def table(self, name: str) -> Source | Stage | Sink:
        """The table of that name; KeyError when there is none."""
        for table in (*self.sources, *self.stages, *self.sinks):
            if table.name == name:
                return table
        raise KeyError(name)


SIDE_OUTPUTS: dict[type, tuple[str, ...]] = {
    Source: ("rejected", "future"),
    Derive: ("rejected",),
    Window: ("late",),
    MapBatches: ("rejected",),
    Join: ("late",),
    Dedup: ("duplicate",),
    Top: ("late",),
    Sequence: ("duplicate", "late"),
}
"""Which side outputs (``NAME.KIND``) a table has."""
