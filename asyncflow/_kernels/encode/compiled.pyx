"""Columns to rows of text, JSON or CSV: one pass over the rows without the GIL, into one buffer.

The encoders of ``formats/json`` and ``formats/csv`` call it for each batch.  ``encode/rows.h`` has the pass, ``encode/float.h`` the
shortest decimal of a double, ``encode/digits.h`` digits.  The twin ``encode/reference.py`` specifies the bytes.

The buffer starts at an estimate per cell and at least doubles where the pass needs more room, so a batch costs O(bytes written).
The rows are returned as a memoryview of the buffer.  Invariant: a buffer is written again only when no view of it is left.
"""

from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_GET_SIZE, PyByteArray_Resize
from cpython.bytes cimport PyBytes_AS_STRING
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from libc.stdint cimport int32_t, int64_t, uint8_t, uint64_t

cimport numpy as cnp

cnp.import_array()

cdef extern from "Python.h":
    ctypedef struct PyByteArrayObject:
        Py_ssize_t ob_exports

cdef extern from "encode/rows.h" nogil:
    enum:
        CELL_BOOL
        CELL_INT64
        CELL_FLOAT64
        CELL_STRING
        CELL_TIMESTAMP
        STYLE_JSON
        STYLE_CSV
        CELL_ROOM
        PIECE
        MIN_POWER
        MAX_POWER
        ENCODE_FULL
        ENCODE_BAD_STRING

    const int64_t NO_SECOND
    uint64_t powers_of_ten[][2]

    ctypedef struct encode_column:
        int kind
        const void *values
        int64_t text_bytes
        const int32_t *starts
        const int32_t *lengths
        const uint8_t *valid
        const uint8_t *lead
        int64_t lead_bytes
        int64_t second
        int64_t second_bytes

    ctypedef struct encode_style:
        int style
        uint8_t delimiter
        uint8_t quote
        int64_t tick_ns
        const uint8_t *null
        int64_t null_bytes
        const uint8_t *row_end
        int64_t row_end_bytes
        int64_t row_room

    int encode_rows(
        const encode_style *style, encode_column *columns, int64_t num_columns, int64_t num_rows,
        int64_t *row, uint8_t **out, const uint8_t *end,
    )


def _fill_powers_of_ten():
    # As encode/float.h needs them: the first 128 bits of each power, truncated, plus one.
    cdef object power, whole, scaled  # whole numbers of any size
    for power in range(MIN_POWER, MAX_POWER + 1):
        if power >= 0:
            whole = 10**power
            shift = 128 - whole.bit_length()
            scaled = whole << shift if shift >= 0 else whole >> -shift
        else:
            whole = 10**-power
            # 2^n / whole has 128 bits: whole is no power of two, so n is its bit length + 127.
            scaled = (1 << whole.bit_length() + 127) // whole
        scaled += 1
        powers_of_ten[power - MIN_POWER][0] = scaled >> 64
        powers_of_ten[power - MIN_POWER][1] = scaled & 0xFFFFFFFFFFFFFFFF


_fill_powers_of_ten()

cdef dict KINDS = {
    "bool": (CELL_BOOL, cnp.NPY_BOOL),
    "int64": (CELL_INT64, cnp.NPY_INT64),
    "float64": (CELL_FLOAT64, cnp.NPY_FLOAT64),
    "string": (CELL_STRING, cnp.NPY_UINT8),
    "timestamp": (CELL_TIMESTAMP, cnp.NPY_INT64),
}


def json_rows(num_rows, columns, keys, int64_t tick_ns):
    """One JSON object and a newline per row; see the twin."""
    columns = tuple(columns)
    leads = [(b"," if position else b"{") + key for position, key in enumerate(keys)]
    cdef encode_style style
    style.style = STYLE_JSON
    style.delimiter = style.quote = 0
    style.tick_ns = tick_ns
    return _rows(num_rows, columns, leads, b"null", b"}\n" if leads else b"{}\n", &style)


def csv_rows(num_rows, columns, bytes delimiter, bytes quote, bytes null, int64_t tick_ns):
    """One CSV record and a newline per row; see the twin."""
    if len(delimiter) != 1 or len(quote) != 1:
        raise ValueError("delimiter and quote are one byte each")
    columns = tuple(columns)
    leads = [delimiter if position else b"" for position in range(len(columns))]
    cdef encode_style style
    style.style = STYLE_CSV
    style.delimiter = delimiter[0]
    style.quote = quote[0]
    style.tick_ns = tick_ns
    return _rows(num_rows, columns, leads, null, b"\n", &style)


