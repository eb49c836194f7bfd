"""Session windows and count windows, plain.  The twin of ``compiled.pyx``.

A session of a group is the rows from its first to its last, no two neighbours more than a gap apart; it ends a gap after its last row.
Each row meets, in order, the watermark before it:

- a session that ends by that watermark is closed for the row (with one source, for every row after it);
- the row joins the open sessions that it reaches, that is whose first and last row are at most a gap away from it or have it between them;
  several are merged into the one that began first (of those the one that ends first), the others following in that order;
- where it reaches none, it is late if its own session ``[t, t + gap)`` ends by the watermark too; else it opens a session.

So a row is late when the session that it would form or join is closed, as in Flink; a row after a closed session, but not late by itself,
opens a new one even where it is less than a gap away.  A slot that is given back is the next to be given out.  No two sessions of a group
have the same last row: results depend on rows and watermarks alone.

A snapshot of sessions has them by (place of the group, first row, last row).  Fields: ``gap_ns``; ``watermark_ns``, that of the last
``close``; ``greatest_watermark_ns``, the greatest that came before a row; ``mixed``, whether one came that was less than an earlier one;
``windows_closed``; ``groups``, how many have a place.  Parts: ``group`` (int32, the place), ``first`` and ``last`` (int64).

A snapshot of count windows has those that are not full by the place of their group.  Fields: ``size``, ``windows_closed``, ``groups``.
Parts: ``group``, ``rows`` (int64), ``first`` and ``last``.  Full windows that were listed are no part of it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from asyncflow._kernels.base.saved import Parts
from asyncflow._kernels.sessions import saved

NO_TIME, END_OF_TIME = -(2**63), 2**63 - 1
Int32Array: TypeAlias = NDArray[np.int32]
Int64Array: TypeAlias = NDArray[np.int64]
Merges: TypeAlias = tuple[Int64Array, Int32Array, Int32Array]
Closed: TypeAlias = tuple[Int32Array, Int32Array, Int64Array, Int64Array]
Filled: TypeAlias = tuple[Int32Array, Int32Array, Int64Array, Int64Array, Int64Array]


class _Slots:
    def __init__(self, top: int) -> None:
        self.top, self.free = top, list[int]()

    def take(self) -> int:
        if self.free:
            return self.free.pop()
        self.top += 1
        return self.top - 1


@dataclass
class _Window:
    """``rows`` is counted by CountWindows only."""

    slot: int
    group: int
    first: int
    last: int
    rows: int = 0


class _Windows:
    def __init__(self, first_slot: int) -> None:
        self._first_slot = first_slot
        self._slots = _Slots(first_slot)
        self._open = defaultdict[int, list[_Window]](list)
        self.windows_closed = 0
        self._frozen = Parts()

    @property
    def slot_count(self) -> int:
        """Slots are 0 .. slot_count - 1."""
        return self._slots.top

    @property
    def open_windows(self) -> int:
        return sum(1 for _ in self._all())

    @property
    def nbytes(self) -> int:
        return 64 * self.open_windows

    def live_groups(self, group_count: int) -> Int32Array:
        """The groups (ascending) that have an open window."""
        return _int32(sorted(self._open))

    def keep(self, groups: Int32Array) -> None:
        """Renames groups: ``groups[i]`` becomes i.  Every live group is among them (ascending)."""
        new = {group: i for i, group in enumerate(groups.tolist())}
        for window in self._all():
            window.group = new[window.group]
        self._open = defaultdict(list, {new[group]: windows for group, windows in self._open.items()})

    def keep_slots(self) -> Int32Array:
        """Renames slots, without those that are free: the old ones (ascending), a session's slot 0 first; the i-th becomes i."""
        kept = [*range(self._first_slot), *sorted(window.slot for window in self._all())]
        new = {slot: i for i, slot in enumerate(kept)}
        for window in self._all():
            window.slot = new[window.slot]
        self._slots = _Slots(len(kept))
        return _int32(kept)

    def slot_ranks(self, rank: Int32Array) -> Int32Array:
        """The slot (int32) that each slot is after ``load`` of what ``freeze(rank)`` says now; -1: a slot without a window."""
        ranks = np.full(self.slot_count, -1, np.int32)
        ranks[: self._first_slot] = 0
        for place, (_, window) in enumerate(self._in_order(rank)):
            ranks[window.slot] = self._first_slot + place
        return ranks

    def pieces(self, budget: int) -> list[tuple[str, NDArray[Any]]] | None:
        """The next parts of the snapshot, of about ``budget`` bytes: ``[(name, array), ...]``; None: all were given."""
        return self._frozen.pieces(budget)

    def drop(self) -> None:
        """The snapshot is given up."""
        self._frozen.drop()

    def _in_order(self, rank: Int32Array) -> list[tuple[int, _Window]]:
        """Windows and the places of their groups, in the order in which they are saved."""
        places = rank.tolist()
        windows = list(self._all())
        if any(window.group >= len(places) or places[window.group] < 0 for window in windows):
            raise ValueError("rank: a group that holds rows has no place")
        placed = [(places[window.group], window) for window in windows]
        return sorted(placed, key=lambda each: (each[0], each[1].first, each[1].last))

    def _load(self, groups: Int32Array, rows: Int64Array, first: Int64Array, last: Int64Array) -> None:
        for group, count, begin, end in zip(
            groups.tolist(), rows.tolist(), first.tolist(), last.tolist(), strict=True
        ):
            self._open[group].append(_Window(self._slots.take(), group, begin, end, count))

    def _all(self) -> Iterator[_Window]:
        return (window for windows in self._open.values() for window in windows)

    def _remove(self, window: _Window) -> None:
        self._open[window.group].remove(window)
        if not self._open[window.group]:
            del self._open[window.group]


