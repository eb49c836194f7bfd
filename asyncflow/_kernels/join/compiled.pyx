"""Joins by event time: rows that wait by key and time, and the sweep that lets them meet; and texts on the move.

The design is in words at the head of join/join.h; the twin says what each method does.  Cost: a few cache lines a row and a pair, whatever
is held; state is 40 bytes a row and 32 a key, and leaves as rows are due.
"""

import os

from libc.stdint cimport INT64_MIN, int32_t, int64_t, uint8_t, uint64_t

import numpy as np

from asyncflow._kernels.base.guarded import guarded
from asyncflow._kernels.base.saved import Parts
from asyncflow._kernels.join import saved

cimport numpy as cnp

from asyncflow._kernels.base.arrays cimport empty, int32_data, int64_data, uint8_data
from asyncflow._kernels.join.state cimport (
    AF_BACKWARD, AF_FORWARD, AF_INTERVAL, AF_JOIN_MORE, AF_NEAREST, AF_JOIN_NO_MEMORY, af_copy_texts, af_first_alone, af_join,
    af_join_bytes, af_join_columns, af_join_compact, af_join_compact_numbers, af_join_free, af_join_hold, af_join_hold_numbers,
    af_join_init, af_join_keep_keys, af_join_keys, af_join_live_keys, af_join_load, af_join_load_due, af_join_recycle,
    af_join_save, af_join_side, af_join_sweep, af_met, af_number_room, af_ready,
)

cnp.import_array()

SEEDS = np.frombuffer(os.urandom(16), np.uint64)

cdef dict MODES = {"interval": AF_INTERVAL, "backward": AF_BACKWARD, "forward": AF_FORWARD, "nearest": AF_NEAREST}


cdef object _longs(Py_ssize_t count):
    return empty(count, cnp.NPY_INT64)


