"""Group table: key tuples to dense ids in order of first appearance, and back.

Each key column has an intern table of its own (strings: groups/strings.h and groups/block.h; fixed-width values: groups/words.h).
Where there are several columns, the group is the id of the pair (group by the columns before, id in this column), column after
column.  The order of the keys (groups/sort.h) is kept until new keys come.  Cost: three passes over blocks of 64 rows per string
column, one probe per fixed column and pair.  See the twin for what the results are.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint64_t

import numpy as np

from asyncflow._kernels.base import saved
from asyncflow._kernels.base.guarded import guarded
from asyncflow._kernels.groups.seeds import SEEDS

cimport numpy as cnp

from asyncflow._kernels.base.arrays cimport array_of, empty, int32_data, uint8_data, uint64_data
from asyncflow._kernels.base.levels cimport cpu_level
from asyncflow._kernels.base.views cimport check_ids, check_kept, check_views

cnp.import_array()

cdef extern from "groups/saved.h" nogil:
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
        const uint64_t *hashes
    ctypedef struct af_words:
        int32_t size
        int32_t null_id
        uint64_t *words
    ctypedef enum af_key_kind:
        AF_KEY_INT64
        AF_KEY_FLOAT64
        AF_KEY_BOOL
    enum:
        AF_SEEDS
        AF_NULL_HASH

    bint af_strings_init(af_strings *, const uint64_t *seeds)
    void af_strings_free(af_strings *)
    bint af_strings_rebuild(af_strings *, const af_strings *source, const int32_t *ids, int32_t count)
    uint64_t af_strings_bytes(const af_strings *)
    bint af_assign_strings(int level, af_strings *, const af_string_rows *, int64_t count, int32_t *ids)
    bint af_order_strings(const af_strings *, int32_t *order, int32_t ordered)
    bint af_words_init(af_words *, const uint64_t *seeds)
    void af_words_free(af_words *)
    bint af_words_rebuild(af_words *, af_words *source, const int32_t *ids, int32_t count)
    uint64_t af_words_bytes(const af_words *)
    bint af_assign_words(
        af_words *, const void *values, const uint8_t *valid, const uint64_t *hashes, af_key_kind, int64_t count, int32_t *ids)
    bint af_assign_pairs(af_words *, int32_t *ids, const int32_t *others, int64_t count)
    void af_hash_strings(int level, const uint64_t *seeds, const af_string_rows *, int64_t count, uint64_t *hashes)
    void af_hash_words(const uint64_t *seeds, const void *values, af_key_kind, int64_t count, uint64_t *hashes)
    uint64_t af_hash_both(const uint64_t *seeds, uint64_t before, uint64_t hash)
    bint af_order_words(const af_words *, af_key_kind, int32_t *order)
    bint af_order_pairs(const af_words *, const int32_t *first, const int32_t *second, int32_t *order)

    ctypedef enum af_loaded:
        AF_LOADED
        AF_LOAD_NO_MEMORY
        AF_LOAD_NO_TEXT
        AF_LOAD_OUT_OF_ORDER

    uint64_t af_strings_lengths(const af_strings *, const int32_t *ids, int64_t count, int32_t *lengths)
    void af_strings_save(const af_strings *, const int32_t *ids, int64_t count, uint8_t *text, uint64_t bytes)
    int64_t af_lengths_sum(const int32_t *, int64_t count)
    af_loaded af_strings_load(af_strings *, const uint8_t *text, const int32_t *lengths, int64_t count, bint null)
    void af_words_save(const af_words *, const int32_t *ids, int64_t count, uint64_t *words)
    af_loaded af_words_load(af_words *, af_key_kind, const uint64_t *words, int64_t count, bint null)

cdef int LEVEL = cpu_level()

assert len(SEEDS) == AF_SEEDS

include "keys.pxi"


def hash_rows(columns, Py_ssize_t num_rows):
    """The hash (uint64) of each row's key: see the twin.  ValueError where a text lies outside of its bytes."""
    if not columns:
        return cnp.PyArray_ZEROS(1, [num_rows], cnp.NPY_UINT64, 0)
    hashes = hashes_of(columns[0], num_rows)
    cdef uint64_t *out = uint64_data(hashes)
    cdef const uint64_t *more
    cdef const uint64_t *seeds = uint64_data(SEEDS)
    cdef Py_ssize_t row
    for column in columns[1:]:
        others = hashes_of(column, num_rows)
        more = uint64_data(others)
        with nogil:
            for row in range(num_rows):
                out[row] = af_hash_both(seeds, out[row], more[row])
    return hashes


