"""As-of joins, plain: all rows are looked at.  The twin of ``compiled.pyx``.

``hold`` takes a batch of one side in, ``sweep`` gives the results up to a clock.  The columns of rows are the caller's.  A row's
*reference* says where they are: -2 - i for row i of the side's last batch, which is *fresh*; or a place of the row's side (0, 1, ...),
which ``settle`` gives to the fresh rows that are still held, before the next batch.  A place is given out anew after the ``recycle`` that
follows the leaving of its row.

A row is late where the watermark before it, or the clock, has passed its last use: of a left row ``wait`` after its time, of a right row
``reach`` (None: never).  Late rows are told, and not kept.  The moment of a right row is its time, or the watermark before it (or the
clock) where that is later: a row with a moment after its time counts in part of the results.  The moment of a left row, its release, is
``wait`` after its time.  Moments come in order, of one moment right rows first, by arrival.

A left row meets, at its release, the right row of its key that is nearest on the side of ``direction`` and at most ``tolerance_ns`` away
(None: at any distance), of those whose moments have come; of rows at one time the last to arrive looking back, the first looking forward;
of two as near the earlier.  The left row then leaves.  A right row leaves ``reach`` after its time.  Where right rows without a partner are
not given out, one without a key leaves at its moment, and looking back only the last row of a key stays, by (time, arrival).

Results: references of the left and right row (-1: none), the later of their times, and the moment, in the order of (moment, left arrival,
right arrival), none last.  ``kind`` says which: pairs (inner, left, right, full); left rows that meet one (semi) or none (left, full,
anti); right rows that leave without a partner (right, full).  Times shifted beyond the ends of time are the first or last instant.

A snapshot has the rows of each side by (place of the key, time, arrival), those without a key first.  It is taken between sweeps, when
nothing waits for ``settle`` or ``recycle``.  Fields: ``direction``, ``kind`` and ``tolerance_ns``, which a state that loads it must have;
``clock_ns``; ``arrived``, how many rows each side has kept; ``ways``; ``groups``, how many keys have a place.  Parts, for ``left`` and
``right``: ``left.key`` (int32, the place; -1: null), ``left.time``, ``left.arrival``; and ``right.moment``, ``right.matched``,
``right.ahead``, whether the moment has not come.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asyncflow._kernels.as_of import saved
from asyncflow._kernels.base.saved import Parts

FIRST_TIME, LAST_TIME, END = saved.FIRST_TIME, saved.LAST_TIME, saved.END
LEFT, RIGHT = 0, 1


def shifted(time: int, by: int) -> int:
    return min(max(time + by, FIRST_TIME), LAST_TIME)


@dataclass(slots=True, eq=False)
class _Row:
    arrival: int
    key: int
    time: int
    moment: int
    ref: int
    matched: bool = False

    @property
    def order(self) -> tuple[int, int]:
        return self.time, self.arrival


class AsOfState:
    """The rows of both sides."""

    def __init__(self, direction: str, kind: str, tolerance_ns: int | None) -> None:
        if direction not in ("backward", "forward", "nearest"):
            raise ValueError(f"no direction {direction!r}")
        if tolerance_ns is None and (direction != "backward" or kind in ("right", "full")):
            raise ValueError("this join needs a tolerance")
        if tolerance_ns is not None and tolerance_ns < 0:
            raise ValueError("a tolerance is not negative")
        self._direction, self._tolerance = direction, tolerance_ns
        self._pairs, self._firsts = kind not in ("semi", "anti"), kind == "semi"
        self._left_alone, self._right_alone = kind in ("left", "full", "anti"), kind in ("right", "full")
        self._one_each = direction == "backward" and not self._right_alone
        self.wait = 0 if direction == "backward" else tolerance_ns or 0
        self.reach = tolerance_ns
        if direction == "nearest" and tolerance_ns is not None:
            self.reach = min(2 * tolerance_ns, END)
        self._waiting: tuple[list[_Row], list[_Row]] = ([], [])
        self._known: list[_Row] = []
        self._free: tuple[list[int], list[int]] = ([], [])
        self._gone: tuple[list[int], list[int]] = ([], [])
        self._places = [0, 0]
        self._has_fresh = [False, False]
        self._arrived = [0, 0]
        self.ways = (0, 0, 0, 0)
        self._key_count = 0
        self._clock = -(2**63)
        self._ready: tuple[list[_Row], list[_Row]] = ([], [])
        self._under_way = False
        self._shape = {"direction": direction, "kind": kind, "tolerance_ns": tolerance_ns}
        self._frozen = Parts()
        self._saved_places: list[NDArray[np.int64]] = []

    @property
    def rows(self) -> tuple[int, int]:
        return len(self._held(LEFT)), len(self._held(RIGHT))

    @property
    def places(self) -> tuple[int, int]:
        """Of each side how many were ever given out, without those that ``compact`` took back."""
        return self._places[LEFT], self._places[RIGHT]

    @property
    def nbytes(self) -> int:
        return 32 * sum(self.rows) + 16 * self._key_count

    def hold(
        self,
        port: int,
        keys: NDArray[np.int32],
        key_count: int,
        times: NDArray[np.int64],
        marks: NDArray[np.int64] | None,
        before: int,
        delay_ns: int,
    ) -> tuple[NDArray[np.bool_] | None, int]:
        """Which rows are late (None: none is), and how many of the others count in part of the results.

        ``keys``: below ``key_count``, -1 for null, which equals nothing.  The watermark before row i is ``marks[i]``, or without ``marks``
        the greater of ``before`` and the greatest time of the rows before it less ``delay_ns``."""
        if len(times) != len(keys) or (marks is not None and len(marks) != len(keys)):
            raise ValueError("the arrays differ in length")
        if delay_ns < 0:
            raise ValueError("a delay is not negative")
        self._between_sweeps()
        if self._has_fresh[port]:
            raise ValueError("rows wait for settle")
        if not len(keys):
            return None, 0
        if not -1 <= keys.min() <= keys.max() < key_count:
            raise IndexError(f"a key outside of 0..{key_count - 1}")
        self._key_count = max(self._key_count, key_count)
        late, partly, own = np.zeros(len(keys), np.bool_), 0, before
        patience = self.reach if port else self.wait
        for i, (key, time) in enumerate(zip(keys.tolist(), times.tolist(), strict=True)):
            seen = max(own if marks is None else int(marks[i]), self._clock)
            own = max(own, time - delay_ns)
            if patience is not None and seen > shifted(time, patience):
                late[i] = True
                continue
            partly += port == RIGHT and seen > time
            moment = max(time, seen) if port else time
            self._waiting[port].append(_Row(self._arrived[port], key, time, moment, -2 - i))
            self._arrived[port] += 1
            self._has_fresh[port] = True
        return late if late.any() else None, partly

    def sweep(
        self, clock_ns: int, limit: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], bool]:
        """Results to the clock, or to the end of the moment at which there are ``limit``; whether more follow, from the next call with
        the same clock."""
        if not self._under_way:
            self._begin(clock_ns)
        met: list[tuple[int, float, float, int, int, int]] = []
        last, more = -(2**63), False
        while (event := self._next()) is not None:
            moment, step, row = event
            gives = step == 1 or (step == 2 and self._right_alone and not row.matched)
            if gives and moment > last and len(met) >= limit:
                more = True
                break
            last = max(moment, last) if gives else last
            if step == 0:
                self._ready[RIGHT].remove(row)
                self._comes(row)
            elif step == 1:
                self._ready[LEFT].remove(row)
                met += self._answer(row, moment)
            else:
                if gives:
                    met.append((moment, END, row.arrival, -1, row.ref, row.time))
                self._leaves(row)
        if not more:
            self._under_way = False
            for row in list(self._known) if self.reach is None and self._clock == END else []:
                self._leaves(row)
        met.sort(key=lambda each: each[:3])
        columns = np.array([each[3:] + each[:1] for each in met], np.int64).reshape(-1, 4).T
        left, right, time, release = (np.ascontiguousarray(column) for column in columns)
        return left, right, time, release, more

    def passes(self, clock_ns: int) -> int:
        """How many rows the sweep to this clock goes through, of those that wait."""
        waits = (self.wait, 0)
        return sum(
            clock_ns == END or shifted(row.moment, wait) < clock_ns
            for wait, rows in zip(waits, self._waiting, strict=True)
            for row in rows
        )

    def recycle(self, port: int) -> NDArray[np.int64]:
        """The places whose rows have left since the last call; from now on they are given out again."""
        gone = np.array(self._gone[port], np.int64)
        self._free[port].extend(reversed(self._gone[port]))
        self._gone[port].clear()
        return gone

    def settle(self, port: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The fresh rows that are held, in any order, and the place of each from now on; no row of the side is fresh any more."""
        self._between_sweeps()
        self._has_fresh[port] = False
        rows, places = [], []
        for row in self._held(port):
            if row.ref >= 0:
                continue
            rows.append(-2 - row.ref)
            if not self._free[port]:
                self._free[port].append(self._places[port])
                self._places[port] += 1
            row.ref = self._free[port].pop()
            places.append(row.ref)
        return np.array(rows, np.int64), np.array(places, np.int64)

    def compact(self, port: int) -> NDArray[np.int64]:
        """Places without holes; place i was ``[i]``."""
        self._between_sweeps()
        self._settled(port)
        held = sorted(self._held(port), key=lambda row: row.ref)
        kept = [row.ref for row in held]
        for place, row in enumerate(held):
            row.ref = place
        self._places[port] = len(kept)
        self._free[port].clear()
        return np.array(kept, np.int64)

    def next_due(self) -> int | None:
        """The clock beyond which the next left row is answered, or a right one without a partner is given out, at the earliest."""
        dues = [shifted(row.time, self.wait) for row in self._waiting[LEFT]]
        if self._right_alone:
            dues += [self._due(row) for row in self._held(RIGHT) if not row.matched]
        return min(dues, default=None)

    def live_keys(self) -> NDArray[np.int32]:
        """The keys (ascending) that rows are held of."""
        held = [*self._held(LEFT), *self._held(RIGHT)]
        return np.array(sorted({row.key for row in held if row.key >= 0}), np.int32)

    def keep_keys(self, kept: NDArray[np.int32]) -> None:
        """Key ``kept[i]`` becomes i; rows are held of no others."""
        if len(kept) and not 0 <= kept.min() <= kept.max() < self._key_count:
            raise IndexError("a key that is not known")
        if len(np.unique(kept)) < len(kept) or not np.isin(self.live_keys(), kept).all():
            raise ValueError("keys that rows are held of are kept, each once")
        self._between_sweeps()
        names = {-1: -1} | {key: name for name, key in enumerate(kept.tolist())}
        for row in [*self._held(LEFT), *self._held(RIGHT)]:
            row.key = names[row.key]
        self._key_count = len(kept)

    def saved_places(self, port: int) -> NDArray[np.int64]:
        """The places of a side's rows in the order of the last snapshot: row i stands at place i where that is loaded."""
        if not self._saved_places:
            raise ValueError("rows have an order once the state was frozen")
        return self._saved_places[port]

    def freeze(self, rank: NDArray[np.int32]) -> dict[str, Any]:
        """The fields of a snapshot, whose parts ``pieces`` gives from now on: see above.  ``rank``: of each key its place."""
        self._between_sweeps()
        parts: dict[str, NDArray[Any]] = {}
        places = []
        for port in (LEFT, RIGHT):
            self._settled(port)
            held, ahead = self._held(port), self._waiting[port]
            order, rows = saved.Rows(
                np.array([row.key for row in held], np.int32),
                np.array([row.time for row in held], np.int64),
                np.array([row.moment if row in ahead else row.time for row in held], np.int64),
                np.array([row.arrival for row in held], np.int64),
                np.array([row.matched for row in held], np.bool_),
                np.array([row in ahead for row in held], np.bool_),
            ).in_order(rank)
            parts |= rows.parts(port)
            places.append(np.array([held[i].ref for i in order.tolist()], np.int64))
        self._frozen, self._saved_places = Parts(parts), places
        return self._shape | {
            "clock_ns": self._clock,
            "arrived": list(self._arrived),
            "ways": list(self.ways),
            "groups": len(rank),
        }

    def pieces(self, budget: int) -> list[tuple[str, NDArray[Any]]] | None:
        """The next parts of the snapshot, of about ``budget`` bytes: ``[(name, array), ...]``; None: all were given."""
        return self._frozen.pieces(budget)

    def drop(self) -> None:
        """The snapshot is given up."""
        self._frozen.drop()

    def load(self, fields: Mapping[str, Any], parts: Mapping[str, NDArray[Any]]) -> None:
        """Takes a snapshot into a state that had no row: place i has the i-th row of its side.  ValueError says what does not fit."""
        if any(self._arrived) or self._clock != -(2**63):
            raise ValueError("a snapshot is loaded into a state that had rows")
        sides = saved.loaded(fields, parts, self._shape, (self.wait, self.reach), self._one_each)
        for port, rows in enumerate(sides):
            of = zip(
                *(getattr(rows, name).tolist() for name in ("arrival", "keys", "time", "moment")), strict=True
            )
            for place, (arrival, key, time, moment) in enumerate(of):
                row = _Row(arrival, key, time, moment, place, bool(rows.matched[place]))
                (self._waiting[port] if rows.ahead[place] else self._known).append(row)
                self._key_count = max(self._key_count, key + 1)
            self._places[port] = len(rows.time)
        self._clock = fields["clock_ns"]
        self._arrived = list(fields["arrived"])
        self.ways = (fields["ways"][0], fields["ways"][1], fields["ways"][2], fields["ways"][3])

    # -- inside ----------------------------------------------------------------------------------------------------------

    def _held(self, port: int) -> list[_Row]:
        return self._waiting[port] + (self._known if port else [])

    def _between_sweeps(self) -> None:
        if self._under_way:
            raise ValueError("a sweep is not over")

    def _settled(self, port: int) -> None:
        if self._has_fresh[port] or self._gone[port]:
            raise ValueError("rows wait for recycle or settle")

    def _begin(self, clock_ns: int) -> None:
        if clock_ns < self._clock:
            raise ValueError("the clock went back")
        self._clock, self._under_way = clock_ns, True
        for port, wait in ((LEFT, self.wait), (RIGHT, 0)):
            passed = [
                row for row in self._waiting[port] if shifted(row.moment, wait) < clock_ns or clock_ns == END
            ]
            self._ready[port][:] = passed
            self._waiting[port][:] = [row for row in self._waiting[port] if row not in passed]

    def _next(self) -> tuple[int, int, _Row] | None:
        """What happens next before the clock: a right row comes (0), a left row is answered (1), a right row is due (2)."""
        events = [(row.moment, 0, row.arrival, row) for row in self._ready[RIGHT]]
        for row in self._ready[LEFT]:
            release = row.time if self._direction == "backward" else shifted(row.time, self.wait)
            events.append((release, 1, row.arrival, row))
        if self.reach is not None:
            events += [(self._due(row), 2, row.arrival, row) for row in self._known]
        if not events:
            return None
        moment, step, _, row = min(events, key=lambda event: event[:3])
        return (moment, step, row) if moment < self._clock or self._clock == END else None

    def _due(self, row: _Row) -> int:
        return shifted(row.time, self.reach or 0)

    def _comes(self, row: _Row) -> None:
        self._known.append(row)
        if row.key < 0 and not self._right_alone:
            self._leaves(row)
        elif self._one_each:
            of_key = [other for other in self._known if other.key == row.key]
            self._leaves(min(of_key, key=lambda other: other.order)) if len(of_key) > 1 else None

    def _answer(self, left: _Row, moment: int) -> list[tuple[int, float, float, int, int, int]]:
        found = self._nearest(left)
        self._count(LEFT, found is not None)
        self._give_up(LEFT, left)
        if found is not None:
            found.matched = True
            if self._pairs:
                time = max(left.time, found.time)
                return [(moment, left.arrival, found.arrival, left.ref, found.ref, time)]
        if self._firsts if found is not None else self._left_alone:
            return [(moment, left.arrival, END, left.ref, -1, left.time)]
        return []

    def _nearest(self, left: _Row) -> _Row | None:
        best: tuple[tuple[int, int, int], _Row] | None = None
        for right in self._known:
            apart = abs(left.time - right.time)
            side = (right.time > left.time) - (right.time < left.time)
            wrong = {"backward": side > 0, "forward": side < 0}.get(self._direction, False)
            if right.key != left.key or left.key < 0 or wrong:
                continue
            if self._tolerance is not None and apart > self._tolerance:
                continue
            back = self._direction == "backward" or (self._direction == "nearest" and side <= 0)
            rank = (apart, right.time, -right.arrival if back else right.arrival)
            if best is None or rank < best[0]:
                best = rank, right
        return None if best is None else best[1]

    def _leaves(self, row: _Row) -> None:
        self._known.remove(row)
        self._count(RIGHT, row.matched)
        self._give_up(RIGHT, row)

    def _give_up(self, port: int, row: _Row) -> None:
        if row.ref >= 0:
            self._gone[port].append(row.ref)

    def _count(self, port: int, matched: bool) -> None:
        counts = list(self.ways)
        counts[2 * port + (not matched)] += 1
        self.ways = (counts[0], counts[1], counts[2], counts[3])