cdef class _JoinState:
    """The rows of both sides.  See the twin."""

    cdef af_join join
    cdef object given, frozen
    cdef list slot_places  # by the last freeze
    cdef dict shape

    def __cinit__(self, str mode, str kind, int64_t lower_ns, upper_ns):
        if mode not in MODES:
            raise ValueError(f"no mode {mode!r}")
        if upper_ns is None and (mode != "backward" or kind in ("right", "full")):
            raise ValueError("this join needs an upper bound")
        if lower_ns == INT64_MIN:
            raise ValueError("a bound of a join is above -2**63")
        self.shape = {"mode": mode, "kind": kind, "lower_ns": lower_ns, "upper_ns": upper_ns}
        self.frozen, self.slot_places = Parts(), []
        af_join_init(
            &self.join,
            MODES[mode],
            lower_ns,
            -1 if upper_ns is None else upper_ns,
            kind in ("left", "full", "anti"),
            kind in ("right", "full"),
            kind not in ("semi", "anti"),
            kind == "semi",
        )
        self.join.numbers.seeds[0], self.join.numbers.seeds[1] = SEEDS
        self.join.sides[0].seed = self.join.sides[1].seed = SEEDS[0]

    def __dealloc__(self):
        af_join_free(&self.join)

    @property
    def wait(self):
        return self.join.wait

    @property
    def reach(self):
        cdef int64_t right = self.join.sides[1].reach
        return self.join.sides[0].reach, None if right < 0 else right

    @property
    def rows(self):
        return self.join.sides[0].live, self.join.sides[1].live

    @property
    def slots(self):
        return self.join.sides[0].slots.top, self.join.sides[1].slots.top

    @property
    def keys(self):
        return self.join.numbers.count if self.join.numbers.buckets != NULL else self.join.key_count

    @property
    def key_slots(self):
        return self.join.key_count

    @property
    def ways(self):
        return self._ways()

    cdef tuple _ways(self):
        cdef af_join_side *left = &self.join.sides[0]
        cdef af_join_side *right = &self.join.sides[1]
        return left.matched, left.unmatched, right.matched, right.unmatched

    @property
    def nbytes(self):
        return af_join_bytes(&self.join)

    def hold(self, int port, const int32_t[::1] keys, int64_t key_count, const int64_t[::1] times, const int64_t[::1] seen):
        cdef Py_ssize_t count = keys.shape[0], i
        cdef int32_t least = 0, greatest = -1
        if times.shape[0] != count or seen.shape[0] != count:
            raise ValueError("the arrays differ in length")
        if self.join.numbers.buckets != NULL:
            raise ValueError("the keys of this join are numbers")
        slots = _longs(count)
        if not count:
            return slots
        cdef int64_t *out = int64_data(slots)
        cdef bint done
        for i in range(count):
            least = min(least, keys[i])
            greatest = max(greatest, keys[i])
        if least < -1 or greatest >= key_count:
            raise IndexError(f"a key outside of 0..{key_count - 1}")
        with nogil:
            done = af_join_keys(&self.join, key_count)
            done = done and af_join_hold(&self.join, port & 1, &keys[0], &times[0], &seen[0], count, out)
        if not done:
            raise MemoryError
        return slots

    def hold_numbers(self, int port, const int64_t[::1] numbers, valid, const int64_t[::1] times, const int64_t[::1] seen):
        cdef Py_ssize_t count = numbers.shape[0]
        cdef const uint8_t *flags = NULL
        if valid is not None:
            valid = np.ascontiguousarray(valid, np.bool_)
            flags = uint8_data(valid)
        if times.shape[0] != count or seen.shape[0] != count or (valid is not None and len(valid) != count):
            raise ValueError("the arrays differ in length")
        if self.join.mode != AF_INTERVAL or (self.join.numbers.buckets == NULL and self.join.key_count):
            raise ValueError("the keys of this join are named by others")
        slots = _longs(count)
        if not count:
            return slots
        cdef int64_t *out = int64_data(slots)
        cdef bint done
        with nogil:
            done = af_join_hold_numbers(&self.join, port & 1, &numbers[0], flags, &times[0], &seen[0], count, out)
        if not done:
            raise MemoryError
        return slots

    def begin(self, int64_t clock_ns, left, right):
        self.given = []
        for port, (slots, times) in enumerate((left, right)):
            slots, times = np.ascontiguousarray(slots, np.int64), np.ascontiguousarray(times, np.int64)
            if len(slots) != len(times):
                raise ValueError("the arrays differ in length")
            if len(slots) and not (0 <= slots.min() and slots.max() < self.join.sides[port].slots.top):
                raise IndexError("a slot that was not given out")
            if (times[1:] < times[: len(times) - 1]).any():
                raise ValueError("rows that are not in the order of their times")
            self.given.append((slots, times))
            self.join.sides[port].ready = af_ready(int64_data(slots), int64_data(times), len(slots), 0)
        self.join.clock = clock_ns

    def sweep(self, int64_t limit):
        cdef int state
        with nogil:
            state = af_join_sweep(&self.join, limit)
        if state == AF_JOIN_NO_MEMORY:
            raise MemoryError
        cdef int64_t count = self.join.met_count, i
        cdef const af_met *met = self.join.met
        found = [_longs(count) for _ in range(4)]
        cdef int64_t *left = int64_data(found[0])
        cdef int64_t *right = int64_data(found[1])
        cdef int64_t *time = int64_data(found[2])
        cdef int64_t *release = int64_data(found[3])
        with nogil:
            for i in range(count):
                left[i], right[i], time[i], release[i] = met[i].left, met[i].right, met[i].time, met[i].release
        return (*found, state == AF_JOIN_MORE)

    def recycle(self, int port):
        cdef af_join_side *side = &self.join.sides[port & 1]
        cdef int64_t i
        slots = _longs(side.gone_count)
        cdef int64_t *out = int64_data(slots)
        for i in range(side.gone_count):
            out[i] = side.gone[i]
        if not af_join_recycle(side):
            raise MemoryError
        return slots

    def compact(self, int port):
        cdef af_join_side *side = &self.join.sides[port & 1]
        if side.gone_count:
            raise ValueError("slots wait for recycle")
        kept = _longs(side.live)
        if not af_join_compact(&self.join, port & 1, int64_data(kept)):
            raise MemoryError
        return kept

    def first_alone(self, int port):
        cdef int64_t time = 0
        return time if af_first_alone(&self.join.sides[port & 1], &time) else None

    def live_keys(self):
        live = np.zeros(self.join.key_count, np.bool_)
        if self.join.key_count:
            af_join_live_keys(&self.join, uint8_data(live))
        return np.flatnonzero(live).astype(np.int32)

    def compact_numbers(self):
        if self.join.numbers.buckets != NULL and not af_join_compact_numbers(&self.join):
            raise MemoryError

    def keep_keys(self, kept):
        if self.join.numbers.buckets != NULL:
            raise ValueError("the keys of this join are numbers")
        kept = np.ascontiguousarray(kept, np.int32)
        if len(kept) and not (0 <= kept.min() and kept.max() < self.join.key_count):
            raise IndexError("a key that is not known")
        if not af_join_keep_keys(&self.join, int32_data(kept), len(kept)):
            raise MemoryError

    cdef tuple _saved_rows(self, int port):
        """Slots and columns of a side's rows, by slot."""
        cdef int64_t count = self.join.sides[port].live
        slots, keys, numbers = empty(count, cnp.NPY_INT32), empty(count, cnp.NPY_INT32), _longs(count)
        times, seen, arrivals = _longs(count), _longs(count), _longs(count)
        matched, ahead = empty(count, cnp.NPY_BOOL), empty(count, cnp.NPY_BOOL)
        cdef af_join_columns columns = af_join_columns(
            int32_data(slots), int32_data(keys), int64_data(numbers), int64_data(times), int64_data(seen), int64_data(arrivals),
            uint8_data(matched), uint8_data(ahead)
        )
        af_join_save(&self.join, port, &columns)
        named = keys if self.join.numbers.buckets == NULL else numbers
        return slots, saved.Rows(named, keys >= 0, times, seen, arrivals, matched, ahead)

    def ahead(self, int port):
        slots, rows = self._saved_rows(port & 1)
        return slots[rows.ahead].astype(np.int64)

    def slot_ranks(self, int port):
        if not self.slot_places:
            raise ValueError("slots have places once the state was frozen")
        return self.slot_places[port & 1]

    def freeze(self, rank):
        cdef bint numbered = self.join.numbers.buckets != NULL
        cdef int port
        parts, places = {}, []
        for port in range(2):
            if self.join.sides[port].ready.at < self.join.sides[port].ready.count:
                raise ValueError("a sweep is not over")
            slots, rows = self._saved_rows(port)
            order, rows = rows.in_order(None if numbered else rank)
            parts |= rows.parts(saved.SIDES[port], numbered)
            place = np.full(self.join.sides[port].slots.top, -1, np.int32)
            place[slots[order]] = np.arange(len(order), dtype=np.int32)
            places.append(place)
        self.frozen, self.slot_places = Parts(parts), places
        return self.shape | {
            "clock_ns": self.join.clock,
            "arrived": [self.join.sides[0].arrived, self.join.sides[1].arrived],
            "ways": list(self._ways()),
            "numbered": numbered,
            "groups": len(rank),
        }

    def pieces(self, budget):
        return self.frozen.pieces(budget)

    def drop(self):
        self.frozen.drop()

    def load(self, fields, parts):
        if self.join.sides[0].arrived or self.join.sides[1].arrived or self.join.clock != INT64_MIN:
            raise ValueError("a snapshot is loaded into a state that had rows")
        cdef int64_t right = self.join.sides[1].reach
        cdef int port
        rows = saved.loaded(fields, parts, self.shape, (self.join.sides[0].reach, None if right < 0 else right))
        if fields["numbered"] and not af_number_room(&self.join.numbers, &self.join.keys, &self.join.key_capacity):
            raise MemoryError
        self.join.clock = fields["clock_ns"]
        for port in range(2):
            self._load_rows(port, rows[port], fields["numbered"])
            self.join.sides[port].arrived = fields["arrived"][port]
            self.join.sides[port].matched = fields["ways"][2 * port]
            self.join.sides[port].unmatched = fields["ways"][2 * port + 1]

    cdef int _load_rows(self, int port, rows, bint numbered) except -1:
        cdef int64_t count = len(rows.time)
        cdef bint done
        slots, dues = _longs(count), _longs(count)
        if numbered:
            done = af_join_hold_numbers(
                &self.join, port, int64_data(rows.keys), uint8_data(rows.keyed), int64_data(rows.time), int64_data(rows.seen), count,
                int64_data(slots))
        else:
            done = af_join_keys(&self.join, int(rows.keys.max()) + 1 if count else 0) and af_join_hold(
                &self.join, port, int32_data(rows.keys), int64_data(rows.time), int64_data(rows.seen), count, int64_data(slots))
        done = done and af_join_load(
            &self.join, port, int64_data(rows.arrival), uint8_data(rows.matched), uint8_data(rows.ahead), count, int64_data(dues))
        if not done:
            raise MemoryError
        order = np.argsort(dues, kind="stable").astype(np.int64)
        if not af_join_load_due(&self.join.sides[port], int64_data(order), count):
            raise MemoryError
        return 0


