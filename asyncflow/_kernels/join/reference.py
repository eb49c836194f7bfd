"""Joins by event time, plain: all rows of a key are looked at.  The twin of ``compiled.pyx``.

``hold`` takes rows in and gives each a slot; ``begin`` says which of them the clock has passed and how far it has come; ``sweep`` gives
the results up to there.  A slot is given out anew after the ``recycle`` that follows the leaving of its row.

Keys are named by the caller (``hold``), or are one int64 each (``hold_numbers``, of interval joins): their names are the state's own then,
and a number that no row is held of has none.

A row is known from the moment at which it comes in the sweep; rows come in the order of their moments, right ones before left ones.  A row
is due ``reach`` after its time, or at the watermark before it (``seen``) where that is later.

``interval``: the moment of a row is its time, or ``seen`` where that is later.  A left and a right row of one key meet where right time -
left time lies in ``[lower, upper]``, at the later of their moments; but not where ``seen`` of the one lies beyond the other's time and
``reach``.

``backward``, ``forward``, ``nearest``: the moment of a right row is its time. A left row meets, ``wait`` after its time, the right row of
its key that is nearest on that side and at most ``upper`` away (None: at any distance), of those whose ``seen`` is not beyond that moment;
of rows at one time the last to arrive looking back, the first looking forward; of two as near the earlier. The left row then leaves. Where
the right rows have no reach, one leaves as soon as a later one of its key can be found by every left row to come, one without a key at
once.

Results: slots of the left and right row (-1: none), the later of their times, and the moment, in the order of (moment, left arrival, right
arrival), none last.  ``kind`` says which: pairs (inner, left, right, full); left rows at their first pair (semi); rows that leave
without a partner (left: left, full, anti; right: right, full).  Times shifted beyond the ends of time are the first or last instant.

A snapshot has the rows of each side by (place of the key, time, arrival), those without a key first.  It is taken between sweeps.
Fields: ``mode``, ``kind``, ``lower_ns`` and ``upper_ns``, which a state that loads it must have; ``clock_ns``, that of the last sweep;
``arrived``, how many rows each side has taken in; ``ways``; ``numbered``, whether keys are numbers; ``groups``, how many keys have a place.
Parts, for ``left`` and ``right``: ``left.key`` (int32, the place; -1: null) or ``left.number`` (int64) with ``left.keyed``; ``left.time``;
``left.seen``; ``left.arrival``; ``left.matched``; ``left.ahead``, whether no sweep has met the row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asyncflow._kernels.base.saved import Parts
from asyncflow._kernels.join import saved

FIRST_TIME, LAST_TIME, END = -(2**63) + 1, 2**63 - 2, 2**63 - 1
LEFT, RIGHT = 0, 1
Ready = tuple[NDArray[np.int64], NDArray[np.int64]]


def shifted(time: int, by: int) -> int:
    return min(max(time + by, FIRST_TIME), LAST_TIME)


@dataclass(slots=True, eq=False)
class _Row:
    port: int
    slot: int
    arrival: int
    key: int
    time: int
    seen: int
    moment: int = 0
    known: bool = False
    matched: bool = False

    @property
    def order(self) -> tuple[int, int]:
        return self.time, self.arrival


class JoinState:
    """The rows of both sides."""

    def __init__(self, mode: str, kind: str, lower_ns: int, upper_ns: int | None) -> None:
        if mode not in ("interval", "backward", "forward", "nearest"):
            raise ValueError(f"no mode {mode!r}")
        if upper_ns is None and (mode != "backward" or kind in ("right", "full")):
            raise ValueError("this join needs an upper bound")
        self._mode, self._lower, self._upper = mode, lower_ns, upper_ns
        self._pairs, self._firsts = kind not in ("semi", "anti"), kind == "semi"
        self._alone = (kind in ("left", "full", "anti"), kind in ("right", "full"))
        self.wait = 0
        self.reach: tuple[int, int | None] = (0, upper_ns)
        if mode == "interval":
            assert upper_ns is not None
            self.reach = (max(0, upper_ns), max(0, -lower_ns))
        elif mode != "backward":
            assert upper_ns is not None
            self.wait = upper_ns
            self.reach = (0, min(2 * upper_ns, END) if mode == "nearest" else upper_ns)
        self._slots: tuple[list[_Row | None], list[_Row | None]] = ([], [])
        self._free: tuple[list[int], list[int]] = ([], [])
        self._gone: tuple[list[int], list[int]] = ([], [])
        self._arrived = [0, 0]
        self.ways = (0, 0, 0, 0)
        self._key_count = 0
        self._numbers: dict[int, int] | None = None  # to names
        self._coming: list[_Row] = []
        self._clock = -(2**63)
        self._met: list[tuple[int, float, float, int, int, int]] = []
        self._shape = {"mode": mode, "kind": kind, "lower_ns": lower_ns, "upper_ns": upper_ns}
        self._frozen = Parts()
        self._slot_ranks: list[NDArray[np.int32]] = []

    @property
    def rows(self) -> tuple[int, int]:
        return len(self._held(LEFT)), len(self._held(RIGHT))

    @property
    def slots(self) -> tuple[int, int]:
        return len(self._slots[LEFT]), len(self._slots[RIGHT])

    @property
    def nbytes(self) -> int:
        return 40 * sum(self.rows) + 32 * self.keys

    @property
    def keys(self) -> int:
        """How many are named; of numbers those that rows are held of."""
        return self._key_count if self._numbers is None else len(self.live_keys())

    @property
    def key_slots(self) -> int:
        """How many names there are, with those that are free."""
        return self._key_count

    def hold(
        self,
        port: int,
        keys: NDArray[np.int32],
        key_count: int,
        times: NDArray[np.int64],
        seen: NDArray[np.int64],
    ) -> NDArray[np.int64]:
        """Their slots.  ``keys``: below ``key_count``, -1 for null, which equals nothing; ``seen``: the watermark before each."""
        if not len(keys) == len(times) == len(seen):
            raise ValueError("the arrays differ in length")
        if len(keys) and not -1 <= keys.min() <= keys.max() < key_count:
            raise IndexError(f"a key outside of 0..{key_count - 1}")
        if self._numbers is not None:
            raise ValueError("the keys of this join are numbers")
        if len(keys):
            self._key_count = max(self._key_count, key_count)
        return self._hold(port, keys, times, seen)

    def hold_numbers(
        self,
        port: int,
        numbers: NDArray[np.int64],
        valid: NDArray[np.bool_] | None,
        times: NDArray[np.int64],
        seen: NDArray[np.int64],
    ) -> NDArray[np.int64]:
        """Their slots.  ``numbers``: the keys themselves; null where not ``valid``."""
        if not len(numbers) == len(times) == len(seen) == (len(numbers) if valid is None else len(valid)):
            raise ValueError("the arrays differ in length")
        if self._mode != "interval" or (self._numbers is None and self._key_count):
            raise ValueError("the keys of this join are named by others")
        if not len(numbers):
            return np.empty(0, np.int64)
        if self._numbers is None:
            self._numbers = {}
        names = [self._numbers.setdefault(number, len(self._numbers)) for number in numbers.tolist()]
        self._key_count = len(self._numbers)
        keys = np.array(names, np.int32)
        return self._hold(port, keys if valid is None else np.where(valid, keys, -1), times, seen)

    def compact_numbers(self) -> None:
        """Names without holes."""
        if self._numbers is None:
            return
        live = self.live_keys().tolist()
        numbers = {name: number for number, name in self._numbers.items()}
        self._rename(live)
        self._numbers = {numbers[name]: i for i, name in enumerate(live)}

    def _hold(
        self, port: int, keys: NDArray[Any], times: NDArray[np.int64], seen: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        taken = []
        for key, time, mark in zip(keys.tolist(), times.tolist(), seen.tolist(), strict=True):
            if not self._free[port]:
                self._free[port].append(len(self._slots[port]))
                self._slots[port].append(None)
            slot = self._free[port].pop()
            self._slots[port][slot] = _Row(port, slot, self._arrived[port], key, time, mark)
            self._arrived[port] += 1
            taken.append(slot)
        return np.array(taken, np.int64)

    def begin(self, clock_ns: int, left: Ready, right: Ready) -> None:
        """Slots and moments (as of: times) of the rows whose moment lies before the clock, each side by (moment, arrival)."""
        self._clock = clock_ns
        self._coming = []
        for port, (slots, times) in enumerate((left, right)):
            if len(slots) != len(times):
                raise ValueError("the arrays differ in length")
            for slot, moment in zip(slots.tolist(), times.tolist(), strict=True):
                if not 0 <= slot < len(self._slots[port]):
                    raise IndexError("a slot that was not given out")
                row = self._slots[port][slot]
                assert row is not None
                row.moment = shifted(moment, self.wait) if port == LEFT and self.wait else moment
                self._coming.append(row)

    def sweep(
        self, limit: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], bool]:
        """Results to the clock, or to the end of the moment at which there are ``limit``; whether more may follow."""
        self._met = []
        last: int | None = None
        more = False
        while (event := self._next()) is not None:
            moment, step, row = event
            if last is None or moment > last:
                if len(self._met) >= limit:
                    more = True
                    break
                last = moment
            if step == "comes":
                self._coming.remove(row)
                self._comes(row, moment)
            else:
                self._is_due(row, moment)
        if not more:
            self._tidy()
        self._met.sort(key=lambda met: met[:3])
        columns = np.array([met[3:] + met[:1] for met in self._met], np.int64).reshape(-1, 4).T
        left, right, time, release = (np.ascontiguousarray(column) for column in columns)
        return left, right, time, release, more

    def recycle(self, port: int) -> NDArray[np.int64]:
        """The slots of the rows that left since the last call; from now on they are given out again."""
        gone = np.array(self._gone[port], np.int64)
        self._free[port].extend(reversed(self._gone[port]))
        self._gone[port].clear()
        return gone

    def compact(self, port: int) -> NDArray[np.int64]:
        """Slots without holes; slot i was ``[i]``."""
        if self._gone[port]:
            raise ValueError("slots wait for recycle")
        held = self._held(port)
        kept = [row.slot for row in held]
        for slot, row in enumerate(held):
            row.slot = slot
        self._slots[port][:] = held
        self._free[port].clear()
        return np.array(kept, np.int64)

    def first_alone(self, port: int) -> int | None:
        """When the first row without a partner, of a side that gives such rows out, is due."""
        alone = [self._due(row) for row in self._held(port) if self._alone[port] and not row.matched]
        return min(alone, default=None)

    def live_keys(self) -> NDArray[np.int32]:
        """The keys (ascending) that rows are held of."""
        held = [*self._held(LEFT), *self._held(RIGHT)]
        return np.array(sorted({row.key for row in held if row.key >= 0}), np.int32)

    def keep_keys(self, kept: NDArray[np.int32]) -> None:
        """Key ``kept[i]`` becomes i; rows are held of no others."""
        if len(kept) and not 0 <= kept.min() <= kept.max() < self._key_count:
            raise IndexError("a key that is not known")
        if self._numbers is not None:
            raise ValueError("the keys of this join are numbers")
        self._rename(kept.tolist())

    def _rename(self, kept: list[int]) -> None:
        names = {-1: -1} | {key: name for name, key in enumerate(kept)}
        for row in [*self._held(LEFT), *self._held(RIGHT)]:
            row.key = names[row.key]
        self._key_count = len(kept)

    def ahead(self, port: int) -> NDArray[np.int64]:
        """The slots (ascending) of the rows that no sweep has met."""
        return np.array([row.slot for row in self._held(port) if not row.known], np.int64)

    def slot_ranks(self, port: int) -> NDArray[np.int32]:
        """By slot, as of the last ``freeze``: the slot after that snapshot was loaded; -1 for a slot without a row."""
        if not self._slot_ranks:
            raise ValueError("slots have places once the state was frozen")
        return self._slot_ranks[port]

    def freeze(self, rank: NDArray[np.int32]) -> dict[str, Any]:
        """The fields of a snapshot, whose parts ``pieces`` gives from now on: see above.  ``rank``: of each key its place."""
        if self._coming:
            raise ValueError("a sweep is not over")
        numbered = self._numbers is not None
        numbers = {name: number for number, name in (self._numbers or {}).items()}
        parts: dict[str, NDArray[Any]] = {}
        self._slot_ranks = []
        for port, side in enumerate(saved.SIDES):
            held = self._held(port)
            keys = [numbers.get(row.key, 0) if numbered else row.key for row in held]
            order, rows = saved.Rows(
                keys=np.array(keys, np.int64 if numbered else np.int32),
                keyed=np.array([row.key >= 0 for row in held], np.bool_),
                time=np.array([row.time for row in held], np.int64),
                seen=np.array([row.seen for row in held], np.int64),
                arrival=np.array([row.arrival for row in held], np.int64),
                matched=np.array([row.matched for row in held], np.bool_),
                ahead=np.array([not row.known for row in held], np.bool_),
            ).in_order(None if numbered else rank)
            parts |= rows.parts(side, numbered)
            places = np.full(len(self._slots[port]), -1, np.int32)
            places[[held[i].slot for i in order.tolist()]] = np.arange(len(held), dtype=np.int32)
            self._slot_ranks.append(places)
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
        """Takes a snapshot into a state that had no row: slot i is the i-th row of its side.  ValueError says what does not fit."""
        if any(self._arrived) or self._clock != -(2**63):
            raise ValueError("a snapshot is loaded into a state that had rows")
        sides = saved.loaded(fields, parts, self._shape, self.reach)
        if fields["numbered"]:
            self._numbers = {}
        for port, rows in enumerate(sides):
            if fields["numbered"]:
                self.hold_numbers(port, rows.keys, rows.keyed, rows.time, rows.seen)
            else:
                self.hold(port, rows.keys, int(rows.keys.max(initial=-1)) + 1, rows.time, rows.seen)
            of = zip(rows.arrival.tolist(), rows.matched.tolist(), rows.ahead.tolist(), strict=True)
            for row, (arrival, matched, ahead) in zip(self._held(port), of, strict=True):
                row.arrival, row.matched, row.known = arrival, matched, not ahead
        self._clock = fields["clock_ns"]
        self._arrived = list(fields["arrived"])
        self.ways = (fields["ways"][0], fields["ways"][1], fields["ways"][2], fields["ways"][3])

    # -- inside ----------------------------------------------------------------------------------------------------------

    def _held(self, port: int) -> list[_Row]:
        return [row for row in self._slots[port] if row is not None]

    def _next(self) -> tuple[int, str, _Row] | None:
        """What happens next before the clock: rights come, lefts come, rows are due."""
        events = [(row.moment, 1 - row.port, i) for i, row in enumerate(self._coming)]
        due = [
            row
            for port in (LEFT, RIGHT)
            if self.reach[port] is not None
            for row in self._held(port)
            if row.known
        ]
        events += [(self._due(row), 2, len(self._coming) + i) for i, row in enumerate(due)]
        if not events:
            return None
        moment, step, place = min(events)
        if moment >= self._clock and self._clock != END:
            return None
        return moment, "due" if step == 2 else "comes", [*self._coming, *due][place]

    def _due(self, row: _Row) -> int:
        return max(shifted(row.time, self.reach[row.port] or 0), row.seen)

    def _comes(self, row: _Row, moment: int) -> None:
        if self._mode == "interval":
            self._search(row, moment)
        elif row.port == LEFT:
            found = self._nearest(row, moment)
            if found is not None:
                self._meet(row, found, moment)
            elif self._alone[LEFT]:
                self._give(row, None, moment)
            self._leave(row)
            return
        row.known = True
        if self.reach[row.port] is None and (row.key < 0 or row.seen <= row.time):
            for other in self._of_key(RIGHT, row.key):
                if other.order < row.order:
                    self._leave(other)
            if row.key < 0:
                self._leave(row)

    def _search(self, row: _Row, moment: int) -> None:
        assert self._upper is not None
        for other in self._of_key(1 - row.port, row.key):
            left, right = (row, other) if row.port == LEFT else (other, row)
            low, high = shifted(row.time, -self._upper), shifted(row.time, -self._lower)
            if row.port == LEFT:
                low, high = shifted(row.time, self._lower), shifted(row.time, self._upper)
            expiries = [shifted(each.time, self.reach[each.port] or 0) for each in (row, other)]
            if low <= other.time <= high and other.seen <= expiries[0] and row.seen <= expiries[1]:
                self._meet(left, right, moment)

    def _nearest(self, left: _Row, moment: int) -> _Row | None:
        tolerance = END * 2 if self._upper is None else self._upper
        best: tuple[tuple[int, int, int], _Row] | None = None
        for right in self._of_key(RIGHT, left.key):
            apart = abs(left.time - right.time)
            side = (right.time > left.time) - (right.time < left.time)
            wrong = {"backward": side > 0, "forward": side < 0}.get(self._mode, False)
            if wrong or apart > tolerance or right.seen > moment:
                continue
            back = self._mode == "backward" or (self._mode == "nearest" and side <= 0)
            rank = (apart, right.time, -right.arrival if back else right.arrival)
            if best is None or rank < best[0]:
                best = rank, right
        return None if best is None else best[1]

    def _of_key(self, port: int, key: int) -> list[_Row]:
        return [row for row in self._held(port) if row.known and row.key == key >= 0]

    def _meet(self, left: _Row, right: _Row, moment: int) -> None:
        if self._pairs:
            self._give(left, right, moment)
        elif self._firsts and not left.matched:
            self._give(left, None, moment)
        left.matched = right.matched = True

    def _give(self, left: _Row | None, right: _Row | None, moment: int) -> None:
        given: list[Any] = [moment]
        given += [float("inf") if row is None else row.arrival for row in (left, right)]
        given += [-1 if row is None else row.slot for row in (left, right)]
        given.append(max(row.time for row in (left, right) if row is not None))
        self._met.append(tuple(given))

    def _is_due(self, row: _Row, moment: int) -> None:
        if self._alone[row.port] and not row.matched:
            self._give(row if row.port == LEFT else None, row if row.port == RIGHT else None, moment)
        self._leave(row)

    def _leave(self, row: _Row) -> None:
        counts = list(self.ways)
        counts[2 * row.port + (not row.matched)] += 1
        self.ways = (counts[0], counts[1], counts[2], counts[3])
        self._slots[row.port][row.slot] = None
        self._gone[row.port].append(row.slot)

    def _tidy(self) -> None:
        """Without a reach: what stands before a row that every left row to come may see."""
        if self.reach[RIGHT] is not None:
            return
        for row in self._held(RIGHT):
            later = [other for other in self._of_key(RIGHT, row.key) if other.order > row.order]
            if row.known and (self._clock == END or any(other.seen <= self._clock for other in later)):
                self._leave(row)


def copy_texts(
    data: NDArray[np.uint8], starts: NDArray[np.int64], lengths: NDArray[np.int32], rows: Any
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The texts of these rows (None: all), one after another: their bytes, and where each starts (int64)."""
    chosen = range(len(starts)) if rows is None else rows.tolist()
    if len(starts) != len(lengths) or any(not 0 <= row < len(starts) for row in chosen):
        raise IndexError("a text outside of its bytes")
    texts, places, total = [], [], 0
    for row in chosen:
        start, length = int(starts[row]), int(lengths[row])
        if start < 0 or length < 0 or start + length > len(data):
            raise IndexError("a text outside of its bytes")
        texts.append(data[start : start + length].tobytes())
        places.append(total)
        total += length
    return np.frombuffer(b"".join(texts), np.uint8).copy(), np.array(places, np.int64)
