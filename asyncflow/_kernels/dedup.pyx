"""Which rows are the first of their key: the memory of a dedup stage.

State: for each group a list of the times of rows that went on, greatest first, in one pool of entries (time, next) with a list of free
ones.  A row walks its group's list down to its own time: in-order rows meet their answer at the first entry.  Entries below the stage's
watermark - within are given back when a walk or a sweep meets them.  Cost: one list step per row plus one for each remembered time
above it; 12 bytes an entry, 4 a group.  See the twin for what the results are.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint64_t

import numpy as np

cdef int64_t NO_TIME = -(<int64_t>1 << 62) * 2
cdef int32_t NONE = -1


cdef class DedupState:
    """The remembered times.  ``within_ns``: how far a row may be from one that went on and still be its duplicate."""

    cdef uint64_t within
    cdef object _heads, _times, _nexts
    cdef int32_t groups, used, free
    cdef readonly Py_ssize_t entries

    def __init__(self, within_ns):
        if not 0 <= within_ns < 1 << 63:
            raise ValueError("within_ns must be in 0 .. 2**63 - 1")
        self.within = within_ns
        self._heads = np.empty(0, np.int32)
        self._times = np.empty(0, np.int64)
        self._nexts = np.empty(0, np.int32)
        self.groups, self.used, self.free, self.entries = 0, 0, NONE, 0

    @property
    def nbytes(self):
        return self._heads.nbytes + self._times.nbytes + self._nexts.nbytes

    def add(self, const int32_t[::1] groups, int group_count, const int64_t[::1] time, const int64_t[::1] watermarks, int64_t watermark_ns):
        """A bool for each row: whether it goes on.  See the twin."""
        cdef Py_ssize_t rows = groups.shape[0], row
        if time.shape[0] != rows or watermarks.shape[0] != rows:
            raise ValueError("the arrays differ in length")
        self._reserve(group_count, rows)
        fresh = np.empty(rows, np.bool_)
        cdef uint8_t[::1] out = fresh.view(np.uint8)
        cdef int32_t[::1] heads = self._heads
        cdef int64_t[::1] times = self._times
        cdef int32_t[::1] nexts = self._nexts
        cdef int64_t gone = self._floor(watermark_ns)
        cdef bint outside = False
        with nogil:
            for row in range(rows):
                if not 0 <= groups[row] < group_count:
                    outside = True
                    break
                out[row] = self._take(
                    &heads[groups[row]], &times[0], &nexts[0], time[row], self._floor(watermarks[row]), gone
                )
        if outside:
            raise IndexError(f"a group outside of 0..{group_count - 1}")
        return fresh

    def live_groups(self, int64_t watermark_ns):
        """Forgets what this watermark has passed; the groups (int32, ascending) that still remember anything."""
        cdef int64_t gone = self._floor(watermark_ns)
        cdef int32_t[::1] heads = self._heads
        cdef int64_t[::1] times = self._times
        cdef int32_t[::1] nexts = self._nexts
        cdef int32_t group
        cdef int32_t *link
        for group in range(self.groups):
            link = &heads[group]
            while link[0] != NONE and times[link[0]] >= gone:
                link = &nexts[link[0]]
            if link[0] != NONE:
                self._cut(link, &nexts[0])
        return np.flatnonzero(self._heads[: self.groups] != NONE).astype(np.int32)

    def keep(self, groups):
        """Renames groups: ``groups[i]`` becomes i.  Every group that remembers anything is among them (ascending)."""
        cdef int32_t[::1] heads, nexts
        cdef int64_t[::1] times, old_times = self._times
        cdef int32_t[::1] old_nexts = self._nexts
        cdef int32_t group, at, place = 0
        self._heads = self._heads[groups]
        self.groups = len(self._heads)
        self._times, self._nexts = np.empty(self.entries, np.int64), np.empty(self.entries, np.int32)
        heads, times, nexts = self._heads, self._times, self._nexts
        for group in range(self.groups):
            at = heads[group]
            if at != NONE:
                heads[group] = place
            while at != NONE:
                times[place] = old_times[at]
                at = old_nexts[at]
                nexts[place] = place + 1 if at != NONE else NONE
                place += 1
        self.used, self.free = place, NONE

    cdef inline int64_t _floor(self, int64_t watermark) noexcept nogil:
        """What is below it is forgotten."""
        if <uint64_t>watermark - <uint64_t>NO_TIME < self.within:
            return NO_TIME
        return watermark - <int64_t>self.within

    cdef inline bint _take(
        self, int32_t *link, int64_t *times, int32_t *nexts, int64_t time, int64_t limit, int64_t gone
    ) noexcept nogil:
        cdef int32_t at
        cdef int32_t *place = link
        while link[0] != NONE:
            at = link[0]
            if times[at] < gone:
                self._cut(link, nexts)
                break
            if times[at] > time:
                if times[at] >= limit and <uint64_t>times[at] - <uint64_t>time <= self.within:
                    return False
                link = place = &nexts[at]
                continue
            if times[at] >= limit and <uint64_t>time - <uint64_t>times[at] <= self.within:
                return False
            break
        if time >= gone:
            if self.free != NONE:
                at = self.free
                self.free = nexts[at]
            else:
                at = self.used
                self.used += 1
            times[at], nexts[at] = time, place[0]
            place[0] = at
            self.entries += 1
        return True

    cdef inline void _cut(self, int32_t *link, int32_t *nexts) noexcept nogil:
        """Gives this entry and all after it back."""
        cdef int32_t at = link[0], following
        link[0] = NONE
        while at != NONE:
            following = nexts[at]
            nexts[at] = self.free
            self.free = at
            self.entries -= 1
            at = following

    cdef int _reserve(self, int group_count, Py_ssize_t rows) except -1:
        """Room for these groups, and for an entry for each row (at least one, so that there is an address)."""
        if group_count > len(self._heads):
            self._heads = _grown(self._heads, max(group_count, 2 * len(self._heads)))
        if group_count > self.groups:
            self._heads[self.groups : group_count] = NONE
            self.groups = group_count
        needed = self.used + max(rows, 1)
        if needed > 0x7FFFFFFF:
            raise OverflowError("more than 2**31 times to remember")
        if needed > len(self._times):
            needed = max(needed, min(2 * len(self._times), 0x7FFFFFFF))
            self._times, self._nexts = _grown(self._times, needed), _grown(self._nexts, needed)
        return 0


cdef object _grown(array, Py_ssize_t size):
    grown = np.empty(size, array.dtype)
    grown[: len(array)] = array
    return grown
