"""CSV blocks to columns, and the positions where a stream may be cut: the Python face of ``csv/csv.h``.

``formats/csv`` makes one :class:`Plan` per stream: how records are written, and which fields are wanted.  ``Cutter.cut`` finds the
end of the last whole record in the bytes read so far; ``Plan.decode`` turns a block of whole records into arrays, in one call
without the GIL.

Threads may decode with one plan at the same time: each call takes its own scratch memory from the plan's free list.  Rows are not counted
beforehand: arrays start at an estimate and grow where the estimate was too low.  The twin ``csv/reference.py`` specifies records,
``columns/reference.py`` specifies values.
"""

from libc.stdint cimport int32_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memset

cimport numpy as cnp

from asyncflow._kernels.base.levels cimport cpu_level

import numpy as np

cnp.import_array()

cdef extern from "csv/csv.h" nogil:
    uint32_t af_code(uint32_t column)
    uint32_t af_code_column(uint32_t failed)
    uint32_t af_code_status(uint32_t failed)

    enum af_kind:
        AF_BOOL
        AF_INT64
        AF_FLOAT64
        AF_STRING
        AF_TIMESTAMP
        AF_EPOCH_S
        AF_EPOCH_MS
        AF_EPOCH_US
        AF_EPOCH_NS

    ctypedef struct af_column:
        af_kind kind
        bint required
        uint32_t code
        void *values
        int32_t *lengths
        uint8_t *valid
        uint64_t nulls

    ctypedef struct csv_dialect:
        uint8_t delimiter
        uint8_t quote
        uint32_t fields
        uint32_t null_length
        const uint8_t *null_text
        uint64_t max_record_bytes

    enum csv_reason:
        CSV_FIELD_COUNT
        CSV_BAD_VALUE

    ctypedef struct csv_reject:
        uint64_t line
        uint64_t offset
        uint64_t after_row
        uint64_t length
        csv_reason reason
        uint32_t detail
        uint64_t value_begin
        uint64_t value_length

    ctypedef struct csv_reject_list:
        csv_reject *items
        uint64_t count

    ctypedef struct csv_scratch:
        csv_reject_list rejects

    void csv_scratch_free(csv_scratch *scratch)

    ctypedef struct csv_run:
        uint8_t *data
        uint64_t length
        af_column *columns
        const uint32_t *field_of
        uint32_t num_columns
        uint64_t room
        uint64_t rejects_kept
        uint64_t at
        uint64_t rows
        uint64_t rejected
        uint64_t lines

    enum csv_status:
        CSV_DONE
        CSV_NEEDS_ROOM
        CSV_NO_MEMORY

    ctypedef struct csv_cutter:
        uint64_t scanned
        bint skipping

    ctypedef struct csv_cut_result:
        uint64_t end
        uint64_t resume
        uint64_t lines
        bint rejected

    ctypedef csv_status (*csv_decode_function)(const csv_dialect *, csv_run *, csv_scratch *) noexcept
    ctypedef csv_cut_result (*csv_cut_function)(const csv_dialect *, csv_cutter *, const uint8_t *, uint64_t) noexcept

    ctypedef struct csv_functions:
        csv_decode_function decode
        csv_cut_function cut

    const csv_functions *csv_functions_of(int level)
    uint64_t csv_count_newlines(const uint8_t *data, uint64_t start, uint64_t stop)

cdef int LEVEL = cpu_level()
cdef const csv_functions *FUNCTIONS = csv_functions_of(LEVEL)

cdef dict KINDS = {
    "bool": AF_BOOL,
    "int64": AF_INT64,
    "float64": AF_FLOAT64,
    "string": AF_STRING,
    "timestamp": AF_TIMESTAMP,
    "timestamp[s]": AF_EPOCH_S,
    "timestamp[ms]": AF_EPOCH_MS,
    "timestamp[us]": AF_EPOCH_US,
    "timestamp[ns]": AF_EPOCH_NS,
}
cdef enum:
    SAMPLE_BYTES = 4096
    KEPT_TEXT_BYTES = 4096
    KEPT_VALUE_BYTES = 64
    MAX_COLUMNS = 1 << 16


cdef class Scratch:
    cdef csv_scratch memory

    def __cinit__(self):
        memset(&self.memory, 0, sizeof(csv_scratch))

    def __dealloc__(self):
        csv_scratch_free(&self.memory)


