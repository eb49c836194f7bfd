"""The ledger: for every table, how many rows came in and by which way each of them left.

It is live (progress reads it while the run goes on) and it must add up: ``Ledger.check`` holds the rules at the end of a run, and a run
that breaks one fails with :class:`~asyncflow.errors.InternalError`.  The rules:

- source: ``rows = rejected + future + rows_out``; filter: ``rows_in = filtered + rows_out``; derive: ``rows_in = rejected + rows_out``;
  window: ``rows_in = aggregated + late``;
  dedup: ``rows_in = duplicate + rows_out``; top: ``rows_in = ranked + late``; sequence: ``rows_in = duplicate + late + rows_out``;
  join: ``rows_in`` = rows of both sides ``matched``, ``unmatched`` and ``late``;
- a table's ``rows_in`` is the sum of what the tables and side outputs that it reads gave out.

A table that is read again counts the rows of all its whole readings; one that fails or is broken off counts as if it had never begun.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from msgspec import Struct, field

from asyncflow.errors import InternalError
from asyncflow.model.batch import NO_TIME
from asyncflow.model.snapshot import Copied, Frozen, Plain, Saved


class SourceCounts(Struct):
    """``rows``: records read, good or bad; ``bytes``: of decoded input; times in ns (None before the first row).  ``outside``: gives what
    the connector counts beside (peers, dropped datagrams)."""

    rows: int = 0
    bytes: int = 0
    rejected: int = 0
    future: int = 0
    rows_out: int = 0
    first_time: int | None = None
    last_time: int | None = None
    watermark: int = NO_TIME
    outside: Callable[[], Mapping[str, int]] = dict

    def to_dict(self) -> dict[str, Any]:
        return {
            "rows": self.rows,
            "bytes": self.bytes,
            "rejected": self.rejected,
            "future": self.future,
            "rows_out": self.rows_out,
            "first_time": self.first_time,
            "last_time": self.last_time,
            "watermark": None if self.watermark == NO_TIME else self.watermark,
            **self.outside(),
        }

    def add(self, more: SourceCounts) -> None:
        """The rows of one more reading of the same source."""
        for name in ("rows", "bytes", "rejected", "future", "rows_out"):
            setattr(self, name, getattr(self, name) + getattr(more, name))
        firsts, lasts = (self.first_time, more.first_time), (self.last_time, more.last_time)
        self.first_time = min((each for each in firsts if each is not None), default=None)
        self.last_time = max((each for each in lasts if each is not None), default=None)
        self.watermark = max(self.watermark, more.watermark)

    def freeze(self) -> Frozen:
        """All but ``outside``."""
        return Copied({name: getattr(self, name) for name in self.__struct_fields__ if name != "outside"})

    def restore(self, saved: Saved) -> None:
        """Raises ValueError."""
        for name in ("rows", "bytes", "rejected", "future", "rows_out", "watermark"):
            setattr(self, name, saved.integer(name))
        for name in ("first_time", "last_time"):
            setattr(self, name, None if saved.fields.get(name) is None else saved.integer(name))

    def balance(self) -> str | None:
        gone = self.rejected + self.future + self.rows_out
        return None if self.rows == gone else f"{self.rows} rows in, {gone} accounted for"


class StageCounts(Struct):
    """``ways``: the operator's own counts (``filtered``, ``late``, ``aggregated``, ...); ``kept``: the counts that together are ``rows_in``
    (see :attr:`Stage.ways <asyncflow.plan.tables.Stage.ways>`); None where a row may become any number of rows."""

    rows_in: int = 0
    rows_out: int = 0
    watermark: int = NO_TIME
    ways: Mapping[str, int] = field(default_factory=dict)
    kept: tuple[str, ...] | None = ("rows_out",)

    def to_dict(self) -> dict[str, Any]:
        watermark = None if self.watermark == NO_TIME else self.watermark
        return {"rows_in": self.rows_in, **self.ways, "rows_out": self.rows_out, "watermark": watermark}

    def add(self, more: StageCounts) -> None:
        """The rows of one more run of the same stage, after this one has ended."""
        self.rows_in += more.rows_in
        self.rows_out += more.rows_out
        self.watermark = max(self.watermark, more.watermark)
        names = dict.fromkeys((*self.ways, *more.ways))
        self.ways = {name: self.ways.get(name, 0) + more.ways.get(name, 0) for name in names}

    def freeze(self) -> Frozen:
        fields: dict[str, Plain] = {
            name: getattr(self, name) for name in ("rows_in", "rows_out", "watermark")
        }
        return Copied({**fields, "ways": dict(self.ways)})

    def restore(self, saved: Saved) -> None:
        """Raises ValueError.  ``ways`` are no operator's counts afterwards."""
        for name in ("rows_in", "rows_out", "watermark"):
            setattr(self, name, saved.integer(name))
        ways = saved.within("ways")
        self.ways = {name: ways.integer(name) for name in ways.fields}

    def balance(self) -> str | None:
        if self.kept is None:
            return None
        gone = sum(self.rows_out if way == "rows_out" else self.ways.get(way, 0) for way in self.kept)
        return None if self.rows_in == gone else f"{self.rows_in} rows in, {gone} accounted for"


