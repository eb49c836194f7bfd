"""The distinct values of each key column, and the distinct pairs of ids: part of compiled.pyx.

A column's values are interned: each has an id, in order of first appearance.  ``order`` gives the ids by value and is kept until new
values come.  ``save`` and ``load`` are the values in their order (saved.h).
"""


cdef object ranks_of(object order):
    """The place of each id in the order."""
    ranks = np.empty(len(order), np.int32)
    ranks[order] = np.arange(len(order), dtype=np.int32)
    return ranks


cdef tuple text_column(column, Py_ssize_t count):
    """A column of texts as arrays that can be read; ValueError where a text lies outside of its bytes."""
    data, starts, lengths, valid = column
    data = array_of(data, cnp.NPY_UINT8, -1)
    starts = array_of(starts, cnp.NPY_INT32, count)
    lengths = array_of(lengths, cnp.NPY_INT32, count)
    if valid is not None:
        valid = array_of(valid, cnp.NPY_BOOL, count)
    if check_views(int32_data(starts), int32_data(lengths), count, cnp.PyArray_SIZE(data)):
        starts = np.where(lengths, starts, np.int32(0))
    return data, starts, lengths, valid


cdef af_string_rows text_rows(tuple column):
    """The rows of a ``text_column``, which owns what they point to."""
    cdef object data = column[0]
    return af_string_rows(
        uint8_data(data), cnp.PyArray_SIZE(data), int32_data(column[1]), int32_data(column[2]), uint8_data(column[3]), NULL
    )


cdef object hashes_of(column, Py_ssize_t count):
    """The hash (uint64) of each row's value."""
    hashes = empty(count, cnp.NPY_UINT64)
    cdef uint64_t *out = uint64_data(hashes)
    cdef af_string_rows rows
    cdef const uint64_t *seeds = uint64_data(SEEDS)
    cdef const uint8_t *valid
    cdef const void *data
    cdef af_key_kind kind
    cdef Py_ssize_t row
    if len(column) == 4:
        column = text_column(column, count)
        rows = text_rows(column)
        valid = rows.valid
        with nogil:
            af_hash_strings(LEVEL, seeds, &rows, count, out)
    else:
        values, ok = column
        name = values.dtype.name
        if name not in ("int64", "float64", "bool"):
            raise ValueError(f"a key column of {name}: it must be int64, float64 or bool")
        kind, typenum = _kind_of(name)
        values = array_of(values, typenum, count)
        ok = None if ok is None else array_of(ok, cnp.NPY_BOOL, count)
        valid, data = uint8_data(ok), cnp.PyArray_DATA(values)
        with nogil:
            af_hash_words(seeds, data, kind, count, out)
    if valid != NULL:
        for row in range(count):
            if not valid[row]:
                out[row] = AF_NULL_HASH
    return hashes


cdef tuple _kind_of(str kind):
    """How the values of a column of fixed width are keys, and numpy's number of their type."""
    if kind == "float64":
        return AF_KEY_FLOAT64, cnp.NPY_FLOAT64
    if kind == "bool":
        return AF_KEY_BOOL, cnp.NPY_BOOL
    return AF_KEY_INT64, cnp.NPY_INT64


cdef int check_loaded(af_loaded loaded, str part) except -1:
    if loaded == AF_LOAD_NO_MEMORY:
        raise MemoryError
    if loaded == AF_LOAD_NO_TEXT:
        raise ValueError(f"{part}: a text that is not UTF-8")
    if loaded == AF_LOAD_OUT_OF_ORDER:
        raise ValueError(f"{part}: values that are not in order, each once")
    return 0


cdef class _Keys:
    """The distinct values of one key column."""

    cdef object known_order

    cdef int size(self):
        return 0

    cdef int null_id(self):
        """-1: no null yet."""
        return -1

    cdef uint64_t nbytes(self):
        return 0

    cdef object assign(self, column, Py_ssize_t count, hashes):
        """The id (int32) of each row's value.  ``hashes``: those of the values (uint64), or None."""

    cdef object order(self):
        """All ids in the order of their values, null last."""

    cdef object column(self, ids, uint64_t max_bytes):
        """The raw column of these ids; OverflowError where its texts have more than ``max_bytes``."""

    cdef int keep(self, ids) except -1:
        """Forgets all values but these; ``ids[i]`` becomes i."""

    cdef int save(self, dict parts, str name) except -1:
        """Puts the values, in order and without null, among the parts."""

    cdef object load(self, parts, str name, bint null):
        """Takes values into an empty table, and null behind them; gives the names of the parts that were read."""


