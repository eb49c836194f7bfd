"""Texts at any place of a block to the values of one column, row by row, with the exact parsers of ``numbers/``.

``formats/regex`` and inference find texts in Python and read their values here, so that all formats read values by the same rules.
The twin ``spans/reference.py`` is the specification.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t

cdef extern from "numbers/timestamps.h" nogil:
    enum:
        AF_OK
    int af_parse_int64(const uint8_t *begin, const uint8_t *end, int64_t *out)
    int af_parse_float64(const uint8_t *begin, const uint8_t *end, double *out)
    int af_parse_bool(const uint8_t *begin, const uint8_t *end, uint8_t *out)
    int af_parse_epoch(const uint8_t *begin, const uint8_t *end, int64_t unit_ns, int64_t *out)
    int af_parse_epoch_seconds(const uint8_t *begin, const uint8_t *end, int64_t *out)
    int af_parse_timestamp(const uint8_t *begin, const uint8_t *end, int64_t *out)

cdef enum:
    BOOL, INT64, FLOAT64, TIMESTAMP, EPOCH_S, EPOCH_MS, EPOCH_US, EPOCH_NS

cdef dict KINDS = {
    "bool": (BOOL, "u1"),
    "int64": (INT64, "i8"),
    "float64": (FLOAT64, "f8"),
    "timestamp": (TIMESTAMP, "i8"),
    "timestamp[s]": (EPOCH_S, "i8"),
    "timestamp[ms]": (EPOCH_MS, "i8"),
    "timestamp[us]": (EPOCH_US, "i8"),
    "timestamp[ns]": (EPOCH_NS, "i8"),
}


cdef int _parse(int kind, const uint8_t *begin, const uint8_t *end, void *out) noexcept nogil:
    if kind == BOOL:
        return af_parse_bool(begin, end, <uint8_t *>out)
    if kind == INT64:
        return af_parse_int64(begin, end, <int64_t *>out)
    if kind == FLOAT64:
        return af_parse_float64(begin, end, <double *>out)
    if kind == TIMESTAMP:
        return af_parse_timestamp(begin, end, <int64_t *>out)
    if kind == EPOCH_S:
        return af_parse_epoch_seconds(begin, end, <int64_t *>out)
    return af_parse_epoch(begin, end, 1_000_000 if kind == EPOCH_MS else 1_000 if kind == EPOCH_US else 1, <int64_t *>out)


def parse_spans(
    str type_text, const uint8_t[::1] block, const int32_t[::1] starts, const int32_t[::1] lengths, values, valid, failed
):
    """Fills ``values``, ``valid`` and ``failed``; see ``reference.spans.parse_spans``.  Returns how many rows are null, how many
    failed."""
    if type_text not in KINDS:
        raise ValueError(f"no type of a span: {type_text!r}")
    kind_and_dtype = KINDS[type_text]
    cdef int kind = kind_and_dtype[0]
    cdef uint8_t[::1] out = values.view(kind_and_dtype[1]).view("u1")
    cdef uint8_t[::1] out_valid = valid.view("u1")
    cdef uint8_t[::1] out_failed = failed.view("u1")
    cdef Py_ssize_t rows = starts.shape[0], row, size = 1 if kind == BOOL else 8, nulls = 0, wrong = 0
    cdef const uint8_t *text = &block[0] if block.shape[0] else NULL
    cdef bint outside = False, good
    if lengths.shape[0] != rows or out.shape[0] != rows * size or out_valid.shape[0] != rows or out_failed.shape[0] != rows:
        raise ValueError("the arrays differ in length")
    out[:] = 0
    with nogil:
        for row in range(rows):
            out_valid[row] = out_failed[row] = 0
            if lengths[row] <= 0:
                nulls += 1
                continue
            if starts[row] < 0 or <int64_t>starts[row] + lengths[row] > block.shape[0]:
                outside = True
                break
            good = _parse(kind, text + starts[row], text + starts[row] + lengths[row], &out[row * size]) == AF_OK
            out_valid[row] = good
            out_failed[row] = not good
            wrong += not good
    if outside:
        raise ValueError("a text lies outside the block")
    return nulls, wrong
