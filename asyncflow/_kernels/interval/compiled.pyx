"""The interval join: rows that wait in a log of each side, and the sweep that lets them meet.

The design is in words at the heads of interval/log.h, interval/sweep.h and interval/parts.h; the twin says what each method does.  Cost:
a cache line or two a row and a pair, whatever is held; state is 40 bytes a row and 8 a bucket, of which there are two a row, each with room
to grow.
"""

import os

from libc.stdint cimport INT64_MAX, INT64_MIN, int32_t, int64_t, uint8_t, uint32_t, uint64_t

from functools import partial

import numpy as np

from asyncflow._kernels.base.guarded import guarded
from asyncflow._kernels.base.saved import Parts
from asyncflow._kernels.interval import saved

cimport numpy as cnp

from asyncflow._kernels.base.arrays cimport empty, int32_data, int64_data, uint8_data

cnp.import_array()

cdef extern from "interval/upkeep.h" nogil:
    enum:
        AF_LOG_SWEPT
        AF_LOG_MORE
        AF_LOG_NO_MEMORY
    const uint32_t AF_LOG_NOBODY
    ctypedef struct af_log_places:
        int64_t first, next, arrived, swept_from
    ctypedef struct af_log_side:
        int64_t live, matched, unmatched, reach, delay, run_count
    ctypedef struct af_log_met:
        int64_t release, time
        uint32_t left, right
    ctypedef struct af_interval:
        af_log_side sides[2]
        uint64_t seeds[2]
        bint sweeping
        int64_t clock, met_from, met_count, moment
    ctypedef struct af_log_parts:
        af_interval *parts
        int count
        af_log_places places[2]
    ctypedef struct af_log_arrivals:
        const int64_t *numbers
        const int32_t *names
        const uint8_t *valid
        const int64_t *times
        const int64_t *marks
        int64_t watermark, lag
    ctypedef struct af_log_columns:
        int64_t *places
        int64_t *keys
        int64_t *times
        int64_t *seen
        int64_t *arrivals
        int64_t *comes
        uint8_t *keyed
        uint8_t *matched
        uint8_t *ahead

    bint af_log_parts_init(af_log_parts *, int count)
    void af_interval_init(
        af_interval *, af_log_places *, int64_t lower, int64_t upper, bint left_alone, bint right_alone, bint pairs, bint firsts)
    void af_log_parts_free(af_log_parts *)
    uint64_t af_log_bytes(const af_log_parts *)
    bint af_log_name_parts(af_log_parts *, int64_t count)
    bint af_log_hold(
        af_log_parts *, int port, const af_log_arrivals *, int64_t count, uint8_t *late, int64_t *late_count, int64_t *partly)
    int af_log_sweep(af_interval *, int64_t clock, int64_t limit)
    void af_log_free_places(af_log_parts *)
    const af_log_met *af_log_met_all(af_log_parts *, int64_t *count)
    bint af_log_sweeping(const af_log_parts *)
    int64_t af_log_arrival(const af_log_places *, int64_t place)
    bint af_log_compact(af_log_parts *, int port, int64_t live, int64_t *kept)
    bint af_log_first_alone(const af_log_side *, int64_t *time)
    bint af_log_first_ahead(const af_log_side *, int64_t *time)
    int64_t af_log_keys(af_log_parts *, int64_t *keys)
    bint af_log_rename_keys(af_log_parts *, const int32_t *names, int64_t count, int64_t kept)
    int64_t af_log_save(const af_log_side *, const af_log_columns *, int64_t at)
    bint af_log_load(af_log_parts *, int port, const af_log_columns *, const int64_t *order, int64_t count, bint named)

SEEDS = np.frombuffer(os.urandom(16), np.uint64)
MOST_PARTS = 64


cdef object _longs(Py_ssize_t count):
    return empty(count, cnp.NPY_INT64)


