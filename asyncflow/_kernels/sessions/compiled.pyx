"""Windows that follow their rows: sessions by event time, and windows of so many rows.

Both say which slot of the window kernel's state each row belongs to; the slots hold the aggregates.  The design is in words at the head
of sessions.h, sessions/sets.h and counted.h; the twin defines the results.  Cost: a few ns a row while a key's rows come in order, else
O(log n) of its open sessions; a step for each gap of a session's life; memory for open windows only.
"""

from libc.stdint cimport int32_t, int64_t, uint64_t

import os

import numpy as np

from asyncflow._kernels.base.guarded import guarded

cimport numpy as cnp

from asyncflow._kernels.base.views cimport check_ids, check_kept

cnp.import_array()

cdef uint64_t SEED = int.from_bytes(os.urandom(8), "little")

cdef extern from "sessions/sessions.h" nogil:
    ctypedef struct af_slots:
        int64_t top, free_capacity
    ctypedef struct af_closing:
        int64_t start, end
        int32_t slot, group
    ctypedef struct af_joined:
        int64_t row
        int32_t into, source
    ctypedef struct af_sessions:
        int64_t gap
        af_slots slots
        int32_t *owned
        int64_t group_count
        af_joined *joined
        int64_t joined_count, open, closed
        af_closing *closing
        int64_t closing_count

    bint af_sessions_init(af_sessions *, int64_t gap, uint64_t seed)
    void af_sessions_free(af_sessions *)
    bint af_sessions_assign(
        af_sessions *, const int32_t *groups, int64_t count, int64_t group_count, const int64_t *time, const int64_t *watermarks,
        int64_t before, int64_t delay, int32_t *slots, int64_t *late, int64_t *late_count)
    bint af_sessions_close(af_sessions *, int64_t watermark)
    bint af_sessions_closed(af_sessions *)
    bint af_sessions_compact(af_sessions *, int32_t *kept)
    bint af_sessions_rename(af_sessions *, const int32_t *groups, int64_t count)
    bint af_sessions_next_end(const af_sessions *, int64_t *end)
    uint64_t af_sessions_bytes(const af_sessions *)

cdef extern from "sessions/counted.h" nogil:
    ctypedef struct af_counted:
        int64_t rows, first, last
        int32_t group
    ctypedef struct af_filled:
        int32_t slot
        int64_t row
    ctypedef struct af_counts:
        int64_t size
        af_counted *windows
        int64_t window_capacity
        af_slots slots
        int32_t *current
        int64_t group_count, group_capacity
        af_filled *filled
        int64_t filled_count, filled_capacity, open, closed

    void af_counts_free(af_counts *)
    bint af_counts_assign(
        af_counts *, const int32_t *groups, int64_t count, int64_t group_count, const int64_t *time, int32_t *slots)
    bint af_counts_rest(af_counts *)
    void af_counts_rename(af_counts *, const int32_t *groups, int64_t count)
    int64_t af_counts_compact(af_counts *, int32_t *kept)


cdef object _array(object values, int typenum, Py_ssize_t count):
    """The array itself, or a contiguous copy; ValueError where it has another length (``count`` -1: any)."""
    array = cnp.PyArray_FROM_OTF(values, typenum, cnp.NPY_ARRAY_C_CONTIGUOUS | cnp.NPY_ARRAY_ALIGNED)
    if count >= 0 and cnp.PyArray_SIZE(array) != count:
        raise ValueError(f"a column of {cnp.PyArray_SIZE(array)} rows in a batch of {count}")
    return array


cdef object _empty(Py_ssize_t count, int typenum):
    cdef cnp.npy_intp length = count
    return cnp.PyArray_EMPTY(1, &length, typenum, 0)


cdef int32_t *_int32(object array):
    return <int32_t *>cnp.PyArray_DATA(array)


cdef int64_t *_int64(object array):
    return <int64_t *>cnp.PyArray_DATA(array)


cdef object _held(const int32_t *firsts, int64_t group_count):
    """The groups (ascending) that have a window: not -1."""
    live = np.zeros(group_count, np.bool_)
    cdef uint64_t i
    cdef char *marks = <char *>cnp.PyArray_DATA(live)
    for i in range(<uint64_t>group_count):
        marks[i] = firsts[i] != -1
    return np.flatnonzero(live).astype(np.int32)


