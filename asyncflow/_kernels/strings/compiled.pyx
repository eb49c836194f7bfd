"""Loops over columns of texts: compare, look up, count characters, hash, number the distinct texts, copy.

The functions of expressions on texts (``operators/functions``) call them; joins copy the texts of rows that they keep.  A column is ``data`` (uint8), ``starts`` and ``lengths``
(int32). Every text is checked to lie inside ``data``, and only bytes of texts are read.  Where a function takes two columns, one of
them may hold a single text, which counts for every row.  A null row is a text of length 0.

``hash64``: words of 8 bytes, little-endian, the last word filled up with zeros.  h starts as the length times an odd constant; for
each word h = mix(h ^ word); at the end h = mix(h).  ``mix`` adds a constant and applies the finisher of splitmix64 (Steele, Lea,
Flood 2014).  The values are part of the language (``hash(x)``) and never change.

``distinct`` and ``among``: an open-addressing table of row numbers with linear probing, at most half full.  Texts with equal hashes are
compared byte by byte.  The hash has a seed of the process, so that nobody can choose texts that collide.  O(bytes) time, O(distinct texts)
memory.
"""

from libc.stdint cimport int8_t, int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp, memcpy

import os

import numpy as np

cimport numpy as cnp

from asyncflow._kernels.base.arrays cimport empty, int64_data, uint8_data
from asyncflow._kernels.base.views cimport check_texts

cnp.import_array()

cdef extern from "base/words.h" nogil:
    uint64_t af_keyed_text(uint64_t seed, const uint8_t *bytes, uint32_t length)

cdef uint64_t SEED = int.from_bytes(os.urandom(8), "little")


cdef inline uint64_t mix(uint64_t x) noexcept nogil:
    x += <uint64_t>0x9E3779B97F4A7C15
    x = (x ^ (x >> 30)) * <uint64_t>0xBF58476D1CE4E5B9
    x = (x ^ (x >> 27)) * <uint64_t>0x94D049BB133111EB
    return x ^ (x >> 31)


cdef inline uint64_t load8(const uint8_t *text) noexcept nogil:
    """8 bytes, little-endian on every machine."""
    return (<uint64_t>text[0] | <uint64_t>text[1] << 8 | <uint64_t>text[2] << 16 | <uint64_t>text[3] << 24
            | <uint64_t>text[4] << 32 | <uint64_t>text[5] << 40 | <uint64_t>text[6] << 48 | <uint64_t>text[7] << 56)


cdef inline uint64_t load4(const uint8_t *text) noexcept nogil:
    return <uint64_t>text[0] | <uint64_t>text[1] << 8 | <uint64_t>text[2] << 16 | <uint64_t>text[3] << 24


cdef inline uint64_t hash_text(const uint8_t *text, int32_t length) noexcept nogil:
    """The hash of a text.  The last word overlaps the word before, so that nothing outside the text is read."""
    cdef uint64_t h = <uint64_t>length * <uint64_t>0xD6E8FEB86659FD93
    cdef int32_t left = length
    while left >= 8:
        h = mix(h ^ load8(text))
        text += 8
        left -= 8
    if left > 0:
        if length >= 8:
            h = mix(h ^ (load8(text + left - 8) >> (64 - 8 * left)))
        elif left >= 4:
            h = mix(h ^ (load4(text) | load4(text + left - 4) << (8 * left - 32)))
        else:
            h = mix(h ^ (<uint64_t>text[0] | <uint64_t>text[left >> 1] << (8 * (left >> 1))
                         | <uint64_t>text[left - 1] << (8 * (left - 1))))
    return mix(h)


cdef inline const uint8_t *base_of(const uint8_t[::1] data) noexcept nogil:
    return &data[0] if data.shape[0] > 0 else NULL


cdef inline const uint8_t *at(const uint8_t *base, int32_t start) noexcept nogil:
    return base + start if base != NULL else NULL


cdef inline bint same(const uint8_t *a, const uint8_t *b, int32_t length) noexcept nogil:
    return length == 0 or memcmp(a, b, length) == 0


def equal(const uint8_t[::1] data_a, const int32_t[::1] starts_a, const int32_t[::1] lengths_a,
          const uint8_t[::1] data_b, const int32_t[::1] starts_b, const int32_t[::1] lengths_b, out):
    """``out[i]`` = text a of row i is text b of row i, byte for byte."""
    cdef uint8_t[::1] result = out.view("u1")
    cdef Py_ssize_t n = result.shape[0], i, step_a = lengths_a.shape[0] != 1, step_b = lengths_b.shape[0] != 1
    cdef const uint8_t *a = base_of(data_a)
    cdef const uint8_t *b = base_of(data_b)
    cdef int32_t length
    check_either(n, data_a, starts_a, lengths_a)
    check_either(n, data_b, starts_b, lengths_b)
    with nogil:
        for i in range(n):
            length = lengths_a[i * step_a]
            result[i] = length == lengths_b[i * step_b] and same(
                at(a, starts_a[i * step_a]), at(b, starts_b[i * step_b]), length)