class Sessions(_Windows):
    """Open sessions of every group, ``gap_ns`` apart."""

    def __init__(self, gap_ns: int) -> None:
        if not 0 < gap_ns < 2**63:
            raise ValueError("a gap is 1 .. 2**63 - 1 ns")
        super().__init__(1)
        self._gap = gap_ns
        self._advanced = self._greatest_mark = NO_TIME
        self._mixed = False

    def assign(
        self,
        groups: Int32Array,
        group_count: int,
        time: Int64Array,
        watermarks: Int64Array | None,
        watermark_before: int,
        delay_ns: int,
    ) -> tuple[Int32Array, NDArray[np.intp], Merges]:
        """The slot of each row, in order: ``(slots, late, merges)``.  ``late``: positions of late rows, whose slot is 0.  ``merges``:
        ``(rows, into, source)``: before row ``rows[i]`` the sessions ``into[i]`` and ``source[i]`` became one, in slot ``into[i]``."""
        slots, late, merges = [], [], []
        running = watermark_before
        for row, (group, t) in enumerate(zip(groups.tolist(), time.tolist(), strict=True)):
            watermark = max(running if watermarks is None else int(watermarks[row]), self._advanced)
            running = max(running, t - delay_ns)
            self._mixed |= watermark < self._greatest_mark
            self._greatest_mark = max(self._greatest_mark, watermark)
            reached = [
                window
                for window in self._open.get(group, ())
                if not self._ended(window.last, watermark)
                and window.first - self._gap <= t <= window.last + self._gap
            ]
            if reached:
                session, *others = sorted(reached, key=lambda window: (window.first, window.last))
                for other in others:
                    session.last = max(session.last, other.last)
                    merges.append((row, session.slot, other.slot))
                    self._drop(other)
                session.first, session.last = min(session.first, t), max(session.last, t)
                slots.append(session.slot)
            elif self._ended(t, watermark):
                late.append(row)
                slots.append(0)
            else:
                slots.append(self._slots.take())
                self._open[group].append(_Window(slots[-1], group, t, t))
        rows, into, source = zip(*merges, strict=True) if merges else ((), (), ())
        return (
            _int32(slots),
            np.array(late, np.intp),
            (np.array(rows, np.int64), _int32(into), _int32(source)),
        )

    def _ended(self, last: int, watermark: int) -> bool:
        return min(last + self._gap, END_OF_TIME) <= watermark

    def _drop(self, window: _Window) -> None:
        self._remove(window)
        self._slots.free.append(window.slot)

    @property
    def next_end(self) -> int | None:
        """When the session that ends first ends, clamped to int64; None where there is none."""
        return min((min(window.last + self._gap, END_OF_TIME) for window in self._all()), default=None)

    def close(self, watermark_ns: int) -> Closed:
        """The sessions that end by the watermark, by end, then start, then group: ``(slots, groups, starts, ends)``; bounds are clamped
        to int64.  Their slots are given out again by the next ``assign``."""
        self._advanced = max(self._advanced, watermark_ns)
        ended = [window for window in self._all() if self._ended(window.last, self._advanced)]
        ended.sort(
            key=lambda window: (
                min(window.last + self._gap, END_OF_TIME), window.first, window.group, window.last,
            )
        )  # fmt: skip
        for window in ended:
            self._drop(window)
        self.windows_closed += len(ended)
        ends = [min(window.last + self._gap, END_OF_TIME) for window in ended]
        return (
            _int32([window.slot for window in ended]),
            _int32([window.group for window in ended]),
            np.array([window.first for window in ended], np.int64),
            np.array(ends, np.int64),
        )

    def freeze(self, rank: Int32Array) -> dict[str, Any]:
        """The fields of a snapshot, whose parts ``pieces`` gives from now on: see above.  ``rank``: of each group its place."""
        windows = self._in_order(rank)
        self._frozen = Parts(
            {
                "group": _int32([place for place, _ in windows]),
                "first": np.array([window.first for _, window in windows], np.int64),
                "last": np.array([window.last for _, window in windows], np.int64),
            }
        )
        return {
            "gap_ns": self._gap,
            "watermark_ns": self._advanced,
            "greatest_watermark_ns": self._greatest_mark,
            "mixed": self._mixed,
            "windows_closed": self.windows_closed,
            "groups": len(rank),
        }

    def load(self, fields: Mapping[str, Any], parts: Mapping[str, NDArray[Any]]) -> None:
        """Takes a snapshot into a state that had no row: session i is slot i + 1.  ValueError says what does not fit."""
        if self.slot_count > 1 or self._advanced != NO_TIME:
            raise ValueError("a snapshot is loaded into a state that had rows")
        groups, first, last = saved.sessions(fields, parts, self._gap)
        self._advanced, self._greatest_mark = fields["watermark_ns"], fields["greatest_watermark_ns"]
        self._mixed, self.windows_closed = fields["mixed"], fields["windows_closed"]
        self._load(groups, np.zeros(len(groups), np.int64), first, last)