class SinkCounts(Struct):
    """``outside``: as of a source."""

    rows: int = 0
    bytes: int = 0
    outside: Callable[[], Mapping[str, int]] = dict

    def to_dict(self) -> dict[str, Any]:
        return {"rows": self.rows, "bytes": self.bytes, **self.outside()}


class Ledger:
    """One run's ledger.  ``seconds`` stands still once the run has ended."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.sources: dict[str, SourceCounts] = {}
        self.stages: dict[str, StageCounts] = {}
        self.sinks: dict[str, SinkCounts] = {}
        self._inputs: dict[str, tuple[str, ...]] = {}
        self._started = time.monotonic()
        self._ended: float | None = None

    @property
    def seconds(self) -> float:
        return (self._ended or time.monotonic()) - self._started

    def end(self) -> None:
        self._ended = time.monotonic()

    def wire(self, table: str, inputs: tuple[str, ...]) -> None:
        """Says which tables and side outputs ``table`` reads: ``check`` compares both ends."""
        self._inputs[table] = inputs

    def to_dict(self) -> dict[str, Any]:
        """The machine-readable form (``--stats``); times are ns since the epoch, UTC."""
        return {
            "name": self.name,
            "seconds": round(self.seconds, 6),
            "sources": {name: counts.to_dict() for name, counts in self.sources.items()},
            "stages": {name: counts.to_dict() for name, counts in self.stages.items()},
            "sinks": {name: counts.to_dict() for name, counts in self.sinks.items()},
        }

    def add(self, part: Ledger) -> None:
        """Counts a part of the run that was done once more."""
        for name, source in part.sources.items():
            self.sources[name].add(source)
        for name, stage in part.stages.items():
            self.stages[name].add(stage)

    def of(self, table: str) -> SourceCounts | StageCounts:
        """The counts of a source or stage."""
        return self.sources[table] if table in self.sources else self.stages[table]

    def check(self) -> None:
        """Raises InternalError naming every table that does not add up."""
        wrong = []
        tables: dict[str, SourceCounts | StageCounts] = {**self.sources, **self.stages}
        for name, counts in tables.items():
            if (problem := counts.balance()) is not None:
                wrong.append(f"{name}: {problem}")
        for table, inputs in self._inputs.items():
            given = sum(self._given(name) for name in inputs)
            taken = self.stages[table].rows_in if table in self.stages else self.sinks[table].rows
            if given != taken:
                wrong.append(f"{table}: its inputs gave {given} rows, it took {taken}")
        if wrong:
            raise InternalError("the ledger does not add up: " + "; ".join(wrong))

    def _given(self, name: str) -> int:
        table, _, kind = name.partition(".")
        if table in self.sources:
            source = self.sources[table]
            return {"": source.rows_out, "rejected": source.rejected, "future": source.future}[kind]
        stage = self.stages[table]
        return stage.ways.get(kind, 0) if kind else stage.rows_out