cdef class _Sessions:
    """Open sessions of every group, ``gap_ns`` apart.  After an exception the state is of no further use."""

    cdef af_sessions state

    def __cinit__(self, gap_ns):
        if not 0 < gap_ns < 2**63:
            raise ValueError("a gap is 1 .. 2**63 - 1 ns")
        if not af_sessions_init(&self.state, gap_ns, SEED):
            raise MemoryError

    def __dealloc__(self):
        af_sessions_free(&self.state)

    def assign(self, groups, group_count, time, watermarks, watermark_before, delay_ns):
        """The slot of each row, in order: ``(slots, late, merges)``.  ``late``: positions of late rows, whose slot is 0.  ``merges``:
        ``(rows, into, source)``: before row ``rows[i]`` the sessions ``into[i]`` and ``source[i]`` became one, in slot ``into[i]``."""
        cdef int64_t count = len(groups), known = group_count, before = watermark_before, delay = delay_ns, late_count = 0, i
        groups = _array(groups, cnp.NPY_INT32, count)
        check_ids(_int32(groups), count, known)
        time = _array(time, cnp.NPY_INT64, count)
        slots, late = _empty(count, cnp.NPY_INT32), _empty(count, cnp.NPY_INT64)
        cdef const int32_t *ids = _int32(groups)
        cdef const int64_t *times = _int64(time)
        cdef const int64_t *marks = NULL
        cdef int32_t *given = _int32(slots)
        cdef int64_t *put_aside = _int64(late)
        if watermarks is not None:
            watermarks = _array(watermarks, cnp.NPY_INT64, count)
            marks = _int64(watermarks)
        cdef bint done
        with nogil:
            done = af_sessions_assign(
                &self.state, ids, count, known, times, marks, before, delay, given, put_aside, &late_count)
        if not done:
            raise MemoryError
        cdef int64_t merges = self.state.joined_count
        rows, into, source = _empty(merges, cnp.NPY_INT64), _empty(merges, cnp.NPY_INT32), _empty(merges, cnp.NPY_INT32)
        for i in range(merges):
            _int64(rows)[i] = self.state.joined[i].row
            _int32(into)[i] = self.state.joined[i].into
            _int32(source)[i] = self.state.joined[i].source
        return slots, late[:late_count].astype(np.intp), (rows, into, source)

    def close(self, watermark_ns):
        """The sessions that end by the watermark, by end, then start, then group: ``(slots, groups, starts, ends)``; bounds are clamped
        to int64.  Their slots are given out again by the next ``assign``."""
        cdef int64_t watermark = watermark_ns, i, count
        cdef af_closing *session
        cdef bint done
        with nogil:
            done = af_sessions_close(&self.state, watermark)
        if not done:
            raise MemoryError
        count = self.state.closing_count
        slots, groups = _empty(count, cnp.NPY_INT32), _empty(count, cnp.NPY_INT32)
        starts, ends = _empty(count, cnp.NPY_INT64), _empty(count, cnp.NPY_INT64)
        for i in range(count):
            session = &self.state.closing[i]
            _int32(slots)[i] = session.slot
            _int32(groups)[i] = session.group
            _int64(starts)[i] = session.start
            _int64(ends)[i] = session.end
        if not af_sessions_closed(&self.state):
            raise MemoryError
        return slots, groups, starts, ends

    @property
    def slot_count(self):
        """Slots are 0 .. slot_count - 1."""
        return self.state.slots.top

    @property
    def windows_closed(self):
        return self.state.closed

    @property
    def open_windows(self):
        return self.state.open

    @property
    def next_end(self):
        """When the session that ends first ends, clamped to int64; None where there is none."""
        cdef int64_t end = 0
        return end if af_sessions_next_end(&self.state, &end) else None

    @property
    def nbytes(self):
        return af_sessions_bytes(&self.state)

    def live_groups(self, group_count):
        """The groups (ascending) that have an open session."""
        return _held(self.state.owned, min(group_count, self.state.group_count))

    def keep(self, groups):
        """Renames groups: ``groups[i]`` becomes i.  Every live group is among them (ascending)."""
        groups = _array(groups, cnp.NPY_INT32, -1)
        check_kept(_int32(groups), len(groups), self.state.group_count)
        if not af_sessions_rename(&self.state, _int32(groups), len(groups)):
            raise MemoryError

    def keep_slots(self):
        """Renames slots, without those that are free: the old ones (ascending), slot 0 first; the i-th becomes i."""
        kept = _empty(self.state.slots.top, cnp.NPY_INT32)
        if not af_sessions_compact(&self.state, _int32(kept)):
            raise MemoryError
        return kept[: self.state.slots.top].copy()


