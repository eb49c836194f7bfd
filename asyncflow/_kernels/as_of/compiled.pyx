"""As-of joins: rows of two tables that wait, and the sweep through time that gives each left row the right row nearest to it.

The design is in words at the head of as_of/as_of.h; the twin says what each method does.  Cost: a few nanoseconds a row that comes in
order; state is 32 bytes a row that waits, 64 a right row that may still be found, and 16 a key.
"""

from libc.stdint cimport INT32_MAX, INT64_MIN, int32_t, int64_t, uint8_t
from libc.stdlib cimport free, malloc
from libc.string cimport memset

import numpy as np

from asyncflow._kernels.as_of import saved
from asyncflow._kernels.base.guarded import guarded
from asyncflow._kernels.base.saved import Parts

cimport numpy as cnp

from asyncflow._kernels.as_of.state cimport (
    AF_AS_OF_BACKWARD, AF_AS_OF_FORWARD, AF_AS_OF_MORE, AF_AS_OF_NEAREST, AF_AS_OF_NO_MEMORY, af_as_of, af_as_of_arrivals, af_as_of_begin,
    af_as_of_bytes, af_as_of_columns, af_as_of_compact, af_as_of_compact_rows, af_as_of_enqueue, af_as_of_free, af_as_of_fresh_count,
    af_as_of_hold, af_as_of_init, af_as_of_keep_keys, af_as_of_live_keys, af_as_of_load, af_as_of_measure, af_as_of_next_due, af_as_of_passes,
    af_as_of_pick, af_as_of_pick_texts, af_as_of_ready_count, af_as_of_recycle, af_as_of_results, af_as_of_room_for_keys,
    af_as_of_row_count, af_as_of_save, af_as_of_settle, af_as_of_side, af_as_of_sweep, af_as_of_texts,
)
from asyncflow._kernels.base.arrays cimport array_of, empty, int32_data, int64_data, uint8_data

cnp.import_array()

cdef dict DIRECTIONS = {"backward": AF_AS_OF_BACKWARD, "forward": AF_AS_OF_FORWARD, "nearest": AF_AS_OF_NEAREST}
FEW_ROWS = 1 << 16
"""The table of known rows is made small only where it has more rows than this."""


cdef object _longs(Py_ssize_t count):
    return empty(count, cnp.NPY_INT64)


