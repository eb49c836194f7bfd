"""The first rows of each window and group: the memory of a top stage.

The design is in words at the head of state.h; the twin defines the results.  Cost of a row in a window: its cell, which is fetched ahead,
and one compare; of a row that is kept O(log n) compares more, and its columns once a batch.  Memory: the columns of the rows that are
held, 16 bytes a row and 32 a cell besides, and in windows 13 to 26 for the way to the cell.
"""

from libc.stdint cimport INT64_MAX, int32_t, int64_t, uint8_t, uint64_t

import os

import numpy as np

from asyncflow._kernels.base.guarded import guarded

cimport numpy as cnp
from libc.stdlib cimport calloc, free

from asyncflow._kernels.base.arrays cimport array_of, empty, int32_data, int64_data, uint8_data
from asyncflow._kernels.base.views cimport check_ids, check_kept, check_views

cnp.import_array()

cdef extern from "top/rows_out.h" nogil:
    ctypedef enum af_best_kind:
        AF_BEST_INT64
        AF_BEST_FLOAT64
        AF_BEST_BOOL
        AF_BEST_TEXT
    ctypedef enum af_best_ranked:
        AF_BEST_RANKED
        AF_BEST_NO_MEMORY
        AF_BEST_NO_RANK
    ctypedef struct af_best_input:
        const uint8_t *data
        const int32_t *starts
        const int32_t *lengths
        const uint8_t *valid
    ctypedef struct af_best_column:
        af_best_kind kind
        bint nullable
    ctypedef struct af_best_rows:
        af_best_column *columns
        int32_t count
    ctypedef struct af_best_order:
        af_best_kind kind
        bint descending, nulls_first
        int32_t column
    ctypedef struct af_best_window:
        int64_t number
    ctypedef struct af_slots:
        int64_t top
    ctypedef struct af_best:
        int64_t held, window_count
        af_best_window *windows
        af_slots places
        af_best_rows rows
        int32_t payload, order_count
        af_best_order *order
        bint windowed
    ctypedef struct af_best_batch:
        const int32_t *groups
        const int64_t *first
        const int64_t *last
        const int64_t *arrivals
        const af_best_input *inputs
        const af_best_input *order
        int64_t count, group_count

    bint af_best_init(af_best *, int64_t most, bint windowed, uint64_t seed, int32_t columns, int32_t payload, int32_t order)
    void af_best_free(af_best *)
    uint64_t af_best_bytes(const af_best *)
    bint af_best_add(af_best *, const af_best_batch *)
    int64_t af_best_windows_upto(const af_best *, int64_t limit)
    int64_t af_best_rows_of(const af_best *, int64_t windows, int64_t *cells, int64_t *deepest)
    af_best_ranked af_best_rank(
        af_best *, int64_t windows, int64_t most_cells, int64_t deepest, const int32_t *ranks, int64_t groups, int32_t *places,
        int64_t *numbers, int64_t *rows, int64_t *arrivals)
    bint af_best_release(af_best *, int64_t windows)
    void af_best_mark_groups(const af_best *, uint8_t *marks)
    int64_t af_best_groups_end(const af_best *)
    bint af_best_rename(af_best *, const int32_t *names)
    void af_best_rows_lay_out(af_best_rows *)
    bint af_best_column_valid(const af_best_rows *, const af_best_column *, const int32_t *places, int64_t count, uint8_t *valid)
    void af_best_column_values(const af_best_rows *, const af_best_column *, const int32_t *places, int64_t count, void *out)
    int64_t af_best_column_lengths(
        const af_best_rows *, const af_best_column *, const int32_t *places, int64_t count, int32_t *starts, int32_t *lengths)
    void af_best_column_texts(const af_best_rows *, const af_best_column *, const int32_t *places, int64_t count, uint8_t *out)

cdef uint64_t SEED = int.from_bytes(os.urandom(8), "little")

cdef dict KINDS = {
    "int64": AF_BEST_INT64, "timestamp": AF_BEST_INT64, "float64": AF_BEST_FLOAT64, "bool": AF_BEST_BOOL, "string": AF_BEST_TEXT
}
cdef dict TYPENUMS = {AF_BEST_INT64: cnp.NPY_INT64, AF_BEST_FLOAT64: cnp.NPY_FLOAT64, AF_BEST_BOOL: cnp.NPY_BOOL}


