"""The checks of base/views.h as errors: ValueError for a text outside its bytes, IndexError for an id out of range."""

from libc.stdint cimport int32_t, int64_t, uint8_t

cdef extern from "base/views.h" nogil:
    enum:
        AF_VIEWS_EMPTY_OUTSIDE
        AF_VIEWS_OUTSIDE
    int af_views(const int32_t *starts, const int32_t *lengths, int64_t count, int64_t size)
    bint af_ids_below(const int32_t *ids, int64_t count, int64_t bound)
    bint af_ids_rise(const int32_t *ids, int64_t count, int64_t bound)


cdef inline int check_views(const int32_t *starts, const int32_t *lengths, int64_t count, int64_t size) except -1:
    """ValueError where a text lies outside its bytes; 1 where only empty texts do: their starts must then not be used."""
    cdef int outside
    with nogil:
        outside = af_views(starts, lengths, count, size)
    if outside == AF_VIEWS_OUTSIDE:
        raise ValueError("a text lies outside its data")
    return outside


cdef inline int check_texts(
    const uint8_t[::1] data, const int32_t[::1] starts, const int32_t[::1] lengths, Py_ssize_t rows
) except -1:
    """ValueError unless there is a text for each row, inside ``data``; an empty text may start anywhere."""
    if starts.shape[0] != rows or lengths.shape[0] != rows:
        raise ValueError("columns of different lengths")
    if rows:
        check_views(&starts[0], &lengths[0], rows, data.shape[0])
    return 0


cdef inline int check_ids(const int32_t *ids, int64_t count, int64_t bound) except -1:
    """IndexError where an id is not one of 0 .. bound - 1."""
    cdef bint inside
    with nogil:
        inside = af_ids_below(ids, count, bound)
    if not inside:
        raise IndexError(f"an id outside of 0..{bound - 1}")
    return 0


cdef inline int check_kept(const int32_t *ids, int64_t count, int64_t bound) except -1:
    """IndexError where these are not ids of 0 .. bound - 1, ascending, each once."""
    cdef bint rising
    with nogil:
        rising = af_ids_rise(ids, count, bound)
    if not rising:
        raise IndexError(f"ids that are to be kept are of 0..{bound - 1}, ascending, each once")
    return 0