cdef class _AsOfState:
    """The rows of both sides.  See the twin."""

    cdef af_as_of join
    cdef object frozen
    cdef list frozen_places  # of each side, in the order of the last freeze
    cdef list straight  # of each side, the arrays that the rows held last are read from
    cdef dict shape

    def __cinit__(self, str direction, str kind, tolerance_ns):
        if direction not in DIRECTIONS:
            raise ValueError(f"no direction {direction!r}")
        if tolerance_ns is None and (direction != "backward" or kind in ("right", "full")):
            raise ValueError("this join needs a tolerance")
        if tolerance_ns is not None and tolerance_ns < 0:
            raise ValueError("a tolerance is not negative")
        self.shape = {"direction": direction, "kind": kind, "tolerance_ns": tolerance_ns}
        self.frozen, self.frozen_places, self.straight = Parts(), [], [None, None]
        af_as_of_init(
            &self.join,
            DIRECTIONS[direction],
            -1 if tolerance_ns is None else tolerance_ns,
            kind in ("left", "full", "anti"),
            kind in ("right", "full"),
            kind not in ("semi", "anti"),
            kind == "semi",
        )

    def __dealloc__(self):
        af_as_of_free(&self.join)

    @property
    def wait(self):
        return self.join.wait

    @property
    def reach(self):
        return None if self.join.reach < 0 else self.join.reach

    @property
    def rows(self):
        return af_as_of_row_count(&self.join, 0), af_as_of_row_count(&self.join, 1)

    @property
    def places(self):
        return self.join.sides[0].places.top, self.join.sides[1].places.top

    @property
    def ways(self):
        return self._ways()

    cdef tuple _ways(self):
        cdef af_as_of_side *left = &self.join.sides[0]
        cdef af_as_of_side *right = &self.join.sides[1]
        return left.matched, left.unmatched, right.matched, right.unmatched

    @property
    def nbytes(self):
        return af_as_of_bytes(&self.join)

    cdef int _between_sweeps(self) except -1:
        if self.join.under_way:
            raise ValueError("a sweep is not over")
        return 0

    cdef int _enqueue(self, int port) except -1:
        """All rows that wait stand in the queue of their side."""
        if not af_as_of_enqueue(&self.join.sides[port]):
            raise MemoryError
        self.straight[port] = None
        return 0

    cdef int _settled(self, int port) except -1:
        if self.join.sides[port].has_fresh or self.join.sides[port].gone_count:
            raise ValueError("rows wait for recycle or settle")
        return 0

    def hold(self, int port, const int32_t[::1] keys, int64_t key_count, const int64_t[::1] times, marks, int64_t before, int64_t delay_ns):
        cdef Py_ssize_t count = keys.shape[0], i
        cdef int32_t least = 0, greatest = -1
        cdef int64_t lates = 0, partly = 0
        cdef const int64_t *seen = NULL
        cdef bint done
        port &= 1
        if marks is not None:
            marks = np.ascontiguousarray(marks, np.int64)
            seen = int64_data(marks)
        if times.shape[0] != count or (marks is not None and len(marks) != count):
            raise ValueError("the arrays differ in length")
        if delay_ns < 0:
            raise ValueError("a delay is not negative")
        self._between_sweeps()
        if self.join.sides[port].has_fresh:
            raise ValueError("rows wait for settle")
        if not count:
            return None, 0
        for i in range(count):
            least = min(least, keys[i])
            greatest = max(greatest, keys[i])
        if least < -1 or greatest >= key_count:
            raise IndexError(f"a key outside of 0..{key_count - 1}")
        late = empty(count, cnp.NPY_BOOL)
        cdef uint8_t *flags = uint8_data(late)
        with nogil:
            memset(flags, 0, count)
            done = af_as_of_room_for_keys(&self.join, key_count)
            done = done and af_as_of_hold(
                &self.join, port, &keys[0], &times[0], seen, before, delay_ns, count, flags, &lates, &partly)
        if not done:
            raise MemoryError
        self.straight[port] = keys.base, times.base
        return late if lates else None, partly

    def sweep(self, int64_t clock_ns, int64_t limit):
        cdef af_as_of *join = &self.join
        cdef af_as_of_results out
        cdef int state
        cdef bint begun = True
        if not join.under_way:
            if clock_ns < join.clock:
                raise ValueError("the clock went back")
            with nogil:
                begun = af_as_of_begin(join, clock_ns)
            if not begun:
                raise MemoryError
        cdef int64_t room = af_as_of_ready_count(&join.sides[0])
        if join.right_alone:
            room += af_as_of_ready_count(&join.sides[1]) + join.known
        found = [_longs(room) for _ in range(3)]
        # Looking back, a result is released at its time.
        cdef bint same = join.wait == 0 and not join.right_alone
        found.append(found[2] if same else _longs(room))
        out.left, out.right, out.time = int64_data(found[0]), int64_data(found[1]), int64_data(found[2])
        out.release = NULL if same else int64_data(found[3])
        out.arrivals = NULL
        if not same:
            out.arrivals = <af_as_of_arrivals *>malloc((room + 1) * sizeof(af_as_of_arrivals))
            if out.arrivals == NULL:
                raise MemoryError
        with nogil:
            state = af_as_of_sweep(join, limit, &out)
            free(out.arrivals)
        if state != AF_AS_OF_NO_MEMORY and state != AF_AS_OF_MORE and join.row_slots.top > max(FEW_ROWS, 4 * join.known):
            if not af_as_of_compact_rows(join):
                state = AF_AS_OF_NO_MEMORY
        if state == AF_AS_OF_NO_MEMORY:
            raise MemoryError
        left, right, time, release = (array[: out.count] for array in found)
        return left, right, time, time if same else release, state == AF_AS_OF_MORE

    def passes(self, int64_t clock_ns):
        return af_as_of_passes(&self.join.sides[0], clock_ns, self.join.wait) + af_as_of_passes(&self.join.sides[1], clock_ns, 0)

    def recycle(self, int port):
        cdef af_as_of_side *side = &self.join.sides[port & 1]
        cdef int64_t i
        gone = _longs(side.gone_count)
        cdef int64_t *left = int64_data(gone)
        for i in range(side.gone_count):
            left[i] = side.gone[i]
        if not af_as_of_recycle(side):
            raise MemoryError
        return gone

    def settle(self, int port):
        self._between_sweeps()
        self._enqueue(port & 1)
        cdef int64_t count = af_as_of_fresh_count(&self.join, port & 1)
        rows, places = _longs(count), _longs(count)
        count = af_as_of_settle(&self.join, port & 1, int64_data(rows), int64_data(places))
        return rows[:count], places[:count]

    def compact(self, int port):
        self._between_sweeps()
        self._settled(port & 1)
        kept = _longs(af_as_of_row_count(&self.join, port & 1))
        if not af_as_of_compact(&self.join, port & 1, int64_data(kept)):
            raise MemoryError
        return kept

    def next_due(self):
        cdef int64_t time = 0
        return time if af_as_of_next_due(&self.join, &time) else None

    def live_keys(self):
        return self._live_keys()

    cdef object _live_keys(self):
        live = np.zeros(self.join.key_count, np.bool_)
        if self.join.key_count:
            af_as_of_live_keys(&self.join, uint8_data(live))
        return np.flatnonzero(live).astype(np.int32)

    def keep_keys(self, kept):
        kept = np.ascontiguousarray(kept, np.int32)
        if len(kept) and not (0 <= kept.min() and kept.max() < self.join.key_count):
            raise IndexError("a key that is not known")
        live = self._live_keys()
        if len(np.unique(kept)) < len(kept) or not np.isin(live, kept).all():
            raise ValueError("keys that rows are held of are kept, each once")
        self._between_sweeps()
        self._enqueue(0)
        self._enqueue(1)
        if not af_as_of_keep_keys(&self.join, int32_data(kept), len(kept)):
            raise MemoryError

    def saved_places(self, int port):
        if not self.frozen_places:
            raise ValueError("rows have an order once the state was frozen")
        return self.frozen_places[port & 1]

    def freeze(self, rank):
        cdef int port
        cdef af_as_of_columns columns
        parts, places = {}, []
        self._between_sweeps()
        for port in range(2):
            self._settled(port)
            count = af_as_of_row_count(&self.join, port)
            of, keys = empty(count, cnp.NPY_INT32), empty(count, cnp.NPY_INT32)
            times, moments, arrivals = _longs(count), _longs(count), _longs(count)
            matched, ahead = empty(count, cnp.NPY_BOOL), empty(count, cnp.NPY_BOOL)
            columns = af_as_of_columns(
                int32_data(of), int32_data(keys), int64_data(times), int64_data(moments), int64_data(arrivals), uint8_data(matched),
                uint8_data(ahead))
            af_as_of_save(&self.join, port, &columns)
            order, rows = saved.Rows(keys, times, moments, arrivals, matched, ahead).in_order(rank)
            parts |= rows.parts(port)
            places.append(of[order].astype(np.int64))
        self.frozen, self.frozen_places = Parts(parts), places
        return self.shape | {
            "clock_ns": self.join.clock,
            "arrived": [self.join.sides[0].arrived, self.join.sides[1].arrived],
            "ways": list(self._ways()),
            "groups": len(rank),
        }

    def pieces(self, budget):
        return self.frozen.pieces(budget)

    def drop(self):
        self.frozen.drop()

    def load(self, fields, parts):
        cdef int port
        cdef af_as_of_columns columns
        if self.join.sides[0].arrived or self.join.sides[1].arrived or self.join.clock != INT64_MIN:
            raise ValueError("a snapshot is loaded into a state that had rows")
        reach = None if self.join.reach < 0 else self.join.reach
        sides = saved.loaded(fields, parts, self.shape, (self.join.wait, reach), self.join.one_each)
        if not af_as_of_room_for_keys(&self.join, max([int(rows.keys.max(initial=-1)) + 1 for rows in sides])):
            raise MemoryError
        for port in range(2):
            rows = sides[port]
            columns = af_as_of_columns(
                NULL, int32_data(rows.keys), int64_data(rows.time), int64_data(rows.moment), int64_data(rows.arrival),
                uint8_data(rows.matched), uint8_data(rows.ahead))
            if not af_as_of_load(&self.join, port, &columns, len(rows.time)):
                raise MemoryError
            self.join.sides[port].arrived = fields["arrived"][port]
            self.join.sides[port].matched = fields["ways"][2 * port]
            self.join.sides[port].unmatched = fields["ways"][2 * port + 1]
        self.join.clock = fields["clock_ns"]


