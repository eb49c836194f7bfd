"""Which rows are the first of their key: the memory of a dedup stage.

The design is in words at the head of dedup.h; the twin defines the results.  Cost: one step for a row while a key's rows come in order,
else O(log n) of the times that are remembered of the key; 16 bytes for each key, and for each further time of it.
"""

from libc.stdint cimport INT64_MIN, int32_t, int64_t, uint8_t, uint64_t

import os

import numpy as np

from asyncflow._kernels.base.guarded import guarded
from asyncflow._kernels.base.saved import Parts, by_place
from asyncflow._kernels.dedup import saved

cimport numpy as cnp

from asyncflow._kernels.base.arrays cimport empty, int32_data, int64_data
from asyncflow._kernels.base.views cimport check_ids, check_kept

cnp.import_array()

cdef extern from "dedup/saved.h" nogil:
    ctypedef struct af_time:
        pass
    ctypedef struct af_seen:
        pass
    ctypedef struct af_dedup:
        uint64_t within
        int64_t watermark
        int64_t group_count, group_capacity, groups_held, time_capacity, older

    void af_dedup_init(af_dedup *, uint64_t within, uint64_t seed)
    void af_dedup_free(af_dedup *)
    bint af_dedup_add(
        af_dedup *, const int32_t *groups, int64_t count, int64_t group_count, const int64_t *time, const int64_t *watermarks,
        int64_t before, int64_t delay, int64_t watermark, uint8_t *fresh)
    void af_dedup_sweep(af_dedup *, int64_t watermark)
    void af_dedup_live(const af_dedup *, int32_t *groups)
    bint af_dedup_keep(af_dedup *, const int32_t *groups, int64_t count)
    int64_t af_dedup_save(const af_dedup *, int32_t *groups, int64_t *times)
    bint af_dedup_load(af_dedup *, const int32_t *groups, const int64_t *times, int64_t count, int64_t group_count)

cdef uint64_t SEED = int.from_bytes(os.urandom(8), "little")


cdef class _DedupState:
    """The remembered times.  ``within_ns``: how far a row may be from one that went on and still be its duplicate.  After a MemoryError
    the state is of no further use."""

    cdef af_dedup state
    cdef object frozen

    def __cinit__(self, within_ns):
        self.frozen = Parts()
        if not 0 <= within_ns < 1 << 63:
            raise ValueError("within_ns must be in 0 .. 2**63 - 1")
        af_dedup_init(&self.state, within_ns, SEED)

    def __dealloc__(self):
        af_dedup_free(&self.state)

    @property
    def entries(self):
        """How many times are remembered."""
        return self.state.groups_held + self.state.older

    @property
    def nbytes(self):
        return self.state.time_capacity * sizeof(af_time) + self.state.group_capacity * sizeof(af_seen)

    def add(
        self,
        const int32_t[::1] groups,
        int group_count,
        const int64_t[::1] time,
        const int64_t[::1] watermarks,
        int64_t watermark_ns,
        int64_t watermark_before=INT64_MIN,
        int64_t delay_ns=0,
    ):
        """A bool for each row: whether it goes on.  See the twin."""
        cdef Py_ssize_t rows = groups.shape[0]
        if time.shape[0] != rows or (watermarks is not None and watermarks.shape[0] != rows):
            raise ValueError("the arrays differ in length")
        if delay_ns < 0:
            raise ValueError("delay_ns is below 0")
        if rows:
            check_ids(&groups[0], rows, group_count)
        fresh = np.empty(rows, np.bool_)
        cdef uint8_t[::1] out = fresh.view(np.uint8)
        cdef const int64_t *marks = &watermarks[0] if rows and watermarks is not None else NULL
        cdef bint done
        with nogil:
            done = af_dedup_add(
                &self.state, &groups[0] if rows else NULL, rows, group_count, &time[0] if rows else NULL, marks,
                watermark_before, delay_ns, watermark_ns, &out[0] if rows else NULL)
        if not done:
            raise MemoryError
        return fresh

    def live_groups(self, int64_t watermark_ns):
        """Forgets what this watermark has passed; the groups (int32, ascending) that still remember anything."""
        with nogil:
            af_dedup_sweep(&self.state, watermark_ns)
        live = empty(self.state.groups_held, cnp.NPY_INT32)
        cdef int32_t *groups = int32_data(live)
        with nogil:
            af_dedup_live(&self.state, groups)
        return live

    def keep(self, groups):
        """Renames groups: ``groups[i]`` becomes i.  Every group that remembers anything is among them (ascending)."""
        cdef const int32_t[::1] names = np.ascontiguousarray(groups, np.int32)
        cdef int64_t count = names.shape[0]
        if count:
            check_kept(&names[0], count, self.state.group_count)
        if not af_dedup_keep(&self.state, &names[0] if count else NULL, count):
            raise MemoryError

    def freeze(self, rank):
        """The fields of a snapshot, whose parts ``pieces`` gives from now on: see the twin.  ``rank``: of each group its place."""
        groups, times = empty(self.entries, cnp.NPY_INT32), empty(self.entries, cnp.NPY_INT64)
        cdef int64_t count = af_dedup_save(&self.state, int32_data(groups), int64_data(times))
        order, places = by_place(rank, groups[:count], times[:count])
        self.frozen = Parts({"group": places, "time": times[order]})
        return {"within_ns": <int64_t>self.state.within, "watermark_ns": self.state.watermark, "groups": len(rank)}

    def pieces(self, budget):
        """The next parts of the snapshot, of about ``budget`` bytes: ``[(name, array), ...]``; None: all were given."""
        return self.frozen.pieces(budget)

    def drop(self):
        """The snapshot is given up."""
        self.frozen.drop()

    def load(self, fields, parts):
        """Takes a snapshot into a state that had no row.  ValueError says what does not fit."""
        if self.state.group_count or self.state.watermark != INT64_MIN:
            raise ValueError("a snapshot is loaded into a state that had rows")
        groups, times = saved.entries(fields, parts, self.state.within)
        cdef int64_t count = len(groups), group_count = int(groups[count - 1]) + 1 if count else 0
        if not af_dedup_load(&self.state, int32_data(groups), int64_data(times), count, group_count):
            raise MemoryError
        self.state.watermark = fields["watermark_ns"]


DedupState = guarded(_DedupState, "DedupState")