cdef int read_column(list held, object column, af_best_kind kind, Py_ssize_t count, af_best_input *input) except -1:
    """The addresses of a raw column, whose arrays are added to ``held``."""
    valid = column[len(column) - 1]
    if valid is not None:
        valid = array_of(valid, cnp.NPY_BOOL, count)
        held.append(valid)
    input.valid = uint8_data(valid)
    if kind != AF_BEST_TEXT:
        values = array_of(column[0], TYPENUMS[kind], count)
        held.append(values)
        input.data = uint8_data(values)
        return 0
    data, starts, lengths = column[:3]
    data = array_of(data, cnp.NPY_UINT8, -1)
    starts = array_of(starts, cnp.NPY_INT32, count)
    lengths = array_of(lengths, cnp.NPY_INT32, count)
    check_views(int32_data(starts), int32_data(lengths), count, cnp.PyArray_SIZE(data))
    held += [data, starts, lengths]
    input.data = uint8_data(data)
    input.starts = int32_data(starts)
    input.lengths = int32_data(lengths)
    return 0


cdef class _TopState:
    """The rows that are held.  After a MemoryError the state is of no further use."""

    cdef af_best top
    cdef list kinds
    cdef object ranked  # the places of the last ranking, until the rows change

    def __cinit__(self, n, columns, order, bint windowed):
        if n < 1:
            raise ValueError("n must be at least 1")
        self.kinds = list(columns)
        cdef list stored = [KINDS[kind] for kind in columns]
        parts = []
        for position, (kind, descending, nulls_first) in enumerate(order):
            at = -1
            if position or kind == "string":
                at = len(stored)
                stored.append(KINDS[kind])
            parts.append((KINDS[kind], descending, nulls_first, at))
        if not af_best_init(&self.top, min(n, 2**31 - 2), windowed, SEED, len(stored), len(columns), len(parts)):
            raise MemoryError
        for position, kind in enumerate(stored):
            self.top.rows.columns[position].kind = kind
        af_best_rows_lay_out(&self.top.rows)
        for position, (kind, descending, nulls_first, at) in enumerate(parts):
            self.top.order[position] = af_best_order(kind, descending, nulls_first, at)

    def __dealloc__(self):
        af_best_free(&self.top)

    @property
    def held_rows(self):
        """How many rows are held."""
        return self.top.held

    @property
    def places(self):
        """How many rows there is memory for that was used."""
        return self.top.places.top

    @property
    def open_windows(self):
        return self.top.window_count

    @property
    def windows(self):
        """The numbers of the windows that hold rows (int64, ascending)."""
        numbers = empty(self.top.window_count, cnp.NPY_INT64)
        cdef int64_t *out = int64_data(numbers)
        cdef Py_ssize_t i
        for i in range(self.top.window_count):
            out[i] = self.top.windows[i].number
        return numbers

    @property
    def first_window(self):
        """The least number of a window that holds rows; None where none does."""
        return self.top.windows[0].number if self.top.window_count else None

    @property
    def nbytes(self):
        return af_best_bytes(&self.top)

    def add(self, groups, int64_t group_count, windows, columns, order, arrivals):
        """Takes rows.  See the twin."""
        groups = array_of(groups, cnp.NPY_INT32, -1)
        cdef Py_ssize_t count = len(groups), position
        if len(columns) != self.top.payload or len(order) != self.top.order_count or (windows is None) == self.top.windowed:
            raise ValueError("the arguments are not those of this state")
        check_ids(int32_data(groups), count, group_count)
        arrivals = array_of(arrivals, cnp.NPY_INT64, count)
        cdef list held = []
        cdef af_best_batch batch = af_best_batch(
            groups=int32_data(groups), first=NULL, last=NULL, arrivals=int64_data(arrivals), inputs=NULL, order=NULL, count=count,
            group_count=group_count,
        )
        if windows is not None:
            first, last = array_of(windows[0], cnp.NPY_INT64, count), array_of(windows[1], cnp.NPY_INT64, count)
            batch.first, batch.last = int64_data(first), int64_data(last)
        self.ranked = None
        cdef af_best_input leading
        cdef af_best_order *part
        cdef af_best_input *inputs = <af_best_input *>calloc(self.top.rows.count + 1, sizeof(af_best_input))
        if inputs == NULL:
            raise MemoryError
        cdef bint done
        try:
            for position in range(self.top.payload):
                read_column(held, columns[position], self.top.rows.columns[position].kind, count, &inputs[position])
            for position in range(self.top.order_count):
                part = &self.top.order[position]
                read_column(held, order[position], part.kind, count, &leading if part.column < 0 else &inputs[part.column])
            if self.top.order_count:
                batch.order = &leading if self.top.order[0].column < 0 else &inputs[self.top.order[0].column]
            batch.inputs = inputs
            with nogil:
                done = af_best_add(&self.top, &batch)
        finally:
            free(inputs)
        if not done:
            raise MemoryError

    def ranking(self, int64_t limit, ranks):
        """The rows of the windows up to ``limit``: see the twin."""
        ranks = array_of(ranks, cnp.NPY_INT32, -1)
        cdef int64_t cells, deepest, windows = af_best_windows_upto(&self.top, limit), groups = len(ranks)
        cdef int64_t count = af_best_rows_of(&self.top, windows, &cells, &deepest)
        places, arrivals = empty(count, cnp.NPY_INT32), empty(count, cnp.NPY_INT64)
        numbers, rows = empty(count, cnp.NPY_INT64), empty(count, cnp.NPY_INT64)
        cdef int32_t *out = int32_data(places)
        cdef const int32_t *rank = int32_data(ranks)
        cdef int64_t *number = int64_data(numbers)
        cdef int64_t *row = int64_data(rows)
        cdef int64_t *arrival = int64_data(arrivals)
        cdef af_best_ranked result
        with nogil:
            result = af_best_rank(&self.top, windows, cells, deepest, rank, groups, out, number, row, arrival)
        if result == AF_BEST_NO_MEMORY:
            raise MemoryError
        if result == AF_BEST_NO_RANK:
            raise ValueError("rank: a group that holds rows has no place")
        self.ranked = places
        return numbers, rows, arrivals

    def columns(self, int64_t start, int64_t stop, uint64_t max_bytes=0x7FFFFFFF):
        """The columns of rows ``start`` to ``stop`` of the last ranking: see the twin."""
        if self.ranked is None or not 0 <= start <= stop <= len(self.ranked):
            raise ValueError("these are no rows of a ranking")
        return [self._column(position, start, stop - start, min(max_bytes, <uint64_t>0x7FFFFFFF)) for position in range(self.top.payload)]

    cdef object _column(self, int position, int64_t start, int64_t count, uint64_t max_bytes):
        cdef const af_best_rows *rows = &self.top.rows
        cdef const af_best_column *column = &rows.columns[position]
        cdef const int32_t *places = int32_data(self.ranked) + start
        valid = empty(count, cnp.NPY_BOOL) if column.nullable else None
        cdef void *out
        if valid is not None and not af_best_column_valid(rows, column, places, count, uint8_data(valid)):
            valid = None
        if column.kind != AF_BEST_TEXT:
            values = empty(count, TYPENUMS[column.kind])
            out = cnp.PyArray_DATA(values)
            with nogil:
                af_best_column_values(rows, column, places, count, out)
            return values, valid
        starts, lengths = empty(count, cnp.NPY_INT32), empty(count, cnp.NPY_INT32)
        cdef int64_t total = af_best_column_lengths(rows, column, places, count, int32_data(starts), int32_data(lengths))
        if <uint64_t>total > max_bytes:
            raise OverflowError(f"the texts of {count} rows have {total} bytes, more than {max_bytes}")
        data = empty(total, cnp.NPY_UINT8)
        cdef uint8_t *text = uint8_data(data)
        with nogil:
            af_best_column_texts(rows, column, places, count, text)
        return data, starts, lengths, valid

    def release(self, int64_t limit):
        """Forgets the windows up to ``limit``; how many they were."""
        cdef int64_t windows = af_best_windows_upto(&self.top, limit)
        self.ranked = None
        if not af_best_release(&self.top, windows):
            raise MemoryError
        return windows

    def live_groups(self, int64_t group_count):
        """The groups (int32, ascending) of ``group_count`` that hold rows."""
        return self._live(group_count)

    cdef object _live(self, int64_t group_count):
        if af_best_groups_end(&self.top) > group_count:
            raise IndexError(f"a group outside of 0..{group_count - 1}")
        live = np.zeros(group_count, np.bool_)
        af_best_mark_groups(&self.top, uint8_data(live))
        return np.flatnonzero(live).astype(np.int32)

    def keep(self, groups):
        """Renames groups: ``groups[i]`` becomes i.  See the twin."""
        if not self.top.windowed:
            raise ValueError("groups are forgotten with their windows")
        groups = array_of(groups, cnp.NPY_INT32, -1)
        cdef int64_t end = af_best_groups_end(&self.top), bound = max(end, int(groups[len(groups) - 1]) + 1 if len(groups) else 0)
        check_kept(int32_data(groups), len(groups), bound)
        names = np.full(bound, -1, np.int32)
        names[groups] = np.arange(len(groups), dtype=np.int32)
        if (names[self._live(bound)] < 0).any():
            raise ValueError("a group that holds rows is to be kept")
        self.ranked = None
        if not af_best_rename(&self.top, int32_data(names)):
            raise MemoryError


TopState = guarded(_TopState, "TopState")
