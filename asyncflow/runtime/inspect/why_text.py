"""What a run waits for, as text for one screen: a block for each stage, then the sources and sinks."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

from asyncflow.model.durations import format_duration
from asyncflow.runtime.base.status import (
    Holder,
    RefreshStatus,
    RunStatus,
    SinkStatus,
    SourceStatus,
    StageStatus,
)

WIDTH = 100
SECOND_NS = 1_000_000_000
_LABEL = 14
_WAYS = {
    "late": "late",
    "late_right": "late on the right",
    "late_partly": "late for some of their windows only",
    "duplicate": "duplicate",
}


def text(status: RunStatus) -> str:
    """The whole answer, lines that end with a newline."""
    return "\n".join(_Words(status).lines()) + "\n"


def instant(time_ns: int | None) -> str:
    """``2024-01-01T12:00:55Z``, with as much of a fraction as milliseconds need; ``-`` for None."""
    if time_ns is None:
        return "-"
    try:
        moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=time_ns // 1_000_000)
    except OverflowError:
        return "beyond the year 9999"
    return moment.isoformat(timespec="milliseconds" if moment.microsecond else "seconds").replace(
        "+00:00", "Z"
    )


def _wall(time_ns: int) -> str:
    """An instant of the wall clock, to the second."""
    return instant(time_ns - time_ns % SECOND_NS)


def length(ns: int) -> str:
    """``0.2 s``, ``34 s``, ``5 min 10 s``, ``2 h 5 min``, ``3 d 4 h``."""
    seconds = max(ns, 0) / SECOND_NS
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for upto, size, unit, rest, smaller in (
        (3600, 60, "min", 1, "s"),
        (86_400, 3600, "h", 60, "min"),
        (10**15, 86_400, "d", 3600, "h"),
    ):
        if whole < 60:
            return f"{whole} s"
        if whole < upto:
            more = whole % size // rest
            return f"{whole // size} {unit}" + (f" {more} {smaller}" if more else "")
    return "ages"


def _from_on(time_ns: int) -> str:
    """Joins are due just after a row's time, windows at their end."""
    just_after = time_ns % 1_000_000 == 1
    return f"after {instant(time_ns - 1)}" if just_after else f"at or after {instant(time_ns)}"


