"""Functions of expressions on columns of texts, without the GIL: cut, test, make and read texts.

A text column is ``(data, starts, lengths)``, as in a StringColumn: uint8, int32, int32.  A column of one row stands for every row,
numbers (int64) likewise; ``out_starts`` is as long as the result.  Every text is checked to lie inside its data.  Functions that cut
write views into the data of ``text``; functions that make texts write them to ``out``, which needs ``SLACK`` bytes more than the
texts have.  texts/texts.h says what a character is.

The loops exist once per instruction-set level (texts/level.h).  Nothing is kept from call to call, so threads may call at once.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t
from libc.stdlib cimport free, malloc

from asyncflow._kernels.base.levels cimport cpu_level
from asyncflow._kernels.base.views cimport check_texts

cdef extern from "texts/read.h" nogil:
    enum:
        TEXTS_BLOCK
        TEXTS_INT64
        TEXTS_TIMESTAMP
    ctypedef struct texts_column:
        const uint8_t *data
        const uint8_t *end
        const int32_t *starts
        const int32_t *lengths
        int64_t step
    ctypedef struct texts_numbers:
        const int64_t *values
        int64_t step
    ctypedef struct texts_piece:
        const uint8_t *bytes
        int64_t size
    ctypedef struct texts_functions:
        void (*split_part)(const texts_column *, const texts_column *, texts_numbers, int64_t, int32_t *, int32_t *) noexcept nogil
        void (*substring)(const texts_column *, texts_numbers, texts_numbers, int64_t, int32_t *, int32_t *) noexcept nogil
        void (*find)(const texts_column *, const texts_column *, int, int64_t, uint8_t *) noexcept nogil
        void (*like)(const texts_column *, const texts_piece *, int64_t, int64_t, uint8_t *) noexcept nogil
        int64_t (*change_case)(const texts_column *, const int32_t *, int64_t, uint8_t, int64_t, uint8_t *, int32_t *, int32_t *) noexcept nogil
        int64_t (*replaced_size)(const texts_column *, const texts_column *, const texts_column *, int64_t) noexcept nogil
        bint (*replace)(const texts_column *, const texts_column *, const texts_column *, int64_t, uint8_t *, int64_t, int32_t *, int32_t *) noexcept nogil
    const texts_functions *texts_functions_of(int level)
    void texts_trim(const texts_column *, const texts_column *, int64_t, int32_t *, int32_t *)
    void texts_concat(const texts_column *, int64_t, int64_t, uint8_t *, int32_t *, int32_t *)
    void texts_read(const texts_column *, int, int64_t, int64_t *, uint8_t *)

cdef const texts_functions *functions = texts_functions_of(cpu_level())
cdef uint8_t NOTHING = 0
SLACK = TEXTS_BLOCK


cdef texts_column column_of(const uint8_t[::1] data, const int32_t[::1] starts, const int32_t[::1] lengths, Py_ssize_t rows) except *:
    """A column with a text per row, or one text for every row, checked."""
    cdef texts_column column
    cdef bint one = lengths.shape[0] == 1
    check_texts(data, starts, lengths, 1 if one else rows)
    column.data = &data[0] if data.shape[0] else &NOTHING
    column.end = column.data + data.shape[0]
    column.starts = &starts[0] if lengths.shape[0] else NULL
    column.lengths = &lengths[0] if lengths.shape[0] else NULL
    column.step = not one
    return column


cdef texts_numbers numbers_of(const int64_t[::1] values, Py_ssize_t rows) except *:
    cdef texts_numbers numbers
    if values.shape[0] != 1 and values.shape[0] != rows:
        raise ValueError("columns of different lengths")
    numbers.values = &values[0] if values.shape[0] else NULL
    numbers.step = values.shape[0] != 1
    return numbers


cdef Py_ssize_t rows_of(int32_t[::1] starts, int32_t[::1] lengths) except -1:
    if starts.shape[0] != lengths.shape[0]:
        raise ValueError("columns of different lengths")
    return starts.shape[0]


cdef int check_room(int64_t size, int64_t needed) except -1:
    if size < needed + TEXTS_BLOCK:
        raise ValueError(f"{size} bytes of room for texts of {needed} bytes and {TEXTS_BLOCK} bytes more")
    return 0


cdef int64_t size_of(const texts_column *column, Py_ssize_t rows) noexcept nogil:
    """Bytes of the texts of all rows."""
    cdef int64_t total = 0
    cdef Py_ssize_t row
    if column.step == 0:
        return <int64_t>column.lengths[0] * rows if rows else 0
    for row in range(rows):
        total += column.lengths[row]
    return total


# -- functions that cut ----------------------------------------------------------------------------------------------


def split_part(const uint8_t[::1] data, const int32_t[::1] starts, const int32_t[::1] lengths,
               const uint8_t[::1] mark_data, const int32_t[::1] mark_starts, const int32_t[::1] mark_lengths,
               const int64_t[::1] numbers, int32_t[::1] out_starts, int32_t[::1] out_lengths):
    """The part of a number, from 1 (from the end: from -1), between marks; the marks are searched from the begin.  Without a mark
    each character is a part.  Empty where there is no such part."""
    cdef Py_ssize_t rows = rows_of(out_starts, out_lengths)
    cdef texts_column text = column_of(data, starts, lengths, rows), mark = column_of(mark_data, mark_starts, mark_lengths, rows)
    cdef texts_numbers number = numbers_of(numbers, rows)
    if rows:
        with nogil:
            functions.split_part(&text, &mark, number, rows, &out_starts[0], &out_lengths[0])


def substring(const uint8_t[::1] data, const int32_t[::1] starts, const int32_t[::1] lengths,
              const int64_t[::1] positions, sizes, int32_t[::1] out_starts, int32_t[::1] out_lengths):
    """The characters from a position on, at most ``sizes`` (None: all).  1 is the first, 0 stands before it, -1 is the last; a
    negative size reaches back from the position."""
    cdef Py_ssize_t rows = rows_of(out_starts, out_lengths)
    cdef texts_column text = column_of(data, starts, lengths, rows)
    cdef texts_numbers position = numbers_of(positions, rows), size
    size.values, size.step = NULL, 0
    if sizes is not None:
        size = numbers_of(sizes, rows)
    if rows:
        with nogil:
            functions.substring(&text, position, size, rows, &out_starts[0], &out_lengths[0])


def trim(const uint8_t[::1] data, const int32_t[::1] starts, const int32_t[::1] lengths,
         const uint8_t[::1] set_data, const int32_t[::1] set_starts, const int32_t[::1] set_lengths,
         int32_t[::1] out_starts, int32_t[::1] out_lengths):
    """The text without those characters at its ends that are in the set's text."""
    cdef Py_ssize_t rows = rows_of(out_starts, out_lengths)
    cdef texts_column text = column_of(data, starts, lengths, rows), characters = column_of(set_data, set_starts, set_lengths, rows)
    if rows:
        with nogil:
            texts_trim(&text, &characters, rows, &out_starts[0], &out_lengths[0])


