"""The interval join, plain: all rows of a key are looked at.  The twin of ``compiled.pyx``.

``hold`` takes rows in; ``sweep`` says how far the clock has come, and gives the results up to there.  Of a state in several ``parts``, by
key, threads may sweep the parts side by side: ``tasks``, then ``met``.  Nothing depends on their number but how many results come at once.

Each row has a *place*, which the caller knows its columns by: places of a side count up in the order in which rows arrive.  A place is in
use until its row leaves; ``places`` gives the first place in use and the next one that is given out.  ``compact`` moves rows to new places.

The watermark before a row (``seen``) is given (``marks``), or is the greater of ``watermark_ns`` and the greatest time of the rows before
it less ``delay_ns``; it is the clock at least.  A row *expires* ``reach`` after its time (a left row ``upper``, a right row ``-lower``; not
before its time).  A row is late, and not taken in, where ``seen`` lies beyond the expiry of all possible partners; late in part where it
lies beyond that of some.

A row comes at its time, or at ``seen`` where that is later; and where all its partners are later than the row, not before the first of them
could be.  Rows come in the order of these moments, right ones before left ones.  A left and a right row of one key meet where right time -
left time lies in ``[lower, upper]``, when the later of the two comes; but not where ``seen`` of the one lies beyond the other's expiry.  A
row leaves at its expiry, or at ``seen`` where that is later.

Results: places of the left and right row (-1: none), the later of their times, and the moment, in the order of (moment, left arrival, right
arrival), none last.  ``kind`` says which: pairs (inner, left, right, full); left rows at their first pair (semi); rows that leave
without a partner (left: left, full, anti; right: right, full).  Times shifted beyond the ends of time are the first or last instant.

Keys are named by the caller (``hold``; -1 for null, which equals nothing), or are one int64 each (``hold_numbers``).

Snapshots are described in ``saved.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asyncflow._kernels.base.saved import Parts
from asyncflow._kernels.interval import saved
from asyncflow._kernels.interval.saved import END, FIRST_TIME, IN_TIME, LAST_TIME

LEFT, RIGHT = 0, 1
MOST_PARTS = 64


def shifted(time: int, by: int) -> int:
    return min(max(time + by, FIRST_TIME), LAST_TIME)


@dataclass(slots=True, eq=False)
class _Row:
    port: int
    arrival: int
    key: int | None
    time: int
    seen: int
    place: int
    known: bool = False
    matched: bool = False


class IntervalState:
    """The rows of both sides."""

    def __init__(self, kind: str, lower_ns: int, upper_ns: int, parts: int = 1) -> None:
        if kind not in ("inner", "left", "right", "full", "semi", "anti"):
            raise ValueError(f"no kind {kind!r}")
        if not -(2**63) < lower_ns <= upper_ns < 2**63:
            raise ValueError("the bounds of a join rise, and are above -2**63")
        if not 1 <= parts <= MOST_PARTS or parts & (parts - 1):
            raise ValueError(f"{parts} parts: a power of two from 1 to {MOST_PARTS} is wanted")
        self._bounds = ((lower_ns, upper_ns), (-upper_ns, -lower_ns))
        """Of each side: how much later than its row a partner may be."""
        self._pairs, self._firsts = kind not in ("semi", "anti"), kind == "semi"
        self._alone = (kind in ("left", "full", "anti"), kind in ("right", "full"))
        self.reach = (max(0, upper_ns), max(0, -lower_ns))
        self._delays = (max(0, lower_ns), max(0, -upper_ns))
        self._rows: tuple[list[_Row], list[_Row]] = ([], [])  # by arrival
        self._next = [0, 0]
        self._arrived = [0, 0]
        self.ways = (0, 0, 0, 0)
        self._numbered: bool | None = None
        self._key_count = 0
        self._clock = IN_TIME
        self._met: list[tuple[int, float, float, int, int, int]] = []
        self._sweeping = False
        self.parts = parts
        self._shape = {"kind": kind, "lower_ns": lower_ns, "upper_ns": upper_ns}
        self._frozen = Parts()

    @property
    def rows(self) -> tuple[int, int]:
        return len(self._rows[LEFT]), len(self._rows[RIGHT])

    @property
    def nbytes(self) -> int:
        return 40 * sum(self.rows)

    @property
    def runs(self) -> tuple[int, int]:
        """In how many parts the rows stand that no sweep has met."""
        left, right = (int(any(not row.known for row in side)) for side in self._rows)
        return left, right

    @property
    def keys(self) -> int:
        """Of how many keys rows are held."""
        return len({row.key for side in self._rows for row in side if row.key is not None})

    def places(self, port: int) -> tuple[int, int]:
        """The first place in use, and the next one that is given out."""
        return self._rows[port][0].place if self._rows[port] else self._next[port], self._next[port]

    def live_places(self, port: int) -> NDArray[np.int64]:
        """The places of the rows that are held, ascending."""
        return np.array([row.place for row in self._rows[port]], np.int64)

    def hold(
        self,
        port: int,
        keys: NDArray[np.int32],
        key_count: int,
        times: NDArray[np.int64],
        marks: NDArray[np.int64] | None,
        watermark_ns: int,
        delay_ns: int,
    ) -> tuple[NDArray[np.bool_] | None, int]:
        """Which rows were late (None: none), and how many late in part.  ``keys``: below ``key_count``."""
        if len(keys) != len(times):
            raise ValueError("the arrays differ in length")
        if self._numbered:
            raise ValueError("the keys of this join are numbers")
        if len(keys) and not -1 <= keys.min() <= keys.max() < key_count:
            raise IndexError(f"a key outside of 0..{key_count - 1}")
        found = self._hold(
            port, [None if key < 0 else key for key in keys.tolist()], times, marks, watermark_ns, delay_ns
        )
        if len(keys):
            self._numbered = False
            self._key_count = max(self._key_count, key_count)
        return found

    def hold_numbers(
        self,
        port: int,
        numbers: NDArray[np.int64],
        valid: NDArray[np.bool_] | None,
        times: NDArray[np.int64],
        marks: NDArray[np.int64] | None,
        watermark_ns: int,
        delay_ns: int,
    ) -> tuple[NDArray[np.bool_] | None, int]:
        """The same for keys that are numbers; null where not ``valid``."""
        if len(numbers) != len(times) or (valid is not None and len(valid) != len(times)):
            raise ValueError("the arrays differ in length")
        if self._numbered is False:
            raise ValueError("the keys of this join are named by others")
        flags = np.ones(len(times), np.bool_) if valid is None else valid
        keys = [
            number if flag else None for number, flag in zip(numbers.tolist(), flags.tolist(), strict=True)
        ]
        found = self._hold(port, keys, times, marks, watermark_ns, delay_ns)
        if len(numbers):
            self._numbered = True
        return found

    def sweep(
        self, clock_ns: int, limit: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], bool]:
        """Results to the clock, or to the end of a moment where there are ``limit`` or more (the kernel goes on for some moments); whether
        more may follow, at the same clock."""
        for task in self.tasks(clock_ns, limit):
            task()
        return self.met()

    def tasks(self, clock_ns: int, limit: int) -> list[Callable[[], None]]:
        """What a sweep does before its results are taken by ``met``: each is called once, by any threads, side by side; until then no
        method of the state is called."""
        if self._sweeping and clock_ns != self._clock:
            raise ValueError("a sweep is not over")
        if clock_ns < self._clock:
            raise ValueError("the clock of a join never falls")
        self._sweeping, self._clock, self._met = True, clock_ns, []
        return [partial(self._sweep, limit)]

    def met(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], bool]:
        """What ``sweep`` gives, once all of its tasks are done."""
        columns = np.array([met[3:] + met[:1] for met in self._met], np.int64).reshape(-1, 4).T
        left, right, time, release = (np.ascontiguousarray(column) for column in columns)
        return left, right, time, release, self._sweeping

    def compact(self, port: int) -> NDArray[np.int64]:
        """Places without holes, from the next one on: the i-th of them was ``[i]``."""
        if self._sweeping:
            raise ValueError("a sweep is not over")
        kept = self.live_places(port)
        for row in self._rows[port]:
            row.place = self._next[port]
            self._next[port] += 1
        return kept

    def first_ahead(self, port: int) -> int | None:
        """When the first of the rows comes that no sweep has met."""
        return min((self._moment(row) for row in self._rows[port] if not row.known), default=None)

    def first_alone(self, port: int) -> int | None:
        """When the first row without a partner that a sweep has met, of a side that gives such rows out, is due."""
        alone = [row for row in self._rows[port] if row.known and self._alone[port] and not row.matched]
        return min(map(self._due, alone), default=None)

    def live_keys(self) -> NDArray[np.int32]:
        """The names (ascending) that rows are held of."""
        if self._numbered:
            raise ValueError("the keys of this join are numbers")
        return np.array(
            sorted({row.key for side in self._rows for row in side if row.key is not None}), np.int32
        )

    def keep_keys(self, kept: NDArray[np.int32]) -> None:
        """Key ``kept[i]`` becomes i; rows are held of no others."""
        if self._numbered:
            raise ValueError("the keys of this join are numbers")
        if len(kept) and not 0 <= kept.min() <= kept.max() < self._key_count:
            raise IndexError("a key that is not known")
        names: dict[int | None, int | None] = {key: name for name, key in enumerate(kept.tolist())}
        if not set(self.live_keys().tolist()) <= set(names):
            raise IndexError("a key that rows are held of is kept")
        names[None] = None
        for side in self._rows:
            for row in side:
                row.key = names[row.key]
        self._key_count = len(kept)

    def freeze(self, rank: NDArray[np.int32]) -> dict[str, Any]:
        """The fields of a snapshot, whose parts ``pieces`` gives from now on.  ``rank``: of each name its place."""
        if self._sweeping:
            raise ValueError("a sweep is not over")
        numbered = bool(self._numbered)
        parts: dict[str, NDArray[Any]] = {}
        for side, held in zip(saved.SIDES, self._rows, strict=True):
            null = 0 if numbered else -1
            rows = saved.Rows(
                keys=np.array(
                    [null if row.key is None else row.key for row in held], np.int64 if numbered else np.int32
                ),
                keyed=np.array([row.key is not None for row in held], np.bool_),
                time=np.array([row.time for row in held], np.int64),
                seen=np.array([row.seen if row.seen > row.time else IN_TIME for row in held], np.int64),
                arrival=np.array([row.arrival for row in held], np.int64),
                matched=np.array([row.matched for row in held], np.bool_),
                ahead=np.array([not row.known for row in held], np.bool_),
            )
            parts |= (rows if numbered else rows.named(rank)).parts(side, numbered)
        self._frozen = Parts(parts)
        return self._shape | {
            "clock_ns": self._clock,
            "arrived": list(self._arrived),
            "ways": list(self.ways),
            "numbered": numbered,
            "groups": len(rank),
        }

    def pieces(self, budget: int) -> list[tuple[str, NDArray[Any]]] | None:
        """The next parts of the snapshot, of about ``budget`` bytes: ``[(name, array), ...]``; None: all were given."""
        return self._frozen.pieces(budget)

    def drop(self) -> None:
        """The snapshot is given up."""
        self._frozen.drop()

    def load(self, fields: Mapping[str, Any], parts: Mapping[str, NDArray[Any]]) -> None:
        """Takes a snapshot into a state that had no row: the i-th row of a side has the place i.  ValueError says what does not fit."""
        if any(self._arrived) or self._clock != IN_TIME:
            raise ValueError("a snapshot is loaded into a state that had rows")
        sides = saved.loaded(fields, parts, self._shape, self._delays, self.reach)
        for port, rows in enumerate(sides):
            of = zip(
                rows.keys.tolist(), rows.keyed.tolist(), rows.time.tolist(), rows.seen.tolist(), strict=True
            )
            others = zip(rows.arrival.tolist(), rows.matched.tolist(), rows.ahead.tolist(), strict=True)
            for place, ((key, keyed, time, seen), (arrival, matched, ahead)) in enumerate(
                zip(of, others, strict=True)
            ):
                own = key if keyed else None
                self._rows[port].append(_Row(port, arrival, own, time, seen, place, not ahead, matched))
            self._next[port] = len(rows.time)
        self._clock = fields["clock_ns"]
        self._arrived = list(fields["arrived"])
        self.ways = (fields["ways"][0], fields["ways"][1], fields["ways"][2], fields["ways"][3])
        self._numbered = True if fields["numbered"] else False if any(self.rows) else None
        if self._numbered is False:
            self._key_count = max(int(rows.keys.max(initial=-1)) + 1 for rows in sides)

    # -- inside ----------------------------------------------------------------------------------------------------------

    def _hold(
        self,
        port: int,
        keys: list[int | None],
        times: NDArray[np.int64],
        marks: NDArray[np.int64] | None,
        watermark: int,
        delay: int,
    ) -> tuple[NDArray[np.bool_] | None, int]:
        if marks is not None and len(marks) != len(times):
            raise ValueError("the arrays differ in length")
        if delay < 0:
            raise ValueError("a negative delay")
        if self._sweeping:
            raise ValueError("a sweep is not over")
        late, partly = np.zeros(len(times), np.bool_), 0
        first, last = (min(bound + self.reach[1 - port], LAST_TIME) for bound in self._bounds[port])
        for i, (key, time) in enumerate(zip(keys, times.tolist(), strict=True)):
            seen = max(watermark if marks is None else int(marks[i]), self._clock)
            watermark = max(watermark, time - delay)
            late[i] = seen > time and seen > shifted(time, last)
            if late[i]:
                continue
            partly += seen > time and seen > shifted(time, first)
            self._rows[port].append(_Row(port, self._arrived[port], key, time, seen, self._next[port]))
            self._arrived[port] += 1
            self._next[port] += 1
        return (late if late.any() else None), partly

    def _sweep(self, limit: int) -> None:
        last: int | None = None
        while (event := self._next_event()) is not None:
            moment, step, row = event
            if last is None or moment > last:
                if len(self._met) >= limit:
                    break
                last = moment
            if step == "comes":
                self._comes(row, moment)
            else:
                self._is_due(row, moment)
        else:
            self._sweeping = False
        self._met.sort(key=lambda met: met[:3])

    def _moment(self, row: _Row) -> int:
        moment = shifted(row.time, self._delays[row.port]) if self._delays[row.port] else row.time
        return max(moment, row.seen)

    def _due(self, row: _Row) -> int:
        return max(self._expiry(row), row.seen if row.seen > row.time else IN_TIME)

    def _expiry(self, row: _Row) -> int:
        return shifted(row.time, self.reach[row.port])

    def _next_event(self) -> tuple[int, str, _Row] | None:
        """What happens next before the clock: rights come, lefts come, rows are due."""
        rows = [*self._rows[LEFT], *self._rows[RIGHT]]
        events = [
            (self._due(row), 2, place) if row.known else (self._moment(row), 1 - row.port, place)
            for place, row in enumerate(rows)
        ]
        if not events:
            return None
        moment, step, place = min(events)
        if moment >= self._clock and self._clock != END:
            return None
        return moment, "due" if step == 2 else "comes", rows[place]

    def _comes(self, row: _Row, moment: int) -> None:
        lower, upper = self._bounds[row.port]
        low, high = shifted(row.time, lower), shifted(row.time, upper)
        for other in self._rows[1 - row.port]:
            if not other.known or other.key is None or other.key != row.key or not low <= other.time <= high:
                continue
            if other.seen <= self._expiry(row) and row.seen <= self._expiry(other):
                self._meet(*((row, other) if row.port == LEFT else (other, row)), moment)
        row.known = True

    def _meet(self, left: _Row, right: _Row, moment: int) -> None:
        if self._pairs:
            self._give(left, right, moment)
        elif self._firsts and not left.matched:
            self._give(left, None, moment)
        left.matched = right.matched = True

    def _give(self, left: _Row | None, right: _Row | None, moment: int) -> None:
        given: list[Any] = [moment]
        given += [float("inf") if row is None else row.arrival for row in (left, right)]
        given += [-1 if row is None else row.place for row in (left, right)]
        given.append(max(row.time for row in (left, right) if row is not None))
        self._met.append(tuple(given))

    def _is_due(self, row: _Row, moment: int) -> None:
        if self._alone[row.port] and not row.matched:
            self._give(row if row.port == LEFT else None, row if row.port == RIGHT else None, moment)
        self._rows[row.port].remove(row)
        counts = list(self.ways)
        counts[2 * row.port + (not row.matched)] += 1
        self.ways = (counts[0], counts[1], counts[2], counts[3])


def take_places(ring: NDArray[np.int64], places: NDArray[np.int64]) -> NDArray[np.int64]:
    """The items of a ring at these places: each stands at its place modulo the ring's size, which is a power of two."""
    if not len(ring) or len(ring) & (len(ring) - 1):
        raise ValueError("the size of a ring is a power of two")
    return ring[places % len(ring)]