def kinds(refs: NDArray[np.int64]) -> tuple[int, int, bool]:
    """How many references are null, how many are places, and whether all are fresh rows that stand one after another."""
    absent, placed = int(np.count_nonzero(refs == -1)), int(np.count_nonzero(refs >= 0))
    return absent, placed, not absent and not placed and bool((np.diff(refs) == -1).all())


def pick(
    placed: NDArray[np.uint8], fresh: NDArray[np.uint8], width: int, refs: NDArray[np.int64]
) -> NDArray[np.uint8]:
    """Values of ``width`` bytes (1, 4 or 8) by reference: of ``placed`` by place, of ``fresh`` by row.  All as bytes."""
    if width not in (1, 4, 8):
        raise ValueError(f"values of {width} bytes")
    held, rows = (each[: len(each) // width * width].reshape(-1, width) for each in (placed, fresh))
    of_fresh = refs < 0
    found = np.empty((len(refs), width), np.uint8)
    for chosen, values, at in ((~of_fresh, held, refs), (of_fresh, rows, -2 - refs)):
        if chosen.any() and not 0 <= at[chosen].min() <= at[chosen].max() < len(values):
            raise IndexError("a reference to no row")
        found[chosen] = values[at[chosen]]
    return found.ravel()


def pick_texts(
    placed: tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int32]],
    fresh: tuple[NDArray[np.uint8], NDArray[np.int32], NDArray[np.int32]],
    refs: NDArray[np.int64],
) -> tuple[NDArray[np.uint8], NDArray[np.int32], NDArray[np.int32]]:
    """The texts by reference, one after another: bytes, starts, lengths.  ``placed`` and ``fresh``: the same."""
    texts: list[bytes] = []
    for ref in refs.tolist():
        (data, starts, lengths), row = (placed, ref) if ref >= 0 else (fresh, -2 - ref)
        if not 0 <= row < len(starts) == len(lengths):
            raise IndexError("a reference to no row, or a text outside of its bytes")
        start, length = int(starts[row]), int(lengths[row])
        if length and not 0 <= start <= start + length <= len(data):
            raise IndexError("a reference to no row, or a text outside of its bytes")
        texts.append(data[start : start + length].tobytes())
    sizes = np.array([len(text) for text in texts], np.int64)
    if sizes.sum() > 2**31 - 1:
        raise OverflowError("texts of more than 2 GiB")
    starts = (np.cumsum(sizes) - sizes).astype(np.int32)
    return np.frombuffer(b"".join(texts), np.uint8).copy(), starts, sizes.astype(np.int32)