# -- functions that test ---------------------------------------------------------------------------------------------


def find(const uint8_t[::1] data, const int32_t[::1] starts, const int32_t[::1] lengths,
         const uint8_t[::1] wanted_data, const int32_t[::1] wanted_starts, const int32_t[::1] wanted_lengths, int place, out):
    """``out[i]`` = the text of row i begins with (``place`` 0), ends with (1) or holds (2) the wanted text."""
    cdef uint8_t[::1] result = out.view("u1")
    cdef Py_ssize_t rows = result.shape[0]
    cdef texts_column text = column_of(data, starts, lengths, rows)
    cdef texts_column wanted = column_of(wanted_data, wanted_starts, wanted_lengths, rows)
    if rows:
        with nogil:
            functions.find(&text, &wanted, place, rows, &result[0])


def like(const uint8_t[::1] data, const int32_t[::1] starts, const int32_t[::1] lengths, list pieces, out):
    """``out[i]`` = the text of row i is these pieces (bytes, at least one) with any bytes between them."""
    cdef uint8_t[::1] result = out.view("u1")
    cdef Py_ssize_t rows = result.shape[0], count = len(pieces), k
    cdef texts_column text = column_of(data, starts, lengths, rows)
    cdef texts_piece *wanted
    cdef bytes piece
    if count == 0:
        raise ValueError("no pieces")
    wanted = <texts_piece *>malloc(count * sizeof(texts_piece))
    if wanted == NULL:
        raise MemoryError
    try:
        for k in range(count):
            piece = pieces[k]
            wanted[k].bytes, wanted[k].size = piece, len(piece)
        if rows:
            with nogil:
                functions.like(&text, wanted, count, rows, &result[0])
    finally:
        free(wanted)


# -- functions that make texts ---------------------------------------------------------------------------------------


