"""Session windows and count windows: which slot of the window kernel's state each row belongs to.

The slots hold the aggregates.  The design is in words at the head of sessions.h, sets.h and counted.h; the twin defines the results.
Cost: a few ns a row while a key's rows come in order, else O(log n) of its open sessions; a step for each gap of a session's life;
memory for open windows only.
"""

from libc.stdint cimport INT64_MIN, int32_t, int64_t, uint64_t

import os

import numpy as np

from asyncflow._kernels.base.guarded import guarded
from asyncflow._kernels.base.saved import Parts, by_place
from asyncflow._kernels.sessions import saved

cimport numpy as cnp

from asyncflow._kernels.base.arrays cimport array_of, empty, int32_data, int64_data
from asyncflow._kernels.base.views cimport check_ids, check_kept
from asyncflow._kernels.sessions.state cimport (
    af_closing, af_count_windows, af_counted, af_counts_assign, af_counts_compact, af_counts_free, af_counts_load,
    af_counts_rename, af_counts_rest, af_counts_save, af_filled, af_sessions, af_sessions_assign, af_sessions_bytes,
    af_sessions_close, af_sessions_closed, af_sessions_compact, af_sessions_free, af_sessions_init, af_sessions_load,
    af_sessions_next_end, af_sessions_rename, af_sessions_save,
)

cnp.import_array()

cdef uint64_t SEED = int.from_bytes(os.urandom(8), "little")


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
    cdef object frozen

    def __cinit__(self, gap_ns):
        self.frozen = Parts()
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
        groups = array_of(groups, cnp.NPY_INT32, count)
        check_ids(int32_data(groups), count, known)
        time = array_of(time, cnp.NPY_INT64, count)
        slots, late = empty(count, cnp.NPY_INT32), empty(count, cnp.NPY_INT64)
        cdef const int32_t *ids = int32_data(groups)
        cdef const int64_t *times = int64_data(time)
        cdef const int64_t *marks = NULL
        cdef int32_t *given = int32_data(slots)
        cdef int64_t *put_aside = int64_data(late)
        if watermarks is not None:
            watermarks = array_of(watermarks, cnp.NPY_INT64, count)
            marks = int64_data(watermarks)
        cdef bint done
        with nogil:
            done = af_sessions_assign(
                &self.state, ids, count, known, times, marks, before, delay, given, put_aside, &late_count)
        if not done:
            raise MemoryError
        cdef int64_t merges = self.state.joined_count
        rows, into, source = empty(merges, cnp.NPY_INT64), empty(merges, cnp.NPY_INT32), empty(merges, cnp.NPY_INT32)
        for i in range(merges):
            int64_data(rows)[i] = self.state.joined[i].row
            int32_data(into)[i] = self.state.joined[i].into
            int32_data(source)[i] = self.state.joined[i].source
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
        slots, groups = empty(count, cnp.NPY_INT32), empty(count, cnp.NPY_INT32)
        starts, ends = empty(count, cnp.NPY_INT64), empty(count, cnp.NPY_INT64)
        for i in range(count):
            session = &self.state.closing[i]
            int32_data(slots)[i] = session.slot
            int32_data(groups)[i] = session.group
            int64_data(starts)[i] = session.start
            int64_data(ends)[i] = session.end
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
        groups = array_of(groups, cnp.NPY_INT32, -1)
        check_kept(int32_data(groups), len(groups), self.state.group_count)
        if not af_sessions_rename(&self.state, int32_data(groups), len(groups)):
            raise MemoryError

    def keep_slots(self):
        """Renames slots, without those that are free: the old ones (ascending), slot 0 first; the i-th becomes i."""
        kept = empty(self.state.slots.top, cnp.NPY_INT32)
        if not af_sessions_compact(&self.state, int32_data(kept)):
            raise MemoryError
        return kept[: self.state.slots.top].copy()

    cdef tuple _in_order(self, rank):
        """Slots, places of the groups, first and last times of the open sessions, in the order in which they are saved."""
        cdef int64_t count = self.state.open
        slots, groups = empty(count, cnp.NPY_INT32), empty(count, cnp.NPY_INT32)
        first, last = empty(count, cnp.NPY_INT64), empty(count, cnp.NPY_INT64)
        af_sessions_save(&self.state, int32_data(slots), int32_data(groups), int64_data(first), int64_data(last))
        order, places = by_place(rank, groups, first, last)
        return slots[order], places, first[order], last[order]

    def slot_ranks(self, rank):
        """The slot (int32) that each slot is after ``load`` of what ``freeze(rank)`` says now; -1: a slot without a session."""
        slots = self._in_order(rank)[0]
        ranks = np.full(self.state.slots.top, -1, np.int32)
        ranks[0] = 0
        ranks[slots] = np.arange(1, len(slots) + 1, dtype=np.int32)
        return ranks

    def freeze(self, rank):
        """The fields of a snapshot, whose parts ``pieces`` gives from now on: see the twin.  ``rank``: of each group its place."""
        _, places, first, last = self._in_order(rank)
        self.frozen = Parts({"group": places, "first": first, "last": last})
        return {
            "gap_ns": self.state.gap,
            "watermark_ns": self.state.advanced,
            "greatest_watermark_ns": self.state.greatest_mark,
            "mixed": bool(self.state.mixed),
            "windows_closed": self.state.closed,
            "groups": len(rank),
        }

    def pieces(self, budget):
        """The next parts of the snapshot, of about ``budget`` bytes: ``[(name, array), ...]``; None: all were given."""
        return self.frozen.pieces(budget)

    def drop(self):
        """The snapshot is given up."""
        self.frozen.drop()

    def load(self, fields, parts):
        """Takes a snapshot into a state that had no row: session i is slot i + 1.  ValueError says what does not fit."""
        if self.state.slots.top > 1 or self.state.advanced != INT64_MIN:
            raise ValueError("a snapshot is loaded into a state that had rows")
        groups, first, last = saved.sessions(fields, parts, self.state.gap)
        cdef int64_t count = len(groups), group_count = int(groups.max()) + 1 if count else 0
        cdef bint done
        order = np.lexsort((last, groups)).astype(np.int64)
        self.state.advanced = fields["watermark_ns"]
        self.state.greatest_mark = fields["greatest_watermark_ns"]
        self.state.mixed = fields["mixed"]
        self.state.closed = fields["windows_closed"]
        done = af_sessions_load(
            &self.state, int32_data(groups), int64_data(first), int64_data(last), int64_data(order), count, group_count)
        if not done:
            raise MemoryError