cdef class _GroupTable:
    """Key tuples and their ids.  ``kinds``: the type name of each key column; with none, every row is in group 0."""

    cdef list kinds, columns_, pairs
    cdef object frozen

    def __cinit__(self, kinds):
        self.kinds = list(kinds)
        self.columns_ = [_keys(kind) for kind in self.kinds]
        self.pairs = [_PairKeys() for _ in self.columns_[1:]]
        self.frozen = saved.Parts()

    @property
    def size(self):
        """Number of groups."""
        if self.pairs:
            return (<_PairKeys>self.pairs[len(self.pairs) - 1]).table.size
        return (<_Keys>self.columns_[0]).size() if self.columns_ else 1

    @property
    def nbytes(self):
        cdef uint64_t total = 0
        for keys in self.columns_:
            total += (<_Keys>keys).nbytes()
        for pairs in self.pairs:
            total += af_words_bytes(&(<_PairKeys>pairs).table)
        return total

    def assign(self, columns, Py_ssize_t num_rows, hashes=None):
        """The group id (int32) of each row; new keys get the next ids.  ``hashes``: see the twin.  ValueError where a text lies outside of
        its bytes."""
        if len(columns) != len(self.columns_):
            raise ValueError(f"{len(columns)} key columns for a table of {len(self.columns_)}")
        if hashes is not None:
            hashes = array_of(hashes, cnp.NPY_UINT64, num_rows)
        if not self.columns_:
            return cnp.PyArray_ZEROS(1, [num_rows], cnp.NPY_INT32, 0)
        # With several columns each is interned by itself: the hash of all their values is of no use to any of them.
        ids = (<_Keys>self.columns_[0]).assign(columns[0], num_rows, None if self.pairs else hashes)
        for j in range(len(self.pairs)):
            (<_PairKeys>self.pairs[j]).assign(ids, (<_Keys>self.columns_[j + 1]).assign(columns[j + 1], num_rows, None))
        return ids

    def order(self):
        """All ids, in the order of their keys."""
        return self._order()

    cdef object _order(self):
        if not self.columns_:
            return np.zeros(1, np.int32)
        order = (<_Keys>self.columns_[0]).order()
        for j in range(len(self.pairs)):
            order = (<_PairKeys>self.pairs[j]).order(order, (<_Keys>self.columns_[j + 1]).order())
        return order

    def ranks(self):
        """The place (int32) of each id in the order of their keys."""
        return ranks_of(self._order())

    def columns(self, groups, uint64_t max_bytes=0x7FFFFFFF):
        """The key columns of these groups; OverflowError where the texts of one would have more than ``max_bytes``."""
        max_bytes = min(max_bytes, <uint64_t>0x7FFFFFFF)
        if not self.columns_:
            return []
        groups = array_of(groups, cnp.NPY_INT32, -1)
        check_ids(int32_data(groups), len(groups), self.size)
        ids = self._column_ids(groups)
        return [(<_Keys>keys).column(ids[j], max_bytes) for j, keys in enumerate(self.columns_)]

    cdef list _column_ids(self, groups):
        """The ids of these groups' values, by column."""
        found = []
        for j in range(len(self.pairs) - 1, -1, -1):
            groups, ids = (<_PairKeys>self.pairs[j]).parts(groups)
            found.append(ids)
        return [groups, *reversed(found)]

    def keep(self, groups):
        """Forgets all groups but these (ascending); ``groups[i]`` becomes i."""
        if not self.columns_:
            return
        groups = array_of(groups, cnp.NPY_INT32, -1)
        check_kept(int32_data(groups), len(groups), self.size)
        for j in range(len(self.pairs) - 1, -1, -1):
            firsts, seconds = (<_PairKeys>self.pairs[j]).parts(groups)
            groups, firsts = np.unique(firsts, return_inverse=True)
            kept, seconds = np.unique(seconds, return_inverse=True)
            (<_Keys>self.columns_[j + 1]).keep(kept)
            (<_PairKeys>self.pairs[j]).replace(firsts.astype(np.int32), seconds.astype(np.int32))
        (<_Keys>self.columns_[0]).keep(groups)

    def freeze(self):
        """The fields of a snapshot, whose parts ``pieces`` gives from now on: see the twin."""
        parts, nulls = {}, []
        for j, keys in enumerate(self.columns_):
            nulls.append((<_Keys>keys).null_id() >= 0)
            (<_Keys>keys).save(parts, f"{j}")
        if self.pairs:
            for j, ids in enumerate(self._column_ids(self._order())):
                parts[f"{j}.places"] = ranks_of((<_Keys>self.columns_[j]).order())[ids]
        self.frozen = saved.Parts(parts)
        return {"kinds": list(self.kinds), "size": self.size, "nulls": nulls}

    def pieces(self, budget):
        """The next parts of the snapshot, of about ``budget`` bytes: ``[(name, array), ...]``; None: all were given."""
        return self.frozen.pieces(budget)

    def drop(self):
        """The snapshot is given up."""
        self.frozen.drop()

    def load(self, fields, parts):
        """Takes a snapshot into an empty table: group i is the i-th in the order of keys.  ValueError says what does not fit."""
        if self.columns_ and self.size:
            raise ValueError("a snapshot is loaded into a table that holds keys")
        saved.same(fields, kinds=self.kinds)
        cdef Py_ssize_t size = saved.number(fields, "size", 0, saved.MOST_NUMBERED), j
        nulls = saved.flags(fields, "nulls", len(self.kinds))
        columns, pairs, names, places = [], [], [], []
        for j, kind in enumerate(self.kinds):
            columns.append(_keys(kind))
            names.extend((<_Keys>columns[j]).load(parts, f"{j}", nulls[j]))
        sizes = [(<_Keys>keys).size() for keys in columns]
        if len(columns) > 1:
            places = [saved.all_of(parts, f"{j}.places", size, count) for j, count in enumerate(sizes)]
            names.extend(f"{j}.places" for j in range(len(columns)))
            if not saved.rising(*places):
                raise ValueError("places: groups that are not in order, each once")
            ids = places[0].copy()
            for j in range(1, len(columns)):
                pairs.append(_PairKeys())
                (<_PairKeys>pairs[j - 1]).assign(ids, places[j])
        elif size != (sizes[0] if sizes else 1):
            raise ValueError(f"size: {size} groups, but {sizes} keys")
        saved.nothing_else(parts, names)
        self.columns_, self.pairs = columns, pairs


cdef _Keys _keys(str kind):
    return _StringKeys() if kind == "string" else _FixedKeys(kind)


GroupTable = guarded(_GroupTable, "GroupTable")