cdef class Plan:
    """The dialect of a stream and the columns to decode.

    ``columns``: for each wanted column its field (from 0), its type text (``"timestamp[ms]"``) and whether null rejects the record.
    ``fields``: the number of fields of a record.  ``rejects_kept``: the most rejects that one call describes; all are counted.
    """

    cdef csv_dialect dialect
    cdef object null_text
    cdef uint64_t rejects_kept
    cdef uint32_t num_columns
    cdef cnp.ndarray field_of
    cdef cnp.ndarray templates
    cdef list kinds
    cdef list free

    def __init__(self, *, int delimiter, int quote, bytes null_text, uint64_t max_record_bytes, uint32_t fields, columns, uint64_t rejects_kept):
        if not (0 <= delimiter < 128 and 0 <= quote < 128 and delimiter != quote) or chr(delimiter) in "\r\n" or chr(quote) in "\r\n":
            raise ValueError("delimiter and quote must be two ASCII characters, neither of them a line end")
        if fields == 0:
            raise ValueError("a record has at least one field")
        if not 0 < max_record_bytes < 1 << 30:
            raise ValueError("max_record_bytes must be at least 1 and below 1 GiB")
        if len(columns) >= MAX_COLUMNS:
            raise ValueError("too many columns")
        self.null_text = null_text
        self.dialect.delimiter = delimiter
        self.dialect.quote = quote
        self.dialect.fields = fields
        self.dialect.null_text = <const uint8_t *>(<bytes>self.null_text)
        self.dialect.null_length = len(null_text)
        self.dialect.max_record_bytes = max_record_bytes
        self.rejects_kept = rejects_kept
        self.num_columns = len(columns)
        self.field_of = np.array([field for field, _, _ in columns], np.uint32)
        if any(field >= fields for field, _, _ in columns):
            raise ValueError("a column's field lies beyond the record")
        self.kinds = [KINDS[kind] for _, kind, _ in columns]
        self.templates = np.zeros(max(1, self.num_columns) * sizeof(af_column), np.uint8)
        cdef af_column *templates = <af_column *>cnp.PyArray_DATA(self.templates)
        cdef uint32_t c
        for c in range(self.num_columns):
            templates[c].kind = self.kinds[c]
            templates[c].required = columns[c][2]
            templates[c].code = af_code(c)
        self.free = []

    def decode(self, block):
        """Returns ``(rows, lines, rejected, rejects, columns)`` of a block of whole records (uint8, contiguous, writable: text is
        unescaped in place).

        ``columns``: per wanted column ``(values, lengths, valid)``.  Of strings ``values`` are starts in the block (int32) and
        ``lengths`` their bytes (int32); else ``lengths`` is None and ``values`` are bool, int64 or float64.  ``valid`` is None
        where no row is null. ``rejects``: ``(line, offset, after_row, reason, detail, column, value, record)`` of the first
        ``rejects_kept``; see the twin.
        """
        cdef uint8_t[::1] view = block
        cdef csv_run run
        cdef csv_status status
        cdef Scratch scratch
        cdef uint64_t sample
        cdef uint32_t c
        cdef list arrays = []
        if self.free is None:
            raise ValueError("a plan that was made without __init__")
        if view.shape[0] >= 1 << 31:
            raise ValueError("a block must be smaller than 2 GiB")
        memset(&run, 0, sizeof(run))
        run.length = view.shape[0]
        run.data = &view[0] if run.length else NULL
        run.field_of = <const uint32_t *>cnp.PyArray_DATA(self.field_of)
        run.num_columns = self.num_columns
        run.rejects_kept = self.rejects_kept
        cdef cnp.ndarray copies = self.templates.copy()
        run.columns = <af_column *>cnp.PyArray_DATA(copies)
        if run.length:
            sample = min(run.length, <uint64_t>SAMPLE_BYTES)
            run.room = csv_count_newlines(run.data, 0, sample) + 1
            if sample < run.length:
                run.room = run.room * run.length // sample * 9 // 8 + 64
        try:
            scratch = self.free.pop()
        except IndexError:
            scratch = Scratch()
        scratch.memory.rejects.count = 0
        try:
            for c in range(self.num_columns):
                arrays.append(self.allocate(c, run.room))
            self.point(&run, arrays)
            while True:
                with nogil:
                    status = FUNCTIONS.decode(&self.dialect, &run, &scratch.memory)
                if status != CSV_NEEDS_ROOM:
                    break
                run.room += (run.room * (run.length - run.at)) // (run.at + 1) + 64 if run.at else run.room // 2 + 64
                run.room = min(run.room, run.length + 1)
                arrays = [self.grow(c, arrays[c], run.room, run.rows) for c in range(self.num_columns)]
                self.point(&run, arrays)
            if status == CSV_NO_MEMORY:
                raise MemoryError("no memory to decode a block of CSV")
            rejects = self.rejects_of(&run, &scratch.memory)
        finally:
            self.free.append(scratch)
        lines = run.lines + (run.length != 0 and view[run.length - 1] != 10)
        for c in range(self.num_columns):
            values, lengths, valid = arrays[c]
            has_nulls = run.columns[c].nulls != 0
            if run.rows != run.room:
                values = values[: run.rows]
                lengths = None if lengths is None else lengths[: run.rows]
                valid = valid[: run.rows] if has_nulls else None
            elif not has_nulls:
                valid = None
            if has_nulls and run.rejected and valid.all():  # the null rows were rejected
                valid = None
            arrays[c] = (values, lengths, valid)
        return run.rows, lines, run.rejected, rejects, arrays

    cdef tuple allocate(self, uint32_t c, uint64_t room):
        cdef cnp.npy_intp size = room
        cdef int kind = self.kinds[c]
        cdef int type_number = (
            cnp.NPY_BOOL if kind == AF_BOOL else cnp.NPY_INT32 if kind == AF_STRING else cnp.NPY_FLOAT64 if kind == AF_FLOAT64 else cnp.NPY_INT64
        )
        return (
            cnp.PyArray_EMPTY(1, &size, type_number, 0),
            cnp.PyArray_EMPTY(1, &size, cnp.NPY_INT32, 0) if kind == AF_STRING else None,
            cnp.PyArray_EMPTY(1, &size, cnp.NPY_BOOL, 0),
        )

    cdef tuple grow(self, uint32_t c, tuple old, uint64_t room, uint64_t rows):
        new = self.allocate(c, room)
        for source, target in zip(old, new):
            if source is not None:
                target[:rows] = source[:rows]
        return new

    cdef void point(self, csv_run *run, list arrays):
        cdef uint32_t c
        for c in range(self.num_columns):
            values, lengths, valid = arrays[c]
            run.columns[c].values = cnp.PyArray_DATA(values)
            run.columns[c].lengths = NULL if lengths is None else <int32_t *>cnp.PyArray_DATA(lengths)
            run.columns[c].valid = <uint8_t *>cnp.PyArray_DATA(valid)

    cdef list rejects_of(self, csv_run *run, csv_scratch *scratch):
        cdef list rejects = []
        cdef csv_reject *reject
        cdef uint64_t k, most = min(<uint64_t>KEPT_TEXT_BYTES, self.dialect.max_record_bytes)
        for k in range(scratch.rejects.count):
            reject = &scratch.rejects.items[k]
            bad_value = reject.reason == CSV_BAD_VALUE
            rejects.append((
                reject.line,
                reject.offset,
                reject.after_row,
                <int>reject.reason,
                af_code_status(reject.detail) if bad_value else reject.detail if reject.reason == CSV_FIELD_COUNT else 0,
                af_code_column(reject.detail) if bad_value else -1,
                <bytes>(<char *>run.data + reject.value_begin)[: min(reject.value_length, <uint64_t>KEPT_VALUE_BYTES)],
                <bytes>(<char *>run.data + reject.offset)[: min(reject.length, most)],
            ))
        return rejects