cdef bytes _padded(bytes piece):
    return piece.ljust((len(piece) + PIECE - 1) // PIECE * PIECE)


cdef const void *_data(object array, int type_number, Py_ssize_t size) except? NULL:
    """The data of a 1-d contiguous array, whose type (and size, unless -1) is checked."""
    if not cnp.PyArray_Check(array):
        raise TypeError("a column's parts are numpy arrays")
    if not (cnp.PyArray_ISCARRAY_RO(array) and cnp.PyArray_NDIM(array) == 1):
        raise ValueError("a column's arrays are 1-d and contiguous")
    if not cnp.PyArray_EquivTypenums(cnp.PyArray_TYPE(array), type_number):
        raise ValueError("a column's array has another type than its kind")
    if size >= 0 and cnp.PyArray_DIM(array, 0) != size:
        raise ValueError("a column's length differs from num_rows")
    return cnp.PyArray_DATA(array)


cdef object _rows(Py_ssize_t num_rows, tuple columns, list leads, bytes null, bytes row_end, encode_style *style):
    cdef Py_ssize_t num_columns = len(columns), j
    cdef int64_t guess = len(row_end)  # bytes per row
    cdef int64_t text_bytes = 0
    if len(leads) != num_columns:
        raise ValueError("as many keys as columns are needed")
    padded_null, padded_end = _padded(null), _padded(row_end)
    padded_leads = [_padded(lead) for lead in leads]
    style.null = <const uint8_t *>PyBytes_AS_STRING(padded_null)
    style.null_bytes = len(null)
    style.row_end = <const uint8_t *>PyBytes_AS_STRING(padded_end)
    style.row_end_bytes = len(row_end)
    style.row_room = len(padded_end) + num_columns * (CELL_ROOM + len(padded_null)) + sum(map(len, padded_leads))

    cdef encode_column *cells = <encode_column *>PyMem_Malloc(max(num_columns, 1) * sizeof(encode_column))
    if cells is NULL:
        raise MemoryError
    cdef encode_column *cell
    try:
        for j in range(num_columns):
            kind, values, starts, lengths, valid = columns[j]
            cell = cells + j
            cell.kind, type_number = KINDS[kind]
            if cell.kind == CELL_STRING:
                cell.values = _data(values, type_number, -1)
                cell.text_bytes = cnp.PyArray_DIM(values, 0)
                cell.starts = <const int32_t *>_data(starts, cnp.NPY_INT32, num_rows)
                cell.lengths = <const int32_t *>_data(lengths, cnp.NPY_INT32, num_rows)
                guess += 18
            else:
                cell.values = _data(values, type_number, num_rows)
                cell.text_bytes = 0
                cell.starts = cell.lengths = NULL
                guess += 22 if cell.kind == CELL_TIMESTAMP else 12
            cell.valid = NULL
            if valid is not None:
                cell.valid = <const uint8_t *>_data(valid, cnp.NPY_BOOL, num_rows)
            cell.lead = <const uint8_t *>PyBytes_AS_STRING(padded_leads[j])
            cell.lead_bytes = len(leads[j])
            cell.second = NO_SECOND
            cell.second_bytes = 0
            guess += cell.lead_bytes
        return _grown(style, cells, num_columns, num_rows, guess * num_rows + style.row_room)
    finally:
        PyMem_Free(cells)


cdef enum:
    KEPT_BYTES = 1 << 22
    KEPT_BUFFERS = 4

cdef list _buffers = []  # used again once no view is left: fresh memory costs as much as the encoding


cdef bytearray _take_buffer(Py_ssize_t capacity):
    """A buffer without views, of at least this size."""
    cdef bytearray buffer
    for _ in range(len(_buffers)):
        try:
            buffer = _buffers.pop()
        except IndexError:  # another thread took the last one
            break
        if (<PyByteArrayObject *>buffer).ob_exports == 0:
            if PyByteArray_GET_SIZE(buffer) < capacity:
                PyByteArray_Resize(buffer, capacity)
            return buffer
        _buffers.insert(0, buffer)
    buffer = bytearray()
    PyByteArray_Resize(buffer, capacity)
    return buffer


cdef object _grown(
    const encode_style *style, encode_column *cells, Py_ssize_t num_columns, Py_ssize_t num_rows, Py_ssize_t capacity
):
    cdef bytearray buffer = _take_buffer(capacity)
    cdef uint8_t *first
    cdef uint8_t *out
    cdef Py_ssize_t written = 0
    cdef int64_t row = 0
    cdef int status
    while True:
        capacity = PyByteArray_GET_SIZE(buffer)
        first = <uint8_t *>PyByteArray_AS_STRING(buffer)
        out = first + written
        with nogil:
            status = encode_rows(style, cells, num_columns, num_rows, &row, &out, first + capacity)
        written = out - first
        if status != ENCODE_FULL:
            break
        PyByteArray_Resize(buffer, 2 * capacity)
    if status == ENCODE_BAD_STRING:
        raise ValueError("a string lies outside its text")
    rows = memoryview(buffer)[:written]
    if capacity <= KEPT_BYTES and len(_buffers) < KEPT_BUFFERS:
        _buffers.insert(0, buffer)
    return rows