Sessions = guarded(_Sessions, "Sessions", open_windows=0, next_end=None)


cdef class _CountWindows:
    """Windows of ``size`` rows by group.  After an exception the state is of no further use."""

    cdef af_counts state

    def __cinit__(self, size):
        if not 0 < size < 2**63:
            raise ValueError("a window has 1 .. 2**63 - 1 rows")
        self.state.size = size

    def __dealloc__(self):
        af_counts_free(&self.state)

    def assign(self, groups, group_count, time):
        """The slot of each row, and the windows that are full now, in the order in which they filled: ``(slots, filled)``, ``filled`` being
        ``(slots, groups, firsts, lasts, rows)``: times of the first and last row by arrival, and the position of the row that filled it.
        Their slots are given out again by the next call."""
        cdef int64_t count = len(groups), known = group_count
        groups = _array(groups, cnp.NPY_INT32, count)
        check_ids(_int32(groups), count, known)
        slots = _empty(count, cnp.NPY_INT32)
        cdef const int32_t *ids = _int32(groups)
        cdef const int64_t *times = NULL
        cdef int32_t *given = _int32(slots)
        if time is not None:
            time = _array(time, cnp.NPY_INT64, count)
            times = _int64(time)
        cdef bint done
        with nogil:
            done = af_counts_assign(&self.state, ids, count, known, times, given)
        if not done:
            raise MemoryError
        return slots, self._filled()

    def rest(self):
        """The windows that are not full, by group, as ``filled`` (rows -1); they are closed by this."""
        if not af_counts_rest(&self.state):
            raise MemoryError
        return self._filled()

    cdef object _filled(self):
        cdef int64_t count = self.state.filled_count, i
        cdef af_counted *window
        slots, groups, rows = _empty(count, cnp.NPY_INT32), _empty(count, cnp.NPY_INT32), _empty(count, cnp.NPY_INT64)
        firsts, lasts = _empty(count, cnp.NPY_INT64), _empty(count, cnp.NPY_INT64)
        for i in range(count):
            window = &self.state.windows[self.state.filled[i].slot]
            _int32(slots)[i] = self.state.filled[i].slot
            _int32(groups)[i] = window.group
            _int64(firsts)[i] = window.first
            _int64(lasts)[i] = window.last
            _int64(rows)[i] = self.state.filled[i].row
        return slots, groups, firsts, lasts, rows

    @property
    def slot_count(self):
        """Slots are 0 .. slot_count - 1."""
        return self.state.slots.top

    @property
    def windows_closed(self):
        return self.state.closed

    @property
    def open_windows(self):
        return self.state.open

    @property
    def nbytes(self):
        cdef uint64_t small = self.state.group_capacity + self.state.slots.free_capacity
        return small * 4 + self.state.window_capacity * sizeof(af_counted) + self.state.filled_capacity * sizeof(af_filled)

    def live_groups(self, group_count):
        """The groups (ascending) that have an open window."""
        return _held(self.state.current, min(group_count, self.state.group_count))

    def keep(self, groups):
        """Renames groups: ``groups[i]`` becomes i.  Every live group is among them (ascending)."""
        groups = _array(groups, cnp.NPY_INT32, -1)
        check_kept(_int32(groups), len(groups), self.state.group_count)
        af_counts_rename(&self.state, _int32(groups), len(groups))

    def keep_slots(self):
        """Renames slots, without those that are free or were given out as full: the old ones (ascending); the i-th becomes i."""
        kept = _empty(self.state.slots.top, cnp.NPY_INT32)
        return kept[: af_counts_compact(&self.state, _int32(kept))].copy()


CountWindows = guarded(_CountWindows, "CountWindows", open_windows=0)
