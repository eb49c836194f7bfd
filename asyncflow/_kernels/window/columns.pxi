# Columns in and out: numpy arrays checked and pointed into, accumulators as C reads them, results as arrays of their own.
# Part of compiled.pyx.

cdef object _copied(const void *data, int typenum, Py_ssize_t count, Py_ssize_t width):
    """A new array of what is there."""
    cdef cnp.npy_intp length = count
    array = cnp.PyArray_EMPTY(1, &length, typenum, 0)
    if count:
        memcpy(cnp.PyArray_DATA(array), data, count * width)
    return array


cdef object _copied_bytes(const af_bytes *bytes):
    return _copied(bytes.bytes, cnp.NPY_UINT8, bytes.length, 1)


cdef object _by_slot(object values, int typenum, Py_ssize_t least):
    """An array that is read and written in place, of at least so many."""
    array = cnp.PyArray_FROM_OTF(values, typenum, cnp.NPY_ARRAY_CARRAY)
    if array is not values:
        raise TypeError("not a contiguous array of its type that can be written to")
    if len(array) < least:
        raise ValueError(f"{len(array)} values by slot for slots below {least}")
    return array


cdef int _fill(af_op *op, accumulator) except -1:
    op.family = FAMILIES[accumulator.family]
    op.input, op.second, op.mask = accumulator.input, accumulator.second, accumulator.mask
    op.input_kind, op.second_kind = KINDS[accumulator.kind], KINDS[accumulator.second_kind]
    op.sum, op.extremes = accumulator.sum, accumulator.extremes
    op.key, op.key_input, op.key_kind = KEYS[accumulator.key], accumulator.key_input, KINDS[accumulator.key_kind]
    op.greatest, op.last, op.valued = accumulator.greatest, accumulator.last, accumulator.valued
    op.counters = accumulator.counters
    return 0


cdef int _point(af_input *column, int kind, raw, Py_ssize_t count, list kept) except -1:
    """Points a C column into a raw one, whose arrays are put into ``kept``."""
    memset(column, 0, sizeof(af_input))
    valid = raw[len(raw) - 1]
    if valid is not None:
        valid = array_of(valid, cnp.NPY_BOOL, count)
        kept.append(valid)
        column.valid = <const uint8_t *>cnp.PyArray_DATA(valid)
    if kind == AF_KIND_STRING:
        data, starts, lengths = array_of(raw[0], cnp.NPY_UINT8, -1), array_of(raw[1], cnp.NPY_INT32, count), None
        lengths = array_of(raw[2], cnp.NPY_INT32, count)
        if check_views(
            <const int32_t *>cnp.PyArray_DATA(starts), <const int32_t *>cnp.PyArray_DATA(lengths), count, cnp.PyArray_SIZE(data)
        ):
            starts = np.where(lengths, starts, np.int32(0))
        kept += [data, starts, lengths]
        column.data = <const uint8_t *>cnp.PyArray_DATA(data)
        column.starts = <const int32_t *>cnp.PyArray_DATA(starts)
        column.lengths = <const int32_t *>cnp.PyArray_DATA(lengths)
        return 0
    typenum = cnp.NPY_FLOAT64 if kind == AF_KIND_FLOAT64 else cnp.NPY_BOOL if kind == AF_KIND_BOOL else cnp.NPY_INT64
    values = array_of(raw[0], typenum, count)
    kept.append(values)
    column.values = cnp.PyArray_DATA(values)
    return 0


cdef object _column(af_output *output, Py_ssize_t count, type_):
    """A result column as arrays of its own; of lists: as texts, ``type_`` the name of their values' type."""
    words = _copied(output.words, cnp.NPY_INT64, count, 8)
    if output.result == AF_MOST_FREQUENT:
        items = _copied(output.items, cnp.NPY_INT64, 2 * output.item_count, 8).reshape(-1, 2)
        return json_lists(json_rows, type_, _values(output, items[:, 0].copy(), None), items[:, 1].copy(), words)
    return _values(output, words, _copied(output.valid, cnp.NPY_BOOL, count, 1) if output.nulls else None)


cdef object _values(af_output *output, object words, object valid):
    """The raw column that these words say."""
    if output.kind == AF_KIND_FLOAT64:
        return words.view(np.float64), valid
    if output.kind != AF_KIND_STRING:
        return (words != 0 if output.kind == AF_KIND_BOOL else words), valid
    if output.text_bytes > 0x7FFFFFFF:
        raise OverflowError("the texts of one batch exceed 2 GiB")
    data = _copied(output.text, cnp.NPY_UINT8, output.text_bytes, 1)
    lengths = words.astype(np.int32)
    starts = np.zeros(len(lengths), np.int32)
    np.cumsum(lengths[: len(lengths) - 1], out=starts[1:])
    return data, starts, lengths, valid
