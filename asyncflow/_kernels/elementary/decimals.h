/* Rounds a double to a number of decimals: halves (of the double's value, not of its shortest text) go away from zero, and the
 * result is the double nearest to the rounded decimal.
 *
 * Method: x * 10^n is exact as a sum of two doubles (T. J. Dekker, "A floating-point technique for extending the available
 * precision", 1971) where 10^n is a double, n <= 22.  The whole part and 10^n are exact, so the single division rounds correctly.
 * Beyond 2^53 a step of 10^-n is smaller than the distance to the next double, and x stays unchanged. */
#ifndef ASYNCFLOW_DECIMALS_H
#define ASYNCFLOW_DECIMALS_H

#include <math.h>
#include <stdbool.h>
#include <stdint.h>

enum { AF_EXACT_TENS = 22, AF_MOST_DECIMALS = 340, AF_MOST_PLACES = 309 };

static const double af_tens[AF_EXACT_TENS + 1] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
                                                  1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};

/* The rounding error of the product of two numbers below 2^80. */
static inline double af_product_rest(double a, double b, double product) {
    const double split = 134217729.0; /* 2^27 + 1 */
    double a_high = a * split, b_high = b * split;
    a_high -= a_high - a;
    b_high -= b_high - b;
    const double a_low = a - a_high, b_low = b - b_high;
    return ((a_high * b_high - product) + a_high * b_low + a_low * b_high) + a_low * b_low;
}

/* False where the method does not reach: too many digits. */
static inline bool af_round_to(double x, int64_t digits, double *out) {
    const double size = fabs(x);
    *out = x;
    if (!(size > 0.0 && size < INFINITY)) return true;
    if (digits >= 0) {
        if (size >= 0x1p52 || digits > AF_MOST_DECIMALS) return true;
        const double tens = af_tens[digits < AF_EXACT_TENS ? digits : AF_EXACT_TENS], product = size * tens;
        if (product >= 0x1p53) return true;
        if (digits > AF_EXACT_TENS) return false;
        double whole = 0.0;
        if (product >= 0.25) {
            whole = floor(product);
            whole += (product - whole - 0.5) + af_product_rest(size, tens, product) >= 0.0;
        }
        *out = copysign(whole / tens, x);
        return true;
    }
    if (digits < -AF_EXACT_TENS && digits >= -AF_MOST_PLACES && size > 4e22) return false;
    *out = copysign(0.0, x);
    if (digits < -AF_EXACT_TENS) return true;
    const double tens = af_tens[-digits], rest = fmod(size, tens);
    *out = copysign(rest >= tens / 2 ? size + (tens - rest) : size - rest, x);
    return true;
}

#endif