def take_spans(
    ring: NDArray[np.int64], places: NDArray[np.int64], origin: int
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Where the texts of these places start, counted from ``origin``, and their lengths: a text ends where that of the next place starts,
    which the ring has too."""
    starts, ends = take_places(ring, places), take_places(ring, places + 1)
    if ((ends < starts) | (ends - starts >= 2**31)).any():
        raise IndexError("a text that is longer than a column holds, or ends before it starts")
    return starts - origin, (ends - starts).astype(np.int32)


def put_texts(
    out: NDArray[np.uint8],
    at: int,
    data: NDArray[np.uint8],
    starts: NDArray[np.int32],
    lengths: NDArray[np.int32],
) -> NDArray[np.int64]:
    """Copies texts one after another into ``out``, from ``at`` on; where each starts there."""
    joined, places = take_texts(data, starts.astype(np.int64), lengths)
    if not 0 <= at <= len(out) - len(joined):
        raise IndexError("texts that do not fit")
    out[at : at + len(joined)] = joined
    return places.astype(np.int64) + at


def take_texts(
    data: NDArray[np.uint8], starts: NDArray[np.int64], lengths: NDArray[np.int32]
) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """These texts one after another: their bytes (below 2 GiB), and where each starts."""
    if len(starts) != len(lengths):
        raise IndexError("a text outside of its bytes")
    texts, places, total = [], [], 0
    for start, length in zip(starts.tolist(), lengths.tolist(), strict=True):
        if length and (length < 0 or not 0 <= start <= len(data) - length):
            raise IndexError("a text outside of its bytes")
        texts.append(data[start : start + length].tobytes() if length else b"")
        places.append(total)
        total += length
    if total > 2**31 - 1:
        raise IndexError("more bytes than a column holds")
    return np.frombuffer(b"".join(texts), np.uint8).copy(), np.array(places, np.int32)