cdef class _StringKeys(_Keys):
    cdef af_strings table

    def __cinit__(self):
        if not af_strings_init(&self.table, uint64_data(SEEDS)):
            raise MemoryError
        self.known_order = empty(0, cnp.NPY_INT32)

    def __dealloc__(self):
        af_strings_free(&self.table)

    cdef int size(self):
        return self.table.size

    cdef int null_id(self):
        return self.table.null_id

    cdef uint64_t nbytes(self):
        return af_strings_bytes(&self.table) + 4 * <uint64_t>len(self.known_order)

    cdef object assign(self, column, Py_ssize_t count, hashes):
        column = text_column(column, count)
        ids = empty(count, cnp.NPY_INT32)
        cdef af_string_rows rows = text_rows(column)
        rows.hashes = NULL if hashes is None else uint64_data(hashes)
        cdef int32_t *out = int32_data(ids)
        cdef bint done
        with nogil:
            done = af_assign_strings(LEVEL, &self.table, &rows, count, out)
        if not done:
            raise MemoryError
        return ids

    cdef object order(self):
        cdef int ordered = len(self.known_order)
        cdef int32_t *ids
        cdef bint done
        if ordered != self.table.size:
            order = empty(self.table.size, cnp.NPY_INT32)
            order[:ordered] = self.known_order
            ids = int32_data(order)
            with nogil:
                done = af_order_strings(&self.table, ids, ordered)
            if not done:
                raise MemoryError
            self.known_order = order
        return self.known_order

    cdef object column(self, ids, uint64_t max_bytes):
        cdef Py_ssize_t count = len(ids), i
        cdef const int32_t *wanted = int32_data(ids)
        cdef uint64_t total
        cdef int32_t begin = 0
        cdef bint nulls = False
        starts, lengths = empty(count, cnp.NPY_INT32), empty(count, cnp.NPY_INT32)
        cdef int32_t *start = int32_data(starts)
        cdef int32_t *size = int32_data(lengths)
        with nogil:
            total = af_strings_lengths(&self.table, wanted, count, size)
        if total > max_bytes:
            raise OverflowError(f"the keys of {count} rows have {total} bytes, more than {max_bytes}")
        data = empty(total, cnp.NPY_UINT8)
        cdef uint8_t *text = uint8_data(data)
        with nogil:
            for i in range(count):
                start[i] = begin
                begin += size[i]
                nulls |= wanted[i] == self.table.null_id
            af_strings_save(&self.table, wanted, count, text, total)
        return data, starts, lengths, (ids != self.table.null_id) if nulls else None

    cdef int keep(self, ids) except -1:
        cdef af_strings table
        if not af_strings_rebuild(&table, &self.table, int32_data(ids), <int32_t>len(ids)):
            raise MemoryError
        self.known_order = _kept_order(self.known_order, ids, self.table.size)
        af_strings_free(&self.table)
        self.table = table
        return 0

    cdef int save(self, dict parts, str name) except -1:
        order = self.order()
        cdef int64_t count = self.table.size - (self.table.null_id >= 0)
        cdef const int32_t *ids = int32_data(order)
        lengths = empty(count, cnp.NPY_INT32)
        cdef int32_t *size = int32_data(lengths)
        cdef uint64_t total = af_strings_lengths(&self.table, ids, count, size)
        parts[f"{name}.text"] = text = empty(total, cnp.NPY_UINT8)
        parts[f"{name}.lengths"] = lengths
        cdef uint8_t *out = uint8_data(text)
        with nogil:
            af_strings_save(&self.table, ids, count, out, total)
        return 0

    cdef object load(self, parts, str name, bint null):
        lengths, text = saved.array(parts, f"{name}.lengths", np.int32), saved.array(parts, f"{name}.text", np.uint8)
        cdef int64_t count = len(lengths)
        cdef const int32_t *sizes = int32_data(lengths)
        cdef const uint8_t *data = uint8_data(text)
        if count + null > saved.MOST_NUMBERED or af_lengths_sum(sizes, count) != len(text):
            raise ValueError(f"{name}.lengths: they are not those of {name}.text")
        cdef af_loaded loaded
        with nogil:
            loaded = af_strings_load(&self.table, data, sizes, count, null)
        check_loaded(loaded, f"{name}.text")
        self.known_order = np.arange(count + null, dtype=np.int32)
        return f"{name}.lengths", f"{name}.text"


cdef object _kept_order(order, ids, int size):
    """The order that is known, with only these ids under their new names; what is not ordered yet stays so."""
    new = np.full(size, -1, np.int32)
    new[ids] = np.arange(len(ids), dtype=np.int32)
    kept = new[order]
    return np.ascontiguousarray(kept[kept >= 0])