class CountWindows(_Windows):
    """Windows of ``size`` rows by group."""

    def __init__(self, size: int) -> None:
        if not 0 < size < 2**63:
            raise ValueError("a window has 1 .. 2**63 - 1 rows")
        super().__init__(0)
        self._size = size
        self._given: list[int] = []

    def assign(
        self, groups: Int32Array, group_count: int, time: Int64Array | None
    ) -> tuple[Int32Array, Filled]:
        """The slot of each row, and the windows that are full now, in the order in which they filled: ``(slots, filled)``, ``filled`` being
        ``(slots, groups, firsts, lasts, rows)``: times of the first and last row by arrival, and the position of the row that filled it.
        Their slots are given out again by the next call."""
        self._reuse()
        slots, filled = [], []
        times = [0] * len(groups) if time is None else time.tolist()
        for row, (group, t) in enumerate(zip(groups.tolist(), times, strict=True)):
            if group not in self._open:
                self._open[group].append(_Window(self._slots.take(), group, t, t))
            window = self._open[group][0]
            slots.append(window.slot)
            window.last = t
            window.rows += 1
            if window.rows == self._size:
                filled.append((window, row))
                self._remove(window)
        return _int32(slots), self._filled(filled)

    def rest(self) -> Filled:
        """The windows that are not full, by group, as ``filled`` (rows -1); they are closed by this."""
        self._reuse()
        rest = sorted(self._all(), key=lambda window: window.group)
        self._open.clear()
        return self._filled([(window, -1) for window in rest])

    def keep_slots(self) -> Int32Array:
        """Renames slots, without those that are free or were given out as full: the old ones (ascending); the i-th becomes i."""
        self._given = []
        return super().keep_slots()

    def freeze(self, rank: Int32Array) -> dict[str, Any]:
        """The fields of a snapshot, whose parts ``pieces`` gives from now on: see above.  ``rank``: of each group its place."""
        windows = self._in_order(rank)
        self._frozen = Parts(
            {
                "group": _int32([place for place, _ in windows]),
                "rows": np.array([window.rows for _, window in windows], np.int64),
                "first": np.array([window.first for _, window in windows], np.int64),
                "last": np.array([window.last for _, window in windows], np.int64),
            }
        )
        return {"size": self._size, "windows_closed": self.windows_closed, "groups": len(rank)}

    def load(self, fields: Mapping[str, Any], parts: Mapping[str, NDArray[Any]]) -> None:
        """Takes a snapshot into a state that had no row: window i is slot i.  ValueError says what does not fit."""
        if self.slot_count or self.windows_closed:
            raise ValueError("a snapshot is loaded into a state that had rows")
        self._load(*saved.windows(fields, parts, self._size))
        self.windows_closed = fields["windows_closed"]

    def _reuse(self) -> None:
        self._slots.free += self._given
        self._given = []

    def _filled(self, filled: Sequence[tuple[_Window, int]]) -> Filled:
        self._given = [window.slot for window, _ in filled]
        self.windows_closed += len(filled)
        return (
            _int32(self._given),
            _int32([window.group for window, _ in filled]),
            np.array([window.first for window, _ in filled], np.int64),
            np.array([window.last for window, _ in filled], np.int64),
            np.array([row for _, row in filled], np.int64),
        )


def _int32(values: Sequence[int]) -> Int32Array:
    return np.array(values, np.int32)
