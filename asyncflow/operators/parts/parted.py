"""A stage in parts: several operators of one kind, each of which holds the keys whose hash falls to it.

``scattered`` computes what the stage reads of a batch, hashes the keys and puts the rows part by part (``scatter`` kernel), each with the
watermark before it where that can matter: a row is judged as if there were one part.  The rows that leave at once (late ones) come back as
positions and are taken out of the batch in the order of the source.  Rows of closed windows come from each part in order and are merged.

Invariants: results, and what is counted, do not depend on the number of parts; the saved state is that of one operator.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from threading import Lock
from typing import Any

import numpy as np
from msgspec import Struct
from msgspec.structs import replace
from numpy.typing import NDArray

from asyncflow._kernels import scatter as scatter_kernel
from asyncflow._kernels.columns.raw import RawColumn
from asyncflow._kernels.groups import hash_rows
from asyncflow.model.batch import END_OF_TIME, NO_TIME, Batch
from asyncflow.model.columns import Int32Array, Int64Array
from asyncflow.model.schema import Schema
from asyncflow.model.snapshot import Frozen, Plain, Saved, nested
from asyncflow.operators.contract import Ahead, Closing, Output, Partitioned, counted, restore_counts
from asyncflow.operators.kernel_state import frozen_keys
from asyncflow.operators.parts.part import KeyedPart, Origin, Part, Prepare, Prepared, Share, Told
from asyncflow.operators.parts.runs import RunMerge, Stream, spans_count
from asyncflow.operators.parts.state import all_keys, keys_of_parts, part_of_owner
from asyncflow.operators.pieces import MAX_OUTPUT_BYTES
from asyncflow.operators.raw import column_of_raw, raw_column

_NO_COLUMNS = Schema(())
_FAR = END_OF_TIME
"""A delay with which no row moves the watermark to a time that counts."""


class Scattered(Struct, frozen=True, eq=False):
    """A batch part by part: part p has the rows from ``ends[p - 1]`` to ``ends[p]`` of all arrays.  ``rows``: the position of each in the
    batch; ``losses``: what was lost in computing."""

    batch: Batch
    ends: list[int]
    rows: Int32Array
    time: Int64Array | None
    hashes: NDArray[np.uint64]
    prepared: Prepared
    losses: dict[str, int]

    def of_part(self, part: int) -> tuple[Batch, Prepared, slice]:
        """Its rows: times as a batch without columns, under no watermark, and the columns."""
        within = slice(self.ends[part - 1] if part else 0, self.ends[part])
        start, stop = within.start, within.stop
        time = None if self.time is None else self.time[within]
        rows = Batch(_NO_COLUMNS, (), stop - start, time, None, NO_TIME, _FAR)
        prepared = Prepared(
            tuple(column.slice(start, stop) for column in self.prepared.keys),
            tuple(column.slice(start, stop) for column in self.prepared.inputs),
            tuple(mask[within] for mask in self.prepared.masks),
        )
        return rows, prepared, within


class Summed(Struct, frozen=True, eq=False):
    """A batch whose rows were added up.  ``folded``: as a part made it; ``hashes``, ``owners``: of its keys, and whose they are."""

    batch: Batch
    folded: Any
    hashes: NDArray[np.uint64]
    owners: Int64Array
    losses: dict[str, int]


class _Rows:
    """The rows of a batch part by part, made by the first part that asks: one of them is late."""

    def __init__(self, scatter: Callable[[], Scattered]) -> None:
        self._scatter, self._lock = scatter, Lock()
        self._found: Scattered | None = None

    def scattered(self) -> Scattered:
        with self._lock:
            if self._found is None:
                self._found = self._scatter()
        return self._found


class _Watermarks:
    """The watermark before each row of a batch, worked out by the first part that asks."""

    def __init__(self, batch: Batch) -> None:
        self._batch, self._lock = batch, Lock()
        self._found: Int64Array | None = None

    def of(self, rows: Int32Array) -> Int64Array:
        batch = self._batch
        with self._lock:
            if self._found is None:
                self._found = batch.watermarks
            if self._found is None:
                assert batch.time is not None
                self._found = scatter_kernel.watermarks(batch.time, batch.watermark_before, batch.delay_ns)
        return scatter_kernel.gather(self._found, rows)


class _Standing(Struct, frozen=True, eq=False):
    """How a part stands after its last task; ``left``: positions in the batch of the rows that leave."""

    counts: tuple[int, ...]
    spans: list[tuple[int, int]] | None
    open_windows: int | None
    open_keys: int | None
    state_bytes: int
    left: Int32Array | None = None


class Parted(Partitioned):
    """``make``: makes a part, always the same; its ``counts`` are the stage's.  ``prepare``: computes what the stage reads of a batch and
    adds what is lost to the dict; called by several threads at once.  ``kinds``, ``order``: types and columns that rows of closed windows
    are sorted by, where there are windows.  ``side``: the kind of output of the rows that leave at once; ``passes``: the others go on."""

    state_version = 1  # its parts' own
    output: Schema

    def __init__(
        self,
        make: Callable[[], Part],
        parts: int,
        *,
        prepare: Prepare,
        key_kinds: Sequence[str],
        kinds: Sequence[str] = (),
        order: Callable[[Batch], list[RawColumn]] | None = None,
        side: str = "late",
        passes: bool = False,
    ) -> None:
        super().__init__()
        if not 1 <= parts <= 64 or parts & (parts - 1):
            raise ValueError(f"{parts} parts: a power of two from 1 to 64 is wanted")
        self.parts = parts
        self._make = make
        self._parts = [make() for _ in range(parts)]
        self._key_kinds = list(key_kinds)
        self._prepare, self._kinds, self._order = prepare, kinds, order or (lambda batch: [])
        self._side, self._passes = side, passes
        first = self._parts[0]
        assert first.output is not None
        assert first.state_version == self.state_version
        self.output = first.output
        self._names = tuple(first.counts)
        self._before = dict.fromkeys(self._names, 0)  # of the run that this one continues
        self.counts = dict(self._before)
        self._arrivals = self._closed = 0
        self._stands = [_standing(part) for part in self._parts]

    # -- rows in -----------------------------------------------------------------------------------------------------

    def ahead(self, batch: Batch) -> Ahead:
        losses: dict[str, int] = {}
        prepared = self._prepare(batch, losses)
        size = sum(column.nbytes for column in (*prepared.keys, *prepared.inputs))
        folded = self._parts[0].folded(batch, prepared)
        if folded is None:
            made = self._scatter(batch, prepared, losses)
            return Ahead(self, batch.columns, made, {}, size + 20 * batch.num_rows)
        hashes = hash_rows(folded.keys, folded.key_count)
        summed = Summed(batch, folded, hashes, self._owners(hashes), losses)
        return Ahead(self, batch.columns, summed, {}, size + folded.nbytes, folded.nbytes)

    def settled(self, made: Scattered | Summed, watermark_before: int) -> Scattered | Summed:
        return replace(made, batch=replace(made.batch, watermark_before=watermark_before))

    def scattered(self, batch: Batch) -> Scattered | Summed:
        if self.done_ahead(batch):
            made: Scattered | Summed = batch.ahead.made
            return made
        losses: dict[str, int] = {}
        return self._scatter(batch, self._prepare(batch, losses), losses)

    def _scatter(self, batch: Batch, prepared: Prepared, losses: dict[str, int]) -> Scattered:
        keys = [raw_column(column) for column in prepared.keys]
        hashes = hash_rows(keys, batch.num_rows)
        read = {id(column): column for column in (*prepared.keys, *prepared.inputs)}
        columns = [
            *(raw_column(column) for column in read.values()),
            *((mask, None) for mask in prepared.masks),
            (hashes, None),
            *([] if batch.time is None else [(batch.time, None)]),
        ]
        ends, rows, moved = scatter_kernel.scatter(hashes, self.parts, columns)
        taken = iter(moved)
        of_parts = {name: column_of_raw(next(taken)) for name in read}
        prepared = Prepared(
            tuple(of_parts[id(column)] for column in prepared.keys),
            tuple(of_parts[id(column)] for column in prepared.inputs),
            tuple(next(taken)[0].view(np.bool_) for _ in prepared.masks),
        )
        hashes = next(taken)[0].view(np.uint64)
        time = None if batch.time is None else next(taken)[0].view(np.int64)
        return Scattered(batch, ends, rows, time, hashes, prepared, losses)

    def part_tasks(self, scattered: Scattered | Summed) -> list[Callable[[], _Standing]]:
        batch, before = scattered.batch, self._arrivals
        self._arrivals += batch.num_rows
        if isinstance(scattered, Summed):
            rows = _Rows(partial(self._scatter, batch, scattered.folded.prepared, scattered.losses))
            every = None if batch.time is None else _Watermarks(batch)
            return [partial(self._absorb, part, scattered, rows, before, every) for part in range(self.parts)]
        timed = batch.time is not None and self._parts[0].watermarks_matter(batch)
        watermarks = _Watermarks(batch) if timed else None
        return [partial(self._take, part, scattered, before, watermarks) for part in range(self.parts)]

    def _absorb(
        self, part: int, summed: Summed, rows: _Rows, before: int, watermarks: _Watermarks | None
    ) -> _Standing:
        operator = self._parts[part]
        keys = np.flatnonzero(summed.owners == part).astype(np.int32)
        share = Share(keys, summed.hashes[keys], before)
        if not len(keys) or operator.absorbs(summed.batch, summed.folded, share):
            return _standing(operator)
        return self._take(part, rows.scattered(), before, watermarks)

    def _take(
        self, part: int, scattered: Scattered, before: int, watermarks: _Watermarks | None
    ) -> _Standing:
        operator = self._parts[part]
        batch, prepared, within = scattered.of_part(part)
        if not batch.num_rows:
            return _standing(operator)
        places = scattered.rows[within]
        if watermarks is not None:
            batch = replace(batch, watermarks=watermarks.of(places))
        left = operator.take(batch, prepared, Origin(scattered.hashes[within], before, places))
        return _standing(operator, places[left] if len(left) else None)

    def joined(self, scattered: Scattered | Summed, results: Sequence[_Standing]) -> list[Output]:
        self._stands = list(results)
        for name, count in scattered.losses.items():
            self._before[name] = self._before.get(name, 0) + count
        self._count()
        left = [one.left for one in results if one.left is not None]
        batch = scattered.batch
        if not left:
            return [Output(batch)] if self._passes else []
        rows = np.sort(np.concatenate(left)).astype(np.intp)
        outputs = [] if self._side in self.unread else [Output(batch.take(rows), self._side)]
        if not self._passes or len(rows) == batch.num_rows:
            return outputs
        others = np.ones(batch.num_rows, np.bool_)
        others[rows] = False
        return [Output(batch.take(np.flatnonzero(others))), *outputs]

    def advance_bytes(self, watermark_ns: int, fresh_bytes: int) -> int:
        return sum(part.advance_bytes(watermark_ns, fresh_bytes // self.parts) for part in self._parts)

    # -- rows out ----------------------------------------------------------------------------------------------------

    def closing(self, watermark_ns: int | None) -> Closing:
        before = self.open_windows or 0
        given = [
            part.finish() if watermark_ns is None else part.advance(watermark_ns) for part in self._parts
        ]
        return _PartsClosing(self, given, before)

    def merged(self, streams: Sequence[Stream]) -> RunMerge:
        return RunMerge(streams, self._kinds, self._order)

    def ended(self, open_before: int) -> None:
        """All rows of a closing are out; so many windows were open before."""
        self._stands = [_standing(part) for part in self._parts]
        self._closed += open_before - (self.open_windows or 0)
        self._count()

    # -- how it stands -----------------------------------------------------------------------------------------------

    def _count(self) -> None:
        sums = np.sum([one.counts for one in self._stands], axis=0).tolist()
        totals = dict(zip(self._names, sums, strict=True))
        spans = [one.spans for one in self._stands if one.spans is not None]
        if spans:  # a window counts once, however many parts have rows of it
            totals["windows_closed"] = self._closed
            totals["windows_opened"] = self._closed + spans_count(spans)
        for name, before in self._before.items():
            self.counts[name] = before + totals.get(name, 0)

    @property
    def timed(self) -> bool:
        return self._parts[0].timed

    @property
    def held_ns(self) -> int:
        return self._parts[0].held_ns

    @property
    def next_due_ns(self) -> int | None:
        """Looked for when it is asked for, so not while a task runs."""
        return min((due for part in self._parts if (due := part.next_due_ns) is not None), default=None)

    @property
    def open_windows(self) -> int | None:
        spans = [one.spans for one in self._stands if one.spans is not None]
        return spans_count(spans) if spans else _sum(one.open_windows for one in self._stands)

    @property
    def open_keys(self) -> int | None:
        return _sum(one.open_keys for one in self._stands)

    @property
    def waiting_rows(self) -> int | None:
        """Counted when it is asked for, so not while a task runs."""
        return _sum(part.waiting_rows for part in self._parts)

    @property
    def state_bytes(self) -> int:
        return sum(one.state_bytes for one in self._stands)

    # -- state -------------------------------------------------------------------------------------------------------

    def freeze(self) -> Frozen:
        """The state of one operator; keys that hold nothing are dropped first."""
        fields = {**self._parts[0].fields(), **counted(self.counts)}
        return self._frozen(fields, Told(self._arrivals, self._closed))

    def _frozen(self, fields: Mapping[str, Plain], told: Told) -> Frozen:
        parts = [part for part in self._parts if isinstance(part, KeyedPart)]
        for part in parts:
            part.forget()
        keys, ranks = all_keys(self._key_kinds, [part.keys for part in parts])
        return nested(fields, {"keys": frozen_keys(keys), **parts[0].frozen_as_one(parts, ranks, told)})

    def restore(self, saved: Saved) -> None:
        """Takes the state of one operator, or of any number of parts."""
        whole = self._make()
        whole.restore(saved)  # says what does not fit
        self._share_out(
            replace(saved, fields={**saved.fields, **counted(dict.fromkeys(self._names, 0))}), whole
        )
        restore_counts(self.counts, saved)
        self._before = {
            name: 0 if name.startswith("windows_") else count for name, count in self.counts.items()
        }
        self._arrivals, self._closed = whole.told(saved)
        self._stands = [_standing(part) for part in self._parts]

    def _share_out(self, saved: Saved, whole: Part) -> None:
        """Gives each part what it takes of a state that has counted nothing, which ``whole`` has taken."""
        assert isinstance(whole, KeyedPart)
        keys, new = keys_of_parts(self._key_kinds, whole.keys, self._part_of, self.parts)
        for place, part in enumerate(self._parts):
            states = whole.split(saved, new[place], first=not place)
            part.restore(part_of_owner(saved.fields, {"keys": keys[place], **states}))

    def _part_of(self, columns: Sequence[RawColumn], num_rows: int) -> Int64Array:
        return self._owners(hash_rows(columns, num_rows))

    def _owners(self, hashes: NDArray[np.uint64]) -> Int64Array:
        return (hashes >> np.uint64(44)).astype(np.int64) & (self.parts - 1)


class _PartsClosing(Closing):
    """Each part's rows, merged."""

    def __init__(self, operator: Parted, given: Sequence[Iterable[Output]], open_before: int) -> None:
        self._operator, self._open_before = operator, open_before
        most = MAX_OUTPUT_BYTES // operator.parts
        self._streams = [
            Stream((output.batch for output in outputs), most)
            for outputs in given
            if outputs or not isinstance(outputs, tuple | list)
        ]
        self._merge = operator.merged(self._streams)
        self._open = True

    def tasks(self) -> list[Callable[[], None]]:
        tasks = [stream.pull for stream in self._streams if stream.wanting]
        if not tasks and self._open:
            self._open = False
            self._operator.ended(self._open_before)
        return tasks

    def outputs(self) -> Iterator[Output]:
        return map(Output, self._merge.merged())


def _standing(part: Part, left: Int32Array | None = None) -> _Standing:
    return _Standing(
        tuple(part.counts.values()),
        part.open_spans,
        part.open_windows,
        part.open_keys,
        part.state_bytes,
        left,
    )


def _sum(numbers: Iterable[int | None]) -> int | None:
    known = list(numbers)
    return None if None in known else sum(number for number in known if number is not None)