def _count(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def table(rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> Iterator[str]:
    """Aligned columns, those at ``right`` to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (
            cell.rjust(width) if place in right else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        yield "  ".join(cells).rstrip()


class _Words:
    def __init__(self, status: RunStatus) -> None:
        self._all = status
        self._now = status.now_ns
        self._sources = {source.name: source for source in status.sources}
        self._stages = {stage.name: stage for stage in status.stages}
        self._sinks = {sink.name: sink for sink in status.sinks}
        self._told: set[str] = set()

    def lines(self) -> Iterator[str]:
        run = self._all
        where = f", {run.file}" if run.file else ""
        pid = f" (pid {run.pid}{where})" if run.pid else ""
        yield f"{run.name}{pid}, running for {length(self._now - run.started_ns)}, asked at {_wall(self._now)}"
        yield from self._phase()
        for stage in run.stages:
            yield ""
            yield from self._stage(stage)
        if not run.stages and run.phase == "running":
            yield "no stage waits on time: rows go on as they come"
        yield ""
        yield from table([_SOURCE_HEAD, *map(self._source, run.sources)], right=(4, 5, 6))
        for source in run.sources:
            if source.future:
                yield (
                    f"{source.name}: future rows, more than max_future = {format_duration(source.max_future_ns)} "
                    "ahead of the clock, do not move the watermark"
                )
        if run.sinks:
            yield ""
            yield from table(
                [("sink", "state", "rows", "waiting"), *map(self._sink, run.sinks)], right=(2, 3)
            )

    def _phase(self) -> Iterator[str]:
        table, phase = self._all.phase_table, self._all.phase
        if phase == "head" and table:
            yield f"it has not begun: it waits for the first records of {table}, to tell their schema (or write a schema)"
        elif phase == "open":
            yield f"it has not begun: it waits for the sink {table} to open"
        elif phase == "head":
            yield "it has not begun yet"
        elif phase == "ended":
            yield "it has ended"

    # -- a stage ---------------------------------------------------------------------------------------------------------

    def _stage(self, stage: StageStatus) -> Iterator[str]:
        yield f"{stage.name} ({stage.kind})" + (": it has ended" if stage.state == "ended" else "")
        if stage.state == "ended":
            return
        if stage.closes in ("time", "at once"):
            yield from _labelled("watermark", self._watermark(stage))
        if stage.state == "held":
            yield from _labelled("itself", f"held by us: {self.room(stage.waits_for)}")
        elif stage.state == "works":
            yield from _labelled("itself", "at work")
        for number, holder in enumerate(stage.holders):
            yield from _labelled("held by" if number == 0 else "", self._holder(stage, holder))
        if len(stage.holders) > 1:
            yield from _labelled(
                "", "any one of them moves it" if stage.any_holder else "all of them are needed"
            )
        yield from _labelled("holds", self._holds(stage))
        if stage.refresh is not None:
            yield from _labelled("table", self._refresh(stage.refresh))
        yield from self._released_by(stage)
        if stage.left:
            parts = (f"{count:,} {_WAYS[way]}" for way, count in stage.left.items())
            yield from _labelled("rows", ", ".join(parts))
        if len(stage.inputs) > 1 or any(each.waiting_rows for each in stage.inputs):
            rows = [("input", "state", "watermark", "rows waiting")]
            for each in stage.inputs:
                state = "quiet, does not count" if each.state == "quiet" else each.state
                if stage.takes is not None and each.name != stage.takes and each.state != "ended":
                    state = f"not taken before {stage.takes}"
                rows.append((each.name, state, instant(each.watermark_ns), f"{each.waiting_rows:,}"))
            for line in table(rows, right=(3,)):
                yield f"  {line}"

    def _watermark(self, stage: StageStatus) -> str:
        if stage.watermark_ns is None:
            return f"none yet, for {length(self._now - self._all.started_ns)}"
        moved = "" if stage.moved_ns is None else f", last moved {self._ago(stage.moved_ns)}"
        return f"{instant(stage.watermark_ns)}{moved}"

    def _holder(self, stage: StageStatus, holder: Holder) -> str:
        through = [name for name in holder.path if name not in (holder.source, holder.at)]
        via = f" (through {' <- '.join(through)})" if through else ""
        if holder.reason == "side output":
            return f"{holder.source}{via}: a side output says nothing of the time before it ends"
        if holder.reason == "rows wait":
            return (
                f"us{via}: what came from {holder.source} waits to be taken up by {self._reader(holder.at)}"
            )
        if holder.reason == "seam":
            return f"{holder.at}{via}: it goes no further before {holder.source} has ended"
        source = self._sources[holder.source]
        if source.name in self._told:
            return f"{source.name}{via}, as above"
        self._told.add(source.name)
        said = (
            ""
            if source.last_time_ns is None
            else f"; its latest event time is {instant(source.last_time_ns)}"
        )
        if source.state in ("quiet", "reading") and source.heard_ns is None:
            said = "; it has not said anything yet"
        if source.future:
            said += f"; {_count(source.future, 'row')} from the future did not move it"
        state = _state(source, self)
        if source.idle and not stage.any_holder:
            why = "waited for all the same: idle_timeout is for inputs that are read as they come"
            state = f"quiet for {length(source.quiet_ns)} ({why})"
        return f"{source.name}{via}: {state}{said}"

    def _reader(self, name: str) -> str:
        stage = self._stages.get(name)
        if stage is not None and stage.state == "held":
            return f"{name}, {self.room(stage.waits_for)}"
        return name

    def _holds(self, stage: StageStatus) -> str:
        if len(stage.held_rows) == 2:
            left, right = stage.held_rows
            return f"{_count(left, 'row')} of the left and {right:,} of the right side"
        if stage.closes == "at once":
            keys = "" if stage.open_keys is None else f"{_count(stage.open_keys, 'key')}; "
            return f"{keys}rows go on at once" + (f"; it reads {stage.takes} now" if stage.takes else "")
        if not stage.open_windows:
            return "no open window"
        found = _count(stage.open_windows, "open window")
        if stage.held_rows:
            found += f" with {_count(stage.held_rows[0], 'row')}"
        if stage.open_keys is not None:
            found += f", {_count(stage.open_keys, 'key')}"
        if stage.next_due_ns is not None:
            found += f"; the next goes out at {instant(stage.next_due_ns)}"
        return found

    def _refresh(self, refresh: RefreshStatus) -> str:
        if refresh.read_ns is None or refresh.due_ns is None:
            return f"{refresh.table} is being read for the first time"
        until_ns = refresh.due_ns - self._now
        next_ = (
            f"being read again for {length(-until_ns)}"
            if refresh.reading
            else f"read again in {length(until_ns)}"
        )
        failed = f"; the last reading failed: {refresh.failure}" if refresh.failure else ""
        return f"{refresh.table} as read {self._ago(refresh.read_ns)}, {next_}{failed}"

    def _released_by(self, stage: StageStatus) -> Iterator[str]:
        """What would release what is due next."""
        label = "released by"
        if stage.closes in ("count", "end") and stage.open_windows:
            still = " and ".join(each.name for each in stage.inputs if each.state != "ended")
            rows = f"{_count(stage.size, 'row')} of a key, or " if stage.closes == "count" else ""
            yield from _labelled(label, f"{rows}the end of {still}")
        if stage.closes != "time" or stage.next_due_ns is None:
            return
        if len(stage.holders) == 1:
            for way in self._ways(stage, stage.holders[0]):
                yield from _labelled(label, way if label else f"or {way}")
                label = ""
            return
        for holder in stage.holders:
            ways = ", or ".join(self._ways(stage, holder))
            yield from _labelled(label, ways if label else f"{'or' if stage.any_holder else 'and'} {ways}")
            label = ""

    def _ways(self, stage: StageStatus, holder: Holder) -> Iterator[str]:
        source = self._sources.get(holder.source)
        if holder.reason in ("side output", "seam"):
            yield f"{holder.source} ending"
            return
        if holder.reason == "rows wait" or source is None or holder.needed_ns is None:
            yield f"{holder.at or holder.source} going on"
            return
        if source.state == "held":
            yield f"{source.name} going on: {self.room(source.waits_for)}"
        time_ns = holder.needed_ns + source.watermark_delay_ns
        what = "window end" if stage.open_windows is not None and not stage.revised else "when it is due"
        sum_of = [what]
        if stage.next_due_ns is not None and (held_ns := holder.needed_ns - stage.next_due_ns):
            sum_of.append(f"{format_duration(held_ns)} that stages before may hold rows")
        if source.watermark_delay_ns:
            sum_of.append(f"watermark_delay {format_duration(source.watermark_delay_ns)}")
        if source.by_arrival:
            yield f"the clock reaching {instant(time_ns)} ({' + '.join(sum_of)})"
            return
        explained = f" ({' + '.join(sum_of)})" if len(sum_of) > 1 else ""
        yield f"a row of {source.name} {_from_on(time_ns)}{explained}"
        yield f"{source.name} ending"
        if holder.idle_helps and not source.idle:
            if source.idle_timeout_ns is None:
                yield f"{source.name} being quiet for its idle_timeout (not set: idle_timeout on sources.{source.name})"
            else:
                left = length(source.idle_timeout_ns - source.quiet_ns)
                yield (
                    f"{source.name} being quiet for its idle_timeout, {format_duration(source.idle_timeout_ns)} "
                    f"(in {left})"
                )

    # -- sources and sinks -----------------------------------------------------------------------------------------------

    def _source(self, source: SourceStatus) -> tuple[str, ...]:
        return (
            source.name,
            _state(source, self, short=True),
            "never" if source.heard_ns is None else self._ago(source.heard_ns),
            instant(source.last_time_ns),
            f"{source.rows:,}",
            f"{source.rejected:,}",
            f"{source.future:,}",
        )

    def _sink(self, sink: SinkStatus) -> tuple[str, ...]:
        states = {"waits": "waits for rows", "writes": "waits for the outside to take rows", "ended": "ended"}
        return sink.name, states[sink.state], f"{sink.rows:,}", f"{sink.waiting_rows:,}"

    def room(self, waits_for: Sequence[str]) -> str:
        """Why there is no room where these tables wait for one another."""
        if not waits_for:
            return "what came is being decoded and handed on"
        last = waits_for[-1]
        found = f"it waits for room in {', which waits for '.join(waits_for)}"
        stage = self._stages.get(last)
        if last in self._sinks:
            found += ", which waits for the outside to take rows"
        elif stage is not None and stage.takes is not None:
            found += f", which takes {stage.takes} first"
        return found

    def _ago(self, time_ns: int) -> str:
        return f"{length(self._now - time_ns)} ago ({_wall(time_ns)})"


_SOURCE_HEAD = ("source", "state", "last heard", "latest event time", "rows", "rejected", "future")


def _state(source: SourceStatus, words: _Words, *, short: bool = False) -> str:
    match source.state:
        case "quiet":
            counts = ", counts no longer" if source.idle else ""
            return f"quiet for {length(source.quiet_ns)}{counts}"
        case "held":
            if short:
                return f"held by us ({source.waits_for[-1]})" if source.waits_for else "held by us (decoding)"
            return f"held by us: {words.room(source.waits_for)}"
        case "opening":
            return "not read yet"
    return source.state


def _labelled(label: str, words: str) -> Iterator[str]:
    indent = " " * _LABEL
    first = f"  {label}".ljust(_LABEL)
    yield from textwrap.wrap(
        words,
        WIDTH,
        initial_indent=first,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