def compare(const uint8_t[::1] data_a, const int32_t[::1] starts_a, const int32_t[::1] lengths_a,
            const uint8_t[::1] data_b, const int32_t[::1] starts_b, const int32_t[::1] lengths_b, int8_t[::1] out):
    """``out[i]`` = -1, 0 or 1: text a of row i is less than, equal to or greater than text b, by unsigned bytes; a prefix is less."""
    cdef Py_ssize_t n = out.shape[0], i, step_a = lengths_a.shape[0] != 1, step_b = lengths_b.shape[0] != 1
    cdef const uint8_t *a = base_of(data_a)
    cdef const uint8_t *b = base_of(data_b)
    cdef int32_t la, lb, least
    cdef int order
    check_either(n, data_a, starts_a, lengths_a)
    check_either(n, data_b, starts_b, lengths_b)
    with nogil:
        for i in range(n):
            la, lb = lengths_a[i * step_a], lengths_b[i * step_b]
            least = la if la < lb else lb
            order = 0
            if least > 0:
                order = memcmp(at(a, starts_a[i * step_a]), at(b, starts_b[i * step_b]), least)
            if order == 0:
                order = (la > lb) - (la < lb)
            out[i] = (order > 0) - (order < 0)


def count_characters(const uint8_t[::1] data, const int32_t[::1] starts, const int32_t[::1] lengths, int64_t[::1] out):
    """``out[i]`` = number of code points in the text of row i: bytes that are no continuation bytes."""
    cdef Py_ssize_t n = out.shape[0], i, j
    cdef const uint8_t *base = base_of(data)
    cdef const uint8_t *row
    cdef int64_t count
    check_texts(data, starts, lengths, n)
    with nogil:
        for i in range(n):
            row = at(base, starts[i])
            count = 0
            for j in range(lengths[i]):
                count += (row[j] & 0xC0) != 0x80
            out[i] = count


def hash64(const uint8_t[::1] data, const int32_t[::1] starts, const int32_t[::1] lengths, uint64_t[::1] out):
    """``out[i]`` = the hash of the text of row i (see the module)."""
    cdef Py_ssize_t n = out.shape[0], i
    cdef const uint8_t *base = base_of(data)
    check_texts(data, starts, lengths, n)
    with nogil:
        for i in range(n):
            out[i] = hash_text(at(base, starts[i]), lengths[i])


def distinct(const uint8_t[::1] data, const int32_t[::1] starts, const int32_t[::1] lengths,
             int32_t[::1] ids, int32_t[::1] firsts):
    """Numbers the distinct texts from 0 by first occurrence: ``ids[i]`` is the number of row i's text, ``firsts[k]`` the first row
    of number k.

    Returns the number of distinct texts.  ``ids`` and ``firsts`` are as long as the column.  MemoryError where the table cannot grow.
    """
    cdef Py_ssize_t n = ids.shape[0]
    cdef int count
    check_texts(data, starts, lengths, n)
    if firsts.shape[0] < n:
        raise ValueError("columns of different lengths")
    if n == 0:
        return 0
    with nogil:
        count = number_texts(base_of(data), &starts[0], &lengths[0], n, &ids[0], &firsts[0])
    if count < 0:
        raise MemoryError
    return count


def among(const uint8_t[::1] data, const int32_t[::1] starts, const int32_t[::1] lengths,
          const uint8_t[::1] wanted_data, const int32_t[::1] wanted_starts, const int32_t[::1] wanted_lengths, out):
    """``out[i]`` = the text of row i is one of the wanted texts.  MemoryError where the table cannot grow."""
    cdef uint8_t[::1] result = out.view("u1")
    cdef Py_ssize_t n = result.shape[0], count = wanted_starts.shape[0]
    cdef int status = 0
    check_texts(data, starts, lengths, n)
    check_texts(wanted_data, wanted_starts, wanted_lengths, count)
    if n == 0:
        return
    if count == 0:
        result[:] = 0
        return
    with nogil:
        status = find_among(base_of(data), &starts[0], &lengths[0], n, base_of(wanted_data), &wanted_starts[0], &wanted_lengths[0],
                            count, &result[0])
    if status < 0:
        raise MemoryError


