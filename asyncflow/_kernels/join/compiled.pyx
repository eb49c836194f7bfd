"""Joins by event time: rows that wait by key and time, and the sweep that lets them meet; and texts on the move.

The design is in words at the head of join/join.h; the twin defines the results.  Cost: a few cache lines a row and a pair, whatever
is held; state is 40 bytes a row and 32 a key, and leaves as rows are due.
"""

import os

from libc.stdint cimport INT64_MIN, int32_t, int64_t, uint8_t, uint64_t

import numpy as np

from asyncflow._kernels.base.guarded import guarded

cimport numpy as cnp

cnp.import_array()

cdef extern from "join/join.h" nogil:
    ctypedef struct af_slots:
        int64_t top
    ctypedef struct af_numbers:
        const int32_t *buckets
        uint64_t *seeds
        af_slots names
        int64_t count
    ctypedef enum af_join_mode:
        AF_INTERVAL
        AF_BACKWARD
        AF_FORWARD
        AF_NEAREST
    ctypedef struct af_ready:
        const int64_t *slots
        const int64_t *times
        int64_t count, at
    ctypedef struct af_met:
        int64_t release, time
        int32_t left, right
    ctypedef struct af_join_side:
        af_slots slots
        int64_t live, matched, unmatched, reach
        int32_t *gone
        uint64_t seed
        int64_t gone_count
        af_ready ready
    ctypedef struct af_join:
        af_join_mode mode
        int64_t wait, clock, key_count, met_count
        af_numbers numbers
        af_join_side *sides
        af_met *met
    enum:
        AF_SWEPT
        AF_MORE
        AF_NO_MEMORY

    void af_join_init(af_join *, af_join_mode, int64_t lower, int64_t upper, bint left_alone, bint right_alone, bint pairs, bint firsts)
    void af_join_free(af_join *)
    uint64_t af_join_bytes(const af_join *)
    bint af_join_keys(af_join *, int64_t count)
    bint af_join_hold(
        af_join *, int port, const int32_t *keys, const int64_t *times, const int64_t *seen, int64_t count, int64_t *slots)
    bint af_join_hold_numbers(
        af_join *, int port, const int64_t *numbers, const uint8_t *valid, const int64_t *times, const int64_t *seen, int64_t count,
        int64_t *slots)
    bint af_join_compact_numbers(af_join *)
    int af_join_sweep(af_join *, int64_t limit)
    bint af_join_recycle(af_join_side *)
    bint af_join_compact(af_join *, int port, int64_t *kept)
    bint af_first_alone(const af_join_side *, int64_t *time)
    void af_join_live_keys(const af_join *, uint8_t *live)
    bint af_join_keep_keys(af_join *, const int32_t *kept, int64_t count)
    void af_copy_texts(
        const uint8_t *data, const int64_t *starts, const int32_t *lengths, const int64_t *rows, int64_t count, uint8_t *out,
        const int64_t *places)

SEEDS = np.frombuffer(os.urandom(16), np.uint64)

cdef dict MODES = {"interval": AF_INTERVAL, "backward": AF_BACKWARD, "forward": AF_FORWARD, "nearest": AF_NEAREST}


cdef inline int64_t *_int64(object array):
    return <int64_t *>cnp.PyArray_DATA(array)


cdef object _empty(Py_ssize_t count):
    return cnp.PyArray_EMPTY(1, [count], cnp.NPY_INT64, 0)