cdef class _FixedKeys(_Keys):
    cdef af_words table
    cdef af_key_kind kind
    cdef int typenum

    def __cinit__(self, str kind):
        self.kind, self.typenum = _kind_of(kind)
        if not af_words_init(&self.table, uint64_data(SEEDS)):
            raise MemoryError
        self.known_order = empty(0, cnp.NPY_INT32)

    def __dealloc__(self):
        af_words_free(&self.table)

    cdef int size(self):
        return self.table.size

    cdef int null_id(self):
        return self.table.null_id

    cdef uint64_t nbytes(self):
        return af_words_bytes(&self.table)

    cdef object assign(self, column, Py_ssize_t count, hashes):
        values, valid = column
        values = array_of(values, self.typenum, count)
        if valid is not None:
            valid = array_of(valid, cnp.NPY_BOOL, count)
        ids = empty(count, cnp.NPY_INT32)
        cdef const void *data = cnp.PyArray_DATA(values)
        cdef const uint8_t *ok = uint8_data(valid)
        cdef const uint64_t *known = NULL if hashes is None else uint64_data(hashes)
        cdef int32_t *out = int32_data(ids)
        cdef bint done
        with nogil:
            done = af_assign_words(&self.table, data, ok, known, self.kind, count, out)
        if not done:
            raise MemoryError
        return ids

    cdef object order(self):
        cdef int32_t *ids
        cdef bint done
        if len(self.known_order) != self.table.size:
            order = empty(self.table.size, cnp.NPY_INT32)
            ids = int32_data(order)
            with nogil:
                done = af_order_words(&self.table, self.kind, ids)
            if not done:
                raise MemoryError
            self.known_order = order
        return self.known_order

    cdef object column(self, ids, uint64_t max_bytes):
        cdef Py_ssize_t count = len(ids), i
        cdef const int32_t *wanted = int32_data(ids)
        cdef bint nulls = False
        words = empty(count, cnp.NPY_UINT64)
        cdef uint64_t *out = uint64_data(words)
        with nogil:
            for i in range(count):
                out[i] = self.table.words[wanted[i]]
                nulls |= wanted[i] == self.table.null_id
        return self.values(words), (ids != self.table.null_id) if nulls else None

    cdef object values(self, words):
        if self.kind == AF_KEY_BOOL:
            return words != 0
        return words.view(np.float64 if self.kind == AF_KEY_FLOAT64 else np.int64)

    cdef int keep(self, ids) except -1:
        cdef af_words table
        if not af_words_rebuild(&table, &self.table, int32_data(ids), <int32_t>len(ids)):
            raise MemoryError
        af_words_free(&self.table)
        self.table = table
        self.known_order = empty(0, cnp.NPY_INT32)
        return 0

    cdef int save(self, dict parts, str name) except -1:
        order = self.order()
        cdef int64_t count = self.table.size - (self.table.null_id >= 0)
        words = empty(count, cnp.NPY_UINT64)
        af_words_save(&self.table, int32_data(order), count, uint64_data(words))
        parts[f"{name}.values"] = self.values(words)
        return 0

    cdef object load(self, parts, str name, bint null):
        values = saved.array(parts, f"{name}.values", cnp.PyArray_DescrFromType(self.typenum))
        cdef int64_t count = len(values)
        if count + null > saved.MOST_NUMBERED:
            raise ValueError(f"{name}.values: too many")
        words = values.astype(np.uint64) if self.kind == AF_KEY_BOOL else values.view(np.uint64)
        check_loaded(af_words_load(&self.table, self.kind, uint64_data(words), count, null), f"{name}.values")
        self.known_order = np.arange(count + null, dtype=np.int32)
        return (f"{name}.values",)


cdef class _PairKeys:
    """The distinct pairs (group by the columns before, id in this column)."""

    cdef af_words table
    cdef object known_order

    def __cinit__(self):
        if not af_words_init(&self.table, uint64_data(SEEDS)):
            raise MemoryError
        self.known_order = empty(0, cnp.NPY_INT32)

    def __dealloc__(self):
        af_words_free(&self.table)

    cdef int assign(self, ids, others) except -1:
        """Writes the ids of the pairs (ids[i], others[i]) over ``ids``."""
        cdef int32_t *out = int32_data(ids)
        cdef const int32_t *second = int32_data(others)
        cdef Py_ssize_t count = len(ids)
        cdef bint done
        with nogil:
            done = af_assign_pairs(&self.table, out, second, count)
        if not done:
            raise MemoryError
        return 0

    cdef object order(self, first, second):
        cdef const int32_t *firsts
        cdef const int32_t *seconds
        cdef int32_t *ids
        cdef bint done
        if len(self.known_order) != self.table.size:
            order = empty(self.table.size, cnp.NPY_INT32)
            first, second = ranks_of(first), ranks_of(second)
            firsts, seconds, ids = int32_data(first), int32_data(second), int32_data(order)
            with nogil:
                done = af_order_pairs(&self.table, firsts, seconds, ids)
            if not done:
                raise MemoryError
            self.known_order = order
        return self.known_order

    cdef object parts(self, ids):
        """The two ids of these pairs."""
        cdef Py_ssize_t count = len(ids), i
        cdef const int32_t *wanted = int32_data(ids)
        firsts, seconds = empty(count, cnp.NPY_INT32), empty(count, cnp.NPY_INT32)
        cdef int32_t *first = int32_data(firsts)
        cdef int32_t *second = int32_data(seconds)
        with nogil:
            for i in range(count):
                first[i] = <int32_t>(self.table.words[wanted[i]] >> 32)
                second[i] = <int32_t>self.table.words[wanted[i]]
        return firsts, seconds

    cdef int replace(self, firsts, seconds) except -1:
        """These pairs, all different, and no others."""
        af_words_free(&self.table)
        if not af_words_init(&self.table, uint64_data(SEEDS)):
            raise MemoryError
        self.known_order = empty(0, cnp.NPY_INT32)
        return self.assign(firsts.copy(), seconds)
