/* Numbers of about 106 bits with a bound of their error: most results are decided by them, and need no whole numbers (sums/rounded.h).
 *
 * The number is within `error` of high + low, and high is high + low rounded.  Every function adds what its own rounding may come to, with room to
 * spare; numbers are far from both ends of float64 (af_estimate_far). */
#ifndef ASYNCFLOW_SUMS_ESTIMATES_H
#define ASYNCFLOW_SUMS_ESTIMATES_H

#include "sums/sums.h"

typedef struct {
    double high, low, error;
} af_estimate;

AF_INLINE af_estimate af_estimate_of(double high, double low, double error) {
    double rest;
    const double total = af_two_sum(high, low, &rest);
    return (af_estimate){total, rest, error};
}

AF_INLINE bool af_estimate_far(af_estimate a) { return !(a.high == 0.0 || (fabs(a.high) > 0x1p-200 && fabs(a.high) < 0x1p200)); }

AF_INLINE af_estimate af_estimate_plus(af_estimate a, af_estimate b) {
    double error;
    const double high = af_two_sum(a.high, b.high, &error);
    return af_estimate_of(high, (a.low + b.low) + error, a.error + b.error + (fabs(a.high) + fabs(b.high)) * 0x1p-103);
}

AF_INLINE af_estimate af_estimate_times(af_estimate a, af_estimate b) {
    double error;
    const double high = af_two_product(a.high, b.high, &error);
    return af_estimate_of(high, error + (a.high * b.low + a.low * b.high),
                          2.0 * (fabs(a.high) * b.error + fabs(b.high) * a.error) + fabs(high) * 0x1p-102);
}

/* a / b, where b is not near 0. */
AF_INLINE af_estimate af_estimate_over(af_estimate a, af_estimate b) {
    double error;
    const double quotient = a.high / b.high, product = af_two_product(quotient, b.high, &error);
    const double rest = ((a.high - product) - error) + (a.low - quotient * b.low);
    return af_estimate_of(quotient, rest / b.high, 2.0 * (a.error + fabs(quotient) * b.error) / fabs(b.high) + fabs(quotient) * 0x1p-101);
}

/* The root of a number that is not near 0. */
AF_INLINE af_estimate af_estimate_root(af_estimate a) {
    double error;
    const double root = sqrt(a.high), square = af_two_product(root, root, &error);
    const double rest = ((a.high - square) - error) + a.low;
    return af_estimate_of(root, rest / (2.0 * root), a.error / root + root * 0x1p-101);
}

/* Whether the number is above 0 by far more than its error. */
AF_INLINE bool af_estimate_clear(af_estimate a) { return a.high > 0x1p10 * a.error; }

/* Whether all that the number may be is rounded to one float64. */
AF_INLINE bool af_estimate_decided(af_estimate a, double *rounded) {
    *rounded = a.high + (a.low + 2.0 * a.error);
    return *rounded == a.high + (a.low - 2.0 * a.error);
}

#endif
