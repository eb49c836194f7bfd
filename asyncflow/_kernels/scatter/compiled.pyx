"""Rows to parts by the hash of their key, and sorted rows of the parts back into one order.

scatter.h has the way in, runs.h the way back; the twin defines the results.  Cost: 0.8 ns for a row and half of one for a column on the way
in; on the way back the logarithm of the parts in comparisons for a row, and a copy.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint64_t
from libc.stdlib cimport calloc, free

import numpy as np

cimport numpy as cnp

from asyncflow._kernels.base.arrays cimport array_of, empty, int32_data, int64_data, uint8_data, uint64_data
from asyncflow._kernels.base.views cimport check_ids, check_views

cnp.import_array()

cdef extern from "scatter/scatter.h" nogil:
    enum:
        AF_MOST_PARTS
    void af_scatter_rows(const uint64_t *hashes, int64_t count, int64_t parts, int32_t *rows, int64_t *ends)
    void af_gather(const void *values, int width, const int32_t *rows, int64_t count, void *to)
    void af_running_watermarks(const int64_t *time, int64_t count, int64_t before, int64_t delay, int64_t *marks)

cdef extern from "scatter/runs.h" nogil:
    ctypedef enum af_run_kind:
        AF_RUN_INT64
        AF_RUN_FLOAT64
        AF_RUN_BOOL
        AF_RUN_TEXT
    ctypedef struct af_run_column:
        const void *values
        const int32_t *starts
        const int32_t *lengths
        const uint8_t *valid
        int64_t data_bytes
    ctypedef struct af_run:
        const af_run_column *columns
        uint64_t *words
        int64_t at
        int64_t count
        bint more
    int64_t af_merge_runs(af_run *, int64_t count, const af_run_kind *, int64_t columns, int64_t most, uint8_t *sources)
    bint af_sources_fit(const uint8_t *sources, int64_t rows, const int64_t *counts, int64_t columns)
    void af_interleave(const uint8_t *sources, int64_t rows, const void *const *values, int width, void *to)
    int64_t af_interleave_lengths(const uint8_t *sources, int64_t rows, const af_run_column *, int32_t *lengths)
    void af_interleave_texts(
        const uint8_t *sources, int64_t rows, const af_run_column *, const int32_t *lengths, int32_t *starts, uint8_t *data)

cdef dict KINDS = {
    "int64": AF_RUN_INT64, "timestamp": AF_RUN_INT64, "float64": AF_RUN_FLOAT64, "bool": AF_RUN_BOOL, "string": AF_RUN_TEXT,
}
cdef dict DTYPES = {AF_RUN_INT64: cnp.NPY_INT64, AF_RUN_FLOAT64: cnp.NPY_FLOAT64, AF_RUN_BOOL: cnp.NPY_BOOL}
cdef enum:
    MOST_ARRAYS = 1024  # that one pass without the lock gathers


cdef struct Gathered:
    const void *values
    void *to
    int width


def scatter(hashes, Py_ssize_t parts, columns):
    """The rows of ``columns`` part by part, in their order within each part: ``(ends, rows, columns)``; see the twin."""
    if not 1 <= parts <= AF_MOST_PARTS or parts & (parts - 1):
        raise ValueError(f"{parts} parts: a power of two from 1 to {AF_MOST_PARTS} is wanted")
    hashes = array_of(hashes, cnp.NPY_UINT64, -1)
    cdef int64_t count = len(hashes), i, arrays = 0
    cdef int64_t[AF_MOST_PARTS] ends
    cdef int width
    cdef Gathered[MOST_ARRAYS] gathered
    cdef list kept = [], out = []
    rows = empty(count, cnp.NPY_INT32)
    for column in columns:
        taken = []
        for array in column[1:] if len(column) == 4 else column:
            if array is None:
                taken.append(None)
                continue
            if arrays == MOST_ARRAYS:
                raise ValueError("too many columns")
            array = cnp.PyArray_FROM_OF(array, cnp.NPY_ARRAY_C_CONTIGUOUS | cnp.NPY_ARRAY_ALIGNED)
            width = cnp.PyArray_ITEMSIZE(array)
            if len(array) != count:
                raise ValueError(f"a column of {len(array)} rows in a batch of {count}")
            if width != 1 and width != 8 and (width != 4 or len(column) != 4):
                raise ValueError(f"values of {width} bytes: 1 or 8 are wanted")
            moved = np.empty(count, array.dtype)
            kept.append(array)
            gathered[arrays].values, gathered[arrays].to = cnp.PyArray_DATA(array), cnp.PyArray_DATA(moved)
            gathered[arrays].width = width
            arrays += 1
            taken.append(moved)
        out.append((column[0], *taken) if len(column) == 4 else tuple(taken))
    cdef const uint64_t *of_rows = uint64_data(hashes)
    cdef int32_t *places = int32_data(rows)
    with nogil:
        af_scatter_rows(of_rows, count, parts, places, ends)
        for i in range(arrays):
            af_gather(gathered[i].values, gathered[i].width, places, count, gathered[i].to)
    return [ends[i] for i in range(parts)], rows, out


def watermarks(time, int64_t watermark_before, int64_t delay_ns):
    """The watermark before each row of a source (int64 ns): see the twin."""
    time = array_of(time, cnp.NPY_INT64, -1)
    if delay_ns < 0:
        raise ValueError(f"a delay of {delay_ns} ns: it is not below 0")
    cdef int64_t count = len(time)
    marks = empty(count, cnp.NPY_INT64)
    cdef const int64_t *times = int64_data(time)
    cdef int64_t *out = int64_data(marks)
    with nogil:
        af_running_watermarks(times, count, watermark_before, delay_ns, out)
    return marks


def gather(values, rows):
    """The values (int64) at these positions (int32); IndexError for one that is not there."""
    values, rows = array_of(values, cnp.NPY_INT64, -1), array_of(rows, cnp.NPY_INT32, -1)
    cdef int64_t count = len(rows)
    taken = empty(count, cnp.NPY_INT64)
    cdef const int64_t *of = int64_data(values)
    cdef const int32_t *places = int32_data(rows)
    cdef int64_t *out = int64_data(taken)
    check_ids(places, count, len(values))
    with nogil:
        af_gather(of, 8, places, count, out)
    return taken


cdef int64_t _point(af_run_column *to, int kind, column, list kept) except -1:
    """Lets ``to`` point at the arrays of a raw column, checked; its number of rows."""
    if len(column) != (4 if kind == AF_RUN_TEXT else 2):
        raise ValueError("a column of another type")
    cdef int64_t count
    if kind == AF_RUN_TEXT:
        data, starts, lengths, valid = column
        data = array_of(data, cnp.NPY_UINT8, -1)
        starts = array_of(starts, cnp.NPY_INT32, -1)
        count = len(starts)
        lengths = array_of(lengths, cnp.NPY_INT32, count)
        check_views(int32_data(starts), int32_data(lengths), count, len(data))
        kept += [data, starts, lengths]
        to.values, to.starts, to.lengths = cnp.PyArray_DATA(data), int32_data(starts), int32_data(lengths)
    else:
        values, valid = column
        values = array_of(values, DTYPES[kind], -1)
        count = len(values)
        kept.append(values)
        to.values = cnp.PyArray_DATA(values)
    to.valid = NULL
    if valid is not None:
        valid = array_of(valid, cnp.NPY_BOOL, count)
        kept.append(valid)
        to.valid = uint8_data(valid)
    return count


def merge_runs(kinds, runs, more, Py_ssize_t max_rows):
    """Of each merged row of sorted runs the run that it comes from (uint8); see the twin."""
    cdef int64_t count = len(runs), width = len(kinds), total = 0, r, c, rows
    if count > AF_MOST_PARTS or len(more) != count:
        raise ValueError(f"at most {AF_MOST_PARTS} runs are merged, each with more to follow or not")
    cdef list kept = []
    cdef af_run *of_runs = <af_run *>calloc(count + 1, sizeof(af_run))
    cdef af_run_column *columns = <af_run_column *>calloc(count * width + 1, sizeof(af_run_column))
    cdef uint64_t *words = <uint64_t *>calloc(count * width + 1, 8)
    cdef af_run_kind *types = <af_run_kind *>calloc(width + 1, sizeof(af_run_kind))
    cdef uint8_t *to
    try:
        if not of_runs or not columns or not words or not types:
            raise MemoryError
        for c in range(width):
            types[c] = KINDS[kinds[c]]
        for r in range(count):
            if len(runs[r]) != width:
                raise ValueError(f"a run of {len(runs[r])} columns, {width} are wanted")
            for c in range(width):
                rows = _point(&columns[r * width + c], types[c], runs[r][c], kept)
                if c and rows != of_runs[r].count:
                    raise ValueError("columns of different lengths")
                of_runs[r].count = rows
            of_runs[r].columns = &columns[r * width]
            of_runs[r].words = &words[r * width]
            of_runs[r].more = more[r]
            total += of_runs[r].count
        total = max(0, min(total, max_rows))
        sources = empty(total, cnp.NPY_UINT8)
        to = uint8_data(sources)
        with nogil:
            total = af_merge_runs(of_runs, count, types, width, total, to)
        return sources[:total]
    finally:
        free(of_runs)
        free(columns)
        free(words)
        free(types)


def interleave(columns, sources):
    """One column of several, of the same type: row i is the next row of column ``sources[i]``; see the twin."""
    sources = array_of(sources, cnp.NPY_UINT8, -1)
    cdef int64_t rows = len(sources), count = len(columns), i, total
    cdef int64_t[256] counts
    cdef const uint8_t *picked = uint8_data(sources)
    cdef af_run_column of[256]
    cdef const void *values[256]
    cdef const void *flags[256]
    cdef list kept = []
    cdef bint texts = count > 0 and len(columns[0]) == 4, fit, masked = False
    cdef int width
    if count > 256 or any(len(column) != len(columns[0]) for column in columns):
        raise ValueError("a column of values among columns of texts, or too many columns")
    dtype = np.dtype(np.int64) if texts or not count else columns[0][0].dtype
    width = dtype.itemsize
    if width not in (1, 8):
        raise ValueError(f"values of {width} bytes: 1 or 8 are wanted")
    for i in range(count):
        if texts:
            counts[i] = _point(&of[i], AF_RUN_TEXT, columns[i], kept)
        else:
            array = cnp.PyArray_FROM_OF(columns[i][0], cnp.NPY_ARRAY_C_CONTIGUOUS | cnp.NPY_ARRAY_ALIGNED)
            if array.dtype != dtype:
                raise ValueError("columns of different types")
            counts[i] = len(array)
            of[i].values = cnp.PyArray_DATA(array)
            of[i].valid = NULL
            kept.append(array)
            if columns[i][1] is not None:
                mask = array_of(columns[i][1], cnp.NPY_BOOL, counts[i])
                kept.append(mask)
                of[i].valid = uint8_data(mask)
        values[i] = of[i].values
        flags[i] = of[i].valid
        masked |= of[i].valid != NULL
    with nogil:
        fit = af_sources_fit(picked, rows, counts, count)
    if not fit:
        raise IndexError("a column has too few rows, or there is no such column")
    valid = empty(rows, cnp.NPY_BOOL) if masked else None
    cdef uint8_t *mask_to = uint8_data(valid)
    if masked:
        with nogil:
            af_interleave(picked, rows, flags, 1, mask_to)
    cdef int32_t *starts_to
    cdef int32_t *lengths_to
    cdef void *to
    cdef uint8_t *data_to
    if not texts:
        moved = np.empty(rows, dtype)
        to = cnp.PyArray_DATA(moved)
        with nogil:
            af_interleave(picked, rows, values, width, to)
        return moved, valid
    starts, lengths = empty(rows, cnp.NPY_INT32), empty(rows, cnp.NPY_INT32)
    starts_to, lengths_to = int32_data(starts), int32_data(lengths)
    with nogil:
        total = af_interleave_lengths(picked, rows, of, lengths_to)
    if total > 2**31 - 1:
        raise OverflowError(f"the texts of {rows} rows have {total} bytes, more than {2**31 - 1}")
    data = empty(total, cnp.NPY_UINT8)
    data_to = uint8_data(data)
    with nogil:
        af_interleave_texts(picked, rows, of, lengths_to, starts_to, data_to)
    return data, starts, lengths, valid
