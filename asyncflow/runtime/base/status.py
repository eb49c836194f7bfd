"""What a run is waiting for, at one moment: plain frozen data, made by ``why``, printed by ``why_text``, sent as JSON by ``control``.

Times are ns since the epoch, UTC: of the data where they are called watermark, event time or needed, of the wall clock otherwise.
"""

from __future__ import annotations

from msgspec import Struct, field


class SourceStatus(Struct, frozen=True):
    """``state``: ``opening``, ``reading``, ``quiet``, ``held`` (by backpressure, or while input is decoded) or ``ended``.

    ``quiet_ns``: how long the source has been without input while the run was ready to take it.  ``idle``: longer than the idle timeout, so
    that the source holds no watermark.  ``waits_for``: the tables that have no room for a held source, each waiting for the next; empty
    while input is decoded or handed on.  ``heard_ns``: when input came last.  ``last_time_ns``: the greatest event time so far.
    """

    name: str
    state: str
    quiet_ns: int = 0
    idle: bool = False
    waits_for: tuple[str, ...] = ()
    heard_ns: int | None = None
    last_time_ns: int | None = None
    watermark_ns: int | None = None
    watermark_delay_ns: int = 0
    idle_timeout_ns: int | None = None
    max_future_ns: int = 0
    by_arrival: bool = False
    rows: int = 0
    rejected: int = 0
    future: int = 0


class InputStatus(Struct, frozen=True):
    """An input as its reader sees it.  ``state``: ``counts``, ``quiet`` (counts for no watermark) or ``ended``.

    ``waiting_rows``: of it that the reader has not taken up yet; ``waiting``: a message of it waits to be taken.
    """

    name: str
    state: str
    watermark_ns: int | None
    waiting_rows: int
    waiting: bool


class Holder(Struct, frozen=True):
    """What holds a stage's watermark.  ``path``: the tables from the stage's input down to the holder.

    ``reason``: ``source`` (its watermark does not rise), ``side output`` (its watermark rises at its end only), ``rows wait`` (``at`` has
    not taken them) or ``seam`` (the watermark of ``at``, a sequence, rises no further before its past has ended).  ``needed_ns``: the
    watermark of the source that releases the next results; ``idle_helps``: idleness of the source releases them, too.
    """

    source: str
    path: tuple[str, ...]
    reason: str = "source"
    at: str = ""
    needed_ns: int | None = None
    idle_helps: bool = False


class RefreshStatus(Struct, frozen=True):
    """The right side of a lookup that is read again.  ``read_ns``: when its last whole reading ended (None: the first is under way);
    ``due_ns``: when the next begins, ``reading``: it has begun; ``failure``: of the last reading."""

    table: str
    read_ns: int | None = None
    due_ns: int | None = None
    reading: bool = False
    failure: str = ""


class StageStatus(Struct, frozen=True):
    """A stage that has windows or waits on time.  ``kind``: its type in a pipeline file.

    ``state``: ``waits`` (for its inputs), ``held`` (``waits_for`` as of a source), ``works`` or ``ended``.  ``moved_ns``: when its
    watermark last moved.  ``takes``: the only input that it reads now.  ``holders``: all are needed, or any one of them with
    ``any_holder``.
    ``closes``: what sends what it holds: ``time``, ``end`` (of its input), ``count`` (``size`` rows of a key), ``message`` or ``at once``;
    holders are told where it is time, or rows go on at once.
    ``revised``: what is due may be a window before its end, or again.  ``left``: rows by the ways in which they left or counted only in
    part.
    """

    name: str
    kind: str
    state: str
    waits_for: tuple[str, ...]
    closes: str
    watermark_ns: int | None
    moved_ns: int | None
    inputs: tuple[InputStatus, ...]
    takes: str | None
    in_step: bool
    holders: tuple[Holder, ...]
    any_holder: bool
    next_due_ns: int | None = None
    revised: bool = False
    size: int = 0
    open_windows: int | None = None
    open_keys: int | None = None
    held_rows: tuple[int, ...] = ()
    left: dict[str, int] = field(default_factory=dict)
    refresh: RefreshStatus | None = None


class SinkStatus(Struct, frozen=True):
    """``state``: ``waits`` (for rows), ``writes`` (and the outside has not taken it) or ``ended``."""

    name: str
    state: str
    rows: int
    waiting_rows: int


class RunStatus(Struct, frozen=True):
    """A whole run.  ``phase``: what it does before it runs (``head``: reads the first records of ``phase_table``; ``open``: opens that
    sink), ``running`` or ``ended``."""

    name: str
    now_ns: int
    started_ns: int
    phase: str
    phase_table: str
    sources: tuple[SourceStatus, ...]
    stages: tuple[StageStatus, ...]
    sinks: tuple[SinkStatus, ...]
    pid: int = 0
    file: str | None = None