cdef class _IntervalState:
    """The rows of both sides.  See the twin."""

    cdef af_log_parts join
    cdef int64_t key_count, clock
    cdef bint named, numbered, sweeping, failed
    cdef object frozen
    cdef dict shape

    def __cinit__(self, str kind, int64_t lower_ns, int64_t upper_ns, int parts=1):
        if kind not in ("inner", "left", "right", "full", "semi", "anti"):
            raise ValueError(f"no kind {kind!r}")
        if lower_ns == INT64_MIN or upper_ns == INT64_MIN or lower_ns > upper_ns:
            raise ValueError("the bounds of a join rise, and are above -2**63")
        if not 1 <= parts <= MOST_PARTS or parts & (parts - 1):
            raise ValueError(f"{parts} parts: a power of two from 1 to {MOST_PARTS} is wanted")
        self.shape = {"kind": kind, "lower_ns": lower_ns, "upper_ns": upper_ns}
        self.frozen = Parts()
        self.clock = INT64_MIN
        if not af_log_parts_init(&self.join, parts):
            raise MemoryError
        cdef int part
        for part in range(parts):
            af_interval_init(
                &self.join.parts[part], self.join.places, lower_ns, upper_ns, kind in ("left", "full", "anti"), kind in ("right", "full"),
                kind not in ("semi", "anti"), kind == "semi")
            self.join.parts[part].seeds[0], self.join.parts[part].seeds[1] = SEEDS

    def __dealloc__(self):
        af_log_parts_free(&self.join)

    @property
    def parts(self):
        return self.join.count

    @property
    def reach(self):
        return self.join.parts[0].sides[0].reach, self.join.parts[0].sides[1].reach

    @property
    def rows(self):
        return self._live(0), self._live(1)

    cdef int64_t _live(self, int port):
        cdef int64_t live = 0
        cdef int part
        for part in range(self.join.count):
            live += self.join.parts[part].sides[port].live
        return live

    @property
    def ways(self):
        return self._ways()

    cdef tuple _ways(self):
        cdef int64_t matched[2]
        cdef int64_t unmatched[2]
        cdef int part, port
        for port in range(2):
            matched[port] = unmatched[port] = 0
            for part in range(self.join.count):
                matched[port] += self.join.parts[part].sides[port].matched
                unmatched[port] += self.join.parts[part].sides[port].unmatched
        return matched[0], unmatched[0], matched[1], unmatched[1]

    @property
    def nbytes(self):
        return af_log_bytes(&self.join)

    @property
    def runs(self):
        cdef int64_t found[2]
        cdef int part, port
        for port in range(2):
            found[port] = 0
            for part in range(self.join.count):
                found[port] = max(found[port], self.join.parts[part].sides[port].run_count)
        return found[0], found[1]

    @property
    def keys(self):
        return len(self._keys())

    cdef object _keys(self):
        keys = _longs(af_log_keys(&self.join, NULL))
        af_log_keys(&self.join, int64_data(keys))
        return np.unique(keys)

    def places(self, int port):
        return self.join.places[port & 1].first, self.join.places[port & 1].next

    cdef tuple _hold(self, int port, af_log_arrivals *come, const int64_t[::1] times, marks, int64_t watermark_ns, int64_t delay_ns):
        cdef Py_ssize_t count = times.shape[0]
        if marks is not None:
            marks = np.ascontiguousarray(marks, np.int64)
            come.marks = int64_data(marks)
            if len(marks) != count:
                raise ValueError("the arrays differ in length")
        if delay_ns < 0:
            raise ValueError("a negative delay")
        if self.sweeping:
            raise ValueError("a sweep is not over")
        if not count:
            return None, 0
        come.times, come.watermark, come.lag = &times[0], watermark_ns, delay_ns
        late = np.zeros(count, np.bool_)
        cdef uint8_t *flags = uint8_data(late)
        cdef int64_t late_count = 0, partly = 0
        cdef bint done
        with nogil:
            done = af_log_hold(&self.join, port & 1, come, count, flags, &late_count, &partly)
        if not done:
            raise MemoryError
        return late if late_count else None, partly

    def hold(self, int port, const int32_t[::1] keys, int64_t key_count, const int64_t[::1] times, marks, int64_t watermark_ns, int64_t delay_ns):
        cdef Py_ssize_t count = keys.shape[0], i
        cdef int32_t least = 0, greatest = -1
        cdef af_log_arrivals come
        if times.shape[0] != count:
            raise ValueError("the arrays differ in length")
        if self.numbered:
            raise ValueError("the keys of this join are numbers")
        for i in range(count):
            least = min(least, keys[i])
            greatest = max(greatest, keys[i])
        if least < -1 or greatest >= key_count:
            raise IndexError(f"a key outside of 0..{key_count - 1}")
        come.numbers, come.names, come.valid, come.marks = NULL, &keys[0] if count else NULL, NULL, NULL
        if not af_log_name_parts(&self.join, key_count):
            raise MemoryError
        found = self._hold(port, &come, times, marks, watermark_ns, delay_ns)
        if count:
            self.named = True
            self.key_count = max(self.key_count, key_count)
        return found

    def hold_numbers(self, int port, const int64_t[::1] numbers, valid, const int64_t[::1] times, marks, int64_t watermark_ns, int64_t delay_ns):
        cdef Py_ssize_t count = numbers.shape[0]
        cdef af_log_arrivals come
        if valid is not None:
            valid = np.ascontiguousarray(valid, np.bool_)
        if times.shape[0] != count or (valid is not None and len(valid) != count):
            raise ValueError("the arrays differ in length")
        if self.named:
            raise ValueError("the keys of this join are named by others")
        come.numbers, come.names, come.valid, come.marks = &numbers[0] if count else NULL, NULL, uint8_data(valid), NULL
        found = self._hold(port, &come, times, marks, watermark_ns, delay_ns)
        if count:
            self.numbered = True
        return found

    def sweep(self, int64_t clock_ns, int64_t limit):
        for task in self._tasks(clock_ns, limit):
            task()
        return self._met()

    def tasks(self, int64_t clock_ns, int64_t limit):
        return self._tasks(clock_ns, limit)

    def met(self):
        return self._met()

    cdef list _tasks(self, int64_t clock_ns, int64_t limit):
        cdef int part, port
        if self.sweeping and clock_ns != self.clock:
            raise ValueError("a sweep is not over")
        if clock_ns < self.clock:
            raise ValueError("the clock of a join never falls")
        if not self.sweeping:
            self.sweeping, self.clock = True, clock_ns
            for port in range(2):
                self.join.places[port].swept_from = self.join.places[port].first
            for part in range(self.join.count):
                self.join.parts[part].moment = INT64_MIN
        return [partial(self._sweep_part, part, max(limit // self.join.count, 1)) for part in range(self.join.count)]

    def _sweep_part(self, int part, int64_t limit):
        cdef af_interval *join = &self.join.parts[part]
        cdef int64_t clock = self.clock
        cdef int state
        if join.moment == INT64_MAX or (join.moment != INT64_MIN and join.met_count - join.met_from >= limit):
            return
        with nogil:
            state = af_log_sweep(join, clock, limit)
        if state == AF_LOG_NO_MEMORY:
            self.failed = True

    cdef tuple _met(self):
        cdef int64_t count = 0, i, first = self.join.places[0].swept_from, second = self.join.places[1].swept_from
        cdef const af_log_met *met
        if self.failed:
            raise MemoryError
        with nogil:
            met = af_log_met_all(&self.join, &count)
            af_log_free_places(&self.join)
        if count < 0:
            raise MemoryError
        found = [_longs(count) for _ in range(4)]
        cdef int64_t *left = int64_data(found[0])
        cdef int64_t *right = int64_data(found[1])
        cdef int64_t *time = int64_data(found[2])
        cdef int64_t *release = int64_data(found[3])
        with nogil:
            for i in range(count):
                left[i] = -1 if met[i].left == AF_LOG_NOBODY else first + met[i].left
                right[i] = -1 if met[i].right == AF_LOG_NOBODY else second + met[i].right
                time[i], release[i] = met[i].time, met[i].release
        self.sweeping = af_log_sweeping(&self.join)
        return (*found, self.sweeping)

    def compact(self, int port):
        if self.sweeping:
            raise ValueError("a sweep is not over")
        kept = _longs(self._live(port & 1))
        if not af_log_compact(&self.join, port & 1, len(kept), int64_data(kept)):
            raise MemoryError
        return kept

    def first_ahead(self, int port):
        cdef int64_t time = 0
        cdef int part
        found = None
        for part in range(self.join.count):
            if af_log_first_ahead(&self.join.parts[part].sides[port & 1], &time) and (found is None or time < found):
                found = time
        return found

    def first_alone(self, int port):
        cdef int64_t time = 0
        cdef int part
        found = None
        for part in range(self.join.count):
            if af_log_first_alone(&self.join.parts[part].sides[port & 1], &time) and (found is None or time < found):
                found = time
        return found

    def live_keys(self):
        if self.numbered:
            raise ValueError("the keys of this join are numbers")
        return self._keys().astype(np.int32)

    def keep_keys(self, kept):
        if self.numbered:
            raise ValueError("the keys of this join are numbers")
        kept = np.ascontiguousarray(kept, np.int32)
        if len(kept) and not (0 <= kept.min() and kept.max() < self.key_count):
            raise IndexError("a key that is not known")
        cdef const int32_t[::1] names = self._names(kept)
        if (np.asarray(names)[self._keys()] < 0).any():
            raise IndexError("a key that rows are held of is kept")
        if self.key_count and not af_log_rename_keys(&self.join, &names[0], self.key_count, len(kept)):
            raise MemoryError
        self.key_count = len(kept)

    cdef object _names(self, kept):
        names = np.full(self.key_count, -1, np.int32)
        names[kept] = np.arange(len(kept), dtype=np.int32)
        return names

    def live_places(self, int port):
        cdef af_log_places *places = &self.join.places[port & 1]
        cdef int64_t place, count = 0
        found = _longs(self._live(port & 1))
        cdef int64_t *out = int64_data(found)
        for place in range(places.first, places.next):
            if af_log_arrival(places, place) >= 0:
                out[count] = place
                count += 1
        return found

    cdef object _saved_rows(self, int port, rank):
        """A side's rows, by place: so by arrival."""
        cdef int64_t count = self._live(port), at = 0
        cdef int part
        longs = [_longs(count) for _ in range(6)]
        flags = [empty(count, cnp.NPY_BOOL) for _ in range(3)]
        cdef af_log_columns columns
        columns.places, columns.keys, columns.times = int64_data(longs[0]), int64_data(longs[1]), int64_data(longs[2])
        columns.seen, columns.arrivals, columns.comes = int64_data(longs[3]), int64_data(longs[4]), int64_data(longs[5])
        columns.keyed, columns.matched, columns.ahead = uint8_data(flags[0]), uint8_data(flags[1]), uint8_data(flags[2])
        for part in range(self.join.count):
            at = af_log_save(&self.join.parts[part].sides[port], &columns, at)
        order = np.argsort(longs[0], kind="stable")
        rows = saved.Rows(longs[1], flags[0], longs[2], longs[3], longs[4], flags[1], flags[2]).taken(order)
        return rows if rank is None else rows.named(rank)

    def freeze(self, rank):
        if self.sweeping:
            raise ValueError("a sweep is not over")
        cdef bint numbered = self.numbered
        parts = {}
        for port in range(2):
            parts |= self._saved_rows(port, None if numbered else rank).parts(saved.SIDES[port], numbered)
        self.frozen = Parts(parts)
        return self.shape | {
            "clock_ns": self.clock,
            "arrived": [self.join.places[0].arrived, self.join.places[1].arrived],
            "ways": list(self._ways()),
            "numbered": numbered,
            "groups": len(rank),
        }

    def pieces(self, budget):
        return self.frozen.pieces(budget)

    def drop(self):
        self.frozen.drop()

    def load(self, fields, parts):
        if self.join.places[0].arrived or self.join.places[1].arrived or self.clock != INT64_MIN:
            raise ValueError("a snapshot is loaded into a state that had rows")
        delays = self.join.parts[0].sides[0].delay, self.join.parts[0].sides[1].delay
        rows = saved.loaded(fields, parts, self.shape, delays, self.reach)
        self.clock = fields["clock_ns"]
        self.numbered = fields["numbered"]
        self.named = not fields["numbered"] and any(len(each.time) for each in rows)
        self.key_count = max((int(each.keys.max()) + 1 for each in rows if len(each.keys)), default=0) if self.named else 0
        if not af_log_name_parts(&self.join, self.key_count):
            raise MemoryError
        cdef int port, part
        for part in range(self.join.count):
            self.join.parts[part].clock = self.clock
        for port in range(2):
            self._load_rows(port, rows[port], delays[port])
            self.join.places[port].arrived = fields["arrived"][port]
            self.join.parts[0].sides[port].matched = fields["ways"][2 * port]
            self.join.parts[0].sides[port].unmatched = fields["ways"][2 * port + 1]

    cdef int _load_rows(self, int port, rows, int64_t delay) except -1:
        cdef int64_t count = len(rows.time)
        cdef af_log_columns columns
        comes = saved.comes(rows, delay)
        order = np.lexsort((comes, rows.ahead)).astype(np.int64)
        keys = np.where(rows.keyed, rows.keys, 0).astype(np.int64)
        columns.keys, columns.times, columns.seen = int64_data(keys), int64_data(rows.time), int64_data(rows.seen)
        columns.arrivals, columns.comes = int64_data(rows.arrival), int64_data(comes)
        columns.keyed, columns.matched, columns.ahead = uint8_data(rows.keyed), uint8_data(rows.matched), uint8_data(rows.ahead)
        if not af_log_load(&self.join, port, &columns, int64_data(order), count, self.named):
            raise MemoryError
        return 0


IntervalState = guarded(_IntervalState, "IntervalState")


cdef extern from "interval/texts.h" nogil:
    void af_log_ring_take(const int64_t *ring, uint64_t mask, const int64_t *places, int64_t count, int64_t *out)
    bint af_log_ring_spans(
        const int64_t *ring, uint64_t mask, const int64_t *places, int64_t count, int64_t origin, int64_t *starts, int32_t *lengths)
    int64_t af_log_texts_size(const int64_t *starts, const int32_t *narrow, const int32_t *lengths, int64_t count, int64_t size)
    void af_log_texts_copy(
        const uint8_t *data, int64_t size, const int64_t *starts, const int32_t *narrow, const int32_t *lengths, int64_t count,
        uint8_t *out, int64_t room, int64_t at, int64_t *wide_places, int32_t *places)


cdef int _check_ring(const int64_t[::1] ring) except -1:
    cdef Py_ssize_t size = ring.shape[0]
    if not size or size & (size - 1):
        raise ValueError("the size of a ring is a power of two")
    return 0


def take_places(const int64_t[::1] ring, const int64_t[::1] places):
    """The items of a ring at these places (int64)."""
    cdef Py_ssize_t count = places.shape[0]
    _check_ring(ring)
    found = _longs(count)
    cdef int64_t *out = int64_data(found)
    if count:
        with nogil:
            af_log_ring_take(&ring[0], ring.shape[0] - 1, &places[0], count, out)
    return found


def take_spans(const int64_t[::1] ring, const int64_t[::1] places, int64_t origin):
    """Where the texts of these places start, counted from ``origin`` (int64), and their lengths (int32)."""
    cdef Py_ssize_t count = places.shape[0]
    cdef bint done = True
    _check_ring(ring)
    starts, lengths = _longs(count), empty(count, cnp.NPY_INT32)
    cdef int64_t *start = int64_data(starts)
    cdef int32_t *length = int32_data(lengths)
    if count:
        with nogil:
            done = af_log_ring_spans(&ring[0], ring.shape[0] - 1, &places[0], count, origin, start, length)
    if not done:
        raise IndexError("a text that is longer than a column holds, or ends before it starts")
    return starts, lengths


def put_texts(uint8_t[::1] out, int64_t at, const uint8_t[::1] data, const int32_t[::1] starts, const int32_t[::1] lengths):
    """Copies texts one after another into ``out``, from ``at`` on; where each starts there (int64)."""
    cdef Py_ssize_t count = starts.shape[0], size = data.shape[0], room = out.shape[0]
    cdef int64_t total
    if lengths.shape[0] != count:
        raise IndexError("a text outside of its bytes")
    places = _longs(count)
    cdef int64_t *place = int64_data(places)
    if not count:
        return places
    with nogil:
        total = af_log_texts_size(NULL, &starts[0], &lengths[0], count, size)
    if total < 0:
        raise IndexError("a text outside of its bytes")
    if not 0 <= at <= room - total:
        raise IndexError("texts that do not fit")
    if not total:
        places[:] = at
        return places
    with nogil:
        af_log_texts_copy(&data[0], size, NULL, &starts[0], &lengths[0], count, &out[0], room, at, place, NULL)
    return places


def take_texts(const uint8_t[::1] data, const int64_t[::1] starts, const int32_t[::1] lengths):
    """These texts one after another: their bytes (uint8, below 2 GiB), and where each starts (int32)."""
    cdef Py_ssize_t count = starts.shape[0], size = data.shape[0]
    cdef int64_t total = 0
    if lengths.shape[0] != count:
        raise IndexError("a text outside of its bytes")
    places = empty(count, cnp.NPY_INT32)
    cdef int32_t *place = int32_data(places)
    if count:
        with nogil:
            total = af_log_texts_size(&starts[0], NULL, &lengths[0], count, size)
    if total < 0:
        raise IndexError("a text outside of its bytes")
    if total > 2147483647:
        raise IndexError("more bytes than a column holds")
    out = empty(total, cnp.NPY_UINT8)
    cdef uint8_t *text = uint8_data(out)
    if not total:
        places[:] = 0
        return out, places
    with nogil:
        af_log_texts_copy(&data[0], size, &starts[0], NULL, &lengths[0], count, text, total, 0, NULL, place)
    return out, places
