"""Group table: key tuples to dense ids in order of first appearance, and back.

Each key column has an intern table of its own (strings: groups/strings.h and groups/block.h; fixed-width values: groups/words.h).
Where there are several columns, the group is the id of the pair (group by the columns before, id in this column), column after
column.  The order of the keys (groups/sort.h) is kept until new keys come.  Cost: three passes over blocks of 64 rows per string
column, one probe per fixed column and pair.  See the twin for what the results are.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint64_t
from libc.string cimport memcpy

import os

import numpy as np

from asyncflow._kernels.base.guarded import guarded

cimport numpy as cnp

from asyncflow._kernels.base.views cimport check_ids, check_kept, check_views

cnp.import_array()

cdef extern from "groups/sort.h" nogil:
    ctypedef struct af_strings:
        int32_t size
        int32_t null_id
        uint64_t *offsets
        uint8_t *text
    ctypedef struct af_string_rows:
        const uint8_t *data
        int64_t data_bytes
        const int32_t *starts
        const int32_t *lengths
        const uint8_t *valid
    ctypedef struct af_words:
        int32_t size
        int32_t null_id
        uint64_t *words
    ctypedef enum af_key_kind:
        AF_KEY_INT64
        AF_KEY_FLOAT64
        AF_KEY_BOOL

    int af_cpu_level()
    bint af_strings_init(af_strings *, const uint64_t *seeds)
    void af_strings_free(af_strings *)
    bint af_strings_rebuild(af_strings *, const af_strings *source, const int32_t *ids, int32_t count)
    uint64_t af_strings_bytes(const af_strings *)
    uint64_t af_text_length(const af_strings *, int32_t)
    bint af_assign_strings(int level, af_strings *, const af_string_rows *, int64_t count, int32_t *ids)
    bint af_order_strings(const af_strings *, int32_t *order, int32_t ordered)
    bint af_words_init(af_words *, const uint64_t *seeds)
    void af_words_free(af_words *)
    bint af_words_rebuild(af_words *, af_words *source, const int32_t *ids, int32_t count)
    uint64_t af_words_bytes(const af_words *)
    bint af_assign_words(af_words *, const void *values, const uint8_t *valid, af_key_kind, int64_t count, int32_t *ids)
    bint af_assign_pairs(af_words *, int32_t *ids, const int32_t *others, int64_t count)
    bint af_order_words(const af_words *, af_key_kind, int32_t *order)
    bint af_order_pairs(const af_words *, const int32_t *first, const int32_t *second, int32_t *order)

cdef int LEVEL = af_cpu_level()
if LEVEL < 0:
    raise ImportError(
        f"ASYNCFLOW_CPU={os.environ.get('ASYNCFLOW_CPU')!r} must be portable, v2, v3 or v4, and a level this machine has"
    )

SEEDS = np.frombuffer(os.urandom(80), np.uint64)
cdef object _seeds = SEEDS


cdef object _array(object values, int typenum, Py_ssize_t count):
    """The array itself, or a contiguous copy; TypeError or ValueError where it is not what its column says."""
    array = cnp.PyArray_FROM_OTF(values, typenum, cnp.NPY_ARRAY_C_CONTIGUOUS | cnp.NPY_ARRAY_ALIGNED)
    if count >= 0 and cnp.PyArray_SIZE(array) != count:
        raise ValueError(f"a column of {cnp.PyArray_SIZE(array)} rows in a batch of {count}")
    return array


cdef inline uint8_t *_bytes(object array):
    return NULL if array is None else <uint8_t *>cnp.PyArray_DATA(array)


cdef inline int32_t *_ids(object array):
    return <int32_t *>cnp.PyArray_DATA(array)


cdef object _ranks(object order):
    ranks = np.empty(len(order), np.int32)
    ranks[order] = np.arange(len(order), dtype=np.int32)
    return ranks


cdef class _StringKeys:
    """The distinct values of a string column."""

    cdef af_strings table
    cdef object _order

    def __cinit__(self):
        if not af_strings_init(&self.table, <const uint64_t *>cnp.PyArray_DATA(_seeds)):
            raise MemoryError
        self._order = np.empty(0, np.int32)

    def __dealloc__(self):
        af_strings_free(&self.table)

    cdef uint64_t nbytes(self):
        return af_strings_bytes(&self.table) + 4 * <uint64_t>len(self._order)

    cdef object assign(self, column, Py_ssize_t count):
        data, starts, lengths, valid = column
        data = _array(data, cnp.NPY_UINT8, -1)
        starts = _array(starts, cnp.NPY_INT32, count)
        lengths = _array(lengths, cnp.NPY_INT32, count)
        if valid is not None:
            valid = _array(valid, cnp.NPY_BOOL, count)
        if check_views(_ids(starts), _ids(lengths), count, cnp.PyArray_SIZE(data)):
            starts = np.where(lengths, starts, np.int32(0))
        ids = cnp.PyArray_EMPTY(1, [count], cnp.NPY_INT32, 0)
        cdef af_string_rows rows = af_string_rows(
            _bytes(data), cnp.PyArray_SIZE(data), _ids(starts), _ids(lengths), _bytes(valid)
        )
        cdef int32_t *out = _ids(ids)
        cdef bint done
        with nogil:
            done = af_assign_strings(LEVEL, &self.table, &rows, count, out)
        if not done:
            raise MemoryError
        return ids

    cdef object order(self):
        cdef int ordered = len(self._order)
        if ordered != self.table.size:
            order = np.empty(self.table.size, np.int32)
            order[:ordered] = self._order
            if not af_order_strings(&self.table, _ids(order), ordered):
                raise MemoryError
            self._order = order
        return self._order

    cdef object column(self, ids, uint64_t max_bytes):
        cdef Py_ssize_t count = len(ids), i
        cdef const int32_t *wanted = _ids(ids)
        cdef uint64_t total = 0, length
        cdef bint nulls = False
        starts = cnp.PyArray_EMPTY(1, [count], cnp.NPY_INT32, 0)
        lengths = cnp.PyArray_EMPTY(1, [count], cnp.NPY_INT32, 0)
        cdef int32_t *start = _ids(starts)
        cdef int32_t *size = _ids(lengths)
        for i in range(count):
            length = af_text_length(&self.table, wanted[i])
            start[i] = <int32_t>total
            size[i] = <int32_t>length
            total += length
            nulls |= wanted[i] == self.table.null_id
        if total > max_bytes:
            raise OverflowError(f"the keys of {count} rows have {total} bytes, more than {max_bytes}")
        data = np.empty(total, np.uint8)
        cdef uint8_t *text = <uint8_t *>cnp.PyArray_DATA(data)
        with nogil:
            for i in range(count):
                if size[i]:
                    memcpy(text + start[i], self.table.text + self.table.offsets[wanted[i]], size[i])
        return data, starts, lengths, (ids != self.table.null_id) if nulls else None

    cdef int keep(self, ids) except -1:
        cdef af_strings table
        if not af_strings_rebuild(&table, &self.table, _ids(ids), <int32_t>len(ids)):
            raise MemoryError
        self._order = _kept_order(self._order, ids, self.table.size)
        af_strings_free(&self.table)
        self.table = table
        return 0


cdef object _kept_order(order, ids, int size):
    """The order that is known, with only these ids under their new names; what is not ordered yet stays so."""
    new = np.full(size, -1, np.int32)
    new[ids] = np.arange(len(ids), dtype=np.int32)
    kept = new[order]
    return np.ascontiguousarray(kept[kept >= 0])


cdef class _FixedKeys:
    """The distinct values of a fixed-width column."""

    cdef af_words table
    cdef af_key_kind kind
    cdef int typenum
    cdef object _order

    def __cinit__(self, str kind):
        self.kind = {"float64": AF_KEY_FLOAT64, "bool": AF_KEY_BOOL}.get(kind, AF_KEY_INT64)
        self.typenum = {"float64": cnp.NPY_FLOAT64, "bool": cnp.NPY_BOOL}.get(kind, cnp.NPY_INT64)
        if not af_words_init(&self.table, <const uint64_t *>cnp.PyArray_DATA(_seeds)):
            raise MemoryError
        self._order = np.empty(0, np.int32)

    def __dealloc__(self):
        af_words_free(&self.table)

    cdef object assign(self, column, Py_ssize_t count):
        values, valid = column
        values = _array(values, self.typenum, count)
        if valid is not None:
            valid = _array(valid, cnp.NPY_BOOL, count)
        ids = cnp.PyArray_EMPTY(1, [count], cnp.NPY_INT32, 0)
        cdef const void *data = cnp.PyArray_DATA(values)
        cdef const uint8_t *ok = _bytes(valid)
        cdef int32_t *out = _ids(ids)
        cdef bint done
        with nogil:
            done = af_assign_words(&self.table, data, ok, self.kind, count, out)
        if not done:
            raise MemoryError
        return ids

    cdef object order(self):
        if len(self._order) != self.table.size:
            order = np.empty(self.table.size, np.int32)
            if not af_order_words(&self.table, self.kind, _ids(order)):
                raise MemoryError
            self._order = order
        return self._order

    cdef object column(self, ids):
        cdef Py_ssize_t count = len(ids), i
        cdef const int32_t *wanted = _ids(ids)
        cdef bint nulls = False
        words = cnp.PyArray_EMPTY(1, [count], cnp.NPY_UINT64, 0)
        cdef uint64_t *out = <uint64_t *>cnp.PyArray_DATA(words)
        for i in range(count):
            out[i] = self.table.words[wanted[i]]
            nulls |= wanted[i] == self.table.null_id
        valid = (ids != self.table.null_id) if nulls else None
        if self.kind == AF_KEY_BOOL:
            return words != 0, valid
        return words.view(np.float64 if self.kind == AF_KEY_FLOAT64 else np.int64), valid

    cdef int keep(self, ids) except -1:
        cdef af_words table
        if not af_words_rebuild(&table, &self.table, _ids(ids), <int32_t>len(ids)):
            raise MemoryError
        af_words_free(&self.table)
        self.table = table
        self._order = np.empty(0, np.int32)
        return 0


cdef class _PairKeys:
    """The distinct pairs (group by the columns before, id in this column)."""

    cdef af_words table
    cdef object _order

    def __cinit__(self):
        if not af_words_init(&self.table, <const uint64_t *>cnp.PyArray_DATA(_seeds)):
            raise MemoryError
        self._order = np.empty(0, np.int32)

    def __dealloc__(self):
        af_words_free(&self.table)

    cdef int assign(self, ids, others) except -1:
        cdef int32_t *out = _ids(ids)
        cdef const int32_t *second = _ids(others)
        cdef Py_ssize_t count = len(ids)
        cdef bint done
        with nogil:
            done = af_assign_pairs(&self.table, out, second, count)
        if not done:
            raise MemoryError
        return 0

    cdef object order(self, first, second):
        if len(self._order) != self.table.size:
            order = np.empty(self.table.size, np.int32)
            first, second = _ranks(first), _ranks(second)
            if not af_order_pairs(&self.table, _ids(first), _ids(second), _ids(order)):
                raise MemoryError
            self._order = order
        return self._order

    cdef object parts(self, ids):
        cdef Py_ssize_t count = len(ids), i
        cdef const int32_t *wanted = _ids(ids)
        firsts = cnp.PyArray_EMPTY(1, [count], cnp.NPY_INT32, 0)
        seconds = cnp.PyArray_EMPTY(1, [count], cnp.NPY_INT32, 0)
        for i in range(count):
            _ids(firsts)[i] = <int32_t>(self.table.words[wanted[i]] >> 32)
            _ids(seconds)[i] = <int32_t>self.table.words[wanted[i]]
        return firsts, seconds

    cdef int replace(self, firsts, seconds) except -1:
        """These pairs, all different, and no others."""
        af_words_free(&self.table)
        if not af_words_init(&self.table, <const uint64_t *>cnp.PyArray_DATA(_seeds)):
            raise MemoryError
        self._order = np.empty(0, np.int32)
        return self.assign(firsts.copy(), seconds)


cdef class _GroupTable:
    """Key tuples and their ids.  ``kinds``: the type name of each key column; with none, every row is in group 0."""

    cdef list columns_, pairs

    def __cinit__(self, kinds):
        self.columns_ = [_StringKeys() if kind == "string" else _FixedKeys(kind) for kind in kinds]
        self.pairs = [_PairKeys() for _ in self.columns_[1:]]

    @property
    def size(self):
        """Number of groups."""
        if self.pairs:
            return (<_PairKeys>self.pairs[len(self.pairs) - 1]).table.size
        return _size(self.columns_[0]) if self.columns_ else 1

    @property
    def nbytes(self):
        cdef uint64_t total = 0
        for keys in self.columns_:
            if isinstance(keys, _StringKeys):
                total += (<_StringKeys>keys).nbytes()
            else:
                total += af_words_bytes(&(<_FixedKeys>keys).table)
        for pairs in self.pairs:
            total += af_words_bytes(&(<_PairKeys>pairs).table)
        return total

    def assign(self, columns, Py_ssize_t num_rows):
        """The group id (int32) of each row; new keys get the next ids.  ValueError where a text lies outside of its bytes."""
        if len(columns) != len(self.columns_):
            raise ValueError(f"{len(columns)} key columns for a table of {len(self.columns_)}")
        if not self.columns_:
            return cnp.PyArray_ZEROS(1, [num_rows], cnp.NPY_INT32, 0)
        ids = _assign(self.columns_[0], columns[0], num_rows)
        for j in range(len(self.pairs)):
            (<_PairKeys>self.pairs[j]).assign(ids, _assign(self.columns_[j + 1], columns[j + 1], num_rows))
        return ids

    def order(self):
        """All ids, in the order of their keys."""
        if not self.columns_:
            return np.zeros(1, np.int32)
        order = _order(self.columns_[0])
        for j in range(len(self.pairs)):
            order = (<_PairKeys>self.pairs[j]).order(order, _order(self.columns_[j + 1]))
        return order

    def columns(self, groups, uint64_t max_bytes=0x7FFFFFFF):
        """The key columns of these groups; OverflowError where the texts of one would have more than ``max_bytes``."""
        max_bytes = min(max_bytes, <uint64_t>0x7FFFFFFF)
        if not self.columns_:
            return []
        groups = _checked(groups, self.size)
        raw = []
        for j in range(len(self.pairs) - 1, -1, -1):
            groups, ids = (<_PairKeys>self.pairs[j]).parts(groups)
            raw.append(_column(self.columns_[j + 1], ids, max_bytes))
        raw.append(_column(self.columns_[0], groups, max_bytes))
        raw.reverse()
        return raw

    def keep(self, groups):
        """Forgets all groups but these (ascending); ``groups[i]`` becomes i."""
        if not self.columns_:
            return
        groups = _array(groups, cnp.NPY_INT32, -1)
        check_kept(_ids(groups), len(groups), self.size)
        for j in range(len(self.pairs) - 1, -1, -1):
            firsts, seconds = (<_PairKeys>self.pairs[j]).parts(groups)
            groups, firsts = np.unique(firsts, return_inverse=True)
            kept, seconds = np.unique(seconds, return_inverse=True)
            _keep(self.columns_[j + 1], kept)
            (<_PairKeys>self.pairs[j]).replace(firsts.astype(np.int32), seconds.astype(np.int32))
        _keep(self.columns_[0], groups)


GroupTable = guarded(_GroupTable, "GroupTable")


cdef object _checked(groups, int size):
    """Ids that are in the table, or IndexError."""
    groups = _array(groups, cnp.NPY_INT32, -1)
    check_ids(_ids(groups), len(groups), size)
    return groups


cdef int _size(keys):
    return (<_StringKeys>keys).table.size if isinstance(keys, _StringKeys) else (<_FixedKeys>keys).table.size


cdef object _assign(keys, column, Py_ssize_t count):
    if isinstance(keys, _StringKeys):
        return (<_StringKeys>keys).assign(column, count)
    return (<_FixedKeys>keys).assign(column, count)


cdef object _order(keys):
    return (<_StringKeys>keys).order() if isinstance(keys, _StringKeys) else (<_FixedKeys>keys).order()


cdef object _column(keys, ids, uint64_t max_bytes):
    return (<_StringKeys>keys).column(ids, max_bytes) if isinstance(keys, _StringKeys) else (<_FixedKeys>keys).column(ids)


cdef int _keep(keys, ids) except -1:
    return (<_StringKeys>keys).keep(ids) if isinstance(keys, _StringKeys) else (<_FixedKeys>keys).keep(ids)
