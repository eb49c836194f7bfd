"""Arrays at a kernel's face: checked, made, and the address of their data."""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint64_t

cimport numpy as cnp


cdef inline object array_of(object values, int typenum, Py_ssize_t count):
    """The array itself, or a contiguous copy; ValueError where it has another length (``count`` -1: any)."""
    array = cnp.PyArray_FROM_OTF(values, typenum, cnp.NPY_ARRAY_C_CONTIGUOUS | cnp.NPY_ARRAY_ALIGNED)
    if count >= 0 and cnp.PyArray_SIZE(array) != count:
        raise ValueError(f"a column of {cnp.PyArray_SIZE(array)} rows in a batch of {count}")
    return array


cdef inline object empty(Py_ssize_t count, int typenum):
    """A new array of one dimension; its values are not set."""
    cdef cnp.npy_intp length = count
    return cnp.PyArray_EMPTY(1, &length, typenum, 0)


cdef inline uint8_t *uint8_data(object array):
    """NULL for None."""
    return NULL if array is None else <uint8_t *>cnp.PyArray_DATA(array)


cdef inline int32_t *int32_data(object array):
    return <int32_t *>cnp.PyArray_DATA(array)


cdef inline int64_t *int64_data(object array):
    """NULL for None."""
    return NULL if array is None else <int64_t *>cnp.PyArray_DATA(array)


cdef inline uint64_t *uint64_data(object array):
    return <uint64_t *>cnp.PyArray_DATA(array)