def copy_texts(const uint8_t[::1] data, const int64_t[::1] starts, const int32_t[::1] lengths, rows):
    """The texts of these rows (None: all), one after another: their bytes, and where each starts (int64).

    ``starts`` is int64: all texts together may be more than a column holds.  IndexError where a row is none or a text lies outside of
    ``data``; an empty one may start anywhere.
    """
    cdef Py_ssize_t held = starts.shape[0], count = held if rows is None else len(rows), i
    cdef const int64_t *wanted = NULL
    cdef int64_t total = 0, row
    cdef bint outside = lengths.shape[0] != held
    if rows is not None:
        rows = np.ascontiguousarray(rows, np.int64)
        wanted = int64_data(rows)
    places = empty(count, cnp.NPY_INT64)
    cdef int64_t *place = int64_data(places)
    with nogil:
        for i in range(count):
            row = i if wanted == NULL else wanted[i]
            outside = outside or not 0 <= row < held or lengths[row] < 0
            if outside or (lengths[row] and (starts[row] < 0 or starts[row] > data.shape[0] - lengths[row])):
                outside = True
                break
            place[i] = total
            total += lengths[row]
    if outside:
        raise IndexError("a text outside of its bytes")
    out = empty(total, cnp.NPY_UINT8)
    cdef uint8_t *text = uint8_data(out)
    if total:
        with nogil:
            for i in range(count):
                row = i if wanted == NULL else wanted[i]
                if lengths[row]:
                    memcpy(text + place[i], &data[0] + starts[row], lengths[row])
    return out, places


cdef struct slot:
    uint64_t hash
    int32_t number  # plus one; 0 is free


cdef int number_texts(const uint8_t *base, const int32_t *starts, const int32_t *lengths, Py_ssize_t n,
                      int32_t *ids, int32_t *firsts) noexcept nogil:
    cdef uint64_t capacity = 256, place, h
    cdef slot *table = <slot *>calloc(capacity, sizeof(slot))
    cdef slot *larger
    cdef int32_t count = 0, first
    cdef Py_ssize_t i
    if table == NULL:
        return -1
    for i in range(n):
        h = af_keyed_text(SEED, at(base, starts[i]), <uint32_t>lengths[i])
        place = h & (capacity - 1)
        while table[place].number:
            if table[place].hash == h:
                first = firsts[table[place].number - 1]
                if lengths[first] == lengths[i] and same(at(base, starts[first]), at(base, starts[i]), lengths[i]):
                    break
            place = (place + 1) & (capacity - 1)
        if not table[place].number:
            firsts[count] = <int32_t>i
            count += 1
            table[place].hash = h
            table[place].number = count
            ids[i] = count - 1
            if <uint64_t>count * 2 > capacity:
                larger = rehashed(table, capacity)
                free(table)
                if larger == NULL:
                    return -1
                table = larger
                capacity *= 2
        else:
            ids[i] = table[place].number - 1
    free(table)
    return count


cdef int find_among(const uint8_t *base, const int32_t *starts, const int32_t *lengths, Py_ssize_t n,
                    const uint8_t *wanted, const int32_t *wanted_starts, const int32_t *wanted_lengths, Py_ssize_t count,
                    uint8_t *out) noexcept nogil:
    cdef uint64_t capacity = 4, place, h
    cdef slot *table
    cdef Py_ssize_t i
    cdef int32_t known
    while capacity < 2 * <uint64_t>count:
        capacity *= 2
    table = <slot *>calloc(capacity, sizeof(slot))
    if table == NULL:
        return -1
    for i in range(count):
        h = af_keyed_text(SEED, at(wanted, wanted_starts[i]), <uint32_t>wanted_lengths[i])
        place = h & (capacity - 1)
        while table[place].number:
            place = (place + 1) & (capacity - 1)
        table[place].hash = h
        table[place].number = <int32_t>i + 1
    for i in range(n):
        h = af_keyed_text(SEED, at(base, starts[i]), <uint32_t>lengths[i])
        place = h & (capacity - 1)
        out[i] = 0
        while table[place].number:
            known = table[place].number - 1
            if (table[place].hash == h and wanted_lengths[known] == lengths[i]
                    and same(at(wanted, wanted_starts[known]), at(base, starts[i]), lengths[i])):
                out[i] = 1
                break
            place = (place + 1) & (capacity - 1)
    free(table)
    return 0


cdef slot *rehashed(slot *table, uint64_t capacity) noexcept nogil:
    """A table of twice the capacity with the same entries; NULL where memory ran out."""
    cdef slot *larger = <slot *>calloc(2 * capacity, sizeof(slot))
    cdef uint64_t old, place
    if larger == NULL:
        return NULL
    for old in range(capacity):
        if table[old].number:
            place = table[old].hash & (2 * capacity - 1)
            while larger[place].number:
                place = (place + 1) & (2 * capacity - 1)
            larger[place] = table[old]
    return larger


cdef int check_either(Py_ssize_t rows, const uint8_t[::1] data, const int32_t[::1] starts, const int32_t[::1] lengths) except -1:
    """Checks a column that holds one text per row, or one text for all rows."""
    return check_texts(data, starts, lengths, 1 if lengths.shape[0] == 1 else rows)