cdef class Cutter:
    """Finds where whole records end in one byte stream.  Keeps the scanner's state of the unfinished record, so one owner calls
    ``cut`` in stream order."""

    cdef Plan plan
    cdef csv_cutter state

    def __init__(self, Plan plan not None):
        self.plan = plan
        memset(&self.state, 0, sizeof(csv_cutter))

    def cut(self, data, bint final):
        """Returns ``(end, resume, lines, rejected)``.  ``data[:end]`` is whole records.  ``data[resume:]`` is to be given again,
        with the bytes that follow.  ``data[end:resume]`` belongs to a record that is too long and is dropped; ``lines`` of these
        bytes are newlines.  ``rejected``: the first bytes of such a record where it begins at ``data[0]``, else None."""
        cdef const uint8_t[::1] view = data
        cdef csv_cut_result result
        cdef uint64_t length = view.shape[0]
        if self.plan is None or self.plan.free is None:
            raise ValueError("a cutter that was made without __init__")
        if length < self.state.scanned and not self.state.skipping:
            raise ValueError("less data than before: what was not resumed comes again")
        if length == 0:
            return 0, 0, 0, None
        if final and not self.state.skipping:
            return length, length, 0, None
        cdef const uint8_t *begin = &view[0]
        with nogil:
            result = FUNCTIONS.cut(&self.plan.dialect, &self.state, begin, length)
        rejected = None
        if result.rejected:
            rejected = <bytes>(<const char *>begin)[: min(length, <uint64_t>KEPT_TEXT_BYTES, self.plan.dialect.max_record_bytes)]
        return result.end, result.resume, result.lines, rejected