Sessions = guarded(_Sessions, "Sessions", open_windows=0, next_end=None)


cdef class _CountWindows:
    """Windows of ``size`` rows by group.  After an exception the state is of no further use."""

    cdef af_count_windows state
    cdef object frozen

    def __cinit__(self, size):
        self.frozen = Parts()
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
        groups = array_of(groups, cnp.NPY_INT32, count)
        check_ids(int32_data(groups), count, known)
        slots = empty(count, cnp.NPY_INT32)
        cdef const int32_t *ids = int32_data(groups)
        cdef const int64_t *times = NULL
        cdef int32_t *given = int32_data(slots)
        if time is not None:
            time = array_of(time, cnp.NPY_INT64, count)
            times = int64_data(time)
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
        slots, groups, rows = empty(count, cnp.NPY_INT32), empty(count, cnp.NPY_INT32), empty(count, cnp.NPY_INT64)
        firsts, lasts = empty(count, cnp.NPY_INT64), empty(count, cnp.NPY_INT64)
        for i in range(count):
            window = &self.state.windows[self.state.filled[i].slot]
            int32_data(slots)[i] = self.state.filled[i].slot
            int32_data(groups)[i] = window.group
            int64_data(firsts)[i] = window.first
            int64_data(lasts)[i] = window.last
            int64_data(rows)[i] = self.state.filled[i].row
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
        groups = array_of(groups, cnp.NPY_INT32, -1)
        check_kept(int32_data(groups), len(groups), self.state.group_count)
        af_counts_rename(&self.state, int32_data(groups), len(groups))

    def keep_slots(self):
        """Renames slots, without those that are free or were given out as full: the old ones (ascending); the i-th becomes i."""
        kept = empty(self.state.slots.top, cnp.NPY_INT32)
        return kept[: af_counts_compact(&self.state, int32_data(kept))].copy()

    cdef tuple _in_order(self, rank):
        """Slots, places of the groups, rows, first and last times of the open windows, in the order in which they are saved."""
        cdef int64_t count = self.state.open
        slots, groups, rows = empty(count, cnp.NPY_INT32), empty(count, cnp.NPY_INT32), empty(count, cnp.NPY_INT64)
        first, last = empty(count, cnp.NPY_INT64), empty(count, cnp.NPY_INT64)
        af_counts_save(
            &self.state, int32_data(slots), int32_data(groups), int64_data(rows), int64_data(first), int64_data(last))
        order, places = by_place(rank, groups)
        return slots[order], places, rows[order], first[order], last[order]

    def slot_ranks(self, rank):
        """The slot (int32) that each slot is after ``load`` of what ``freeze(rank)`` says now; -1: a slot without a window."""
        slots = self._in_order(rank)[0]
        ranks = np.full(self.state.slots.top, -1, np.int32)
        ranks[slots] = np.arange(len(slots), dtype=np.int32)
        return ranks

    def freeze(self, rank):
        """The fields of a snapshot, whose parts ``pieces`` gives from now on: see the twin.  ``rank``: of each group its place."""
        _, places, rows, first, last = self._in_order(rank)
        self.frozen = Parts({"group": places, "rows": rows, "first": first, "last": last})
        return {"size": self.state.size, "windows_closed": self.state.closed, "groups": len(rank)}

    def pieces(self, budget):
        """The next parts of the snapshot, of about ``budget`` bytes: ``[(name, array), ...]``; None: all were given."""
        return self.frozen.pieces(budget)

    def drop(self):
        """The snapshot is given up."""
        self.frozen.drop()

    def load(self, fields, parts):
        """Takes a snapshot into a state that had no row: window i is slot i.  ValueError says what does not fit."""
        if self.state.slots.top or self.state.closed:
            raise ValueError("a snapshot is loaded into a state that had rows")
        groups, rows, first, last = saved.windows(fields, parts, self.state.size)
        cdef int64_t count = len(groups), group_count = int(groups[count - 1]) + 1 if count else 0
        cdef bint done = af_counts_load(
            &self.state, int32_data(groups), int64_data(rows), int64_data(first), int64_data(last), count, group_count)
        if not done:
            raise MemoryError
        self.state.closed = fields["windows_closed"]


CountWindows = guarded(_CountWindows, "CountWindows", open_windows=0)
