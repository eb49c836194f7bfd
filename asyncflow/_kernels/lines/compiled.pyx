"""Lines of a block: where they end, how many there are, and which of them are valid.  The twin ``lines/reference.py`` is the
specification.

Formats whose records are lines use it to cut and to decode (``formats/_lines.py``, ``formats/lines``, ``formats/regex``), and to
write lines.

``memchr`` of the C library finds newlines, with the machine's vector instructions.  UTF-8 is checked once for the whole block, and
line by line only where the block is not valid.  LF is never a part of a longer character, so a block is valid where all of its
lines are.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport int32_t, int64_t, uint8_t
from libc.string cimport memchr, memcpy

cdef extern from *:
    """
    #include "base/cpu.h"
    #include "base/utf8.h"

    /* The last LF of [from, end), or NULL.  Not every C library has memrchr. */
    static const uint8_t *find_last_line_end(const uint8_t *from, const uint8_t *end) {
        while (end > from)
            if (*--end == '\\n') return end;
        return NULL;
    }

    /* Counts in stretches whose count fits one byte, so that the compiler counts in byte lanes. */
    static Py_ssize_t count_line_ends(const uint8_t *bytes, Py_ssize_t length) {
        enum { STRETCH = 240 };
        Py_ssize_t count = 0, at = 0;
        for (; length - at >= STRETCH; at += STRETCH) {
            uint8_t here = 0;
            for (int i = 0; i < STRETCH; i++) here += bytes[at + i] == '\\n';
            count += here;
        }
        for (; at < length; at++) count += bytes[at] == '\\n';
        return count;
    }
    """
    const uint8_t *find_last_line_end(const uint8_t *begin, const uint8_t *end) nogil
    Py_ssize_t count_line_ends(const uint8_t *bytes, Py_ssize_t length) nogil
    bint af_utf8_valid(const uint8_t *bytes, size_t length) nogil

GOOD, TOO_LONG, NOT_UTF8 = 0, 1, 2


def last_line_end(const uint8_t[::1] data):
    """The position after the last LF; 0 where there is none."""
    if data.shape[0] == 0:
        return 0
    cdef const uint8_t *first = &data[0]
    cdef const uint8_t *found
    with nogil:
        found = find_last_line_end(first, first + data.shape[0])
    return 0 if found is NULL else found - first + 1


def count_lines(const uint8_t[::1] block):
    """The number of lines, with an unfinished last line."""
    cdef Py_ssize_t length = block.shape[0], count
    if length == 0:
        return 0
    with nogil:
        count = count_line_ends(&block[0], length) + (block[length - 1] != 10)
    return count


def split_lines(
    const uint8_t[::1] block, Py_ssize_t max_bytes, int32_t[::1] starts, int32_t[::1] lengths, uint8_t[::1] faults
):
    """Finds and checks each line; see the twin.  Returns how many lines are not ``GOOD``."""
    cdef Py_ssize_t length = block.shape[0], room = min(starts.shape[0], lengths.shape[0], faults.shape[0])
    cdef Py_ssize_t at = 0, end, row = 0, bad = 0
    cdef const uint8_t *first
    cdef const uint8_t *found
    cdef bint all_utf8
    if length == 0:
        return 0
    if length > 0x7FFFFFFF:
        raise ValueError("a block is at most 2 GiB")
    first = &block[0]
    with nogil:
        all_utf8 = af_utf8_valid(first, length)
        while at < length and row < room:
            found = <const uint8_t *>memchr(first + at, 10, length - at)
            end = length if found is NULL else found - first
            faults[row] = 1 if end - at > max_bytes else 0
            starts[row] = <int32_t>at
            lengths[row] = <int32_t>(end - at - (found is not NULL and end > at and first[end - 1] == 13))
            if not all_utf8 and faults[row] == 0 and not af_utf8_valid(first + at, lengths[row]):
                faults[row] = 2
            bad += faults[row] != 0
            row += 1
            at = end + 1
    if at < length:
        raise ValueError("starts, lengths and faults are too short for the block's lines")
    return bad


def join_lines(const uint8_t[::1] data, const int32_t[::1] starts, const int32_t[::1] lengths, valid):
    """Each text with a LF; a null (``valid`` False) is an empty line.  See the twin."""
    cdef Py_ssize_t rows = starts.shape[0], row
    cdef int64_t size = rows
    cdef const uint8_t *first = &data[0] if data.shape[0] else NULL
    cdef uint8_t *out
    cdef const uint8_t[::1] has_value = None if valid is None else valid.view("u1")
    cdef bint all_valid = valid is None
    if lengths.shape[0] != rows or (not all_valid and has_value.shape[0] != rows):
        raise ValueError("starts, lengths and valid differ in length")
    with nogil:
        for row in range(rows):
            if starts[row] < 0 or lengths[row] < 0 or <int64_t>starts[row] + lengths[row] > data.shape[0]:
                size = -1
                break
            if all_valid or has_value[row]:
                size += lengths[row]
    if size < 0:
        raise ValueError("a string lies outside its text")
    joined = PyBytes_FromStringAndSize(NULL, size)
    out = <uint8_t *>PyBytes_AS_STRING(joined)
    with nogil:
        for row in range(rows):
            if lengths[row] and (all_valid or has_value[row]):
                memcpy(out, first + starts[row], lengths[row])
                out += lengths[row]
            out[0] = 10
            out += 1
    return joined