AsOfState = guarded(_AsOfState, "AsOfState")


def kinds(const int64_t[::1] refs):
    """How many references are null, how many are places, and whether the others are rows one after another: see the twin."""
    cdef Py_ssize_t count = refs.shape[0], i
    cdef int64_t absent = 0, placed = 0
    cdef bint apart = False
    with nogil:
        for i in range(count):
            absent += refs[i] == -1
            placed += refs[i] >= 0
        if not absent and not placed:
            for i in range(1, count):
                apart |= refs[i] != refs[i - 1] - 1
    return absent, placed, not (absent or placed or apart)


cdef int check_refs(const int64_t[::1] refs, int64_t placed, int64_t fresh) except -1:
    """IndexError where a reference is null, or beyond so many places or fresh rows."""
    cdef Py_ssize_t i
    cdef bint outside = False
    with nogil:
        for i in range(refs.shape[0]):
            outside |= (refs[i] >= placed) | (refs[i] < -1 - fresh) | (refs[i] == -1)
    if outside:
        raise IndexError("a reference to no row")
    return 0


def pick(const uint8_t[::1] placed, const uint8_t[::1] fresh, int width, const int64_t[::1] refs):
    """Values of ``width`` bytes (1, 4 or 8) by reference: see the twin."""
    cdef Py_ssize_t count = refs.shape[0]
    if width != 1 and width != 4 and width != 8:
        raise ValueError(f"values of {width} bytes")
    check_refs(refs, placed.shape[0] // width, fresh.shape[0] // width)
    out = empty(count * width, cnp.NPY_UINT8)
    cdef uint8_t *to = uint8_data(out)
    cdef const uint8_t *of_place = &placed[0] if placed.shape[0] else NULL
    cdef const uint8_t *of_row = &fresh[0] if fresh.shape[0] else NULL
    cdef const int64_t *of = &refs[0] if count else NULL
    with nogil:
        af_as_of_pick(of_place, of_row, width, of, count, to)
    return out


def pick_texts(placed, fresh, const int64_t[::1] refs):
    """Texts by reference, one after another: see the twin."""
    placed_data, fresh_data = array_of(placed[0], cnp.NPY_UINT8, -1), array_of(fresh[0], cnp.NPY_UINT8, -1)
    cdef int64_t count = refs.shape[0], held = len(placed[1]), rows = len(fresh[1]), total
    placed_starts, placed_lengths = array_of(placed[1], cnp.NPY_INT64, held), array_of(placed[2], cnp.NPY_INT32, held)
    fresh_starts, fresh_lengths = array_of(fresh[1], cnp.NPY_INT32, rows), array_of(fresh[2], cnp.NPY_INT32, rows)
    check_refs(refs, held, rows)
    cdef af_as_of_texts texts = af_as_of_texts(
        uint8_data(placed_data), len(placed_data), int64_data(placed_starts), int32_data(placed_lengths),
        uint8_data(fresh_data), len(fresh_data), int32_data(fresh_starts), int32_data(fresh_lengths))
    starts, lengths = empty(count, cnp.NPY_INT32), empty(count, cnp.NPY_INT32)
    cdef int32_t *begins = int32_data(starts)
    cdef int32_t *sizes = int32_data(lengths)
    cdef const int64_t *of = &refs[0] if count else NULL
    with nogil:
        total = af_as_of_measure(&texts, of, count, begins, sizes)
    if total < 0:
        raise IndexError("a reference to no row, or a text outside of its bytes")
    if total > INT32_MAX:
        raise OverflowError("texts of more than 2 GiB")
    data = empty(total, cnp.NPY_UINT8)
    cdef uint8_t *to = uint8_data(data)
    with nogil:
        af_as_of_pick_texts(&texts, of, count, sizes, to, total)
    return data, starts, lengths