def change_case(const uint8_t[::1] data, const int32_t[::1] starts, const int32_t[::1] lengths, table, bint upper,
                uint8_t[::1] out, int32_t[::1] out_starts, int32_t[::1] out_lengths):
    """Writes the texts in small or capital letters; returns the bytes written, or -1 where there is a character beyond ASCII and no
    table.

    ``table``: int32, of each code point the one that takes its place; None: not known.  ``out`` has room for the texts, with a table
    for twice as much.
    """
    cdef Py_ssize_t rows = rows_of(out_starts, out_lengths)
    cdef texts_column text = column_of(data, starts, lengths, rows)
    cdef const int32_t[::1] known = table
    cdef const int32_t *points = NULL
    cdef int64_t written = 0, count = 0
    if known is not None and known.shape[0]:
        points, count = &known[0], known.shape[0]
    check_room(out.shape[0], size_of(&text, rows) * (1 if points == NULL else 2))
    if rows:
        with nogil:
            written = functions.change_case(&text, points, count, ord("a") if upper else ord("A"), rows, &out[0], &out_starts[0],
                                            &out_lengths[0])
    return written


def replaced_size(const uint8_t[::1] data, const int32_t[::1] starts, const int32_t[::1] lengths,
                  const uint8_t[::1] old_data, const int32_t[::1] old_starts, const int32_t[::1] old_lengths,
                  const uint8_t[::1] new_data, const int32_t[::1] new_starts, const int32_t[::1] new_lengths, Py_ssize_t rows):
    """Bytes of the texts that :func:`replace` writes."""
    cdef texts_column text = column_of(data, starts, lengths, rows), old = column_of(old_data, old_starts, old_lengths, rows)
    cdef texts_column new = column_of(new_data, new_starts, new_lengths, rows)
    cdef int64_t size = 0
    if rows:
        with nogil:
            size = functions.replaced_size(&text, &old, &new, rows)
    return size


def replace(const uint8_t[::1] data, const int32_t[::1] starts, const int32_t[::1] lengths,
            const uint8_t[::1] old_data, const int32_t[::1] old_starts, const int32_t[::1] old_lengths,
            const uint8_t[::1] new_data, const int32_t[::1] new_starts, const int32_t[::1] new_lengths,
            uint8_t[::1] out, int32_t[::1] out_starts, int32_t[::1] out_lengths):
    """Writes the texts with every old text, from the begin on, replaced by the new one; an empty old text is nowhere.  ValueError
    where there is no room."""
    cdef Py_ssize_t rows = rows_of(out_starts, out_lengths)
    cdef texts_column text = column_of(data, starts, lengths, rows), old = column_of(old_data, old_starts, old_lengths, rows)
    cdef texts_column new = column_of(new_data, new_starts, new_lengths, rows)
    cdef bint fits = True
    check_room(out.shape[0], 0)
    if rows:
        with nogil:
            fits = functions.replace(&text, &old, &new, rows, &out[0], out.shape[0] - TEXTS_BLOCK, &out_starts[0], &out_lengths[0])
    if not fits:
        raise ValueError("no room for the texts")


def concat(columns, uint8_t[::1] out, int32_t[::1] out_starts, int32_t[::1] out_lengths):
    """Writes the texts of each row, one after another.  ``columns``: of each (data, starts, lengths)."""
    cdef Py_ssize_t rows = rows_of(out_starts, out_lengths), count = len(columns), k
    cdef int64_t total = 0
    cdef texts_column *parts = <texts_column *>malloc((count + 1) * sizeof(texts_column))
    if parts == NULL:
        raise MemoryError
    try:
        for k in range(count):
            data, starts, lengths = columns[k]
            parts[k] = column_of(data, starts, lengths, rows)
            total += size_of(parts + k, rows)
        check_room(out.shape[0], total)
        if rows:
            with nogil:
                texts_concat(parts, count, rows, &out[0], &out_starts[0], &out_lengths[0])
    finally:
        free(parts)


# -- functions that read texts ---------------------------------------------------------------------------------------


def read(const uint8_t[::1] data, const int32_t[::1] starts, const int32_t[::1] lengths, int kind, values, known):
    """Reads texts of a plain form (texts/read.h): ``kind`` 0 int64, 1 float64, 2 timestamp (int64 ns).  ``known[i]``: whether row
    i's text is one; ``values[i]`` is else 0."""
    cdef int64_t[::1] numbers = values.view("i8")
    cdef uint8_t[::1] found = known.view("u1")
    cdef Py_ssize_t rows = numbers.shape[0]
    cdef texts_column text = column_of(data, starts, lengths, rows)
    if found.shape[0] != rows:
        raise ValueError("columns of different lengths")
    if not TEXTS_INT64 <= kind <= TEXTS_TIMESTAMP:
        raise ValueError("no such kind")
    if rows:
        with nogil:
            texts_read(&text, kind, rows, &numbers[0], &found[0])