JoinState = guarded(_JoinState, "JoinState")


def copy_texts(const uint8_t[::1] data, const int64_t[::1] starts, const int32_t[::1] lengths, rows):
    """The texts of these rows (None: all), one after another: their bytes, and where each starts (int64)."""
    cdef Py_ssize_t held = starts.shape[0], count = held if rows is None else len(rows), i
    cdef const int64_t *wanted = NULL
    cdef int64_t total = 0, row
    cdef bint outside = lengths.shape[0] != held
    if rows is not None:
        rows = np.ascontiguousarray(rows, np.int64)
        wanted = int64_data(rows)
    places = _longs(count)
    cdef int64_t *place = int64_data(places)
    with nogil:
        for i in range(count):
            row = i if wanted == NULL else wanted[i]
            if outside or not 0 <= row < held or starts[row] < 0 or lengths[row] < 0 or starts[row] > data.shape[0] - lengths[row]:
                outside = True
                break
            place[i] = total
            total += lengths[row]
    if outside:
        raise IndexError("a text outside of its bytes")
    out = empty(total, cnp.NPY_UINT8)
    cdef uint8_t *text = uint8_data(out)
    if total:
        with nogil:
            af_copy_texts(&data[0], &starts[0], &lengths[0], wanted, count, text, place)
    return out, places