cdef class _JoinState:
    """The rows of both sides.  See the twin."""

    cdef af_join join
    cdef object _given

    def __cinit__(self, str mode, str kind, int64_t lower_ns, upper_ns):
        if mode not in MODES:
            raise ValueError(f"no mode {mode!r}")
        if upper_ns is None and (mode != "backward" or kind in ("right", "full")):
            raise ValueError("this join needs an upper bound")
        if lower_ns == INT64_MIN:
            raise ValueError("a bound of a join is above -2**63")
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
        slots = _empty(count)
        if not count:
            return slots
        cdef int64_t *out = _int64(slots)
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
            flags = <const uint8_t *>cnp.PyArray_DATA(valid)
        if times.shape[0] != count or seen.shape[0] != count or (valid is not None and len(valid) != count):
            raise ValueError("the arrays differ in length")
        if self.join.mode != AF_INTERVAL or (self.join.numbers.buckets == NULL and self.join.key_count):
            raise ValueError("the keys of this join are named by others")
        slots = _empty(count)
        if not count:
            return slots
        cdef int64_t *out = _int64(slots)
        cdef bint done
        with nogil:
            done = af_join_hold_numbers(&self.join, port & 1, &numbers[0], flags, &times[0], &seen[0], count, out)
        if not done:
            raise MemoryError
        return slots

    def begin(self, int64_t clock_ns, left, right):
        self._given = []
        for port, (slots, times) in enumerate((left, right)):
            slots, times = np.ascontiguousarray(slots, np.int64), np.ascontiguousarray(times, np.int64)
            if len(slots) != len(times):
                raise ValueError("the arrays differ in length")
            if len(slots) and not (0 <= slots.min() and slots.max() < self.join.sides[port].slots.top):
                raise IndexError("a slot that was not given out")
            if (times[1:] < times[: len(times) - 1]).any():
                raise ValueError("rows that are not in the order of their times")
            self._given.append((slots, times))
            self.join.sides[port].ready = af_ready(_int64(slots), _int64(times), len(slots), 0)
        self.join.clock = clock_ns

    def sweep(self, int64_t limit):
        cdef int state
        with nogil:
            state = af_join_sweep(&self.join, limit)
        if state == AF_NO_MEMORY:
            raise MemoryError
        cdef int64_t count = self.join.met_count, i
        cdef const af_met *met = self.join.met
        found = [_empty(count) for _ in range(4)]
        cdef int64_t *left = _int64(found[0])
        cdef int64_t *right = _int64(found[1])
        cdef int64_t *time = _int64(found[2])
        cdef int64_t *release = _int64(found[3])
        with nogil:
            for i in range(count):
                left[i], right[i], time[i], release[i] = met[i].left, met[i].right, met[i].time, met[i].release
        return (*found, state == AF_MORE)

    def recycle(self, int port):
        cdef af_join_side *side = &self.join.sides[port & 1]
        cdef int64_t i
        slots = _empty(side.gone_count)
        cdef int64_t *out = _int64(slots)
        for i in range(side.gone_count):
            out[i] = side.gone[i]
        if not af_join_recycle(side):
            raise MemoryError
        return slots

    def compact(self, int port):
        cdef af_join_side *side = &self.join.sides[port & 1]
        if side.gone_count:
            raise ValueError("slots wait for recycle")
        kept = _empty(side.live)
        if not af_join_compact(&self.join, port & 1, _int64(kept)):
            raise MemoryError
        return kept

    def first_alone(self, int port):
        cdef int64_t time = 0
        return time if af_first_alone(&self.join.sides[port & 1], &time) else None

    def live_keys(self):
        live = np.zeros(self.join.key_count, np.bool_)
        if self.join.key_count:
            af_join_live_keys(&self.join, <uint8_t *>cnp.PyArray_DATA(live))
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
        if not af_join_keep_keys(&self.join, <int32_t *>cnp.PyArray_DATA(kept), len(kept)):
            raise MemoryError


JoinState = guarded(_JoinState, "JoinState")


def copy_texts(const uint8_t[::1] data, const int64_t[::1] starts, const int32_t[::1] lengths, rows):
    """The texts of these rows (None: all), one after another: their bytes, and where each starts (int64)."""
    cdef Py_ssize_t held = starts.shape[0], count = held if rows is None else len(rows), i
    cdef const int64_t *wanted = NULL
    cdef int64_t total = 0, row
    cdef bint outside = lengths.shape[0] != held
    if rows is not None:
        rows = np.ascontiguousarray(rows, np.int64)
        wanted = _int64(rows)
    places = _empty(count)
    cdef int64_t *place = _int64(places)
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
    out = cnp.PyArray_EMPTY(1, [total], cnp.NPY_UINT8, 0)
    cdef uint8_t *text = <uint8_t *>cnp.PyArray_DATA(out)
    if total:
        with nogil:
            af_copy_texts(&data[0], &starts[0], &lengths[0], wanted, count, text, place)
    return out, places
