"""``exp``, ``ln``, ``log10``, ``power`` and ``round`` to decimals, a column at a time.

``operators/functions/numbers`` calls them.  The methods are in ``elementary/elementary.h`` and ``elementary/decimals.h``; the twin
``elementary/reference.py`` is the specification.  Invariant: results are the same bits on every processor.
"""

from libc.stdint cimport int64_t

cdef extern from "elementary/decimals.h" nogil:
    bint af_round_to(double x, int64_t digits, double *out)

cdef extern from "elementary/elementary.h" nogil:
    double af_exp(double x)
    double af_log(double x)
    double af_log10(double x)
    double af_pow(double x, double y)

ctypedef double (*function)(double) noexcept nogil


cdef int _apply(function of, const double[::1] values, double[::1] out) except -1:
    cdef Py_ssize_t row, rows = values.shape[0]
    if out.shape[0] != rows:
        raise ValueError("the arrays differ in length")
    with nogil:
        for row in range(rows):
            out[row] = of(values[row])
    return 0


def exp(const double[::1] values, double[::1] out):
    _apply(af_exp, values, out)


def ln(const double[::1] values, double[::1] out):
    _apply(af_log, values, out)


def log10(const double[::1] values, double[::1] out):
    _apply(af_log10, values, out)


cdef int _step(Py_ssize_t given, Py_ssize_t rows) except -1:
    """The step from row to row of an argument: 1, or 0 where the argument is one value for all rows."""
    if given != rows and given != 1:
        raise ValueError("the arrays differ in length")
    return given == rows


def power(const double[::1] bases, const double[::1] exponents, double[::1] out):
    cdef Py_ssize_t row, rows = out.shape[0]
    cdef Py_ssize_t base = _step(bases.shape[0], rows), exponent = _step(exponents.shape[0], rows)
    with nogil:
        for row in range(rows):
            out[row] = af_pow(bases[row * base], exponents[row * exponent])


def round_to(const double[::1] values, const int64_t[::1] digits, double[::1] out):
    cdef Py_ssize_t row, rows = out.shape[0]
    cdef Py_ssize_t value = _step(values.shape[0], rows), place = _step(digits.shape[0], rows)
    cdef list left = []
    with nogil:
        for row in range(rows):
            if not af_round_to(values[row * value], digits[row * place], &out[row]):
                with gil:
                    left.append(row)
    if left:
        from asyncflow._kernels.elementary.reference import round_one
    for row in left:
        out[row] = round_one(values[row * value], digits[row * place])
